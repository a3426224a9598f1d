package pki

import (
	"crypto/x509"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// parsePKCS7 takes the certificates and CRLs out of SignedData (RFC 5652,
// Section 5.1). Signatures in it are not looked at: the container is a bag, and
// trust comes from the certificates.
func parsePKCS7(der []byte) ([]*x509.Certificate, [][]byte, error) {
	malformed := refusal(partPKCS7, "is malformed")
	s := cryptobyte.String(der)
	var info, oid, explicit, signed cryptobyte.String
	if !s.ReadASN1(&info, asn1.SEQUENCE) || !info.ReadASN1(&oid, asn1.OBJECT_IDENTIFIER) ||
		string(oid) != oidSignedData || !info.ReadASN1(&explicit, contextTag0) ||
		!explicit.ReadASN1(&signed, asn1.SEQUENCE) {
		return nil, nil, malformed
	}
	var version int
	var certs, crls cryptobyte.String
	var hasCerts, hasCRLs bool
	if !signed.ReadASN1Integer(&version) ||
		!signed.SkipASN1(asn1.SET) || // digestAlgorithms
		!signed.SkipASN1(asn1.SEQUENCE) || // encapContentInfo
		!signed.ReadOptionalASN1(&certs, &hasCerts, contextTag0) ||
		!signed.ReadOptionalASN1(&crls, &hasCRLs, contextTag1) {
		return nil, nil, malformed
	}
	var certificates []*x509.Certificate
	for !certs.Empty() {
		var element cryptobyte.String
		var tag asn1.Tag
		if !certs.ReadAnyASN1Element(&element, &tag) {
			return nil, nil, malformed
		}
		if tag != asn1.SEQUENCE {
			return nil, nil, refusal(partPKCS7, "holds a certificate that is not X.509")
		}
		cert, err := x509.ParseCertificate(element)
		if err != nil {
			return nil, nil, refusal(partPKCS7, "holds a malformed certificate%s", safeCause(err))
		}
		certificates = append(certificates, cert)
	}
	var lists [][]byte
	for !crls.Empty() {
		var element cryptobyte.String
		if !crls.ReadASN1Element(&element, asn1.SEQUENCE) {
			return nil, nil, malformed
		}
		lists = append(lists, element)
	}
	if len(certificates)+len(lists) == 0 {
		return nil, nil, incoherent(partPKCS7, "holds no certificate")
	}
	return certificates, lists, nil
}
