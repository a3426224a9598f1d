package rotate

import (
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/trust"
)

func TestListsOfOursAreFetchedUnasked(t *testing.T) {
	c := newCRLBench(t)
	c.begin()
	for path, origin := range map[string]CRLOrigin{"/own.crl": CRLOfOwn, "/root.crl": CRLOfBundle} {
		c.until(path+" is in force", func() bool { l, _ := c.list(path); return l.CRL != nil })
		if l, _ := c.list(path); l.Origin != origin || l.Failures != 0 || l.Err != nil || l.Fetched.IsZero() || !l.Next.After(time.Now()) {
			t.Errorf("%s stands so: %+v", path, l)
		}
		c.until(path+" is kept", func() bool { return c.kept.has(c.url(path)) })
	}
	if n := len(c.environment().Trust().CRLs()); n != 2 {
		t.Errorf("%d lists are in force, want 2", n)
	}
}

func TestPeerOfANewPartitionWaitsForItsList(t *testing.T) {
	c := newCRLBench(t)
	e := c.begin()
	c.partition("/p1.crl", testpki.Revoke(big.NewInt(4711)))
	peer := c.peer("/p1.crl")
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() {
			if err := c.judge(e, peer); err != nil {
				t.Errorf("peer of a partition never seen before: %v", err)
			}
		})
	}
	group.Wait()
	if n := c.requests("/p1.crl"); n != 1 {
		t.Errorf("%d requests for one list, want 1", n)
	}
	if l, _ := c.list("/p1.crl"); l.Origin != CRLOfPeer {
		t.Errorf("the list is %q, want that of a peer", l.Origin)
	}
	c.partition("/p2.crl", testpki.Revoke(peer.Cert.SerialNumber)) // of the same issuer: counts as well
	if err := c.judge(e, c.peer("/p2.crl")); err != nil {
		t.Fatal(err)
	}
	refusedFor(t, c.judge(e, peer), trust.Revoked)
}

// Who shows the certificate of another, which is public, causes no request.
func TestCertificateWithoutItsKeyCausesNoFetch(t *testing.T) {
	c := newCRLBench(t)
	late := c.begin()
	c.partition("/p1.crl")
	peer := c.peer("/p1.crl")
	config, err := late.TLS()
	if err != nil {
		t.Fatal(err)
	}
	if err := config.VerifyConnection(presented(peer)); err != nil {
		t.Fatalf("before it proved its key, a peer that only a list is missing for: %v", err)
	}
	stranger := c.sub.Issue(t, testpki.Name("other.nhs.uk"), testpki.CDP(c.url("/p1.crl")))
	refusedFor(t, config.VerifyConnection(presented(stranger)), trust.NotListed)
	refusedFor(t, c.judge(late, stranger), trust.NotListed)
	if _, known := c.list("/p1.crl"); known || c.requests("/p1.crl") != 0 {
		t.Fatal("a certificate alone made a list known")
	}
	// A library that never calls Accepted judges in the handshake.
	strict, err := c.use(EndpointConfig{}).TLS()
	if err != nil {
		t.Fatal(err)
	}
	if err := strict.VerifyConnection(presented(peer)); err != nil || c.requests("/p1.crl") != 1 {
		t.Errorf("without Late: %v after %d requests", err, c.requests("/p1.crl"))
	}
}

func TestFailureIsRememberedAndMended(t *testing.T) {
	c := newCRLBench(t)
	c.env.Fetch.Refresh = 50 * time.Millisecond
	e := c.begin()
	peer := c.peer("/p1.crl") // 404
	refusedFor(t, c.judge(e, peer), trust.CRLUnavailable)
	config, _ := e.TLS()
	refusedFor(t, config.VerifyConnection(presented(peer)), trust.CRLUnavailable) // with an alert now
	if l, _ := c.list("/p1.crl"); l.Err == nil || l.Failures == 0 {
		t.Errorf("the failure is not told: %+v", l)
	}
	c.partition("/p1.crl")
	c.until("it is asked for again", func() bool { return c.judge(e, peer) == nil })
	c.until("the failure ended", func() bool { l, _ := c.list("/p1.crl"); return l.Err == nil && l.Failures == 0 })
}

