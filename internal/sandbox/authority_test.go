package sandbox

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"slices"
	"testing"
	"time"

	kmsapi "go.step.sm/crypto/kms/apiv1"
)

func TestAuthority(t *testing.T) {
	now := time.Now()
	pool, err := newKeyPool(3)
	if err != nil {
		t.Fatal(err)
	}
	for _, profile := range []string{ProfileG1, ProfileG2} {
		t.Run(profile, func(t *testing.T) {
			a, err := newAuthority(t.Context(), "Test", profile, kmsapi.SHA256WithRSA, now)
			if err != nil {
				t.Fatal(err)
			}
			id, err := a.issue(providerName, pool.take(), now.Add(-backdate), now.Add(leafLife))
			if err != nil {
				t.Fatal(err)
			}
			leaf := id.leaf
			if got := leaf.Subject.String(); got != "CN="+providerName+",OU=Devices,O=nhs" {
				t.Errorf("subject %q", got)
			}
			if hasSAN := len(leaf.DNSNames) == 1; hasSAN != (profile == ProfileG2) {
				t.Errorf("names %q", leaf.DNSNames)
			}
			if profile == ProfileG1 && slices.ContainsFunc(leaf.Extensions, func(e pkix.Extension) bool { return e.Id.String() == "2.5.29.17" }) {
				t.Error("a G1 certificate has a SAN extension")
			}
			if got := leaf.PublicKey.(interface{ Size() int }).Size(); got != rsaBits/8 {
				t.Errorf("key of %d bytes", got)
			}
			roots, subCAs := x509.NewCertPool(), x509.NewCertPool()
			roots.AddCert(a.root.Certificate)
			subCAs.AddCert(id.chain[0])
			for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
				if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: subCAs, KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
					t.Errorf("usage %d: %v", usage, err)
				}
			}
			checkCRLs(t, a, id, now)
		})
	}
}

func checkCRLs(t *testing.T, a *authority, id *identity, now time.Time) {
	t.Helper()
	root, sub, err := a.crls(t.Context(), now)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		der             []byte
		issuer, subject *x509.Certificate
	}{{root, a.root.Certificate, a.sub.Certificate}, {sub, a.sub.Certificate, id.leaf}} {
		crl, err := x509.ParseRevocationList(c.der)
		if err != nil {
			t.Fatal(err)
		}
		if err := crl.CheckSignatureFrom(c.issuer); err != nil {
			t.Error(err)
		}
		if len(c.subject.CRLDistributionPoints) != 1 {
			t.Fatalf("CRL addresses %q", c.subject.CRLDistributionPoints)
		}
		// The scope is 30 len a0 len a0 len 86 len <address>: RFC 5280, Section 5.2.5.
		address := c.subject.CRLDistributionPoints[0]
		i := slices.IndexFunc(crl.Extensions, func(e pkix.Extension) bool { return e.Id.String() == "2.5.29.28" })
		if i < 0 || string(crl.Extensions[i].Value[8:]) != address || !crl.Extensions[i].Critical {
			t.Errorf("CRL of %q is not scoped to %q", c.issuer.Subject.CommonName, address)
		}
	}
}

func TestKeysTakeTurns(t *testing.T) {
	pool, err := newKeyPool(2)
	if err != nil {
		t.Fatal(err)
	}
	first, second, third := pool.take(), pool.take(), pool.take()
	if first == second || first != third {
		t.Error("the keys do not take turns")
	}
	block, _ := pem.Decode(must(t, (&identity{leaf: &x509.Certificate{}, key: first}).keyPEM))
	if _, err := x509.ParsePKCS8PrivateKey(block.Bytes); err != nil {
		t.Error(err)
	}
}

func must[T any](t *testing.T, f func() (T, error)) T {
	t.Helper()
	v, err := f()
	if err != nil {
		t.Fatal(err)
	}
	return v
}
