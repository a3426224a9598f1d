package manage

import (
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
)

func parseCSR(t *testing.T, data []byte) *x509.CertificateRequest {
	t.Helper()
	c, err := pki.Parse(data, nil)
	if err != nil || len(c.Requests) != 1 {
		t.Fatalf("%d requests, %v", len(c.Requests), err)
	}
	return c.Requests[0]
}

func TestNewRequest(t *testing.T) {
	d := newDesk(t)
	d.config.Slots[0].Managed.SANs = []string{"alt.thirdparty.nhs.uk"}
	made, err := d.manager.NewRequest(d.context(), Order{Slot: "pcs", By: "uid 7"})
	d.must(err)
	csr := parseCSR(t, made.Request.CSR)
	if csr.Subject.String() != "CN="+fqdn || !slices.Equal(csr.DNSNames, []string{fqdn, "alt.thirdparty.nhs.uk"}) {
		t.Errorf("subject %q, names %q", csr.Subject, csr.DNSNames)
	}
	r := made.Request
	if r.ID != pki.RequestID(csr.PublicKey) || r.Key != pki.ECDSAP256 || r.By != "uid 7" || r.Reason != ReasonNew || r.Environment != "live" {
		t.Errorf("request %+v", r)
	}
	for _, want := range []string{"Organisation: Example Practice\nODS code: T99999\nContact: A. Person\nEnvironment: live\nReason: new endpoint\n",
		"Alternative names: pcs.thirdparty.nhs.uk, alt.thirdparty.nhs.uk\n", string(r.CSR)} {
		if !strings.Contains(made.Letter.Body, want) {
			t.Errorf("the mail has no %q:\n%s", want, made.Letter.Body)
		}
	}
	if made.Letter.To != "dir@nhs.net" || strings.Contains(made.Letter.Body, "PRIVATE") {
		t.Errorf("mail to %q:\n%s", made.Letter.To, made.Letter.Body)
	}
	// Without alternative names, with another key, while one serves.
	d.config.Slots[0].Managed.SANs = nil
	d.serve()
	made, err = d.manager.NewRequest(d.context(), Order{Slot: "pcs", SANs: []string{}, Key: pki.RSA2048})
	d.must(err)
	if csr := parseCSR(t, made.Request.CSR); len(csr.DNSNames) != 0 || made.Request.Key != pki.RSA2048 || pki.DescribeKey(csr.PublicKey) != "RSA 2048" {
		t.Errorf("names %q, key %s", csr.DNSNames, made.Request.Key)
	}
	until := d.serving().NotAfter.UTC().Format(time.DateOnly)
	if want := "Reason: the certificate of this name expires on " + until + "\n"; !strings.Contains(made.Letter.Body, want) {
		t.Errorf("the mail has no %q:\n%s", want, made.Letter.Body)
	}
	for _, tc := range []struct {
		name   string
		order  Order
		kind   Kind
		reason string
		say    string
	}{
		{"no such slot", Order{Slot: "none"}, Unknown, "", `no slot "none"`},
		{"a slot with files", Order{Slot: "files"}, Usage, "", "reads files"},
		{"no such key", Order{Slot: "pcs", Key: "rsa-1024"}, Usage, "", `no key kind "rsa-1024"`},
		{"a wildcard", Order{Slot: "pcs", SANs: []string{"*.nhs.uk"}}, Refused, ReasonName, "SPINE.md, section 4: no wildcard"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := d.open()
			_, err := d.manager.NewRequest(d.context(), tc.order)
			(&desk{t: t}).no(err, tc.kind, tc.reason, tc.say)
			if !slices.Equal(d.open(), before) {
				t.Error("a request was made")
			}
		})
	}
}

