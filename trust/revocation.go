package trust

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// revocation checks every certificate of v.Chain below the root against the CRLs
// of its issuer and fills in the rest of v (RFC 5280, Section 6.3.3, for complete
// CRLs whose issuer is the certificate's issuer; crlrollover.go has its keys).
func (s *State) revocation(v *Verdict, r Request) error {
	if r.Revocation == Off {
		v.Revocation = RevocationOff
		return nil
	}
	below := v.Chain[:len(v.Chain)-1]
	// All of the chain before any list is missed: a revoked subCA is no reason to
	// fetch the CRL of its leaf.
	if err := s.Revoked(v.Chain); err != nil {
		return err
	}
	v.Revocation = RevocationGood
	var missing *VerifyError
	for i, c := range below {
		ends, err := s.covered(c, s.current(v, i, r.Now), r.Now)
		if err != nil {
			v.Revocation, v.Unchecked = RevocationUnavailable, cmp.Or(v.Unchecked, err.Reason)
			v.Missing = append(v.Missing, err.Addresses...)
			if missing == nil {
				missing = err
			}
			continue
		}
		if r.Now.After(ends) {
			ends = ends.Add(s.config.Grace)
			if v.Revocation == RevocationGood {
				v.Revocation = RevocationGrace
			}
		}
		if ends.Before(v.Until) {
			v.Until = ends
		}
	}
	if missing != nil && r.Revocation != Prefer { // whatever else it says, it is not laxer than Require
		missing.Addresses = v.Missing // of the whole chain: who fetches them need not ask again for each
		return missing
	}
	return nil
}

// Revoked returns the refusal of a chain, leaf first, if a CRL of s lists one of its
// certificates; its root may be left out. A CRL that is missing is no matter here.
func (s *State) Revoked(chain []*x509.Certificate) error {
	for i, c := range chain {
		if i+1 < len(chain) {
			if err := onAnyList(c, s.listsOf(chain[i+1])); err != nil {
				return err
			}
			for _, o := range s.otherKeys(chain, i) {
				if err := onAnyList(c, o.crls); err != nil {
					return err
				}
			}
			continue
		}
		for _, root := range s.config.Bundle.Roots() {
			if !bytes.Equal(c.RawIssuer, root.RawSubject) || c.Equal(root) {
				continue
			}
			if err := onAnyList(c, s.listsOf(root)); err != nil {
				return err
			}
		}
	}
	return nil
}

// Uncovered returns why no current CRL of s covers a certificate of chain, leaf first
// and root last: one refusal for each below the root, and none for those that a list
// covers. That a list names them is no matter here.
func (s *State) Uncovered(chain []*x509.Certificate, now time.Time) []*VerifyError {
	var out []*VerifyError
	v := &Verdict{Chain: chain}
	for i := 0; i < len(chain)-1; i++ {
		if _, err := s.covered(chain[i], s.current(v, i, now), now); err != nil {
			out = append(out, err)
		}
	}
	return out
}

// listsOf returns the CRLs that an issuer signed with its key. They are compared
// by name: one key may act under two names, and a list of one says nothing of
// the certificates of the other (PKITS 4.4.5).
func (s *State) listsOf(issuer *x509.Certificate) []*CRL {
	var out []*CRL
	for _, g := range s.crls.byKey[keyHash(issuer)] {
		if !sameCRLIssuer([]byte(g.issuer), []byte(g.keyID), issuer) {
			continue
		}
		if out == nil {
			out = slices.Clip(g.crls) // the usual case: nothing is copied
		} else {
			out = append(out, g.crls...)
		}
	}
	return out
}

// onAnyList: a serial on any verified CRL of the issuer counts, whatever that
// list's scope or age: a revocation is never taken back by a newer partition.
func onAnyList(c *x509.Certificate, crls []*CRL) error {
	for _, crl := range crls {
		if entry, on := crl.Lookup(c.SerialNumber); on {
			return refuse(Revoked, c, "%s (serial %x) was revoked by %s%s", describe(c), c.SerialNumber, issuerName(c), entry.when())
		}
	}
	return nil
}

