package format_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"io"
	"math/big"
	"strings"
	"testing"

	"github.com/spinecert/spinecert/internal/format"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
)

// TestRefused: what is missing is told, and nothing is written.
func TestRefused(t *testing.T) {
	m := newMaterial(t)
	leafAlone, other := testpki.NewRoot(t).Issue(t), m.issuing.Issue(t)
	identities, private := "cert chain fullchain combined der pkcs12 jks", "key combined pkcs12 jks"
	for _, tc := range []struct {
		name, formats string
		change        func(s *format.Source)
		is            error
		text, hint    string
	}{
		{"no certificate", identities, func(s *format.Source) { s.Certificates = nil }, format.ErrNoCertificate, "no certificate", ""},
		{"no key", private, func(s *format.Source) { s.Key = nil }, format.ErrNoKey, "no private key", ""},
		{"no subCA", "chain", func(s *format.Source) { s.Certificates = []*x509.Certificate{leafAlone.Cert} }, format.ErrNoChain, "no subCA", "fullchain"},
		{"another key", "combined pkcs12 jks", func(s *format.Source) { s.Key = other.Key }, pki.ErrIncoherent, "key does not match", "request"},
		{"root first", "combined pkcs12 jks", func(s *format.Source) { s.Certificates = s.Certificates[1:] }, pki.ErrIncoherent, "key does not match", ""},
		{"no CAs", "trust-pem trust-pkcs12", func(s *format.Source) { s.CAs = nil }, format.ErrNoCAs, "no CA", "trust"},
		{"only a leaf", "trust-pem trust-pkcs12", func(s *format.Source) { s.CAs = s.Certificates[:1] }, format.ErrNoCAs, "no CA", "trust"},
		{"no CRLs", "crl-pem", func(s *format.Source) { s.CRLs = nil }, format.ErrNoCRLs, "no CRL", "leave crl-pem out"},
		{"no password", "pkcs12 jks trust-pkcs12", func(s *format.Source) { s.Password = nil }, nil, "without a password", "password file"},
		{"an empty password", "pkcs12 jks trust-pkcs12", func(s *format.Source) { s.Password = []byte{} }, nil, "without a password", "password file"},
		{"a short password", "jks", func(s *format.Source) { s.Password = []byte("abcde") }, nil, "less than 6", "openssl rand"},
		{"a password outside of the BMP", "pkcs12 jks trust-pkcs12", func(s *format.Source) { s.Password = []byte("\U0001F511-secret") }, nil, "character", "letters"},
		{"no path at all", "ldaprc", func(s *format.Source) { s.Paths = nil }, nil, "file of format trust-pem", "trust-pem, key, fullchain"},
		{"no path of the key", "ldaprc", func(s *format.Source) { s.Paths["key"] = ""; delete(s.Paths, "key") }, nil, "file of format key", "trust-pem, key, fullchain"},
		{"an empty path", "ldaprc", func(s *format.Source) { s.Paths["key"] = "" }, format.ErrPath, `path "" of the file of format key`, "another directory"},
		{"a relative path", "ldaprc", func(s *format.Source) { s.Paths["fullchain"] = "x/y" }, format.ErrPath, `"x/y"`, "another directory"},
		{"a line in a path", "ldaprc", func(s *format.Source) { s.Paths["fullchain"] = "/x\nTLS_REQCERT never" }, format.ErrPath, `\nTLS_REQCERT`, "another"},
		{"a tab in a path", "ldaprc", func(s *format.Source) { s.Paths["trust-pem"] = "/x\ty" }, format.ErrPath, `\t`, "another"},
		{"NEL in a path", "ldaprc", func(s *format.Source) { s.Paths["trust-pem"] = "/x\u0085y" }, format.ErrPath, "path", "another"},
		{"a space at the end", "ldaprc", func(s *format.Source) { s.Paths["key"] = "/key.pem " }, format.ErrPath, `"/key.pem "`, "another"},
	} {
		for _, name := range strings.Fields(tc.formats) {
			s := clone(m.Source)
			tc.change(&s)
			data, err := find(t, name).Encode(s)
			if err == nil || data != nil || !strings.Contains(err.Error(), tc.text) || !strings.Contains(pki.Hint(err), tc.hint) {
				t.Errorf("%s, %s: %d bytes, %v, hint %q", tc.name, name, len(data), err, pki.Hint(err))
			}
			if tc.is != nil && !errors.Is(err, tc.is) {
				t.Errorf("%s, %s: %v is not %v", tc.name, name, err, tc.is)
			}
			tight(t, tc.name+", "+name, m, s, err)
		}
	}
}

