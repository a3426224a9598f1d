package daemon

import (
	"crypto/sha256"
	"crypto/x509"
	"sync"

	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/trust"
)

// ends is when the certificates end that a slot serves, in Unix seconds; 0 where there
// is none of the kind, or its root is not known.
type ends struct{ leaf, subca, root float64 }

// rememberedEnds remembers them from one scrape to the next: they change with what the
// slot serves, and not before. The zero value is ready to use.
type rememberedEnds struct {
	mu    sync.Mutex
	slots map[*rotate.Slot]slotEnds
}

// slotEnds is a snapshot, nil for a slot that serves nothing, and what ends of it.
type slotEnds struct {
	snapshot *rotate.Snapshot
	ends
}

// look returns what each of the slots serves. These are all there are: what is remembered
// of others is forgotten.
func (r *rememberedEnds) look(slots []*rotate.Slot) []slotEnds {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.slots) > len(slots) {
		r.slots = nil // a reload took some away
	}
	if r.slots == nil {
		r.slots = make(map[*rotate.Slot]slotEnds, len(slots))
	}
	out, roots := make([]slotEnds, 0, len(slots)), rootLook{}
	for _, s := range slots {
		snap, known := s.Snapshot(), r.slots[s]
		if known.snapshot != snap {
			known = slotEnds{snap, endsOf(snap, roots)}
			r.slots[s] = known
		}
		out = append(out, known)
	}
	return out
}

func endsOf(snap *rotate.Snapshot, roots rootLook) ends {
	if snap == nil {
		return ends{}
	}
	id := snap.Generation.Identity
	last := id.Leaf()
	out := ends{leaf: seconds(last.NotAfter)}
	if chain := id.Chain(); len(chain) > 0 {
		end := chain[0].NotAfter
		for _, c := range chain {
			if c.NotAfter.Before(end) {
				end = c.NotAfter
			}
		}
		last = chain[len(chain)-1]
		out.subca = seconds(end)
	}
	if root := roots.of(last, snap.Trust.Bundle()); root != nil {
		out.root = seconds(root.NotAfter)
	}
	return out
}

// rootLook is which root of a bundle signed what slots serve: thousands of them have the
// same few issuers, and each signature would be verified again.
type rootLook map[issued]*x509.Certificate

// issued is the topmost certificate that a slot serves, in DER, and the digest of
// the bundle whose root is looked for.
type issued struct {
	certificate string
	bundle      [sha256.Size]byte
}

// of returns the root that signed c, or nil.
func (l rootLook) of(c *x509.Certificate, b *trust.Bundle) *x509.Certificate {
	digest := b.Digest()
	root, ok := l[issued{string(c.Raw), digest}] // copies nothing
	if !ok {
		root = rootOf(c, b)
		l[issued{string(c.Raw), digest}] = root
	}
	return root
}

func rootOf(c *x509.Certificate, b *trust.Bundle) *x509.Certificate {
	for _, root := range b.Roots() {
		if string(root.RawSubject) == string(c.RawIssuer) && root.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil {
			return root
		}
	}
	return nil
}
