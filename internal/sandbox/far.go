package sandbox

import (
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// farServer is a TLS-MA server of the national side that may be revoked: the peer of
// an outbound tunnel.
type farServer struct {
	peer    *peer
	key     crypto.Signer // RSA: a consumer offers no suites for other keys (SPINE.md, 2)
	current atomic.Pointer[tls.Config]
}

// present makes id its identity. Tickets end with the one before.
func (f *farServer) present(id *identity, stand *proxy) {
	config := &tls.Config{
		MinVersion:       tls.VersionTLS12,
		MaxVersion:       tls.VersionTLS12, // SPINE.md, 2
		Certificates:     []tls.Certificate{id.certificateTLS()},
		ClientAuth:       tls.RequireAnyClientCert,
		VerifyConnection: stand.verifier(consumerSlot, consumerName, x509.ExtKeyUsageClientAuth, time.Now),
	}
	var ticketKey [32]byte
	// crypto/rand.Read never fails.
	_, _ = rand.Read(ticketKey[:])
	config.SetSessionTicketKeys([][32]byte{ticketKey})
	f.current.Store(config)
}

// server answers with what it was sent. What net/http says of handshakes that fail
// is left out: once it is revoked they have to.
func (f *farServer) server() *http.Server {
	s := provider()
	s.ErrorLog = log.New(io.Discard, "", 0)
	return s
}

func (f *farServer) listener(inner net.Listener) net.Listener {
	return tls.NewListener(inner, &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return f.current.Load(), nil },
	})
}
