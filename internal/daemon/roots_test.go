package daemon

import (
	"testing"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/trust"
)

func bundle(t *testing.T, cas ...*testpki.Authority) *trust.Bundle {
	t.Helper()
	var pem []byte
	for _, ca := range cas {
		pem = append(pem, ca.CertPEM()...)
	}
	b, err := trust.ParseBundle(trust.Source{Name: "trust.pem", Data: pem})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRootsAreRemembered: the root is found by signature and not by name, is another
// in another bundle, and is forgotten once nobody serves below it.
func TestRootsAreRemembered(t *testing.T) {
	t.Parallel()
	root, namesake := testpki.NewRoot(t, testpki.Name("Root")), testpki.NewRoot(t, testpki.Name("Root"))
	one, two := root.SubCA(t).Cert, namesake.SubCA(t).Cert
	both, second := bundle(t, root, namesake), bundle(t, namesake)
	var r roots
	for pass := range 3 { // from the second on from memory
		l := r.look()
		for range 2 {
			if got := l.of(one, both); got == nil || !got.Equal(root.Cert) {
				t.Errorf("pass %d: the root of the first is %v", pass, got)
			}
			if got := l.of(two, both); got == nil || !got.Equal(namesake.Cert) {
				t.Errorf("pass %d: the root of the second is %v", pass, got)
			}
			if got := l.of(one, second); got != nil {
				t.Errorf("pass %d: a bundle without its root has %v", pass, got.Subject)
			}
		}
		if len(l.used) != 3 || len(l.known) != min(pass, 1)*3 {
			t.Errorf("pass %d: %d used, %d known", pass, len(l.used), len(l.known))
		}
		r.keep(l)
	}
	l := r.look()
	l.of(two, both)
	r.keep(l)
	if l = r.look(); len(l.known) != 1 {
		t.Errorf("%d are remembered, want 1", len(l.known))
	}
}
