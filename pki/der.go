package pki

import (
	"bytes"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// kind is what a DER element turns out to be.
type kind int

const (
	kindUnknown kind = iota
	kindCertificate
	kindRequest
	kindCRL
	kindPKCS1
	kindPKCS8
	kindSEC1
	kindEncryptedKey
	kindPKCS7
	kindPKCS12
)

const (
	contextTag0 = asn1.Tag(0xA0) // [0], constructed
	contextTag1 = asn1.Tag(0xA1) // [1], constructed
)

// Object identifiers, as the content of their DER.
const (
	oidData          = "\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01"         // 1.2.840.113549.1.7.1
	oidSignedData    = "\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02"         // 1.2.840.113549.1.7.2
	oidEncryptedData = "\x2a\x86\x48\x86\xf7\x0d\x01\x07\x06"         // 1.2.840.113549.1.7.6
	oidKeyBag        = "\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x0a\x01\x01" // 1.2.840.113549.1.12.10.1.1
	oidShroudedKey   = "\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x0a\x01\x02" // 1.2.840.113549.1.12.10.1.2
	oidEd25519       = "\x2b\x65\x70"                                 // 1.3.101.112
	oidSHA256        = "\x60\x86\x48\x01\x65\x03\x04\x02\x01"         // 2.16.840.1.101.3.4.2.1
)

// isKey reports whether k is a private key in the clear.
func (k kind) isKey() bool { return k == kindPKCS1 || k == kindPKCS8 || k == kindSEC1 }

func (k kind) String() string {
	switch k {
	case kindCertificate:
		return "a certificate"
	case kindRequest:
		return "a certificate request"
	case kindCRL:
		return "a CRL"
	case kindPKCS1, kindPKCS8, kindSEC1:
		return "a private key"
	case kindEncryptedKey:
		return "an encrypted private key"
	case kindPKCS7:
		return "a PKCS#7 file"
	case kindPKCS12:
		return "a PKCS#12 file"
	default:
		return "neither a certificate nor a key"
	}
}

// looksBinary reports whether data begins like DER: a SEQUENCE. Text may begin
// with the same byte, the digit 0, but has no control byte behind it.
func looksBinary(data []byte) bool {
	if len(data) == 0 || data[0] != 0x30 {
		return false
	}
	control := func(r byte) bool { return r < 0x20 && r != '\n' && r != '\r' && r != '\t' }
	for _, c := range data[1:min(len(data), 4)] {
		if control(c) || c >= 0x80 {
			return true
		}
	}
	return len(data) < 4
}

// readElement cuts the first DER element from data. Its errors tell a file that
// ends early, which may still grow, from one that is wrong.
func readElement(part string, data []byte) (element, rest []byte, err error) {
	s := cryptobyte.String(data)
	var out cryptobyte.String
	var tag asn1.Tag
	if s.ReadAnyASN1Element(&out, &tag) {
		return out, s, nil
	}
	if len(data) >= 2 && data[0] == 0x30 && data[1] == 0x80 {
		return nil, nil, refusal(part, "is encoded as BER of indefinite length, not as DER").
			advise("convert it, for PKCS#7: openssl pkcs7 -inform DER -in FILE -print_certs -out certificates.pem")
	}
	if length, known := elementLength(data); !known || length > len(data) {
		return nil, nil, incoherent(part, "DER is truncated at %d bytes", len(data))
	}
	return nil, nil, refusal(part, "is malformed DER")
}

// elementLength returns the length of the first element with its header; known
// is false where the header itself is cut.
func elementLength(data []byte) (length int, known bool) {
	if len(data) < 2 {
		return 0, false
	}
	if data[1] < 0x80 {
		return 2 + int(data[1]), true
	}
	octets := int(data[1] & 0x7F)
	if octets > 4 { // 4 GiB or more is no file of ours
		return 0, true
	}
	if len(data) < 2+octets {
		return 0, false
	}
	for _, c := range data[2 : 2+octets] {
		length = length<<8 | int(c)
	}
	return 2 + octets + length, true
}

// sniff says what one DER element is, from its outline only.
func sniff(element []byte) kind {
	s := cryptobyte.String(element)
	var in cryptobyte.String
	if !s.ReadASN1(&in, asn1.SEQUENCE) {
		return kindUnknown
	}
	var first cryptobyte.String
	var tag asn1.Tag
	if !in.ReadAnyASN1(&first, &tag) {
		return kindUnknown
	}
	switch tag {
	case asn1.OBJECT_IDENTIFIER:
		if string(first) == oidSignedData {
			return kindPKCS7
		}
	case asn1.INTEGER:
		return sniffVersioned(first, in)
	case asn1.SEQUENCE:
		if in.PeekASN1Tag(asn1.OCTET_STRING) { // EncryptedPrivateKeyInfo, RFC 5958, Section 3
			return kindEncryptedKey
		}
		return sniffSigned(first)
	}
	return kindUnknown
}

// sniffVersioned tells apart what begins with a version: private keys and PFX.
func sniffVersioned(version []byte, rest cryptobyte.String) kind {
	switch {
	case rest.PeekASN1Tag(asn1.INTEGER):
		return kindPKCS1 // RFC 8017, Appendix A.1.2
	case rest.PeekASN1Tag(asn1.OCTET_STRING):
		return kindSEC1 // RFC 5915, Section 3
	case rest.PeekASN1Tag(asn1.SEQUENCE) && bytes.Equal(version, []byte{3}):
		return kindPKCS12 // RFC 7292, Section 4
	case rest.PeekASN1Tag(asn1.SEQUENCE):
		return kindPKCS8 // RFC 5958, Section 2
	}
	return kindUnknown
}

// sniffSigned tells apart what a CA or a key holder signs, by the outline of the
// signed part (RFC 5280, Sections 4.1 and 5.1; RFC 2986, Section 4.1).
func sniffSigned(tbs cryptobyte.String) kind {
	if tbs.PeekASN1Tag(contextTag0) {
		return kindCertificate // its version; absent in v1
	}
	var skipped cryptobyte.String
	tbs.SkipOptionalASN1(asn1.INTEGER)
	for range 2 {
		if !tbs.ReadASN1(&skipped, asn1.SEQUENCE) {
			return kindUnknown
		}
	}
	switch {
	case tbs.PeekASN1Tag(asn1.UTCTime), tbs.PeekASN1Tag(asn1.GeneralizedTime):
		return kindCRL
	case tbs.PeekASN1Tag(asn1.SEQUENCE):
		return kindCertificate // v1
	case tbs.Empty(), tbs.PeekASN1Tag(contextTag0):
		return kindRequest
	}
	return kindUnknown
}
