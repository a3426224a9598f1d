package rotate

import (
	"crypto/x509"
	"errors"
	"math/big"
	"os"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/rotate/fetch"
	"github.com/spinecert/spinecert/trust"
)

func TestScheduleOfLists(t *testing.T) {
	sub := testpki.NewRoot(t).SubCA(t)
	now := time.Now()
	read := func(from, to time.Duration) *trust.CRL {
		crl, err := trust.ReadCRL(sub.CRL(t, testpki.ThisUpdate(now.Add(from)), testpki.NextUpdate(now.Add(to))), "x", []*x509.Certificate{sub.Cert})
		if err != nil {
			t.Fatal(err)
		}
		return crl
	}
	tests := map[string]struct {
		list        crlList
		refresh     time.Duration
		least, most time.Duration
	}{
		"a week to go":        {crlList{crl: read(-time.Hour, 7*24*time.Hour)}, time.Hour, 54 * time.Minute, 66 * time.Minute},
		"soon to end":         {crlList{crl: read(-10*time.Hour, 2*time.Hour)}, 10 * time.Hour, 40 * time.Minute, 50 * time.Minute},
		"ended":               {crlList{crl: read(-10*time.Hour, -time.Hour)}, time.Hour, 54 * time.Second, 66 * time.Second},
		"no list yet":         {crlList{}, time.Hour, 54 * time.Minute, 66 * time.Minute},
		"failed once":         {crlList{failures: 1}, time.Hour, 54 * time.Second, 66 * time.Second},
		"failed four times":   {crlList{failures: 4}, time.Hour, 7 * time.Minute, 9 * time.Minute},
		"failed for ever":     {crlList{failures: 1000}, time.Hour, 13 * time.Minute, 17 * time.Minute},
		"by the second":       {crlList{crl: read(-time.Hour, 24*time.Hour)}, time.Second, 900 * time.Millisecond, 1100 * time.Millisecond},
		"by the second, down": {crlList{failures: 1000}, time.Second, 900 * time.Millisecond, 1100 * time.Millisecond},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			e := newEnvironment(nil, EnvironmentConfig{Fetch: CRLFetch{Refresh: tc.refresh}})
			e.schedule(&tc.list, now)
			if in := tc.list.next.Sub(wall(now)); in < tc.least || in > tc.most {
				t.Errorf("asked for again in %s, want %s to %s", in, tc.least, tc.most)
			}
		})
	}
}

func TestListIsDueWhereTheClockWasSetBack(t *testing.T) {
	now := time.Now()
	l := crlList{next: wall(now.Add(time.Hour))}
	if l.due(now, time.Hour) {
		t.Error("due an hour early")
	}
	if !l.due(now.AddDate(-3, 0, 0), time.Hour) {
		t.Error("a clock that was set back puts it off for years")
	}
	if !l.due(now.Add(61*time.Minute), time.Hour) {
		t.Error("not due when its time has come")
	}
}

