package trust

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	"github.com/spinecert/spinecert/pki"
)

// checkStrength completes what s demands of keys and signatures, and refuses what
// would make it laxer than the floor.
func (s *StateConfig) checkStrength() error {
	s.MinRSABits, s.MinECBits = cmp.Or(s.MinRSABits, minRSABits), cmp.Or(s.MinECBits, minECBits)
	if s.MinRSABits < minRSABits || s.MinRSABits > maxRSABits {
		return fmt.Errorf("make trust state: a smallest RSA key of %d bits is outside of %d to %d", s.MinRSABits, minRSABits, maxRSABits)
	}
	if s.MinECBits < minECBits || s.MinECBits > maxECBits {
		return fmt.Errorf("make trust state: a smallest EC key of %d bits is outside of %d to %d", s.MinECBits, minECBits, maxECBits)
	}
	for _, a := range s.SignatureAlgorithms {
		if weakAlgorithm(a) {
			return fmt.Errorf("make trust state: the signature algorithm %v is too weak to be asked for", a)
		}
	}
	return nil
}

// floor is what every path must have, whatever is configured.
var floor = StateConfig{MinRSABits: minRSABits, MinECBits: minECBits}

func weakKey(c *x509.Certificate) error { return floor.weakKey(c) }

func (s *StateConfig) weakKey(c *x509.Certificate) error {
	switch k := c.PublicKey.(type) {
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < s.MinRSABits || bits > maxRSABits {
			return refuse(WeakKey, c, "the key of %s is RSA %d, outside of %d to %d bits", describe(c), bits, s.MinRSABits, maxRSABits)
		}
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() && k.Curve != elliptic.P521() {
			return refuse(WeakKey, c, "the key of %s is on the curve %s", describe(c), k.Curve.Params().Name)
		}
		if bits := k.Curve.Params().BitSize; bits < s.MinECBits {
			return refuse(WeakKey, c, "the key of %s is on the curve %s, and at least %d bits are asked for", describe(c), k.Curve.Params().Name, s.MinECBits)
		}
	case ed25519.PublicKey:
	default:
		return refuse(WeakKey, c, "the key of %s is of an unsupported kind", describe(c))
	}
	return nil
}

// weakSignature reports an algorithm that no longer binds issuer and content.
// RFC 9155 and the baseline of the NHS PKI: SHA-256 or better.
func weakSignature(c *x509.Certificate) bool { return weakAlgorithm(c.SignatureAlgorithm) }

// weakSignature also reports one that the environment does not permit.
func (s *StateConfig) weakSignature(c *x509.Certificate) bool {
	return weakSignature(c) || len(s.SignatureAlgorithms) > 0 && !slices.Contains(s.SignatureAlgorithms, c.SignatureAlgorithm)
}

func weakAlgorithm(a x509.SignatureAlgorithm) bool {
	switch a {
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
