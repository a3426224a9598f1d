package manage

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/state"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
)

// forged is what anybody who has seen a request can make: a certificate for its
// key, signed by a CA of their own.
func (d *desk) forged(r state.Request, change ...func(leaf, ca *x509.Certificate)) []byte {
	d.t.Helper()
	block, _ := pem.Decode(r.CSR)
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	d.must(err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	d.must(err)
	end := time.Now().AddDate(10, 0, 0)
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Nobody"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: end,
		IsCA: true, BasicConstraintsValid: true}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: r.FQDN}, NotBefore: time.Now().Add(-time.Second), NotAfter: end, DNSNames: []string{r.FQDN}}
	for _, f := range change {
		f(leaf, ca)
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, csr.PublicKey, key)
	d.must(err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func startsIn(in time.Duration) func(leaf, ca *x509.Certificate) {
	return func(leaf, _ *x509.Certificate) { leaf.NotBefore = time.Now().Add(in) }
}

func extended(size int) pkix.Extension {
	return pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Value: make([]byte, size)}
}

// keeps wants this leaf beside a request; nil is none.
func (d *desk) keeps(r state.Request, want *x509.Certificate) {
	d.t.Helper()
	got, err := d.store.Answer(r.Slot, r.ID)
	if want == nil {
		if err == nil {
			d.t.Errorf("the certificate of %v is kept", got[0].Issuer)
		}
		return
	}
	if err != nil || !got[0].Equal(want) {
		d.t.Errorf("kept is not the answer of %v: %v", want.Issuer, err)
	}
}

// later is a genuine answer that cannot be in force yet.
func (d *desk) later(r state.Request, opts ...testpki.Option) *testpki.Leaf {
	return d.answer(d.sub, r, append(opts, testpki.Validity(time.Now().Add(time.Hour), time.Now().AddDate(1, 0, 0)))...)
}

// TestForgedDoesNotBlock: what nobody vouches for is no reason to refuse what the
// authority sent, whatever its dates say.
func TestForgedDoesNotBlock(t *testing.T) {
	for name, genuine := range map[string]func(d *desk, r state.Request) *testpki.Leaf{
		"now":   func(d *desk, r state.Request) *testpki.Leaf { return d.answer(d.sub, r) },
		"later": func(d *desk, r state.Request) *testpki.Leaf { return d.later(r) },
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			r := d.ask()
			_, err := d.take(ImportOrder{}, d.forged(r, startsIn(5*365*24*time.Hour)))
			d.no(err, Waiting, "unknown_issuer", `"CN=Nobody"`)
			if hint := pki.Hint(err); !strings.Contains(hint, "compare that CA, by its fingerprint, with what the authority publishes") {
				t.Errorf("hint %q", hint)
			}
			st, err := d.manager.RequestStatus(time.Now())
			d.must(err)
			if st[0].LastReason != "unknown_issuer" || !strings.Contains(st[0].Hint, "what the authority publishes") || !strings.Contains(st[0].Hint, "takes its place") {
				t.Errorf("status %+v", st[0])
			}
			good := genuine(d, r)
			done, err := d.take(ImportOrder{CertificatesOnly: true, JudgedOnly: true}, good.CertPEM())
			if name == "now" {
				d.must(err)
				if done.Outcome != InForce || !d.serving().Identity.Leaf().Equal(good.Cert) {
					t.Errorf("%+v", done)
				}
				return
			}
			d.no(err, Waiting, "not_yet_valid", "")
			d.keeps(r, good.Cert)
		})
	}
}

// TestForgedDoesNotReplace: a genuine answer that waits stays, also where somebody
// imports the other one by hand.
func TestForgedDoesNotReplace(t *testing.T) {
	d := newDesk(t)
	r := d.ask()
	good := d.later(r)
	_, err := d.take(ImportOrder{}, good.CertPEM())
	d.no(err, Waiting, "not_yet_valid", "")
	d.breakDisk(func(op, name string) error {
		t.Errorf("%s %s for an answer that is refused", op, name)
		return nil
	})
	for _, o := range []ImportOrder{{}, {DryRun: true}, {Allow: []string{rotate.RuleOlder}}, {JudgedOnly: true}} {
		_, err = d.take(o, d.forged(r, startsIn(2*time.Hour)))
		d.no(err, Refused, "unknown_issuer", `"CN=Nobody"`)
		if !o.JudgedOnly && !strings.Contains(err.Error(), "request "+r.ID+" already leads to a root of environment live, and stays") {
			t.Errorf("error %v", err)
		}
		d.keeps(r, good.Cert)
	}
	d.breakDisk(nil)
	if refusal := d.keeper.Slot("pcs").Status().Refusal; refusal == nil || refusal.Reason != "not_yet_valid" {
		t.Errorf("what is offered: %v", refusal)
	}
}

