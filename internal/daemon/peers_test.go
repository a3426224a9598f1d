package daemon

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
)

// dial connects to an inbound tunnel as the identity in name.crt and asks for a
// page; nil means that the backend answered.
func (h *host) dial(address, name string) error {
	h.t.Helper()
	_, err := h.request(address, name, nil, 0)
	return err
}

// request is dial with a session cache and a TLS version, and returns the state.
func (h *host) request(address, name string, cache tls.ClientSessionCache, version uint16) (tls.ConnectionState, error) {
	h.t.Helper()
	pair, err := tls.LoadX509KeyPair(h.path(name+".crt"), h.path(name+".key"))
	if err != nil {
		h.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(h.root.Cert)
	conn, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	tc := tls.Client(conn, &tls.Config{RootCAs: roots, ServerName: providerName, ClientSessionCache: cache, MaxVersion: version,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }})
	if err := tc.Handshake(); err != nil {
		return tls.ConnectionState{}, err
	}
	if _, err := io.WriteString(tc, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		return tls.ConnectionState{}, err
	}
	if _, err := io.ReadAll(tc); err != nil {
		return tls.ConnectionState{}, err
	}
	return tc.ConnectionState(), nil
}

// serves waits until a new connection to the tunnel shows leaf.
func (h *host) serves(tunnel string, leaf *testpki.Leaf) {
	h.t.Helper()
	h.until("tunnel "+tunnel+" serves "+leaf.Cert.SerialNumber.Text(16), func() bool {
		cs, err := h.request(h.listen(tunnel), "peer", nil, 0)
		if len(cs.PeerCertificates) == 0 {
			// The backend may be absent on purpose; the handshake is what counts.
			return err != nil && h.leafAt(h.listen(tunnel), leaf)
		}
		return cs.PeerCertificates[0].Equal(leaf.Cert)
	})
}

func (h *host) leafAt(address string, leaf *testpki.Leaf) bool {
	conn, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err != nil {
		return false
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	seen := false
	_ = tls.Client(conn, &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(cs tls.ConnectionState) error {
		seen = cs.PeerCertificates[0].Equal(leaf.Cert)
		return nil
	}}).Handshake()
	return seen
}
