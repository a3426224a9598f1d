package tunnel

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pires/go-proxyproto"

	"github.com/spinecert/spinecert/trust"
)

// Conn is one connection through a tunnel. Its methods may be called from
// several goroutines.
type Conn struct {
	tunnel   *Tunnel
	set      *settings
	first    stream     // what was accepted
	source   netip.Addr // counted by the Gate while in handshake
	accepted time.Time

	tls           *tls.Conn
	secure, plain wire
	remote        net.Addr // of the TLS peer
	chain         []*x509.Certificate
	unproved      *Handshake // accepted, as soon as the peer has shown that it accepts us

	judged    bool         // guarded by tunnel.mu; chain does not change any more
	settled   bool         // the Gate counts the source no longer
	truncated bool         // written by fromTLS, read by finish
	relaying  atomic.Int32 // goroutines that are left
	received  atomic.Int64
	sent      atomic.Int64
	big       [2]bool // the last turn of a direction filled a small buffer; each by its own goroutine

	// Of the sweep for idle connections.
	moved   int64
	movedAt time.Time

	telling sync.Mutex // held while a cut is made and told, and while the end is told

	mu      sync.Mutex
	verdict trust.Verdict  // the last one
	by      Endpoint       // the last that could judge the peer
	told    []trust.Reason // why it would have been refused or cut, see Config.Audit
	opened  bool           // let in: its end is reported
	streams [2]stream      // what stop closes
	cause   string         // why the connection ended, once it has
	err     error
}

// Remote returns the address of the TLS peer.
func (c *Conn) Remote() net.Addr { return c.remote }

// Chain returns the certificates the peer presented, its leaf first; none under
// Config.Audit, perhaps. It must not be changed.
func (c *Conn) Chain() []*x509.Certificate { return c.chain }

// Verdict returns what the Endpoint said last of the peer; it is zero while the
// peer is only let in by Config.Audit.
func (c *Conn) Verdict() trust.Verdict {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.verdict
}

// Cut ends the connection at once. cause is what Closed reports; it must be
// from a bounded set. Cutting twice, or what has ended, does nothing and
// returns false.
func (c *Conn) Cut(cause string) bool { return c.stop(cause, nil) }

var errAway = errors.New("refuse connection: the tunnel has nothing to serve")

// accept takes a new connection in, or closes it before any crypto.
func (t *Tunnel) accept(s stream) {
	set := t.settings.Load()
	if t.away.Load() {
		remote := s.RemoteAddr()
		_ = s.Close()
		t.observer.handshake(Handshake{Result: Failed, Reason: NotReady, Remote: remote, Err: errAway})
		return
	}
	addr := addrOf(s.RemoteAddr())
	limit := LimitAllowFrom
	if set.allows(addr) {
		var c *Conn
		if c, limit = t.enter(s, set, sourceOf(addr)); c != nil {
			go c.serve()
			return
		}
	}
	remote := s.RemoteAddr()
	_ = s.Close()
	if limit != "" {
		t.observer.handshake(Handshake{Result: Limited, Reason: limit, Remote: remote,
			Err: fmt.Errorf("refuse connection: limit %s", limit)})
	}
}

