package pki_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
)

func itoa(n int) string { return strconv.Itoa(n) }

func fingerprints(certs []*x509.Certificate) []string {
	var out []string
	for _, c := range certs {
		out = append(out, pki.Fingerprint(c))
	}
	return out
}

func TestNewIdentity(t *testing.T) {
	root := testpki.NewRoot(t, testpki.KeyType("rsa-2048"))
	upper := root.SubCA(t, testpki.Name("Upper"))
	lower := upper.SubCA(t, testpki.Name("Lower"), testpki.KeyType("rsa-2048"))
	sha1 := lower.SubCA(t, testpki.Name("Old"), testpki.SHA1())
	leaf := lower.Issue(t, testpki.DNS("a.nhs.uk"))
	old := sha1.Issue(t, testpki.DNS("a.nhs.uk"), testpki.SHA1())
	crossed := testpki.NewRoot(t, testpki.Name("Other")).CrossSign(t, upper)
	tests := map[string]struct {
		leaf        *testpki.Leaf
		certs, want []*x509.Certificate
	}{
		"good leaf alone":       {leaf, certs(leaf.Cert), nil},
		"good ordered":          {leaf, certs(leaf.Cert, lower.Cert, upper.Cert), certs(lower.Cert, upper.Cert)},
		"good with root":        {leaf, certs(leaf.Cert, lower.Cert, upper.Cert, root.Cert), certs(lower.Cert, upper.Cert)},
		"good reversed":         {leaf, certs(root.Cert, upper.Cert, lower.Cert, leaf.Cert), certs(lower.Cert, upper.Cert)},
		"good twice":            {leaf, certs(leaf.Cert, lower.Cert, leaf.Cert, lower.Cert), certs(lower.Cert)},
		"good root only":        {leaf, certs(leaf.Cert, root.Cert), nil},
		"good without a middle": {leaf, certs(leaf.Cert, lower.Cert), certs(lower.Cert)},
		"good cross-signed":     {leaf, certs(crossed.Cert, leaf.Cert, lower.Cert, upper.Cert), certs(lower.Cert, crossed.Cert, upper.Cert)},
		"good sha-1":            {old, certs(lower.Cert, sha1.Cert, old.Cert), certs(sha1.Cert, lower.Cert)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			id, err := pki.NewIdentity(tt.certs, tt.leaf.Key)
			if err != nil {
				t.Fatal(err)
			}
			if id.Leaf() != tt.leaf.Cert || id.Signer() != tt.leaf.Key {
				t.Error("leaf or key is another")
			}
			if got, want := fingerprints(id.Chain()), fingerprints(tt.want); !slices.Equal(got, want) {
				t.Errorf("chain is %q, want %q", got, want)
			}
			var raw [][]byte
			for _, c := range append(certs(tt.leaf.Cert), tt.want...) {
				raw = append(raw, c.Raw)
			}
			if c := id.TLS(); c.Leaf != tt.leaf.Cert || !slices.EqualFunc(c.Certificate, raw, slices.Equal) || c != id.TLS() {
				t.Error("TLS() is not leaf and chain")
			}
		})
	}
}

func certs(c ...*x509.Certificate) []*x509.Certificate { return c }

