package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"strings"
)

// KeyKind names a kind and size of private key, as policies and flags do.
type KeyKind string

// The kinds that GenerateKey makes. RSA is what the pages of Spine ask for;
// whether ECDSA is accepted is unconfirmed (SPINE.md, 4).
const (
	RSA2048   KeyKind = "rsa-2048" // the default
	RSA3072   KeyKind = "rsa-3072"
	RSA4096   KeyKind = "rsa-4096"
	ECDSAP256 KeyKind = "ecdsa-p256"
	ECDSAP384 KeyKind = "ecdsa-p384"
	Ed25519   KeyKind = "ed25519"
)

// KeyKinds returns every kind that GenerateKey makes, the default first.
func KeyKinds() []KeyKind {
	return []KeyKind{RSA2048, RSA3072, RSA4096, ECDSAP256, ECDSAP384, Ed25519}
}

// GenerateKey makes a new private key from the system's random source. A kind
// that is not of KeyKinds is an [*Error] that lists them.
func GenerateKey(kind KeyKind) (crypto.Signer, error) {
	var key crypto.Signer
	var err error
	switch kind {
	case RSA2048:
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case RSA3072:
		key, err = rsa.GenerateKey(rand.Reader, 3072)
	case RSA4096:
		key, err = rsa.GenerateKey(rand.Reader, 4096)
	case ECDSAP256:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case ECDSAP384:
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case Ed25519:
		_, key, err = ed25519.GenerateKey(rand.Reader)
	default:
		var names []string
		for _, k := range KeyKinds() {
			names = append(names, string(k))
		}
		return nil, refusal(partKey, "there is no key kind %q", string(kind)).advise("use one of " + strings.Join(names, ", "))
	}
	if err != nil {
		return nil, &Error{Part: partKey, Message: "could not be made", Err: err}
	}
	return key, nil
}

// EncodeKey returns a private key as PKCS#8 in PEM (RFC 5958). A key of a kind
// that crypto/x509 cannot encode, such as one in hardware, is an [*Error].
func EncodeKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, refusal(partKey, "cannot be written as PKCS#8") // the cause may quote the key
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// EncodeCertificates returns certificates as PEM, in the order given.
func EncodeCertificates(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}
