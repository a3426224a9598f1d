package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // to find who signed what, not to trust it
	"crypto/x509"
	"fmt"
)

// orderChain puts the certificates above leaf in the order of signing: the CAs
// that signed the leaf, then those that signed these. There is more than one of
// a kind where a CA is cross-signed. Roots are left out, whether of this chain or
// not: nobody sends them (RFC 8446, Section 4.4.2). What is left over has issued
// nothing here.
func orderChain(leaf *x509.Certificate, certs []*x509.Certificate) (chain, strangers []*x509.Certificate) {
	var rest []*x509.Certificate
	for _, c := range certs {
		if c != leaf && !isRoot(c) {
			rest = append(rest, c)
		}
	}
	level := []*x509.Certificate{leaf}
	for len(level) > 0 && len(rest) > 0 {
		var above, others []*x509.Certificate
		for _, candidate := range rest {
			if signedAny(candidate, level) {
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

func signedAny(ca *x509.Certificate, certs []*x509.Certificate) bool {
	for _, c := range certs {
		if signed(ca, c) {
			return true
		}
	}
	return false
}

// isRoot reports whether c is a root by what it says and by what it signed.
func isRoot(c *x509.Certificate) bool {
	return bytes.Equal(c.RawSubject, c.RawIssuer) && signed(c, c)
}

// IssuedBy reports whether ca is named as the issuer of c and signed it. It judges
// neither: not their dates, nor whether ca may issue. A root is issued by itself.
func IssuedBy(c, ca *x509.Certificate) bool { return signed(ca, c) }

// maxIssuerBits bounds the RSA keys that signatures are verified with: the cost
// grows with the square, and a stranger's file may hold a key of a million bits.
const maxIssuerBits = 16384

// signed reports whether ca is named as the issuer of c and its key made the
// signature of c. Names are compared as raw DER (SPINE.md, 3). It is not
// CheckSignatureFrom, which judges: SHA-1, key usage and the cA bit are the
// business of trust.
func signed(ca, c *x509.Certificate) bool {
	if !bytes.Equal(ca.RawSubject, c.RawIssuer) {
		return false
	}
	if key, ok := ca.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() > maxIssuerBits {
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
func issuerHint(c *x509.Certificate) string {
	return fmt.Sprintf("%q", c.Issuer.String())
}
