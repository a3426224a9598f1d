package enrol

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/spinecert/spinecert/trust"
)

// Leaf returns the certificate for a public key, or with nil the only one that is
// no CA. Nothing is judged, not even the dates. The error is a
// [*trust.VerifyError].
func (a *Answer) Leaf(pub crypto.PublicKey) (*x509.Certificate, error) {
	if pub != nil {
		p, _, err := a.leafOf(pub)
		return p.Certificate, err
	}
	var leaves []*x509.Certificate
	var names []string
	for _, p := range a.Certificates {
		if !p.Certificate.IsCA {
			leaves = append(leaves, p.Certificate)
			names = append(names, describe(p.Certificate))
		}
	}
	switch len(leaves) {
	case 1:
		return leaves[0], nil
	case 0:
		return nil, misfit(trust.NoCertificate, nil, "name the file with the certificate as well", "only CA certificates are in %s", some(a.Looked))
	default:
		return nil, misfit(trust.NoCertificate, nil, "name its key, or files with one certificate only", "%d certificates may be the one: %s", len(leaves), some(names))
	}
}

// Chain returns the CAs above a certificate, issuing CA first, without the root.
// It is an error, a [*trust.VerifyError], if the first is missing; above the last
// there may be a root that is not at hand.
func (a *Answer) Chain(leaf *x509.Certificate, now time.Time) ([]*x509.Certificate, error) {
	path, missing, err := a.climb(leaf, a.CAs(), now)
	if err != nil {
		return nil, err
	}
	if len(path) == 0 && missing != nil {
		return nil, missingCA(leaf, "name the file that holds it as well")
	}
	if missing == nil {
		path = path[:len(path)-1]
	}
	return path, nil
}

// CAs returns the CA certificates, subCAs before roots, as OpenLDAP wants them
// (SPINE.md, 5).
func (a *Answer) CAs() []*x509.Certificate {
	var subCAs, roots []*x509.Certificate
	for _, p := range a.Certificates {
		switch c := p.Certificate; {
		case !c.IsCA:
		case a.checks.IssuedBy(c, c):
			roots = append(roots, c)
		default:
			subCAs = append(subCAs, c)
		}
	}
	return slices.Concat(subCAs, roots)
}

// Passed says what could not be read.
func (a *Answer) Passed() []string {
	var out []string
	for _, p := range a.Problems {
		out = append(out, fmt.Sprintf("passed over %s: %v", p.Where, p.Err))
	}
	return out
}
