package daemon

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/spinecert/spinecert/trust"
)

// The bounds of who connects to the pages from elsewhere. Whoever has no certificate of a peer can only take
// a handshake, for as long as one may take.
const (
	webHandshake = 10 * time.Second
	webSettling  = 64  // handshakes at once
	webOfSource  = 16  // of one source
	webOpen      = 128 // connections of those who were let in
)

// webListener accepts connections whose peer has shown who it is, and is permitted.
type webListener struct {
	net.Listener
	ready chan net.Conn
	ended chan struct{}
	end   func()
}

// listen returns a listener on l that accepts those who may look. It works until it is closed, or l is.
func (p *pagePeers) listen(ctx context.Context, l net.Listener) net.Listener {
	w := &webListener{Listener: l, ready: make(chan net.Conn), ended: make(chan struct{})}
	w.end = sync.OnceFunc(func() { close(w.ended) })
	go p.accept(ctx, w)
	return w
}

// Accept returns the next connection, whose handshake is complete.
func (w *webListener) Accept() (net.Conn, error) {
	select {
	case c := <-w.ready:
		return c, nil
	case <-w.ended:
		return nil, net.ErrClosed
	}
}

// Close ends it, and what it listens on.
func (w *webListener) Close() error {
	w.end()
	return w.Listener.Close()
}

func (p *pagePeers) accept(ctx context.Context, w *webListener) {
	defer w.end()
	for {
		c, err := w.Listener.Accept()
		switch {
		case err == nil:
			go p.admit(ctx, w, c)
		case errors.Is(err, net.ErrClosed):
			return
		default: // no descriptor is left, say
			select {
			case <-time.After(100 * time.Millisecond):
			case <-w.ended:
				return
			}
		}
	}
}

// admit has a peer show who it is, and hands the connection on if it may look.
func (p *pagePeers) admit(ctx context.Context, w *webListener, raw net.Conn) {
	source := any(sourceOf(raw.RemoteAddr()))
	if !p.enter(source) {
		_ = raw.Close()
		return
	}
	c, peer := p.shake(ctx, raw)
	p.leave(source)
	if c == nil {
		_ = raw.Close()
		return
	}
	if !p.register(c, peer) {
		_ = raw.Close()
		return
	}
	select {
	case w.ready <- c:
	case <-w.ended:
		p.forget(c)
		_ = raw.Close()
	}
}

// enter counts a handshake that begins, if there is room for it.
func (p *pagePeers) enter(source any) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := 0
	for _, n := range p.settling {
		all += n
	}
	if all >= webSettling || p.settling[source] >= webOfSource {
		return false
	}
	p.settling[source]++
	return true
}

func (p *pagePeers) leave(source any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.settling[source]--; p.settling[source] <= 0 {
		delete(p.settling, source)
	}
}

// register keeps a peer that was let in, if there is room for it.
func (p *pagePeers) register(c net.Conn, peer *pagePeer) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.open) >= webOpen {
		return false
	}
	p.open[c] = peer
	return true
}

// shake completes the handshake and judges the peer, which has proved its key by then. It returns nil for
// one that may not look. While the slot serves nothing, nobody may.
func (p *pagePeers) shake(ctx context.Context, raw net.Conn) (*tls.Conn, *pagePeer) {
	b := p.current()
	config, err := b.TLS()
	if err != nil {
		return nil, nil
	}
	limit := p.d.currentConfig().Limits.ChainBytes
	counted := &countedConn{Conn: raw, left: limit, limit: limit}
	c := tls.Server(counted, config)
	_ = raw.SetDeadline(time.Now().Add(webHandshake)) // only fails on a connection that is gone
	ctx, cancel := context.WithTimeout(ctx, webHandshake)
	defer cancel()
	if err := c.HandshakeContext(ctx); err != nil {
		p.refuse(raw.RemoteAddr(), presented(c), err)
		return nil, nil
	}
	state := c.ConnectionState()
	verdict, err := b.Accepted(ctx, state)
	if err != nil {
		p.refuse(raw.RemoteAddr(), state.PeerCertificates, err)
		return nil, nil
	}
	counted.limit = 0
	_ = raw.SetDeadline(time.Time{})
	return c, &pagePeer{conn: raw, chain: state.PeerCertificates, by: b, verdict: verdict}
}

// presented is the chain of a peer whose handshake failed, as far as it came.
func presented(c *tls.Conn) []*x509.Certificate { return c.ConnectionState().PeerCertificates }

// countedConn bounds what a peer may send before it has shown who it is. It is read by one goroutine at a time.
type countedConn struct {
	net.Conn
	left, limit int64 // limit 0: none
}

// Read reads, within the limit.
func (c *countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.limit == 0 {
		return n, err
	}
	if c.left -= int64(n); c.left < 0 {
		return 0, &trust.VerifyError{Reason: trust.TooLarge, Detail: fmt.Sprintf("the peer sent more than %d bytes before it had shown who it is", c.limit), Advice: "see limits.chain_bytes"}
	}
	return n, err
}
