package anchor

import (
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/trust"
)

// Diff says what would change if next took the place of the bundle in force, and
// what would no longer work. The error is for a next that cannot be judged by.
func (v View) Diff(next *trust.Bundle) (admin.TrustDiff, error) {
	d := admin.TrustDiff{Environment: v.Environment, Added: []admin.TrustCA{}, Removed: []admin.TrustCA{}, Breaks: []string{}, Digest: fmt.Sprintf("%x", next.Digest())}
	paths := v.paths(v.Bundle)
	var gone []*x509.Certificate
	for _, c := range v.Bundle.Certificates() {
		if !holds(next, c) {
			gone = append(gone, c)
			d.Removed = append(d.Removed, v.describe(c, v.Bundle.File(c), paths))
		}
	}
	for _, c := range next.Certificates() {
		if !holds(v.Bundle, c) {
			d.Added = append(d.Added, v.describe(c, next.File(c), nil))
		}
	}
	d.Shrinks = len(rotate.LostCAs(v.Bundle, next, v.Now)) > 0
	if len(gone) == 0 {
		return d, nil
	}
	var err error
	if d.Breaks, err = v.slotBreaks(next); err != nil {
		return d, err
	}
	d.Breaks = append(d.Breaks, v.peerBreaks(next, gone)...)
	d.Breaks = append(d.Breaks, v.Blocks(next)...)
	return d, nil
}

func holds(b *trust.Bundle, c *x509.Certificate) bool {
	return slices.ContainsFunc(b.Certificates(), c.Equal)
}

// slotBreaks names the slots whose identity passes now and would not pass.
func (v View) slotBreaks(next *trust.Bundle) ([]string, error) {
	out := []string{}
	before, err := v.judge(v.Bundle)
	if err != nil {
		return out, err
	}
	after, err := v.judge(next)
	if err != nil {
		return out, err
	}
	for _, s := range v.Slots {
		if err := after(s.Identity); err != nil && before(s.Identity) == nil {
			out = append(out, fmt.Sprintf("slot %s: what it serves would not pass any more (%v); it goes on serving it, and its peers may refuse it", s.Name, err))
		}
	}
	return out, nil
}

// judge returns the judgement of a bundle on our own identities: chain and dates.
func (v View) judge(b *trust.Bundle) (func(*pki.Identity) error, error) {
	state, err := trust.NewState(trust.StateConfig{Environment: v.Environment, Bundle: b, NameFromCN: true, Revocation: trust.Off})
	if err != nil {
		return nil, err
	}
	return func(id *pki.Identity) error {
		presented := append([]*x509.Certificate{id.Leaf()}, id.Chain()...)
		_, err := state.Verify(presented, trust.Request{Purpose: trust.AnyPurpose, Peers: trust.AnyName(), NameFromCN: true, Now: v.Now})
		return err
	}, nil
}

// peerBreaks names the peers that were accepted under a CA that goes, and for whom
// nothing takes its place.
func (v View) peerBreaks(next *trust.Bundle, gone []*x509.Certificate) []string {
	var out []string
	for _, p := range v.Seen {
		c := lowest(gone, p.CAs)
		if c == nil || v.reaches(v.issuing(p), next) {
			continue
		}
		out = append(out, fmt.Sprintf("peer %s of tunnel %s, last accepted on %s: it would be refused while its certificate is from %s",
			p.Name, p.Tunnel, p.Last.UTC().Format(time.RFC3339), c.Subject))
	}
	return out
}

// lowest returns the one of certs that is nearest to the leaf on a path, or nil.
func lowest(certs []*x509.Certificate, path []string) *x509.Certificate {
	for _, sum := range path {
		for _, c := range certs {
			if pki.Fingerprint(c) == sum {
				return c
			}
		}
	}
	return nil
}

// issuing returns the CA on the path of a peer that is nearest to its leaf and
// that we have: one that the peer brought itself is not kept.
func (v View) issuing(p Peer) *x509.Certificate { return lowest(v.Bundle.Certificates(), p.CAs) }

// reaches reports whether what ca signed still leads to a living root of next: ca,
// or another certificate for its name and key, such as a cross-signed one, does.
func (v View) reaches(ca *x509.Certificate, next *trust.Bundle) bool {
	seen := map[*x509.Certificate]bool{}
	var climb func(c *x509.Certificate) bool
	climb = func(c *x509.Certificate) bool {
		for _, n := range next.Certificates() {
			if !sameCA(c, n) || seen[n] || v.Now.After(n.NotAfter) {
				continue
			}
			seen[n] = true
			if slices.Contains(next.Roots(), n) || slices.ContainsFunc(signers(n, next.Certificates()), climb) {
				return true
			}
		}
		return false
	}
	return ca != nil && climb(ca)
}

// Blocks names what the configuration says of CAs that next lacks: with it next
// would be refused, whoever accepts it.
func (v View) Blocks(next *trust.Bundle) []string {
	var out []string
	for _, crl := range v.CRLs {
		issuer := crl.IssuerCertificate()
		if !slices.ContainsFunc(next.Certificates(), func(c *x509.Certificate) bool { return sameCA(c, issuer) }) {
			out = append(out, fmt.Sprintf("CRL file %q is of %s, which goes: take it out of crl.files of environment %s, or the trust files are refused for it",
				crl.Origin(), issuer.Subject, v.Environment))
		}
	}
	for _, name := range v.AcceptableCAs {
		_, err := trust.NewState(trust.StateConfig{Environment: v.Environment, Bundle: next, AcceptableCAs: []string{name}})
		if err != nil {
			out = append(out, fmt.Sprintf("acceptable_cas of environment %s names %q, which goes: take it out there, or the trust files are refused for it", v.Environment, name))
		}
	}
	return out
}

// Without returns the bundle that is left of b when the CAs with these SHA-256 go.
// The error says that one is not in b, or that no living root is left: an empty
// trust is never accepted.
func (v View) Without(b *trust.Bundle, drop []string) (*trust.Bundle, error) {
	var left []trust.Source
	living := false
	found := map[string]bool{}
	for _, c := range b.Certificates() {
		if sum := pki.Fingerprint(c); slices.Contains(drop, sum) {
			found[sum] = true
			continue
		}
		left = append(left, trust.Source{Name: b.File(c), Data: c.Raw})
		living = living || slices.Contains(b.Roots(), c) && !v.Now.After(c.NotAfter)
	}
	for _, sum := range drop {
		if !found[sum] {
			return nil, refuse("spinecert trust list shows the fingerprints", "no CA of environment %q has the SHA-256 %q", v.Environment, sum)
		}
	}
	if !living {
		return nil, refuse("add the new root first: spinecert trust add", "environment %q would be left without a root that has not expired", v.Environment)
	}
	return trust.ParseBundle(left...)
}
