package trust

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"strings"

	"github.com/spinecert/spinecert/pki"
)

func weakKey(c *x509.Certificate) error {
	switch k := c.PublicKey.(type) {
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return refuse(WeakKey, c, "the key of %s is RSA %d, outside of %d to %d bits", describe(c), bits, minRSABits, maxRSABits)
		}
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() && k.Curve != elliptic.P521() {
			return refuse(WeakKey, c, "the key of %s is on the curve %s", describe(c), k.Curve.Params().Name)
		}
	case ed25519.PublicKey:
	default:
		return refuse(WeakKey, c, "the key of %s is of an unsupported kind", describe(c))
	}
	return nil
}

// weakSignature reports an algorithm that no longer binds issuer and content.
// RFC 9155 and the baseline of the NHS PKI: SHA-256 or better.
func weakSignature(c *x509.Certificate) bool {
	switch c.SignatureAlgorithm {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.DSAWithSHA256, x509.ECDSAWithSHA1, x509.UnknownSignatureAlgorithm:
		return true
	}
	return false
}

// algorithmName names the signature algorithm of c; crypto/x509 prints one that it does not know as "0".
func algorithmName(c *x509.Certificate) string {
	if c.SignatureAlgorithm == x509.UnknownSignatureAlgorithm {
		return "an unsupported algorithm"
	}
	return c.SignatureAlgorithm.String()
}

// constrainCN applies the DNS name constraints of the CAs to a CN that stands in
// for a missing SAN. crypto/x509 applies them to SANs only, so a constrained CA
// could otherwise certify any name by leaving the SAN out (RFC 5280, Section
// 4.2.1.10, speaks of the subject where there is no SAN).
func constrainCN(path []*x509.Certificate) error {
	names, source := pki.Names(path[0])
	if source != pki.NameFromCN {
		return nil
	}
	for _, ca := range path[1:] {
		for _, name := range names {
			if !permitted(ca, name) {
				return refuse(NameConstraint, path[0], "%s may not certify the common name %q", describe(ca), clip(name))
			}
		}
	}
	return nil
}

func permitted(ca *x509.Certificate, name string) bool {
	for _, d := range ca.ExcludedDNSDomains {
		if inDomain(name, d) {
			return false
		}
	}
	if len(ca.PermittedDNSDomains) == 0 {
		return true
	}
	for _, d := range ca.PermittedDNSDomains {
		if inDomain(name, d) {
			return true
		}
	}
	return false
}

// inDomain: RFC 5280, Section 4.2.1.10: a name is within a domain if it equals
// it or adds labels to its left; a leading dot demands at least one more label.
func inDomain(name, domain string) bool {
	name, domain = strings.ToLower(name), strings.ToLower(domain)
	if domain == "" {
		return true
	}
	if bare, dot := strings.CutPrefix(domain, "."); dot {
		return strings.HasSuffix(name, "."+bare)
	}
	return name == domain || strings.HasSuffix(name, "."+domain)
}