// enter registers a connection, or returns the limit that is reached; both are
// empty in a tunnel that is closed.
func (t *Tunnel) enter(s stream, set *settings, source netip.Addr) (*Conn, string) {
	if set.Direction == Outbound {
		source = netip.Addr{} // local services are not a flood
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.refusing {
		return nil, ""
	}
	if set.Connections > 0 && len(t.conns) >= set.Connections {
		return nil, LimitConnections
	}
	if limit := t.gate.admit(source); limit != "" {
		return nil, limit
	}
	c := &Conn{tunnel: t, set: set, first: s, source: source, accepted: time.Now(), remote: s.RemoteAddr()}
	c.streams[0] = s
	t.conns[c] = struct{}{}
	return c, ""
}

// serve brings the connection to the point where two relays take over. They get
// goroutines of their own, because the handshake has grown the stack of this one.
func (c *Conn) serve() {
	c.tune(c.first)
	var ready bool
	if c.set.Direction == Inbound {
		ready = c.serveInbound()
	} else {
		ready = c.serveOutbound()
	}
	if !ready {
		c.finish()
		return
	}
	c.first = nil
	c.relay()
}

func (c *Conn) serveInbound() bool {
	deadline := c.accepted.Add(c.set.Handshake)
	if !c.handshake(c.first, tls.Server, deadline) {
		return false
	}
	forward, ok := c.dial(c.set.Dial)
	if !ok {
		return false
	}
	if c.set.ProxyProtocol {
		_ = forward.SetWriteDeadline(time.Now().Add(c.set.Dial))
		header := proxyproto.HeaderProxyFromAddrs(2, c.remote, c.first.LocalAddr())
		if _, err := header.WriteTo(forward); err != nil {
			return c.forwardFailed(fmt.Errorf("write PROXY header: %w", err))
		}
		_ = forward.SetWriteDeadline(time.Time{})
	}
	return c.attachPlain(forward)
}

func (c *Conn) serveOutbound() bool {
	deadline := c.accepted.Add(c.set.Handshake)
	if err := c.set.permits(c.first); err != nil {
		c.report(Handshake{Result: Limited, Reason: LimitAllowUsers, Err: fmt.Errorf("refuse connection: limit %s: %w", LimitAllowUsers, err)})
		return false
	}
	if _, err := c.set.Endpoint.TLS(); err != nil { // before the peer is bothered
		c.report(Handshake{Result: Failed, Reason: NotReady, Err: err})
		return false
	}
	forward, ok := c.dial(min(c.set.Dial, c.set.Handshake))
	if !ok {
		return false
	}
	c.remote = forward.RemoteAddr()
	return c.handshake(forward, tls.Client, deadline) && c.attachPlain(c.first)
}

// handshake makes s the TLS side of the connection and reports the outcome.
func (c *Conn) handshake(s stream, role func(net.Conn, *tls.Config) *tls.Conn, deadline time.Time) bool {
	config, err := c.set.Endpoint.TLS()
	if err != nil {
		c.report(Handshake{Result: Failed, Reason: NotReady, Err: err})
		return false
	}
	if err := errors.Join(c.secure.attach(s), s.SetDeadline(deadline)); err != nil {
		c.report(Handshake{Result: Failed, Reason: string(trust.Protocol), Err: err})
		return false
	}
	l := &lease{tokens: &c.tunnel.gate.tokens, deadline: deadline}
	c.secure.beginHandshake(l, int64(c.set.ChainBytes)+framing)
	c.mu.Lock()
	c.tls = role(&c.secure, config)
	c.mu.Unlock()
	err = c.tls.HandshakeContext(c.tunnel.patient)
	l.release()
	c.secure.endHandshake(&c.tunnel.gate.buffers)
	if err != nil {
		result, reason := classify(err)
		c.report(Handshake{Result: result, Reason: reason, Err: explain(err)})
		c.linger(s, result)
		return false
	}
	if err := s.SetDeadline(time.Time{}); err != nil {
		c.report(Handshake{Result: Failed, Reason: string(trust.Protocol), Err: err})
		return false
	}
	return c.judge(s)
}

// judge asks for the verdict, and makes the connection one that Review looks at.
func (c *Conn) judge(s stream) bool {
	state, epoch := c.tls.ConnectionState(), c.tunnel.epoch.Load()
	ctx, cancel := context.WithDeadline(c.tunnel.ctx, c.accepted.Add(c.set.Handshake))
	verdict, err := c.set.Endpoint.Accepted(ctx, state)
	cancel()
	h := outcome(verdict, err, c.set.Audit)
	if h.passed() {
		c.verdict, c.by, c.chain = h.Verdict, c.set.Endpoint, state.PeerCertificates
		h = c.register(h, epoch)
	}
	h.Resumed = state.DidResume
	if !h.passed() {
		c.report(h)
		c.linger(s, h.Result)
		return false
	}
	c.settle()
	h.Duration = time.Since(c.accepted)
	if c.set.Direction == Outbound && state.Version >= tls.VersionTLS13 {
		// In TLS 1.3 a client is done before the server has looked at its
		// certificate: nothing is accepted before the first byte.
		c.unproved = &h
	} else {
		c.report(h)
	}
	c.tunnel.observer.opened(c)
	return true
}

// report tells the observer about the handshake.
func (c *Conn) report(h Handshake) {
	h.Remote = c.remote
	if h.Result != Accepted && c.tls != nil {
		h.Chain = c.tls.ConnectionState().PeerCertificates // read, whatever became of the handshake
	}
	if h.Duration == 0 {
		h.Duration = time.Since(c.accepted)
	}
	c.tunnel.observer.handshake(h)
}

const (
	lingerTime  = time.Second
	lingerBytes = 64 << 10
)

// linger lets a refused peer read its alert: a socket that is closed with
// unread bytes sends a reset, and the reset overtakes the alert. A flood gets
// no such courtesy.
func (c *Conn) linger(s stream, result Result) {
	if result == Limited || s.CloseWrite() != nil || s.SetDeadline(time.Now().Add(lingerTime)) != nil {
		return
	}
	var sink [512]byte
	for n := 0; n < lingerBytes; {
		m, err := s.Read(sink[:])
		if err != nil {
			return
		}
		n += m
	}
}

// dial connects to Forward.
func (c *Conn) dial(timeout time.Duration) (stream, bool) {
	d := c.set.dialer
	d.Timeout = timeout
	conn, err := d.DialContext(c.tunnel.ctx, c.set.Forward.Network, c.set.Forward.Address)
	if err != nil {
		return nil, c.forwardFailed(err)
	}
	s := conn.(stream) // checkAddress allows nothing else
	c.tune(s)
	return s, c.hold(s)
}

// forwardFailed reports that there is nobody to forward to. It returns false.
func (c *Conn) forwardFailed(err error) bool {
	err = fmt.Errorf("forward to %q: %w", c.set.Forward.Address, err)
	if c.stop(CauseForward, err) {
		c.tunnel.observer.trouble(Trouble{Kind: TroubleForward, Address: c.set.Forward.Address, Err: err})
	}
	return false
}

// attachPlain makes s the plain side of the connection.
func (c *Conn) attachPlain(s stream) bool {
	if err := c.plain.attach(s); err != nil {
		return c.forwardFailed(err)
	}
	c.plain.mode = nonBlocking
	return true
}

// tune sets what the kernel does for s; TCP_NODELAY is Go's default.
func (c *Conn) tune(s stream) {
	if tcp, ok := s.(*net.TCPConn); ok {
		_ = tcp.SetKeepAliveConfig(c.set.keepAlive()) // a socket that is gone says so at the next read
	}
}

// hold has stop close s as well. It returns false if the connection has ended.
func (c *Conn) hold(s stream) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != "" {
		_ = s.Close()
		return false
	}
	c.streams[1] = s
	return true
}
