package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

const (
	minRSABits = 2048
	maxRSABits = 8192 // crypto/tls refuses longer ones from a peer

	// Reading a key takes time that grows with the square of its size, or faster. One
	// of 8192 bits has 4.8 kB as PKCS#8, and a little more with several primes.
	maxKeyDER = 8 << 10
)

// ParseKey reads the one private key of a PEM or DER file, as PKCS#1, PKCS#8 or
// SEC 1. Certificates and EC parameters beside it are passed over. No key is an
// error that matches [ErrIncoherent]; two keys are an error. An encrypted key is
// refused, with the openssl command that decrypts it as hint. Use [CheckKey] to
// learn whether the key is of a supported kind and size.
func ParseKey(data []byte) (crypto.Signer, error) {
	_, parts, err := split(data)
	if err != nil {
		return nil, in(partKey, err)
	}
	var keys []part
	for _, p := range parts {
		switch {
		case p.encrypted, p.kind == kindEncryptedKey:
			return nil, encryptedKey()
		case p.kind.isKey():
			keys = append(keys, p)
		case p.kind == kindPKCS12:
			return nil, refusal(partKey, "is a PKCS#12 file").
				advise("take the key out: openssl pkcs12 -in FILE -nocerts -nodes -out key.pem")
		case p.label == "OPENSSH PRIVATE KEY":
			return nil, refusal(partKey, "is in OpenSSH's own format").
				advise("convert a copy of it: ssh-keygen -p -N '' -m PKCS8 -f COPY")
		case strings.HasSuffix(p.label, "PRIVATE KEY"):
			return nil, refusal(partKey, "is of an unsupported kind, PEM block %q", p.label)
		}
	}
	switch len(keys) {
	case 0:
		return nil, incoherent(partKey, "no private key found%s", found(parts))
	case 1:
		return parseKeyDER(keys[0].kind, keys[0].der)
	default:
		return nil, refusal(partKey, "%d private keys found, want one", len(keys))
	}
}

// parseKeyDER reads one private key. The library's errors are not passed on:
// what they quote comes out of the key.
func parseKeyDER(k kind, der []byte) (crypto.Signer, error) {
	if len(der) > maxKeyDER {
		return nil, refusal(partKey, "is of %d bytes, which is more than an RSA key of %d bits has", len(der), maxRSABits)
	}
	var key any
	var err error
	switch k {
	case kindPKCS1:
		key, err = x509.ParsePKCS1PrivateKey(der)
	case kindSEC1:
		key, err = x509.ParseECPrivateKey(der)
	default:
		key, err = x509.ParsePKCS8PrivateKey(der)
	}
	if err != nil {
		if name := pkcs8Algorithm(der); k == kindPKCS8 && name != "" {
			return nil, refusal(partKey, "is a %s key, which is not supported", name)
		}
		return nil, refusal(partKey, "is malformed, or of an unsupported kind")
	}
	signer, ok := key.(crypto.Signer)
	if !ok { // an *ecdh.PrivateKey
		return nil, refusal(partKey, "is for key agreement only and cannot sign")
	}
	return signer, nil
}

// pkcs8Algorithm names the algorithms that people try and that are not
// supported, or returns "".
func pkcs8Algorithm(der []byte) string {
	s := cryptobyte.String(der)
	var version int
	var in, algorithm, oid cryptobyte.String
	if !s.ReadASN1(&in, asn1.SEQUENCE) || !in.ReadASN1Integer(&version) ||
		!in.ReadASN1(&algorithm, asn1.SEQUENCE) || !algorithm.ReadASN1(&oid, asn1.OBJECT_IDENTIFIER) {
		return ""
	}
	switch string(oid) {
	case "\x2a\x86\x48\xce\x38\x04\x01": // 1.2.840.10040.4.1
		return "DSA"
	case "\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a": // 1.2.840.113549.1.1.10
		return "RSA-PSS"
	case "\x2b\x65\x71": // 1.3.101.113
		return "Ed448"
	case "\x2b\x65\x6f": // 1.3.101.111
		return "X448"
	}
	return ""
}

func encryptedKey() *Error {
	return refusal(partKey, "is encrypted with a passphrase, which is not supported").
		advise("decrypt it: openssl pkey -in FILE -out decrypted.key (asks for the passphrase; then use decrypted.key, readable for the daemon alone)")
}

// CheckKey returns an error unless the public key is of a supported kind: RSA of
// 2048 to 8192 bits, ECDSA on P-256 or P-384, or Ed25519.
func CheckKey(pub crypto.PublicKey) error {
	ok := false
	switch k := pub.(type) {
	case *rsa.PublicKey:
		if k == nil || k.N == nil {
			break
		}
		if bits := k.N.BitLen(); bits < minRSABits || bits > maxRSABits {
			return refusal(partKey, "RSA key has %d bits, want %d to %d", bits, minRSABits, maxRSABits)
		}
		ok = true
	case *ecdsa.PublicKey:
		ok = k != nil && (k.Curve == elliptic.P256() || k.Curve == elliptic.P384())
	case ed25519.PublicKey:
		ok = len(k) == ed25519.PublicKeySize
	}
	if !ok {
		return refusal(partKey, "%s is not supported, want RSA, ECDSA P-256, ECDSA P-384 or Ed25519", DescribeKey(pub))
	}
	return nil
}
