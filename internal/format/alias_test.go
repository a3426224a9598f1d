package format_test

import (
	"crypto/x509"
	"strings"
	"testing"

	"github.com/spinecert/spinecert/internal/testpki"
)

// TestKeytoolSameName: Java keeps one entry of an alias; two CAs of one name, as after a
// change of key, have to be two entries.
func TestKeytoolSameName(t *testing.T) {
	t.Parallel()
	m := newMaterial(t)
	m.CAs = []*x509.Certificate{testpki.NewRoot(t, testpki.Name("A Root")).Cert, testpki.NewRoot(t, testpki.Name("a root")).Cert}
	got := program(t, m.write(t, "trust-pkcs12"), "keytool", "-list", "-keystore", "trust-pkcs12", "-storepass:file", "password")
	if !strings.Contains(got, "Your keystore contains 2 entries") {
		t.Error(got)
	}
}
