package tunnel

import (
	"context"
	"crypto/tls"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/trust"
)

// lenient makes the endpoint let everybody pass the handshake and judge afterwards,
// as rotate does for Config.Audit.
func (s *setup) lenient() {
	config := s.endpoint.config.Load().Clone()
	verify := config.VerifyConnection
	config.ClientAuth, config.VerifyConnection = tls.RequestClientCert, nil
	s.endpoint.judge = func(_ context.Context, cs tls.ConnectionState) (trust.Verdict, error) {
		if len(cs.PeerCertificates) == 0 {
			return trust.Verdict{}, &trust.VerifyError{Reason: trust.NoCertificate, Detail: "the peer presented no certificate"}
		}
		return trust.Verdict{Chain: cs.PeerCertificates, Name: "proxy"}, verify(cs)
	}
	s.endpoint.config.Store(config) // which connections load first
}

func auditing(c *Config) { c.Audit = true }

func TestAuditInbound(t *testing.T) {
	stranger := testpki.NewRoot(t).Issue(t, testpki.Name("stranger"), testpki.DNS("x.nhs.uk")).TLS()
	for name, test := range map[string]struct {
		certificate *tls.Certificate // nil: the right one
		want        string
		enforced    string // what cuts it, once the policy is enforce
	}{
		"good":           {nil, "accepted ", ""},
		"stranger":       {&stranger, "audited unknown_issuer", "not_listed"},
		"no certificate": {new(tls.Certificate), "audited no_certificate", "not_listed"},
	} {
		for version, number := range versions {
			t.Run(name+" "+version, func(t *testing.T) {
				b := newBackend(t, "tcp", nil, echo)
				s := start(t, Inbound, number, b.Addr(), auditing)
				s.lenient()
				c := s.secure(t, number, func(c *tls.Config) {
					if test.certificate != nil {
						c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return test.certificate, nil }
					}
				})
				exchange(t, c, "hello")
				if diff := cmp.Diff([]string{test.want}, s.seen.resultsOf()); diff != "" {
					t.Error(diff)
				}
				h := s.seen.awaitHandshake(t, 1)
				if audited := h.Result == Audited; audited != (h.Err != nil) || audited != (h.Verdict.Name == "") {
					t.Errorf("%+v", h)
				}
				// Reviews cut nobody, and say so once for each reason.
				for _, reason := range []trust.Reason{trust.UnknownIssuer, trust.NotListed, trust.NotListed, trust.UnknownIssuer} {
					s.endpoint.again = refusing("", reason)
					if looked, cut := s.Review(false); looked != 1 || cut != 0 {
						t.Errorf("looked at %d, cut %d", looked, cut)
					}
				}
				want := map[string][]string{"good": {"unknown_issuer", "not_listed"}, "stranger": {"not_listed"}}[name]
				if diff := cmp.Diff(want, s.seen.wouldCuts); diff != "" {
					t.Error(diff)
				}
				exchange(t, c, "still here")
				s.enforce(t, refusing("stranger", trust.NotListed), test.enforced)
			})
		}
	}
}

// enforce takes the audit away; want is the reason that cuts the connection, "" is none.
func (s *setup) enforce(t *testing.T, again reviewer, want string) {
	t.Helper()
	s.endpoint.again, s.config.Audit = again, false
	if err := s.Update(s.config); err != nil {
		t.Fatal(err)
	}
	_, cut := s.Review(false)
	if want == "" {
		if cut != 0 {
			t.Errorf("cut %d", cut)
		}
		return
	}
	if end := s.seen.awaitClosed(t, 1); cut != 1 || end.Cause != want {
		t.Errorf("cut %d, closed %+v", cut, end)
	}
}

// TestAuditOutbound tells of a server that TLS 1.3 has not heard of yet only once it
// has.
func TestAuditOutbound(t *testing.T) {
	for version, number := range versions {
		t.Run(version, func(t *testing.T) {
			in := newSpine(t)
			config := in.serverConfig(number)
			config.Certificates[0] = testpki.NewRoot(t).Issue(t).TLS()
			b := newBackend(t, "tcp", config, echo)
			s := startIn(t, in, Outbound, number, b.Addr(), auditing)
			s.lenient()
			c := s.plain(t)
			s.seen.await(t, "the connection", func() bool { return len(s.seen.opened) == 1 })
			if n := len(s.seen.resultsOf()); (n == 0) != (number == tls.VersionTLS13) {
				t.Errorf("%d handshakes reported before the first byte", n)
			}
			exchange(t, c, "hello")
			if diff := cmp.Diff([]string{"audited unknown_issuer"}, s.seen.resultsOf()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestAuditIsForRefusalsOnly: what is no refusal of a peer still ends it, and a
// certificate that does not parse too.
func TestAuditIsForRefusalsOnly(t *testing.T) {
	good := testpki.NewRoot(t).Issue(t).TLS()
	garbage := tls.Certificate{Certificate: [][]byte{[]byte("not a certificate")}, PrivateKey: good.PrivateKey}
	b := newBackend(t, "tcp", nil, echo)
	s := start(t, Inbound, tls.VersionTLS12, b.Addr(), auditing)
	s.lenient()
	_ = s.secure(t, tls.VersionTLS12, func(c *tls.Config) {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &garbage, nil }
	}).Handshake()
	s.seen.awaitHandshake(t, 1)
	s.endpoint.judge = func(context.Context, tls.ConnectionState) (trust.Verdict, error) {
		return trust.Verdict{}, context.DeadlineExceeded
	}
	_ = s.secure(t, tls.VersionTLS12, nil).Handshake()
	s.seen.awaitHandshake(t, 2)
	if diff := cmp.Diff([]string{"failed protocol", "refused malformed"}, s.seen.resultsOf()); diff != "" {
		t.Error(diff)
	}
}
