package trust

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// nameDER makes a name of one O and one CN, each with its string type.
func nameDER(oTag asn1.Tag, o string, cnTag asn1.Tag, cn string) []byte {
	attribute := func(id byte, tag asn1.Tag, value string) []byte {
		return tlv(asn1.SET, tlv(asn1.SEQUENCE, tlv(asn1.OBJECT_IDENTIFIER, []byte{0x55, 4, id}), tlv(tag, []byte(value))))
	}
	return tlv(asn1.SEQUENCE, attribute(10, oTag, o), attribute(3, cnTag, cn))
}

func TestCRLSigner(t *testing.T) {
	name := nameDER(asn1.UTF8String, "NHS", asn1.PrintableString, "NHS INT Authentication G2")
	root := testpki.NewRoot(t, testpki.RawSubject(name))
	rekeyed := testpki.NewRoot(t, testpki.RawSubject(name))
	variant := testpki.CRLIssuer(nameDER(asn1.PrintableString, "nhs", asn1.UTF8String, "NHS  INT Authentication g2 "))
	other := testpki.CRLIssuer(nameDER(asn1.UTF8String, "NHS", asn1.PrintableString, "NHS DEP Authentication G2"))
	unmarked := testpki.NewRoot(t, testpki.KeyUsage(x509.KeyUsageCertSign))
	leaf := root.Issue(t, testpki.DNS("pcs.thirdparty.nhs.uk"))
	asLeaf := []testpki.CRLOption{testpki.CRLKey(leaf.Key), testpki.CRLIssuer(leaf.Cert.RawSubject), testpki.NoAuthorityKeyID()}

	for name, c := range map[string]struct {
		der        []byte
		candidates []*x509.Certificate
		want       *x509.Certificate
		reason     Reason
		detail     string
	}{
		"own":                         {der: root.CRL(t), candidates: authorityCerts(root), want: root.Cert},
		"of two with one name":        {der: rekeyed.CRL(t), candidates: authorityCerts(root, rekeyed), want: rekeyed.Cert},
		"two, no key identifier":      {der: rekeyed.CRL(t, testpki.NoAuthorityKeyID()), candidates: authorityCerts(root, rekeyed), want: rekeyed.Cert},
		"name in another encoding":    {der: root.CRL(t, variant), candidates: authorityCerts(root), want: root.Cert},
		"that, without identifier":    {der: root.CRL(t, variant, testpki.NoAuthorityKeyID()), candidates: authorityCerts(root), reason: CRLInvalid, detail: "no CA of the bundle"},
		"other name, same key":        {der: root.CRL(t, other), candidates: authorityCerts(root), reason: CRLInvalid, detail: "no CA of the bundle"},
		"no candidates":               {der: root.CRL(t), reason: CRLInvalid, detail: "NHS INT Authentication G2"},
		"another key":                 {der: rekeyed.CRL(t), candidates: authorityCerts(root), reason: CRLInvalid, detail: "which is not the key of"},
		"forged":                      {der: root.CRL(t, testpki.CRLKey(rekeyed.Key)), candidates: authorityCerts(root), reason: CRLInvalid, detail: "not made with the key"},
		"spoilt":                      {der: root.CRL(t, testpki.BadCRLSignature()), candidates: authorityCerts(root, rekeyed), reason: CRLInvalid},
		"may not sign CRLs":           {der: unmarked.CRL(t), candidates: authorityCerts(unmarked), reason: CRLInvalid, detail: "may not sign"},
		"a leaf's":                    {der: root.CRL(t, asLeaf...), candidates: []*x509.Certificate{leaf.Cert}, reason: CRLInvalid, detail: "may not sign"},
		"SHA-1":                       {der: root.CRL(t, testpki.CRLSHA1()), candidates: authorityCerts(root), reason: WeakSignature, detail: "SHA1"},
		"SHA-1, signed by a stranger": {der: root.CRL(t, testpki.CRLSHA1()), reason: WeakSignature, detail: "SHA1"},
	} {
		crl, err := ReadCRL(c.der, "x.crl", c.candidates)
		if c.want == nil {
			checkCRLError(t, name, err, c.reason, c.detail)
		} else if err != nil || crl.IssuerCertificate() != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func authorityCerts(cas ...*testpki.Authority) []*x509.Certificate {
	var out []*x509.Certificate
	for _, ca := range cas {
		out = append(out, ca.Cert)
	}
	return out
}

// TestCRLAlgorithms reads lists made by crypto/x509 with every kind of key.
func TestCRLAlgorithms(t *testing.T) {
	for kind, algorithms := range map[string][]x509.SignatureAlgorithm{
		"rsa-2048": {x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA,
			x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS},
		"ecdsa-p256": {x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512},
		"ecdsa-p384": {x509.ECDSAWithSHA384},
		"ed25519":    {x509.PureEd25519},
	} {
		root := testpki.NewRoot(t, testpki.KeyType(kind))
		for _, a := range algorithms {
			template := &x509.RevocationList{
				SignatureAlgorithm: a, Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour),
				RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(5), RevocationTime: time.Now(), ReasonCode: 4}},
				ExtraExtensions:           []pkix.Extension{{Id: []int{1, 2, 3, 4}, Value: []byte{5, 0}}},
			}
			der, err := x509.CreateRevocationList(rand.Reader, template, root.Cert, root.Key)
			if err != nil {
				t.Fatal(err)
			}
			crl, err := ReadCRL(der, a.String(), authorityCerts(root))
			if err != nil {
				t.Error(err)
				continue
			}
			checkAgainstLibrary(t, a.String(), der, crl)
		}
	}
}

func TestEqualNames(t *testing.T) {
	utf8, printable := asn1.UTF8String, asn1.PrintableString
	a := nameDER(utf8, "NHS", utf8, "Root Authority")
	for name, c := range map[string]struct {
		b    []byte
		want bool
	}{
		"same":       {a, true},
		"case":       {nameDER(utf8, "nhs", utf8, "root authority"), true},
		"type":       {nameDER(printable, "NHS", printable, "Root Authority"), true},
		"space":      {nameDER(utf8, " NHS ", utf8, "Root   Authority"), true},
		"no space":   {nameDER(utf8, "NHS", utf8, "RootAuthority"), false},
		"longer":     {nameDER(utf8, "NHS", utf8, "Root Authority G2"), false},
		"bits":       {nameDER(utf8, "NHS", asn1.BIT_STRING, "Root Authority"), false},
		"fewer RDNs": {tlv(asn1.SEQUENCE, a[2:2+a[3]+2]), false},
		"empty":      {tlv(asn1.SEQUENCE), false},
		"not a name": {[]byte{5, 0}, false},
	} {
		if equalNames(a, c.b) != c.want || equalNames(c.b, a) != c.want {
			t.Errorf("%s: want %v", name, c.want)
		}
	}
}
