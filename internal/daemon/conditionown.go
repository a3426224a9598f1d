package daemon

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/spinecert/spinecert/internal/condition"
	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/trust"
)

// ownFindings remembers what was found out about what slots serve, from one look to
// the next: it stays true as long as a slot has the same snapshot.
type ownFindings struct {
	last atomic.Pointer[map[*rotate.Snapshot]*finding]
}

// finding is what is wrong with one snapshot: nothing, mostly.
type finding struct {
	revoked  error
	weak, g1 string
}

// ownLook is one pass over all slots. It is for one goroutine.
type ownLook struct {
	known map[*rotate.Snapshot]*finding // not to be changed: other passes may read it
	used  map[*rotate.Snapshot]*finding
}

func (o *ownFindings) look(slots int) *ownLook {
	l := &ownLook{used: make(map[*rotate.Snapshot]*finding, slots)}
	if known := o.last.Load(); known != nil {
		l.known = *known
	}
	return l
}

func (o *ownFindings) keep(l *ownLook) { o.last.Store(&l.used) }

func (l *ownLook) of(snap *rotate.Snapshot, strength strength) *finding {
	f := l.known[snap]
	if f == nil {
		f = examine(snap, strength)
	}
	l.used[snap] = f
	return f
}

// ownConditions are what is wrong with what a slot serves, beside its dates.
func ownConditions(s *rotate.Slot, l *ownLook, strengths map[string]strength, add adder) {
	snap := s.Snapshot()
	if snap == nil {
		return
	}
	f := l.of(snap, strengths[s.Status().Config.Environment])
	c := condition.Condition{Kind: condition.Slot, Subject: s.Name()}
	if f.revoked != nil {
		c.Code, c.Severity, c.Message = condition.OwnCertificateRevoked, condition.Critical, "it serves what its issuer has withdrawn: "+f.revoked.Error()
		c.Hint = "peers refuse it: ask why, and for another certificate, on a new key"
		add(c, "")
	}
	if f.weak != "" {
		c.Code, c.Severity, c.Message, c.Hint = condition.WeakAlgorithm, condition.Warning, f.weak, "ask for a certificate on a larger key, signed with SHA-256"
		add(c, "")
	}
	if f.g1 != "" {
		c.Code, c.Severity, c.Message = condition.G1Chain, condition.Warning, "its chain ends in the first generation of NHS CAs: "+f.g1
		c.Hint = "ask for a G2 certificate; see the page on G1 and G2 in the manual"
		add(c, "")
	}
}

// examine judges what a snapshot serves.
func examine(snap *rotate.Snapshot, strength strength) *finding {
	f := &finding{}
	id := snap.Generation.Identity
	chain := id.Certificates()
	f.revoked = snap.Trust.Revoked(chain)
	top := chain[len(chain)-1]
	for _, root := range snap.Trust.Bundle().Roots() {
		if string(root.RawSubject) != string(top.RawIssuer) || root.Equal(top) {
			continue
		}
		f.revoked = cmp.Or(f.revoked, snap.Trust.Revoked([]*x509.Certificate{top, root}))
		f.g1 = cmp.Or(f.g1, firstGeneration(root))
	}
	for _, c := range chain {
		f.g1 = cmp.Or(f.g1, firstGeneration(c))
		if weak := weakness(c, strength); weak != "" && string(c.RawSubject) != string(c.RawIssuer) && f.weak == "" {
			f.weak = fmt.Sprintf("%q of its chain %s", clipName(c.Subject.CommonName), weak)
		}
	}
	return f
}

// firstGeneration names a CA of the NHS that is of G1.
func firstGeneration(c *x509.Certificate) string {
	if k, ok := trust.Known(c); ok && k.Generation == "G1" {
		return k.Name
	}
	return ""
}

// strength is what an environment asks of keys and signatures.
type strength struct {
	rsa, ec    int
	signatures []x509.SignatureAlgorithm // nil: every one that is not weak
}

func strengthOf(c rotate.EnvironmentConfig) strength {
	return strength{cmp.Or(c.MinRSABits, 2048), cmp.Or(c.MinECBits, 256), c.Signatures}
}

// weakness says why a certificate below the root would not be accepted, or "".
func weakness(c *x509.Certificate, s strength) string {
	switch c.SignatureAlgorithm {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1:
		return fmt.Sprintf("is signed with %s", c.SignatureAlgorithm)
	}
	if len(s.signatures) > 0 && !slices.Contains(s.signatures, c.SignatureAlgorithm) {
		return fmt.Sprintf("is signed with %s, which signature_algorithms does not have", c.SignatureAlgorithm)
	}
	switch k := c.PublicKey.(type) {
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < s.rsa {
			return fmt.Sprintf("has an RSA key of %d bits, less than %d", bits, s.rsa)
		}
	case *ecdsa.PublicKey:
		if bits := k.Curve.Params().BitSize; bits < s.ec {
			return fmt.Sprintf("has a key on a curve of %d bits, less than %d", bits, s.ec)
		}
	}
	return ""
}
