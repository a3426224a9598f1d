package testpki

import (
	"crypto/x509/pkix"
	"encoding/asn1"
)

// idp is an issuingDistributionPoint (RFC 5280, Section 5.2.5).
type idp struct {
	uris                                                   []string
	onlyUser, onlyCA, indirect, someReasons, onlyAttribute bool
}

// IDP adds a critical issuingDistributionPoint with the URIs as the full name of
// the one distribution point. It keeps flags that IDPFlags set.
func IDP(uris ...string) CRLOption {
	return func(s *crlSettings) { s.point().uris = uris }
}

// IDPFlags sets the flags onlyContainsUserCerts, onlyContainsCACerts, indirectCRL
// and, for reasons, an onlySomeReasons with keyCompromise alone. The extension
// has a name only if [IDP] is given too.
func IDPFlags(onlyUser, onlyCA, indirect, reasons bool) CRLOption {
	return func(s *crlSettings) {
		p := s.point()
		p.onlyUser, p.onlyCA, p.indirect, p.someReasons = onlyUser, onlyCA, indirect, reasons
	}
}

// IDPOnlyAttribute sets the flag onlyContainsAttributeCerts.
func IDPOnlyAttribute() CRLOption {
	return func(s *crlSettings) { s.point().onlyAttribute = true }
}

// NoIDP takes the issuingDistributionPoint away, which is the default.
func NoIDP() CRLOption { return func(s *crlSettings) { s.idp = nil } }

func (s *crlSettings) point() *idp {
	if s.idp == nil {
		s.idp = &idp{}
	}
	return s.idp
}

func (p *idp) extension() pkix.Extension {
	var content []byte
	if len(p.uris) > 0 {
		var names []byte
		for _, uri := range p.uris {
			names = appendTLV(names, 0x86, []byte(uri)) // uniformResourceIdentifier
		}
		content = appendTLV(content, 0xA0, appendTLV(nil, 0xA0, names)) // distributionPoint, fullName
	}
	flag := func(tag byte, set bool) {
		if set { // DEFAULT FALSE is left out in DER
			content = appendTLV(content, tag, []byte{0xFF})
		}
	}
	flag(0x81, p.onlyUser)
	flag(0x82, p.onlyCA)
	if p.someReasons {
		content = appendTLV(content, 0x83, []byte{6, 0x40}) // keyCompromise is bit 1
	}
	flag(0x84, p.indirect)
	flag(0x85, p.onlyAttribute)
	return pkix.Extension{
		Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: appendTLV(nil, 0x30, content),
	}
}
