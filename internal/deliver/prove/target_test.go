package prove

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/deliver/failure"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
)

// A name is a host name with addresses, on each of which something else may listen on
// one port.
type name struct {
	port      string
	addresses []netip.Addr
	met       []atomic.Int64 // handshakes, by address
	asked     atomic.Int64   // how often it was looked up
}

// newName serves leaves, by address. One that is nil hangs up; where there is none
// nobody listens.
func newName(t *testing.T, leaves map[int]*testpki.Leaf, addresses int) *name {
	t.Helper()
	n := &name{met: make([]atomic.Int64, addresses)}
	for range addresses {
		n.addresses = append(n.addresses, netip.MustParseAddr(ownIP()))
	}
	for i, leaf := range leaves {
		port := "0"
		if n.port != "" {
			port = n.port
		}
		l, err := net.Listen("tcp", net.JoinHostPort(n.addresses[i].String(), port))
		if err != nil {
			t.Fatal(err)
		}
		_, n.port, _ = net.SplitHostPort(l.Addr().String())
		serveOn(t, l, func(_ int, c net.Conn) {
			n.met[i].Add(1)
			if leaf != nil {
				hang(tls.Server(c, &tls.Config{Certificates: []tls.Certificate{leaf.TLS()}}))
			}
		})
	}
	return n
}

// target is what a probe of the name looks at.
func (n *name) target(t *testing.T, leaf *testpki.Leaf, within time.Duration) target {
	p := probe("web.local:"+n.port, config.ProbeTLS)
	p.Within = within
	of := newTarget(p, identity(t, leaf), leaf.Cert)
	of.resolve = func(_ context.Context, _, host string) ([]netip.Addr, error) {
		if n.asked.Add(1); host != "web.local" {
			return nil, fmt.Errorf("lookup %s: no such host", host)
		}
		return n.addresses, nil
	}
	return of
}

func (n *name) prove(t *testing.T, leaf *testpki.Leaf, within time.Duration) (Seen, error) {
	t.Helper()
	bounded, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	tr := trial{target: n.target(t, leaf, within), backoff: firstBackoff}
	return tr.run(t.Context(), bounded, wants(t, leaf))
}

// Every address of a name that takes a connection must show what was delivered.
func TestEveryAddressOfAName(t *testing.T) {
	t.Parallel()
	_, own, next := small(t)
	bare := *next
	bare.Chain = nil
	type leaves = map[int]*testpki.Leaf
	const tries = time.Second
	for label, tc := range map[string]struct {
		leaves leaves
		reason string // "" is proved
		at     int    // the address that the error names
	}{
		"both":              {leaves{0: next, 1: next}, "", 0},
		"the second is old": {leaves{0: next, 1: own}, failure.WrongCertificate, 1},
		"the first is old":  {leaves{0: own, 1: next}, failure.WrongCertificate, 0},
		"one has no chain":  {leaves{0: next, 1: &bare}, failure.WrongChain, 1},
		"the first refuses": {leaves{1: next}, "", 1},
		"the last refuses":  {leaves{0: next}, "", 0},
		"the one is old":    {leaves{1: own}, failure.WrongCertificate, 1},
		"one hangs up":      {leaves{0: next, 1: nil}, failure.HandshakeFailed, 1},
	} {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			n := newName(t, tc.leaves, 2)
			within := patience
			if tc.reason != "" {
				within = tries
			}
			seen, err := n.prove(t, next, within)
			at := net.JoinHostPort(n.addresses[tc.at].String(), n.port)
			if tc.reason == "" {
				if err != nil || seen.Address != at || seen.ServerName != "web.local" || !seen.Chain[0].Equal(next.Cert) {
					t.Errorf("%v, seen %+v, want %s", err, seen, at)
				}
			} else {
				is(t, err, tc.reason, at+" (web.local)")
			}
			if tc.reason == failure.WrongCertificate && (seen.Address != at || !seen.Chain[0].Equal(own.Cert)) {
				t.Errorf("seen with the error: %s", seen.Address)
			}
			if n.asked.Load() != 1 {
				t.Errorf("it was looked up %d times", n.asked.Load())
			}
			for i := range tc.leaves {
				if got := n.met[i].Load(); tc.reason == "" && got != 3 {
					t.Errorf("address %d was met %d times, want 3", i, got)
				}
			}

			// One look shows to Match, and to who takes its first certificate alone, what is wrong.
			of := n.target(t, next, within)
			seen, err = of.look(t.Context(), true)
			if err == nil {
				err = Match(seen, wants(t, next))
			}
			if failure.ReasonOf(err, "") != tc.reason || tc.reason == failure.WrongCertificate && !seen.Chain[0].Equal(own.Cert) {
				t.Errorf("one look: %v, at %s", err, seen.Address)
			}
		})
	}
}

