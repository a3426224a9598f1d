package pki

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"slices"
)

// requestIDLength is how many hex digits of a key's fingerprint name a request.
const requestIDLength = 16

// RequestID names the request of a public key: the first 16 hex digits of
// [KeyFingerprint], or "" where that is "".
func RequestID(pub crypto.PublicKey) string {
	sum := KeyFingerprint(pub)
	return sum[:min(requestIDLength, len(sum))]
}

// NewRequest makes a certificate request (RFC 2986) in PEM, signed with the key
// and SHA-256 (P-384 and Ed25519 with the hash that belongs to them). Its subject
// is the one common name fqdn: all other fields blank, no e-mail address
// (SPINE.md, 4).
//
// There is a subject alternative name only if sans are given, as nobody could say
// what the authority makes of one. It then begins with fqdn, because verifiers do
// not look at the common name of a certificate that has one (RFC 6125, Section
// 6.4.4).
//
// Names that break a rule are refused with every rule of every name, joined; see
// [CheckCommonName] and [CheckName]. A key of an unsupported kind is an [*Error].
func NewRequest(key crypto.Signer, fqdn string, sans ...string) ([]byte, error) {
	if err := CheckRequestNames(fqdn, sans...); err != nil {
		return nil, err
	}
	if key == nil {
		return nil, incoherent(partRequest, "the private key is missing")
	}
	if err := CheckKey(key.Public()); err != nil {
		return nil, in(partRequest, err)
	}
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: fqdn}}
	if _, ok := key.Public().(*rsa.PublicKey); ok {
		template.SignatureAlgorithm = x509.SHA256WithRSA
	}
	if len(sans) > 0 {
		template.DNSNames = []string{fqdn}
		for _, san := range sans {
			if !slices.Contains(template.DNSNames, san) {
				template.DNSNames = append(template.DNSNames, san)
			}
		}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		return nil, &Error{Part: partRequest, Message: "could not be signed", Err: err}
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

// CheckRequestNames judges the names of a request before there is a key. Its
// error joins one [*NameError] for each rule that a name breaks.
func CheckRequestNames(fqdn string, sans ...string) error {
	errs := []error{CheckCommonName(fqdn)}
	for _, san := range sans {
		if san != fqdn {
			errs = append(errs, CheckName(san))
		}
	}
	return errors.Join(errs...)
}
