package daemon

import (
	"crypto/sha256"
	"crypto/x509"
	"sync/atomic"

	"github.com/spinecert/spinecert/trust"
)

// roots remembers which root of a bundle signed what slots serve, from one scrape
// to the next: thousands of slots have the same few issuers, and each signature
// would be verified again.
type roots struct {
	last atomic.Pointer[map[issued]*x509.Certificate]
}

// issued is the topmost certificate that a slot serves, in DER, and the digest of
// the bundle whose root is looked for.
type issued struct {
	certificate string
	bundle      [sha256.Size]byte
}

// rootLook is one pass over all slots. It is for one goroutine.
type rootLook struct {
	known map[issued]*x509.Certificate // not to be changed: other passes may read it
	used  map[issued]*x509.Certificate
}

func (r *roots) look() *rootLook {
	l := &rootLook{used: map[issued]*x509.Certificate{}}
	if known := r.last.Load(); known != nil {
		l.known = *known
	}
	return l
}

// keep remembers what a pass came by, and no more: what no slot serves any longer
// is forgotten.
func (r *roots) keep(l *rootLook) { r.last.Store(&l.used) }

// of returns the root that signed c, or nil.
func (l *rootLook) of(c *x509.Certificate, b *trust.Bundle) *x509.Certificate {
	digest := b.Digest()
	root, ok := l.used[issued{string(c.Raw), digest}] // copies nothing
	if ok {
		return root
	}
	key := issued{string(c.Raw), digest}
	if root, ok = l.known[key]; !ok {
		root = rootOf(c, b)
	}
	l.used[key] = root
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
