package daemon

import (
	"testing"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/rotate"
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

// TestRootsAreFound: the root is found by signature and not by name, and is another in
// another bundle.
func TestRootsAreFound(t *testing.T) {
	t.Parallel()
	root, namesake := testpki.NewRoot(t, testpki.Name("Root")), testpki.NewRoot(t, testpki.Name("Root"))
	one, two := root.SubCA(t).Cert, namesake.SubCA(t).Cert
	both, second := bundle(t, root, namesake), bundle(t, namesake)
	l := rootLook{}
	for range 2 { // the second time from memory
		if got := l.of(one, both); got == nil || !got.Equal(root.Cert) {
			t.Errorf("the root of the first is %v", got)
		}
		if got := l.of(two, both); got == nil || !got.Equal(namesake.Cert) {
			t.Errorf("the root of the second is %v", got)
		}
		if got := l.of(one, second); got != nil {
			t.Errorf("a bundle without its root has %v", got.Subject)
		}
		if len(l) != 3 {
			t.Errorf("%d are remembered", len(l))
		}
	}
}

// TestEndsAreRemembered as long as a slot serves the same, and not once it has left.
func TestEndsAreRemembered(t *testing.T) {
	t.Parallel()
	d := newFleet(t, 2)
	slots := d.keeper.Slots()
	var r rememberedEnds
	first := r.look(slots)
	id := slots[0].Snapshot().Generation.Identity
	if want := (ends{seconds(id.Leaf().NotAfter), seconds(id.Chain()[0].NotAfter), first[0].root}); len(first) != 2 || first[0].ends != want || want.root <= want.subca-1 {
		t.Errorf("%+v, want %+v", first, want)
	}
	r.slots[slots[0]] = slotEnds{slots[0].Snapshot(), ends{1, 2, 3}}
	r.slots[slots[1]] = slotEnds{&rotate.Snapshot{}, ends{1, 2, 3}}
	switch again := r.look(slots); {
	case again[0].ends != ends{1, 2, 3}:
		t.Errorf("it was looked at again: %+v", again[0])
	case again[1] != first[1]:
		t.Errorf("what it served before is shown: %+v, want %+v", again[1], first[1])
	}
	if rest := r.look(slots[1:]); len(rest) != 1 || rest[0] != first[1] || len(r.slots) != 1 {
		t.Errorf("%+v, %d are remembered", rest, len(r.slots))
	}
}
