package lint_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/spinecert/spinecert/internal/testpki"
)

const host = "pcs.thirdparty.nhs.uk"

func date(year int) time.Time { return time.Date(year, 3, 1, 12, 0, 0, 0, time.UTC) }

// kit makes certificates and requests that break no rule, but for what a test
// changes in them.
type kit struct {
	t         testing.TB
	root, sub *testpki.Authority
}

func newKit(t testing.TB) *kit {
	root := testpki.NewRoot(t, testpki.KeyType("rsa-2048"), testpki.Name("Test Root Authority G2"), testpki.Validity(date(2022), date(2042)))
	k := &kit{t: t, root: root}
	k.sub = root.SubCA(t, k.authority()...)
	return k
}

func (k *kit) authority(opts ...testpki.Option) []testpki.Option {
	return append([]testpki.Option{testpki.KeyType("rsa-2048"), testpki.Validity(date(2022), date(2032)), testpki.PathLen(0),
		testpki.CDP("http://crl.nhs.uk/test/root.crl")}, opts...)
}

// leaf makes one as G2 endpoints are: with a subject alternative name.
func (k *kit) leaf(opts ...testpki.Option) *x509.Certificate {
	base := []testpki.Option{testpki.KeyType("rsa-2048"), testpki.Name(host), testpki.DNS(host), testpki.Validity(date(2025), date(2028)),
		testpki.CDP("http://crl.nhs.uk/test/1.crl"), testpki.Extension(policy(1, 2, 826, 0, 1275, 101, 0, 3, 1, 1))}
	return k.sub.Issue(k.t, append(base, opts...)...).Cert
}

// g1 makes one as G1 endpoints are: its name is in the CN alone.
func (k *kit) g1(opts ...testpki.Option) *x509.Certificate {
	name := pkix.Name{Organization: []string{"nhs"}, OrganizationalUnit: []string{"Devices"}, CommonName: host}
	return k.leaf(append([]testpki.Option{testpki.Subject(name), testpki.NoSAN()}, opts...)...)
}

func (k *kit) ca(opts ...testpki.Option) *x509.Certificate {
	return k.root.SubCA(k.t, k.authority(opts...)...).Cert
}

// request makes one as csr new does.
func (k *kit) request(change func(*x509.CertificateRequest)) *x509.CertificateRequest {
	return k.requestWith(testpki.NewKey(k.t, "rsa-2048"), change)
}

func (k *kit) requestWith(key crypto.Signer, change func(*x509.CertificateRequest)) *x509.CertificateRequest {
	k.t.Helper()
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: host}}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		k.t.Fatal(err)
	}
	return k.parseRequest(der)
}

func (k *kit) parseRequest(der []byte) *x509.CertificateRequest {
	k.t.Helper()
	r, err := x509.ParseCertificateRequest(der)
	if err != nil {
		k.t.Fatal(err)
	}
	return r
}

func policy(oid ...int) pkix.Extension {
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 32}, Value: must(asn1.Marshal([][]asn1.ObjectIdentifier{{oid}}))}
}

func must(der []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return der
}

// san is a subject alternative name with one name of any kind.
func san(tag int, content string) pkix.Extension {
	name := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, Bytes: []byte(content)}
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: must(asn1.Marshal([]asn1.RawValue{name}))}
}

// The fields of a certificate without its version (RFC 5280, Section 4.1).
const (
	fieldSerial = iota
	fieldSignature
	fieldIssuer
	fieldValidity
	fieldSubject
	fieldKey
	fieldExtensions
)

// fields changes the fields of a certificate, which crypto/x509 would not write
// so. Its signature is then a bad one, which is not the business of lint.
func (k *kit) fields(c *x509.Certificate, version bool, change func(fields [][]byte) [][]byte) *x509.Certificate {
	k.t.Helper()
	outer := elements(k.t, c.Raw)
	all := elements(k.t, outer[0])
	fields := change(all[1:])
	if version {
		fields = append([][]byte{all[0]}, fields...)
	}
	c, err := x509.ParseCertificate(sequence(sequence(fields...), outer[1], outer[2]))
	if err != nil {
		k.t.Fatal(err)
	}
	return c
}

func (k *kit) field(c *x509.Certificate, field int, der []byte) *x509.Certificate {
	return k.fields(c, true, func(fields [][]byte) [][]byte {
		fields[field] = der
		return fields
	})
}

