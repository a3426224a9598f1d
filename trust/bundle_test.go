package trust

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
)

// pkcs7 is a SignedData that holds certificates and nothing else (RFC 5652, Section 5.1).
func pkcs7(certs ...*x509.Certificate) []byte {
	var b cryptobyte.Builder
	context := cbasn1.Tag(0).ContextSpecific().Constructed()
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2})
		b.AddASN1(context, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1Int64(1)
				b.AddASN1(cbasn1.SET, func(*cryptobyte.Builder) {})
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1})
				})
				b.AddASN1(context, func(b *cryptobyte.Builder) {
					for _, c := range certs {
						b.AddBytes(c.Raw)
					}
				})
				b.AddASN1(cbasn1.SET, func(*cryptobyte.Builder) {})
			})
		})
	})
	return b.BytesOrPanic()
}

// version1 takes version and extensions out of a certificate. Its signature fits no longer.
func version1(tb testing.TB, c *x509.Certificate) []byte {
	tb.Helper()
	in := cryptobyte.String(c.Raw)
	var cert, tbs, skip, kept cryptobyte.String
	ok := in.ReadASN1(&cert, cbasn1.SEQUENCE) && cert.ReadASN1(&tbs, cbasn1.SEQUENCE) &&
		tbs.ReadASN1(&skip, cbasn1.Tag(0).ContextSpecific().Constructed())
	var body []byte
	for range 6 { // serial, signature, issuer, validity, subject, key
		var tag cbasn1.Tag
		ok = ok && tbs.ReadAnyASN1Element(&kept, &tag)
		body = append(body, kept...)
	}
	if !ok {
		tb.Fatal("the certificate does not read")
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(body) })
		b.AddBytes(cert)
	})
	return b.BytesOrPanic()
}

func TestParseBundleForms(t *testing.T) {
	root := testpki.NewRoot(t)
	sub := root.SubCA(t)
	other := testpki.NewRoot(t, testpki.Name("Other Root"))
	pem := testpki.EncodeCerts
	tests := map[string][]Source{
		"one file":             {{"a", pem(root.Cert, sub.Cert, other.Cert)}},
		"subCA first":          {{"a", pem(sub.Cert, other.Cert, root.Cert)}},
		"a file each":          {{"a", pem(sub.Cert)}, {"b", pem(other.Cert)}, {"c", pem(root.Cert)}},
		"DER":                  {{"a", sub.Cert.Raw}, {"b", root.Cert.Raw}, {"c", other.Cert.Raw}},
		"PKCS#7":               {{"a", pkcs7(sub.Cert, root.Cert, other.Cert)}},
		"mixed":                {{"a", pkcs7(sub.Cert)}, {"b", root.Cert.Raw}, {"c", pem(other.Cert)}},
		"duplicates in a file": {{"a", pem(root.Cert, sub.Cert, root.Cert, sub.Cert, other.Cert)}},
		"duplicates in files":  {{"a", pem(root.Cert, sub.Cert)}, {"b", sub.Cert.Raw}, {"c", pkcs7(other.Cert, root.Cert)}},
		"text around":          {{"a", slices.Concat([]byte("mail:\r\n"), pem(sub.Cert, root.Cert), []byte("\nregards\n"), pem(other.Cert))}},
	}
	want := bundleOf(t, root.Cert, sub.Cert, other.Cert).Digest()
	for name, sources := range tests {
		t.Run(name, func(t *testing.T) {
			b, err := ParseBundle(sources...)
			if err != nil {
				t.Fatal(err)
			}
			if len(b.Roots()) != 2 || len(b.SubCAs()) != 1 || len(b.Certificates()) != 3 {
				t.Errorf("%d roots, %d subCAs", len(b.Roots()), len(b.SubCAs()))
			}
			if b.Digest() != want {
				t.Error("the digest depends on form or order")
			}
			if got := b.File(b.SubCAs()[0]); got != sources[0].Name {
				t.Errorf("the subCA is from file %q, want the first that holds it", got)
			}
		})
	}
	if bundleOf(t, root.Cert, sub.Cert).Digest() == want {
		t.Error("another set has the same digest")
	}
	low := sub.SubCA(t, testpki.Name("Low"))
	if bundleOf(t, certs(root, sub, low)...).Digest() != bundleOf(t, certs(low, sub, root)...).Digest() {
		t.Error("the digest depends on the order of the subCAs")
	}
}