// TestForgedDoesNotOutrank: of answers to several requests the genuine one is
// offered, at once and after a restart, and each request says what its own waits for.
func TestForgedDoesNotOutrank(t *testing.T) {
	d := newDesk(t)
	d.serve()
	a, b := d.ask(), d.ask()
	_, err := d.take(ImportOrder{}, d.later(a).CertPEM())
	d.no(err, Waiting, "not_yet_valid", "")
	_, err = d.take(ImportOrder{}, d.forged(b, startsIn(2*time.Hour)))
	d.no(err, Waiting, "unknown_issuer", "")
	check := func() {
		t.Helper()
		if refusal := d.keeper.Slot("pcs").Status().Refusal; refusal == nil || refusal.Reason != "not_yet_valid" {
			t.Errorf("what is offered: %v", refusal)
		}
		st, err := d.manager.RequestStatus(time.Now())
		d.must(err)
		if len(st) != 2 || st[0].LastReason != "not_yet_valid" || st[1].LastReason != "unknown_issuer" {
			t.Errorf("status %+v", st)
		}
	}
	check()
	d.restart()
	d.must(d.manager.Restore(d.context()))
	check()
}

// TestJudgedOnly: where anybody may put an answer, none is kept that no root vouches for.
func TestJudgedOnly(t *testing.T) {
	d := newDesk(t)
	r := d.ask()
	inbox := ImportOrder{CertificatesOnly: true, JudgedOnly: true}
	_, err := d.take(inbox, d.forged(r))
	d.no(err, Refused, "unknown_issuer", `"CN=Nobody"`)
	for _, want := range []string{"what the authority publishes", "spinecert trust add FILE --environment live", "drop the answer again", "spinecert import"} {
		if hint := pki.Hint(err); !strings.Contains(hint, want) {
			t.Errorf("hint %q has no %q", hint, want)
		}
	}
	d.keeps(r, nil)
	// A slot whose chain may be anything is no way round it.
	d.config.Slots[0].Allow = []string{rotate.RuleChain}
	d.must(d.keeper.Apply(d.context(), Plan(d.config, d.store)))
	_, err = d.take(inbox, d.forged(r))
	d.no(err, Refused, "unknown_issuer", "")
	if d.serving() != nil {
		t.Error("it serves")
	}
	d.config.Slots[0].Allow = nil
	// Without any trust nothing can be said, and nothing is kept.
	d.must(os.Remove(d.path("live.pem")))
	d.restart()
	_, err = d.take(inbox, d.answer(d.sub, r).CertPEM())
	d.no(err, Failed, "environment_not_ready", "the trust of environment")
	d.keeps(r, nil)
	d.trust(d.sub.BundlePEM())
	d.restart()
	_, err = d.take(inbox, d.later(r).CertPEM())
	d.no(err, Waiting, "not_yet_valid", "")
	if done, err := d.take(inbox, d.later(r).CertPEM()); done.Outcome != Waits {
		t.Errorf("%+v, %v", done, err)
	}
}

// TestTooLarge: what no authority issues is refused before it costs anything.
func TestTooLarge(t *testing.T) {
	d := newDesk(t)
	r := d.ask()
	names := func(n int) func(leaf, ca *x509.Certificate) {
		return func(leaf, _ *x509.Certificate) {
			for i := len(leaf.DNSNames); i < n; i++ {
				leaf.DNSNames = append(leaf.DNSNames, fmt.Sprintf("%05x.nhs.uk", i))
			}
		}
	}
	wide := d.root.SubCA(t, testpki.Name("Wide CA"), testpki.Extension(extended(maxKept-1000)))
	for name, tc := range map[string]struct {
		parts [][]byte
		say   string
	}{
		"a certificate": {[][]byte{d.forged(r, func(leaf, _ *x509.Certificate) {
			leaf.ExtraExtensions = append(leaf.ExtraExtensions, extended(900_000))
		})}, "a certificate in answer.txt has"},
		"names":                   {[][]byte{d.forged(r, names(maxNames+1))}, "for 101 names"},
		"a genuine chain":         {[][]byte{d.answer(wide, r, testpki.Extension(extended(1000))).FullChainPEM()}, "the certificate and its chain have"},
		"a chain nobody knows of": {[][]byte{d.answer(testpki.NewRoot(t).SubCA(t, testpki.Extension(extended(maxKept-1000))), r, testpki.Extension(extended(1000))).FullChainPEM()}, "the certificate and its chain have"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, o := range []ImportOrder{{}, {CertificatesOnly: true}} {
				_, err := d.take(o, tc.parts...)
				(&desk{t: t}).no(err, Refused, ReasonTooLarge, tc.say)
			}
			d.keeps(r, nil)
		})
	}
	_, err := d.take(ImportOrder{}, d.forged(r, names(maxNames)))
	d.no(err, Waiting, "unknown_issuer", "")
}