func TestDirectoryOfLists(t *testing.T) {
	b := newBench(t)
	serial := big.NewInt(4711)
	b.pair(b.leaf())
	b.do(os.Mkdir(b.path("crls"), 0o755))
	b.env.CRLs, b.env.Revocation = []string{b.path("crls")}, trust.Require
	b.start()
	b.until("an empty directory is refused", func() bool { r := b.environment().Status().Refusal; return r != nil && r.Pending && r.CRLs })
	if b.environment().Trust() == nil || b.pcs().Snapshot() == nil {
		t.Fatal("an empty directory of lists keeps the trust, and our own identity, from serving")
	}
	b.write("crls/root.crl", b.root.CRL(t), 0o644)
	b.until("it is read", func() bool {
		return len(b.environment().Trust().CRLs()) == 1 && b.environment().Status().Refusal == nil
	})
	b.write("crls/.hidden.crl", []byte("half a file"), 0o644)
	b.write("crls/README", []byte("not a list"), 0o644)
	b.put("crls/sub.pem", testpki.EncodeCRL(b.sub.CRL(t, testpki.Revoke(serial))), 0o644)
	b.until("a new file is read", func() bool { return revokes(b.environment().Trust(), serial) })
	b.do(os.Remove(b.path("crls/sub.pem")))
	b.until("it is told that its list stays", func() bool { return b.count(EventTrustRefused) > 0 })
	if !revokes(b.environment().Trust(), serial) {
		t.Error("a revocation went away with its file")
	}
	b.write("crls/bad.crl", []byte("no list"), 0o644)
	b.until("a file that is no list is refused", func() bool { return b.environment().Status().Refusal != nil })
	if !revokes(b.environment().Trust(), serial) {
		t.Error("the last state is gone")
	}
	other := big.NewInt(4712)
	b.put("crls/sub.pem", testpki.EncodeCRL(b.sub.CRL(t, testpki.Revoke(other), testpki.ThisUpdate(time.Now()), testpki.Number(99))), 0o644)
	b.until("a newer list beside it is taken all the same", func() bool { return revokes(b.environment().Trust(), other) })
	if r := b.environment().Status().Refusal; r == nil || !r.CRLs {
		t.Errorf("the bad file is no longer told: %v", r)
	}
	b.restart()
	if !revokes(b.environment().Trust(), other) || b.pcs().Snapshot() == nil {
		t.Error("after a restart the good lists, or the identity, are not in force")
	}
	b.do(os.Remove(b.path("crls/bad.crl")))
	b.until("it stands again", func() bool { return b.environment().Status().Refusal == nil })
}

func TestCarriedLists(t *testing.T) {
	c := newCRLBench(t)
	c.env.Fetch = CRLFetch{} // no route
	e := c.begin()
	bad, good := c.peer("/p1.crl"), c.peer("/p1.crl")
	refusedFor(t, c.judge(e, good), trust.CRLUnavailable)
	carry := func(name string, data []byte) error {
		_, err := c.keeper.CarryCRL(c.context(), "test", name, data, "somebody")
		return err
	}
	now := time.Now()
	c.do(carry("root.crl", c.root.CRL(t)))
	// Without a distribution point it covers what its file name says.
	c.do(carry("p1.crl", testpki.EncodeCRL(c.sub.CRL(t, testpki.Revoke(bad.Cert.SerialNumber), testpki.ThisUpdate(now.Add(-time.Hour)), testpki.Number(7)))))
	if err := c.judge(e, good); err != nil {
		t.Fatalf("after its list was carried here: %v", err)
	}
	refusedFor(t, c.judge(e, bad), trust.Revoked)
	refusedFor(t, c.judge(e, c.peer("/p2.crl")), trust.CRLUnavailable)

	older := c.sub.CRL(t, testpki.ThisUpdate(now.Add(-2*time.Hour)), testpki.Number(8))
	var r *Refusal
	if err := carry("p1.crl", older); !errors.As(err, &r) || r.Reason != RuleCRLNumber {
		t.Errorf("an older list: %v", err)
	}
	refusedFor(t, carry("p1.crl", testpki.NewRoot(t).CRL(t)), trust.CRLInvalid)
	refusedFor(t, carry("p1.crl", []byte("nothing")), trust.Malformed)
	refusedFor(t, carry("p1.crl", c.sub.CRL(t, testpki.ThisUpdate(now.Add(time.Hour)), testpki.NextUpdate(now.Add(2*time.Hour)))), trust.CRLInvalid)
	// Another partition under the same file name takes nothing away.
	c.do(carry("p1.crl", c.sub.CRL(t, testpki.IDP(c.url("/p2.crl")))))
	refusedFor(t, c.judge(e, bad), trust.Revoked)
	if err := c.judge(e, c.peer("/p2.crl")); err != nil {
		t.Errorf("a peer of the second list: %v", err)
	}
	if n := len(c.environment().CRLs()); n != 3 {
		t.Errorf("%d lists are known, want 3", n)
	}
	c.restart()
	e = c.use(EndpointConfig{Late: true})
	refusedFor(t, c.judge(e, bad), trust.Revoked)
	if err := c.judge(e, good); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	for _, l := range c.environment().CRLs() {
		if l.Origin != CRLOfCarrier || !l.Next.IsZero() {
			t.Errorf("after a restart the list %s is %q, asked for at %s", l.Address, l.Origin, l.Next)
		}
	}
	if _, err := c.keeper.CarryCRL(c.context(), "nowhere", "x", older, nil); err == nil {
		t.Error("a list of no environment was taken")
	}
}

