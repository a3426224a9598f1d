package pki_test

import (
	"testing"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
)

func TestStores(t *testing.T) {
	root := testpki.NewRoot(t)
	leaf := root.SubCA(t).Issue(t)
	id, err := pki.NewIdentity(append(leaf.Chain, leaf.Cert), leaf.Key)
	if err != nil {
		t.Fatal(err)
	}
	for _, password := range []string{"word", "pass wörd"} {
		data, err := pki.EncodePKCS12(id, []byte(password))
		if err != nil {
			t.Fatal(err)
		}
		c, err := pki.Parse(data, []byte(password))
		if err != nil || len(c.Keys) != 1 || len(c.Certificates) != 2 || !c.Certificates[0].Equal(leaf.Cert) {
			t.Fatalf("%q: came back as %+v, %v", password, c, err)
		}
		if _, err := pki.Parse(data, []byte("other")); err == nil {
			t.Error("another password opens it")
		}
	}
	data, err := pki.EncodeTrustStore(append(leaf.Chain, root.Cert), []byte("word"))
	if err != nil {
		t.Fatal(err)
	}
	if c, err := pki.Parse(data, []byte("word")); err != nil || len(c.Keys) != 0 || len(c.Certificates) != 2 {
		t.Errorf("trust store came back as %+v, %v", c, err)
	}
	if _, err := pki.EncodePKCS12(id, nil); err == nil || pki.Hint(err) == "" {
		t.Errorf("no password: %v", err)
	}
	if _, err := pki.EncodeTrustStore(leaf.Chain, nil); err == nil {
		t.Error("a trust store without a password")
	}
	if _, err := pki.EncodeTrustStore(nil, []byte("word")); err == nil {
		t.Error("an empty trust store")
	}
	if _, err := pki.EncodePKCS12(id, []byte("\U0001F511")); err == nil || pki.Hint(err) == "" {
		t.Errorf("a password outside of the BMP: %v", err)
	}
}
