package manage

import (
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/state"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
)

func TestImport(t *testing.T) {
	d := newDesk(t)
	r := d.ask()
	leaf := d.answer(d.sub, r)
	mail := []byte("Dear all,\r\n\r\n> " + strings.ReplaceAll(string(leaf.CertPEM()), "\n", "\r\n> ") + "\r\nregards\r\n")
	done, err := d.take(ImportOrder{}, mail)
	d.must(err)
	if done.Outcome != InForce || done.Slot != "pcs" || done.Environment != "live" || done.Request != r.ID || done.From != 0 || done.To != 1 || done.Root != "CN=Live Root" {
		t.Errorf("imported %+v", done)
	}
	if chain := done.Identity.Chain(); len(chain) != 1 || !chain[0].Equal(d.sub.Cert) || !done.Added[pki.Fingerprint(d.sub.Cert)] {
		t.Error("the subCA did not come from the bundle")
	}
	if g := d.serving(); g == nil || !g.Identity.Leaf().Equal(leaf.Cert) || g.Origin != rotate.FromImport {
		t.Error("the slot does not serve it")
	}
	if open := d.open(); len(open) != 0 {
		t.Errorf("requests %q wait on", open)
	}
	d.told(RequestMade, RequestEnded)

	// The same again is in force already; its request is gone.
	again, err := d.take(ImportOrder{}, leaf.FullChainPEM())
	d.must(err)
	if again.Outcome != Unchanged || again.To != 1 || again.Request != "" {
		t.Errorf("imported again: %+v", again)
	}
	// A later one goes the same way.
	if next := d.serve(); next.From != 1 || next.To != 2 {
		t.Errorf("from %d to %d", next.From, next.To)
	}
}

// TestMisfits: nothing of what does not fit changes anything, and each says why.
func TestMisfits(t *testing.T) {
	d := newDesk(t)
	d.serve(testpki.Validity(time.Now().Add(-2*time.Hour), time.Now().Add(200*24*time.Hour)))
	r := d.ask()
	key, err := d.store.RequestKey("pcs", r.ID)
	d.must(err)
	stranger := d.sub.Issue(t, testpki.DNS("x.thirdparty.nhs.uk"))
	lost := d.sub.Issue(t, testpki.DNS(fqdn))
	deep := d.sub.SubCA(t, testpki.Name("Deep CA"))
	foreign := testpki.NewRoot(t, testpki.Name("Foreign Root"))
	csr := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: testpki.Request(t, key, fqdn)})
	now := time.Now()
	for _, tc := range []struct {
		name   string
		order  ImportOrder
		parts  [][]byte
		kind   Kind
		reason string
		say    string
		hint   string
	}{
		{"nothing in it", ImportOrder{}, [][]byte{[]byte("hello\n")}, Refused, "malformed", "nothing in it is understood", "PEM"},
		{"a stranger", ImportOrder{}, [][]byte{stranger.CertPEM()}, Refused, "no_request", `"CN=x.thirdparty.nhs.uk" (public key sha256 ` + pki.KeyFingerprint(stranger.Cert.PublicKey) + ") in answer.txt; looked at the requests " + r.ID + " (slot pcs), and at the keys in force of 2 managed slots", "csr list"},
		{"the name of the slot, another key", ImportOrder{}, [][]byte{lost.CertPEM()}, Refused, "no_request", "", "slot pcs, on another key"},
		{"CAs only", ImportOrder{}, [][]byte{d.sub.BundlePEM()}, Refused, "no_request", "", "only CA certificates"},
		{"the request itself", ImportOrder{}, [][]byte{csr}, Refused, "no_certificate", "no certificate in answer.txt", "the request itself"},
		{"for another request than named", ImportOrder{Request: r.ID}, [][]byte{stranger.CertPEM()}, Refused, "no_certificate", "no certificate is for this key", "csr list"},
		{"no such request", ImportOrder{Request: "0123456789abcdef"}, [][]byte{stranger.CertPEM()}, Unknown, "", "no request", "csr list"},
		{"no such rule", ImportOrder{Allow: []string{"all"}}, [][]byte{stranger.CertPEM()}, Usage, "", "unknown guard rule", ""},
		{"expired", ImportOrder{}, [][]byte{d.answer(d.sub, r, testpki.Validity(now.Add(-time.Hour), now.Add(-time.Minute))).CertPEM()}, Refused, "expired", "expired on", "clock"},
		{"another name", ImportOrder{}, [][]byte{d.answer(d.sub, r, testpki.DNS("y.thirdparty.nhs.uk")).CertPEM()}, Refused, "name_mismatch", `slot "pcs" expects "pcs.thirdparty.nhs.uk"`, ""},
		{"older than what serves", ImportOrder{}, [][]byte{d.answer(d.sub, r, testpki.Validity(now.Add(-3*time.Hour), now.Add(time.Hour))).CertPEM()}, Refused, "older", "before the one that serves", "import FILE --allow older"},
		{"another environment", ImportOrder{}, [][]byte{d.answer(d.other, r).FullChainPEM()}, Refused, "wrong_environment", `is of environment "int", slot "pcs" is in "live"`, ""},
		{"self-signed", ImportOrder{}, [][]byte{testpki.NewRoot(t, testpki.Key(key)).CertPEM()}, Refused, "unknown_issuer", "its own key", ""},
		{"a bad signature", ImportOrder{}, [][]byte{d.answer(d.sub, r, testpki.BadSignature()).CertPEM()}, Refused, "bad_signature", "does not verify", ""},
		{"a dry run of what has to wait", ImportOrder{DryRun: true}, [][]byte{d.answer(deep, r).CertPEM()}, Waiting, "unknown_issuer", `the subCA that issued "CN=pcs.thirdparty.nhs.uk" is missing: "CN=Deep CA"`, "trust add FILE --environment live"},
		{"a dry run of another chain", ImportOrder{DryRun: true}, [][]byte{d.answer(foreign.SubCA(t), r).FullChainPEM()}, Waiting, "unknown_issuer", `is missing: "CN=Foreign Root"`, ""},
		{"a zip where only certificates are taken", ImportOrder{CertificatesOnly: true}, [][]byte{[]byte("PK\x03\x04...")}, Refused, "malformed", "a zip", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d.kinds()
			before := d.serving().Number
			_, err := d.take(tc.order, tc.parts...)
			(&desk{t: t}).no(orHint(err, tc.hint == "" && tc.kind == Usage), tc.kind, tc.reason, tc.say)
			if hint := pki.Hint(err); !strings.Contains(hint, tc.hint) {
				t.Errorf("hint %q, want %q", hint, tc.hint)
			}
			if d.serving().Number != before {
				t.Error("the slot serves something else")
			}
			if now, _ := d.manager.Requests(); len(now) != 1 || !now[0].Answered.IsZero() {
				t.Errorf("requests %v", now)
			}
			d.told()
		})
	}
	// A dry run of what fits changes nothing either.
	good := d.answer(d.sub, r)
	done, err := d.take(ImportOrder{DryRun: true}, good.CertPEM())
	d.must(err)
	if done.Outcome != Fits || d.serving().Number != 1 {
		t.Errorf("dry run: %+v", done)
	}
	// And after all of that it does.
	done, err = d.take(ImportOrder{}, good.CertPEM())
	d.must(err)
	if done.Outcome != InForce {
		t.Errorf("%+v", done)
	}
}

