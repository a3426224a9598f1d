package tunnel

import (
	"errors"
	"io"
	"net"
	"time"
)

// relay starts moving bytes both ways. The goroutines are small on purpose: what
// waits for a quiet peer holds a stack of the smallest size and no buffer.
func (c *Conn) relay() {
	c.relaying.Store(2)
	if c.set.Idle > 0 {
		c.tunnel.sweep(c)
	}
	go c.fromTLS()
	go c.fromPlain()
}

// fromTLS moves what has come from the TLS peer. When there is no more, a new
// goroutine waits: this one's stack has grown to what crypto/tls needs, and would
// keep that size for as long as the peer is quiet.
func (c *Conn) fromTLS() {
	if err := c.decrypt(); !errors.Is(err, errAgain) {
		c.endTLS(err)
		return
	}
	go c.awaitTLS()
}

func (c *Conn) awaitTLS() {
	if err := c.secure.wait(); err != nil {
		c.endTLS(err)
		return
	}
	c.fromTLS()
}

// fromPlain is fromTLS for the other direction.
func (c *Conn) fromPlain() {
	if err := c.encrypt(); !errors.Is(err, errAgain) {
		c.endPlain(err)
		return
	}
	go c.awaitPlain()
}

func (c *Conn) awaitPlain() {
	if err := c.plain.wait(); err != nil {
		c.endPlain(err)
		return
	}
	c.fromPlain()
}

// decrypt moves what has come from the TLS peer, and returns errAgain when that
// is done. It takes all records that are there into one write.
func (c *Conn) decrypt() error {
	lender := &c.tunnel.gate.buffers
	for {
		buffer := lender.plain(c.big[0])
		n, err := fill(c.tls, *buffer)
		c.big[0] = n >= smallSize
		if n > 0 {
			if c.unproved != nil {
				c.report(*c.unproved)
				c.unproved = nil
			}
			if _, writeErr := c.plain.Write((*buffer)[:n]); writeErr != nil {
				err = writeErr
			} else {
				c.received.Add(int64(n))
				c.tunnel.received.Add(int64(n))
			}
		}
		lender.give(buffer)
		if err != nil {
			return err
		}
	}
}

// fill reads until p is full or r has no more at present.
func fill(r io.Reader, p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		m, err = r.Read(p[n:])
		n += m
	}
	return n, err
}

// recordSize is how much plaintext one TLS record holds at most.
const recordSize = 16 << 10

// encrypt moves what has come from the plain side, and returns errAgain when
// that is done.
func (c *Conn) encrypt() error {
	lender := &c.tunnel.gate.buffers
	for {
		buffer := lender.plain(c.big[1])
		n, err := c.plain.Read(*buffer)
		c.big[1] = n >= smallSize
		if n > 0 {
			if writeErr := c.writeTLS((*buffer)[:n]); writeErr != nil {
				err = writeErr
			} else {
				c.sent.Add(int64(n))
				c.tunnel.sent.Add(int64(n))
			}
		}
		lender.give(buffer)
		if err != nil {
			return err
		}
	}
}

// writeTLS sends p, in one write to the socket.
func (c *Conn) writeTLS(p []byte) error {
	if len(p) <= recordSize {
		_, err := c.tls.Write(p)
		return err
	}
	c.secure.gather(&c.tunnel.gate.buffers)
	_, err := c.tls.Write(p)
	return errors.Join(err, c.secure.flush())
}

// endTLS ends the direction from the TLS peer.
func (c *Conn) endTLS(err error) {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF): // within a record
		c.stop(CauseTruncated, err)
	case errors.Is(err, io.EOF):
		// Without a close_notify, at the end of a record, crypto/tls says EOF
		// all the same, "popular web sites seem to do this"; it is passed on
		// as an end and reported.
		c.truncated = c.secure.eof
		c.halfClose(c.plain.CloseWrite())
	default:
		c.stop(CauseError, err)
	}
	c.endOne()
}

// endPlain ends the direction to the TLS peer.
func (c *Conn) endPlain(err error) {
	if errors.Is(err, io.EOF) {
		c.halfClose(c.tls.CloseWrite())
	} else {
		c.stop(CauseError, err)
	}
	c.endOne()
}

// halfClose looks at the outcome of passing an end on. The other direction goes
// on; that a peer is gone altogether is found there.
func (c *Conn) halfClose(err error) {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		c.stop(CauseError, err)
	}
}

func (c *Conn) endOne() {
	if c.relaying.Add(-1) == 0 {
		c.finish()
	}
}

// idleParts is in how many parts Idle is looked at: a quiet connection is closed
// after Idle and at most a quarter more.
const idleParts = 4

// sweep has c, which has an idle timeout, looked at. One goroutine per tunnel
// compares byte counts, which costs the connections nothing; it ends when there
// is no connection left that needs it.
func (t *Tunnel) sweep(c *Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c.movedAt = time.Now()
	if t.sweeping {
		return
	}
	t.sweeping = true
	go t.sweepIdle(c.set.Idle / idleParts)
}

func (t *Tunnel) sweepIdle(pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for pause > 0 {
		select {
		case <-t.ctx.Done(): // closed: nothing is left to look at
			return
		case <-timer.C:
		}
		var idle []*Conn
		idle, pause = t.findIdle(time.Now())
		timer.Reset(pause)
		for _, c := range idle {
			c.stop(CauseIdle, nil)
		}
	}
}

// findIdle returns the connections that are over their idle timeout at now, and
// the pause until the next look, which is 0 if none is needed.
func (t *Tunnel) findIdle(now time.Time) (idle []*Conn, pause time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := range t.conns {
		if c.movedAt.IsZero() {
			continue // no timeout, or not relaying yet
		}
		if moved := c.received.Load() + c.sent.Load(); moved != c.moved {
			c.moved, c.movedAt = moved, now
		}
		if now.Sub(c.movedAt) >= c.set.Idle {
			idle = append(idle, c)
		}
		if part := max(c.set.Idle/idleParts, time.Millisecond); pause == 0 || part < pause {
			pause = part
		}
	}
	t.sweeping = pause > 0
	return idle, pause
}