// TestLongNames: who writes a certificate does not choose how long a message is.
func TestLongNames(t *testing.T) {
	d := newDesk(t)
	r := d.ask()
	long := strings.Repeat("\x01", 25_000) // twice in a certificate
	stranger := d.sub.Issue(t, testpki.Name(long))
	other := d.answer(d.other, r, testpki.Name(long))
	forged := d.forged(r, func(_, ca *x509.Certificate) { ca.Subject.CommonName = long })
	for name, part := range map[string][]byte{"of no request": stranger.CertPEM(), "of another environment": other.FullChainPEM(), "of an issuer": forged} {
		_, err := d.take(ImportOrder{}, part)
		if err == nil || len(err.Error()) > maxMessage+10 || len(pki.Hint(err)) > maxMessage+10 {
			t.Errorf("%s: an error of %d bytes, a hint of %d", name, len(fmt.Sprint(err)), len(pki.Hint(err)))
		}
		if name == "of no request" && !strings.Contains(err.Error(), "looked at the requests") {
			t.Errorf("a name took the place of the rest: %v", err)
		}
	}
	st, err := d.manager.RequestStatus(time.Now())
	d.must(err)
	if st[0].LastReason != "unknown_issuer" || len(st[0].LastError) > maxMessage+10 {
		t.Errorf("%s, %d bytes", st[0].LastReason, len(st[0].LastError))
	}
}

// TestJudgedOutOfTurn: an answer that takes long to judge keeps nobody from making a
// request, and its importer need not wait for it.
func TestJudgedOutOfTurn(t *testing.T) {
	d := newDesk(t)
	r := d.ask()
	leaf := d.answer(d.sub, r)
	entered, leave := make(chan struct{}), make(chan struct{})
	d.manager.judging = func() { entered <- struct{}{}; <-leave }
	ctx, cancel := context.WithCancel(d.context())
	ended := make(chan error, 1)
	go func() {
		_, err := d.manager.Import(ctx, ImportOrder{Files: []File{{"a", leaf.CertPEM()}}})
		ended <- err
	}()
	<-entered
	if _, err := d.manager.NewRequest(d.context(), Order{Slot: "pcs"}); err != nil {
		t.Errorf("while an answer is judged: %v", err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	leave <- struct{}{}
	if d.serving() != nil {
		t.Error("it came into force all the same")
	}
}

// TestChangedWhileJudged: what changes meanwhile counts.
func TestChangedWhileJudged(t *testing.T) {
	d := newDesk(t)
	r := d.ask()
	deep := d.sub.SubCA(t, testpki.Name("Deep CA"))
	times := 0
	d.manager.judging = func() {
		if times++; times == 1 {
			d.trust(deep.BundlePEM())
			d.until("the CA is known", func() bool { return len(d.manager.bundleOf("live").Certificates()) == 3 })
		}
	}
	leaf := d.answer(deep, r)
	_, err := d.take(ImportOrder{JudgedOnly: true}, leaf.CertPEM())
	d.no(err, Refused, "unknown_issuer", "") // before anything can change
	done, err := d.take(ImportOrder{}, leaf.CertPEM())
	d.must(err)
	if done.Outcome != InForce || times != 2 {
		t.Errorf("judged %d times: %+v", times, done)
	}
	// The bundle is another one than that which it was judged by.
	c := candidate{target: target{slot: d.config.Slots[0], request: r, key: leaf.Key.Public()}, bundle: d.manager.bundleOf("int")}
	if c.stands(c.target, d.manager.bundleOf("live")) || c.stands(c.target, nil) || !c.stands(c.target, d.manager.bundleOf("int")) {
		t.Error("it stands by another trust, or not by its own")
	}
	// The request goes.
	r = d.ask()
	leaf = d.answer(deep, r)
	d.manager.judging = func() { _, err := d.manager.Cancel(d.context(), r.ID, nil); d.must(err) }
	_, err = d.take(ImportOrder{}, leaf.CertPEM())
	if err == nil || d.serving().Identity.Leaf().Equal(leaf.Cert) {
		t.Errorf("error %v", err)
	}
}