func TestNobodyAtAnyAddress(t *testing.T) {
	t.Parallel()
	_, _, next := small(t)
	n := newName(t, map[int]*testpki.Leaf{0: next}, 3)
	n.addresses = n.addresses[1:]
	_, err := n.prove(t, next, 300*time.Millisecond)
	is(t, err, failure.Unreachable, "connection refused")
}

// A name may have any number of addresses, and one of them twice.
func TestManyAddresses(t *testing.T) {
	t.Parallel()
	_, _, next := small(t)
	leaves := map[int]*testpki.Leaf{}
	for i := range maxAddresses + 2 {
		leaves[i] = next
	}
	n := newName(t, leaves, len(leaves))
	n.addresses = slices.Insert(n.addresses, 1, netip.AddrFrom16(n.addresses[0].As16())) // the same, as IPv6 writes it
	if _, err := n.prove(t, next, patience); err != nil {
		t.Fatal(err)
	}
	for i := range n.met {
		if got, want := n.met[i].Load(), int64(3); i < maxAddresses && got != want || i >= maxAddresses && got != 0 {
			t.Errorf("address %d was met %d times", i, got)
		}
	}
}

// A name that cannot be looked up is tried again.
func TestNameIsNotThereYet(t *testing.T) {
	t.Parallel()
	_, _, next := small(t)
	n := newName(t, map[int]*testpki.Leaf{0: next}, 1)
	tr := trial{target: n.target(t, next, patience), backoff: firstBackoff}
	resolve, tries := tr.resolve, 0
	tr.resolve = func(ctx context.Context, network, host string) ([]netip.Addr, error) {
		if tries++; tries < 3 {
			return nil, errors.New("lookup web.local: no such host")
		}
		return resolve(ctx, network, host)
	}
	of := tr.target
	_, err := of.look(t.Context(), true)
	is(t, err, failure.Unreachable, "connect to web.local:"+n.port+": lookup web.local: no such host")
	if _, err := tr.run(t.Context(), t.Context(), wants(t, next)); err != nil || tries != 3 {
		t.Errorf("%v after %d tries", err, tries)
	}
}

// localhost is two addresses on most hosts.
func TestLocalhost(t *testing.T) {
	t.Parallel()
	_, own, next := small(t)
	addresses, err := net.DefaultResolver.LookupNetIP(t.Context(), "ip", "localhost")
	if err != nil || !slices.Contains(addresses, netip.IPv6Loopback()) {
		t.Skipf("localhost is %v here (%v), and not ::1 and 127.0.0.1", addresses, err)
	}
	six, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skip(err)
	}
	_, port, _ := net.SplitHostPort(six.Addr().String())
	four, err := net.Listen("tcp4", "127.0.0.1:"+port)
	if err != nil {
		t.Skip(err)
	}
	shows := func(leaf *testpki.Leaf) func(int, net.Conn) {
		return func(_ int, c net.Conn) {
			hang(tls.Server(c, &tls.Config{Certificates: []tls.Certificate{leaf.TLS()}}))
		}
	}
	serveOn(t, six, shows(next))
	serveOn(t, four, shows(own))
	p := probe("localhost:"+port, config.ProbeTLS)
	p.Within = time.Second
	for leaf, at := range map[*testpki.Leaf]string{next: "127.0.0.1", own: "[::1]"} {
		_, err := Prove(t.Context(), p, wants(t, leaf))
		is(t, err, failure.WrongCertificate, at)
	}
}

