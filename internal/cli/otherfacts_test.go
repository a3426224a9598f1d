package cli

import (
	"crypto/x509"
	"testing"

	"github.com/spinecert/spinecert/internal/testpki"
)

func TestCRLHeader(t *testing.T) {
	root := testpki.NewRoot(t, testpki.Name("CRL Root"))
	for name, tt := range map[string]struct {
		der     []byte
		entries int
	}{
		"empty":       {root.CRL(t), 0},
		"one":         {root.CRL(t, testpki.Revoke(root.Cert.SerialNumber)), 1},
		"no number":   {root.CRL(t, testpki.NoNumber(), testpki.NoAuthorityKeyID()), 0},
		"above 1 MiB": {testpki.NewLargeCRL(t, root, 40_000), 40_000},
	} {
		header, n, err := crlHeader(tt.der)
		if err != nil || n != tt.entries || header.Issuer.String() != "CN=CRL Root" || header.NextUpdate.IsZero() {
			t.Errorf("%s: %d entries, %v, want %d", name, n, err, tt.entries)
		}
		if _, _, err := crlHeader(tt.der[:len(tt.der)-1]); err == nil {
			t.Errorf("%s: is read when cut short", name)
		}
	}
}

// FuzzCRLHeader has crypto/x509 as the oracle, which also reads some data that
// does not belong there.
func FuzzCRLHeader(f *testing.F) {
	root := testpki.NewRoot(f)
	f.Add(root.CRL(f))
	f.Add(root.CRL(f, testpki.Revoke(root.Cert.SerialNumber), testpki.NoNumber()))
	f.Fuzz(func(t *testing.T, der []byte) {
		header, n, err := crlHeader(der)
		oracle, oracleErr := x509.ParseRevocationList(der)
		if err != nil || oracleErr != nil {
			return
		}
		if n != len(oracle.RevokedCertificateEntries) || header.Issuer.String() != oracle.Issuer.String() || !header.NextUpdate.Equal(oracle.NextUpdate) {
			t.Errorf("%d entries of %s, want %d of %s", n, header.Issuer, len(oracle.RevokedCertificateEntries), oracle.Issuer)
		}
	})
}
