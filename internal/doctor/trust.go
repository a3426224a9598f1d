package doctor

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	"github.com/spinecert/spinecert/internal/condition"
	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/trust"
)

// environment is one environment, and what is known of it.
type environment struct {
	Inside
	*rotate.Environment
	config config.Environment
	state  *trust.State // nil: there is none
}

func (in Inside) environment(e *rotate.Environment) environment {
	c, _ := in.Config.Environment(e.Name())
	return environment{in, e, c, e.Trust()}
}

// condition is the ID of one of the environment.
func (e environment) condition(code condition.Code, detail string) string {
	return condition.ID(code, condition.Environment, e.Name(), detail)
}

func quote(c *x509.Certificate) string { return pki.QuoteName(c.Subject) }

// trustInForce: there is something to judge by, and it is what the files hold.
func trustInForce(_ context.Context, e environment, r *report) {
	st := e.Status()
	if e.state != nil {
		b := e.state.Bundle()
		r.ok(e.Name(), "environment %s trusts %s and %s%s", e.Name(), plural(len(b.Roots()), "root"), plural(len(b.SubCAs()), "subCA"), published(b))
	}
	switch {
	case st.Refusal == nil && e.state != nil:
	case e.state == nil:
		r.fail(e.Name(), cmp.Or(hint(st.Refusal), "name its trust files in the configuration"), "environment %s has no trust: %s", e.Name(), said(st.Refusal, "its files were not read yet"))
		r.as(e.condition(condition.RotationRefused, ""))
	case st.Refusal.Rule == rotate.RuleTrustShrink:
		r.warn(e.Name(), cmp.Or(hint(st.Refusal), "spinecert trust diff --environment "+e.Name()), "the trust files of environment %s lack a CA, and wait for a word: %s", e.Name(), said(st.Refusal, ""))
		r.as(e.condition(condition.TrustChanged, ""))
	default:
		r.fail(e.Name(), cmp.Or(hint(st.Refusal), "mend them; they are taken by themselves"), "the trust files of environment %s are not what is in force: %s", e.Name(), said(st.Refusal, ""))
		r.as(e.condition(condition.RotationRefused, refusalDetail(st.Refusal)))
	}
}

// refusalDetail tells a refusal of lists from one of trust files, as conditions do.
func refusalDetail(r *rotate.Refusal) string {
	if r.CRLs {
		return "crls"
	}
	return ""
}

func hint(r *rotate.Refusal) string {
	if r == nil {
		return ""
	}
	return r.Hint()
}

func said(r *rotate.Refusal, otherwise string) string {
	if r == nil {
		return otherwise
	}
	return r.Error()
}

// published says which CAs the program knows.
func published(b *trust.Bundle) string {
	var kinds []string
	for _, c := range b.Certificates() {
		if k, ok := trust.Known(c); ok {
			if kind := fmt.Sprintf("NHS %s %s", k.Environment, k.Generation); !slices.Contains(kinds, kind) {
				kinds = append(kinds, kind)
			}
		}
	}
	if len(kinds) == 0 {
		return ""
	}
	slices.Sort(kinds)
	return ": " + strings.Join(kinds, ", ")
}

// trustDates: CAs end too, and take everything below them along.
func trustDates(_ context.Context, e environment, r *report) {
	if e.state == nil {
		return
	}
	for _, c := range e.state.Bundle().Certificates() {
		left := c.NotAfter.Sub(e.Now)
		subject := e.Name() + " " + pki.Fingerprint(c)
		switch {
		case left <= 0:
			r.warn(subject, fmt.Sprintf("take it out of the trust files; then: spinecert trust accept %s", e.Name()), "%s in environment %s expired on %s: nothing is accepted through it", quote(c), e.Name(), stamp(c.NotAfter))
		case left > e.Inside.Config.Alerts.CA[0]:
			continue
		default:
			r.warn(subject, "ask its authority for the next one: spinecert trust add; whoever is below it needs a certificate of that one", "%s in environment %s ends in %s, on %s", quote(c), e.Name(), days(left), stamp(c.NotAfter))
		}
		r.as(e.condition(condition.CAExpiring, pki.Fingerprint(c)[:8]))
	}
}

// trustKnown: what is published is told from what is not, and environments do not mix.
func trustKnown(_ context.Context, e environment, r *report) {
	if e.state == nil {
		return
	}
	of, unknown := map[string][]string{}, []*x509.Certificate(nil)
	for _, c := range e.state.Bundle().Certificates() {
		k, ok := trust.Known(c)
		if !ok {
			unknown = append(unknown, c)
			continue
		}
		of[k.Environment] = append(of[k.Environment], k.Name)
	}
	live := len(of["live"]) > 0
	switch {
	case live && len(of) > 1:
		r.fail(e.Name(), "give each its own environment: trust files of live and of path to live never stand together", "environment %s mixes live with path to live: %s", e.Name(), names(of))
		r.as(e.condition(condition.EnvironmentMixture, ""))
	case len(of["int"]) > 0 && len(of["dep"]) > 0:
		r.warn(e.Name(), "give each its own environment, unless that is meant", "environment %s accepts peers of both INT and DEP: %s", e.Name(), names(of))
		r.as(e.condition(condition.EnvironmentMixture, ""))
	}
	if len(of) == 0 && e.config.Profile == string(trust.Private) {
		return // a PKI of one's own: nothing of it is published
	}
	for _, c := range unknown {
		r.warn(e.Name()+" "+pki.Fingerprint(c), "compare its fingerprint with what its authority publishes; take it out if it is not theirs",
			"%s in environment %s is no CA that the program knows: SHA-256 %s, in %q", quote(c), e.Name(), pki.Fingerprint(c), e.state.Bundle().File(c))
	}
}

func names(of map[string][]string) string {
	var out []string
	for env, cas := range of {
		out = append(out, env+" ("+strings.Join(cas, ", ")+")")
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// trustAcceptable: peers are told whose certificates we take.
func trustAcceptable(_ context.Context, e environment, r *report) {
	if e.state == nil {
		return
	}
	if _, err := e.state.AcceptableCAs(nil, e.Now); err != nil {
		r.fail(e.Name(), "correct acceptable_cas of the environment, or write auto", "the acceptable CAs of environment %s: %v", e.Name(), err)
		return
	}
	if e.config.AcceptableCAs == nil {
		return // those of the bundle that have not expired
	}
	for _, c := range e.state.Bundle().Certificates() {
		named := slices.Contains(e.config.AcceptableCAs, pki.Fingerprint(c)) || slices.Contains(e.config.AcceptableCAs, c.Subject.CommonName)
		if named && e.Now.After(c.NotAfter) {
			r.warn(e.Name(), "take it out of acceptable_cas, or write auto", "environment %s asks peers for certificates of %s, which expired on %s", e.Name(), quote(c), stamp(c.NotAfter))
		}
	}
	r.ok(e.Name(), "environment %s asks peers for certificates of %s", e.Name(), strings.Join(e.config.AcceptableCAs, ", "))
}
