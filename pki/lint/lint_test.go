package lint_test

import (
	"crypto/x509"
	"encoding/asn1"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/pki/lint"
)

// findings checks what a fixture made, as what it is meant to be.
func findings(t *testing.T, f fixture, made any) ([]lint.Finding, lint.Target) {
	t.Helper()
	switch c := made.(type) {
	case *csr:
		return lint.Request(c), lint.TargetRequest
	case *cert:
		signs := c.KeyUsage&x509.KeyUsageCertSign != 0
		if f.rule != "leaf-is-ca" && (c.IsCA || signs || c.Version < 3 && pki.IssuedBy(c, c)) {
			return lint.Certificate(c), lint.TargetCA
		}
		found := lint.Leaf(c)
		if itself := lint.Certificate(c); !signs && !slices.Equal(ids(itself), ids(found)) {
			t.Errorf("by itself it is taken for something else: %q", ids(itself))
		}
		return found, lint.TargetLeaf
	}
	t.Fatalf("made a %T", made)
	return nil, ""
}

// TestFixtures: each bad fixture breaks its rule, and only that but for those it
// names. Each good one keeps it, and breaks none that is an error or a warning.
// For each rule, and each kind of thing it applies to, there are both.
func TestFixtures(t *testing.T) {
	k := newKit(t)
	have := map[string]bool{}
	for _, f := range allFixtures() {
		t.Run(f.rule+"/"+f.name, func(t *testing.T) {
			k.t = t
			found, target := findings(t, f, f.make(k))
			kind, _, _ := strings.Cut(f.name, "_")
			have[f.rule+" "+string(target)+" "+kind] = true
			switch kind {
			case "bad":
				want := append([]string{f.rule}, f.also...)
				got := ids(found)
				slices.Sort(want)
				slices.Sort(got)
				if !slices.Equal(got, want) {
					t.Errorf("breaks %q, want %q\n%v", got, want, found)
				}
			case "good":
				for _, finding := range found {
					if finding.Rule.ID == f.rule || finding.Rule.Severity != lint.Info {
						t.Errorf("breaks %v", finding)
					}
				}
			default:
				t.Errorf("neither good nor bad")
			}
			for _, finding := range found {
				checkFinding(t, finding, target)
			}
		})
	}
	for _, r := range lint.Rules() {
		for _, target := range r.Targets {
			for _, kind := range []string{"good", "bad"} {
				if !have[r.ID+" "+string(target)+" "+kind] {
					t.Errorf("%s has no %s fixture that is a %s", r.ID, kind, target)
				}
			}
		}
	}
}

// checkFinding holds what is true of every finding.
func checkFinding(t *testing.T, f lint.Finding, target lint.Target) {
	t.Helper()
	text := f.String()
	switch {
	case f.Detail == "" || !slices.Contains(f.Rule.Targets, target):
		t.Errorf("a %s breaks %+v", target, f)
	case strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }):
		t.Errorf("characters that do not print in %q", text)
	case len(f.Detail) > 2000:
		t.Errorf("%s: a detail of %d characters", f.Rule.ID, len(f.Detail))
	case strings.Contains(text, "hunter2"):
		t.Errorf("the password of the request is in %q", text)
	case !strings.HasPrefix(text, string(f.Rule.Severity)+" "+f.Rule.ID+": "):
		t.Errorf("severity and rule are not first in %q", text)
	}
}

func TestRules(t *testing.T) {
	form := regexp.MustCompile(`^[a-z]+(-[a-z0-9]+)*$`)
	source := regexp.MustCompile(`^(SPINE\.md, [1-6]|RFC [0-9]+, (Section [0-9.]+|Appendix [A-Z][0-9.]+)|FIPS 186-5, Appendix A\.1\.1)$`)
	seen := map[string]bool{}
	for _, r := range lint.Rules() {
		switch {
		case !form.MatchString(r.ID) || seen[r.ID]:
			t.Errorf("the rule %q has no name of its own in kebab-case", r.ID)
		case !source.MatchString(r.Source):
			t.Errorf("%s: %q does not say where the rule is written", r.ID, r.Source)
		case len(r.Targets) == 0 || r.What == "" || r.Advice == "" || !strings.HasSuffix(r.What, "."):
			t.Errorf("%s is not complete: %+v", r.ID, r)
		case !slices.Contains([]lint.Severity{lint.Error, lint.Warning, lint.Info}, r.Severity):
			t.Errorf("%s has the severity %q", r.ID, r.Severity)
		}
		seen[r.ID] = true
	}
}

