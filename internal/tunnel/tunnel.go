package tunnel

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Tunnel accepts connections on its listeners and forwards them, with TLS on
// one side. It does nothing before its first Commit.
type Tunnel struct {
	name     string
	gate     *Gate
	observer Observer
	// ctx is the parent of dials and ends with Close; patient has its values
	// and no end, because crypto/tls starts a goroutine to watch one, and the
	// deadline on the socket says when a handshake is over.
	ctx     context.Context
	cancel  context.CancelFunc
	patient context.Context

	settings       atomic.Pointer[settings] // what new connections get
	epoch          atomic.Uint64            // raised when a Review begins, before it lists connections
	reviews        sync.Mutex               // one Review at a time
	received, sent atomic.Int64
	away           atomic.Bool // not ready: what is accepted all the same is closed

	// Guarded by gate.sockets.mu.
	ready, closed bool
	told          bool // SetReady was called
	retry         *time.Timer
	pause         time.Duration
	troubled      map[string]string // by key: the last error that was reported
	ports         map[string]string // by key: the address it had, so that port 0 stays the same one

	mu       sync.Mutex // guards the rest
	conns    map[*Conn]struct{}
	refusing bool
	empty    chan struct{} // made by Drain, closed when conns is empty
	sweeping bool
}

// New returns a tunnel that shares g with the others. It is not ready. Only the
// values of ctx count: a tunnel ends with Drain or Close, and what is on its way
// when a signal ends a context must still be forwarded.
func New(ctx context.Context, name string, g *Gate, o Observer) *Tunnel {
	t := &Tunnel{
		name: name, gate: g, observer: o,
		troubled: make(map[string]string),
		ports:    make(map[string]string),
		conns:    make(map[*Conn]struct{}),
	}
	t.patient = context.WithoutCancel(ctx)
	t.ctx, t.cancel = context.WithCancel(t.patient)
	return t
}

// Name returns the name of the tunnel.
func (t *Tunnel) Name() string { return t.name }

// SetReady opens or closes the listeners: a tunnel whose slot serves nothing
// keeps them closed. Those of Listen.File cannot be closed: connections to them are, at
// once. Open connections stay. What cannot be opened is reported as Trouble and tried
// again. Before the first call nothing listens, and nothing is closed.
func (t *Tunnel) SetReady(ready bool) {
	ss := &t.gate.sockets
	ss.mu.Lock()
	changed := t.ready != ready || !t.told
	t.ready, t.told = ready, true
	t.away.Store(!ready)
	var events []Trouble
	if changed {
		t.pause = 0
		events = t.reconcileLocked()
	}
	ss.mu.Unlock()
	t.report(events)
}

const (
	listenPauseFirst   = 250 * time.Millisecond
	listenPauseLongest = 15 * time.Second
)

// reconcileLocked opens and closes listeners until they are as the settings and
// the readiness say, and arranges to be called again for those that fail.
func (t *Tunnel) reconcileLocked() []Trouble {
	ss := &t.gate.sockets
	for key, s := range ss.byKey {
		if s.owner.Load() == t && s.claim == nil && !t.wantsLocked(key) {
			ss.closeLocked(key, s)
		}
	}
	var events []Trouble
	failed := false
	for _, l := range t.wantedLocked() {
		err := t.openLocked(l)
		failed = failed || err != nil
		events = t.noteLocked(events, l, err)
	}
	t.retryLocked(failed)
	return events
}

// wantedLocked returns the listeners the tunnel ought to have now.
func (t *Tunnel) wantedLocked() []listen {
	set := t.settings.Load()
	if set == nil || t.closed || !t.told {
		return nil
	}
	if t.ready {
		return set.listen
	}
	var others []listen
	for _, l := range set.listen {
		if l.File != nil {
			others = append(others, l)
		}
	}
	return others
}

func (t *Tunnel) wantsLocked(key string) bool {
	for _, l := range t.wantedLocked() {
		if l.key == key {
			return true
		}
	}
	return false
}

// openLocked has t listen on l.
func (t *Tunnel) openLocked(l listen) error {
	ss := &t.gate.sockets
	s := ss.byKey[l.key]
	if s == nil {
		var err error
		if s, err = ss.openLocked(t.ctx, l, t.ports[l.key]); err != nil {
			return err
		}
		ss.byKey[l.key] = s
	}
	if owner := s.owner.Load(); owner != nil && owner != t || s.claim != nil {
		return &net.OpError{Op: "listen", Net: l.Network, Err: errTaken}
	}
	return s.giveLocked(t, l)
}

// noteLocked adds an event to events if err is news.
func (t *Tunnel) noteLocked(events []Trouble, l listen, err error) []Trouble {
	if err == nil {
		if _, was := t.troubled[l.key]; !was {
			return events
		}
		delete(t.troubled, l.key)
		return append(events, Trouble{Kind: TroubleListen, Address: l.Address})
	}
	if t.troubled[l.key] == err.Error() {
		return events
	}
	t.troubled[l.key] = err.Error()
	return append(events, Trouble{Kind: TroubleListen, Address: l.Address, Err: err})
}

