package lint

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"fmt"

	"github.com/spinecert/spinecert/pki"
)

const (
	minRSABits  = 2048
	maxRSABits  = 8192 // crypto/tls refuses longer ones from a peer
	minExponent = 65537
)

// keyRows are the rules about keys and signatures.
func keyRows() []row {
	const newKey = "make a new key and a request for it: spinecert csr new --key rsa-2048"
	return []row{
		{Rule{"rsa-short", of(TargetLeaf, TargetCA, TargetRequest), "An RSA key has at least 2048 bits.",
			spine4, Error, newKey}, func(s *subject) string {
			if k := s.rsaKey(); k != nil && k.N.BitLen() < minRSABits {
				return fmt.Sprintf("the RSA key has %d bits", k.N.BitLen())
			}
			return ""
		}},
		{Rule{"rsa-size", of(TargetLeaf, TargetRequest), "An RSA key has 2048 or 4096 bits.",
			spine4, Info, "nothing has to change: only 2048 and 4096 are written down; use one of them for the next request"}, func(s *subject) string {
			if k := s.rsaKey(); k != nil && k.N.BitLen() >= minRSABits && k.N.BitLen() <= maxRSABits && k.N.BitLen() != 2048 && k.N.BitLen() != 4096 {
				return fmt.Sprintf("the RSA key has %d bits", k.N.BitLen())
			}
			return ""
		}},
		{Rule{"rsa-exponent", of(TargetLeaf, TargetCA, TargetRequest), "The exponent of an RSA key is odd and at least 65537.",
			"FIPS 186-5, Appendix A.1.1", Warning, "whatever made the key is out of date; " + newKey}, func(s *subject) string {
			if k := s.rsaKey(); k != nil && (k.E < minExponent || k.E%2 == 0) {
				return fmt.Sprintf("the exponent of the RSA key is %d", k.E)
			}
			return ""
		}},
		{Rule{"key-unsupported", of(TargetLeaf, TargetCA, TargetRequest), "The key is of a kind and size that this program supports: RSA of up to 8192 bits, ECDSA on P-256 or P-384 (a CA's on P-521 as well), or Ed25519.",
			spine4, Error, newKey}, unsupportedKey},
		{Rule{"key-not-rsa", of(TargetLeaf, TargetRequest), "The key is RSA.",
			spine4, Warning, "whether ECDSA is accepted is unconfirmed, and every cipher suite that Spine lists is for RSA: ask before, or " + newKey}, func(s *subject) string {
			switch s.key.(type) {
			case *ecdsa.PublicKey, ed25519.PublicKey:
				return "the key is " + pki.DescribeKey(s.key)
			}
			return ""
		}},
		{Rule{"signature-weak", of(TargetLeaf, TargetCA, TargetRequest), "The signature is made with SHA-256 or better. That of a root on itself does not count.",
			spine4, Error, "have it signed again with SHA-256; a request: spinecert csr new"}, func(s *subject) string {
			if weak(s.signature) && !s.root {
				return "it is signed with " + s.signature.String()
			}
			return ""
		}},
		{Rule{"signature-unknown", of(TargetLeaf, TargetCA, TargetRequest), "The algorithm of the signature is one that programs know.",
			spine4, Error, "have it signed again with SHA-256 and RSA"}, func(s *subject) string {
			if s.signature == x509.UnknownSignatureAlgorithm {
				return "the algorithm of the signature is not known"
			}
			return ""
		}},
	}
}

// rsaKey returns the key if it is RSA, else nil.
func (s *subject) rsaKey() *rsa.PublicKey {
	if k, ok := s.key.(*rsa.PublicKey); ok && k != nil && k.N != nil {
		return k
	}
	return nil
}

func unsupportedKey(s *subject) string {
	detail := "the key is " + pki.DescribeKey(s.key)
	switch k := s.key.(type) {
	case *rsa.PublicKey: // short ones have a rule of their own
		if s.rsaKey() == nil || k.N.BitLen() > maxRSABits {
			return detail
		}
		return ""
	case *ecdsa.PublicKey:
		if s.target == TargetCA && k.Curve == elliptic.P521() {
			return ""
		}
	}
	if pki.CheckKey(s.key) != nil {
		return detail
	}
	return ""
}

func weak(a x509.SignatureAlgorithm) bool {
	switch a {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1:
		return true
	}
	return false
}
