package tunnel

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/spinecert/spinecert/trust"
)

// servesNothing is the Review of an endpoint whose slot serves nothing.
func servesNothing(_ []*x509.Certificate, v trust.Verdict, _ time.Time, _ bool) (trust.Verdict, error) {
	return v, errors.New("the slot serves nothing")
}

// TestReloadToAnEndpointThatCannotJudge: whom the old configuration let in does not
// stay for want of somebody who asks.
func TestReloadToAnEndpointThatCannotJudge(t *testing.T) {
	for version, number := range versions {
		t.Run(version, func(t *testing.T) {
			b := newBackend(t, "tcp", nil, echo)
			s := start(t, Inbound, number, b.Addr(), nil)
			c := s.secure(t, number, nil)
			exchange(t, c, "hello")
			// In an audit it is said, once, and that is all.
			s.config.Endpoint, s.config.Audit = &fakeEndpoint{again: servesNothing}, true
			if err := s.Update(s.config); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if looked, cut := s.Review(false); looked != 1 || cut != 0 {
					t.Errorf("audit: looked at %d, cut %d", looked, cut)
				}
			}
			if diff := cmp.Diff([]string{"unknown_issuer"}, s.seen.wouldCuts); diff != "" {
				t.Error(diff)
			}
			exchange(t, c, "still here")
			s.config.Audit = false
			if err := s.Update(s.config); err != nil {
				t.Fatal(err)
			}
			if looked, cut := s.Review(false); looked != 1 || cut != 1 {
				t.Errorf("looked at %d, cut %d", looked, cut)
			}
			end := s.seen.awaitClosed(t, 1)
			if refusal := refusalOf(end.Err); end.Cause != "unknown_issuer" || refusal == nil || refusal.Certificate == nil || refusal.Hint() == "" {
				t.Errorf("closed %+v", end)
			}
		})
	}
}

// TestEndpointThatCannotJudgeForAMoment has judged the peer before, if not from the
// start.
func TestEndpointThatCannotJudgeForAMoment(t *testing.T) {
	b := newBackend(t, "tcp", nil, echo)
	s := start(t, Inbound, tls.VersionTLS12, b.Addr(), nil)
	c := s.secure(t, tls.VersionTLS12, nil)
	exchange(t, c, "hello")
	next := &fakeEndpoint{}
	s.config.Endpoint = next
	if err := s.Update(s.config); err != nil {
		t.Fatal(err)
	}
	s.Review(false)
	next.again = servesNothing
	if looked, cut := s.Review(false); looked != 1 || cut != 0 {
		t.Errorf("looked at %d, cut %d", looked, cut)
	}
	exchange(t, c, "still here")
}

// TestReloadDuringAHandshakeToAnEndpointThatCannotJudge forwards nothing of a peer
// that only the old configuration has judged.
func TestReloadDuringAHandshakeToAnEndpointThatCannotJudge(t *testing.T) {
	for _, version := range versions {
		f := newInFlight(t, version)
		f.config.Endpoint = &fakeEndpoint{again: servesNothing}
		if err := f.Update(f.config); err != nil {
			t.Fatal(err)
		}
		close(f.release)
		f.refused(t, "refused unknown_issuer")
	}
}

// TestAuditEndsDuringAHandshake: a Review may pass what no new connection passes, such
// as a CRL that is missing. Whom only the audit let in is a new connection.
func TestAuditEndsDuringAHandshake(t *testing.T) {
	for name, audit := range map[string]bool{"refused crl_unavailable": false, "audited crl_unavailable": true} {
		b := newBackend(t, "tcp", nil, echo)
		s := start(t, Inbound, tls.VersionTLS12, b.Addr(), auditing)
		s.lenient()
		entered, release := make(chan struct{}), make(chan struct{})
		s.endpoint.judge = func(context.Context, tls.ConnectionState) (trust.Verdict, error) {
			close(entered)
			<-release
			return trust.Verdict{}, &trust.VerifyError{Reason: trust.CRLUnavailable, Detail: "nobody answers"}
		}
		c := s.secure(t, tls.VersionTLS12, nil)
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
		<-entered
		s.config.Audit = audit
		if err := s.Update(s.config); err != nil {
			t.Fatal(err)
		}
		s.Review(false)
		close(release)
		s.seen.awaitHandshake(t, 1)
		if diff := cmp.Diff([]string{name}, s.seen.resultsOf()); diff != "" {
			t.Error(diff)
		}
		if audit {
			exchange(t, c, "hello")
			continue
		}
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("still open")
		}
		if len(s.seen.opened) > 0 {
			t.Error("opened")
		}
	}
}

// TestCutIsToldBeforeClosed, also where who tells of the cut is slow.
func TestCutIsToldBeforeClosed(t *testing.T) {
	var order []string // guarded by the recorder's mutex
	seen := newRecorder()
	o := seen.observer()
	ended := make(chan struct{})
	o.Cut = func(c *Conn, _ *trust.VerifyError) {
		for end := time.Now().Add(patience); c.relaying.Load() > 0 && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
		select { // nothing is left to do but to tell the end
		case <-ended:
		case <-time.After(50 * time.Millisecond):
		}
		seen.note(func() { order = append(order, "cut") })
	}
	o.Closed = func(*Conn, Closed) {
		close(ended)
		seen.note(func() { order = append(order, "closed") })
	}
	b := newBackend(t, "tcp", nil, echo)
	s := start(t, Inbound, tls.VersionTLS12, b.Addr(), nil)
	s.observer = o
	c := s.secure(t, tls.VersionTLS12, nil)
	exchange(t, c, "hello")
	s.endpoint.again = refusing("", trust.Revoked)
	if _, cut := s.Review(false); cut != 1 {
		t.Errorf("cut %d", cut)
	}
	seen.await(t, "the end", func() bool { return slices.Contains(order, "closed") })
	if diff := cmp.Diff([]string{"cut", "closed"}, order); diff != "" {
		t.Error(diff)
	}
}
