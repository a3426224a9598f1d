package tunnel

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/trust"
)

// reviewer is the Review of an Endpoint.
type reviewer = func([]*x509.Certificate, trust.Verdict, time.Time, bool) (trust.Verdict, error)

// refusing is a Review that refuses peers of this name; "" is everybody.
func refusing(name string, reason trust.Reason) reviewer {
	return func(chain []*x509.Certificate, v trust.Verdict, _ time.Time, _ bool) (trust.Verdict, error) {
		if len(chain) == 0 || name == "" || chain[0].Subject.CommonName == name {
			return trust.Verdict{}, &trust.VerifyError{Reason: reason, Detail: "just now"}
		}
		return v, nil
	}
}

// as is a peer with another name.
func (s *spine) as(tb testing.TB, name string) func(*tls.Config) {
	certificate := s.sub.Issue(tb, testpki.Name(name)).TLS()
	return func(c *tls.Config) {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &certificate, nil }
	}
}

func TestReviewCutsWhoIsRefused(t *testing.T) {
	b := newBackend(t, "tcp", nil, echo)
	s := start(t, Inbound, tls.VersionTLS12, b.Addr(), nil)
	good, bad := s.secure(t, tls.VersionTLS12, nil), s.secure(t, tls.VersionTLS12, s.spine.as(t, "bad"))
	exchange(t, good, "hello")
	exchange(t, bad, "hello")
	if looked, cut := s.Review(false); looked != 2 || cut != 0 {
		t.Errorf("looked at %d, cut %d, want 2, 0", looked, cut)
	}
	// Settings that came since are what counts, and their endpoint.
	next := &fakeEndpoint{again: refusing("bad", trust.Revoked)}
	next.config.Store(s.endpoint.config.Load())
	s.config.Endpoint = next
	if err := s.Update(s.config); err != nil {
		t.Fatal(err)
	}
	if looked, cut := s.Review(false); looked != 2 || cut != 1 || next.reviewed.Load() != 2 {
		t.Errorf("looked at %d, cut %d, want 2, 1", looked, cut)
	}
	if _, err := bad.Read(make([]byte, 1)); err == nil {
		t.Error("still open")
	}
	end := s.seen.awaitClosed(t, 1)
	if refusal := refusalOf(end.Err); end.Cause != string(trust.Revoked) || refusal == nil || refusal.Detail != "just now" {
		t.Errorf("closed %+v", end)
	}
	if diff := cmp.Diff([]string{"revoked"}, s.seen.cuts); diff != "" || len(s.seen.wouldCuts) > 0 {
		t.Error(diff, s.seen.wouldCuts)
	}
	exchange(t, good, "still here")
	if looked, cut := s.Review(false); looked != 1 || cut != 0 {
		t.Errorf("afterwards looked at %d, cut %d, want 1, 0", looked, cut)
	}
}

// TestReviewGivesAndTakesTheVerdict also has errors that are no refusals: they cut
// nobody and change nothing.
func TestReviewGivesAndTakesTheVerdict(t *testing.T) {
	b := newBackend(t, "tcp", nil, echo)
	s := start(t, Inbound, tls.VersionTLS12, b.Addr(), nil)
	type call struct {
		name    string
		undated bool
	}
	var calls []call
	var err error
	s.endpoint.again = func(_ []*x509.Certificate, v trust.Verdict, _ time.Time, undated bool) (trust.Verdict, error) {
		calls = append(calls, call{v.Name, undated})
		v.Name += "+"
		return v, err
	}
	c := s.secure(t, tls.VersionTLS12, nil)
	exchange(t, c, "hello")
	s.Review(true)
	err = errors.New("the slot serves nothing")
	s.Review(false)
	err = nil
	s.Review(false)
	if diff := cmp.Diff([]call{{"proxy", true}, {"proxy+", false}, {"proxy+", false}}, calls, cmp.AllowUnexported(call{})); diff != "" {
		t.Error(diff)
	}
	if got := s.Connections()[0].Verdict().Name; got != "proxy++" {
		t.Errorf("verdict %q", got)
	}
	exchange(t, c, "still here")
}

// TestReviewOfDraining: a drain may last, and a revoked peer must not.
func TestReviewOfDraining(t *testing.T) {
	p := newPair(t, Inbound, tls.VersionTLS12, false, nil)
	send(t, p.near, "hello")
	receive(t, p.far, "hello")
	p.refuse()
	if looked, cut := p.Review(false); looked != 1 || cut != 0 {
		t.Errorf("looked at %d, cut %d", looked, cut)
	}
	p.endpoint.again = refusing("", trust.Revoked)
	if _, cut := p.Review(false); cut != 1 {
		t.Errorf("cut %d", cut)
	}
	p.Close()
	if looked, cut := p.Review(false); looked+cut != 0 {
		t.Errorf("closed: looked at %d, cut %d", looked, cut)
	}
}

