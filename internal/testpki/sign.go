package testpki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1" //nolint:gosec // SHA-1 signatures are a defect to be made on purpose
	_ "crypto/sha256"
	"encoding/asn1"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// algorithm is a signature algorithm as DER AlgorithmIdentifier and its hash.
type algorithm struct {
	der  []byte
	hash crypto.Hash
}

// algorithmFor returns the algorithm of key with SHA-256, or with SHA-1, which
// crypto/x509 no longer signs certificates with.
func algorithmFor(tb testing.TB, key crypto.Signer, sha1 bool) algorithm {
	tb.Helper()
	var oid asn1.ObjectIdentifier
	hash, null := crypto.SHA256, false
	if sha1 {
		hash = crypto.SHA1
	}
	switch key.Public().(type) {
	case *rsa.PublicKey:
		oid, null = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, true
		if sha1 {
			oid = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 5}
		}
	case *ecdsa.PublicKey:
		oid = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}
		if sha1 {
			oid = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 1}
		}
	case ed25519.PublicKey:
		if sha1 {
			tb.Fatal("sign with SHA-1: an Ed25519 issuer cannot")
		}
		oid, hash = asn1.ObjectIdentifier{1, 3, 101, 112}, 0
	default:
		tb.Fatalf("sign: no algorithm for %T", key.Public())
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oid)
		if null {
			b.AddASN1NULL()
		}
	})
	return algorithm{der: b.BytesOrPanic(), hash: hash}
}

// signed wraps tbs, the algorithm and the signature of key over tbs into the
// SEQUENCE that certificates and CRLs share (RFC 5280, Sections 4.1.1 and 5.1.1).
func signed(tb testing.TB, tbs []byte, alg algorithm, key crypto.Signer, spoil bool) []byte {
	tb.Helper()
	digest := tbs
	if alg.hash != 0 {
		h := alg.hash.New()
		h.Write(tbs)
		digest = h.Sum(nil)
	}
	signature, err := key.Sign(rand.Reader, digest, alg.hash)
	if err != nil {
		tb.Fatalf("sign: %v", err)
	}
	if spoil {
		signature[len(signature)-1] ^= 1
	}
	bits := appendTLV(nil, 0x03, []byte{0}, signature)
	return appendTLV(nil, 0x30, tbs, alg.der, bits)
}

// resign replaces the algorithm and the signature of a certificate.
func resign(tb testing.TB, der []byte, key crypto.Signer, sha1, spoil bool) []byte {
	tb.Helper()
	input := cryptobyte.String(der)
	var cert, tbs, version, serial, old cryptobyte.String
	ok := input.ReadASN1(&cert, cbasn1.SEQUENCE) &&
		cert.ReadASN1(&tbs, cbasn1.SEQUENCE) &&
		tbs.ReadASN1Element(&version, cbasn1.Tag(0).ContextSpecific().Constructed()) &&
		tbs.ReadASN1Element(&serial, cbasn1.INTEGER) &&
		tbs.ReadASN1Element(&old, cbasn1.SEQUENCE)
	if !ok {
		tb.Fatal("sign again: the certificate does not read")
	}
	alg := algorithmFor(tb, key, sha1)
	return signed(tb, appendTLV(nil, 0x30, version, serial, alg.der, tbs), alg, key, spoil)
}

// appendTLV appends a DER element made of the given parts. cryptobyte.Builder
// would copy a CRL of a million entries once per level.
func appendTLV(out []byte, tag byte, parts ...[]byte) []byte {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	out = append(out, tag)
	switch {
	case n < 0x80:
		out = append(out, byte(n))
	case n < 0x100:
		out = append(out, 0x81, byte(n))
	case n < 0x10000:
		out = append(out, 0x82, byte(n>>8), byte(n))
	case n < 0x1000000:
		out = append(out, 0x83, byte(n>>16), byte(n>>8), byte(n))
	default:
		out = append(out, 0x84, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}
