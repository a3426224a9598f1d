package consumers

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"

	"log"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/internal/testprogram"
)

// backend is the service behind a proxy.
func backend(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "backend here") }), ReadHeaderTimeout: time.Minute}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	return l.Addr().String()
}

// spine is a server of Spine: it wants a certificate, knows the root and no subCA,
// so that a client must send its chain, and answers with the name it saw.
// It is called localhost, too, as some programs take the name from the address.
func (h *host) spine() (port string) {
	h.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(h.root.Cert)
	s := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintln(w, "spine knows", r.TLS.PeerCertificates[0].Subject.CommonName)
		}),
		TLSConfig: &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool, MaxVersion: tls.VersionTLS12,
			Certificates: []tls.Certificate{h.sub.Issue(h.t, testpki.KeyType("rsa-2048"), testpki.DNS(peerName, "localhost")).TLS()}},
		ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0),
	}
	go func() { _ = s.ServeTLS(l, "", "") }()
	h.t.Cleanup(func() { _ = s.Close() })
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port
}

const spineAnswer = "spine knows " + ownName

// curl asks a server that is called name by an outsider, who knows the root and no
// subCA; as is one of the peers, "" is nobody.
func (h *host) curl(name, address, as string, more ...string) (string, error) {
	h.t.Helper()
	host, port, _ := net.SplitHostPort(address)
	args := []string{"-sS", "--fail", "--max-time", "20", "--cacert", h.path("root.pem"), "--resolve", name + ":" + port + ":" + host}
	if as != "" {
		args = append(args, "--cert", h.path(as+".crt"), "--key", h.path(as+".key"))
	}
	return h.run(nil, nil, testprogram.Need(h.t, "curl"), append(append(args, more...), "https://"+name+":"+port+"/")...)
}

// judges asks a server with the identity of the slot as each of the peers: only the
// good one may be answered. That curl knows only the root proves the chain and its
// order; that it refuses a foreign root, that it looks.
func (h *host) judges(address, answer string) {
	h.t.Helper()
	h.listening(address)
	if out, err := h.curl(ownName, address, "good"); err != nil || !strings.Contains(out, answer) {
		h.t.Errorf("the good peer: %v: %s", err, out)
	}
	for _, bad := range []string{"", "revoked", "foreign"} {
		if out, err := h.curl(ownName, address, bad); err == nil || strings.Contains(out, answer) {
			h.t.Errorf("peer %q was answered: %s", bad, out)
		}
	}
	if out, err := h.curl(ownName, address, "good", "--cacert", h.path("foreign-root.pem")); err == nil {
		h.t.Errorf("curl believes the server by a foreign root: %s", out)
	}
}

// reaches asks a proxy in the clear, which asks Spine with the identity of the slot.
func (h *host) reaches(address string) {
	h.t.Helper()
	h.listening(address)
	out, err := h.run(nil, nil, testprogram.Need(h.t, "curl"), "-sS", "--fail", "--max-time", "20", "http://"+address+"/")
	if err != nil || !strings.Contains(out, spineAnswer) {
		h.t.Errorf("towards Spine: %v: %s", err, out)
	}
}
