package trust

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"time"
)

// crlrollover.go: lists that a CA signs with another key than its certificates.
// A CA that changes its key does so for a time, and one that keeps a key for CRLs
// does so always (RFC 5280, Section 6.3.3 (f); PKITS 4.4.19 to 4.5.8).

// crlIndexes holds the CRLs of a State.
type crlIndexes struct {
	byKey  map[[sha256.Size]byte][]crlGroup        // SHA-256 of the signer's SubjectPublicKeyInfo
	byName map[string]map[[sha256.Size]byte][]*CRL // the issuer's name as DER, then as above
}

// crlGroup are lists of one signer that name their issuer in the same way. A CA may
// have thousands, one for each partition.
type crlGroup struct {
	issuer, keyID string
	crls          []*CRL
}

func indexCRLs(crls []*CRL) crlIndexes {
	x := crlIndexes{map[[sha256.Size]byte][]crlGroup{}, map[string]map[[sha256.Size]byte][]*CRL{}}
	keys := map[*x509.Certificate][sha256.Size]byte{}
	for _, crl := range crls {
		signer := crl.IssuerCertificate()
		key, ok := keys[signer]
		if !ok {
			key = keyHash(signer)
			keys[signer] = key
		}
		x.group(key, crl)
		name := string(crl.Issuer())
		if x.byName[name] == nil {
			x.byName[name] = map[[sha256.Size]byte][]*CRL{}
		}
		x.byName[name][key] = append(x.byName[name][key], crl)
	}
	return x
}

func (x *crlIndexes) group(key [sha256.Size]byte, crl *CRL) {
	groups := x.byKey[key]
	for i := range groups {
		if g := &groups[i]; g.issuer == string(crl.Issuer()) && g.keyID == string(crl.AuthorityKeyID()) {
			g.crls = append(g.crls, crl)
			return
		}
	}
	x.byKey[key] = append(groups, crlGroup{string(crl.Issuer()), string(crl.AuthorityKeyID()), []*CRL{crl}})
}

func keyHash(c *x509.Certificate) [sha256.Size]byte { return sha256.Sum256(c.RawSubjectPublicKeyInfo) }

// otherKey are lists of an issuer that it signed with another key than the
// certificate in question.
type otherKey struct {
	crls   []*CRL
	signer *x509.Certificate // for the other key, of the issuer's name
	above  *x509.Certificate // who issued signer; nil where signer is of the path itself, which is judged anyway
}

// otherKeys returns the lists of the issuer of path[i] that are signed with other
// keys. A key counts if the path to the root certifies it for the issuer's name: by
// a certificate of the path, or by one that the issuer itself or the CA above it
// signed and did not revoke. So it is under the same root, and a CA that only has
// the same name elsewhere is none. Dates are not looked at, see standsUntil.
func (s *State) otherKeys(path []*x509.Certificate, i int) []otherKey {
	issuer := path[i+1]
	groups := s.crls.byName[string(issuer.RawSubject)]
	own := keyHash(issuer)
	if _, same := groups[own]; len(groups) == 0 || same && len(groups) == 1 {
		return nil // the usual case
	}
	var out []otherKey
	for key, crls := range groups {
		if key == own {
			continue
		}
		signer, above, ok := s.certified(path, i+1, key, crls[0].IssuerCertificate())
		if ok && (above == nil || onAnyList(signer, s.listsOf(above)) == nil) {
			out = append(out, otherKey{crls, signer, above})
		}
	}
	return out
}

// certified finds the certificate for key and the name of path[at] that the path
// vouches for. signed is a certificate of that key.
func (s *State) certified(path []*x509.Certificate, at int, key [sha256.Size]byte, signed *x509.Certificate) (signer, above *x509.Certificate, ok bool) {
	named := func(c *x509.Certificate) bool {
		return bytes.Equal(c.RawSubject, path[at].RawSubject) && keyHash(c) == key && maySignCRLs(c)
	}
	for _, c := range path[at+1:] {
		if named(c) {
			return c, nil, true
		}
	}
	// The key may have several certificates: all of the bundle are looked at.
	for _, c := range append(s.config.Bundle.Certificates(), signed) {
		if !named(c) || len(c.UnhandledCriticalExtensions) > 0 || s.config.weakKey(c) != nil || s.config.weakSignature(c) {
			continue
		}
		for _, ca := range path[at:min(at+2, len(path))] {
			if bytes.Equal(c.RawIssuer, ca.RawSubject) && c.CheckSignatureFrom(ca) == nil {
				return c, ca, true
			}
		}
	}
	return nil, nil, false
}

// current returns the lists that v.Chain[i] may be judged good by: those that its
// issuer signed with its key, and with other keys that are good themselves. What
// those rest on shortens v.Until.
func (s *State) current(v *Verdict, i int, now time.Time) []*CRL {
	lists := s.listsOf(v.Chain[i+1])
	for _, o := range s.otherKeys(v.Chain, i) {
		until, ok := s.standsUntil(o, now)
		if !ok {
			continue
		}
		if until.Before(v.Until) {
			v.Until = until
		}
		lists = append(lists, o.crls...)
	}
	return lists
}

// standsUntil reports until when o may be relied on: its signer is valid at now,
// and known not to be revoked by a list of the key that issued it.
func (s *State) standsUntil(o otherKey, now time.Time) (time.Time, bool) {
	if o.above == nil {
		return o.signer.NotAfter, true // as v.Until has it
	}
	ends, err := s.covered(o.signer, s.listsOf(o.above), now)
	if err != nil || o.signer.NotBefore.After(now.Add(tolerance)) || now.After(o.signer.NotAfter) {
		return time.Time{}, false
	}
	if ends = ends.Add(s.config.Grace); o.signer.NotAfter.Before(ends) {
		ends = o.signer.NotAfter
	}
	return ends, true
}