// TestRequestOnABrokenDisk: whole, or not at all, and known only if it is there.
func TestRequestOnABrokenDisk(t *testing.T) {
	d := newDesk(t)
	d.ask()
	for n := range 40 {
		calls := 0
		d.breakDisk(func(string, string) error {
			if calls++; calls > n {
				return syscall.EIO
			}
			return nil
		})
		_, err := d.manager.NewRequest(d.context(), Order{Slot: "pcs"})
		d.breakDisk(nil)
		have, listErr := d.manager.Requests()
		d.must(listErr)
		var ids []string
		for _, r := range have {
			ids = append(ids, r.ID)
		}
		if on := d.open(); !slices.Equal(on, ids) {
			t.Fatalf("at call %d: known %q, on disk %q", n, ids, on)
		}
		if err == nil {
			return
		}
	}
	t.Error("it never worked")
}

func TestCancel(t *testing.T) {
	d := newDesk(t)
	d.serve()
	a, b := d.ask(), d.ask()
	deep := d.sub.SubCA(t, testpki.Name("Deep CA"))
	_, err := d.take(ImportOrder{}, d.answer(deep, a).CertPEM())
	d.no(err, Waiting, "unknown_issuer", "")
	_, err = d.manager.Cancel(d.context(), "ffffffffffffffff", nil)
	d.no(err, Unknown, "", "no request")
	d.kinds()
	gone, err := d.manager.Cancel(d.context(), a.ID, "me")
	d.must(err)
	if gone.ID != a.ID || !slices.Equal(d.open(), []string{b.ID}) {
		t.Errorf("%+v, open %q", gone, d.open())
	}
	if d.told(RequestCancelled); d.keeper.Slot("pcs").Status().Refusal != nil {
		t.Errorf("its answer is still offered: %v", d.keeper.Slot("pcs").Status().Refusal)
	}
	_, err = d.manager.Cancel(d.context(), a.ID, nil)
	d.no(err, Unknown, "", "no request")
	// What would have made it fit comes too late.
	d.trust(deep.BundlePEM())
	d.must(d.keeper.Refresh(d.context()))
	if d.serving().Number != 1 {
		t.Error("the answer of a cancelled request is in force")
	}
}

func TestRequestsThatCannotBeRead(t *testing.T) {
	d := newDesk(t)
	a, b := d.ask(), d.ask()
	d.must(os.WriteFile(filepath.Join(d.store.Path(), "slots", "pcs", "requests", a.ID, "request.json"), []byte("{"), 0o600))
	d.restart()
	have, err := d.manager.Requests()
	if len(have) != 1 || have[0].ID != b.ID || err == nil || !strings.Contains(err.Error(), a.ID) {
		t.Errorf("%v, %v", have, err)
	}
	if err := d.manager.Restore(d.context()); err == nil || !strings.Contains(err.Error(), a.ID) {
		t.Errorf("restore: %v", err)
	}
	done, err := d.take(ImportOrder{}, d.answer(d.sub, b).CertPEM())
	if err != nil || done.Outcome != InForce {
		t.Errorf("%+v, %v", done, err)
	}
}