func (t *Tunnel) retryLocked(failed bool) {
	if t.retry != nil {
		t.retry.Stop()
		t.retry = nil
	}
	if !failed {
		t.pause = 0
		return
	}
	t.pause = min(max(2*t.pause, listenPauseFirst), listenPauseLongest)
	t.retry = time.AfterFunc(t.pause, func() {
		t.gate.sockets.mu.Lock()
		events := t.reconcileLocked()
		t.gate.sockets.mu.Unlock()
		t.report(events)
	})
}

func (t *Tunnel) report(events []Trouble) {
	for _, e := range events {
		t.observer.trouble(e)
	}
}

// Addrs returns the addresses the tunnel listens on at present, in the order of
// the configuration, with the port that a port 0 became.
func (t *Tunnel) Addrs() []net.Addr {
	ss := &t.gate.sockets
	ss.mu.Lock()
	defer ss.mu.Unlock()
	var addrs []net.Addr
	for _, s := range t.servingLocked() {
		addrs = append(addrs, s.ln.Addr())
	}
	return addrs
}

// Shown returns the addresses for people: as Addrs does, with the name of one that came
// as Listen.File.
func (t *Tunnel) Shown() []string {
	ss := &t.gate.sockets
	ss.mu.Lock()
	defer ss.mu.Unlock()
	var shown []string
	for _, s := range t.servingLocked() {
		address := s.ln.Addr().String()
		if s.listen.File != nil {
			address += " (" + s.address + ")"
		}
		shown = append(shown, address)
	}
	return shown
}

// servingLocked returns the sockets that serve, in the order of the configuration.
func (t *Tunnel) servingLocked() []*socket {
	set := t.settings.Load()
	if set == nil || !t.ready {
		return nil
	}
	var serving []*socket
	for _, l := range set.listen {
		if s := t.gate.sockets.byKey[l.key]; s != nil && s.owner.Load() == t {
			serving = append(serving, s)
		}
	}
	return serving
}

// Stats are the counts of a tunnel.
type Stats struct {
	Connections int   // open now, handshakes included
	Received    int64 // bytes of plaintext from TLS peers, ever
	Sent        int64 // bytes of plaintext to TLS peers, ever
}

// Stats returns the counts of the tunnel.
func (t *Tunnel) Stats() Stats {
	t.mu.Lock()
	n := len(t.conns)
	t.mu.Unlock()
	return Stats{Connections: n, Received: t.received.Load(), Sent: t.sent.Load()}
}

// Connections returns the open connections whose peer was judged.
func (t *Tunnel) Connections() []*Conn {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.judgedLocked()
}

func (t *Tunnel) judgedLocked() []*Conn {
	open := make([]*Conn, 0, len(t.conns))
	for c := range t.conns {
		if c.judged {
			open = append(open, c)
		}
	}
	return open
}

// Drain closes the listeners, waits until all connections have ended or ctx
// ends, closes those that are left, and returns their number. The tunnel is of
// no use afterwards.
func (t *Tunnel) Drain(ctx context.Context) int {
	t.shut()
	empty := t.refuse()
	select {
	case <-empty:
		t.cancel()
		return 0
	case <-ctx.Done():
	}
	t.cancel()
	t.mu.Lock()
	left := make([]*Conn, 0, len(t.conns))
	for c := range t.conns {
		left = append(left, c)
	}
	t.mu.Unlock()
	cut := 0
	for _, c := range left {
		if c.stop(CauseDrain, nil) {
			cut++
		}
	}
	<-empty
	return cut
}

// Close is Drain without patience.
func (t *Tunnel) Close() int {
	ctx, cancel := context.WithCancel(t.patient)
	cancel()
	return t.Drain(ctx)
}

// shut closes the listeners for good. What they had accepted is served, though it
// was at the last moment: where another process goes on with the socket, nobody may
// notice that.
func (t *Tunnel) shut() {
	ss := &t.gate.sockets
	ss.mu.Lock()
	t.closed = true
	var accepting []*socket
	for _, s := range ss.byKey {
		if s.owner.Load() == t && s.runs {
			accepting = append(accepting, s)
		}
	}
	events := t.reconcileLocked()
	ss.mu.Unlock()
	t.report(events)
	for _, s := range accepting {
		select {
		case <-s.stop:
			<-s.ended
		default: // it goes to another tunnel
		}
	}
}

// refuse takes no more connections, and returns what is closed when there are
// none.
func (t *Tunnel) refuse() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.refusing = true
	if t.empty == nil {
		t.empty = make(chan struct{})
		if len(t.conns) == 0 {
			close(t.empty)
		}
	}
	return t.empty
}
