package enrol

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spinecert/spinecert/internal/order"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/trust"
)

// Fitted is an answer that fits a key.
type Fitted struct {
	Identity *pki.Identity
	Where    string              // the leaf was found there
	Root     *x509.Certificate   // nil where no root is at hand
	Added    []*x509.Certificate // CAs of the chain that came from the trust files
	Judged   bool                // by the trust files, to Root
	Notes    []string            // what was passed over, and what to know
}

// Fit finds the certificate for a public key in an answer, orders its chain and
// completes it from the bundle. With a bundle the chain is judged by it, without
// regard to revocation; with nil the chain need only lead to a CA above the leaf.
//
// What does not fit is a [*trust.VerifyError]: NoCertificate (no certificate is
// for the key), Expired, UnknownIssuer (a CA is missing, and which),
// WrongEnvironment, TooLarge (more CAs than are looked at), or whatever else trust says of the chain. A certificate that
// is not valid yet fits, with a note.
func Fit(a *Answer, key crypto.Signer, bundle *trust.Bundle, now time.Time) (*Fitted, error) {
	leaf, notes, err := a.leafOf(key.Public())
	if err != nil {
		return nil, err
	}
	c := leaf.Certificate
	f := &Fitted{Where: leaf.Where, Notes: notes}
	switch {
	case now.After(c.NotAfter):
		return nil, misfit(trust.Expired, c, "ask for a new certificate; if it is new, check the clock of this host",
			"the certificate for this key, %s, expired on %s", describe(c), date(c.NotAfter))
	case a.checks.IssuedBy(c, c):
		return nil, misfit(trust.UnknownIssuer, c, "import what the authority sent back for the request",
			"the certificate for this key, %s, is signed with its own key and by no CA", describe(c))
	case now.Before(c.NotBefore):
		f.Notes = append(f.Notes, fmt.Sprintf("the certificate is valid from %s on and not before: it cannot be used until then", date(c.NotBefore)))
		now = c.NotBefore
	}
	path, err := f.path(a, c, bundle, now)
	if err != nil {
		return nil, err
	}
	if f.Identity, err = pki.NewIdentity(append([]*x509.Certificate{c}, path...), key); err != nil {
		return nil, err
	}
	f.leftOut(a, leaf, path)
	return f, nil
}

// leafOf finds the certificate for a key. Of several the newest counts: a mail may
// quote the one before, and keys are reused.
func (a *Answer) leafOf(pub crypto.PublicKey) (Piece, []string, error) {
	var fits []Piece
	for _, p := range a.Certificates {
		if samePublic(pub, p.Certificate.PublicKey) {
			fits = append(fits, p)
		}
	}
	if len(fits) == 0 {
		return Piece{}, nil, a.noLeaf(pub)
	}
	order.Stable(fits, func(x, y Piece) int { return y.Certificate.NotBefore.Compare(x.Certificate.NotBefore) })
	var notes []string
	for _, old := range fits[1:] {
		notes = append(notes, fmt.Sprintf("an older certificate for the same key was passed over: %s, from %s", describe(old.Certificate), date(old.Certificate.NotBefore)))
	}
	return fits[0], notes, nil
}

// noLeaf says what there is in place of the certificate, and where was looked.
func (a *Answer) noLeaf(pub crypto.PublicKey) error {
	const most = 5
	var have []string
	advice := "is this the answer to another request, or --key the key of another one? spinecert inspect shows the public key of both"
	for _, p := range a.Certificates[:min(len(a.Certificates), most)] {
		have = append(have, fmt.Sprintf("%s in %s", describe(p.Certificate), p.Where))
	}
	if more := len(a.Certificates) - most; more > 0 {
		have = append(have, fmt.Sprintf("%d more", more))
	}
	if len(have) == 0 {
		have = []string{"no certificate at all in " + some(a.Looked)}
	} else if !slices.ContainsFunc(a.Certificates, func(p Piece) bool { return !p.Certificate.IsCA }) {
		advice = "only CA certificates are there: the certificate itself comes apart from them, add it"
	}
	if slices.ContainsFunc(a.Requests, func(r *x509.CertificateRequest) bool { return samePublic(pub, r.PublicKey) }) {
		advice = "this is the request itself: send it, and import what comes back"
	}
	return misfit(trust.NoCertificate, nil, advice, "no certificate is for this key (%s, public key sha256 %s); found: %s",
		pki.DescribeKey(pub), pki.KeyFingerprint(pub), strings.Join(have, "; "))
}

// path returns the CAs above the leaf, issuing CA first, without the root.
func (f *Fitted) path(a *Answer, leaf *x509.Certificate, bundle *trust.Bundle, now time.Time) ([]*x509.Certificate, error) {
	var pool []*x509.Certificate
	for _, p := range a.Certificates {
		if p.Certificate.IsCA && !p.Certificate.Equal(leaf) {
			pool = append(pool, p.Certificate)
		}
	}
	given := len(pool)
	if bundle != nil {
		pool = append(pool, bundle.Certificates()...)
	}
	path, missing, err := a.climb(leaf, pool, now)
	if err != nil {
		return nil, err
	}
	if bundle != nil {
		state, err := trust.NewState(trust.StateConfig{Bundle: bundle, NameFromCN: true, Revocation: trust.Off})
		if err != nil {
			return nil, err
		}
		verdict, err := state.Verify(near(leaf, path, pool[:given]), trust.Request{Peers: trust.AnyName(), Now: now})
		if err != nil {
			return nil, explain(err, missing, bundle)
		}
		f.Judged, path = true, verdict.Chain[1:]
	} else if len(path) == 0 {
		return nil, missingCA(leaf, "add it with --trust FILE, or import it together with the certificate")
	}
	if last := len(path) - 1; last >= 0 && a.checks.IssuedBy(path[last], path[last]) {
		f.Root, path = path[last], path[:last]
	}
	if !f.Judged {
		f.Notes = append(f.Notes, "the chain was not judged: name the root and the subCAs of the environment with --trust")
		for _, ca := range path {
			if now.After(ca.NotAfter) {
				f.Notes = append(f.Notes, fmt.Sprintf("%s expired on %s: peers will refuse the chain", describe(ca), date(ca.NotAfter)))
			}
		}
	}
	for _, ca := range path {
		if !slices.ContainsFunc(pool[:given], ca.Equal) {
			f.Added = append(f.Added, ca)
		}
	}
	return path, nil
}

