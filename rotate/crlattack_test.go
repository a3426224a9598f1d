package rotate

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/trust"
)

// crlattack_test.go: what would make a revocation that is in force stop counting.

// revoked publishes a list of /p1.crl, waits until it is in force, and returns the
// peer that it revokes.
func (c *crlBench) revoked(e *Endpoint, opts ...testpki.CRLOption) *testpki.Leaf {
	c.t.Helper()
	bad := c.peer("/p1.crl")
	c.publish("/p1.crl", c.list1(append([]testpki.CRLOption{testpki.Revoke(bad.Cert.SerialNumber), testpki.Number(10)}, opts...)...))
	c.until("the peer is revoked", func() bool { return trust.ReasonOf(c.judge(e, bad)) == trust.Revoked })
	return bad
}

// answered waits until the server was asked for path n times more.
func (c *crlBench) answered(path string, n int) {
	c.t.Helper()
	was := c.requests(path)
	c.until("it is asked again", func() bool { return c.requests(path) >= was+n })
}

// A genuine list that names no distribution point never takes the place of one that does.
func TestListOfAnotherScopeReplacesNone(t *testing.T) {
	swaps := map[string]func(c *crlBench) []byte{
		"of the root":    func(c *crlBench) []byte { return c.root.CRL(c.t, testpki.NoIDP()) },
		"of the same CA": func(c *crlBench) []byte { return c.sub.CRL(c.t, testpki.NoIDP(), testpki.Number(99)) },
		"of users alone": func(c *crlBench) []byte {
			return c.list1(testpki.IDPFlags(true, false, false, false), testpki.Number(99))
		},
		"of the same CA, ends": func(c *crlBench) []byte {
			return c.sub.CRL(c.t, testpki.NoIDP(), testpki.NextUpdate(time.Now().Add(time.Minute)))
		},
	}
	for name, swap := range swaps {
		for _, mode := range []trust.Mode{trust.Require, trust.Prefer} {
			t.Run(name+" "+string(mode), func(t *testing.T) {
				c := newCRLBench(t)
				c.env.Revocation, c.env.Fetch.Refresh = mode, 20*time.Millisecond
				e := c.begin()
				bad := c.revoked(e)
				c.publish("/p1.crl", swap(c))
				c.until("it is refused", func() bool { l, _ := c.list("/p1.crl"); return trust.ReasonOf(l.Err) == trust.CRLInvalid })
				refusedFor(t, c.judge(e, bad), trust.Revoked)
				c.publish("/p1.crl", c.list1(testpki.Revoke(bad.Cert.SerialNumber), testpki.Number(100)))
				c.until("the right one is taken again", func() bool { l, _ := c.list("/p1.crl"); return l.Err == nil })
			})
		}
	}
}

func TestFirstListOfAnotherCAIsRefused(t *testing.T) {
	c := newCRLBench(t)
	c.env.Fetch.Refresh = 20 * time.Millisecond
	e := c.begin()
	c.publish("/p1.crl", c.root.CRL(t, testpki.NoIDP()))
	peer := c.peer("/p1.crl")
	refusedFor(t, c.judge(e, peer), trust.CRLUnavailable)
	if l, _ := c.list("/p1.crl"); l.CRL != nil || trust.ReasonOf(l.Err) != trust.CRLInvalid {
		t.Errorf("the list stands so: %+v", l)
	}
	c.partition("/p1.crl")
	c.until("the right one is taken", func() bool { return c.judge(e, peer) == nil })
}

func TestSaveThatFailedIsMadeGood(t *testing.T) {
	c := newCRLBench(t)
	c.env.Fetch.Refresh = 30 * time.Millisecond
	e := c.begin()
	bad := c.peer("/p1.crl")
	c.publish("/p1.crl", c.list1(testpki.Number(1), testpki.ThisUpdate(time.Now().Add(-time.Hour))))
	c.do(c.judge(e, bad))
	c.until("the first is kept", func() bool { return c.kept.has(c.url("/p1.crl")) })
	c.kept.set(errors.New("no space left on device"))
	c.publish("/p1.crl", c.list1(testpki.Revoke(bad.Cert.SerialNumber), testpki.Number(2)))
	c.until("the second is in force", func() bool { return trust.ReasonOf(c.judge(e, bad)) == trust.Revoked })
	c.until("it is told that it is not kept", func() bool { return c.count(EventCRLKept) > 0 })
	c.kept.set(nil)
	c.answered("/p1.crl", 3)
	c.server.Close()
	c.env.Fetch.Refresh = time.Hour
	c.restart()
	refusedFor(t, c.judge(c.use(EndpointConfig{Late: true}), bad), trust.Revoked)
}

// A CA that was renewed with its key keeps its lists, whatever the disk and the server say.
func TestRenewedCAKeepsItsLists(t *testing.T) {
	c := newCRLBench(t)
	c.env.Revocation, c.env.Fetch.Refresh = trust.Prefer, 20*time.Millisecond
	c.kept.set(errors.New("read-only file system"))
	e := c.begin()
	bad := c.revoked(e)
	renewed := c.root.SubCA(t, testpki.Key(c.sub.Key), testpki.RawSubject(c.sub.Cert.RawSubject), testpki.CDP(c.url("/root.crl")))
	c.replaceTrust(renewed.BundlePEM())
	c.answered("/p1.crl", 3)
	refusedFor(t, c.judge(e, bad), trust.Revoked)
}

