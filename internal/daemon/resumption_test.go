package daemon

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
)

// Each of these tests was seen to fail with its rule taken out:
//   - rotation: sessions.follow (rotate/sessions.go) keeping keys and cache when
//     the digest of the generation changes: the old leaf is shown again;
//   - revocation: VerifyConnection and Endpoint.Accepted (rotate/endpoint.go) not
//     judging resumed sessions, which is what VerifyPeerCertificate would do;
//   - removed name: sameEndpoint (wiring.go) not comparing Peers.

// offers counts how often a session was there to be offered to the server, so
// that a refusal can be shown to be that of a resumption.
type offers struct {
	tls.ClientSessionCache
	n atomic.Int64
}

func (o *offers) Get(key string) (*tls.ClientSessionState, bool) {
	s, ok := o.ClientSessionCache.Get(key)
	if ok && s != nil {
		o.n.Add(1)
	}
	return s, ok
}

var tlsVersions = map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}

// resumptionHost has an inbound tunnel for both versions.
func resumptionHost(t *testing.T) (*host, *testpki.Leaf, *testpki.Leaf) {
	h := newHost(t)
	leaf, peer := h.identity("pcs", providerName), h.identity("peer", peerName)
	h.revocation()
	h.configure(requireCRLs, providerSlot, fmt.Sprintf(`  ssp-in: {direction: inbound, listen: ["127.0.0.1:0"], forward: "%s", slot: pcs, peers: [%s], tls: {min_version: "1.2", max_version: "1.3"}}`,
		backend(t), peerName))
	h.start()
	return h, leaf, peer
}

// session makes two connections, of which the second must be resumed.
func (h *host) session(address string, version uint16) *offers {
	h.t.Helper()
	cache := &offers{ClientSessionCache: tls.NewLRUClientSessionCache(8)}
	for i, want := range []bool{false, true} {
		cs, err := h.request(address, "peer", cache, version)
		if err != nil || cs.DidResume != want || cs.Version != version {
			h.t.Fatalf("connection %d: resumed %t, version %x, %v", i, cs.DidResume, cs.Version, err)
		}
	}
	return cache
}

func TestInboundResumptionAfterRotation(t *testing.T) {
	t.Parallel()
	for name, version := range tlsVersions {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, first, _ := resumptionHost(t)
			address := h.listen("ssp-in")
			cache := h.session(address, version)
			second := h.identity("pcs", providerName)
			h.serves("ssp-in", second)
			before := cache.n.Load()
			cs, err := h.request(address, "peer", cache, version)
			if err != nil || cs.DidResume || cs.PeerCertificates[0].Equal(first.Cert) || !cs.PeerCertificates[0].Equal(second.Cert) {
				t.Errorf("after the rotation: resumed %t, old leaf %t, %v", cs.DidResume, cs.PeerCertificates[0].Equal(first.Cert), err)
			}
			if cache.n.Load() == before {
				t.Error("the client did not offer its session, so nothing was tried")
			}
			if cs, err = h.request(address, "peer", cache, version); err != nil || !cs.DidResume || !cs.PeerCertificates[0].Equal(second.Cert) {
				t.Errorf("a session of the new generation: resumed %t, %v", cs.DidResume, err)
			}
		})
	}
}

func TestInboundResumptionAfterRevocation(t *testing.T) {
	t.Parallel()
	for name, version := range tlsVersions {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, _, peer := resumptionHost(t)
			address := h.listen("ssp-in")
			cache := h.session(address, version)
			h.revocation(peer)
			h.revocationTaken(1)
			before := cache.n.Load()
			if cs, err := h.request(address, "peer", cache, version); err == nil {
				t.Errorf("a revoked peer is served, resumed %t", cs.DidResume)
			}
			if cache.n.Load() == before {
				t.Error("the client did not offer its session, so nothing was tried")
			}
			h.counted("ssp-in", "refused", "revoked", 1)
		})
	}
}

func TestInboundResumptionAfterRemovedName(t *testing.T) {
	t.Parallel()
	for name, version := range tlsVersions {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, _, _ := resumptionHost(t)
			address := h.listen("ssp-in")
			cache := h.session(address, version)
			h.reconfigure("peers: ["+peerName+"]", "peers: [another.nhs.uk]")
			before := cache.n.Load()
			if cs, err := h.request(address, "peer", cache, version); err == nil {
				t.Errorf("a peer that was removed is served, resumed %t", cs.DidResume)
			}
			if cache.n.Load() == before {
				t.Error("the client did not offer its session, so nothing was tried")
			}
			h.counted("ssp-in", "refused", "not_listed", 1)
		})
	}
}

// revocationTaken waits until the CRL of the issuing CA has n entries in the daemon.
func (h *host) revocationTaken(n int) {
	h.t.Helper()
	h.until("the new CRL is in force", func() bool {
		entries := 0
		for _, crl := range h.status().Environments[0].CRLs {
			entries += crl.Entries
		}
		return entries == n
	})
}

