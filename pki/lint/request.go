package lint

import (
	"crypto/x509"
	stdasn1 "encoding/asn1"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// requestRows are the rules for requests alone.
func requestRows() []row {
	const again = "make the request again: spinecert csr new"
	return []row{
		{Rule{"request-signature", of(TargetRequest), "The request is signed with its own key.",
			"RFC 2986, Section 3", Error, "it was changed or cut on its way; " + again}, func(s *subject) string {
			if s.signature == x509.UnknownSignatureAlgorithm || weak(s.signature) || s.key == nil || oversized(s.key) {
				return "" // that has a rule of its own, and not all of them can be checked
			}
			if s.request.CheckSignature() != nil {
				return "the signature was not made with the key that is in it"
			}
			return ""
		}},
		{Rule{"request-common-name", of(TargetRequest), "The subject has exactly one common name, the FQDN.",
			spine4, Error, again}, commonNameCount},
		{Rule{"request-subject", of(TargetRequest), "The common name stands alone in the subject: all other fields are blank.",
			spine4, Error, again}, otherFields},
		{Rule{"request-san", of(TargetRequest), "No subject alternative name is asked for.",
			spine4, Info, "nothing: whether DIR copies it into the certificate is unconfirmed; look at the answer with spinecert inspect"}, func(s *subject) string {
			if s.has(oidSAN) {
				return "a subject alternative name is asked for"
			}
			return ""
		}},
		{Rule{"request-attributes", of(TargetRequest), "There is neither a challenge password nor an unstructured name.",
			spine4, Warning, "the password can be read by everyone who sees the request: use it nowhere, and " + again}, extraAttributes},
		{Rule{"request-ca", of(TargetRequest), "The request does not ask for the certificate of a CA.",
			spine4, Error, again}, asksForCA},
	}
}

func otherFields(s *subject) string {
	var fields []string
	for _, a := range s.attributes {
		id := a.Type.String()
		if id == oidCommonName || id == oidEmail { // which has a rule of its own
			continue
		}
		if name := fieldName(id); !slices.Contains(fields, name) {
			fields = append(fields, name)
		}
	}
	if len(fields) == 0 {
		return ""
	}
	return "the subject has " + strings.Join(fields[:min(len(fields), 8)], ", ")
}

// fieldName is the short name of RFC 4514, Section 3, or the object identifier.
func fieldName(id string) string {
	switch id {
	case "2.5.4.5":
		return "serialNumber"
	case "2.5.4.6":
		return "C"
	case "2.5.4.7":
		return "L"
	case "2.5.4.8":
		return "ST"
	case "2.5.4.9":
		return "STREET"
	case "2.5.4.10":
		return "O"
	case "2.5.4.11":
		return "OU"
	}
	return id
}

// extraAttributes reads the attributes itself: crypto/x509 keeps only those of
// the shape that an extensionRequest has.
func extraAttributes(s *subject) string {
	der := cryptobyte.String(s.request.RawTBSCertificateRequest)
	var info, attributes, attribute cryptobyte.String
	if !der.ReadASN1(&info, asn1.SEQUENCE) || !info.SkipASN1(asn1.INTEGER) || !info.SkipASN1(asn1.SEQUENCE) || !info.SkipASN1(asn1.SEQUENCE) ||
		!info.ReadASN1(&attributes, asn1.Tag(0).ContextSpecific().Constructed()) {
		return ""
	}
	var found []string
	for attributes.ReadASN1(&attribute, asn1.SEQUENCE) {
		var id stdasn1.ObjectIdentifier
		if !attribute.ReadASN1ObjectIdentifier(&id) {
			continue
		}
		switch id.String() { // never the value: it is a password
		case oidChallenge:
			found = append(found, "a challenge password")
		case oidUnstructuredName:
			found = append(found, "an unstructured name")
		}
	}
	if len(found) == 0 {
		return ""
	}
	return fmt.Sprintf("it has %s", few(found))
}

func asksForCA(s *subject) string {
	e := s.extension(oidBasicConstraints)
	if e == nil {
		return ""
	}
	der := cryptobyte.String(e.Value)
	var constraints cryptobyte.String
	ca := false
	if der.ReadASN1(&constraints, asn1.SEQUENCE) && constraints.PeekASN1Tag(asn1.BOOLEAN) && constraints.ReadASN1Boolean(&ca) && ca {
		return "it asks for the certificate of a CA"
	}
	return ""
}