func TestListInForceIsNotForgotten(t *testing.T) {
	c := newCRLBench(t)
	c.env.Revocation = trust.Prefer
	e := c.begin()
	bad := c.revoked(e, testpki.NextUpdate(time.Now().Add(60*24*time.Hour)))
	c.do(c.keeper.call(c.context(), func() {
		env, later := c.environment(), time.Now().Add(8*24*time.Hour)
		env.lists[c.url("/p1.crl")].failures = 3
		env.collect(c.keeper, later)
		env.publishCRLs(c.keeper, later)
	}))
	refusedFor(t, c.judge(e, bad), trust.Revoked)
	c.do(c.keeper.call(c.context(), func() {
		env := c.environment()
		if env.collect(c.keeper, time.Now().Add(98*24*time.Hour)); env.lists[c.url("/p1.crl")] != nil {
			t.Error("a list that ended long ago, and that nobody serves, is known for ever")
		}
	}))
}

// fullDisk is a CRLStore without room.
type fullDisk struct {
	*memCRLs
	full atomic.Bool
}

// SpoolCRL fails while the disk is full.
func (d *fullDisk) SpoolCRL() (*os.File, error) {
	if d.full.Load() {
		return nil, errors.New("no space left on device")
	}
	return d.memCRLs.SpoolCRL()
}

func TestFullDiskKeepsNoRevocationOut(t *testing.T) {
	c := newCRLBench(t)
	c.env.Revocation, c.env.Fetch.Refresh = trust.Prefer, 20*time.Millisecond
	disk := &fullDisk{memCRLs: c.kept}
	c.store2 = disk
	e := c.begin()
	disk.full.Store(true)
	bad := c.revoked(e)
	if c.kept.has(c.url("/p1.crl")) {
		t.Fatal("the disk was not full")
	}
	disk.full.Store(false)
	c.until("it is kept once there is room", func() bool { return c.kept.has(c.url("/p1.crl")) })
	c.server.Close()
	c.restart()
	refusedFor(t, c.judge(c.use(EndpointConfig{Late: true}), bad), trust.Revoked)
}

func TestTwoCarriersAtOnce(t *testing.T) {
	for range 20 {
		c := newCRLBench(t)
		c.env.Fetch = CRLFetch{}
		c.begin()
		now := time.Now()
		older := c.sub.CRL(t, testpki.ThisUpdate(now.Add(-2*time.Hour)), testpki.Number(1))
		newer := c.sub.CRL(t, testpki.ThisUpdate(now.Add(-time.Hour)), testpki.Number(2))
		var group sync.WaitGroup
		for _, der := range [][]byte{newer, older, newer, older} {
			group.Go(func() { _, _ = c.keeper.CarryCRL(c.context(), "test", "p1.crl", der, nil) })
		}
		group.Wait()
		c.restart()
		if l := c.environment().CRLs(); len(l) != 1 || l[0].CRL.Number().Int64() != 2 {
			t.Fatalf("the older one came back from the disk: %+v", l)
		}
		c.stop()
	}
}

func TestAcceptableCAsOutliveABlipOfTheClock(t *testing.T) {
	b := newBench(t)
	var suspect atomic.Bool
	b.clock = suspect.Load
	b.pair(b.leaf())
	b.start()
	b.until("it serves", func() bool { return b.pcs().Snapshot() != nil })
	e := b.endpoint(EndpointConfig{}, 0)
	named := func() int { return len(config(t, e).ClientCAs.Subjects()) } //nolint:staticcheck // the pool is ours
	before, later := named(), time.Now().AddDate(40, 0, 0)
	suspect.Store(true)
	b.do(b.keeper.call(b.context(), func() { b.pcs().refreshTLS(later) }))
	if n := named(); n != before {
		t.Errorf("%d CAs are named while the clock is suspect, want %d", n, before)
	}
	suspect.Store(false)
	b.do(b.keeper.call(b.context(), func() { b.pcs().refreshTLS(later) }))
	if n := named(); n != 0 {
		t.Errorf("%d CAs are named after all have ended", n)
	}
	b.do(b.keeper.call(b.context(), func() { b.pcs().refreshTLS(time.Now()) }))
	if n := named(); n != before {
		t.Errorf("%d CAs are named once the clock is right again, want %d", n, before)
	}
}

func TestRefreshIsAnsweredWhateverHappens(t *testing.T) {
	c := newCRLBench(t)
	c.begin()
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	for i := range 20 {
		c.answer(fmt.Sprintf("/x%d.crl", i), func(http.ResponseWriter, *http.Request) { <-hang })
	}
	c.do(c.keeper.call(c.context(), func() {
		for i := range 20 {
			c.environment().want([]crlName{{c.url(fmt.Sprintf("/x%d.crl", i)), "somebody"}}, CRLOfPeer, time.Now())
		}
	}))
	ctx := c.context()
	done := make(chan error, 1)
	go func() { done <- c.keeper.RefreshCRLs(ctx, "test") }()
	c.until("it is asked", func() bool {
		return c.requests("/x0.crl")+c.requests("/x1.crl")+c.requests("/x2.crl") > 0 || c.waiters() > 0
	})
	c.env.Fetch.Hosts = nil // nothing is fetched any more
	c.apply()
	if err := <-done; err != nil {
		t.Errorf("who waited for lists that nobody asks for any more: %v", err)
	}
}

func (c *crlBench) waiters() (n int) {
	c.do(c.keeper.call(c.context(), func() {
		for _, l := range c.environment().lists {
			n += len(l.waiting)
		}
	}))
	return n
}
