package sandbox

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// cutWithin is how long after its publication a revocation may take until nothing
// of the peer is served any more.
const cutWithin = 5 * time.Second

// cuts keeps the books of connections that end, and of the peers that are revoked.
// A peer is known by the number of its certificate. Safe for concurrent use.
type cuts struct {
	ledger *ledger
	within time.Duration // cutWithin, but in tests

	mu      sync.Mutex
	revoked map[string]*revocation
	books   cutBooks
	samples []time.Duration
	over    bool
}

// revocation is one revoked peer.
type revocation struct {
	name      string
	at        time.Time // from when on the list was to be had
	open      int       // connections it had then
	cut       int       // of them, ended by the daemon
	refused   int       // new connections
	effective time.Time // the first cut or refusal
	lastCut   time.Time
}

// cutBooks are the counters.
type cutBooks struct {
	Revocations int64 // published
	Proved      int64 // of them, those that were looked at to the end
	Cut         int64 // connections of revoked peers that the daemon ended
	Refused     int64 // new connections of revoked peers that it refused
	Resumptions int64 // of the refused ones, those that resumed a session from before
	Served      int64 // what it still did for revoked peers when it should not
	WronglyCut  int64 // other connections that ended without the peer or the sandbox ending them
}

func newCuts(l *ledger) *cuts {
	return &cuts{ledger: l, within: cutWithin, revoked: map[string]*revocation{}}
}

// publish enters a revocation. put makes the list available and says since when:
// it runs under the lock, so that no cut can be seen before it is known to be right.
func (c *cuts) publish(number, name string, open int, put func() (time.Time, error)) (time.Time, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, err := put()
	if err != nil {
		return at, err
	}
	c.books.Revocations++
	c.revoked[number] = &revocation{name: name, at: at, open: open}
	return at, nil
}

// ended enters a connection that the daemon ended, at a time.
func (c *cuts) ended(number, name string, at time.Time, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return
	}
	r, ok := c.revoked[number]
	if !ok || at.Before(r.at) {
		c.books.WronglyCut++
		c.ledger.remark(fmt.Sprintf("wrongly cut: a connection of %s: %v", name, err))
		return
	}
	r.cut++
	r.takesEffect(at)
	if at.After(r.lastCut) {
		r.lastCut = at
	}
	c.books.Cut++
	c.samples = append(c.samples, at.Sub(r.at))
}

func (r *revocation) takesEffect(at time.Time) {
	if r.effective.IsZero() || at.Before(r.effective) {
		r.effective = at
	}
}

// request enters a request on an open connection. One of a revoked peer that fails
// is no failure; one that is answered too late after the revocation is worse.
func (c *cuts) request(number, name string, begun time.Time, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, revoked := c.revoked[number]
	switch {
	case revoked && err != nil:
		return
	case revoked && begun.Sub(r.at) > c.within:
		c.served(fmt.Sprintf("%s: a request was answered more than %s after its revocation", name, c.within))
	}
	c.ledger.request(name, err)
}

// tried enters a new connection of a peer with one request on it, begun at a time.
// resumed: the daemon took up a session from before.
func (c *cuts) tried(number, name string, begun time.Time, resumed bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, revoked := c.revoked[number]
	switch {
	case !revoked:
		c.ledger.request(name, err)
	case err != nil:
		r.refused++
		r.takesEffect(time.Now())
		c.books.Refused++
		if resumed {
			c.books.Resumptions++
		}
	case begun.Sub(r.at) > c.within, !r.effective.IsZero() && begun.After(r.effective):
		c.served(fmt.Sprintf("%s: a new connection was accepted although it is revoked (resumed: %t)", name, resumed))
	default:
		c.ledger.request(name, nil) // the list is on its way
	}
}

func (c *cuts) served(text string) {
	c.books.Served++
	c.ledger.remark(text)
}

// standing is what became of one revocation: how many of its connections are still
// open, and how many new ones were refused.
func (c *cuts) standing(number string) (open, refused int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok := c.revoked[number]
	if !ok {
		return 0, 0
	}
	return r.open - r.cut, r.refused
}

// lastCut is when the last connection of a revoked peer was cut; zero: none was.
func (c *cuts) lastCut(number string) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r, ok := c.revoked[number]; ok {
		return r.lastCut
	}
	return time.Time{}
}

// uncut enters that connections were open too long.
func (c *cuts) uncut(name string, open int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.books.Served += int64(open)
	c.ledger.remark(fmt.Sprintf("%s: %d of its connections still open %s after its revocation", name, open, c.within))
}

// proved enters that all was tried for a revoked peer, whatever came of it.
func (c *cuts) proved() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.books.Proved++
}

// close says that what ends from now on is ended by the sandbox.
func (c *cuts) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
}

func (c *cuts) totals() (cutBooks, Latency) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.books, distribution(c.samples)
}

// watch returns conn; if the other side ends it, that is entered. It is for
// connections of peers that are never revoked.
func (c *cuts) watch(conn net.Conn, name string) net.Conn {
	return &watched{Conn: conn, cuts: c, name: name}
}

type watched struct {
	net.Conn
	cuts *cuts
	name string
	done atomic.Bool // ended by us, or entered
}

// Read reads, and enters the end.
func (w *watched) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	if err != nil && !w.done.Swap(true) {
		w.cuts.ended("", w.name, time.Now(), plainError(err))
	}
	return n, err
}

// Close ends the connection on our side.
func (w *watched) Close() error {
	w.done.Store(true)
	return w.Conn.Close()
}