func TestPrepare(t *testing.T) {
	const day = 24 * time.Hour
	d := newDesk(t)
	now := time.Now()
	d.must(d.manager.Prepare(d.context(), now))
	d.told() // a slot that never served anything
	d.serve(testpki.Validity(now.Add(-time.Hour), now.Add(200*day)))
	d.kinds()
	d.must(d.manager.Prepare(d.context(), now.Add(79*day)))
	d.told()
	d.must(d.manager.Prepare(d.context(), now.Add(81*day)))
	d.must(d.manager.Prepare(d.context(), now.Add(81*day)))
	d.told(RequestMade)
	made, _ := d.manager.Requests()
	if len(made) != 1 || made[0].By != byPrepare || made[0].Reason != ReasonExpiring || made[0].Slot != "pcs" {
		t.Fatalf("%+v", made)
	}
	// Its answer is cut to the end of the CA, no later than before: once more only
	// when half of that is over.
	_, err := d.take(ImportOrder{}, d.answer(d.sub, made[0], testpki.Validity(now.Add(-time.Minute), now.Add(200*day))).CertPEM())
	d.must(err)
	d.kinds()
	d.must(d.manager.Prepare(d.context(), now.Add(99*day)))
	d.told()
	d.must(d.manager.Prepare(d.context(), now.Add(101*day)))
	d.told(RequestMade)
	made, _ = d.manager.Requests()
	_, err = d.take(ImportOrder{}, d.answer(d.sub, made[0], testpki.Validity(now, now.Add(100*day+200*day))).CertPEM())
	d.must(err)
	d.kinds()
	d.must(d.manager.Prepare(d.context(), now.Add(179*day)))
	d.told()

	// 0 is never.
	d.config.Slots[0].Managed = &config.Managed{Key: "ecdsa-p256"}
	d.must(d.manager.Prepare(d.context(), now.Add(1000*day)))
	d.told()
	d.config.Slots[0].Managed = &config.Managed{Key: "ecdsa-p256", Prepare: 120 * day}

	// While there is no trust, nothing is served: the disk knows.
	d.must(os.Remove(d.path("live.pem")))
	d.restart()
	d.must(d.manager.Prepare(d.context(), now.Add(179*day)))
	d.told()
	// It serves nothing any more, as its environment is another one now.
	d.config.Slots[0].Environment = "int"
	d.restart()
	d.must(d.manager.Prepare(d.context(), now))
	d.told(RequestMade)
}

func TestPrepareFails(t *testing.T) {
	d := newDesk(t)
	d.serve(testpki.Validity(time.Now().Add(-time.Hour), time.Now().Add(10*24*time.Hour)))
	d.kinds()
	d.breakDisk(func(string, string) error { return syscall.ENOSPC })
	for range 3 {
		if err := d.manager.Prepare(d.context(), time.Now()); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("error %v", err)
		}
	}
	d.told(PrepareFailed)
	d.breakDisk(nil)
	d.must(d.manager.Prepare(d.context(), time.Now()))
	d.told(RequestMade)
	if requests, _ := d.manager.Requests(); len(requests) != 1 {
		t.Errorf("%d requests", len(requests))
	}
}

// TestAtOnce: whatever runs together, there is one prepared request, and what was
// imported is in force, once.
func TestAtOnce(t *testing.T) {
	d := newDesk(t)
	d.serve(testpki.Validity(time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)))
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			if err := d.manager.Prepare(d.context(), time.Now()); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	made, _ := d.manager.Requests()
	if len(made) != 1 {
		t.Fatalf("%d requests were prepared", len(made))
	}
	leaf := d.answer(d.sub, made[0], testpki.Validity(time.Now().Add(-time.Minute), time.Now().Add(300*24*time.Hour)))
	other := d.ask()
	outcomes := make(chan Outcome, 8)
	for range 4 {
		group.Go(func() {
			done, err := d.take(ImportOrder{}, leaf.CertPEM())
			if err != nil {
				t.Error(err)
			}
			outcomes <- done.Outcome
		})
		group.Go(func() {
			if err := d.manager.Rotated(d.context(), "pcs"); err != nil {
				t.Error(err)
			}
			if _, err := d.manager.RequestStatus(time.Now()); err != nil {
				t.Error(err)
			}
		})
	}
	group.Go(func() {
		if _, err := d.manager.Cancel(d.context(), other.ID, nil); err != nil {
			t.Error(err)
		}
	})
	group.Wait()
	close(outcomes)
	count := map[Outcome]int{}
	for o := range outcomes {
		count[o]++
	}
	if count[InForce] != 1 || count[Unchanged] != 3 || d.serving().Number != 2 || len(d.open()) != 0 {
		t.Errorf("outcomes %v, generation %d, open %q", count, d.serving().Number, d.open())
	}
}