// tight fails the test if an error holds what is nobody's business.
func tight(t *testing.T, name string, m *material, s format.Source, err error) {
	t.Helper()
	if err == nil {
		return
	}
	text := err.Error() + pki.Hint(err)
	if len(s.Password) > 0 && strings.Contains(text, string(s.Password)) {
		t.Errorf("%s: the password is in the error", name)
	}
	for _, line := range strings.Fields(string(m.leaf.KeyPEM())) {
		if len(line) > 10 && strings.Contains(text, line) {
			t.Errorf("%s: the key is in the error", name)
		}
	}
	if strings.Contains(text, "PRIVATE") || len(text) > 1000 {
		t.Errorf("%s: the error is %q", name, text)
	}
}

// clone copies what a test changes.
func clone(s format.Source) format.Source {
	paths := map[string]string{}
	for k, v := range s.Paths {
		paths[k] = v
	}
	s.Paths = paths
	return s
}

// TestBrokenCRLs: what is no CRL keeps a server from starting, and is not written.
func TestBrokenCRLs(t *testing.T) {
	m := newMaterial(t)
	good := m.CRLs[0]
	var parts []asn1.RawValue
	if _, err := asn1.Unmarshal(good, &parts); err != nil {
		t.Fatal(err)
	}
	fourth, err := asn1.Marshal(append(parts, asn1.NullRawValue))
	if err != nil {
		t.Fatal(err)
	}
	for name, der := range map[string][]byte{
		"nothing": {}, "nil": nil, "text": []byte("text"), "torn": good[:len(good)-1], "longer": append(bytes.Clone(good), 0), "a part too many": fourth,
		"a certificate": m.leaf.Cert.Raw, "PEM": testpki.EncodeCRL(good), "a sequence": {0x30, 0}, "the inside": good[4:],
		"a length that lies": {0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 0x30}, "a certificate of version 1": testpki.Version1(t, m.leaf.Cert.Raw, m.issuing),
	} {
		data, err := find(t, "crl-pem").Encode(format.Source{CRLs: [][]byte{good, der}})
		if err == nil || data != nil || !strings.Contains(err.Error(), "CRL 2 of 2") {
			t.Errorf("%s: %d bytes, %v", name, len(data), err)
		}
	}
	for name, der := range map[string][]byte{
		"entries": m.issuing.CRL(t, testpki.Revoke(m.leaf.Cert.SerialNumber)), "no number": m.issuing.CRL(t, testpki.NoNumber()),
		"large": testpki.NewLargeCRL(t, m.issuing, 1000), "SHA-1": m.issuing.CRL(t, testpki.CRLSHA1()),
	} {
		if data, err := find(t, "crl-pem").Encode(format.Source{CRLs: [][]byte{der}}); err != nil || !bytes.Equal(data, testpki.EncodeCRL(der)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// opaque is a key that is somewhere else, as in a module for keys.
type opaque struct{ public crypto.PublicKey }

func (o opaque) Public() crypto.PublicKey { return o.public }
func (opaque) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("cannot sign")
}

// TestOddValues: Go values that no file gives end in an error, of every format that
// looks at them.
func TestOddValues(t *testing.T) {
	m := newMaterial(t)
	rsaKey, ok := testpki.NewKey(t, "rsa-2048").(*rsa.PrivateKey)
	if !ok {
		t.Fatal("not an RSA key")
	}
	headless := &rsa.PrivateKey{PublicKey: rsaKey.PublicKey}
	keys := map[string]crypto.Signer{
		"nil": nil, "typed nil RSA": (*rsa.PrivateKey)(nil), "typed nil ECDSA": (*ecdsa.PrivateKey)(nil), "nil Ed25519": ed25519.PrivateKey(nil),
		"zero RSA": &rsa.PrivateKey{}, "zero ECDSA": &ecdsa.PrivateKey{}, "ECDSA without numbers": &ecdsa.PrivateKey{PublicKey: ecdsa.PublicKey{Curve: elliptic.P256()}},
		"short Ed25519": make(ed25519.PrivateKey, 5), "RSA without its secret": headless, "RSA with a nil prime": &rsa.PrivateKey{PublicKey: rsaKey.PublicKey, D: big.NewInt(3), Primes: []*big.Int{nil, nil}},
		"opaque": opaque{m.leaf.Cert.PublicKey}, "opaque without a public key": opaque{},
	}
	for name, key := range keys {
		s := m.Source
		s.Key = key
		for _, f := range format.Formats() {
			if !f.Private {
				continue
			}
			data, err := f.Encode(s)
			if err == nil || data != nil {
				t.Errorf("%s: %s is written", name, f.Name)
			}
			tight(t, name+", "+f.Name, m, s, err)
		}
	}
	certs := map[string]*x509.Certificate{
		"nil": nil, "zero": {}, "torn": {Raw: m.leaf.Cert.Raw[:100]}, "more": {Raw: append(bytes.Clone(m.leaf.Cert.Raw), 0)},
		"a key of nothing": {IsCA: true, PublicKey: &rsa.PublicKey{}}, "a CRL": {Raw: m.CRLs[0], IsCA: true},
	}
	for name, c := range certs {
		for _, f := range format.Formats() {
			for at := range 2 {
				s := m.Source
				if s.CAs = append([]*x509.Certificate{}, s.CAs...); f.Needs&format.Trust != 0 {
					s.CAs[at] = c
				}
				if s.Certificates = append([]*x509.Certificate{}, s.Certificates...); f.Needs&format.Identity != 0 {
					s.Certificates[at] = c
				}
				unread := f.Name == "key" || len(f.Beside) > 0 || f.Name == "crl-pem" || at > 0 && f.Needs&(format.Chain|format.Trust) == 0
				if unread {
					continue
				}
				data, err := f.Encode(s)
				if err == nil || data != nil {
					t.Errorf("%s, as number %d: %s is written", name, at, f.Name)
				}
			}
		}
	}
}

// FuzzEncode: whatever it is made of, a file is there and can be read, or there is an
// error. The formats with passwords read no more than these.
func FuzzEncode(f *testing.F) {
	m := newMaterial(f)
	f.Add(m.leaf.Cert.Raw, m.root.Cert.Raw, m.CRLs[0], "/path")
	f.Add(m.CRLs[0], m.CRLs[0], m.leaf.Cert.Raw, "a\nb")
	f.Add([]byte(nil), []byte(nil), []byte(nil), "")
	f.Fuzz(func(t *testing.T, leaf, ca, crl []byte, path string) {
		s := format.Source{
			Certificates: []*x509.Certificate{{Raw: leaf}, {Raw: ca}}, Key: m.Key, CAs: []*x509.Certificate{{Raw: ca}, {Raw: leaf}}, CRLs: [][]byte{crl},
			Paths: map[string]string{"trust-pem": path, "key": path, "fullchain": path},
		}
		for _, f := range format.Formats() {
			if f.Password {
				continue
			}
			data, err := f.Encode(s)
			if (err == nil) != (len(data) > 0) {
				t.Fatalf("%s: %d bytes, %v", f.Name, len(data), err)
			}
			switch {
			case err != nil:
			case f.Name == "ldaprc":
				if strings.Count(string(data), "\n") != 3 {
					t.Fatalf("ldaprc: %q", data)
				}
			case f.Name == "crl-pem":
			default:
				if _, err := pki.Parse(data, nil); err != nil {
					t.Fatalf("%s cannot be read: %v", f.Name, err)
				}
			}
		}
	})
}
