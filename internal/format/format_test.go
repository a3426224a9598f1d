package format_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/spinecert/spinecert/internal/format"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
)

const password = "secret-word"

// material is a leaf below two subCAs, with all that formats are made of.
type material struct {
	root, upper, issuing *testpki.Authority
	leaf                 *testpki.Leaf
	format.Source
}

func newMaterial(t testing.TB, opts ...testpki.Option) *material {
	t.Helper()
	m := &material{root: testpki.NewRoot(t)}
	m.upper = m.root.SubCA(t, testpki.Name("Upper"), testpki.PathLen(1))
	m.issuing = m.upper.SubCA(t, testpki.Name("Issuing"))
	m.leaf = m.issuing.Issue(t, opts...)
	m.Source = format.Source{
		Certificates: append([]*x509.Certificate{m.leaf.Cert}, m.leaf.Chain...),
		Key:          m.leaf.Key,
		CAs:          []*x509.Certificate{m.root.Cert, m.issuing.Cert, m.upper.Cert},
		CRLs:         [][]byte{m.issuing.CRL(t), m.upper.CRL(t), m.root.CRL(t)},
		Password:     []byte(password),
		Paths:        map[string]string{"trust-pem": "/etc/ldap/ca s.pem", "key": "/etc/ldap/key.pem", "fullchain": "/etc/ldap/all.pem", "cert": "/x"},
		Now:          time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC),
	}
	return m
}

func find(t testing.TB, name string) format.Format {
	t.Helper()
	f, ok := format.Find(name)
	if !ok {
		t.Fatalf("there is no format %s", name)
	}
	return f
}

func encode(t testing.TB, name string, s format.Source) []byte {
	t.Helper()
	data, err := find(t, name).Encode(s)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return data
}

// TestFormats: the table, which is the manual's.
func TestFormats(t *testing.T) {
	want := strings.Fields("cert chain fullchain key combined der pkcs12 jks trust-pem trust-pkcs12 crl-pem ldaprc")
	if diff := cmp.Diff(want, format.Names()); diff != "" {
		t.Error(diff)
	}
	private, passwords := "key combined pkcs12 jks", "pkcs12 jks trust-pkcs12"
	for _, f := range format.Formats() {
		if found, ok := format.Find(f.Name); !ok || found.Name != f.Name || found.Needs != f.Needs {
			t.Errorf("%s is found as %+v", f.Name, found)
		}
		in := func(list string) bool { return strings.Contains(" "+list+" ", " "+f.Name+" ") }
		if f.Private != in(private) || f.Password != in(passwords) || f.Needs == 0 {
			t.Errorf("%s: %+v", f.Name, f)
		}
		if f.Private && f.Needs&format.Key == 0 {
			t.Errorf("%s is private and needs no key", f.Name)
		}
		for _, name := range f.Beside {
			if other := find(t, name); f.Needs&other.Needs != other.Needs {
				t.Errorf("%s needs less than %s, which it names", f.Name, name)
			}
		}
	}
	for _, name := range []string{"", "CERT", "pem", "trust"} {
		if f, ok := format.Find(name); ok {
			t.Errorf("%q is found: %+v", name, f)
		}
	}
	if data, err := (format.Format{Name: "cert"}).Encode(newMaterial(t).Source); err == nil || data != nil {
		t.Error("a format that nobody found was written")
	}
}

// TestContent: what is in each file, byte for byte where it is always the same.
func TestContent(t *testing.T) {
	m := newMaterial(t)
	all := string(m.leaf.FullChainPEM())
	want := map[string]string{
		"cert":      string(m.leaf.CertPEM()),
		"chain":     string(m.issuing.CertPEM()) + string(m.upper.CertPEM()),
		"fullchain": all,
		"key":       string(m.leaf.KeyPEM()),
		"combined":  all + string(m.leaf.KeyPEM()),
		"der":       string(m.leaf.Cert.Raw),
		"trust-pem": string(m.issuing.CertPEM()) + string(m.upper.CertPEM()) + string(m.root.CertPEM()),
		"crl-pem":   string(testpki.EncodeCRL(m.CRLs[0])) + string(testpki.EncodeCRL(m.CRLs[1])) + string(testpki.EncodeCRL(m.CRLs[2])),
		"ldaprc":    "TLS_CACERT /etc/ldap/ca s.pem\nTLS_KEY /etc/ldap/key.pem\nTLS_CERT /etc/ldap/all.pem\n",
	}
	if all != want["cert"]+want["chain"] {
		t.Fatal("the chain is not what the test means")
	}
	for _, f := range format.Formats() {
		if f.Password {
			continue
		}
		got := string(encode(t, f.Name, m.Source))
		if diff := cmp.Diff(want[f.Name], got); diff != "" {
			t.Errorf("%s: %s", f.Name, diff)
		}
		if again := string(encode(t, f.Name, m.Source)); again != got {
			t.Errorf("%s is another one the second time", f.Name)
		}
		if f.Private != strings.Contains(got, "PRIVATE KEY") {
			t.Errorf("%s: private is %v", f.Name, f.Private)
		}
	}
}

