package tunnel

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/trust"
)

// patience is how long tests wait for what must happen; it is never measured.
const patience = 20 * time.Second

func TestMain(m *testing.M) {
	if os.Getenv(starvedEnv) != "" {
		os.Exit(starved())
	}
	if os.Getenv(proxyEnv) != "" {
		os.Exit(proxy(os.Getenv(proxyEnv)))
	}
	if os.Getenv(heirEnv) != "" {
		os.Exit(heir())
	}
	goleak.VerifyTestMain(m)
}

// fakeEndpoint is an Endpoint over a fixed configuration.
type fakeEndpoint struct {
	config   atomic.Pointer[tls.Config]
	accepted atomic.Int64
	reviewed atomic.Int64
	// What Accepted and Review say, where a test sets them before it connects.
	judge func(context.Context, tls.ConnectionState) (trust.Verdict, error)
	again func([]*x509.Certificate, trust.Verdict, time.Time, bool) (trust.Verdict, error)
}

func (e *fakeEndpoint) TLS() (*tls.Config, error) {
	if c := e.config.Load(); c != nil {
		return c, nil
	}
	return nil, os.ErrNotExist
}

func (e *fakeEndpoint) Accepted(ctx context.Context, s tls.ConnectionState) (trust.Verdict, error) {
	e.accepted.Add(1)
	if e.judge != nil {
		return e.judge(ctx, s)
	}
	if len(s.PeerCertificates) == 0 {
		return trust.Verdict{}, &trust.VerifyError{Reason: trust.NoCertificate, Detail: "the peer presented no certificate"}
	}
	return trust.Verdict{Chain: s.PeerCertificates, Name: s.PeerCertificates[0].Subject.CommonName}, nil
}

func (e *fakeEndpoint) Review(chain []*x509.Certificate, v trust.Verdict, now time.Time, undated bool) (trust.Verdict, error) {
	e.reviewed.Add(1)
	if e.again != nil {
		return e.again(chain, v, now, undated)
	}
	return v, nil
}

// spine is a little PKI with a TLS configuration for each side.
type spine struct {
	root, sub      *testpki.Authority
	server, client *testpki.Leaf
}

func newSpine(tb testing.TB) *spine {
	tb.Helper()
	s := &spine{root: testpki.NewRoot(tb)}
	s.sub = s.root.SubCA(tb, testpki.Name("Test Authentication G2"))
	s.server = s.sub.Issue(tb, testpki.DNS("pcs.thirdparty.nhs.uk"), testpki.KeyType("rsa-2048"))
	s.client = s.sub.Issue(tb, testpki.Name("proxy"), testpki.DNS("proxy.national.ncrs.nhs.uk"))
	return s
}

// verify is what rotate does in VerifyConnection, as far as the tunnel cares.
func (s *spine) verify(usage x509.ExtKeyUsage) func(tls.ConnectionState) error {
	roots := x509.NewCertPool()
	roots.AddCert(s.root.Cert)
	return func(cs tls.ConnectionState) error {
		rest := x509.NewCertPool()
		for _, c := range cs.PeerCertificates[1:] {
			rest.AddCert(c)
		}
		options := x509.VerifyOptions{Roots: roots, Intermediates: rest, KeyUsages: []x509.ExtKeyUsage{usage}}
		if _, err := cs.PeerCertificates[0].Verify(options); err != nil {
			return &trust.VerifyError{Reason: trust.UnknownIssuer, Detail: err.Error()}
		}
		return nil
	}
}

func (s *spine) serverConfig(version uint16) *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{s.server.TLS()}, ClientAuth: tls.RequireAnyClientCert,
		VerifyConnection: s.verify(x509.ExtKeyUsageClientAuth), MinVersion: version, MaxVersion: version,
		DynamicRecordSizingDisabled: true,
	}
}

func (s *spine) clientConfig(version uint16) *tls.Config {
	certificate := s.client.TLS()
	return &tls.Config{
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &certificate, nil },
		InsecureSkipVerify:   true, VerifyConnection: s.verify(x509.ExtKeyUsageServerAuth),
		MinVersion: version, MaxVersion: version, DynamicRecordSizingDisabled: true,
	}
}

// recorder is an Observer that remembers.
type recorder struct {
	mu         sync.Mutex
	handshakes []Handshake
	closings   []Closed
	troubles   []Trouble
	opened     []*Conn
	cuts       []string // reasons
	wouldCuts  []string
	news       chan struct{}
}

func newRecorder() *recorder { return &recorder{news: make(chan struct{}, 1)} }

func (r *recorder) note(f func()) {
	r.mu.Lock()
	f()
	r.mu.Unlock()
	select {
	case r.news <- struct{}{}:
	default:
	}
}

