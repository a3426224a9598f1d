package trust

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
)

// The reasons are names that scripts rely on (CONTRACT.md, 3), each with a hint.
func TestReasons(t *testing.T) {
	words := strings.Fields(`expired not_yet_valid unknown_issuer wrong_environment revoked crl_unavailable crl_stale crl_invalid
		no_crl_address name_mismatch not_listed wrong_purpose bad_signature weak_key weak_signature path_length name_constraint
		critical_extension malformed too_large no_certificate protocol`)
	if len(words) != len(advice) {
		t.Errorf("%d reasons in the contract, %d with a hint", len(words), len(advice))
	}
	for _, w := range words {
		if advice[Reason(w)] == "" {
			t.Errorf("%s has no hint", w)
		}
	}
}

func TestReasonOf(t *testing.T) {
	v := refuse(Expired, nil, "gone")
	for err, want := range map[error]Reason{
		v: Expired, fmt.Errorf("handshake: %w", v): Expired, errors.Join(errors.New("x"), v): Expired,
		&CRLError{Reason: WeakSignature}: WeakSignature, errors.New("x"): "",
	} {
		if got := ReasonOf(err); got != want {
			t.Errorf("%v: %q, want %q", err, got, want)
		}
	}
	if ReasonOf(nil) != "" {
		t.Error("no error has a reason")
	}
	if pki.Hint(fmt.Errorf("handshake: %w", v)) == "" {
		t.Error("the hint is lost when the error is wrapped")
	}
}

// The explanation names the certificate it is about, and keeps the cause.
func TestExplainNamesTheCertificate(t *testing.T) {
	now := second()
	root := testpki.NewRoot(t)
	old := root.SubCA(t, testpki.Name("Old"), testpki.Validity(now.Add(-2*time.Hour), now.Add(-time.Hour)))
	leaf := old.Issue(t)
	v, err := stateOf(t, StateConfig{}, root.Cert).Verify(sent(leaf), Request{Peers: AnyName(), Now: now})
	e := wantRefusal(t, v, err, Expired, old.Cert.NotAfter.UTC().Format(time.RFC3339))
	if !old.Cert.Equal(e.Certificate) {
		t.Errorf("it is about %v", e.Certificate.Subject)
	}
	if errors.Unwrap(e) == nil {
		t.Error("the cause is lost")
	}
}

// Of several paths the one with the least wrong is explained.
func TestExplainBestPath(t *testing.T) {
	now := second()
	past := testpki.Validity(now.Add(-2*time.Hour), now.Add(-time.Hour))
	one, two := testpki.NewRoot(t, testpki.Name("One"), past), testpki.NewRoot(t, testpki.Name("Two"))
	sub := one.SubCA(t, testpki.Name("Sub"), past)
	cross := two.CrossSign(t, sub)
	leaf := sub.Issue(t, testpki.EKU(x509.ExtKeyUsageClientAuth))
	for _, bundle := range [][]*x509.Certificate{certs(one, two, sub, cross), certs(two, one, cross, sub)} {
		v, err := stateOf(t, StateConfig{}, bundle...).Verify(sent(leaf), Request{Purpose: ServerAuth, Peers: AnyName(), Now: now})
		wantRefusal(t, v, err, WrongPurpose) // and not: expired
	}
}

// Where the search ended, not where some other candidate failed, is what is told.
func TestExplainTellsTheTop(t *testing.T) {
	stranger := testpki.NewRoot(t, testpki.Name("Stranger"))
	sub := stranger.SubCA(t, testpki.Name("Sub"))
	leaf := sub.Issue(t)
	namesake := testpki.NewRoot(t, testpki.Name("Sub"))
	root := testpki.NewRoot(t, testpki.Name("Root"))
	s := stateOf(t, StateConfig{}, certs(root, root.SubCA(t, testpki.Name("Sub")))...)
	v, err := s.Verify(append([]*x509.Certificate{leaf.Cert, namesake.Cert}, leaf.Chain...), Request{Peers: AnyName(), Now: second()})
	e := wantRefusal(t, v, err, UnknownIssuer, `the issuer "Stranger" of "Sub"`)
	if !e.Certificate.Equal(sub.Cert) {
		t.Errorf("it is about %v", e.Certificate.Subject)
	}
}

// A peer cannot make the search long.
func TestExplainBudget(t *testing.T) {
	leaf, cross := web(t, 6)
	w := walker{budget: explainChecks, now: second()}
	for _, c := range cross {
		w.pool = append(w.pool, candidate{c, false})
	}
	w.walk([]*x509.Certificate{leaf.Cert})
	if w.budget != 0 {
		t.Errorf("budget is %d after a search that does not end by itself", w.budget)
	}
	if len(w.longest) > 9 {
		t.Errorf("path of %d", len(w.longest))
	}
}

// What a peer writes into its certificate reaches messages quoted and bounded.
func TestExplainHostileText(t *testing.T) {
	root := testpki.NewRoot(t)
	odd := "evil\x1b[2J\n\x00" + strings.Repeat("long", 5000)
	tests := map[string][]*x509.Certificate{
		"CN":             sent(testpki.NewRoot(t, testpki.Name(odd)).Issue(t, testpki.Name(odd), testpki.NoSAN())),
		"no CN":          sent(testpki.NewRoot(t, testpki.Subject(pkix.Name{Organization: []string{odd}})).Issue(t, testpki.Subject(pkix.Name{Organization: []string{odd}}), testpki.NoSAN())),
		"listed nowhere": sent(root.Issue(t, testpki.Name(odd), testpki.NoSAN())),
		"many names":     sent(root.Issue(t, testpki.DNS(manyNames()...))),
		"constraint":     sent(root.SubCA(t, testpki.Name(odd), testpki.NameConstraint([]string{"other.uk"}, nil)).Issue(t, testpki.Name(odd), testpki.DNS("a.nhs.uk"))),
		"expired subCA":  sent(root.SubCA(t, testpki.Name(odd), testpki.Validity(time.Unix(0, 0), time.Unix(1, 0))).Issue(t)),
	}
	for name, chain := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := stateOf(t, StateConfig{}, root.Cert).Verify(chain, Request{Peers: Names("a.test"), NameFromCN: true, Now: second()})
			if err == nil {
				t.Fatal("accepted")
			}
			if text := err.Error(); len(text) > 2000 || strings.ContainsAny(text, "\x1b\x00\n") {
				t.Errorf("%d bytes: %.100q", len(text), text)
			}
		})
	}
}

func manyNames() []string {
	var out []string
	for i := range 500 {
		out = append(out, fmt.Sprintf("name-%d.nhs.uk", i))
	}
	return out
}

func TestClip(t *testing.T) {
	for _, s := range []string{"", "short", strings.Repeat("x", 200), strings.Repeat("é", 500), strings.Repeat("\xff", 500)} {
		got := clip(s)
		if len(got) > 203 || len(s) <= 200 && got != s {
			t.Errorf("%d bytes of %d", len(got), len(s))
		}
	}
}

func TestKnown(t *testing.T) {
	if k, ok := Known(testpki.NewRoot(t, testpki.Name("NHS Root Authority G2")).Cert); ok {
		t.Errorf("a namesake is known as %v", k)
	}
	if _, ok := knownIssuer(&x509.Certificate{}); ok {
		t.Error("no key identifier, but a known issuer")
	}
	var seen []string
	for _, k := range knownCAs {
		if slices.Contains(seen, k.fingerprint) || slices.Contains(seen, k.keyID) {
			t.Errorf("%s stands twice", k.Name)
		}
		seen = append(seen, k.fingerprint, k.keyID)
	}
}
