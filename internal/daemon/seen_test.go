package daemon

import (
	"context"
	"crypto/x509"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/manage"
	"github.com/spinecert/spinecert/internal/state"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/internal/tunnel"
	"github.com/spinecert/spinecert/trust"
)

// TestSeenWhereTheTunnelIsNow: a peer is remembered of the environment of the slot
// that its tunnel has now, and of none once the tunnel is gone.
func TestSeenWhereTheTunnelIsNow(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	sub := testpki.NewRoot(t).SubCA(t)
	testpki.WriteFile(t, filepath.Join(base, "trust.pem"), sub.BundlePEM(), 0o644)
	c, err := config.Parse([]byte(`default_environment: live
environments: {live: {profile: private, trust: [trust.pem]}, other: {profile: private, trust: [trust.pem]}}
slots:
  first: {fqdn: pcs.thirdparty.nhs.uk, managed: {}}
  second: {environment: other, fqdn: pcs.thirdparty.nhs.uk, managed: {}}
admin: {socket: {path: admin.sock}}
state: {directory: state}
`), filepath.Join(base, "spinecert.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	dir, err := state.Lock(c.State.Directory, state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	d := newDaemon(Options{Log: io.Discard}, c, dir, make(chan os.Signal, 1))
	settle(t, d, manage.Plan(c, dir), func(context.Context) error { return nil })
	h := tunnel.Handshake{Result: tunnel.Accepted, Verdict: trust.Verdict{Name: peerName,
		Chain: []*x509.Certificate{sub.Issue(t, testpki.Name(peerName)).Cert, sub.Cert}}}

	inForce := func(slots map[string]string) { // by tunnel
		t.Helper()
		next := *c
		for name, slot := range slots {
			next.Tunnels = append(next.Tunnels, config.Tunnel{Name: name, Direction: config.Inbound, Slot: slot, Peers: []string{peerName}, Revocation: "off",
				Listen: []config.Listener{{Network: "tcp", Address: "127.0.0.1:0"}}, Forward: config.Address{Network: "tcp", Address: "127.0.0.1:1"}})
		}
		prepared, err := d.prepareTunnels(&next)
		if err == nil {
			err = d.commit(&next, prepared, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	want := func(step string, live, other int) {
		t.Helper()
		d.noteSeen("ssp-in", h)
		d.noteSeen("nobody", h)
		if l, o := len(d.seen.of("live")), len(d.seen.of("other")); l != live || o != other {
			t.Errorf("%s: %d peers in live, %d in other; want %d and %d", step, l, o, live, other)
		}
		d.seen.mu.Lock()
		d.seen.peers = nil
		d.seen.mu.Unlock()
	}
	want("before its tunnel is there", 0, 0)
	inForce(map[string]string{"ssp-in": "first", "more": "second"})
	want("at first", 1, 0)
	inForce(map[string]string{"ssp-in": "second", "more": "second"})
	want("with another slot", 0, 1)
	inForce(map[string]string{"more": "second"})
	want("when it is gone", 0, 0)
	inForce(nil)
}