// orHint gives an error the hint that it need not have.
func orHint(err error, free bool) error {
	if e, ok := err.(*Error); ok && free && e.Advice == "" {
		e.Advice = "-"
	}
	return err
}

func TestAllow(t *testing.T) {
	d := newDesk(t)
	first := d.serve()
	// Another certificate on the key that serves: on word only.
	reused := d.sub.Issue(t, testpki.DNS(fqdn), testpki.Key(first.Identity.Signer()), testpki.Validity(time.Now().Add(-time.Minute), time.Now().Add(300*24*time.Hour)))
	_, err := d.take(ImportOrder{}, reused.CertPEM())
	d.no(err, Refused, rotate.RuleKeyReuse, "for the key that serves already")
	done, err := d.take(ImportOrder{Allow: []string{rotate.RuleKeyReuse}}, reused.CertPEM())
	d.must(err)
	if done.Outcome != InForce || done.To != 2 || done.Request != "" {
		t.Errorf("%+v", done)
	}
	// An older one, on word.
	r := d.ask()
	old := d.answer(d.sub, r, testpki.Validity(time.Now().Add(-24*time.Hour), time.Now().Add(24*time.Hour)))
	_, err = d.take(ImportOrder{}, old.CertPEM())
	d.no(err, Refused, rotate.RuleOlder, "")
	if _, err = d.take(ImportOrder{Allow: []string{rotate.RuleOlder}}, old.CertPEM()); err != nil || d.serving().Number != 3 {
		t.Errorf("%v, serves %d", err, d.serving().Number)
	}
	// What was rolled back from does not come back by itself.
	d.must(d.keeper.Rollback(d.context(), "pcs", 2, rotate.Order{}))
	_, err = d.take(ImportOrder{}, old.CertPEM())
	d.no(err, Refused, rotate.RuleRolledBack, "")
	done, err = d.take(ImportOrder{Allow: []string{rotate.RuleRolledBack, rotate.RuleOlder}}, old.CertPEM())
	d.must(err)
	if g := d.serving(); g.Held || !g.Identity.Leaf().Equal(old.Cert) || done.Outcome != InForce {
		t.Errorf("%+v", done)
	}
}