// TestReviewSparesHandshakes: a connection whose handshake is not over has no chain.
func TestReviewSparesHandshakes(t *testing.T) {
	b := newBackend(t, "tcp", nil, echo)
	s := start(t, Inbound, tls.VersionTLS12, b.Addr(), nil)
	s.endpoint.again = refusing("", trust.Expired)
	c := s.secure(t, tls.VersionTLS12, nil)
	s.seen.await(t, "the connection", func() bool { return s.Stats().Connections == 1 })
	if looked, cut := s.Review(false); looked+cut != 0 {
		t.Errorf("looked at %d, cut %d", looked, cut)
	}
	exchange(t, c, "hello")
}

// TestCutOutbound resets the local service: what it has is not the whole.
func TestCutOutbound(t *testing.T) {
	for _, version := range versions {
		p := newPair(t, Outbound, version, false, nil)
		send(t, p.near, "question")
		receive(t, p.far, "question")
		p.endpoint.again = refusing("", trust.Revoked)
		if _, cut := p.Review(false); cut != 1 {
			t.Errorf("cut %d", cut)
		}
		if _, err := io.ReadAll(p.near); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("plain side got %v, want a reset", err)
		}
		if end := p.seen.awaitClosed(t, 1); end.Cause != string(trust.Revoked) {
			t.Errorf("closed %+v", end)
		}
		// TLS 1.3: it was accepted, although its server never sent a byte.
		if h := p.seen.awaitHandshake(t, 1); h.Result != Accepted || len(p.seen.handshakes) != 1 {
			t.Errorf("handshakes %+v", p.seen.handshakes)
		}
	}
}

// TestReviewOfMany looks at 10,000 connections, each once, while others look too,
// and cuts each that is refused, once.
func TestReviewOfMany(t *testing.T) {
	const n, every = 10_000, 100
	var cuts, visits atomic.Int64
	e := &fakeEndpoint{again: func(chain []*x509.Certificate, v trust.Verdict, _ time.Time, _ bool) (trust.Verdict, error) {
		visits.Add(1)
		if chain[0].Version == 1 {
			return v, &trust.VerifyError{Reason: trust.Revoked, Detail: "just now"}
		}
		return v, nil
	}}
	tn := New(t.Context(), "many", NewGate(Limits{}), Observer{Cut: func(*Conn, *trust.VerifyError) { cuts.Add(1) }})
	defer tn.cancel()
	set := &settings{Config: Config{Direction: Inbound, Endpoint: e}}
	tn.settings.Store(set)
	good, bad := []*x509.Certificate{{Version: 3}}, []*x509.Certificate{{Version: 1}}
	for i := range n {
		c := &Conn{tunnel: tn, set: set, chain: good, judged: true, opened: true}
		if i%every == 0 {
			c.chain = bad
		}
		tn.conns[c] = struct{}{}
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(8)) // several workers also on a small machine
	if looked, cut := tn.Review(false); looked != n || cut != n/every || visits.Load() != n {
		t.Errorf("looked at %d, cut %d, asked %d times", looked, cut, visits.Load())
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if looked, cut := tn.Review(false); looked != n || cut != 0 {
				t.Errorf("again looked at %d, cut %d", looked, cut)
			}
		})
		wg.Go(func() {
			for _, c := range tn.Connections() {
				_ = c.Verdict()
			}
		})
	}
	wg.Wait()
	if cuts.Load() != n/every || visits.Load() != n+4*(n-n/every) {
		t.Errorf("%d cuts told, asked %d times: what was cut is not asked about again", cuts.Load(), visits.Load())
	}
}

func BenchmarkReview(b *testing.B) {
	e := &fakeEndpoint{}
	tn := New(b.Context(), "many", NewGate(Limits{}), Observer{})
	defer tn.cancel()
	set := &settings{Config: Config{Direction: Inbound, Endpoint: e}}
	tn.settings.Store(set)
	for range 10_000 {
		tn.conns[&Conn{tunnel: tn, set: set, chain: []*x509.Certificate{{}}, judged: true, opened: true}] = struct{}{}
	}
	for b.Loop() {
		tn.Review(false)
	}
}

// resultsOf are the results and reasons of the handshakes so far.
func (r *recorder) resultsOf() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, h := range r.handshakes {
		out = append(out, string(h.Result)+" "+h.Reason)
	}
	slices.Sort(out)
	return out
}
