package rotate

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/trust"
)

// crlBench is a bench whose CAs publish their lists on a real HTTP server.
type crlBench struct {
	*bench
	server *httptest.Server
	kept   *memCRLs
	store2 CRLStore // nil: kept

	unmodified atomic.Int64

	mu      sync.Mutex
	lists   map[string]http.HandlerFunc // by path
	counted map[string]int
}

func newCRLBench(t *testing.T) *crlBench {
	t.Helper()
	c := &crlBench{bench: newBench(t), kept: &memCRLs{t: t, lists: map[string]memCRL{}}, lists: map[string]http.HandlerFunc{}, counted: map[string]int{}}
	c.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		answer := c.lists[r.URL.Path]
		c.counted[r.URL.Path]++
		c.mu.Unlock()
		if answer == nil {
			http.NotFound(w, r)
			return
		}
		answer(w, r)
	}))
	t.Cleanup(c.server.Close)
	c.sub = c.root.SubCA(t, testpki.CDP(c.url("/root.crl")))
	c.write("trust.pem", c.sub.BundlePEM(), 0o644)
	c.publish("/root.crl", c.root.CRL(t, testpki.IDP(c.url("/root.crl"))))
	c.env.Profile, c.env.Revocation = trust.NHSG2, trust.Require
	c.env.Fetch = CRLFetch{Hosts: []string{strings.TrimPrefix(c.server.URL, "http://")}, Refresh: time.Hour, Timeout: 20 * time.Second}
	return c
}

func (c *crlBench) url(path string) string { return c.server.URL + path }

// publish has the server answer with a list.
func (c *crlBench) publish(path string, der []byte) {
	c.answer(path, func(w http.ResponseWriter, r *http.Request) {
		tag := fmt.Sprintf("%q", fmt.Sprintf("%x", sha256.Sum256(der)))
		w.Header().Set("ETag", tag)
		if r.Header.Get("If-None-Match") == tag {
			c.unmodified.Add(1)
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = w.Write(der)
	})
}

func (c *crlBench) answer(path string, f http.HandlerFunc) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lists[path] = f
}

func (c *crlBench) requests(path string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.counted[path]
}

// partition publishes a list of the subCA for one partition.
func (c *crlBench) partition(path string, opts ...testpki.CRLOption) {
	c.t.Helper()
	c.publish(path, c.sub.CRL(c.t, append([]testpki.CRLOption{testpki.IDP(c.url(path))}, opts...)...))
}

// peer issues a certificate whose list is at path.
func (c *crlBench) peer(path string) *testpki.Leaf {
	c.t.Helper()
	return c.sub.Issue(c.t, testpki.Name("proxy.nhs.uk"), testpki.CDP(c.url(path)))
}

// begin starts the keeper with an identity of partition /own.crl.
func (c *crlBench) begin() *Endpoint {
	c.t.Helper()
	c.partition("/own.crl")
	c.crls = c.kept
	if c.store2 != nil {
		c.crls = c.store2
	}
	c.pair(c.sub.Issue(c.t, testpki.Name("pcs.nhs.uk"), testpki.CDP(c.url("/own.crl"))))
	c.start()
	c.until("the slot serves", func() bool { return c.pcs().Snapshot() != nil })
	return c.use(EndpointConfig{Late: true})
}

// use adds an endpoint that permits proxy.nhs.uk.
func (c *crlBench) use(config EndpointConfig) *Endpoint {
	c.t.Helper()
	config.Peers = trust.Names("proxy.nhs.uk")
	e, err := c.pcs().Endpoint(config)
	if err != nil {
		c.t.Fatal(err)
	}
	return e
}

// presented is a finished handshake in which l was shown.
func presented(l *testpki.Leaf) tls.ConnectionState {
	return tls.ConnectionState{HandshakeComplete: true, PeerCertificates: append([]*x509.Certificate{l.Cert}, l.Chain...)}
}

// judge has a peer judged as a tunnel does after its handshake.
func (c *crlBench) judge(e *Endpoint, l *testpki.Leaf) error {
	_, err := e.Accepted(c.context(), presented(l))
	return err
}

// list is how the list of a path stands.
func (c *crlBench) list(path string) (CRLStatus, bool) {
	for _, s := range c.environment().CRLs() {
		if s.Address == c.url(path) {
			return s, true
		}
	}
	return CRLStatus{}, false
}

// refusedFor fails unless err is a refusal for that reason.
func refusedFor(t *testing.T, err error, want trust.Reason) {
	t.Helper()
	if got := trust.ReasonOf(err); got != want {
		t.Fatalf("error is %v, want the reason %s", err, want)
	}
}

// memCRLs is a CRLStore in memory.
type memCRLs struct {
	t     *testing.T
	mu    sync.Mutex
	lists map[string]memCRL
	fail  error
}

type memCRL struct {
	kept KeptCRL
	der  []byte
}

func (m *memCRLs) ListCRLs(string) ([]KeptCRL, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []KeptCRL
	for _, l := range m.lists {
		out = append(out, l.kept)
	}
	return out, nil
}

func (m *memCRLs) OpenCRL(_, address string) (*os.File, error) {
	m.mu.Lock()
	l, ok := m.lists[address]
	m.mu.Unlock()
	if !ok {
		return nil, os.ErrNotExist
	}
	f, err := m.SpoolCRL()
	if err == nil {
		_, err = f.Write(l.der)
	}
	return f, err
}

func (m *memCRLs) SpoolCRL() (*os.File, error) { return memorySpool() }

func (m *memCRLs) KeepCRL(_ string, k KeptCRL, spool *os.File) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	l := m.lists[k.Address]
	l.kept = k
	if spool != nil {
		var err error
		if l.der, err = io.ReadAll(io.NewSectionReader(spool, 0, 1<<30)); err != nil {
			return err
		}
	}
	if len(l.der) == 0 {
		return errors.New("there are no contents to keep")
	}
	m.lists[k.Address] = l
	return nil
}

func (m *memCRLs) DropCRL(_, address string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.lists, address)
	return nil
}

// set has KeepCRL fail, or work again.
func (m *memCRLs) set(fail error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = fail
}

func (m *memCRLs) has(address string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.lists[address]
	return ok
}

var _ CRLStore = (*memCRLs)(nil)