// A carried list goes when a newer one of the same partition comes by file.
func TestCarriedListIsSuperseded(t *testing.T) {
	c := newCRLBench(t)
	c.env.Fetch = CRLFetch{}
	c.do(os.Mkdir(c.path("crls"), 0o755))
	c.write("crls/root.crl", c.root.CRL(t), 0o644)
	c.env.CRLs = []string{c.path("crls")}
	e := c.begin()
	now := time.Now()
	bad := c.peer("/p1.crl")
	if _, err := c.keeper.CarryCRL(c.context(), "test", "p1.crl", c.sub.CRL(t, testpki.ThisUpdate(now.Add(-time.Hour)), testpki.Number(1)), nil); err != nil {
		t.Fatal(err)
	}
	c.do(c.judge(e, bad))
	c.put("crls/p1.crl", c.sub.CRL(t, testpki.Revoke(bad.Cert.SerialNumber), testpki.Number(2)), 0o644)
	c.until("the carried one is gone", func() bool { return len(c.environment().CRLs()) == 0 && len(c.environment().Trust().CRLs()) == 2 })
	refusedFor(t, c.judge(e, bad), trust.Revoked)
	c.until("and from the disk", func() bool { l, _ := c.kept.ListCRLs("test"); return len(l) == 0 })
}

func TestAddressOfOursThatMayNotBeAsked(t *testing.T) {
	c := newCRLBench(t)
	c.env.Fetch.Hosts = []string{"crl.example"}
	c.begin()
	c.until("it is said", func() bool {
		l, ok := c.list("/own.crl")
		var f *fetch.Error
		return ok && errors.As(l.Err, &f)
	})
	c.until("it is told, once for each address", func() bool { return c.count(EventCRLFetch) == 2 })
	if e := c.of(EventCRLFetch)[0]; e.Result != CRLFailed || e.Reason != fetch.NotPermitted || e.Repeated {
		t.Errorf("told as %+v", e)
	}
	if c.requests("/own.crl") != 0 {
		t.Error("it was asked for")
	}
	c.env.Fetch.Hosts = []string{c.server.Listener.Addr().String()}
	c.apply()
	c.until("it is had once it is permitted", func() bool { l, _ := c.list("/own.crl"); return l.CRL != nil && l.Err == nil })
}

func TestNothingIsDroppedForASuspectClock(t *testing.T) {
	b := newBench(t)
	now := time.Now()
	ending := b.root.SubCA(t, testpki.Name("Ending"), testpki.Validity(now.Add(-48*time.Hour), now.Add(-time.Hour)))
	both := append(b.sub.BundlePEM(), ending.CertPEM()...)
	b.write("trust.pem", both, 0o644)
	b.clock = func() bool { return true }
	b.pair(b.leaf())
	b.start()
	b.until("there is trust", func() bool { return b.environment().Trust() != nil })
	b.put("trust.pem", b.sub.BundlePEM(), 0o644) // without the one that seems to have ended
	b.until("it is refused", func() bool { r := b.environment().Status().Refusal; return r != nil && r.Rule == RuleTrustShrink })
}

func TestAcceptableCAsFollowTheClock(t *testing.T) {
	b := newBench(t)
	end := time.Now().Add(time.Hour)
	ending := b.root.SubCA(t, testpki.Name("Ending"), testpki.Validity(time.Now().Add(-time.Hour), end))
	b.write("trust.pem", append(b.sub.BundlePEM(), ending.CertPEM()...), 0o644)
	b.pair(b.leaf())
	b.start()
	b.until("it serves", func() bool { return b.pcs().Snapshot() != nil })
	e := b.endpoint(EndpointConfig{}, 0)
	acceptable := func() int { return len(config(t, e).ClientCAs.Subjects()) } //nolint:staticcheck // the pool is ours
	if acceptable() != 2 {
		t.Fatalf("%d CAs are named, want both", acceptable())
	}
	b.pcs().refreshTLS(end.Add(time.Second))
	if acceptable() != 1 {
		t.Errorf("%d CAs are named, want the one that has not ended", acceptable())
	}
}
