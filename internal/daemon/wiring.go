package daemon

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"slices"
	"sync/atomic"
	"time"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/manage"
	"github.com/spinecert/spinecert/internal/tunnel"
	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/trust"
)

// plan translates the configuration for rotate.
func (d *Daemon) plan(c *config.Config) rotate.Plan { return manage.Plan(c, d.store.Directory) }

// endpointConfig translates the TLS side of a tunnel. Pins were checked by config.
func endpointConfig(t config.Tunnel) (rotate.EndpointConfig, error) {
	peers := trust.Names(t.Peers...)
	if t.AnyPeer {
		peers = trust.AnyName()
	}
	peers, err := peers.WithPins(t.Pins...)
	if err != nil {
		return rotate.EndpointConfig{}, err
	}
	c := rotate.EndpointConfig{
		Role: rotate.Server, Peers: peers, Revocation: trust.Mode(t.Revocation), AcceptableCAs: t.AcceptableCAs,
		MinVersion: t.TLS.MinVersion, MaxVersion: t.TLS.MaxVersion, CipherSuites: t.TLS.CipherSuites,
		NoResumption: !t.TLS.Resumption, ServerName: t.ServerName, Audit: t.Audit,
		Late: true, // binding.Accepted is asked about each connection, before a byte is forwarded
	}
	if t.Direction == config.Outbound {
		c.Role = rotate.Client
	}
	return c, nil
}

// sameEndpoint reports whether two tunnels use TLS alike, so that an endpoint and
// the sessions it can resume outlive a reload that does not concern them.
func sameEndpoint(a, b config.Tunnel) bool {
	return a.Direction == b.Direction && a.Audit == b.Audit && a.Slot == b.Slot && a.AnyPeer == b.AnyPeer && slices.Equal(a.Peers, b.Peers) &&
		slices.Equal(a.Pins, b.Pins) && a.Revocation == b.Revocation && slices.Equal(a.AcceptableCAs, b.AcceptableCAs) &&
		a.TLS.MinVersion == b.TLS.MinVersion && a.TLS.MaxVersion == b.TLS.MaxVersion &&
		slices.Equal(a.TLS.CipherSuites, b.TLS.CipherSuites) && a.TLS.Resumption == b.TLS.Resumption && a.ServerName == b.ServerName
}

// tunnelConfig translates a tunnel. The error is of a socket that systemd should have passed.
func (d *Daemon) tunnelConfig(t config.Tunnel, e tunnel.Endpoint, limits config.Limits) (tunnel.Config, error) {
	c := tunnel.Config{
		Direction: tunnel.Direction(t.Direction), Forward: tunnel.Forward(t.Forward), Endpoint: e,
		ProxyProtocol: t.ProxyProtocol, AllowFrom: t.AllowFrom, Handshake: t.Timeouts.Handshake, Dial: t.Timeouts.Dial,
		Idle: t.Timeouts.Idle, KeepAlive: t.Timeouts.KeepAlive, Connections: t.Connections, ChainBytes: int(limits.ChainBytes),
		Audit: t.Audit, Users: allowedUsers(t),
	}
	if t.Timeouts.KeepAlive == 0 {
		c.KeepAlive = -1 // off, see tunnel.Config
	}
	var err error
	c.Listen, err = d.listeners(t)
	return c, err
}

// allowedUsers returns the users of this host who may use an outbound tunnel, nil
// for everyone. A name that the host does not have permits nobody: config has warned
// of it, and a reload looks again.
func allowedUsers(t config.Tunnel) map[uint32]bool {
	if t.Direction != config.Outbound || t.AllowAllUsers {
		return nil
	}
	users := make(map[uint32]bool, len(t.AllowUsers))
	for _, name := range t.AllowUsers {
		if uid, err := config.UserID(name); err == nil {
			users[uid] = true
		}
	}
	return users
}

func gateLimits(l config.Limits) tunnel.Limits {
	return tunnel.Limits{Handshakes: l.Handshakes, PerSource: l.PerSource, Connections: l.Connections}
}

// binding is the endpoint of a tunnel that may still be to come: during a reload
// the listeners are tried before the slots of the new configuration exist.
type binding struct {
	endpoint atomic.Pointer[rotate.Endpoint]
}

// TLS returns the configuration for one connection, see rotate.Endpoint.
func (b *binding) TLS() (*tls.Config, error) {
	e := b.endpoint.Load()
	if e == nil {
		return nil, rotate.ErrNotReady
	}
	return e.TLS()
}

// Accepted returns the verdict on a peer that proved its key, see rotate.Endpoint.
func (b *binding) Accepted(ctx context.Context, cs tls.ConnectionState) (trust.Verdict, error) {
	e := b.endpoint.Load()
	if e == nil {
		return trust.Verdict{}, rotate.ErrNotReady
	}
	return e.Accepted(ctx, cs)
}

// Review judges the peer of an open connection again, see rotate.Endpoint.
func (b *binding) Review(chain []*x509.Certificate, v trust.Verdict, now time.Time, undated bool) (trust.Verdict, error) {
	e := b.endpoint.Load()
	if e == nil {
		return v, rotate.ErrNotReady
	}
	return e.Review(chain, v, now, undated)
}

func (b *binding) close() {
	if e := b.endpoint.Load(); e != nil {
		e.Close()
	}
}

func (b *binding) slot() *rotate.Slot {
	if e := b.endpoint.Load(); e != nil {
		return e.Slot()
	}
	return nil
}