// kinds are certificates of one name with several kinds of key.
func kinds(t *testing.T) map[string]*testpki.Leaf {
	t.Helper()
	sub := testpki.NewRoot(t).SubCA(t)
	leaves := map[string]*testpki.Leaf{}
	for _, kind := range []string{"rsa-2048", "ecdsa-p256"} {
		leaves[kind] = sub.Issue(t, testpki.KeyType(kind), testpki.DNS(ownName))
	}
	return leaves
}

// A service that has certificates with keys of two kinds, each of a slot of its own, is
// proved for each; and one that has another kind alone is seen to have it.
func TestKindsOfKeys(t *testing.T) {
	t.Parallel()
	leaves := kinds(t)
	rsa, ec := leaves["rsa-2048"], leaves["ecdsa-p256"]
	server := func(client tls.ClientAuthType, certs ...*testpki.Leaf) config.Probe {
		c := &tls.Config{ClientAuth: client, MaxVersion: tls.VersionTLS12} // in 1.3 it shows what it likes
		for _, leaf := range certs {
			c.Certificates = append(c.Certificates, leaf.TLS())
		}
		return probe(serve(t, func(_ int, conn net.Conn) { hang(tls.Server(conn, c)) }), config.ProbeTLS)
	}
	for label, p := range map[string]config.Probe{
		"ECDSA first":         server(tls.NoClientCert, ec, rsa),
		"RSA first":           server(tls.NoClientCert, rsa, ec),
		"asks for ours, too":  server(tls.RequireAnyClientCert, ec, rsa),
		"the same, the other": server(tls.RequireAnyClientCert, rsa, ec),
	} {
		for kind, leaf := range leaves {
			if _, err := Prove(t.Context(), p, wants(t, leaf)); err != nil {
				t.Errorf("%s, %s: %v", label, kind, err)
			}
			if seen, err := Look(t.Context(), p, identity(t, leaf)); err != nil || Match(seen, wants(t, leaf)) != nil {
				t.Errorf("%s, one look for %s: %v", label, kind, err)
			}
		}
	}
	for label, tc := range map[string]struct{ has, wanted *testpki.Leaf }{"RSA alone": {rsa, ec}, "ECDSA alone": {ec, rsa}} {
		p := server(tls.NoClientCert, tc.has)
		p.Within = time.Second
		seen, err := Prove(t.Context(), p, wants(t, tc.wanted))
		is(t, err, failure.WrongCertificate, "it serves")
		if len(seen.Chain) == 0 || !seen.Chain[0].Equal(tc.has.Cert) {
			t.Errorf("%s: it was not seen", label)
		}
		// What was served before is proved with the identity of now, whose key may be another.
		want := wants(t, tc.has)
		want.Identity = identity(t, tc.wanted)
		p.Within = patience
		if _, err := Prove(t.Context(), p, want); err != nil {
			t.Errorf("%s, with another identity: %v", label, err)
		}
		if seen, err := Look(t.Context(), p, want.Identity); err != nil || Match(seen, want) != nil {
			t.Errorf("%s, one look with another identity: %v", label, err)
		}
	}
}

// The same of nginx, whose library chooses in another way.
func TestNginxWithTwoKeys(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	address := h.freeAddress()
	leaves, files := kinds(t), ""
	for kind, leaf := range leaves {
		h.write(kind+".pem", leaf.FullChainPEM(), 0o644)
		h.write(kind+".key", leaf.KeyPEM(), 0o600)
		files += fmt.Sprintf("ssl_certificate %[1]s.pem; ssl_certificate_key %[1]s.key;\n", h.path(kind))
	}
	h.nginx(fmt.Sprintf("server { listen %s ssl; %s }", address, files))
	h.listening(address)
	for _, leaf := range leaves {
		h.proves(probe(address, config.ProbeTLS), leaf)
		if seen, err := Look(t.Context(), probe(address, config.ProbeTLS), identity(t, leaf)); err != nil || pki.Fingerprint(seen.Chain[0]) != pki.Fingerprint(leaf.Cert) {
			t.Errorf("one look: %v", err)
		}
	}
}