// TestPlainStores: what Go reads of the formats with a password, which are never the same
// twice. Other programs read them in TestPrograms.
func TestPlainStores(t *testing.T) {
	t.Parallel()
	m := newMaterial(t)
	first, second := encode(t, "jks", m.Source), encode(t, "jks", m.Source)
	if bytes.Equal(first, second) {
		t.Error("two JKS files have the same salt")
	}
	m.CAs = m.CAs[:2]
	store := encode(t, "trust-pkcs12", m.Source)
	if bytes.Equal(store, encode(t, "trust-pkcs12", m.Source)) {
		t.Error("two trust stores have the same salt")
	}
	c, err := pki.Parse(store, m.Password)
	if err != nil || len(c.Keys) != 0 || len(c.Certificates) != 2 || !c.Certificates[0].Equal(m.issuing.Cert) || !c.Certificates[1].Equal(m.root.Cert) {
		t.Errorf("trust-pkcs12 came back as %+v, %v", c, err)
	}
}

// TestPartial: only what a format needs has to be there.
func TestPartial(t *testing.T) {
	m := newMaterial(t)
	for name, s := range map[string]format.Source{
		"cert": {Certificates: m.Certificates[:1]}, "der": {Certificates: m.Certificates[:1]}, "fullchain": {Certificates: m.Certificates[:1]},
		"chain": {Certificates: m.Certificates}, "key": {Key: m.Key}, "combined": {Certificates: m.Certificates[:1], Key: m.Key},
		"trust-pem": {CAs: m.CAs[:1]}, "crl-pem": {CRLs: m.CRLs[:1]}, "ldaprc": {Paths: m.Paths},
		"jks": {Certificates: m.Certificates[:1], Key: m.Key, Password: m.Password},
	} {
		if len(encode(t, name, s)) == 0 {
			t.Errorf("%s is empty", name)
		}
	}
}

// TestChainStays: the chain is written as it is given, even where another order, or
// another of two cross-signed CAs, would fit as well.
func TestChainStays(t *testing.T) {
	m := newMaterial(t)
	crossed := testpki.NewRoot(t, testpki.Name("Other Root")).CrossSign(t, m.issuing)
	m.Certificates = []*x509.Certificate{m.leaf.Cert, crossed.Cert, m.upper.Cert, m.issuing.Cert}
	want := testpki.EncodeCerts(m.Certificates...)
	for _, name := range []string{"fullchain", "combined"} {
		if !bytes.HasPrefix(encode(t, name, m.Source), want) {
			t.Errorf("%s has another chain", name)
		}
	}
}

// TestAuthorities: subCAs first, whatever the order; what is no CA is left out.
func TestAuthorities(t *testing.T) {
	m := newMaterial(t)
	other := testpki.NewRoot(t, testpki.Name("Other Root"))
	in := []*x509.Certificate{m.root.Cert, m.leaf.Cert, m.upper.Cert, other.Cert, m.issuing.Cert}
	want := []*x509.Certificate{m.upper.Cert, m.issuing.Cert, m.root.Cert, other.Cert}
	if !bytes.Equal(testpki.EncodeCerts(format.Authorities(in)...), testpki.EncodeCerts(want...)) {
		t.Error("another order")
	}
	if in[0] != m.root.Cert || in[4] != m.issuing.Cert {
		t.Error("the order of the caller was changed")
	}
	if !bytes.Equal(encode(t, "trust-pem", format.Source{CAs: in}), testpki.EncodeCerts(want...)) {
		t.Error("trust-pem has another order")
	}
}

// TestLDAPPaths: a path is named as it is, or refused.
func TestLDAPPaths(t *testing.T) {
	for _, path := range []string{"/a b/ c", "/ünï/\u00a0", "/a#b", "/" + strings.Repeat("x", 255), filepath.Join(t.TempDir(), "key.pem")} {
		s := format.Source{Paths: map[string]string{"trust-pem": "/t", "key": path, "fullchain": "/f"}}
		if got := string(encode(t, "ldaprc", s)); got != "TLS_CACERT /t\nTLS_KEY "+path+"\nTLS_CERT /f\n" {
			t.Errorf("%q: %q", path, got)
		}
	}
}

// TestKeys: every kind of key that a slot may have.
func TestKeys(t *testing.T) {
	for _, kind := range []string{"rsa-2048", "ecdsa-p256", "ecdsa-p384", "ed25519"} {
		m := newMaterial(t, testpki.KeyType(kind))
		for _, name := range []string{"key", "combined"} {
			data := encode(t, name, m.Source)
			back, err := pki.ParseKey(data)
			if err != nil || pki.KeyFingerprint(back.Public()) != pki.KeyFingerprint(m.Key.Public()) {
				t.Errorf("%s, %s: %v", name, kind, err)
			}
			for rest := data; len(rest) > 0; {
				var block *pem.Block
				if block, rest = pem.Decode(rest); block == nil {
					t.Errorf("%s, %s: something that is not PEM is in it", name, kind)
					break
				}
			}
		}
		if len(encode(t, "jks", m.Source)) == 0 {
			t.Errorf("jks, %s", kind)
		}
	}
}
