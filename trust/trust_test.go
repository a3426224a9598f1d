package trust

import (
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
)

func bundleOf(tb testing.TB, certs ...*x509.Certificate) *Bundle {
	tb.Helper()
	b, err := ParseBundle(Source{Name: "trust.pem", Data: testpki.EncodeCerts(certs...)})
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// stateOf makes a state of CAs. The mode is Off unless c says otherwise, the
// profile Private.
func stateOf(tb testing.TB, c StateConfig, certs ...*x509.Certificate) *State {
	tb.Helper()
	c.Bundle = bundleOf(tb, certs...)
	if c.Revocation == "" {
		c.Revocation = Off
	}
	if c.Profile == "" {
		c.Profile = Private
	}
	s, err := NewState(c)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// sent is what a peer with this leaf presents: leaf and subCAs.
func sent(l *testpki.Leaf, extra ...*x509.Certificate) []*x509.Certificate {
	out := append([]*x509.Certificate{l.Cert}, l.Chain...)
	return append(out, extra...)
}

func certs(authorities ...*testpki.Authority) []*x509.Certificate {
	var out []*x509.Certificate
	for _, a := range authorities {
		out = append(out, a.Cert)
	}
	return out
}

// wantRefusal wants a VerifyError with this reason, and parts in its sentence.
func wantRefusal(tb testing.TB, v Verdict, err error, reason Reason, parts ...string) *VerifyError {
	tb.Helper()
	var e *VerifyError
	if !errors.As(err, &e) {
		tb.Fatalf("error is %v, verdict %+v, want the reason %s", err, v, reason)
	}
	if len(v.Chain) != 0 || v.Name != "" {
		tb.Errorf("refused, but the verdict holds %+v", v)
	}
	if e.Reason != reason || ReasonOf(err) != reason {
		tb.Fatalf("refused with %v, want %s", err, reason)
	}
	for _, p := range parts {
		if !strings.Contains(e.Error(), p) {
			tb.Errorf("%q does not say %q", e.Error(), p)
		}
	}
	if e.Hint() == "" {
		tb.Errorf("%q has no hint", e.Error())
	}
	return e
}

func wantChain(tb testing.TB, v Verdict, err error, chain ...*x509.Certificate) {
	tb.Helper()
	if err != nil {
		tb.Fatalf("refused: %v", err)
	}
	if len(v.Chain) != len(chain) {
		tb.Fatalf("path of %d certificates, want %d", len(v.Chain), len(chain))
	}
	for i := range chain {
		if !v.Chain[i].Equal(chain[i]) {
			tb.Errorf("certificate %d of the path is %q, want %q", i, v.Chain[i].Subject, chain[i].Subject)
		}
	}
}

func second() time.Time { return time.Now().Truncate(time.Second) }
