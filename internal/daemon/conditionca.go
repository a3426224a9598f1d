package daemon

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/spinecert/spinecert/internal/condition"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/trust"
)

// caCritical is how long before its end a CA is urgent that somebody stands under.
const caCritical = 30 * 24 * time.Hour

// caConditions tell which CAs of an environment end, or have ended. One that has ended is
// not over with its last day: it is what stops those under it. Many keep an old one beside
// its successor, and of that nobody has to hear.
func (d *Daemon) caConditions(e *rotate.Environment, lives []time.Duration, slots []*rotate.Slot, now time.Time, add adder) {
	state := e.Trust()
	if state == nil {
		return
	}
	b := state.Bundle()
	var under *hanging
	for _, ca := range b.Certificates() {
		left := ca.NotAfter.Sub(now)
		if left > lives[0] {
			continue
		}
		if under == nil {
			under = d.hangingUnder(e.Name(), slots)
		}
		nSlots, nPeers := under.count(ca)
		used := nSlots+nPeers > 0
		if left <= 0 && !used && (under.slots == 0 || succeeded(b, ca, now)) {
			continue
		}
		c := condition.Condition{Code: condition.CAExpiring, Kind: condition.Environment, Subject: e.Name(), Severity: condition.Warning, Since: ca.NotAfter.Add(-lives[0]),
			Message: fmt.Sprintf("CA %q of %q %s", clipName(ca.Subject.CommonName), b.File(ca), ended(ca.NotAfter, left)) + aboveText(nSlots, nPeers),
			Hint:    "add its successor to the trust files before that: spinecert trust list, spinecert trust fetch", Steps: steps(ca.NotAfter, lives)}
		switch {
		case left > 0:
			c.Ends = condition.Moment{Time: ca.NotAfter}
			if used && left <= caCritical {
				c.Severity = condition.Critical
			}
		case used:
			c.Severity, c.Hint = condition.Critical, "what it issued is refused: add its successor to the trust files (spinecert trust list, spinecert trust fetch)"
		default:
			c.Message += ", and the trust files have no successor of its name"
			c.Hint = "peers under it are refused: add its successor to the trust files (spinecert trust list, spinecert trust fetch), or take it out if it has no peers"
		}
		add(c, pki.Fingerprint(ca)[:8])
	}
}

func ended(end time.Time, left time.Duration) string {
	if left <= 0 {
		return "ended on " + day(end)
	}
	return "ends on " + day(end)
}

func aboveText(slots, peers int) string {
	if slots+peers == 0 {
		return ""
	}
	return fmt.Sprintf(", above %d slots and %d peers that were seen", slots, peers)
}

// succeeded reports whether another CA of the same name has not ended.
func succeeded(b *trust.Bundle, ca *x509.Certificate, now time.Time) bool {
	return slices.ContainsFunc(b.Certificates(), func(other *x509.Certificate) bool {
		return bytes.Equal(other.RawSubject, ca.RawSubject) && other.NotAfter.After(now)
	})
}

// hanging is who stands under the CAs of an environment.
type hanging struct {
	slots  int // of the environment, whatever they serve
	chains [][]*x509.Certificate
	peers  map[string]int // by fingerprint of a CA
}

func (d *Daemon) hangingUnder(environment string, slots []*rotate.Slot) *hanging {
	u := &hanging{peers: map[string]int{}}
	for _, s := range slots {
		if s.Status().Config.Environment != environment {
			continue
		}
		u.slots++
		if snap := s.Snapshot(); snap != nil {
			u.chains = append(u.chains, snap.Generation.Identity.Certificates())
		}
	}
	for _, p := range d.seen.of(environment) {
		for _, ca := range p.CAs {
			u.peers[ca]++
		}
	}
	return u
}

// count returns how many slots and peers are under a CA.
func (u *hanging) count(ca *x509.Certificate) (slots, peers int) {
	for _, chain := range u.chains {
		if slices.ContainsFunc(chain, func(c *x509.Certificate) bool { return signs(ca, c) || c.Equal(ca) }) {
			slots++
		}
	}
	return slots, u.peers[pki.Fingerprint(ca)]
}