func TestServerThatHangsHoldsUpNobodyForLong(t *testing.T) {
	c := newCRLBench(t)
	c.env.Fetch.Timeout = 50 * time.Millisecond
	e := c.begin()
	release := make(chan struct{})
	t.Cleanup(sync.OnceFunc(func() { close(release) }))
	der := c.sub.CRL(t, testpki.IDP(c.url("/p1.crl")))
	c.answer("/p1.crl", func(w http.ResponseWriter, _ *http.Request) { <-release; _, _ = w.Write(der) })
	peer := c.peer("/p1.crl")
	ctx := c.context()
	_, err := e.Accepted(ctx, presented(peer))
	refusedFor(t, err, trust.CRLUnavailable)
	if ctx.Err() != nil {
		t.Error("it waited for longer than crl.timeout")
	}
	release <- struct{}{} // it answers after all: the download went on
	c.until("the list is in force", func() bool { return c.judge(e, peer) == nil })
	if n := c.requests("/p1.crl"); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

func TestPreferNeverWaits(t *testing.T) {
	c := newCRLBench(t)
	c.env.Revocation = trust.Prefer
	e := c.begin()
	release := make(chan struct{})
	der := c.sub.CRL(t, testpki.IDP(c.url("/p1.crl")))
	c.answer("/p1.crl", func(w http.ResponseWriter, _ *http.Request) { <-release; _, _ = w.Write(der) })
	peer := c.peer("/p1.crl")
	v, err := e.Accepted(c.context(), presented(peer))
	if err != nil || v.Revocation != trust.RevocationUnavailable {
		t.Fatalf("verdict %q, error %v", v.Revocation, err)
	}
	close(release)
	c.until("the next one is checked", func() bool {
		v, err := e.Accepted(c.context(), presented(peer))
		return err == nil && v.Revocation == trust.RevocationGood
	})
}

// What a server answers badly never takes the place of what is in force.
func TestLiesOfAServer(t *testing.T) {
	now := time.Now()
	lies := map[string]struct {
		answer func(c *crlBench) []byte
		reason string
	}{
		"older list":      {func(c *crlBench) []byte { return c.list1(testpki.ThisUpdate(now.Add(-48 * time.Hour))) }, RuleCRLNumber},
		"other partition": {func(c *crlBench) []byte { return c.sub.CRL(c.t, testpki.IDP(c.url("/p9.crl")), testpki.Number(99)) }, "crl_invalid"},
		"wrong issuer": {func(c *crlBench) []byte {
			return testpki.NewRoot(c.t).SubCA(c.t).CRL(c.t, testpki.IDP(c.url("/p1.crl")))
		}, "crl_invalid"},
		"bad signature": {func(c *crlBench) []byte { return c.list1(testpki.BadCRLSignature(), testpki.Number(99)) }, "crl_invalid"},
		"of next year": {func(c *crlBench) []byte {
			return c.list1(testpki.ThisUpdate(now.Add(365*24*time.Hour)), testpki.NextUpdate(now.Add(366*24*time.Hour)))
		}, "crl_invalid"},
		"a page":    {func(*crlBench) []byte { return []byte("<html>please log in</html>") }, "malformed"},
		"torn":      {func(c *crlBench) []byte { d := c.list1(testpki.Number(99)); return d[:len(d)-9] }, "malformed"},
		"delta":     {func(c *crlBench) []byte { return c.list1(testpki.Delta(), testpki.Number(99)) }, "crl_invalid"},
		"too large": {func(*crlBench) []byte { return make([]byte, 1<<20+1) }, "too_large"},
		"expired replayed": {func(c *crlBench) []byte {
			return c.list1(testpki.ThisUpdate(now.Add(-72*time.Hour)), testpki.NextUpdate(now.Add(-48*time.Hour)))
		}, RuleCRLNumber},
	}
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			c := newCRLBench(t)
			c.env.Fetch.Refresh, c.env.MaxCRL = 20*time.Millisecond, 1<<20
			e := c.begin()
			bad := c.peer("/p1.crl")
			c.publish("/p1.crl", c.list1(testpki.Revoke(bad.Cert.SerialNumber), testpki.Number(10)))
			good := c.peer("/p1.crl")
			if err := c.judge(e, good); err != nil {
				t.Fatal(err)
			}
			c.publish("/p1.crl", lie.answer(c))
			c.until("the lie is refused", func() bool {
				for _, ev := range c.of(EventCRLFetch) {
					if ev.Address == c.url("/p1.crl") && ev.Reason == lie.reason && ev.Err != nil {
						return true
					}
				}
				return false
			})
			if err := c.judge(e, good); err != nil {
				t.Errorf("a peer of the list in force: %v", err)
			}
			refusedFor(t, c.judge(e, bad), trust.Revoked)
		})
	}
}

// list1 is a list of partition /p1.crl.
func (c *crlBench) list1(opts ...testpki.CRLOption) []byte {
	c.t.Helper()
	return c.sub.CRL(c.t, append([]testpki.CRLOption{testpki.IDP(c.url("/p1.crl"))}, opts...)...)
}

func TestListsOutliveTheProcessAndTheirServer(t *testing.T) {
	c := newCRLBench(t)
	e := c.begin()
	bad := c.peer("/p1.crl")
	c.partition("/p1.crl", testpki.Revoke(bad.Cert.SerialNumber))
	good := c.peer("/p1.crl")
	if err := c.judge(e, good); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/p1.crl", "/root.crl", "/own.crl"} {
		c.until(path+" is kept", func() bool { return c.kept.has(c.url(path)) })
	}
	c.server.Close()
	c.restart()
	e = c.use(EndpointConfig{Late: true})
	if err := c.judge(e, good); err != nil {
		t.Errorf("after a restart, without the server: %v", err)
	}
	refusedFor(t, c.judge(e, bad), trust.Revoked)
}