// covered returns nextUpdate of the newest CRL whose scope holds c.
func (s *State) covered(c *x509.Certificate, crls []*CRL, now time.Time) (time.Time, *VerifyError) {
	points, err := CertificateDistributionPoints(c)
	if err != nil {
		return time.Time{}, refuse(Malformed, c, "the CRL distribution points of %s do not parse", describe(c))
	}
	newest := s.newest(crls, c, points, now)
	addresses := addressesOf(points)
	switch {
	case newest == nil && len(addresses) == 0 && len(crls) == 0:
		return time.Time{}, refuse(NoCRLAddress, c, "%s names no CRL, and none of its issuer %s is configured", describe(c), issuerName(c))
	case newest == nil:
		e := refuse(CRLUnavailable, c, "no CRL at hand covers %s of issuer %s (%s)", describe(c), issuerName(c), clip(strings.Join(addresses, ", ")))
		e.Addresses = addresses
		if near := unnamed(crls); near != "" && len(addresses) > 0 {
			e.Advice = fmt.Sprintf("%q is a list of this issuer that does not say what it covers: name its file %q, as the address ends", near, path.Base(addresses[0]))
		}
		return time.Time{}, e
	case newest.ThisUpdate().After(now.Add(tolerance)):
		return time.Time{}, refuse(CRLInvalid, c, "the CRL %q is dated in the future, %s", newest.Origin(), stamp(newest.ThisUpdate()))
	case now.After(newest.NextUpdate().Add(s.config.Grace)):
		e := refuse(CRLStale, c, "the CRL %q for %s was due for renewal on %s", newest.Origin(), describe(c), stamp(newest.NextUpdate()))
		e.Addresses = addresses
		return time.Time{}, e
	}
	return newest.NextUpdate(), nil
}

// newest returns the newest CRL that covers c; one from the future only if there
// is no other.
func (s *State) newest(crls []*CRL, c *x509.Certificate, points []DistributionPoint, now time.Time) *CRL {
	var newest, future *CRL
	for _, crl := range crls {
		switch {
		case !s.covers(crl, c, points):
		case crl.ThisUpdate().After(now.Add(tolerance)):
			future = crl
		case newest == nil || crl.ThisUpdate().After(newest.ThisUpdate()):
			newest = crl
		}
	}
	if newest == nil {
		return future
	}
	return newest
}

// unnamed returns the origin of a list that names no address, or "".
func unnamed(crls []*CRL) string {
	for _, crl := range crls {
		if len(crl.Scope().RawNames) == 0 {
			return clip(crl.Origin())
		}
	}
	return ""
}

// covers reports whether c is within the scope of crl (RFC 5280, Section 6.3.3 (b)).
func (s *State) covers(crl *CRL, c *x509.Certificate, points []DistributionPoint) bool {
	scope := crl.Scope()
	isCA := c.BasicConstraintsValid && c.IsCA
	if scope.OnlyUser && isCA || scope.OnlyCA && !isCA {
		return false
	}
	if len(scope.RawNames) > 0 {
		return sharesName(scope, points)
	}
	// A list without a name claims to be complete. Where lists are partitioned,
	// that claim is not believed: it covers what came from its own address, or
	// was carried here under the same file name.
	if s.config.Profile == Private || len(points) == 0 {
		return true
	}
	for _, p := range points {
		for _, address := range p.URIs {
			if p.alone() && crl.CameFor(address) {
				return true
			}
		}
	}
	return false
}

// CameFor reports whether a list was fetched from an address, or was carried here
// under the name that the address ends in: what one without a name stands for.
func (c *CRL) CameFor(address string) bool {
	fetched := strings.Contains(c.origin, "://")
	return address == c.origin || !fetched && path.Base(address) == path.Base(c.origin)
}

// MayBeOf reports whether a list may be what a server answers at an address: one that
// names other distribution points is of another partition.
func (c *CRL) MayBeOf(address string) bool {
	return len(c.scope.RawNames) == 0 || slices.Contains(c.scope.Names, address)
}

// CoversAddress reports whether a CRL of s, wherever it came from, stands for an
// address that certificates name. It says nothing of its age.
func (s *State) CoversAddress(address string) bool {
	return slices.ContainsFunc(s.config.CRLs, func(crl *CRL) bool {
		scope := crl.Scope()
		if len(scope.RawNames) > 0 {
			return slices.Contains(scope.Names, address)
		}
		return crl.CameFor(address)
	})
}

// alone reports whether the CRL of p answers for every reason, and is of the
// issuer of the certificate itself, not an indirect one.
func (p DistributionPoint) alone() bool { return !p.HasReasons && !p.HasIssuer }

func sharesName(scope Scope, points []DistributionPoint) bool {
	for _, p := range points {
		if !p.alone() {
			continue
		}
		for _, name := range p.RawNames {
			for _, have := range scope.RawNames {
				if string(name) == string(have) {
					return true
				}
			}
		}
	}
	return false
}

func addressesOf(points []DistributionPoint) []string {
	var out []string
	for _, p := range points {
		out = append(out, p.URIs...)
	}
	return out
}

// CRLAddresses returns where the CRLs of a certificate can be had by HTTP, as it
// says itself; none where its distribution points do not parse.
func CRLAddresses(c *x509.Certificate) []string {
	points, err := CertificateDistributionPoints(c)
	if err != nil {
		return nil
	}
	var out []string
	for _, p := range points {
		for _, address := range p.URIs {
			if scheme, _, _ := strings.Cut(address, ":"); p.alone() && strings.EqualFold(scheme, "http") && !slices.Contains(out, address) {
				out = append(out, address)
			}
		}
	}
	return out
}