func (r *recorder) observer() Observer {
	return Observer{
		Handshake: func(h Handshake) { r.note(func() { r.handshakes = append(r.handshakes, h) }) },
		Opened:    func(c *Conn) { r.note(func() { r.opened = append(r.opened, c) }) },
		Closed:    func(_ *Conn, e Closed) { r.note(func() { r.closings = append(r.closings, e) }) },
		Cut:       func(_ *Conn, e *trust.VerifyError) { r.note(func() { r.cuts = append(r.cuts, string(e.Reason)) }) },
		WouldCut: func(_ *Conn, e *trust.VerifyError) {
			r.note(func() { r.wouldCuts = append(r.wouldCuts, string(e.Reason)) })
		},
		Trouble: func(e Trouble) { r.note(func() { r.troubles = append(r.troubles, e) }) },
	}
}

// await waits until done, which looks at r, is true.
func (r *recorder) await(tb testing.TB, what string, done func() bool) {
	tb.Helper()
	end := time.After(patience)
	for {
		r.mu.Lock()
		ok := done()
		r.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-r.news:
		case <-time.After(20 * time.Millisecond):
		case <-end:
			r.mu.Lock()
			defer r.mu.Unlock()
			tb.Fatalf("waited in vain for %s; handshakes %+v, closings %+v, troubles %+v", what, r.handshakes, r.closings, r.troubles)
		}
	}
}

// awaitHandshake waits for the n-th handshake and returns it.
func (r *recorder) awaitHandshake(tb testing.TB, n int) Handshake {
	tb.Helper()
	r.await(tb, "a handshake", func() bool { return len(r.handshakes) >= n })
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.handshakes[n-1]
}

func (r *recorder) awaitClosed(tb testing.TB, n int) Closed {
	tb.Helper()
	r.await(tb, "a connection's end", func() bool { return len(r.closings) >= n })
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closings[n-1]
}

// backend is a server that hands each connection to serve.
type backend struct {
	net.Listener
	wg sync.WaitGroup
}

func newBackend(tb testing.TB, network string, config *tls.Config, serve func(net.Conn)) *backend {
	tb.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(tb.TempDir(), "backend.sock")
	}
	ln, err := net.Listen(network, address)
	if err != nil {
		tb.Fatal(err)
	}
	b := &backend{Listener: ln}
	b.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			b.wg.Go(func() {
				defer c.Close()
				if config != nil {
					serve(tls.Server(c, config))
				} else {
					serve(c)
				}
			})
		}
	})
	tb.Cleanup(func() {
		_ = ln.Close()
		b.wg.Wait()
	})
	return b
}

// echo sends back what it gets, and its end after the end.
func echo(c net.Conn) {
	if _, err := io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c}); err != nil {
		return
	}
	_ = c.(interface{ CloseWrite() error }).CloseWrite()
}

// hand gives each connection to the test.
func hand(to chan net.Conn, done <-chan struct{}) func(net.Conn) {
	return func(c net.Conn) {
		to <- c
		<-done
	}
}

// setup is a tunnel under test.
type setup struct {
	*Tunnel
	spine    *spine
	gate     *Gate
	seen     *recorder
	config   Config
	endpoint *fakeEndpoint
}

// start runs a tunnel to forward; change may alter its configuration.
func start(tb testing.TB, d Direction, version uint16, forward net.Addr, change func(*Config)) *setup {
	tb.Helper()
	return startIn(tb, newSpine(tb), d, version, forward, change)
}

func startIn(tb testing.TB, in *spine, d Direction, version uint16, forward net.Addr, change func(*Config)) *setup {
	tb.Helper()
	s := &setup{spine: in, gate: NewGate(Limits{}), seen: newRecorder(), endpoint: &fakeEndpoint{}}
	s.endpoint.config.Store(s.spine.serverConfig(version))
	if d == Outbound {
		s.endpoint.config.Store(s.spine.clientConfig(version))
	}
	s.config = Config{
		Direction: d, Endpoint: s.endpoint,
		Listen:  []Listen{{Network: "tcp", Address: "127.0.0.1:0"}},
		Forward: Forward{Network: forward.Network(), Address: forward.String()},
	}
	if change != nil {
		change(&s.config)
	}
	s.Tunnel = New(tb.Context(), "under-test", s.gate, s.seen.observer())
	s.SetReady(true)
	if err := s.Update(s.config); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { s.Close() })
	return s
}

// plain connects to the tunnel without TLS.
func (s *setup) plain(tb testing.TB) net.Conn {
	tb.Helper()
	address := s.Addrs()[0]
	c, err := net.Dial(address.Network(), address.String())
	if err != nil {
		tb.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// secure connects to an inbound tunnel with TLS, without a handshake yet.
func (s *setup) secure(tb testing.TB, version uint16, change func(*tls.Config)) *tls.Conn {
	tb.Helper()
	config := s.spine.clientConfig(version)
	if change != nil {
		change(config)
	}
	return tls.Client(s.plain(tb), config)
}

// exchange sends a line and expects it back.
func exchange(tb testing.TB, c net.Conn, line string) {
	tb.Helper()
	if _, err := io.WriteString(c, line); err != nil {
		tb.Fatalf("write: %v", err)
	}
	got := make([]byte, len(line))
	if _, err := io.ReadFull(c, got); err != nil {
		tb.Fatalf("read: %v", err)
	}
	if string(got) != line {
		tb.Fatalf("got %q, want %q", got, line)
	}
}
