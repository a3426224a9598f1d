package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // to find who signed what, not to trust it
	"crypto/x509"
	"slices"
)

// orderChain puts the certificates above leaf in the order of signing: the CAs
// that signed the leaf, then those that signed these. There is more than one of
// a kind where a CA is cross-signed. Roots are left out, whether of this chain or
// not: nobody sends them (RFC 8446, Section 4.4.2). What is left over has issued
// nothing here.
func orderChain(leaf *x509.Certificate, certs []*x509.Certificate, checks *Checks) (chain, strangers []*x509.Certificate) {
	var rest []*x509.Certificate
	for _, c := range certs {
		if c != leaf && !checks.IssuedBy(c, c) {
			rest = append(rest, c)
		}
	}
	level := []*x509.Certificate{leaf}
	for len(level) > 0 && len(rest) > 0 {
		var above, others []*x509.Certificate
		for _, candidate := range rest {
			issued := func(c *x509.Certificate) bool { return checks.IssuedBy(c, candidate) }
			if slices.ContainsFunc(level, issued) {
				above = append(above, candidate)
			} else {
				others = append(others, candidate)
			}
		}
		chain = append(chain, above...)
		level, rest = above, others
	}
	return chain, rest
}

// maxChecks bounds the signatures that are verified for one set of certificates,
// beside those that certificates made of themselves; crypto/x509 has the same bound
// for one chain. A real set needs a handful. Strangers' CAs may all have one name
// and one slow key: then each may be the issuer of each.
const maxChecks = 100

// Checks answers who issued whom among one set of certificates. It verifies the
// signature of a certificate by a CA once, and 100 signatures in all; beyond that
// nobody issued anything, and Exceeded says so. Whether a certificate issued itself
// is not counted: there is one such question for each. The zero value is ready to
// use, by one goroutine.
type Checks struct {
	known    map[[2]*x509.Certificate]bool
	verified int
	exceeded bool
}

// IssuedBy is the function [IssuedBy], within the bound. Certificates are told
// apart by their pointers, and must not change.
func (s *Checks) IssuedBy(c, ca *x509.Certificate) bool {
	if !namedIssuer(c, ca) {
		return false
	}
	pair := [2]*x509.Certificate{c, ca}
	issued, ok := s.known[pair]
	if ok {
		return issued
	}
	if c != ca {
		if s.verified == maxChecks {
			s.exceeded = true
			return false
		}
		s.verified++
	}
	if s.known == nil {
		s.known = map[[2]*x509.Certificate]bool{}
	}
	issued = signed(ca, c)
	s.known[pair] = issued
	return issued
}

// Exceeded reports whether a signature was not verified as there were too many: an
// answer of no may be wrong.
func (s *Checks) Exceeded() bool { return s.exceeded }

// IssuedBy reports whether ca is named as the issuer of c and signed it. It judges
// neither: not their dates, nor whether ca may issue. A root is issued by itself.
func IssuedBy(c, ca *x509.Certificate) bool { return signed(ca, c) }

// namedIssuer reports whether ca is named as the issuer of c, and its key is such
// as signatures are verified with. Names are compared as raw DER (SPINE.md, 3).
func namedIssuer(c, ca *x509.Certificate) bool {
	return bytes.Equal(ca.RawSubject, c.RawIssuer) && !tooSlow(ca.PublicKey)
}

// tooSlow reports an RSA key that signatures are not verified with: the cost grows
// with the square of the modulus and with the length of the exponent, and a
// stranger's file may hold a key of a million bits. 8192 bits are the most that
// crypto/tls and the package trust take, 2^31-1 is the largest exponent of
// crypto/rsa; together they cost some milliseconds.
func tooSlow(pub crypto.PublicKey) bool {
	key, ok := pub.(*rsa.PublicKey)
	return ok && (key.N.BitLen() > maxRSABits || key.E > 1<<31-1)
}

// signed reports whether ca is named as the issuer of c and its key made the
// signature of c. It is not CheckSignatureFrom, which judges: SHA-1, key usage and
// the cA bit are the business of trust.
func signed(ca, c *x509.Certificate) bool {
	if !namedIssuer(c, ca) {
		return false
	}
	switch c.SignatureAlgorithm {
	case x509.SHA1WithRSA:
		key, ok := ca.PublicKey.(*rsa.PublicKey)
		digest := sha1.Sum(c.RawTBSCertificate) //nolint:gosec // see above
		return ok && rsa.VerifyPKCS1v15(key, crypto.SHA1, digest[:], c.Signature) == nil
	case x509.ECDSAWithSHA1:
		key, ok := ca.PublicKey.(*ecdsa.PublicKey)
		digest := sha1.Sum(c.RawTBSCertificate) //nolint:gosec // see above
		return ok && ecdsa.VerifyASN1(key, digest[:], c.Signature)
	default:
		return ca.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
	}
}

// issuerHint names the CA that c says it was issued by.
func issuerHint(c *x509.Certificate) string { return QuoteName(c.Issuer) }
