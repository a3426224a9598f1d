package tunnel

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/spinecert/spinecert/trust"
)

// inFlight is an inbound tunnel with one handshake whose peer is being judged.
type inFlight struct {
	*setup
	peer    *tls.Conn
	far     chan net.Conn
	release chan struct{} // closed: the peer is accepted
}

func newInFlight(t *testing.T, version uint16) *inFlight {
	t.Helper()
	f := &inFlight{far: make(chan net.Conn, 1), release: make(chan struct{})}
	done, entered := make(chan struct{}), make(chan struct{})
	b := newBackend(t, "tcp", nil, hand(f.far, done))
	t.Cleanup(func() { close(done) })
	f.setup = start(t, Inbound, version, b.Addr(), nil)
	f.endpoint.judge = func(_ context.Context, cs tls.ConnectionState) (trust.Verdict, error) {
		close(entered)
		<-f.release
		return trust.Verdict{Chain: cs.PeerCertificates, Name: "proxy"}, nil
	}
	f.peer = f.secure(t, version, nil)
	if err := f.peer.Handshake(); err != nil {
		t.Fatal(err)
	}
	<-entered
	return f
}

// refused waits for the refusal of the handshake: nobody behind the tunnel may hear
// of it.
func (f *inFlight) refused(t *testing.T, want string) {
	t.Helper()
	_, _ = io.ReadAll(f.peer) // ends
	f.seen.awaitHandshake(t, 1)
	f.seen.await(t, "its end", func() bool { return f.Stats().Connections == 0 })
	if diff := cmp.Diff([]string{want}, f.seen.resultsOf()); diff != "" {
		t.Error(diff)
	}
	if len(f.far) > 0 || len(f.seen.opened)+len(f.seen.closings)+len(f.seen.cuts) > 0 {
		t.Errorf("forwarded %d, opened %d, closed %v, cut %v", len(f.far), len(f.seen.opened), f.seen.closings, f.seen.cuts)
	}
}

func TestReviewDuringAHandshake(t *testing.T) {
	for _, version := range versions {
		f := newInFlight(t, version)
		f.endpoint.again = refusing("", trust.Revoked) // judged by what was before
		if looked, cut := f.Review(false); looked+cut != 0 {
			t.Errorf("looked at %d, cut %d", looked, cut)
		}
		close(f.release)
		f.refused(t, "refused revoked")
		if n := f.endpoint.reviewed.Load(); n != 1 {
			t.Errorf("judged again %d times", n)
		}
	}
}

func TestReloadDuringAHandshake(t *testing.T) {
	next := &fakeEndpoint{again: refusing("", trust.NotListed)}
	f := newInFlight(t, tls.VersionTLS12)
	f.config.Endpoint = next
	if err := f.Update(f.config); err != nil {
		t.Fatal(err)
	}
	close(f.release)
	f.refused(t, "refused not_listed")
	if f.endpoint.reviewed.Load() != 0 || next.reviewed.Load() != 1 {
		t.Error("judged by the endpoint that was")
	}
}

// TestReloadToAuditDuringAHandshake lets the same peer in, and says so.
func TestReloadToAuditDuringAHandshake(t *testing.T) {
	f := newInFlight(t, tls.VersionTLS12)
	f.config.Endpoint, f.config.Audit = &fakeEndpoint{again: refusing("", trust.NotListed)}, true
	if err := f.Update(f.config); err != nil {
		t.Fatal(err)
	}
	close(f.release)
	f.seen.awaitHandshake(t, 1)
	far := <-f.far
	send(t, f.peer, "hello")
	receive(t, far, "hello")
	if diff := cmp.Diff([]string{"audited not_listed"}, f.seen.resultsOf()); diff != "" {
		t.Error(diff)
	}
	if _, cut := f.Review(false); cut != 0 || len(f.seen.wouldCuts) != 0 {
		t.Errorf("cut %d, told again: %v", cut, f.seen.wouldCuts)
	}
}

// TestQuietHandshakeIsJudgedOnce: without a change nothing is judged twice.
func TestQuietHandshakeIsJudgedOnce(t *testing.T) {
	f := newInFlight(t, tls.VersionTLS12)
	close(f.release)
	<-f.far
	if n := f.endpoint.reviewed.Load(); n != 0 || f.endpoint.accepted.Load() != 1 {
		t.Errorf("judged again %d times", n)
	}
}

// TestReviewFindsWhatJudgesItself has a Review refuse a connection that has just
// registered, while that one asks for itself and is told a good verdict of before.
func TestReviewFindsWhatJudgesItself(t *testing.T) {
	f := newInFlight(t, tls.VersionTLS12)
	asked, go_ := make(chan struct{}), make(chan struct{})
	first := true
	f.endpoint.again = func(_ []*x509.Certificate, v trust.Verdict, _ time.Time, _ bool) (trust.Verdict, error) {
		if first {
			first = false
			close(asked)
			<-go_
			return v, nil
		}
		return v, &trust.VerifyError{Reason: trust.Revoked, Detail: "just now"}
	}
	f.Review(false)
	close(f.release)
	select {
	case <-asked:
	case <-time.After(patience):
		close(go_)
		t.Fatal("it does not ask again")
	}
	if looked, cut := f.Review(false); looked != 1 || cut != 0 {
		t.Errorf("looked at %d, cut %d, want 1, 0: it was not open yet", looked, cut)
	}
	close(go_)
	f.refused(t, "refused revoked")
}

// TestWaitingForTheVerdict holds no CPU token, counts as a handshake of its source,
// and ends with the time for the handshake.
func TestWaitingForTheVerdict(t *testing.T) {
	b := newBackend(t, "tcp", nil, echo)
	s := start(t, Inbound, tls.VersionTLS12, b.Addr(), func(c *Config) { c.Handshake = 4 * time.Second })
	s.gate.SetLimits(Limits{Handshakes: 1, PerSource: 2})
	entered := make(chan time.Duration, 1)
	s.endpoint.judge = func(ctx context.Context, cs tls.ConnectionState) (trust.Verdict, error) {
		if cs.PeerCertificates[0].Subject.CommonName != "slow" {
			return trust.Verdict{Chain: cs.PeerCertificates}, nil
		}
		end, _ := ctx.Deadline()
		entered <- time.Until(end)
		<-ctx.Done()
		return trust.Verdict{}, errors.Join(&trust.VerifyError{Reason: trust.CRLUnavailable, Detail: "nobody answers"}, ctx.Err())
	}
	slow := s.secure(t, tls.VersionTLS12, s.spine.as(t, "slow"))
	if err := slow.Handshake(); err != nil {
		t.Fatal(err)
	}
	if left := <-entered; left <= 0 || left > s.config.Handshake {
		t.Errorf("%v left of %v", left, s.config.Handshake)
	}
	s.gate.tokens.mu.Lock()
	used := s.gate.tokens.used
	s.gate.tokens.mu.Unlock()
	s.gate.mu.Lock()
	counted := s.gate.sources[addrOf(slow.LocalAddr())]
	s.gate.mu.Unlock()
	if used != 0 || counted != 1 {
		t.Errorf("%d tokens held, %d handshakes counted, want 0, 1", used, counted)
	}
	exchange(t, s.secure(t, tls.VersionTLS12, nil), "hello") // with the only token
	if _, err := slow.Read(make([]byte, 1)); err == nil {
		t.Error("still open")
	}
	s.seen.awaitHandshake(t, 2)
	if diff := cmp.Diff([]string{"accepted ", "refused crl_unavailable"}, s.seen.resultsOf()); diff != "" {
		t.Error(diff)
	}
}
