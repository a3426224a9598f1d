package rotate

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/trust"
)

// both runs a test with TLS 1.2 and TLS 1.3.
func both(t *testing.T, test func(t *testing.T, version uint16)) {
	for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(v), func(t *testing.T) { test(t, v) })
	}
}

// visit is one connection as both sides saw it.
type visit struct {
	client, server       tls.ConnectionState
	clientErr, serverErr error
}

// failed reports whether either side ended it. In TLS 1.3 the client sees a
// finished handshake before the server has judged it.
func (v visit) failed() bool { return v.clientErr != nil || v.serverErr != nil }

// meet connects over loopback, sends one byte each way and so reads the tickets.
func meet(t *testing.T, server, client *tls.Config) visit {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	deadline := time.Now().Add(10 * time.Second)
	var v visit
	done := make(chan struct{})
	go func() {
		defer close(done)
		raw, err := l.Accept()
		if err != nil {
			v.serverErr = err
			return
		}
		c := tls.Server(raw, server)
		defer c.Close()
		v.serverErr = chat(c, deadline, false)
		v.server = c.ConnectionState()
	}()
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := tls.Client(raw, client)
	defer c.Close()
	v.clientErr = chat(c, deadline, true)
	v.client = c.ConnectionState()
	if v.clientErr != nil {
		raw.Close()
	}
	<-done
	return v
}

func chat(c *tls.Conn, deadline time.Time, first bool) error {
	if err := c.SetDeadline(deadline); err != nil {
		return err
	}
	if err := c.Handshake(); err != nil {
		return err
	}
	send := func() error { _, err := c.Write([]byte{1}); return err }
	receive := func() error { _, err := io.ReadFull(c, make([]byte, 1)); return err }
	if first {
		if err := send(); err != nil {
			return err
		}
		return receive()
	}
	if err := receive(); err != nil {
		return err
	}
	return send()
}

// peer is a plain crypto/tls configuration for l, for either side, that trusts
// the bench's root and keeps sessions.
func (b *bench) peer(l *testpki.Leaf, version uint16) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(b.root.Cert)
	own := l.TLS()
	return &tls.Config{
		Certificates:         []tls.Certificate{own}, // as a server; as a client always, whatever CAs are acceptable
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &own, nil },
		RootCAs:              pool, ClientCAs: pool, ClientAuth: tls.RequireAnyClientCert,
		ServerName: "pcs.nhs.uk", MinVersion: version, MaxVersion: version, ClientSessionCache: tls.NewLRUClientSessionCache(8),
	}
}

func (b *bench) endpoint(c EndpointConfig, version uint16) *Endpoint {
	b.t.Helper()
	c.MinVersion, c.MaxVersion = version, version
	if c.Peers.Empty() {
		c.Peers = trust.Names("peer.nhs.uk")
	}
	e, err := b.pcs().Endpoint(c)
	b.do(err)
	return e
}

func config(t *testing.T, e *Endpoint) *tls.Config {
	t.Helper()
	c, err := e.TLS()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// visit connects the peer with e, on whichever side e is.
func (b *bench) visit(e *Endpoint, peer *tls.Config) visit {
	b.t.Helper()
	if e.config.Role == Client {
		return meet(b.t, peer, config(b.t, e))
	}
	return meet(b.t, config(b.t, e), peer)
}

// good is visit that must succeed, with or without resumption.
func (b *bench) good(e *Endpoint, peer *tls.Config, resumed bool) visit {
	b.t.Helper()
	v := b.visit(e, peer)
	if v.failed() {
		b.t.Fatalf("client %v, server %v", v.clientErr, v.serverErr)
	}
	if v.client.DidResume != resumed || v.server.DidResume != resumed {
		b.t.Fatalf("resumed: client %v, server %v, want %v", v.client.DidResume, v.server.DidResume, resumed)
	}
	return v
}

// roles runs a test with the slot on either side, in both versions.
func roles(t *testing.T, test func(t *testing.T, role Role, version uint16)) {
	for role, name := range map[Role]string{Server: "inbound", Client: "outbound"} {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, version uint16) { test(t, role, version) })
		})
	}
}