func TestAPI(t *testing.T) {
	d := newDesk(t)
	made, err := d.manager.AnswerCSR(d.context(), admin.CSRRequest{Slot: "pcs"}, "uid 7", nil)
	d.must(err)
	if q := made.Request; q.State != admin.RequestOpen || q.By != "uid 7" || q.SANs == nil || !strings.HasPrefix(made.KeySHA256, q.ID) || made.Inbox != d.store.InboxPath() {
		t.Errorf("%+v", made)
	}
	got, err := d.manager.AnswerRequest(made.Request.ID, made.Request.Created.Add(90*time.Second))
	d.must(err)
	if got.Request.Age != 90 || got.CSR != made.CSR || got.Letter.Body == "" {
		t.Errorf("%+v", got)
	}
	all, _ := d.manager.Requests()
	done, err := d.manager.AnswerImport(d.context(), admin.ImportRequest{Files: []admin.File{{Name: "a.pem", Data: d.answer(d.sub, all[0]).CertPEM()}}}, nil)
	d.must(err)
	if done.State != "in_force" || done.Generation != 1 || done.Subject != "CN="+fqdn || len(done.Chain) != 1 || done.Chain[0].From != "trust" || done.Open == nil || done.Notes == nil {
		t.Errorf("%+v", done)
	}
	deep := d.sub.SubCA(t, testpki.Name("Deep CA"))
	r := d.ask()
	done, err = d.manager.AnswerImport(d.context(), admin.ImportRequest{Files: []admin.File{{Name: "a.pem", Data: d.answer(deep, r).CertPEM()}}}, nil)
	var e *admin.Error
	if !errors.As(err, &e) || e.Code != admin.CodeRefused || e.Reason != "unknown_issuer" || e.Hint == "" || done.State != "waiting" || done.Again == "" {
		t.Errorf("%+v, %+v", done, err)
	}
	for _, tc := range []struct {
		err    error
		code   string
		reason string
		rule   string
	}{
		{&Error{Kind: Unknown, Err: os.ErrNotExist}, admin.CodeUnknown, "", ""},
		{&Error{Kind: Usage, Err: os.ErrNotExist}, admin.CodeUsage, "", ""},
		{&Error{Kind: Refused, Reason: "older", Rule: "older", Err: os.ErrNotExist}, admin.CodeRefused, "older", "older"},
		{&rotate.Refusal{Reason: "expired", Rule: "chain", Err: os.ErrNotExist}, admin.CodeRefused, "expired", "chain"},
		{syscall.ENOSPC, admin.CodeFailed, "", ""},
	} {
		var e *admin.Error
		if !errors.As(APIError(tc.err), &e) || e.Code != tc.code || e.Reason != tc.reason || e.Rule != tc.rule || e.Message != tc.err.Error() {
			t.Errorf("%v: %+v", tc.err, e)
		}
	}
	if APIError(nil) != nil {
		t.Error("nil is an error")
	}
}

func TestPlan(t *testing.T) {
	d := newDesk(t)
	deep := d.sub.SubCA(t, testpki.Name("Deep CA"))
	path, err := d.store.AddTrust("live", deep.Cert)
	d.must(err)
	p := Plan(d.config, d.store)
	d.must(p.Check())
	if got := p.Environments[0].Trust; !slices.Equal(got, []string{d.path("live.pem"), path}) || len(p.Environments[1].Trust) != 1 {
		t.Errorf("trust files %q", got)
	}
	if s := p.Slots[0]; !s.Managed || s.Keep != 5 || s.FQDN != fqdn || s.Files != (rotate.Files{}) {
		t.Errorf("%+v", s)
	}
	if s := p.Slots[2]; s.Managed || s.Keep != 5 || s.Files.Certificate == "" {
		t.Errorf("%+v", s)
	}
	if len(Plan(d.config, nil).Environments[0].Trust) != 1 {
		t.Error("trust files without a state directory")
	}
	// What cannot be listed is no empty set.
	d.must(os.RemoveAll(d.store.TrustPath("live")))
	d.must(os.WriteFile(d.store.TrustPath("live"), nil, 0o600))
	if got := Plan(d.config, d.store).Environments[0].Trust; len(got) != 2 {
		t.Errorf("trust files %q", got)
	}
}
