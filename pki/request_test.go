package pki_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
)

// TestGenerateKey makes a key of each kind, and reads it back.
func TestGenerateKey(t *testing.T) {
	describe := map[pki.KeyKind]string{
		pki.RSA2048: "RSA 2048", pki.RSA3072: "RSA 3072", pki.RSA4096: "RSA 4096",
		pki.ECDSAP256: "ECDSA P-256", pki.ECDSAP384: "ECDSA P-384", pki.Ed25519: "Ed25519",
	}
	if len(describe) != len(pki.KeyKinds()) || pki.KeyKinds()[0] != pki.RSA2048 {
		t.Errorf("kinds %q", pki.KeyKinds())
	}
	for _, kind := range pki.KeyKinds() {
		t.Run(string(kind), func(t *testing.T) {
			if testing.Short() && (kind == pki.RSA3072 || kind == pki.RSA4096) {
				t.Skip("takes seconds")
			}
			key, err := pki.GenerateKey(kind)
			if err != nil {
				t.Fatal(err)
			}
			if got := pki.DescribeKey(key.Public()); got != describe[kind] {
				t.Errorf("made %s", got)
			}
			if err := pki.CheckKey(key.Public()); err != nil {
				t.Errorf("our own policy refuses it: %v", err)
			}
			text, err := pki.EncodeKey(key)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.HasPrefix(text, []byte("-----BEGIN PRIVATE KEY-----\n")) {
				t.Error("not PKCS#8")
			}
			back, err := pki.ParseKey(text)
			if err != nil {
				t.Fatal(err)
			}
			if pki.KeyFingerprint(back.Public()) != pki.KeyFingerprint(key.Public()) {
				t.Error("another key came back")
			}
		})
	}
	var e *pki.Error
	if _, err := pki.GenerateKey("rsa-1024"); !errors.As(err, &e) || !strings.Contains(e.Hint(), "rsa-2048, rsa-3072") {
		t.Errorf("rsa-1024: %v", err)
	}
}

// TestKeysDiffer: each request has a key of its own.
func TestKeysDiffer(t *testing.T) {
	a, errA := pki.GenerateKey(pki.ECDSAP256)
	b, errB := pki.GenerateKey(pki.ECDSAP256)
	if err := errors.Join(errA, errB); err != nil {
		t.Fatal(err)
	}
	if pki.RequestID(a.Public()) == pki.RequestID(b.Public()) || len(pki.RequestID(a.Public())) != 16 {
		t.Errorf("ids %q and %q", pki.RequestID(a.Public()), pki.RequestID(b.Public()))
	}
}

func parseRequest(t *testing.T, text []byte) *x509.CertificateRequest {
	t.Helper()
	b, rest := pem.Decode(text)
	if b == nil || b.Type != "CERTIFICATE REQUEST" || len(rest) > 0 {
		t.Fatalf("not one PEM block: %q", text)
	}
	request, err := x509.ParseCertificateRequest(b.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return request
}

func TestNewRequest(t *testing.T) {
	const fqdn, other = "pcs.thirdparty.nhs.uk", "alt.thirdparty.nhs.uk"
	for _, tc := range []struct {
		name string
		kind string
		sans []string
		want []string
		alg  x509.SignatureAlgorithm
	}{
		{"rsa", "rsa-2048", nil, nil, x509.SHA256WithRSA},
		{"p256", "ecdsa-p256", nil, nil, x509.ECDSAWithSHA256},
		{"p384", "ecdsa-p384", nil, nil, x509.ECDSAWithSHA384},
		{"ed25519", "ed25519", nil, nil, x509.PureEd25519},
		{"the name as san", "ecdsa-p256", []string{fqdn}, []string{fqdn}, x509.ECDSAWithSHA256},
		{"another san, twice", "ecdsa-p256", []string{other, other}, []string{fqdn, other}, x509.ECDSAWithSHA256},
	} {
		t.Run(tc.name, func(t *testing.T) {
			key := testpki.NewKey(t, tc.kind)
			text, err := pki.NewRequest(key, fqdn, tc.sans...)
			if err != nil {
				t.Fatal(err)
			}
			request := parseRequest(t, text)
			if err := request.CheckSignature(); err != nil {
				t.Error(err)
			}
			if request.Subject.String() != "CN="+fqdn || len(request.Subject.Names) != 1 {
				t.Errorf("subject %q", request.Subject)
			}
			if diff := cmp.Diff(tc.want, request.DNSNames); diff != "" {
				t.Errorf("names (-want +got):\n%s", diff)
			}
			if len(tc.sans) == 0 && len(request.Extensions) != 0 {
				t.Errorf("extensions %v, wanted none", request.Extensions)
			}
			if len(request.EmailAddresses)+len(request.IPAddresses)+len(request.URIs) != 0 || request.SignatureAlgorithm != tc.alg {
				t.Errorf("request %+v", request)
			}
		})
	}
}

func TestNewRequestRefuses(t *testing.T) {
	key := testpki.NewKey(t, "ecdsa-p256")
	if _, err := pki.NewRequest(key, "*.nhs.uk", "a_b.nhs.uk"); !cmp.Equal(rules(err), []string{"wildcard", "underscore"}) {
		t.Errorf("bad names: %v", err)
	}
	if _, err := pki.NewRequest(nil, "pcs.nhs.uk"); err == nil {
		t.Error("a request without a key")
	}
	if _, err := pki.NewRequest(testpki.NewKey(t, "rsa-1024"), "pcs.nhs.uk"); err == nil || !strings.Contains(err.Error(), "1024 bits") {
		t.Errorf("a weak key: %v", err)
	}
}

// TestRequestOpenSSL has OpenSSL judge a request of each kind of key.
func TestRequestOpenSSL(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("openssl is not installed: CI must have it")
		}
		t.Skip("openssl is not installed")
	}
	for _, kind := range []string{"rsa-2048", "rsa-3072", "ecdsa-p256", "ecdsa-p384", "ed25519"} {
		text, err := pki.NewRequest(testpki.NewKey(t, kind), "pcs.thirdparty.nhs.uk", "alt.thirdparty.nhs.uk")
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("openssl", "req", "-verify", "-noout", "-subject", "-text", "-nameopt", "RFC2253")
		cmd.Stdin = bytes.NewReader(text)
		out, err := cmd.CombinedOutput()
		for _, want := range []string{"verify OK", "subject=CN=pcs.thirdparty.nhs.uk\n", "DNS:pcs.thirdparty.nhs.uk, DNS:alt.thirdparty.nhs.uk"} {
			if err != nil || !strings.Contains(string(out), want) {
				t.Errorf("%s: no %q, %v:\n%s", kind, want, err, out)
			}
		}
	}
}
