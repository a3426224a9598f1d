package manage

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spinecert/spinecert/internal/enrol"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/pki/lint"
	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/trust"
)

// candidate is an answer in its place.
type candidate struct {
	target
	identity *pki.Identity
	fitted   *enrol.Fitted // what Fit found; where it could not, only Where and Notes
	missing  error         // why the chain cannot be judged yet; nil if it was, and leads to a root
	bundle   *trust.Bundle // what it was judged by; nil: there was none
	waits    error         // what keeps it from being in force now; nil: nothing
	doubts   []string      // what will refuse it when it could be
}

// fit joins an answer with the key it is for and judges it by the trust of the
// slot. Where a CA is missing, or there is no trust yet, that is no reason to send
// the answer back.
func (m *Manager) fit(ctx context.Context, answer *enrol.Answer, t target, now time.Time) (candidate, error) {
	bundle := m.bundleOf(t.slot.Environment)
	c := candidate{target: t, bundle: bundle}
	signer, err := m.signer(t)
	if err != nil {
		return c, err
	}
	leaf, leafErr := answer.Leaf(t.key)
	if leafErr == nil {
		if err := tooManyNames(leaf); err != nil {
			return c, err
		}
	}
	c.fitted, err = enrol.Fit(answer, signer, bundle, now)
	if err == nil && bundle != nil {
		c.identity = c.fitted.Identity
		c.note()
		return c, tooLong(c.identity)
	}
	switch {
	case ctx.Err() != nil:
		return c, ctx.Err() // nobody waits for it any more
	case leafErr != nil:
		return c, judged(Refused, advised(leafErr, "is this the answer to another request? spinecert csr list shows those there are, spinecert inspect FILE what a file holds"))
	case err != nil && (trust.ReasonOf(err) != trust.UnknownIssuer || pki.IssuedBy(leaf, leaf)):
		return c, judged(Refused, m.advise(err, t))
	case bundle != nil:
		if other := m.environmentOf(ctx, answer, signer, t, now); other != "" {
			return c, refused(string(trust.WrongEnvironment), "import the answer to the request of this environment, or send the request to the desk of this one",
				"the chain of %s is of environment %q, slot %q is in %q", named(leaf.Subject), other, t.slot.Name, t.slot.Environment)
		}
		c.missing = m.advise(err, t)
	default:
		c.missing = fmt.Errorf("the trust of environment %q is not ready", t.slot.Environment)
	}
	chain, _ := answer.Chain(leaf, now) // as far as it goes
	if c.identity, err = pki.NewIdentity(append([]*x509.Certificate{leaf}, chain...), signer); err != nil {
		return c, &Error{Kind: Refused, Reason: ReasonMalformed, Err: err}
	}
	i := slices.IndexFunc(answer.Certificates, func(p enrol.Piece) bool { return p.Certificate.Equal(leaf) })
	c.fitted = &enrol.Fitted{Where: answer.Certificates[i].Where, Notes: answer.Passed()}
	c.note()
	return c, tooLong(c.identity)
}

// bundleOf returns what the chains of an environment are judged by, or nil.
func (m *Manager) bundleOf(environment string) *trust.Bundle {
	if state := m.trustOf(environment); state != nil {
		return state.Bundle()
	}
	return nil
}

// signer returns the private key of a target.
func (m *Manager) signer(t target) (crypto.Signer, error) {
	if t.own != nil {
		return t.own, nil
	}
	return m.c.Directory.RequestKey(t.slot.Name, t.request.ID)
}

// environmentOf returns another environment whose trust the answer passes, or "".
func (m *Manager) environmentOf(ctx context.Context, answer *enrol.Answer, key crypto.Signer, t target, now time.Time) string {
	for _, e := range m.c.Keeper.Environments() {
		if state := e.Trust(); state != nil && e.Name() != t.slot.Environment && ctx.Err() == nil {
			if _, err := enrol.Fit(answer, key, state.Bundle(), now); err == nil {
				return e.Name()
			}
		}
	}
	return ""
}

