package lint

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	"github.com/spinecert/spinecert/pki"
)

// Severity says how bad it is to break a rule.
type Severity string

// The severities, worst first.
const (
	Error   Severity = "error"   // refused by Spine or by programs: it cannot serve
	Warning Severity = "warning" // refused by some, or unconfirmed
	Info    Severity = "info"    // good to know
)

// Target is what a rule applies to.
type Target string

// The targets.
const (
	TargetLeaf    Target = "leaf"    // the certificate of an endpoint
	TargetCA      Target = "ca"      // a root or subCA
	TargetRequest Target = "request" // a certificate request (RFC 2986)
)

// Rule is one row of the table.
type Rule struct {
	ID       string   // kebab-case, for programs
	Targets  []Target // what it applies to
	What     string   // what it asks, as a sentence
	Source   string   // where that is written: "SPINE.md, 4" or "RFC 5280, Section 4.1.2.2"
	Severity Severity
	Advice   string // the next action
}

// Finding is one rule that is broken. There is at most one for each rule.
type Finding struct {
	Rule   Rule
	Detail string // how, as a sentence; it may quote names, escaped
}

// String returns `severity rule: detail (source)`.
func (f Finding) String() string {
	return fmt.Sprintf("%s %s: %s (%s)", f.Rule.Severity, f.Rule.ID, f.Detail, f.Rule.Source)
}

// Rules returns the table, in the order in which rules are checked.
func Rules() []Rule {
	var rules []Rule
	for _, r := range table() {
		rules = append(rules, r.Rule)
	}
	return rules
}

// Certificate checks a certificate as what it is: a CA if it says so or may sign
// certificates, else the leaf of an endpoint. One that says it is a CA and then
// names a host, without leave to sign certificates, is a leaf with a fault.
func Certificate(c *x509.Certificate) []Finding {
	if isAuthority(c) {
		return check(ofCertificate(c, TargetCA))
	}
	return Leaf(c)
}

// Leaf checks a certificate that must be the leaf of an endpoint, such as the
// answer to a request.
func Leaf(c *x509.Certificate) []Finding {
	return check(ofCertificate(c, TargetLeaf))
}

// Request checks a certificate request.
func Request(r *x509.CertificateRequest) []Finding {
	return check(ofRequest(r))
}

// row is a rule with its check, which returns how it is broken, or "".
type row struct {
	Rule
	breaks func(s *subject) string
}

// table is all rows. They are made anew, so that nobody can change them.
func table() []row {
	return slices.Concat(nameRows(), keyRows(), fieldRows(), usageRows(), authorityRows(), requestRows())
}

func check(s *subject) []Finding {
	var findings []Finding
	for _, r := range table() {
		if !slices.Contains(r.Targets, s.target) {
			continue
		}
		if detail := r.breaks(s); detail != "" {
			findings = append(findings, Finding{Rule: r.Rule, Detail: cut(detail)})
		}
	}
	return findings
}

// cut shortens a detail: labels and object identifiers can be of any length.
func cut(detail string) string {
	const most = 500
	if runes := []rune(detail); len(runes) > most {
		return string(runes[:most]) + "..."
	}
	return detail
}

func isAuthority(c *x509.Certificate) bool {
	signs := c.KeyUsage&x509.KeyUsageCertSign != 0
	names, _ := pki.Names(c)
	host := slices.ContainsFunc(names, func(n string) bool { return strings.Contains(n, ".") })
	switch {
	case signs:
		return true
	case host:
		return false
	}
	return c.BasicConstraintsValid && c.IsCA || c.Version < 3 && isRoot(c)
}
