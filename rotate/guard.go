package rotate

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/trust"
)

// guard compares next with current at now: what must not happen by accident.
func guard(c *SlotConfig, current *Generation, next *candidate, allow []string, now time.Time) *Refusal {
	was, is := current.Identity.Leaf(), next.identity.Leaf()
	refuse := func(rule, advice, format string, args ...any) *Refusal {
		if slices.Contains(allow, rule) {
			return nil
		}
		how := fmt.Sprintf("spinecert rotate %s --allow %s", c.Name, rule)
		if c.Managed {
			how = fmt.Sprintf("spinecert import FILE --allow %s", rule)
		}
		return &Refusal{Reason: rule, Rule: rule, Err: fmt.Errorf(format, args...), Advice: advice + ": " + how}
	}
	if current.Held && (next.digest == current.left || leafDigest(next.identity) == current.leftLeaf) {
		if r := refuse(RuleRolledBack, fmt.Sprintf("if it is wanted again, spinecert rotate %s --release, or", c.Name),
			"certificate %q is the very one that the slot was rolled back from", next.file); r != nil {
			return r
		}
	}
	if is.NotBefore.Before(was.NotBefore) {
		if r := refuse(RuleOlder, "if an older certificate is meant",
			"certificate %q starts on %s, before the one that serves (%s)", next.file, day(is.NotBefore), day(was.NotBefore)); r != nil {
			return r
		}
	}
	if lost := lostNames(current.Identity, next.identity); len(lost) > 0 {
		if r := refuse(RuleNames, "if the names are meant to go",
			"certificate %q lacks the names %q, which the one that serves has", next.file, lost); r != nil {
			return r
		}
	}
	if c.Managed && !is.Equal(was) && pki.KeyFingerprint(is.PublicKey) == pki.KeyFingerprint(was.PublicKey) {
		return refuse(RuleKeyReuse, "ask for it with a new key (spinecert csr new), or if the same key is meant",
			"certificate %q is for the key that serves already", next.file)
	}
	// The tolerance is for clocks of others. Nobody gains by being early while
	// something serves, and peers whose clock is right would refuse it.
	if is.NotBefore.After(now) && current.NotAfter.After(now) && !slices.Contains(allow, RuleChain) {
		return chainRefusal(next.file, &trust.VerifyError{Reason: trust.NotYetValid, Certificate: is,
			Detail: fmt.Sprintf("%q is not valid before %s", is.Subject.CommonName, is.NotBefore.UTC().Format(time.RFC3339))})
	}
	return nil
}

// lostNames: a name that moves from CN to SAN is not lost, as pki.Names reads either.
func lostNames(was, is *pki.Identity) []string {
	have, _ := is.Names()
	had, _ := was.Names()
	var lost []string
	for _, n := range had {
		if !slices.Contains(have, n) {
			lost = append(lost, n)
		}
	}
	return lost
}

// guardTrust refuses a bundle that lacks a CA which is in force and has not
// expired: half a file, or a step that somebody should think about first.
func guardTrust(environment string, next *trust.Bundle, current *trust.State, allow []string, now time.Time) *Refusal {
	if current == nil || slices.Contains(allow, RuleTrustShrink) {
		return nil
	}
	var lost []string
	for _, ca := range LostCAs(current.Bundle(), next, now) {
		lost = append(lost, fmt.Sprintf("%q (sha256 %.16s...)", ca.Subject.CommonName, pki.Fingerprint(ca)))
	}
	if len(lost) == 0 {
		return nil
	}
	return &Refusal{Reason: RuleTrustShrink, Rule: RuleTrustShrink, bundle: next,
		Err:    fmt.Errorf("trust files of environment %q lack %s, which is in force and has not expired", environment, strings.Join(lost, " and ")),
		Advice: fmt.Sprintf("spinecert trust diff --environment %s says what depends on it; put it back, or if it is meant to go: spinecert trust accept %s", environment, environment)}
}

// LostCAs returns the CAs of one bundle that another lacks and that have not
// expired at now.
func LostCAs(from, to *trust.Bundle, now time.Time) []*x509.Certificate {
	var lost []*x509.Certificate
	for _, ca := range from.Certificates() {
		if now.Before(ca.NotAfter) && !slices.ContainsFunc(to.Certificates(), ca.Equal) {
			lost = append(lost, ca)
		}
	}
	return lost
}

func day(t time.Time) string { return t.UTC().Format(time.RFC3339) }