func TestParseBundleRefusals(t *testing.T) {
	root := testpki.NewRoot(t)
	leaf := root.Issue(t, testpki.DNS("leaf.nhs.uk"))
	pem := root.CertPEM()
	store, err := pkcs12.Passwordless.EncodeTrustStore([]*x509.Certificate{root.Cert}, "")
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		data       []byte
		says       string
		incoherent bool
	}{
		"leaf":              {leaf.CertPEM(), `"leaf.nhs.uk" is not a CA`, false},
		"leaf beside roots": {append(slices.Clone(pem), leaf.CertPEM()...), `"leaf.nhs.uk" is not a CA`, false},
		"cA bit is off":     {root.SubCA(t, testpki.Name("No CA"), testpki.NotCA()).CertPEM(), `"No CA" is not a CA`, false},
		"no constraints":    {root.SubCA(t, testpki.Name("Old"), testpki.NoBasicConstraints()).CertPEM(), `"Old" is not a CA`, false},
		"version 1":         {version1(t, root.Cert), "version 1", false},
		"may not sign":      {root.SubCA(t, testpki.KeyUsage(x509.KeyUsageCRLSign)).CertPEM(), "may not sign", false},
		"private key":       {append(slices.Clone(pem), leaf.KeyPEM()...), "private key", false},
		"PKCS#12":           {store, "it is PKCS#12", false},
		"CRL only":          {testpki.EncodeCRL(root.CRL(t)), "no certificate", false},
		"no PEM":            {[]byte("hello\n"), "neither", true},
		"empty":             {nil, "empty", true},
		"truncated PEM":     {pem[:len(pem)/2], "END", true},
		"truncated second":  {append(slices.Clone(pem), pem[:len(pem)-30]...), "END", true},
		"truncated DER":     {root.Cert.Raw[:100], "truncated", true},
		"garbage in PEM":    {[]byte("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"), "", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			b, err := ParseBundle(Source{"good.pem", pem}, Source{"bad.pem", tt.data})
			if err == nil || b != nil {
				t.Fatalf("accepted: %v", b)
			}
			var e *BundleError
			if !errors.As(err, &e) || e.File != "bad.pem" || !strings.Contains(err.Error(), `read trust file "bad.pem": `) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("error %q does not name the file or say %q", err, tt.says)
			}
			if errors.Is(err, pki.ErrIncoherent) != tt.incoherent {
				t.Errorf("incoherent is %v: %v", !tt.incoherent, err)
			}
		})
	}
}

// withKey puts another key into a self-issued certificate, and a signature of its
// length that nobody made.
func withKey(tb testing.TB, c *x509.Certificate, key *rsa.PublicKey) []byte {
	tb.Helper()
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	in := cryptobyte.String(c.Raw)
	var cert, tbs, algorithm, element cryptobyte.String
	ok := in.ReadASN1(&cert, cbasn1.SEQUENCE) && cert.ReadASN1(&tbs, cbasn1.SEQUENCE) && cert.ReadASN1Element(&algorithm, cbasn1.SEQUENCE)
	var body []byte
	for i := 0; ok && !tbs.Empty(); i++ {
		var tag cbasn1.Tag
		if ok = tbs.ReadAnyASN1Element(&element, &tag); i == 6 { // version, serial, signature, issuer, validity, subject
			element = spki
		}
		body = append(body, element...)
	}
	if !ok {
		tb.Fatal("the certificate does not read")
	}
	signature := bytes.Repeat([]byte{0x5a}, (key.N.BitLen()+7)/8)
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(body) })
		b.AddBytes(algorithm)
		b.AddASN1BitString(signature)
	})
	return b.BytesOrPanic()
}

// A key of any length in a file that somebody sends costs nothing: the signature of
// its certificate is not looked at.
func TestParseBundleLargeKeys(t *testing.T) {
	root := testpki.NewRoot(t)
	rsaRoot := testpki.NewRoot(t, testpki.Name("Large"), testpki.KeyType("rsa-2048"))
	for bits, refused := range map[int]bool{2048: false, maxRSABits: false, maxRSABits + 1: true, 1 << 20: true} {
		n := new(big.Int).SetBit(big.NewInt(1), bits-1, 1)
		der := withKey(t, rsaRoot.Cert, &rsa.PublicKey{N: n, E: 1<<31 - 1})
		done := make(chan error, 1)
		go func() {
			b, err := ParseBundle(Source{"good.pem", root.CertPEM()}, Source{"large.der", der})
			if err == nil && len(b.SubCAs()) != 1 {
				err = fmt.Errorf("it is no subCA")
			}
			done <- err
		}()
		select {
		case err := <-done:
			var e *BundleError
			if refused != (err != nil) || refused && (!errors.As(err, &e) || e.Reason != WeakKey || e.File != "large.der" || pki.Hint(err) == "" || !strings.Contains(err.Error(), "larger than RSA 8192")) {
				t.Errorf("%d bits: %v", bits, err)
			}
		case <-time.After(10 * time.Second): // it takes a minute
			t.Fatalf("%d bits: the signature is looked at", bits)
		}
	}
}

