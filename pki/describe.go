package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
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
	return "certificate " + QuoteName(c.Subject) + " (sha256 " + Fingerprint(c) + ")"
}

// Bounds of a name in a message. Whoever makes a certificate chooses its names:
// they may be a megabyte, and pkix.Name.String takes quadratic time for many
// attributes.
const (
	maxAttributes = 20
	maxShown      = 200 // bytes as they are shown
)

// QuoteName returns the subject or issuer of a certificate for a message: quoted,
// so that nothing in it reaches a terminal or a log as it is, and cut to about 200 bytes.
func QuoteName(n pkix.Name) string {
	if len(n.Names) > maxAttributes {
		var first pkix.RDNSequence
		for _, a := range n.Names[:maxAttributes] {
			first = append(first, pkix.RelativeDistinguishedNameSET{a})
		}
		n = pkix.Name{}
		n.FillFromRDNSequence(&first)
	}
	name := strings.ToValidUTF8(n.String(), "\ufffd")
	size := 0
	for i, r := range name {
		if size += len(strconv.Quote(string(r))) - len(`""`); size > maxShown {
			return strconv.Quote(name[:i] + "...")
		}
	}
	return strconv.Quote(name)
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
