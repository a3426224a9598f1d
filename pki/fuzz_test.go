package pki_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
	"software.sslmate.com/src/go-pkcs12"
)

// seeds are good files of every form; the fuzzer makes the bad ones.
func seeds(f *testing.F) [][]byte {
	f.Helper()
	ca := testpki.NewRoot(f).SubCA(f)
	leaf := ca.Issue(f, testpki.KeyType("ed25519"))
	crl := ca.CRL(f, testpki.Revoke(leaf.Cert.SerialNumber))
	out := [][]byte{
		nil, leaf.CertPEM(), leaf.FullChainPEM(), leaf.Cert.Raw, leaf.KeyPEM(),
		slices.Concat([]byte("Bag Attributes\r\n"), leaf.KeyPEM(), leaf.FullChainPEM()),
		crl, testpki.EncodeCRL(crl), testpki.Request(f, leaf.Key, "a.nhs.uk"),
		[]byte("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: A,B\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"),
		signedData(leaf.Cert.Raw),
	}
	for _, encoder := range []*pkcs12.Encoder{pkcs12.Modern2023, pkcs12.LegacyRC2, pkcs12.Modern2026} {
		file, err := encoder.WithIterations(1).Encode(leaf.Key, leaf.Cert, nil, "x")
		if err != nil {
			f.Fatal(err)
		}
		out = append(out, file)
	}
	return out
}

// signedData is the smallest PKCS#7 file around one short certificate.
func signedData(cert []byte) []byte {
	wrap := func(tag byte, parts ...[]byte) []byte {
		content := slices.Concat(parts...)
		return slices.Concat([]byte{tag, 0x82, byte(len(content) >> 8), byte(len(content))}, content)
	}
	oid := []byte{0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02}
	data := []byte{0x30, 11, 0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01}
	return wrap(0x30, oid, wrap(0xA0, wrap(0x30, []byte{2, 1, 1, 0x31, 0}, data, wrap(0xA0, cert), []byte{0x31, 0})))
}

func FuzzParse(f *testing.F) {
	for _, seed := range seeds(f) {
		f.Add(seed, []byte("x"))
	}
	f.Fuzz(func(t *testing.T, data, password []byte) {
		c, err := pki.Parse(data, password)
		if (c == nil) == (err == nil) {
			t.Fatalf("contents %v with error %v", c, err)
		}
		checkError(t, err)
		if c == nil {
			return
		}
		if slices.Contains(c.Certificates, nil) || slices.Contains(c.Keys, nil) || slices.Contains(c.Requests, nil) {
			t.Fatal("nil among the contents")
		}
		if len(c.Keys) > 0 {
			_, err := pki.NewIdentity(c.Certificates, c.Keys[0])
			checkError(t, err)
		}
	})
}

func FuzzParseKey(f *testing.F) {
	for _, seed := range seeds(f) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		key, err := pki.ParseKey(data)
		checkError(t, err)
		if (key == nil) == (err == nil) {
			t.Fatalf("key %v with error %v", key == nil, err)
		}
		if key != nil {
			pki.DescribeKey(key.Public())
			pki.KeyFingerprint(key.Public())
			checkError(t, pki.CheckKey(key.Public()))
		}
	})
}

func FuzzParseCertificates(f *testing.F) {
	for _, seed := range seeds(f) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		certs, err := pki.ParseCertificates(data)
		checkError(t, err)
		if (len(certs) == 0) == (err == nil) {
			t.Fatalf("%d certificates with error %v", len(certs), err)
		}
		for _, c := range certs {
			names, source := pki.Names(c)
			if len(names) > 0 && source == pki.NameNone || source == pki.NameFromCN && len(names) != 1 {
				t.Fatalf("names %q from %q", names, source)
			}
		}
	})
}

// The key is part of the input: the fuzzer's workers are processes of their own,
// and a key made here would be another one in each, matching no seed.
func FuzzNewIdentity(f *testing.F) {
	sub := testpki.NewRoot(f).SubCA(f)
	leaf := sub.Issue(f, testpki.KeyType("ed25519"))
	f.Add(slices.Concat(leaf.KeyPEM(), leaf.FullChainPEM()))
	f.Add(slices.Concat(leaf.KeyPEM(), leaf.ChainPEM(), leaf.CertPEM(), sub.BundlePEM()))
	f.Add(slices.Concat(leaf.KeyPEM(), leaf.CertPEM(), sub.Issue(f).CertPEM()))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := pki.Parse(data, nil)
		if err != nil || len(c.Keys) == 0 {
			return
		}
		key := c.Keys[0]
		id, err := pki.NewIdentity(c.Certificates, key)
		checkError(t, err)
		if err != nil {
			return
		}
		if pki.KeyFingerprint(id.Leaf().PublicKey) != pki.KeyFingerprint(key.Public()) {
			t.Fatal("the leaf is not of the key")
		}
		if len(id.TLS().Certificate) != 1+len(id.Chain()) || len(id.Chain()) >= len(c.Certificates) {
			t.Fatal("the chain does not add up")
		}
	})
}

// checkError holds what is true of every error of the package.
func checkError(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	var e *pki.Error
	if !errors.As(err, &e) || e.Part == "" || e.Message == "" {
		t.Fatalf("not an *Error with part and message: %#v", err)
	}
	for _, r := range err.Error() {
		if r < ' ' {
			t.Fatalf("control characters in %q", err.Error())
		}
	}
}
