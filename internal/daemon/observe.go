package daemon

import (
	"crypto/x509"
	"errors"
	"time"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/tunnel"
	"github.com/spinecert/spinecert/trust"
)

// observer turns what one tunnel tells into counts and lines. None of it blocks.
func (d *Daemon) observer(name string, t *tally) tunnel.Observer {
	return tunnel.Observer{
		Handshake: func(h tunnel.Handshake) {
			now := time.Now()
			d.metrics.handshake(name, h)
			d.noteSeen(name, h)
			t.count(h, now)
			if h.Result != tunnel.Accepted {
				d.refused(&fault{tunnel: name, outbound: d.outbound(name), result: string(h.Result), reason: h.Reason, remote: h.Remote, leaf: leafOf(h), err: h.Err}, t.refusals, now)
			}
		},
		Cut: func(c *tunnel.Conn, why *trust.VerifyError) {
			now := time.Now()
			d.handOver(func() { d.refused(d.faultOf(name, resultCut, c, why), t.cuts, now) })
		},
		WouldCut: func(c *tunnel.Conn, why *trust.VerifyError) {
			now := time.Now()
			d.handOver(func() { d.refused(d.faultOf(name, string(tunnel.Audited), c, why), t.refusals, now) })
		},
		Closed: func(_ *tunnel.Conn, c tunnel.Closed) {
			switch c.Cause {
			case tunnel.CauseEnd, tunnel.CauseTruncated, tunnel.CauseError, tunnel.CauseForward:
			default:
				d.metrics.cut.WithLabelValues(name, c.Cause).Inc()
			}
		},
		Trouble: func(e tunnel.Trouble) {
			t.trouble(e)
			if e.Kind == tunnel.TroubleForward && !t.forwards.allow(time.Now()) {
				return
			}
			d.post(func() { d.recordTrouble(name, e) })
		},
	}
}

// outbound reports whether a tunnel is one at present.
func (d *Daemon) outbound(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.byName[name]
	return t != nil && t.config.Direction == config.Outbound
}

// tunnelCount is how many tunnels there are, those that drain included; at least 1.
func (d *Daemon) tunnelCount() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return max(len(d.tunnels)+len(d.removed), 1)
}

// leafOf is the certificate of a peer, as far as a handshake tells it.
func leafOf(h tunnel.Handshake) *x509.Certificate {
	if len(h.Chain) > 0 {
		return h.Chain[0]
	}
	var refusal *trust.VerifyError
	if errors.As(h.Err, &refusal) && refusal.Certificate != nil && !refusal.Certificate.IsCA {
		return refusal.Certificate
	}
	return nil
}

// faultOf is what is told of a connection that a review has ended, or would have.
func (d *Daemon) faultOf(name, result string, c *tunnel.Conn, why *trust.VerifyError) *fault {
	f := &fault{tunnel: name, outbound: d.outbound(name), result: result, reason: string(why.Reason), remote: c.Remote(), err: why}
	if chain := c.Chain(); len(chain) > 0 {
		f.leaf = chain[0]
	}
	return f
}
