package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// Fingerprint returns the SHA-256 of the whole certificate in lower-case hex.
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// KeyFingerprint returns the SHA-256 of the public key, as DER
// SubjectPublicKeyInfo, in lower-case hex: what pins compare and what requests
// are known by. It is "" for a key that crypto/x509 cannot encode.
func KeyFingerprint(pub crypto.PublicKey) string {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

// DescribeKey returns kind and size of a key: "RSA 2048", "ECDSA P-256",
// "Ed25519", or "unknown key".
func DescribeKey(pub crypto.PublicKey) string {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		if k != nil && k.N != nil {
			return "RSA " + itoa(k.N.BitLen())
		}
	case *ecdsa.PublicKey:
		if k != nil && k.Curve != nil {
			return "ECDSA " + k.Curve.Params().Name
		}
	case ed25519.PublicKey:
		return "Ed25519"
	}
	return "unknown key"
}

// describe names a certificate in an error.
func describe(c *x509.Certificate) string {
	return fmt.Sprintf("certificate %q (sha256 %s)", c.Subject.String(), Fingerprint(c))
}

// describeAll names the first few certificates of a list.
func describeAll(certs []*x509.Certificate) string {
	const most = 3
	var names []string
	for _, c := range certs[:min(len(certs), most)] {
		names = append(names, describe(c))
	}
	if more := len(certs) - most; more > 0 {
		names = append(names, itoa(more)+" more")
	}
	return strings.Join(names, ", ")
}

// safeCause returns the library's cause with a colon before it, or "" where the
// text may quote what it read: a file may hold anything under any label.
func safeCause(err error) string {
	text := strings.TrimPrefix(err.Error(), "x509: ")
	if len(text) > 100 || strings.ContainsAny(text, "\"'`\n0123456789") {
		return ""
	}
	return ": " + text
}

func itoa(n int) string { return strconv.Itoa(n) }
