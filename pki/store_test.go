package pki

import (
	"testing"

	"github.com/spinecert/spinecert/internal/testpki"
	"software.sslmate.com/src/go-pkcs12"
)

func TestStores(t *testing.T) {
	root := testpki.NewRoot(t)
	leaf := root.SubCA(t).Issue(t)
	id, err := NewIdentity(append(leaf.Chain, leaf.Cert), leaf.Key)
	if err != nil {
		t.Fatal(err)
	}
	quick := pkcs12.Modern2023.WithIterations(10) // the race detector makes more of them slow
	for _, password := range []string{"word", "pass wörd"} {
		data, err := encodePKCS12(quick, id, []byte(password))
		if err != nil {
			t.Fatal(err)
		}
		c, err := Parse(data, []byte(password))
		if err != nil || len(c.Keys) != 1 || len(c.Certificates) != 2 || !c.Certificates[0].Equal(leaf.Cert) {
			t.Fatalf("%q: came back as %+v, %v", password, c, err)
		}
		if _, err := Parse(data, []byte("other")); err == nil {
			t.Error("another password opens it")
		}
	}
	data, err := encodeTrustStore(quick, append(leaf.Chain, root.Cert), []byte("word"))
	if err != nil {
		t.Fatal(err)
	}
	if c, err := Parse(data, []byte("word")); err != nil || len(c.Keys) != 0 || len(c.Certificates) != 2 {
		t.Errorf("trust store came back as %+v, %v", c, err)
	}
	if _, err := encodePKCS12(quick, id, nil); err == nil || Hint(err) == "" {
		t.Errorf("no password: %v", err)
	}
	if _, err := encodeTrustStore(quick, leaf.Chain, nil); err == nil {
		t.Error("a trust store without a password")
	}
	if _, err := encodeTrustStore(quick, nil, []byte("word")); err == nil {
		t.Error("an empty trust store")
	}
	if _, err := encodePKCS12(quick, id, []byte("\U0001F511")); err == nil || Hint(err) == "" {
		t.Errorf("a password outside of the BMP: %v", err)
	}
}

// TestStoreIterations: the key, the certificates and the MAC are each worth the
// iterations of our own encoder, and we read what we write.
func TestStoreIterations(t *testing.T) {
	leaf := testpki.NewRoot(t).SubCA(t).Issue(t)
	id, err := NewIdentity(append(leaf.Chain, leaf.Cert), leaf.Key)
	if err != nil {
		t.Fatal(err)
	}
	data, err := EncodePKCS12(id, []byte("word"))
	if err != nil {
		t.Fatal(err)
	}
	n, ok := iterations(data)
	if !ok || n < 3*storeIterations || n > maxIterations {
		t.Errorf("%d iterations, %v", n, ok)
	}
}
