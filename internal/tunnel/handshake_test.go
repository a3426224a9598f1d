package tunnel

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/trust"
)

// versions are those of TLS that tunnels speak.
var versions = map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}

// TestPeersOfInbound lets peers of every kind knock. It fails when crypto/tls
// changes the words that reason.go looks for.
func TestPeersOfInbound(t *testing.T) {
	stranger := testpki.NewRoot(t).Issue(t, testpki.DNS("proxy.national.ncrs.nhs.uk")).TLS()
	garbage := tls.Certificate{Certificate: [][]byte{[]byte("not a certificate")}, PrivateKey: stranger.PrivateKey}
	heavy := stranger
	for range 200 {
		heavy.Certificate = append(heavy.Certificate[:len(heavy.Certificate):len(heavy.Certificate)], stranger.Certificate[0])
	}
	present := func(c tls.Certificate) func(*tls.Config) {
		return func(config *tls.Config) {
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c, nil }
		}
	}
	for name, test := range map[string]struct {
		change func(*tls.Config)
		chain  int
		result Result
		reason string
		detail string
	}{
		"good":                                {nil, 0, Accepted, "", ""},
		"no certificate":                      {present(tls.Certificate{}), 0, Refused, string(trust.NoCertificate), "didn't provide"},
		"stranger":                            {present(stranger), 0, Refused, string(trust.UnknownIssuer), "unknown authority"},
		"malformed":                           {present(garbage), 0, Refused, string(trust.Malformed), "parse"},
		"chain of 64 KiB in a limit of 1 KiB": {present(heavy), 1 << 10, Refused, string(trust.TooLarge), "chain_bytes"},
		"suspicious peer": {func(c *tls.Config) {
			c.VerifyConnection = func(tls.ConnectionState) error { return errors.New("no") }
		}, 0, Failed, string(trust.Protocol), "peer refused"},
	} {
		for version, number := range versions {
			t.Run(name+" "+version, func(t *testing.T) {
				b := newBackend(t, "tcp", nil, echo)
				s := start(t, Inbound, number, b.Addr(), func(c *Config) { c.ChainBytes = test.chain })
				c := s.secure(t, number, test.change)
				_ = c.Handshake()
				h := s.seen.awaitHandshake(t, 1)
				if h.Result != test.result || h.Reason != test.reason {
					t.Fatalf("got %s/%s (%v), want %s/%s", h.Result, h.Reason, h.Err, test.result, test.reason)
				}
				if (h.Err == nil) != (test.result == Accepted) || h.Err != nil && !strings.Contains(h.Err.Error(), test.detail) {
					t.Errorf("error %v, want something of %q", h.Err, test.detail)
				}
				if got := s.endpoint.accepted.Load(); (got == 1) != (test.result == Accepted) {
					t.Errorf("Accepted was called %d times", got)
				}
				if test.result == Accepted {
					exchange(t, c, "hello")
					if h.Verdict.Name != "proxy" || h.Duration <= 0 || h.Remote.String() != c.LocalAddr().String() {
						t.Errorf("handshake %+v", h)
					}
				}
			})
		}
	}
}

// TestRefusedPeerReadsItsAlert has a refused peer send more than the tunnel has
// read: it must see the alert and an end, not a reset.
func TestRefusedPeerReadsItsAlert(t *testing.T) {
	stranger := testpki.NewRoot(t).Issue(t, testpki.DNS("x.nhs.uk")).TLS()
	b := newBackend(t, "tcp", nil, echo)
	s := start(t, Inbound, tls.VersionTLS13, b.Addr(), nil)
	c := s.secure(t, tls.VersionTLS13, func(c *tls.Config) {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &stranger, nil }
	})
	if _, err := c.Write(make([]byte, 20<<10)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "bad certificate") {
		t.Errorf("peer saw %v, want the alert", err)
	}
	if _, err := c.NetConn().Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("after the alert: %v, want the end", err)
	}
}

func TestOutboundHandshakes(t *testing.T) {
	for version, number := range versions {
		for name, test := range map[string]struct {
			change func(*tls.Config)
			result Result
			reason string
		}{
			"good":     {func(*tls.Config) {}, Accepted, ""},
			"stranger": {func(c *tls.Config) { c.Certificates[0] = testpki.NewRoot(t).Issue(t).TLS() }, Refused, string(trust.UnknownIssuer)},
			"does not want us": {func(c *tls.Config) {
				c.VerifyConnection = func(tls.ConnectionState) error { return errors.New("no") }
			}, Failed, string(trust.Protocol)},
		} {
			t.Run(name+" "+version, func(t *testing.T) {
				in := newSpine(t)
				config := in.serverConfig(number)
				test.change(config)
				b := newBackend(t, "tcp", config, echo)
				s := startIn(t, in, Outbound, number, b.Addr(), nil)
				// The reset of a tunnel that is refused may come before the local
				// connection is seen to stand.
				c, err := net.Dial("tcp", s.Addrs()[0].String())
				if err == nil {
					defer c.Close()
					_ = c.SetDeadline(time.Now().Add(patience))
					_, _ = io.WriteString(c, "hello")
					_, err = io.ReadFull(c, make([]byte, 5))
				}
				if (err == nil) != (test.result == Accepted) {
					t.Errorf("client: %v", err)
				}
				h := s.seen.awaitHandshake(t, 1)
				if h.Result != test.result || h.Reason != test.reason {
					t.Errorf("got %s/%s (%v), want %s/%s", h.Result, h.Reason, h.Err, test.result, test.reason)
				}
				if h.Remote.String() != b.Addr().String() {
					t.Errorf("remote %v, want %v", h.Remote, b.Addr())
				}
			})
		}
	}
}

