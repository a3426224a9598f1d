package testpki_test

import (
	"crypto/x509"
	"testing"

	"github.com/spinecert/spinecert/internal/testpki"
)

func TestVersion1(t *testing.T) {
	root := testpki.NewRoot(t)
	sub := root.SubCA(t)
	c, err := x509.ParseCertificate(testpki.Version1(t, sub.Cert.Raw, root))
	if err != nil {
		t.Fatal(err)
	}
	if c.Version != 1 || len(c.Extensions) != 0 || c.Subject.String() != sub.Cert.Subject.String() {
		t.Errorf("version %d, %d extensions, subject %s", c.Version, len(c.Extensions), c.Subject)
	}
	if err := root.Cert.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature); err != nil {
		t.Error(err)
	}
}
