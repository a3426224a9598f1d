package trust

import (
	stdasn1 "encoding/asn1"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Contents octets of the object identifiers below 2.5.29 (RFC 5280, Sections
// 4.2.1.13, 5.2 and 5.3).
const (
	oidCRLNumber           = "\x55\x1d\x14"
	oidReasonCode          = "\x55\x1d\x15"
	oidInvalidityDate      = "\x55\x1d\x18"
	oidDeltaCRLIndicator   = "\x55\x1d\x1b"
	oidIssuingDistribution = "\x55\x1d\x1c"
	oidCertificateIssuer   = "\x55\x1d\x1d"
	oidAuthorityKeyID      = "\x55\x1d\x23"
)

// crlExtension is one Extension of a CRL or of an entry; it points into the input.
type crlExtension struct {
	oid      []byte // contents octets
	critical bool
	value    cryptobyte.String
}

// name returns the object identifier in dots.
func (e crlExtension) name() string {
	var b cryptobyte.Builder
	b.AddASN1(asn1.OBJECT_IDENTIFIER, func(b *cryptobyte.Builder) { b.AddBytes(e.oid) })
	s := cryptobyte.String(b.BytesOrPanic())
	var oid stdasn1.ObjectIdentifier
	if !s.ReadASN1ObjectIdentifier(&oid) {
		return "?"
	}
	return clip(oid.String())
}

// crlExtensions remembers which extensions of one list or entry were read. It
// is a small array, as it is used once per entry.
type crlExtensions struct {
	oids [16][]byte
	n    int
}

// next reads one Extension and refuses a second one of its kind (RFC 5280, Section 4.2).
func (x *crlExtensions) next(s *cryptobyte.String) (crlExtension, *CRLError) {
	var e crlExtension
	var body, element, oid cryptobyte.String
	var parsed stdasn1.ObjectIdentifier
	if !s.ReadASN1(&body, asn1.SEQUENCE) || !body.ReadASN1Element(&element, asn1.OBJECT_IDENTIFIER) {
		return e, crlFault(Malformed, "an extension does not parse")
	}
	whole := element
	if !element.ReadASN1(&oid, asn1.OBJECT_IDENTIFIER) || body.PeekASN1Tag(asn1.BOOLEAN) && !body.ReadASN1Boolean(&e.critical) ||
		!body.ReadASN1(&e.value, asn1.OCTET_STRING) || !body.Empty() {
		return e, crlFault(Malformed, "an extension does not parse")
	}
	e.oid = oid
	if !isCertificateExtension(oid) && !whole.ReadASN1ObjectIdentifier(&parsed) {
		return e, crlFault(Malformed, "an extension's object identifier does not parse")
	}
	for _, o := range x.oids[:x.n] {
		if string(o) == string(oid) {
			return e, crlFault(Malformed, "it has the extension %s twice", e.name())
		}
	}
	if x.n == len(x.oids) {
		return e, crlFault(Malformed, "it has more than %d extensions", len(x.oids))
	}
	x.oids[x.n] = oid
	x.n++
	return e, nil
}

// isCertificateExtension reports whether oid is below 2.5.29, as all are that
// matter. Reading others as an asn1.ObjectIdentifier, only to check them, allocates.
func isCertificateExtension(oid []byte) bool {
	return len(oid) == 3 && oid[0] == 0x55 && oid[1] == 0x1d && oid[2] < 0x80
}