// extensions changes the extensions: change returns false for one to drop.
func (k *kit) extensions(c *x509.Certificate, oid string, change func(*pkix.Extension) bool) *x509.Certificate {
	k.t.Helper()
	var kept []pkix.Extension
	found := false
	for _, e := range c.Extensions {
		if e.Id.String() == oid {
			found = true
			if !change(&e) {
				continue
			}
		}
		kept = append(kept, e)
	}
	if !found {
		k.t.Fatalf("there is no extension %s to change", oid)
	}
	list := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 3, IsCompound: true, Bytes: must(asn1.Marshal(kept))}
	return k.field(c, fieldExtensions, must(asn1.Marshal(list)))
}

func drop(*pkix.Extension) bool { return false }

func notCritical(e *pkix.Extension) bool {
	e.Critical = false
	return true
}

// oldRoot is a root of version 1, which has no extensions.
func (k *kit) oldRoot() *x509.Certificate {
	k.t.Helper()
	outer := elements(k.t, k.root.Cert.Raw)
	fields := elements(k.t, outer[0])[1:]
	c, err := x509.ParseCertificate(k.signed(sequence(fields[:fieldExtensions]...), outer[1], k.root.Key))
	if err != nil {
		k.t.Fatal(err)
	}
	return c
}

// signed signs with SHA-256 and RSA.
func (k *kit) signed(tbs, algorithm []byte, key crypto.Signer) []byte {
	digest := sha256.Sum256(tbs)
	signature := must(key.Sign(rand.Reader, digest[:], crypto.SHA256))
	return sequence(tbs, algorithm, must(asn1.Marshal(asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)})))
}

// attribute signs a request again with one more attribute.
func (k *kit) attribute(oid asn1.ObjectIdentifier, value string) *x509.CertificateRequest {
	k.t.Helper()
	key := testpki.NewKey(k.t, "rsa-2048")
	outer := elements(k.t, k.requestWith(key, nil).Raw)
	info := elements(k.t, outer[0])
	set := asn1.RawValue{Tag: asn1.TagSet, IsCompound: true, Bytes: must(asn1.MarshalWithParams(value, "utf8"))}
	attribute := sequence(must(asn1.Marshal(oid)), must(asn1.Marshal(set)))
	info[3] = must(asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: attribute}))
	return k.parseRequest(k.signed(sequence(info...), outer[1], key))
}

// elements returns what a SEQUENCE holds, each with its tag and length.
func elements(t testing.TB, der []byte) [][]byte {
	t.Helper()
	in := cryptobyte.String(der)
	var content cryptobyte.String
	if !in.ReadASN1(&content, cbasn1.SEQUENCE) {
		t.Fatal("no SEQUENCE")
	}
	var out [][]byte
	for !content.Empty() {
		var element cryptobyte.String
		var tag cbasn1.Tag
		if !content.ReadAnyASN1Element(&element, &tag) {
			t.Fatal("broken SEQUENCE")
		}
		out = append(out, element)
	}
	return out
}

func sequence(parts ...[]byte) []byte {
	var content []byte
	for _, p := range parts {
		content = append(content, p...)
	}
	return must(asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: content}))
}

// pretender has another public key than the one it signs with.
type pretender struct {
	crypto.Signer
	public crypto.PublicKey
}

func (p pretender) Public() crypto.PublicKey { return p.public }

// pretend is a key whose public half is changed.
func (k *kit) pretend(change func(*rsa.PublicKey)) crypto.Signer {
	key := testpki.NewKey(k.t, "rsa-2048")
	public := *key.Public().(*rsa.PublicKey)
	change(&public)
	return pretender{key, &public}
}

// requestKey puts another public key into a request, whose signature then fails.
func (k *kit) requestKey(public crypto.PublicKey) *x509.CertificateRequest {
	k.t.Helper()
	outer := elements(k.t, k.request(nil).Raw)
	info := elements(k.t, outer[0])
	info[2] = must(x509.MarshalPKIXPublicKey(public))
	return k.parseRequest(sequence(sequence(info...), outer[1], outer[2]))
}

// algorithm replaces sha256WithRSAEncryption by another algorithm of PKCS#1, by
// its last number.
func (k *kit) algorithm(raw []byte, last byte) []byte {
	k.t.Helper()
	sha256WithRSA := []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b}
	other := append(bytes.Clone(sha256WithRSA[:8]), last)
	if !bytes.Contains(raw, sha256WithRSA) {
		k.t.Fatal("it is not signed with SHA-256 and RSA")
	}
	return bytes.ReplaceAll(raw, sha256WithRSA, other)
}

func (k *kit) certAlgorithm(c *x509.Certificate, last byte) *x509.Certificate {
	k.t.Helper()
	c, err := x509.ParseCertificate(k.algorithm(c.Raw, last))
	if err != nil {
		k.t.Fatal(err)
	}
	return c
}
