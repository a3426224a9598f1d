package pki_test

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
	"software.sslmate.com/src/go-pkcs12"
)

const secret = "geheim-4711"

func TestParsePKCS12(t *testing.T) {
	export := []string{"pkcs12", "-export", "-in", "leaf.pem", "-inkey", "key.pem", "-certfile", "chain.pem", "-out", "out"}
	tests := map[string]struct {
		args     []string
		password string
	}{
		"good modern":         {[]string{"-passout", "pass:" + secret}, secret},
		"good legacy rc2":     {[]string{"-passout", "pass:" + secret, "-legacy"}, secret},
		"good legacy 3des":    {[]string{"-passout", "pass:" + secret, "-legacy", "-descert"}, secret},
		"good sha-1 mac":      {[]string{"-passout", "pass:" + secret, "-macalg", "sha1"}, secret},
		"good iterations":     {[]string{"-passout", "pass:" + secret, "-iter", "100000"}, secret},
		"good empty password": {[]string{"-passout", "pass:"}, ""},
		"good certs in clear": {[]string{"-passout", "pass:" + secret, "-certpbe", "NONE"}, secret},
		"good friendly name":  {[]string{"-passout", "pass:" + secret, "-name", "pcs", "-caname", "sub"}, secret},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir, leaf, _ := material(t, testpki.KeyType("rsa-2048"))
			openssl(t, dir, slices.Concat(export, tt.args)...)
			data := read(t, dir, "out")
			c, err := pki.Parse(data, []byte(tt.password))
			if err != nil {
				t.Fatal(err)
			}
			if c.Form != pki.FormPKCS12 || len(c.Keys) != 1 || len(c.Certificates) != 2 {
				t.Fatalf("got %+v", c)
			}
			id, err := pki.NewIdentity(c.Certificates, c.Keys[0])
			if err != nil || !id.Leaf().Equal(leaf.Cert) {
				t.Errorf("no identity of it: %v", err)
			}
			if _, err := pki.Parse(data, []byte("wrong-"+secret)); err == nil || !strings.Contains(err.Error(), "password is wrong") || pki.Hint(err) == "" {
				t.Errorf("wrong password: %v", err)
			}
			if _, err := pki.Parse(data, nil); tt.password != "" && (err == nil || !strings.Contains(err.Error(), "needs a password")) {
				t.Errorf("no password: %v", err)
			}
			for _, n := range []int{1, 2, 3, 10, len(data) / 2, len(data) - 1} {
				if _, err := pki.Parse(data[:n], []byte(tt.password)); !errors.Is(err, pki.ErrIncoherent) {
					t.Errorf("cut to %d bytes: %v", n, err)
				}
			}
		})
	}
}