// TestSilentServer shows that TLS 1.3 counts as accepted, once, even if the
// server never sends a byte, but not before.
func TestSilentServer(t *testing.T) {
	p := newPair(t, Outbound, tls.VersionTLS13, false, nil)
	p.seen.await(t, "the connection", func() bool { return len(p.seen.opened) == 1 })
	p.seen.mu.Lock()
	if n := len(p.seen.handshakes); n != 0 {
		t.Errorf("%d handshakes reported before the first byte", n)
	}
	p.seen.mu.Unlock()
	_, _ = p.near.CloseWrite(), p.far.CloseWrite()
	p.seen.awaitClosed(t, 1)
	if h := p.seen.awaitHandshake(t, 1); h.Result != Accepted || len(p.seen.handshakes) != 1 {
		t.Errorf("handshakes %+v", p.seen.handshakes)
	}
}

func TestHandshakeTimeout(t *testing.T) {
	for _, d := range []Direction{Inbound, Outbound} {
		done := make(chan struct{})
		accepted := make(chan net.Conn, 1)
		b := newBackend(t, "tcp", nil, hand(accepted, done))
		s := start(t, d, tls.VersionTLS12, b.Addr(), func(c *Config) { c.Handshake = 200 * time.Millisecond })
		c := s.plain(t)
		if d == Inbound {
			_, _ = c.Write([]byte{22, 3, 1}) // a hello that never goes on
		}
		h := s.seen.awaitHandshake(t, 1)
		if h.Result != Failed || h.Reason != string(trust.Protocol) || !strings.Contains(h.Err.Error(), "timed out") {
			t.Errorf("%s: %+v", d, h)
		}
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("still open")
		}
		close(done)
	}
}

func TestForwardRefused(t *testing.T) {
	for _, d := range []Direction{Inbound, Outbound} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_ = ln.Close()
		s := start(t, d, tls.VersionTLS12, ln.Addr(), nil)
		c := s.plain(t)
		if d == Inbound {
			secure := tls.Client(c, s.spine.clientConfig(tls.VersionTLS12))
			if err := secure.Handshake(); err != nil {
				t.Fatal(err)
			}
			c = secure
			if end := s.seen.awaitClosed(t, 1); end.Cause != CauseForward || end.Err == nil {
				t.Errorf("closed %+v", end)
			}
		}
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("still open")
		}
		s.seen.await(t, "the trouble", func() bool { return len(s.seen.troubles) == 1 })
		if e := s.seen.troubles[0]; e.Kind != TroubleForward || !strings.Contains(e.Err.Error(), ln.Addr().String()) {
			t.Errorf("trouble %+v", e)
		}
	}
}

func TestNotReadyEndpoint(t *testing.T) {
	for _, d := range []Direction{Inbound, Outbound} {
		b := newBackend(t, "tcp", nil, echo)
		s := start(t, d, tls.VersionTLS12, b.Addr(), nil)
		s.endpoint.config.Store(nil)
		if _, err := s.plain(t).Read(make([]byte, 1)); err == nil {
			t.Error("still open")
		}
		if h := s.seen.awaitHandshake(t, 1); h.Result != Failed || h.Reason != NotReady {
			t.Errorf("%+v", h)
		}
	}
}

// TestAcceptedRefuses has the Endpoint change its mind after the handshake.
func TestAcceptedRefuses(t *testing.T) {
	b := newBackend(t, "tcp", nil, echo)
	s := start(t, Inbound, tls.VersionTLS12, b.Addr(), nil)
	s.endpoint.judge = func(context.Context, tls.ConnectionState) (trust.Verdict, error) {
		return trust.Verdict{}, &trust.VerifyError{Reason: trust.Revoked, Detail: "just now"}
	}
	c := s.secure(t, tls.VersionTLS12, nil)
	_ = c.Handshake()
	if h := s.seen.awaitHandshake(t, 1); h.Result != Refused || h.Reason != string(trust.Revoked) {
		t.Errorf("%+v", h)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("still open")
	}
}

func TestProxyProtocol(t *testing.T) {
	accepted, done := make(chan net.Conn, 1), make(chan struct{})
	defer close(done)
	b := newBackend(t, "unix", nil, hand(accepted, done))
	s := start(t, Inbound, tls.VersionTLS12, b.Addr(), func(c *Config) { c.ProxyProtocol = true })
	c := s.secure(t, tls.VersionTLS12, nil)
	if _, err := io.WriteString(c, "hello"); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(<-accepted)
	header, err := proxyproto.Read(r)
	if err != nil {
		t.Fatal(err)
	}
	if header.Version != 2 || header.SourceAddr.String() != c.LocalAddr().String() || header.DestinationAddr.String() != c.RemoteAddr().String() {
		t.Errorf("header %+v", header)
	}
	receive(t, r, "hello")
}

func TestAllowFrom(t *testing.T) {
	b := newBackend(t, "tcp", nil, echo)
	s := start(t, Inbound, tls.VersionTLS12, b.Addr(), func(c *Config) {
		c.AllowFrom = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	})
	if _, err := s.plain(t).Read(make([]byte, 1)); err == nil {
		t.Error("still open")
	}
	if h := s.seen.awaitHandshake(t, 1); h.Result != Limited || h.Reason != LimitAllowFrom {
		t.Errorf("%+v", h)
	}
	s.config.AllowFrom = append(s.config.AllowFrom, netip.MustParsePrefix("127.0.0.0/8"))
	if err := s.Update(s.config); err != nil {
		t.Fatal(err)
	}
	exchange(t, s.secure(t, tls.VersionTLS12, nil), "hello")
}