// TestCertificateKind: what a certificate is judged as is what it says it is,
// and what is for a host is an endpoint's even when it says it is a CA.
func TestCertificateKind(t *testing.T) {
	k := newKit(t)
	selfSigned := func(opts ...testpki.Option) *cert {
		return testpki.NewRoot(t, append([]testpki.Option{testpki.KeyType("rsa-2048"), testpki.Validity(date(2025), date(2028))}, opts...)...).Cert
	}
	for _, tc := range []struct {
		name string
		cert *cert
		want string // one of the rules it breaks
		not  string // one that is not asked
	}{
		{"root", selfSigned(), "", "self-signed"},
		{"subCA without a limit", k.ca(testpki.PathLen(-1)), "ca-path-length", "name-domain"},
		{"as openssl req -x509 makes it", selfSigned(testpki.Name(host), testpki.KeyUsage(0)), "leaf-is-ca", "ca-key-usage-missing"},
		{"a CA that is named as a host", selfSigned(testpki.Name("ca.nhs.uk")), "", "leaf-is-ca"},
		{"a leaf of a strange name", k.g1(cn("Test Endpoint")), "name-syntax", "ca-basic-constraints"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := ids(lint.Certificate(tc.cert))
			if tc.want != "" && !slices.Contains(got, tc.want) || slices.Contains(got, tc.not) {
				t.Errorf("breaks %q, want %q and not %q", got, tc.want, tc.not)
			}
		})
	}
}

// TestDetail: a finding says what is wrong, once, escaped, and in a few words
// whatever a certificate holds.
func TestDetail(t *testing.T) {
	var thousands []string
	for i := range 5000 {
		thousands = append(thousands, strings.Repeat("_", i%300)+"*-."+strconv.Itoa(i))
	}
	k := newKit(t)
	for _, tc := range []struct {
		name, rule, want string
		made             any
	}{
		{"once", "name-underscore", `"under_score.nhs.uk" has an underscore`, named("under_score.nhs.uk")(k)},
		{"escaped", "hidden-characters", `"a\n\u202e.nhs.uk" has characters that do not print`, k.g1(cn("a\n\u202e.nhs.uk"))},
		{"escaped once", "hidden-characters", `"a\n.nhs.uk" has characters that do not print`, named("a\n.nhs.uk")(k)},
		{"thousands of names", "name-wildcard", `"*-.0" has a wildcard; "_*-.1" has a wildcard; "__*-.2" has a wildcard; and 4997 more`,
			k.leaf(testpki.Name(host), testpki.DNS(thousands...))},
		{"a long label", "name-syntax", "", k.leaf(testpki.DNS(host, strings.Repeat("a", 100_000)+"-.nhs.uk"))},
		{"no password", "request-attributes", "it has a challenge password", k.attribute(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7}, "hunter2")},
	} {
		t.Run(tc.name, func(t *testing.T) {
			found, target := findings(t, fixture{rule: tc.rule}, tc.made)
			i := slices.IndexFunc(found, func(f lint.Finding) bool { return f.Rule.ID == tc.rule })
			if i < 0 || tc.want != "" && found[i].Detail != tc.want {
				t.Errorf("%v, want %q", found, tc.want)
			}
			for _, f := range found {
				checkFinding(t, f, target)
			}
		})
	}
}

// TestRulesAreCopies: nobody can change the table.
func TestRulesAreCopies(t *testing.T) {
	rules := lint.Rules()
	rules[0].Targets[0], rules[0].ID = "changed", "changed"
	if r := lint.Rules()[0]; r.ID == "changed" || r.Targets[0] == "changed" {
		t.Error("the table was changed")
	}
}