func TestUnchangedListMakesNoNewState(t *testing.T) {
	c := newCRLBench(t)
	c.env.Fetch.Refresh = 10 * time.Millisecond
	c.begin()
	c.until("all are there", func() bool { return len(c.environment().Trust().CRLs()) == 2 })
	sequence := c.environment().Trust().Sequence()
	c.until("the server said five times that nothing changed", func() bool {
		n := 0
		for _, ev := range c.of(EventCRLFetch) {
			if ev.Result == CRLUnchanged && ev.Repeated {
				n++
			}
		}
		return n >= 5
	})
	if c.unmodified.Load() == 0 {
		t.Error("it was asked without If-None-Match")
	}
	if s := c.environment().Trust().Sequence(); s != sequence {
		t.Errorf("sequence went from %d to %d for nothing", sequence, s)
	}
}

func TestAddressThatIsNotPermitted(t *testing.T) {
	c := newCRLBench(t)
	e := c.begin()
	for _, address := range []string{"http://crl.example/p1.crl", "ldap://127.0.0.1/cn=x", "https://127.0.0.1/p1.crl", "file:///etc/passwd"} {
		peer := c.sub.Issue(t, testpki.Name("proxy.nhs.uk"), testpki.CDP(address))
		refusedFor(t, c.judge(e, peer), trust.CRLUnavailable)
	}
	if n := len(c.environment().CRLs()); n > 2 {
		t.Errorf("%d addresses are known, want those of ours", n)
	}
}

func TestDiskThatTakesNoLists(t *testing.T) {
	c := newCRLBench(t)
	c.kept.fail = errors.New("no space left on device")
	e := c.begin()
	c.partition("/p1.crl")
	if err := c.judge(e, c.peer("/p1.crl")); err != nil {
		t.Errorf("a list that cannot be kept is in force all the same: %v", err)
	}
	c.until("it is told", func() bool { return c.count(EventCRLKept) > 0 })
}

func TestOwnRevocationIsToldAndServesOn(t *testing.T) {
	c := newCRLBench(t)
	c.env.Fetch.Refresh = 20 * time.Millisecond
	c.begin()
	own := c.pcs().Snapshot().Generation.Identity.Leaf()
	c.until("its list is in force", func() bool { l, _ := c.list("/own.crl"); return l.CRL != nil })
	c.partition("/own.crl", testpki.Revoke(own.SerialNumber), testpki.Number(1000))
	c.until("it is told", func() bool { e := c.of(EventOwnChain); return len(e) == 1 && e[0].Reason == string(trust.Revoked) })
	if s := c.pcs().Snapshot(); s == nil || !s.Generation.Identity.Leaf().Equal(own) {
		t.Error("the slot serves no longer")
	}
}

func TestPeersCannotFillTheListOfLists(t *testing.T) {
	c := newCRLBench(t)
	c.begin()
	c.until("all are there", func() bool { return len(c.environment().Trust().CRLs()) == 2 })
	now := time.Now()
	c.do(c.keeper.call(c.context(), func() {
		e := c.environment()
		for i := range 2 * maxPeerLists {
			e.want([]crlName{{c.url(fmt.Sprintf("/x%d.crl", i)), "somebody"}}, CRLOfPeer, now)
		}
		if n := len(e.lists); n > maxPeerLists+2 {
			t.Errorf("%d lists are known", n)
		}
		clear(e.lists)
	}))
}

func TestListsFollowTheBundle(t *testing.T) {
	c := newCRLBench(t)
	e := c.begin()
	second := c.root.SubCA(t, testpki.Name("Second"), testpki.CDP(c.url("/root.crl")))
	both := append(c.sub.BundlePEM(), second.CertPEM()...)
	c.put("trust.pem", both, 0o644)
	c.until("the second CA is trusted", func() bool { return len(c.environment().Trust().Bundle().SubCAs()) == 2 })
	c.publish("/s.crl", second.CRL(t, testpki.IDP(c.url("/s.crl"))))
	peer := second.Issue(t, testpki.Name("proxy.nhs.uk"), testpki.CDP(c.url("/s.crl")))
	if err := c.judge(e, peer); err != nil {
		t.Fatal(err)
	}
	of := func() (n int) {
		for _, crl := range c.environment().Trust().CRLs() {
			if crl.IssuerCertificate().Equal(second.Cert) {
				n++
			}
		}
		return n
	}
	c.replaceTrust(c.sub.BundlePEM())
	c.until("its list goes with it", func() bool { return of() == 0 })
	c.put("trust.pem", both, 0o644)
	c.until("its list comes back with it", func() bool { return of() == 1 })
	if n := c.requests("/s.crl"); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}
