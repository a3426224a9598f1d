package systemstory

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/hostbox"
	"github.com/spinecert/spinecert/internal/testpki"
)

// answerLimit is how long a peer waits for an answer: long enough for a busy machine.
const answerLimit = 20 * time.Second

// backend is the service behind the tunnel: it answers each line with the same.
func (h *host) backend() {
	h.t.Helper()
	l, err := h.Listen(h.t.Context(), "tcp", service)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			}()
		}
	}()
}

// peer is an open connection through the tunnel.
type peer struct {
	*tls.Conn
	lines *bufio.Reader
	count int
}

// clientConfig is that of the peer. It takes whatever name the tunnel shows, and looks at the chain.
func (h *host) clientConfig(who *testpki.Leaf) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(h.sub.Root().Cert)
	return &tls.Config{RootCAs: roots, ServerName: ownName, Certificates: []tls.Certificate{who.TLS()}, MinVersion: tls.VersionTLS12}
}

// connect makes a connection through the tunnel.
func (h *host) connect(ctx context.Context, c *tls.Config) (*peer, error) {
	bounded, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	raw, err := h.Dial(bounded, "tcp", address)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, c)
	if err := conn.HandshakeContext(bounded); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	return &peer{Conn: conn, lines: bufio.NewReader(conn)}, nil
}

// use sends a line, and wants it back.
func (p *peer) use() error {
	p.count++
	line := fmt.Sprintf("line %d\n", p.count)
	if err := p.SetDeadline(time.Now().Add(answerLimit)); err != nil {
		return err
	}
	if _, err := io.WriteString(p, line); err != nil {
		return err
	}
	got, err := p.lines.ReadString('\n')
	if err == nil && got != line {
		err = fmt.Errorf("sent %q, and got %q", line, got)
	}
	return err
}

// leaf is the fingerprint of what the tunnel showed.
func (p *peer) leaf() string {
	sum := sha256.Sum256(p.ConnectionState().PeerCertificates[0].Raw)
	return hex.EncodeToString(sum[:])
}

// open is connect for a connection that must come about, and that is closed with the test.
func (h *host) open() *peer {
	h.t.Helper()
	p, err := h.connect(h.t.Context(), h.clientConfig(h.who))
	if err != nil {
		h.t.Fatalf("connect to the tunnel: %v", err)
	}
	h.t.Cleanup(func() { _ = p.Close() })
	h.works(p)
	return p
}

// works wants an open connection to work.
func (h *host) works(p *peer) {
	h.t.Helper()
	if err := p.use(); err != nil {
		h.t.Fatalf("use the connection: %v", err)
	}
}

// look returns the fingerprint of what the tunnel shows to a new peer that gets through.
func (h *host) look() (string, error) {
	p, err := h.connect(h.t.Context(), h.clientConfig(h.who))
	if err != nil {
		return "", err
	}
	defer p.Close()
	return p.leaf(), p.use()
}

// serves wants a leaf to be shown now.
func (h *host) serves(want *testpki.Leaf) {
	h.t.Helper()
	if got, err := h.look(); err != nil || got != hostbox.Fingerprint(want) {
		h.t.Fatalf("the tunnel shows %q, %v; want %s", got, err, hostbox.Fingerprint(want))
	}
}

// soon is serves for what takes a moment.
func (h *host) soon(want *testpki.Leaf) {
	h.t.Helper()
	h.Until("the tunnel shows "+hostbox.Fingerprint(want), func() bool {
		got, err := h.look()
		return err == nil && got == hostbox.Fingerprint(want)
	})
}

// closed waits until nothing listens.
func (h *host) closed() {
	h.t.Helper()
	h.Until("nothing listens for the tunnel", func() bool {
		conn, err := h.Dial(h.t.Context(), "tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err != nil
	})
}

// traffic is what peers do all the time.
type traffic struct {
	stop     context.CancelFunc
	done     sync.WaitGroup
	requests atomic.Int64
	opened   atomic.Int64

	mu     sync.Mutex
	failed []error
}

// traffic starts peers with a connection each that they keep, and as many that make a new one for each line.
func (h *host) traffic(each int) *traffic {
	h.t.Helper()
	ctx, stop := context.WithCancel(h.t.Context())
	tr := &traffic{stop: stop}
	h.t.Cleanup(func() { tr.end(h.t) })
	c := h.clientConfig(h.who)
	for range each {
		kept := h.open()
		tr.done.Go(func() { tr.repeat(ctx, func() error { return kept.use() }) })
		tr.done.Go(func() {
			tr.repeat(ctx, func() error {
				p, err := h.connect(context.WithoutCancel(ctx), c)
				if err != nil {
					return err
				}
				tr.opened.Add(1)
				return errors.Join(p.use(), p.Close())
			})
		})
	}
	return tr
}

func (tr *traffic) repeat(ctx context.Context, do func() error) {
	for ctx.Err() == nil {
		if err := do(); err != nil {
			tr.mu.Lock()
			tr.failed = append(tr.failed, err)
			tr.mu.Unlock()
			return
		}
		tr.requests.Add(1)
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// end stops the peers, and wants nothing to have failed.
func (tr *traffic) end(t *testing.T) {
	t.Helper()
	if tr.stop == nil {
		return
	}
	tr.stop()
	tr.stop = nil
	tr.done.Wait()
	for _, err := range tr.failed {
		t.Errorf("a peer failed: %v", err)
	}
	t.Logf("%d requests on %d new connections and those that were kept, %d failed", tr.requests.Load(), tr.opened.Load(), len(tr.failed))
}