// near is what a peer would present: the leaf, and no more CAs than are looked at.
func near(leaf *x509.Certificate, path, given []*x509.Certificate) []*x509.Certificate {
	const most = 32
	out := []*x509.Certificate{leaf}
	for _, ca := range slices.Concat(path, given) {
		if len(out) < most && !slices.ContainsFunc(out, ca.Equal) {
			out = append(out, ca)
		}
	}
	return out
}

// maxLevels bounds the CAs above a leaf. Those of the NHS have one or two.
const maxLevels = 8

// climb follows the signatures upwards from the leaf as far as the pool goes. It
// returns the certificate whose issuer is missing, or nil when a root was reached.
// The error says that the pool is too large or too high to be searched.
func (a *Answer) climb(leaf *x509.Certificate, pool []*x509.Certificate, now time.Time) (path []*x509.Certificate, missing *x509.Certificate, err error) {
	at := leaf
	for {
		if at != leaf && a.checks.IssuedBy(at, at) {
			return path, nil, nil
		}
		var above *x509.Certificate
		for _, ca := range pool {
			if above != nil && !now.After(above.NotAfter) {
				break
			}
			if !slices.ContainsFunc(path, ca.Equal) && a.checks.IssuedBy(at, ca) {
				above = ca
			}
		}
		switch {
		case a.checks.Exceeded():
			return nil, nil, misfit(trust.TooLarge, at, "import the certificate with the subCAs of its chain, and nothing else",
				"%s has too many certificates that could be its issuer", describe(at))
		case above == nil:
			return path, at, nil
		case len(path) == maxLevels:
			return nil, nil, misfit(trust.TooLarge, leaf, "import the certificate with the subCAs of its chain, and nothing else",
				"%s has more than %d CAs above it", describe(leaf), maxLevels)
		}
		path, at = append(path, above), above
	}
}

// explain says what the words of trust, which are about peers, mean here.
func explain(err error, missing *x509.Certificate, bundle *trust.Bundle) error {
	var e *trust.VerifyError
	if !errors.As(err, &e) {
		return err
	}
	out := *e
	switch e.Reason {
	case trust.WrongEnvironment:
		out.Advice = "the certificate is of another environment than the --trust files: give those of its own environment, or ask for one of this environment"
	case trust.UnknownIssuer:
		if missing != nil {
			var known []string
			for _, ca := range bundle.Certificates() {
				known = append(known, ca.Subject.CommonName)
			}
			return missingCA(missing, fmt.Sprintf("add it with --trust FILE if it is of this environment (the --trust files have %s)", strings.Join(known, ", ")))
		}
		out.Advice = "the root of the chain is not among the --trust files: give those of its environment"
	default:
		out.Advice = "ask the authority for another certificate, and send this message with the question"
	}
	return &out
}

func missingCA(c *x509.Certificate, advice string) error {
	what := "the subCA"
	if c.IsCA {
		what = "the CA"
	}
	return misfit(trust.UnknownIssuer, c, advice, "%s that issued %s is missing: %s", what, describe(c), pki.QuoteName(c.Issuer))
}

// leftOut notes what of the answer is not used.
func (f *Fitted) leftOut(a *Answer, leaf Piece, path []*x509.Certificate) {
	for _, p := range a.Certificates {
		c := p.Certificate
		if c.Equal(leaf.Certificate) || slices.ContainsFunc(path, c.Equal) || samePublic(c.PublicKey, leaf.Certificate.PublicKey) ||
			c.IsCA && a.checks.IssuedBy(c, c) { // a root is left out as a rule, and nobody sends it
			continue
		}
		f.Notes = append(f.Notes, fmt.Sprintf("not needed and left out: %s in %s", describe(c), p.Where))
	}
	f.Notes = append(f.Notes, a.Passed()...)
	for _, k := range a.Keys {
		if samePublic(k.Public(), leaf.Certificate.PublicKey) {
			f.Notes = append(f.Notes, "the answer holds the private key: if it came by mail, others may have it, and a new request is needed")
		}
	}
}

func misfit(r trust.Reason, c *x509.Certificate, advice, format string, args ...any) error {
	return &trust.VerifyError{Reason: r, Certificate: c, Detail: fmt.Sprintf(format, args...), Advice: advice}
}

func describe(c *x509.Certificate) string { return pki.QuoteName(c.Subject) }

// some joins the first few of a list.
func some(all []string) string {
	const most = 5
	if more := len(all) - most; more > 0 {
		return strings.Join(all[:most], ", ") + fmt.Sprintf(", and %d more", more)
	}
	return strings.Join(all, ", ")
}

func date(t time.Time) string { return t.UTC().Format(time.RFC3339) }
