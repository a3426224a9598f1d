package trust

import (
	"bytes"
	"crypto/x509"
	stdasn1 "encoding/asn1"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Scope says which certificates of its issuer a CRL covers: its issuing
// distribution point (RFC 5280, Section 5.2.5), critical or not. Indirect CRLs
// and those for some reasons or attribute certificates only are refused when
// they are read, so a Scope never says so.
type Scope struct {
	HasIDP     bool     // false: it covers what the address it came from stands for
	Names      []string // the URIs among the names
	RawNames   [][]byte // all names, each the DER of one GeneralName; empty: the names do not restrict
	OtherNames bool     // there are names that are not URIs
	OnlyUser   bool     // onlyContainsUserCerts
	OnlyCA     bool     // onlyContainsCACerts
}

// DistributionPoint is one place where a certificate says its CRL can be had
// (RFC 5280, Section 4.2.1.13).
type DistributionPoint struct {
	URIs       []string // in the certificate's order
	RawNames   [][]byte // all names, each the DER of one GeneralName, to compare with Scope.RawNames
	Relative   bool     // it is named relative to its issuer, which is not supported; RawNames is empty
	HasIssuer  bool     // cRLIssuer: another CA issues the CRL (indirect), which is not supported
	HasReasons bool     // the CRL covers some reasons only, which is not supported
}

// CertificateDistributionPoints returns the distribution points of a
// certificate in its order, none if it names none. An extension that does not
// parse is a [*VerifyError] with the reason Malformed.
func CertificateDistributionPoints(cert *x509.Certificate) ([]DistributionPoint, error) {
	id := stdasn1.ObjectIdentifier{2, 5, 29, 31}
	for _, ext := range cert.Extensions {
		if !ext.Id.Equal(id) {
			continue
		}
		points, ok := readDistributionPoints(ext.Value)
		if !ok {
			return nil, refuse(Malformed, cert, "its CRL distribution points do not parse")
		}
		return points, nil
	}
	return nil, nil
}

func readDistributionPoints(value cryptobyte.String) ([]DistributionPoint, bool) {
	var list cryptobyte.String
	if !value.ReadASN1(&list, asn1.SEQUENCE) || !value.Empty() {
		return nil, false
	}
	var points []DistributionPoint
	for !list.Empty() {
		var point, name, skip cryptobyte.String
		var named bool
		var p DistributionPoint
		if !list.ReadASN1(&point, asn1.SEQUENCE) ||
			!point.ReadOptionalASN1(&name, &named, asn1.Tag(0).Constructed().ContextSpecific()) ||
			!point.ReadOptionalASN1(&skip, &p.HasReasons, asn1.Tag(1).ContextSpecific()) ||
			!point.ReadOptionalASN1(&skip, &p.HasIssuer, asn1.Tag(2).Constructed().ContextSpecific()) || !point.Empty() {
			return nil, false
		}
		if named {
			names, ok := readDistributionPointName(name)
			if !ok {
				return nil, false
			}
			p.URIs, p.RawNames, p.Relative = names.uris, names.raw, names.relative
		}
		points = append(points, p)
	}
	return points, true
}

func readIssuingDistributionPoint(value cryptobyte.String) (Scope, error) {
	malformed := crlFault(Malformed, "its issuing distribution point does not parse")
	scope := Scope{HasIDP: true}
	var idp, name, skip cryptobyte.String
	var named, someReasons, indirect, onlyAttributes bool
	if !value.ReadASN1(&idp, asn1.SEQUENCE) || !value.Empty() ||
		!idp.ReadOptionalASN1(&name, &named, asn1.Tag(0).Constructed().ContextSpecific()) ||
		!readFlag(&idp, &scope.OnlyUser, 1) || !readFlag(&idp, &scope.OnlyCA, 2) ||
		!idp.ReadOptionalASN1(&skip, &someReasons, asn1.Tag(3).ContextSpecific()) ||
		!readFlag(&idp, &indirect, 4) || !readFlag(&idp, &onlyAttributes, 5) || !idp.Empty() {
		return Scope{}, malformed
	}
	var names distributionPointName
	if named {
		var ok bool
		if names, ok = readDistributionPointName(name); !ok {
			return Scope{}, malformed
		}
		scope.Names, scope.RawNames, scope.OtherNames = names.uris, names.raw, len(names.raw) > len(names.uris)
	}
	switch {
	case indirect:
		return Scope{}, crlFault(CRLInvalid, "it is an indirect CRL")
	case someReasons:
		return Scope{}, crlFault(CRLInvalid, "it covers some reasons only")
	case onlyAttributes:
		return Scope{}, crlFault(CRLInvalid, "it covers attribute certificates only")
	case names.relative:
		return Scope{}, crlFault(CRLInvalid, "its distribution point is named relative to its issuer")
	case scope.OnlyUser && scope.OnlyCA: // RFC 5280, Section 5.2.5: at most one
		return Scope{}, crlFault(CRLInvalid, "it says that it covers CAs only, and users only")
	}
	return scope, nil
}

// readFlag reads an implicitly tagged BOOLEAN DEFAULT FALSE. DER leaves FALSE
// out; writing it is harmless and borne.
func readFlag(s *cryptobyte.String, out *bool, tag asn1.Tag) bool {
	var octets cryptobyte.String
	var present bool
	if !s.ReadOptionalASN1(&octets, &present, tag.ContextSpecific()) {
		return false
	}
	if !present {
		return true
	}
	*out = len(octets) == 1 && octets[0] == 0xff
	return len(octets) == 1 && (octets[0] == 0xff || octets[0] == 0)
}

type distributionPointName struct {
	uris     []string
	raw      [][]byte
	relative bool
}

// readDistributionPointName reads a fullName, and notes a nameRelativeToCRLIssuer.
func readDistributionPointName(s cryptobyte.String) (n distributionPointName, ok bool) {
	var names cryptobyte.String
	if relative := asn1.Tag(1).Constructed().ContextSpecific(); s.PeekASN1Tag(relative) {
		return distributionPointName{relative: true}, s.ReadASN1(&names, relative) && s.Empty()
	}
	if !s.ReadASN1(&names, asn1.Tag(0).Constructed().ContextSpecific()) || !s.Empty() || names.Empty() {
		return n, false
	}
	for !names.Empty() {
		var element, contents cryptobyte.String
		var tag asn1.Tag
		if !names.ReadAnyASN1Element(&element, &tag) || tag&0xc0 != asn1.Tag(0).ContextSpecific() {
			return n, false
		}
		n.raw = append(n.raw, bytes.Clone(element))
		if tag != asn1.Tag(6).ContextSpecific() { // uniformResourceIdentifier
			continue
		}
		if !element.ReadASN1(&contents, tag) || bytes.ContainsFunc(contents, notPrintable) {
			return n, false
		}
		n.uris = append(n.uris, string(contents))
	}
	return n, true
}

// notPrintable keeps out of addresses what is not in any URI.
func notPrintable(r rune) bool { return r <= ' ' || r >= 0x7f }