// farServer is a server of another organisation, which asks for certificates.
type farServer struct {
	address  string
	accepted atomic.Int64 // sessions that it agreed to resume, in the handshake
	resumed  atomic.Int64 // requests over resumed sessions
	fresh    atomic.Int64
	seen     chan *x509.Certificate // the leaf of each request
}

func newFarServer(t *testing.T, version uint16, leaf *testpki.Leaf) *farServer {
	t.Helper()
	config := &tls.Config{Certificates: []tls.Certificate{leaf.TLS()}, ClientAuth: tls.RequireAnyClientCert, MinVersion: version, MaxVersion: version}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	s := &farServer{address: l.Addr().String(), seen: make(chan *x509.Certificate, 100)}
	config.VerifyConnection = func(cs tls.ConnectionState) error {
		if cs.DidResume {
			s.accepted.Add(1)
		}
		return nil
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(tls.Server(c, config))
		}
	}()
	return s
}

func (s *farServer) serve(c *tls.Conn) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if c.Handshake() != nil {
		return
	}
	var request [1024]byte
	if _, err := c.Read(request[:]); err != nil {
		return
	}
	cs := c.ConnectionState()
	if cs.DidResume {
		s.resumed.Add(1)
	} else {
		s.fresh.Add(1)
	}
	s.seen <- cs.PeerCertificates[0]
	_, _ = io.WriteString(c, "HTTP/1.0 200 OK\r\n\r\nfar here")
}

// outboundHost has an outbound tunnel to a far server, and has resumed a session with it.
func outboundHost(t *testing.T, version string) (*host, *farServer, *testpki.Leaf) {
	h := newHost(t)
	h.identity("pcs", providerName)
	leaf := h.identity("far", serverName)
	h.revocation()
	far := newFarServer(t, tlsVersions[version], leaf)
	h.configure(requireCRLs, providerSlot, fmt.Sprintf(`  sds-out: {direction: outbound, listen: [{unix: out.sock}], forward: "%s", slot: pcs, peers: [%[2]s], server_name: %[2]s, tls: {max_version: "%[3]s"}}`,
		far.address, serverName, version))
	h.start()
	h.listen("sds-out")
	for range 2 {
		h.far(far)
	}
	if far.fresh.Load() != 1 || far.resumed.Load() != 1 {
		t.Fatalf("%d fresh and %d resumed sessions before anything changes", far.fresh.Load(), far.resumed.Load())
	}
	return h, far, leaf
}

// far asks the far server for a page and returns the leaf that it saw.
func (h *host) far(s *farServer) *x509.Certificate {
	h.t.Helper()
	if body, err := ask("unix", h.path("out.sock")); err != nil || body != "HTTP/1.0 200 OK\r\n\r\nfar here" {
		h.t.Fatalf("the far server says %q, %v", body, err)
	}
	return <-s.seen
}

func TestOutboundResumptionAfterRotation(t *testing.T) {
	t.Parallel()
	for name := range tlsVersions {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, far, _ := outboundHost(t, name)
			leaf := h.identity("pcs", providerName)
			h.until("the new generation is served", func() bool { return h.slot("pcs").Generation == 2 })
			if seen := h.far(far); !seen.Equal(leaf.Cert) || far.resumed.Load() != 1 {
				t.Errorf("the server saw the old leaf: %t; resumed %d", !seen.Equal(leaf.Cert), far.resumed.Load())
			}
			if seen := h.far(far); !seen.Equal(leaf.Cert) || far.resumed.Load() != 2 {
				t.Errorf("a session of the new generation: old leaf %t; resumed %d", !seen.Equal(leaf.Cert), far.resumed.Load())
			}
		})
	}
}

func TestOutboundResumptionAfterRevocation(t *testing.T) {
	t.Parallel()
	for name := range tlsVersions {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, far, leaf := outboundHost(t, name)
			h.revocation(leaf)
			h.revocationTaken(1)
			if body, _ := ask("unix", h.path("out.sock")); body != "" {
				t.Errorf("a revoked server is believed: %q", body)
			}
			h.counted("sds-out", "refused", "revoked", 1)
			// The server had resumed the session already, and no request reached it.
			if far.accepted.Load() != 2 || far.resumed.Load() != 1 || far.fresh.Load() != 1 {
				t.Errorf("sessions: %d accepted by the server for resumption; served: %d fresh, %d resumed", far.accepted.Load(), far.fresh.Load(), far.resumed.Load())
			}
		})
	}
}

func TestOutboundResumptionAfterRemovedName(t *testing.T) {
	t.Parallel()
	for name := range tlsVersions {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, _, _ := outboundHost(t, name)
			h.reconfigure("peers: ["+serverName+"]", "peers: [another.nhs.uk]")
			if body, _ := ask("unix", h.path("out.sock")); body != "" {
				t.Errorf("a server whose name was removed is believed: %q", body)
			}
			h.counted("sds-out", "refused", "name_mismatch", 1)
		})
	}
}
