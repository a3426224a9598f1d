package trust

import (
	"bytes"
	"crypto/x509"
	stdasn1 "encoding/asn1"
	"slices"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// findCRLSigner returns the candidate that signed the CRL. Its own validity is
// not looked at here, as that depends on the time.
func findCRLSigner(f *crlFields, header *x509.RevocationList, candidates []*x509.Certificate) (*x509.Certificate, error) {
	if err := checkCRLAlgorithm(header.SignatureAlgorithm); err != nil {
		return nil, err
	}
	near := crlFault(CRLInvalid, "it is signed by no CA of the bundle: its issuer is %q", clip(dn(header.Issuer, f.issuer)))
	near.Advice = "add its CA to the trust files, or take the CRL that the certificates of this environment name"
	for _, ca := range candidates {
		if !sameCRLIssuer(f.issuer, f.keyID, ca) {
			continue
		}
		switch {
		case len(f.keyID) > 0 && len(ca.SubjectKeyId) > 0 && !bytes.Equal(f.keyID, ca.SubjectKeyId):
			near = crlFault(CRLInvalid, "it is signed by no CA of the bundle: it names key %x of %q, which is not the key of %s",
				clip(string(f.keyID)), clip(dn(header.Issuer, f.issuer)), describe(ca))
		case !maySignCRLs(ca): // RFC 5280, Section 6.3.3 (f)
			near = crlFault(CRLInvalid, "its issuer %s may not sign CRLs", describe(ca))
		case ca.CheckSignature(header.SignatureAlgorithm, f.tbs, f.signature) != nil:
			near = crlFault(CRLInvalid, "its signature was not made with the key of %s", describe(ca))
		default:
			return ca, nil
		}
	}
	return nil, near
}

// checkCRLAlgorithm names what is allowed: crypto/x509 would verify SHA-1 here.
func checkCRLAlgorithm(a x509.SignatureAlgorithm) error {
	switch a {
	case x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA,
		x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS,
		x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512, x509.PureEd25519:
		return nil
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1:
		return crlFault(WeakSignature, "it is signed with %v", a)
	}
	return crlFault(CRLInvalid, "its signature algorithm is not supported")
}

// sameCRLIssuer reports whether a CRL with this issuer and key identifier names
// ca. The key identifier alone is not enough: the holder of one key may act
// under several names, and a list of one says nothing of the certificates of
// the other (PKITS 4.4.5).
func sameCRLIssuer(issuer, keyID []byte, ca *x509.Certificate) bool {
	if bytes.Equal(issuer, ca.RawSubject) {
		return true
	}
	return len(keyID) > 0 && bytes.Equal(keyID, ca.SubjectKeyId) && equalNames(issuer, ca.RawSubject)
}

// maySignCRLs applies keyUsage; without one, the certificate must be a CA, or
// so old that it cannot say (version 1).
func maySignCRLs(ca *x509.Certificate) bool {
	usage := stdasn1.ObjectIdentifier{2, 5, 29, 15}
	for _, ext := range ca.Extensions {
		if ext.Id.Equal(usage) {
			return ca.KeyUsage&x509.KeyUsageCRLSign != 0
		}
	}
	return ca.BasicConstraintsValid && ca.IsCA || ca.Version < 3
}

// equalNames compares two DER encoded names as RFC 5280, Section 7.1 does:
// without regard to string type, case, and surplus space.
func equalNames(a, b []byte) bool {
	x, y := cryptobyte.String(a), cryptobyte.String(b)
	if !x.ReadASN1(&x, asn1.SEQUENCE) || !y.ReadASN1(&y, asn1.SEQUENCE) {
		return false
	}
	for !x.Empty() && !y.Empty() {
		var p, q cryptobyte.String
		if !x.ReadASN1(&p, asn1.SET) || !y.ReadASN1(&q, asn1.SET) || !equalRDNs(p, q) {
			return false
		}
	}
	return x.Empty() && y.Empty()
}

// nameAttribute is one AttributeTypeAndValue. Text that is not of the three
// usual string types is compared as it is encoded.
type nameAttribute struct {
	oid   string
	text  bool
	value string
}

func equalRDNs(a, b cryptobyte.String) bool {
	x, ok := readRDN(a)
	y, alsoOK := readRDN(b)
	if !ok || !alsoOK || len(x) != len(y) {
		return false
	}
	absentFrom := func(in []nameAttribute) func(nameAttribute) bool {
		return func(a nameAttribute) bool { return !slices.ContainsFunc(in, a.equal) }
	}
	return !slices.ContainsFunc(x, absentFrom(y)) && !slices.ContainsFunc(y, absentFrom(x))
}

func (a nameAttribute) equal(b nameAttribute) bool {
	if a.oid != b.oid || a.text != b.text {
		return false
	}
	return a.value == b.value || a.text && strings.EqualFold(a.value, b.value)
}

func readRDN(s cryptobyte.String) ([]nameAttribute, bool) {
	var out []nameAttribute
	for !s.Empty() {
		var pair, oid, element, contents cryptobyte.String
		var tag asn1.Tag
		if !s.ReadASN1(&pair, asn1.SEQUENCE) || !pair.ReadASN1(&oid, asn1.OBJECT_IDENTIFIER) ||
			!pair.ReadAnyASN1Element(&element, &tag) || !pair.Empty() {
			return nil, false
		}
		a := nameAttribute{oid: string(oid), value: string(element)}
		if tag == asn1.UTF8String || tag == asn1.PrintableString || tag == asn1.IA5String {
			element.ReadASN1(&contents, tag)
			a.text, a.value = true, strings.Join(strings.Fields(string(contents)), " ")
		}
		out = append(out, a)
	}
	return out, true
}