// TestWaits: what cannot be in force yet stays, through a restart, and comes into
// force by itself.
func TestWaits(t *testing.T) {
	d := newDesk(t)
	d.serve()
	deep := d.sub.SubCA(t, testpki.Name("Deep CA"))
	r := d.ask()
	leaf := d.answer(deep, r)
	d.kinds()
	done, err := d.take(ImportOrder{}, leaf.CertPEM())
	d.no(err, Waiting, "unknown_issuer", `"CN=Deep CA"`)
	if done.Outcome != Waits || done.Again == "" || done.To != 1 || done.Identity == nil {
		t.Errorf("%+v", done)
	}
	d.told(AnswerKept)
	d.restart()
	d.must(d.manager.Restore(d.context()))
	if got, _ := d.manager.Request(r.ID); got.Request.Answered.IsZero() {
		t.Error("the answer did not stay")
	}
	if st, _ := d.manager.RequestStatus(time.Now()); len(st) != 1 || st[0].State != "answered" || st[0].LastReason != "unknown_issuer" {
		t.Errorf("status %+v", st)
	}
	d.trust(slices.Concat(deep.BundlePEM()))
	d.until("the answer comes into force", func() bool { return d.serving().Identity.Leaf().Equal(leaf.Cert) })
	d.kinds()
	d.must(d.manager.Rotated(d.context(), "pcs"))
	d.must(d.manager.Rotated(d.context(), "pcs"))
	d.told(RequestEnded)
	if open := d.open(); len(open) != 0 {
		t.Errorf("requests %q wait on", open)
	}
}

func TestNotYetValid(t *testing.T) {
	d := newDesk(t)
	d.serve()
	soon := time.Now().Add(8 * time.Second).Truncate(time.Second) // with something in force there is no tolerance
	r := d.ask()
	leaf := d.answer(d.sub, r, testpki.Validity(soon, soon.Add(300*24*time.Hour)))
	done, err := d.take(ImportOrder{}, leaf.CertPEM())
	d.no(err, Waiting, "not_yet_valid", "")
	if !done.NotBefore.Equal(soon) || !strings.Contains(done.Again, soon.UTC().Format(time.RFC3339)) {
		t.Errorf("%+v", done)
	}
	// One that can serve now goes first; the other waits on.
	s := d.ask()
	if done, err = d.take(ImportOrder{}, d.answer(d.sub, s).CertPEM()); err != nil || done.Outcome != InForce || len(done.Open) != 1 || done.Open[0].ID != r.ID {
		t.Fatalf("%+v, %v", done, err)
	}
	d.until("it comes into force by itself", func() bool { return d.serving().Identity.Leaf().Equal(leaf.Cert) })
	d.must(d.manager.Rotated(d.context(), "pcs"))
	if open := d.open(); len(open) != 0 {
		t.Errorf("requests %q wait on", open)
	}
}

// TestReplaced: a newer answer takes the place of one that waits, an older one does
// not, and a bad one leaves it where it is.
func TestReplaced(t *testing.T) {
	d := newDesk(t)
	r := d.ask()
	end := time.Now().Add(300 * 24 * time.Hour)
	at := func(in time.Duration, opts ...testpki.Option) []byte {
		return d.answer(d.sub, r, append(opts, testpki.Validity(time.Now().Add(in), end))...).CertPEM()
	}
	_, err := d.take(ImportOrder{}, at(2*time.Hour))
	d.no(err, Waiting, "not_yet_valid", "")
	_, err = d.take(ImportOrder{}, at(time.Hour))
	d.no(err, Refused, "older", "waits for request "+r.ID+" already")
	d.breakDisk(func(op, name string) error {
		t.Errorf("%s %s for an answer that is refused", op, name)
		return nil
	})
	_, err = d.take(ImportOrder{}, at(3*time.Hour, testpki.DNS("z.thirdparty.nhs.uk")))
	d.no(err, Refused, "name_mismatch", "")
	d.breakDisk(nil)
	if got, err := d.store.Answer("pcs", r.ID); err != nil || !got[0].Equal(mustParse(t, d, r)) {
		t.Errorf("%v", err)
	}
	_, err = d.take(ImportOrder{}, at(3*time.Hour))
	d.no(err, Waiting, "not_yet_valid", "")
	if _, err = d.take(ImportOrder{Allow: []string{"older"}}, at(-time.Hour)); err != nil || len(d.open()) != 0 {
		t.Errorf("%v, open %q", err, d.open())
	}
	// Of those that no root vouches for the last one stays: nobody knows who chose the dates.
	r = d.ask()
	deep := d.sub.SubCA(t, testpki.Name("Deep CA"))
	var last *testpki.Leaf
	for _, ago := range []time.Duration{time.Minute, 3 * time.Minute} {
		last = d.answer(deep, r, testpki.Validity(time.Now().Add(-ago), end))
		_, err = d.take(ImportOrder{}, last.CertPEM())
		d.no(err, Waiting, "unknown_issuer", "")
	}
	d.keeps(r, last.Cert)
}

// mustParse returns the leaf that is kept with a request, by way of the manager.
func mustParse(t *testing.T, d *desk, r state.Request) *x509.Certificate {
	t.Helper()
	got, err := d.manager.Request(r.ID)
	d.must(err)
	id, err := d.manager.kept(got.Request)
	d.must(err)
	return id.Leaf()
}
