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
	pool := must(t, sharedKeys)
	for _, profile := range []string{ProfileG1, ProfileG2} {
		t.Run(profile, func(t *testing.T) {
			a, err := newAuthority(t.Context(), "Test", profile, "http://crl.test/"+profile, kmsapi.SHA256WithRSA, now)
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
	for _, c := range []struct{ issuer, subject *x509.Certificate }{{a.root.Certificate, a.sub.Certificate}, {a.sub.Certificate, id.leaf}} {
		if len(c.subject.CRLDistributionPoints) != 1 {
			t.Fatalf("CRL addresses %q", c.subject.CRLDistributionPoints)
		}
		address := c.subject.CRLDistributionPoints[0]
		crl := signed(t, a, address, now)
		if err := crl.CheckSignatureFrom(c.issuer); err != nil {
			t.Error(err)
		}
		// The scope is 30 len a0 len a0 len 86 len <address>: RFC 5280, Section 5.2.5.
		i := slices.IndexFunc(crl.Extensions, func(e pkix.Extension) bool { return e.Id.String() == "2.5.29.28" })
		if i < 0 || string(crl.Extensions[i].Value[8:]) != address || !crl.Extensions[i].Critical {
			t.Errorf("CRL of %q is not scoped to %q", c.issuer.Subject.CommonName, address)
		}
	}
}

func signed(t *testing.T, a *authority, address string, now time.Time) *x509.RevocationList {
	t.Helper()
	der, err := a.sign(t.Context(), address, now)
	if err != nil {
		t.Fatal(err)
	}
	crl, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	return crl
}

// TestRevoke: a certificate is on the list that it names and on no other, and each
// version has a higher number.
func TestRevoke(t *testing.T) {
	now := time.Now()
	a, err := newAuthority(t.Context(), "Test", ProfileG2, "http://crl.test", kmsapi.ECDSAWithSHA256, now)
	if err != nil {
		t.Fatal(err)
	}
	first, second := must(t, func() (*identity, error) { return peerIdentity(a, peerName(1), now) }), must(t, func() (*identity, error) { return peerIdentity(a, peerName(2), now) })
	if slices.Equal(first.leaf.CRLDistributionPoints, second.leaf.CRLDistributionPoints) {
		t.Errorf("two certificates in a row name %q", first.leaf.CRLDistributionPoints)
	}
	before := map[string]*x509.RevocationList{}
	for _, address := range a.addresses() {
		if before[address] = signed(t, a, address, now); len(before[address].RevokedCertificateEntries) != 0 {
			t.Errorf("%s is not empty at first", address)
		}
	}
	address, err := a.revoke(first.leaf, now)
	if err != nil || address != first.leaf.CRLDistributionPoints[0] {
		t.Fatalf("revoked on %q, %v", address, err)
	}
	for _, other := range a.addresses() {
		crl, want := signed(t, a, other, now), 0
		if other == address {
			want = 1
		}
		if len(crl.RevokedCertificateEntries) != want || want == 1 && crl.RevokedCertificateEntries[0].SerialNumber.Cmp(first.leaf.SerialNumber) != 0 {
			t.Errorf("%s: %d entries, want %d, of %s", other, len(crl.RevokedCertificateEntries), want, first.number())
		}
		if crl.Number.Cmp(before[other].Number) <= 0 {
			t.Errorf("%s: number %d after %d", other, crl.Number, before[other].Number)
		}
	}
	if _, err := a.revoke(a.root.Certificate, now); err == nil {
		t.Error("a certificate without a list was revoked")
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
