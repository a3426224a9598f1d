package tunnel

import (
	"errors"
	"io"
	"net"
	"time"

	"github.com/spinecert/spinecert/trust"
)

// settle says that the handshake is over.
func (c *Conn) settle() {
	if !c.settled {
		c.settled = true
		c.tunnel.gate.settle(c.source)
	}
}

// stop ends the connection from any goroutine; the first cause stays. It returns
// false if there was one.
func (c *Conn) stop(cause string, err error) bool {
	c.mu.Lock()
	if c.cause != "" {
		c.mu.Unlock()
		return false
	}
	c.cause, c.err = cause, err
	conn, streams := c.tls, c.streams
	c.mu.Unlock()

	switch {
	case conn == nil: // nothing has passed that could be taken for a whole
		closeAll(streams)
	case cause == CauseIdle, cause == CauseDrain, cause == CauseForward:
		// In good order, as far as that goes without waiting for a peer: Close
		// spends up to five seconds on the alert.
		go func() {
			_ = conn.Close()
			closeAll(streams)
		}()
	default:
		// Nobody may take this for a proper end: the TLS side gets no
		// close_notify, the plain side a reset, as stunnel does by default.
		if tcp, ok := streams[c.plainIndex()].(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // only fails on a socket that is gone
		}
		closeAll(streams)
	}
	return true
}

func closeAll(streams [2]stream) {
	for _, s := range streams {
		if s != nil {
			_ = s.Close()
		}
	}
}

// plainIndex returns which of the streams does not carry TLS.
func (c *Conn) plainIndex() int {
	if c.set.Direction == Inbound {
		return 1
	}
	return 0
}

// finish takes the connection out of the books. It is called once, when no other
// goroutine works for the connection.
func (c *Conn) finish() {
	c.mu.Lock()
	if c.cause == "" {
		c.cause = CauseEnd
		if c.truncated {
			c.cause = CauseTruncated
		}
		closeAll(c.streams)
	}
	cause, err, opened := c.cause, c.err, c.opened
	c.mu.Unlock()

	if c.unproved != nil {
		c.concludeUnproved(err)
	}
	c.settle()
	t := c.tunnel
	if opened {
		c.telling.Lock() // a Review that has cut it says so first
		t.observer.closed(c, Closed{Cause: cause, Remote: c.remote, Err: err,
			Received: c.received.Load(), Sent: c.sent.Load(), Duration: time.Since(c.accepted)})
		c.telling.Unlock()
	}
	t.gate.leave()
	t.mu.Lock()
	delete(t.conns, c)
	if t.empty != nil && len(t.conns) == 0 {
		close(t.empty)
	}
	t.mu.Unlock()
}

// concludeUnproved reports a TLS 1.3 handshake whose peer never sent a byte: it
// failed if the peer ended with an alert or a reset, else it was accepted, also
// if Review cut it since.
func (c *Conn) concludeUnproved(err error) {
	h := *c.unproved
	c.unproved = nil
	if err != nil && !errors.Is(err, io.EOF) && refusalOf(err) == nil {
		h = Handshake{Result: Failed, Reason: string(trust.Protocol), Resumed: h.Resumed, Err: explain(err), Duration: h.Duration}
	}
	c.report(h)
}