// advise gives what enrol says about trust files a next action for a slot.
func (m *Manager) advise(err error, t target) error {
	environment := t.slot.Environment
	switch trust.ReasonOf(err) {
	case trust.UnknownIssuer:
		return advised(err, m.compare(environment, "import it together with the certificate, or add it: spinecert trust add FILE --environment "+environment))
	case trust.WrongEnvironment:
		return advised(err, fmt.Sprintf("slot %s is in environment %s: import the answer to the request of that environment", t.slot.Name, environment))
	}
	return err
}

// compare is the advice where the issuer of an answer is not known. The request is
// no secret: whoever has seen it can sign a certificate for its key.
func (m *Manager) compare(environment, then string) string {
	have := "none"
	if bundle := m.bundleOf(environment); bundle != nil {
		var names []string
		for _, ca := range bundle.Certificates() {
			names = append(names, clip(ca.Subject.CommonName, maxName))
		}
		have = some(names)
	}
	return fmt.Sprintf("anyone who has seen the request can have signed it: compare that CA, by its fingerprint, with what the authority publishes. "+
		"If it is of environment %s, which has %s, %s", environment, have, then)
}

// advised is a VerifyError with another next action.
func advised(err error, advice string) error {
	var v *trust.VerifyError
	if !errors.As(err, &v) {
		return err
	}
	out := *v
	out.Advice = advice
	return &out
}

// note adds what lint says of the certificate, and names that were asked for in
// vain. Neither keeps it from being used.
func (c *candidate) note() {
	leaf := c.identity.Leaf()
	names, _ := pki.Names(leaf)
	if asked, err := pki.Parse(c.request.CSR, nil); err == nil && len(asked.Requests) == 1 {
		for _, name := range asked.Requests[0].DNSNames {
			if !slices.Contains(names, name) {
				c.fitted.Notes = append(c.fitted.Notes, fmt.Sprintf("the request asked for the name %s, which the certificate does not have", name))
			}
		}
	}
	for _, f := range lint.Leaf(leaf) {
		if f.Rule.Severity != lint.Info {
			c.fitted.Notes = append(c.fitted.Notes, "lint: "+f.String())
		}
	}
}

// superseded refuses an answer that may not take the place of the one that waits
// for the same request. Only one counts there whose chain leads to a root: of others
// nobody knows who chose the dates.
func (c *candidate) superseded(before *pki.Identity, allow []string, now time.Time) error {
	if before == nil || !vouched(before, c.bundle, now) {
		return nil
	}
	if c.missing != nil {
		return &Error{Kind: Refused, Reason: string(trust.ReasonOf(c.missing)), Err: fmt.Errorf("%w; the answer that waits for request %s already leads to a root of environment %s, and stays",
			c.missing, c.request.ID, c.slot.Environment), Advice: pki.Hint(c.missing)}
	}
	if slices.Contains(allow, rotate.RuleOlder) {
		return nil
	}
	was, is := before.Leaf(), c.identity.Leaf()
	if !is.NotBefore.Before(was.NotBefore) {
		return nil
	}
	return &Error{Kind: Refused, Reason: rotate.RuleOlder, Rule: rotate.RuleOlder,
		Err: fmt.Errorf("the certificate starts on %s, before the one that waits for request %s already (%s)",
			is.NotBefore.UTC().Format(time.RFC3339), c.request.ID, was.NotBefore.UTC().Format(time.RFC3339)),
		Advice: "if the older one is meant: spinecert import FILE --allow older"}
}

// vouched reports whether the chain of an answer leads to a root, be it valid now or
// later.
func vouched(id *pki.Identity, bundle *trust.Bundle, now time.Time) bool {
	if bundle == nil {
		return false
	}
	answer := &enrol.Answer{}
	for _, c := range append([]*x509.Certificate{id.Leaf()}, id.Chain()...) {
		answer.Certificates = append(answer.Certificates, enrol.Piece{Certificate: c})
	}
	_, err := enrol.Fit(answer, id.Signer(), bundle, now)
	return err == nil
}