func TestParsePKCS12Others(t *testing.T) {
	dir, leaf, root := material(t)
	openssl(t, dir, "pkcs12", "-export", "-nokeys", "-in", "full.pem", "-passout", "pass:"+secret, "-out", "nokeys")
	openssl(t, dir, "pkcs12", "-export", "-nocerts", "-inkey", "key.pem", "-passout", "pass:"+secret, "-out", "nocerts")
	store, err := pkcs12.Modern2023.EncodeTrustStore([]*x509.Certificate{root.Cert}, secret)
	if err != nil {
		t.Fatal(err)
	}
	pbmac1, err := pkcs12.Modern2026.Encode(leaf.Key, leaf.Cert, leaf.Chain, secret)
	if err != nil {
		t.Fatal(err)
	}
	passwordless, err := pkcs12.Passwordless.Encode(leaf.Key, leaf.Cert, leaf.Chain, "")
	if err != nil {
		t.Fatal(err)
	}
	if c, err := pki.Parse(store, []byte(secret)); err != nil || len(c.Certificates) != 1 || len(c.Keys) != 0 {
		t.Errorf("trust store: %v, %+v", err, c)
	}
	if c, err := pki.Parse(pbmac1, []byte(secret)); err != nil || len(c.Certificates) != 2 || len(c.Keys) != 1 {
		t.Errorf("PBMAC1: %v, %+v", err, c)
	}
	if c, err := pki.Parse(passwordless, nil); err != nil || len(c.Certificates) != 2 || len(c.Keys) != 1 {
		t.Errorf("passwordless: %v, %+v", err, c)
	}
	for name, want := range map[string]string{"nokeys": "no private key", "nocerts": "no certificate"} {
		if _, err := pki.Parse(read(t, dir, name), []byte(secret)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := pki.ParseKey(store); err == nil || !strings.Contains(err.Error(), "is a PKCS#12 file") || pki.Hint(err) == "" {
		t.Errorf("ParseKey: %v", err)
	}
	if _, err := pki.ParseCertificates(store); err == nil || !strings.Contains(err.Error(), "is a PKCS#12 file") || pki.Hint(err) == "" {
		t.Errorf("ParseCertificates: %v", err)
	}
	if _, err := pki.Parse(append(store, 'x'), []byte(secret)); err == nil || !strings.Contains(err.Error(), "trailing") {
		t.Errorf("trailing data: %v", err)
	}
}

// The counts of a file are its author's: reading them comes before obeying them.
// Without the check each of these would take minutes to years.
func TestPKCS12IterationLimit(t *testing.T) {
	leaf := testpki.NewRoot(t).Issue(t)
	file, err := pkcs12.Modern2023.WithIterations(4321).Encode(leaf.Key, leaf.Cert, nil, secret)
	if err != nil {
		t.Fatal(err)
	}
	legacy, err := pkcs12.LegacyDES.WithIterations(4321).Encode(leaf.Key, leaf.Cert, nil, secret)
	if err != nil {
		t.Fatal(err)
	}
	count, _ := asn1.Marshal(4321)
	for name, data := range map[string][]byte{"modern": file, "legacy": legacy} {
		if _, err := pki.Parse(data, []byte(secret)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		places := indexes(data, count)
		if len(places) != 3 { // MAC, certificates, key
			t.Fatalf("%s: the count is in %d places", name, len(places))
		}
		for _, at := range places {
			hostile := slices.Clone(data)
			// The same length: an INTEGER of two bytes cannot exceed the limit, so the
			// element becomes one of four bytes and every length around it grows.
			hostile = grow(t, hostile, at, []byte{0x02, 0x04, 0x7F, 0xFF, 0xFF, 0xFF})
			_, err := pki.Parse(hostile, []byte(secret))
			if err == nil || !strings.Contains(err.Error(), "iterations") || errors.Is(err, pki.ErrIncoherent) {
				t.Errorf("%s, count at %d: %v", name, at, err)
			}
		}
	}
}

func indexes(data, what []byte) []int {
	var out []int
	for i := 0; i+len(what) <= len(data); i++ {
		if slices.Equal(data[i:i+len(what)], what) {
			out = append(out, i)
		}
	}
	return out
}

// grow replaces the 4-byte element at offset by another one, two bytes longer,
// and corrects the lengths of all elements around it.
func grow(t *testing.T, data []byte, offset int, element []byte) []byte {
	t.Helper()
	const old = 4
	more := len(element) - old
	pos := 0
	for pos < offset {
		header, length := 2, int(data[pos+1])
		switch data[pos+1] {
		case 0x81:
			header, length = 3, int(data[pos+2])
		case 0x82:
			header, length = 4, int(data[pos+2])<<8|int(data[pos+3])
		}
		if pos+header+length <= offset { // beside it
			pos += header + length
			continue
		}
		length += more
		switch header {
		case 2:
			if length >= 0x80 {
				t.Fatal("the length does not fit")
			}
			data[pos+1] = byte(length)
		case 3:
			data[pos+2] = byte(length)
		case 4:
			data[pos+2], data[pos+3] = byte(length>>8), byte(length)
		}
		pos += header
	}
	return slices.Concat(data[:offset], element, data[offset+old:])
}
