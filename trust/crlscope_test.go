package trust

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spinecert/spinecert/internal/testpki"
	"golang.org/x/crypto/cryptobyte/asn1"
)

func TestCertificateDistributionPoints(t *testing.T) {
	const address = "http://crl.nhs.uk/int/1c/crlc7.crl"
	context := func(n asn1.Tag, parts ...[]byte) []byte { return tlv(n.ContextSpecific(), parts...) }
	inner := func(n asn1.Tag, parts ...[]byte) []byte { return tlv(n.Constructed().ContextSpecific(), parts...) }
	uri := context(6, []byte(address))
	directory := inner(4, nameDER(asn1.UTF8String, "NHS", asn1.UTF8String, "CRL 7"))
	for name, c := range map[string]struct {
		points [][]byte
		want   []DistributionPoint
	}{
		"address":       {[][]byte{tlv(asn1.SEQUENCE, inner(0, inner(0, uri)))}, []DistributionPoint{{URIs: []string{address}, RawNames: [][]byte{uri}}}},
		"two names":     {[][]byte{tlv(asn1.SEQUENCE, inner(0, inner(0, directory, uri)))}, []DistributionPoint{{URIs: []string{address}, RawNames: [][]byte{directory, uri}}}},
		"relative":      {[][]byte{tlv(asn1.SEQUENCE, inner(0, inner(1)))}, []DistributionPoint{{Relative: true}}},
		"reasons":       {[][]byte{tlv(asn1.SEQUENCE, inner(0, inner(0, uri)), context(1, []byte{6, 0x40}))}, []DistributionPoint{{URIs: []string{address}, RawNames: [][]byte{uri}, HasReasons: true}}},
		"issuer":        {[][]byte{tlv(asn1.SEQUENCE, inner(2, directory))}, []DistributionPoint{{HasIssuer: true}}},
		"two points":    {[][]byte{tlv(asn1.SEQUENCE, inner(0, inner(0, uri))), tlv(asn1.SEQUENCE)}, []DistributionPoint{{URIs: []string{address}, RawNames: [][]byte{uri}}, {}}},
		"no names":      {[][]byte{tlv(asn1.SEQUENCE, inner(0, inner(0)))}, nil},
		"control":       {[][]byte{tlv(asn1.SEQUENCE, inner(0, inner(0, context(6, []byte("http://a\n")))))}, nil},
		"more":          {[][]byte{tlv(asn1.SEQUENCE, inner(3))}, nil},
		"no sequence":   {[][]byte{{5, 0}}, nil},
		"trailing data": {[][]byte{tlv(asn1.SEQUENCE, inner(0, inner(0, uri), []byte{5, 0}))}, nil},
	} {
		cert := &x509.Certificate{Extensions: []pkix.Extension{{Id: []int{2, 5, 29, 31}, Value: tlv(asn1.SEQUENCE, c.points...)}}}
		got, err := CertificateDistributionPoints(cert)
		if c.want == nil {
			if ReasonOf(err) != Malformed {
				t.Errorf("%s: %v, %v; want malformed", name, got, err)
			}
			continue
		}
		if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
	}
	got, err := CertificateDistributionPoints(testpki.NewRoot(t).Cert)
	if got != nil || err != nil {
		t.Errorf("no extension: %v, %v", got, err)
	}
}

// TestScopeMatchesCertificate: the name in a CRL and in a certificate of that
// CRL are the same octets, made by two programs.
func TestScopeMatchesCertificate(t *testing.T) {
	const address = "http://crl.nhs.uk/int/1c/crlc7.crl"
	root := testpki.NewRoot(t)
	crl, err := ReadCRL(root.CRL(t, testpki.IDP("http://crl.nhs.uk/other.crl", address), testpki.IDPFlags(true, false, false, false)), "x", authorityCerts(root))
	if err != nil {
		t.Fatal(err)
	}
	points, err := CertificateDistributionPoints(root.Issue(t, testpki.CDP(address)).Cert)
	if err != nil || len(points) != 1 {
		t.Fatal(points, err)
	}
	s := crl.Scope()
	if !s.OnlyUser || s.OnlyCA || len(s.RawNames) != 2 || string(s.RawNames[1]) != string(points[0].RawNames[0]) {
		t.Errorf("scope %+v, point %+v", s, points[0])
	}
}