func TestParseBundleTellsEveryError(t *testing.T) {
	root := testpki.NewRoot(t)
	one, two := root.Issue(t, testpki.DNS("one.nhs.uk")), root.Issue(t, testpki.DNS("two.nhs.uk"))
	_, err := ParseBundle(Source{"a.pem", append(one.CertPEM(), two.CertPEM()...)}, Source{"b.pem", nil}, Source{"c.pem", one.KeyPEM()})
	for _, part := range []string{"one.nhs.uk", "two.nhs.uk", "b.pem", "c.pem"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error does not mention %q: %v", part, err)
		}
	}
}

func TestParseBundleWithoutRoot(t *testing.T) {
	root := testpki.NewRoot(t)
	tests := map[string][]Source{
		"no file":      nil,
		"subCA only":   {{"a", root.SubCA(t).CertPEM()}},
		"forged root":  {{"a", testpki.NewRoot(t, testpki.BadSignature()).CertPEM()}},
		"same subject": {{"a", root.SubCA(t, testpki.RawSubject(root.Cert.RawSubject)).CertPEM()}}, // self-issued, signed by another key
	}
	for name, sources := range tests {
		if b, err := ParseBundle(sources...); err == nil || !strings.Contains(err.Error(), "no root") || pki.Hint(err) == "" {
			t.Errorf("%s: %v, %v", name, b, err)
		}
	}
}

func TestBundleSHA1Root(t *testing.T) {
	root := testpki.NewRoot(t, testpki.KeyType("rsa-2048"), testpki.SHA1())
	if b := bundleOf(t, root.Cert); len(b.Roots()) != 1 {
		t.Error("a root signed with SHA-1, as those of G1 are, does not count as a root")
	}
}

func TestBundleCrossSigned(t *testing.T) {
	one, two := testpki.NewRoot(t, testpki.Name("One")), testpki.NewRoot(t, testpki.Name("Two"))
	sub := one.SubCA(t)
	cross := two.CrossSign(t, sub)
	if b := bundleOf(t, certs(one, two, sub, cross)...); len(b.SubCAs()) != 2 {
		t.Errorf("%d subCAs: same name and key, but not a duplicate", len(b.SubCAs()))
	}
}

func TestBundleDates(t *testing.T) {
	now := second()
	end := now.Add(-time.Minute)
	old := testpki.NewRoot(t, testpki.Name("Old"), testpki.Validity(now.Add(-time.Hour), end))
	oldSub := old.SubCA(t, testpki.Validity(now.Add(-time.Hour), end))
	young := testpki.NewRoot(t, testpki.Name("Young"), testpki.Validity(now.Add(time.Hour), now.Add(2*time.Hour)))
	b := bundleOf(t, certs(old, oldSub, young)...)
	if len(b.Certificates()) != 3 {
		t.Error("an expired CA is not kept")
	}
	if got := b.Expired(now); len(got) != 2 {
		t.Errorf("%d expired, want root and subCA", len(got))
	}
	if got := b.Expired(end); len(got) != 0 {
		t.Errorf("%d expired at notAfter itself", len(got))
	}
	if !b.Living(now) {
		t.Error("a root that will be valid does not count as living")
	}
	if dead := bundleOf(t, certs(old, oldSub, young.SubCA(t))...); dead.Living(now) || !dead.Living(end) {
		t.Error("a bundle whose only root has expired counts as living, or one before its end does not")
	}
}

func TestBundleLost(t *testing.T) {
	now := second()
	root := testpki.NewRoot(t)
	sub := root.SubCA(t)
	cross := testpki.NewRoot(t, testpki.Name("Other")).CrossSign(t, sub)
	gone := root.SubCA(t, testpki.Validity(now.Add(-2*time.Hour), now.Add(-time.Hour)))
	full, less := bundleOf(t, certs(root, sub, cross, gone)...), bundleOf(t, certs(root, sub)...)
	if lost := less.Lost(full, now); len(lost) != 1 || !lost[0].Equal(cross.Cert) {
		t.Errorf("lost %d, want the cross-certificate and not the expired CA", len(lost))
	}
	if lost := full.Lost(less, now); len(lost) != 0 {
		t.Errorf("gained, but lost %d", len(lost))
	}
	if lost := full.Lost(nil, now); lost != nil {
		t.Errorf("lost %d of nothing", len(lost))
	}
}