func TestNewIdentityRefusals(t *testing.T) {
	root := testpki.NewRoot(t)
	sub, stranger := root.SubCA(t), root.SubCA(t, testpki.Name("Stranger CA"))
	leaf := sub.Issue(t, testpki.DNS("a.nhs.uk"))
	other := sub.Issue(t, testpki.DNS("b.nhs.uk"))
	rsaKey := testpki.NewKey(t, "rsa-2048")
	weak := sub.Issue(t, testpki.KeyType("rsa-1024"))
	again := sub.Issue(t, testpki.DNS("a.nhs.uk"), testpki.Key(leaf.Key))
	impostor := root.SubCA(t) // same name as sub, other key
	tests := map[string]struct {
		certs      []*x509.Certificate
		key        *testpki.Leaf
		want       []string
		incoherent bool
		mismatch   bool
	}{
		"bad nothing":        {nil, leaf, []string{"certificate is missing"}, true, false},
		"bad other key":      {certs(leaf.Cert, sub.Cert), other, []string{"key does not match certificate", "CN=a.nhs.uk", pki.Fingerprint(leaf.Cert), "ECDSA P-256"}, true, true},
		"bad other kind":     {certs(leaf.Cert), &testpki.Leaf{Key: rsaKey}, []string{"key does not match", "RSA 2048"}, true, true},
		"bad CA only":        {certs(sub.Cert), leaf, []string{"key does not match", "Test Authentication"}, true, true},
		"bad stranger":       {certs(leaf.Cert, sub.Cert, stranger.Cert), leaf, []string{"Stranger CA", pki.Fingerprint(stranger.Cert), "did not issue", "a.nhs.uk"}, true, false},
		"bad impostor":       {certs(leaf.Cert, impostor.Cert), leaf, []string{pki.Fingerprint(impostor.Cert), "did not issue"}, true, false},
		"bad other leaf":     {certs(leaf.Cert, sub.Cert, other.Cert), leaf, []string{"CN=b.nhs.uk", "did not issue"}, true, false},
		"bad two leaves":     {certs(leaf.Cert, again.Cert), leaf, []string{"two certificates", pki.Fingerprint(leaf.Cert), pki.Fingerprint(again.Cert)}, false, false},
		"bad weak key":       {certs(weak.Cert), weak, []string{"1024 bits"}, false, false},
		"bad nil":            {certs(nil), leaf, []string{"without a public key"}, false, false},
		"bad no key":         {certs(leaf.Cert), &testpki.Leaf{}, []string{"private key is missing"}, true, false},
		"bad issuer of leaf": {certs(leaf.Cert, leaf.Cert), &testpki.Leaf{Key: sub.Key}, []string{"key does not match"}, true, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := pki.NewIdentity(tt.certs, tt.key.Key)
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range append(tt.want, "build identity: ") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error does not say %q: %v", want, err)
				}
			}
			if errors.Is(err, pki.ErrIncoherent) != tt.incoherent || pki.Mismatch(err) != tt.mismatch {
				t.Errorf("incoherent %v, mismatch %v: %v", !tt.incoherent, pki.Mismatch(err), err)
			}
		})
	}
}

func TestNewIdentityTooMany(t *testing.T) {
	root := testpki.NewRoot(t)
	var many []*x509.Certificate
	for range 51 {
		many = append(many, root.Issue(t).Cert)
	}
	if _, err := pki.NewIdentity(many, testpki.NewKey(t, "ecdsa-p256")); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("got %v", err)
	}
}

func TestSelfSignedLeaf(t *testing.T) {
	self := testpki.NewRoot(t, testpki.DNS("a.nhs.uk"))
	id, err := pki.NewIdentity(certs(self.Cert), self.Key)
	if err != nil {
		t.Fatal(err)
	}
	if id.Leaf() != self.Cert || len(id.Chain()) != 0 {
		t.Error("a self-signed leaf lost itself")
	}
}

func TestIdentityIsImmutable(t *testing.T) {
	sub := testpki.NewRoot(t).SubCA(t)
	leaf := sub.Issue(t)
	given := certs(leaf.Cert, sub.Cert)
	id, err := pki.NewIdentity(given, leaf.Key)
	if err != nil {
		t.Fatal(err)
	}
	given[1] = nil
	id.Chain()[0] = nil
	if id.Chain()[0] != sub.Cert {
		t.Error("the chain can be changed from outside")
	}
	bare := id.WithChain(nil)
	if len(bare.Chain()) != 0 || len(bare.TLS().Certificate) != 1 || bare.Leaf() != leaf.Cert || bare.Signer() != leaf.Key {
		t.Error("WithChain(nil) is not the bare leaf")
	}
	if len(id.Chain()) != 1 || len(id.TLS().Certificate) != 2 {
		t.Error("WithChain changed the original")
	}
	if n := testing.AllocsPerRun(100, func() { _ = id.TLS() }); n != 0 {
		t.Errorf("TLS() allocates %v times", n)
	}
}

// BenchmarkStage is what one slot costs at start: key and certificates from PEM,
// and the match.
func BenchmarkStage(b *testing.B) {
	for _, kind := range []string{"rsa-2048", "rsa-4096", "ecdsa-p256"} {
		b.Run(kind, func(b *testing.B) {
			leaf := testpki.NewRoot(b, testpki.KeyType("rsa-4096")).SubCA(b, testpki.KeyType("rsa-2048")).Issue(b, testpki.KeyType(kind))
			certPEM, keyPEM := leaf.FullChainPEM(), leaf.KeyPEM()
			b.ReportAllocs()
			for b.Loop() {
				stage(b, certPEM, keyPEM)
			}
		})
	}
}

func stage(tb testing.TB, certPEM, keyPEM []byte) *tls.Certificate {
	tb.Helper()
	certs, err := pki.ParseCertificates(certPEM)
	if err != nil {
		tb.Fatal(err)
	}
	key, err := pki.ParseKey(keyPEM)
	if err != nil {
		tb.Fatal(err)
	}
	id, err := pki.NewIdentity(certs, key)
	if err != nil {
		tb.Fatal(err)
	}
	return id.TLS()
}
