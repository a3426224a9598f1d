package testpki_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/internal/testprogram"
)

func verify(leaf *testpki.Leaf, root *testpki.Authority) error {
	roots, inter := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root.Cert)
	for _, c := range leaf.Chain {
		inter.AddCert(c)
	}
	_, err := leaf.Cert.Verify(x509.VerifyOptions{Roots: roots, Intermediates: inter})
	return err
}

func TestChainVerifies(t *testing.T) {
	for _, kind := range []string{"rsa-2048", "ecdsa-p256", "ecdsa-p384", "ed25519"} {
		t.Run(kind, func(t *testing.T) {
			root := testpki.NewRoot(t, testpki.KeyType(kind))
			sub := root.SubCA(t, testpki.KeyType(kind), testpki.PathLen(1))
			subsub := sub.SubCA(t, testpki.Name("Lower"), testpki.PathLen(0))
			leaf := subsub.Issue(t, testpki.KeyType(kind))
			if err := verify(leaf, root); err != nil {
				t.Fatal(err)
			}
			if len(leaf.Chain) != 2 || leaf.Chain[0] != subsub.Cert || leaf.Chain[1] != sub.Cert {
				t.Errorf("chain is not issuing CA first without the root: %v", leaf.Chain)
			}
			if _, err := tls.X509KeyPair(leaf.FullChainPEM(), leaf.KeyPEM()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestCertificateDefects(t *testing.T) {
	now := time.Now()
	root := testpki.NewRoot(t)
	oid := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}
	good := func(a *testpki.Authority) *testpki.Leaf { return a.Issue(t) }
	tests := map[string]struct {
		leaf func() *testpki.Leaf
		ok   bool
	}{
		"good": {func() *testpki.Leaf { return good(root.SubCA(t)) }, true},
		"expired": {func() *testpki.Leaf {
			return root.Issue(t, testpki.Validity(now.Add(-2*time.Hour), now.Add(-time.Hour)))
		}, false},
		"not yet valid":     {func() *testpki.Leaf { return root.Issue(t, testpki.Validity(now.Add(time.Hour), now.Add(2*time.Hour))) }, false},
		"bad signature":     {func() *testpki.Leaf { return root.Issue(t, testpki.BadSignature()) }, false},
		"sha-1":             {func() *testpki.Leaf { return root.Issue(t, testpki.SHA1()) }, false},
		"critical":          {func() *testpki.Leaf { return root.Issue(t, testpki.CriticalExtension(oid)) }, false},
		"client only":       {func() *testpki.Leaf { return root.Issue(t, testpki.EKU(x509.ExtKeyUsageClientAuth)) }, false},
		"not a CA":          {func() *testpki.Leaf { return good(root.SubCA(t, testpki.NotCA())) }, false},
		"no constraints":    {func() *testpki.Leaf { return good(root.SubCA(t, testpki.NoBasicConstraints())) }, false},
		"path length":       {func() *testpki.Leaf { return good(root.SubCA(t, testpki.PathLen(0)).SubCA(t, testpki.Name("Lower"))) }, false},
		"name constraint":   {func() *testpki.Leaf { return good(root.SubCA(t, testpki.NameConstraint([]string{"other.test"}, nil))) }, false},
		"inside constraint": {func() *testpki.Leaf { return good(root.SubCA(t, testpki.NameConstraint([]string{"nhs.uk"}, nil))) }, true},
		"wrong root":        {func() *testpki.Leaf { return testpki.NewRoot(t).Issue(t) }, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if err := verify(tt.leaf(), root); (err == nil) != tt.ok {
				t.Errorf("verify: %v, want ok = %v", err, tt.ok)
			}
		})
	}
}

func TestSHA1(t *testing.T) {
	root := testpki.NewRoot(t, testpki.KeyType("rsa-2048"), testpki.SHA1())
	if got := root.Cert.SignatureAlgorithm; got != x509.SHA1WithRSA {
		t.Errorf("root is signed with %v", got)
	}
	leaf := root.Issue(t, testpki.SHA1())
	dir := t.TempDir()
	testpki.WriteFile(t, filepath.Join(dir, "root.pem"), root.CertPEM(), 0o600)
	testpki.WriteFile(t, filepath.Join(dir, "leaf.pem"), leaf.CertPEM(), 0o600)
	testprogram.Need(t, "openssl")
	out, err := exec.Command("openssl", "verify", "-auth_level", "0", "-CAfile",
		filepath.Join(dir, "root.pem"), filepath.Join(dir, "leaf.pem")).CombinedOutput()
	if err != nil {
		t.Errorf("openssl does not verify the SHA-1 signature: %v: %s", err, out)
	}
}

func TestNames(t *testing.T) {
	root := testpki.NewRoot(t)
	if c := root.Issue(t, testpki.DNS("a.nhs.uk", "b.nhs.uk")).Cert; c.Subject.CommonName != "a.nhs.uk" || len(c.DNSNames) != 2 {
		t.Errorf("DNS: CN %q, SAN %q", c.Subject.CommonName, c.DNSNames)
	}
	if c := root.Issue(t, testpki.Name("a.nhs.uk"), testpki.NoSAN()).Cert; c.Subject.CommonName != "a.nhs.uk" || c.DNSNames != nil {
		t.Errorf("NoSAN: CN %q, SAN %q", c.Subject.CommonName, c.DNSNames)
	}
	if c := root.Issue(t, testpki.IP(net.IPv4(127, 0, 0, 1))).Cert; c.DNSNames != nil || len(c.IPAddresses) != 1 {
		t.Errorf("IP: SAN %q, %q", c.DNSNames, c.IPAddresses)
	}
	if c := root.Issue(t, testpki.Serial(big.NewInt(7)), testpki.CDP("http://crl.test/a.crl")).Cert; c.SerialNumber.Int64() != 7 || len(c.CRLDistributionPoints) != 1 {
		t.Errorf("Serial, CDP: %v, %q", c.SerialNumber, c.CRLDistributionPoints)
	}
}

func TestCRL(t *testing.T) {
	for _, kind := range []string{"rsa-2048", "ecdsa-p256"} {
		ca := testpki.NewRoot(t, testpki.KeyType(kind)).SubCA(t, testpki.KeyType(kind))
		for i := range 2 {
			list, err := x509.ParseRevocationList(ca.CRL(t, testpki.Revoke(big.NewInt(5), big.NewInt(6)),
				testpki.RevokeWith(big.NewInt(9), time.Now(), 1), testpki.IDP("http://crl.test/1.crl")))
			if err != nil {
				t.Fatal(err)
			}
			if err := list.CheckSignatureFrom(ca.Cert); err != nil {
				t.Error(err)
			}
			if n := len(list.RevokedCertificateEntries); n != 3 || list.RevokedCertificateEntries[2].ReasonCode != 1 {
				t.Errorf("%d entries: %v", n, list.RevokedCertificateEntries)
			}
			if list.Number.Int64() != int64(i+1) {
				t.Errorf("CRL number is %v, want %d", list.Number, i+1)
			}
		}
	}
}

func TestCRLDefects(t *testing.T) {
	ca := testpki.NewRoot(t)
	tests := map[string]struct {
		opt        testpki.CRLOption
		signature  bool
		extensions int
	}{
		"good":            {testpki.NoIDP(), true, 2},
		"sha-1":           {testpki.CRLSHA1(), true, 2},
		"bad signature":   {testpki.BadCRLSignature(), false, 2},
		"other key":       {testpki.CRLKey(testpki.NewKey(t, "ecdsa-p256")), false, 2},
		"no number":       {testpki.NoNumber(), true, 1},
		"no key id":       {testpki.NoAuthorityKeyID(), true, 1},
		"delta":           {testpki.Delta(), true, 3},
		"unknown":         {testpki.CriticalCRLExtension(asn1.ObjectIdentifier{1, 2, 3}), true, 3},
		"idp flags":       {testpki.IDPFlags(true, false, true, true), true, 3},
		"idp attribute":   {testpki.IDPOnlyAttribute(), true, 3},
		"no next update":  {testpki.NextUpdate(time.Time{}), true, 2},
		"far next update": {testpki.NextUpdate(time.Date(2051, 1, 1, 0, 0, 0, 0, time.UTC)), true, 2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			list, err := x509.ParseRevocationList(ca.CRL(t, tt.opt))
			if err != nil {
				t.Fatal(err)
			}
			if err := list.CheckSignatureFrom(ca.Cert); (err == nil) != tt.signature {
				t.Errorf("signature: %v, want ok = %v", err, tt.signature)
			}
			if len(list.Extensions) != tt.extensions {
				t.Errorf("%d extensions, want %d", len(list.Extensions), tt.extensions)
			}
		})
	}
}

func TestNewLargeCRL(t *testing.T) {
	const n = 70_000 // more than two length bytes
	ca := testpki.NewRoot(t)
	der := testpki.NewLargeCRL(t, ca, n)
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	if err := list.CheckSignatureFrom(ca.Cert); err != nil {
		t.Error(err)
	}
	for _, i := range []int{0, 1, n - 1} {
		if got := list.RevokedCertificateEntries[i].SerialNumber; got.Cmp(testpki.LargeCRLSerial(i)) != 0 {
			t.Errorf("entry %d has serial %x", i, got)
		}
	}
}

func TestCrossSign(t *testing.T) {
	a, b := testpki.NewRoot(t), testpki.NewRoot(t, testpki.Name("Other Root"))
	leaf := a.CrossSign(t, b).Issue(t)
	if err := verify(leaf, a); err != nil {
		t.Errorf("by the cross-signed path: %v", err)
	}
	leaf.Chain = nil
	if err := verify(leaf, b); err != nil {
		t.Errorf("by the other root itself: %v", err)
	}
}

func TestWriteFileMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b")
	testpki.WriteFile(t, path, []byte("x"), 0o666)
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o666 {
		t.Errorf("stat: %v, %v", info.Mode(), err)
	}
}

func BenchmarkNewLargeCRL(b *testing.B) {
	ca := testpki.NewRoot(b)
	for b.Loop() {
		testpki.NewLargeCRL(b, ca, 1_000_000)
	}
}
