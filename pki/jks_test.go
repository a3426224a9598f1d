package pki

import (
	"bytes"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/pavlo-v-chernykh/keystore-go/v4"

	"github.com/spinecert/spinecert/internal/testpki"
)

// TestJKS: leaf, chain and key are in one entry, in this order. Java itself reads
// one in the tests of internal/cli/consumers.
func TestJKS(t *testing.T) {
	leaf := testpki.NewRoot(t).SubCA(t).SubCA(t).Issue(t)
	id, err := NewIdentity(append(leaf.Chain, leaf.Cert), leaf.Key)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	data, err := EncodeJKS(id, []byte("secret"), now)
	if err != nil {
		t.Fatal(err)
	}
	store := keystore.New()
	if err := store.Load(bytes.NewReader(data), []byte("secret")); err != nil {
		t.Fatal(err)
	}
	entry, err := store.GetPrivateKeyEntry(jksAlias, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	var want, got []byte
	for _, c := range append([]*x509.Certificate{id.Leaf()}, id.Chain()...) {
		want = append(want, c.Raw...)
	}
	for _, c := range entry.CertificateChain {
		got = append(got, c.Content...)
	}
	if len(entry.CertificateChain) != 3 || !bytes.Equal(got, want) || !entry.CreationTime.Equal(now) {
		t.Errorf("%d certificates, made %s", len(entry.CertificateChain), entry.CreationTime)
	}
	if der, err := x509.MarshalPKCS8PrivateKey(leaf.Key); err != nil || !bytes.Equal(der, entry.PrivateKey) {
		t.Errorf("another key: %v", err)
	}
	if bytes.Contains(data, entry.PrivateKey[:32]) {
		t.Error("the key is in the clear")
	}
}

func TestJKSPasswords(t *testing.T) {
	leaf := testpki.NewRoot(t).SubCA(t).Issue(t)
	id, err := NewIdentity(append(leaf.Chain, leaf.Cert), leaf.Key)
	if err != nil {
		t.Fatal(err)
	}
	for password, want := range map[string]string{
		"": "without a password", "abcde": "less than 6 characters", "pass wörd": "Java does not take", "tab\tulator": "Java does not take", "sixsix": "",
	} {
		_, err := EncodeJKS(id, []byte(password), time.Now())
		switch {
		case want == "" && err != nil, want != "" && (err == nil || !strings.Contains(err.Error(), want) || Hint(err) == ""):
			t.Errorf("%q: %v", password, err)
		case err != nil && password != "" && strings.Contains(err.Error(), password):
			t.Errorf("the password is told: %v", err)
		}
	}
}
