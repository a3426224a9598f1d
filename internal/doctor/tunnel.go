package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/spinecert/spinecert/internal/condition"
	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/trust"
)

// wired is one tunnel.
type wired struct {
	Inside
	Wired
}

func (w wired) name() string { return w.Wired.Config.Name }

func (w wired) outbound() bool { return w.Wired.Config.Direction == config.Outbound }

// condition is the ID of one of the tunnel.
func (w wired) condition(code condition.Code) string {
	return condition.ID(code, condition.Tunnel, w.name(), "")
}

// tunnelOpen: it listens.
func tunnelOpen(_ context.Context, w wired, r *report) {
	switch w.State {
	case "": // no daemon
	case "open":
		r.ok(w.name(), "tunnel %s is open: %s on %s", w.name(), w.Wired.Config.Direction, strings.Join(w.Listen, " "))
	case "closed":
		r.fail(w.name(), "see the line of the slot", "tunnel %s is closed: slot %s has no identity", w.name(), w.Wired.Config.Slot)
	default:
		r.fail(w.name(), "free the address, or correct listen", "tunnel %s does not listen: %s", w.name(), cmp.Or(w.LastError, w.State))
		r.as(w.condition(condition.TunnelDown))
	}
}

// tunnelPolicy: what lets in more than it must.
func tunnelPolicy(_ context.Context, w wired, r *report) {
	c := w.Wired.Config
	if c.Audit {
		r.warn(c.Name, "look at spinecert status --refusals; when nothing in it is wanted, set policy: enforce", "tunnel %s has policy: audit: whoever would be refused is let through, and counted", c.Name)
		r.as(w.condition(condition.PolicyAudit))
	}
	if c.AnyPeer {
		r.warn(c.Name, "name the peers in peers", "tunnel %s has peers: [\"*\"]: every certificate of environment %s is let in", c.Name, w.environmentOf(c.Slot))
	}
	if c.AllowAllUsers {
		r.warn(c.Name, "name the users in allow_users, or listen on a unix socket", "tunnel %s has allow_users: [\"*\"]: every user of this host may use the identity of slot %s", c.Name, c.Slot)
	}
	e, _ := w.Inside.Config.Environment(w.environmentOf(c.Slot))
	if c.Revocation != e.Revocation && trust.Mode(c.Revocation) != trust.Require {
		r.warn(c.Name, "take revocation out of the tunnel", "tunnel %s has revocation: %s, environment %s has %s", c.Name, c.Revocation, e.Name, e.Revocation)
		r.as(w.condition(condition.RevocationOff))
	}
}

func (w wired) environmentOf(slot string) string {
	s, _ := w.Inside.Config.Slot(slot)
	return s.Environment
}

// tunnelForward: the service behind an inbound tunnel takes connections.
func tunnelForward(ctx context.Context, w wired, r *report) {
	if w.outbound() {
		return
	}
	conn, err := w.dial(ctx)
	if err != nil {
		r.fail(w.name(), "start the service, or correct forward", "tunnel %s: nothing takes a connection at %s: %v", w.name(), w.Wired.Config.Forward.Address, err)
		return
	}
	_ = conn.Close() // it was opened, which is all
	r.ok(w.name(), "tunnel %s: the service at %s takes connections", w.name(), w.Wired.Config.Forward.Address)
}

// dial connects to where the tunnel forwards to, as long as the tunnel would wait.
func (w wired) dial(ctx context.Context) (net.Conn, error) {
	f := w.Wired.Config.Forward
	d := net.Dialer{Timeout: cmp.Or(w.Wired.Config.Timeouts.Dial, 5*time.Second)}
	conn, err := d.DialContext(ctx, f.Network, f.Address)
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		err = op.Err // the address is in the sentence already
	}
	return conn, err
}

// tunnelFarEnd: the other side of an outbound tunnel is there, is who it should be,
// and takes our certificate.
func tunnelFarEnd(ctx context.Context, w wired, r *report) {
	if !w.outbound() || w.Endpoint == nil || w.State == "closed" {
		return
	}
	address := w.Wired.Config.Forward.Address
	conn, err := w.dial(ctx)
	if err != nil {
		r.fail(w.name(), "is the address right, and is there a route (HSCN) and a firewall rule for it?", "tunnel %s: connect to %s: %v", w.name(), address, err)
		return
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(w.Wired.Config.Timeouts.Handshake, 10*time.Second))
	defer cancel()
	f := meet(ctx, conn, w.Endpoint)
	what := fmt.Sprintf("tunnel %s: %s", w.name(), address)
	f.judge(w, what, r)
}
