package daemon

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/condition"
	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/tunnel"
	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/trust"
)

// refusedLately is how long a refused peer stands for those that will be refused as well.
const refusedLately = 24 * time.Hour

// crlNeed is which lists the tunnels of an environment cannot do without. A bundle may
// hold CAs that nobody uses any more: what counts is what we serve, whose issuer our
// peers mostly have too, and whom a list was missing for. The zero value needs nothing.
type crlNeed struct {
	mode    trust.Mode // the strictest with which a tunnel judges; "" where none looks at lists
	cas     []usedCA
	refused []admin.Refusal
}

// usedCA is a CA whose certificates are shown, with the chain to its root.
type usedCA struct {
	chain []*x509.Certificate // the CA first
	leaf  *x509.Certificate   // ours that it issued; nil for a CA of a peer that was refused
}

func tunnelsOf(live []*liveTunnel) []config.Tunnel {
	out := make([]config.Tunnel, 0, len(live))
	for _, t := range live {
		out = append(out, t.config)
	}
	return out
}

// refusedForLists are the refusals of the last day for want of a list.
func (d *Daemon) refusedForLists(now time.Time) []admin.Refusal {
	var out []admin.Refusal
	for _, r := range d.recent.list() {
		if now.Sub(r.Last) > refusedLately || r.Result != string(tunnel.Refused) && r.Result != resultCut {
			continue
		}
		if r.Reason == string(trust.CRLUnavailable) || r.Reason == string(trust.NoCRLAddress) {
			out = append(out, r)
		}
	}
	return out
}

// needOf returns what tunnels need of an environment.
func needOf(k *rotate.Keeper, e *rotate.Environment, tunnels []config.Tunnel, refused []admin.Refusal) *crlNeed {
	n := &crlNeed{}
	state := e.Trust()
	if state == nil {
		return n
	}
	for _, t := range tunnels {
		s := k.Slot(t.Slot)
		if s == nil || s.Status().Config.Environment != e.Name() || t.Revocation == string(trust.Off) {
			continue
		}
		if t.Revocation == string(trust.Require) && !t.Audit {
			n.mode = trust.Require
		}
		n.mode = cmp.Or(n.mode, trust.Prefer)
		if snap := s.Snapshot(); snap != nil {
			certs := snap.Generation.Identity.Certificates()
			n.use(chainOf(state.Bundle(), certs[0], certs[1:]), certs[0])
		}
		for _, r := range refused {
			if r.Tunnel != t.Name {
				continue
			}
			n.refused = append(n.refused, r)
			for _, ca := range state.Bundle().SubCAs() {
				if cmp.Or(clipName(ca.Subject.CommonName), clipName(ca.Subject.String())) == r.Issuer {
					n.use(append([]*x509.Certificate{ca}, chainOf(state.Bundle(), ca, nil)...), nil)
				}
			}
		}
	}
	return n
}

// use notes a CA, once.
func (n *crlNeed) use(chain []*x509.Certificate, leaf *x509.Certificate) {
	if len(chain) == 0 {
		return
	}
	for i := range n.cas {
		if n.cas[i].chain[0].Equal(chain[0]) {
			n.cas[i].leaf = cmp.Or(n.cas[i].leaf, leaf)
			return
		}
	}
	n.cas = append(n.cas, usedCA{chain, leaf})
}

// chainOf returns the CAs above c, its issuer first, to a root of the bundle; nil where
// there is no way to one.
func chainOf(b *trust.Bundle, c *x509.Certificate, shown []*x509.Certificate) []*x509.Certificate {
	var out []*x509.Certificate
	for len(out) < 8 { // more CAs than any chain has that is accepted
		if i := slices.IndexFunc(b.Roots(), func(r *x509.Certificate) bool { return signs(r, c) }); i >= 0 {
			return append(out, b.Roots()[i])
		}
		above := slices.Concat(shown, b.SubCAs())
		i := slices.IndexFunc(above, func(ca *x509.Certificate) bool { return signs(ca, c) && !ca.Equal(c) })
		if i < 0 {
			return nil
		}
		c = above[i]
		out = append(out, c)
	}
	return nil
}

// signs goes by names and key identifiers: what is asked about was judged before.
func signs(ca, c *x509.Certificate) bool {
	return bytes.Equal(ca.RawSubject, c.RawIssuer) && (len(ca.SubjectKeyId) == 0 || len(c.AuthorityKeyId) == 0 || bytes.Equal(ca.SubjectKeyId, c.AuthorityKeyId))
}

// anyList reports whether a list may hold what ca issued to others than CAs. Which of
// several partitions a peer needs is not known, and of one that ended staleCRL tells.
func anyList(state *trust.State, ca *x509.Certificate) bool {
	return slices.ContainsFunc(state.CRLs(), func(crl *trust.CRL) bool {
		return bytes.Equal(crl.Issuer(), ca.RawSubject) && !crl.Scope().OnlyCA
	})
}

// names reports whether peers need the list of an address: a CA in use names it, our
// own certificate does and its issuer has no other, or a peer was refused for it.
func (n *crlNeed) names(state *trust.State, address string) bool {
	for _, u := range n.cas {
		for _, ca := range u.chain {
			if slices.Contains(trust.CRLAddresses(ca), address) {
				return true
			}
		}
		if u.leaf != nil && slices.Contains(trust.CRLAddresses(u.leaf), address) && !anyList(state, u.chain[0]) {
			return true
		}
	}
	return slices.ContainsFunc(n.refused, func(r admin.Refusal) bool { return slices.Contains(addressesIn(r.Message), address) })
}

// addressesIn returns the addresses at the end of the sentence of a refusal, which is
// all that is remembered of a peer. One that was clipped is left out.
func addressesIn(message string) []string {
	i := strings.LastIndex(message, " (")
	if i < 0 || !strings.HasSuffix(message, ")") {
		return nil
	}
	var out []string
	for _, a := range strings.Split(message[i+2:len(message)-1], ", ") {
		if strings.HasPrefix(strings.ToLower(a), "http://") && !strings.HasSuffix(a, "...") {
			out = append(out, a)
		}
	}
	return out
}

// lackingList is a list that peers need, that is not in force and that nobody asks for.
type lackingList struct {
	issuer    string   // of the list
	of        string   // whom it would cover
	addresses []string // that certificates name
	nowhere   bool     // the certificates to be covered name none, so nothing is to be fetched
	why       error    // they may not be asked; nil if crl.hosts is empty
}

// lacking returns the lists that peers need and nobody gets. What was asked for in
// vain is told for its address, see missingCRL; what is about to be is not missing yet.
func (n *crlNeed) lacking(state *trust.State, asked map[string]*rotate.CRLStatus, fetching bool, now time.Time) []lackingList {
	if n.mode == "" {
		return nil
	}
	var out []lackingList
	told := map[string]bool{}
	add := func(l lackingList) {
		if key := l.issuer + "\n" + l.of; !told[key] {
			told[key] = true
			out = append(out, l)
		}
		for _, a := range l.addresses {
			told[a] = true
		}
	}
	for _, l := range n.uncovered(state, now) {
		if why, ok := unasked(l.addresses, asked, fetching); ok || l.nowhere {
			l.why = why
			add(l)
		}
	}
	for _, r := range n.refused {
		for _, a := range addressesIn(r.Message) {
			// Where lists are fetched, one that a peer alone names is known only if it may be.
			if l := asked[a]; told[a] || state.CoversAddress(a) || l != nil && l.Err == nil || l != nil && l.Failures > 0 {
				continue
			}
			l := lackingList{issuer: r.Issuer, of: "peers of its partition", addresses: []string{a}}
			if fetching {
				l.why = errNotAsked
			}
			add(l)
		}
	}
	return out
}

// uncovered returns what CAs in use lack, whether or not it will be fetched.
func (n *crlNeed) uncovered(state *trust.State, now time.Time) []lackingList {
	var out []lackingList
	for _, u := range n.cas {
		ca := u.chain[0]
		if !anyList(state, ca) {
			l := lackingList{issuer: clipName(ca.Subject.CommonName), of: "what it issued"}
			if u.leaf != nil {
				l.addresses = trust.CRLAddresses(u.leaf)
			}
			for _, r := range n.refused {
				switch {
				case r.Issuer != l.issuer:
				case r.Reason == string(trust.NoCRLAddress):
					l.nowhere = len(l.addresses) == 0
				case u.leaf == nil:
					l.addresses = append(l.addresses, addressesIn(r.Message)...)
				}
			}
			out = append(out, l)
		}
		for _, err := range state.Uncovered(u.chain, now) {
			if err.Reason == trust.CRLUnavailable || err.Reason == trust.NoCRLAddress {
				out = append(out, lackingList{issuer: clipName(err.Certificate.Issuer.CommonName),
					of: fmt.Sprintf("CA %q", clipName(err.Certificate.Subject.CommonName)), addresses: trust.CRLAddresses(err.Certificate), nowhere: err.Reason == trust.NoCRLAddress})
			}
		}
	}
	return out
}

var errNotAsked = errors.New("crl.hosts does not have its host")

// unasked reports whether none of the addresses is asked, and why.
func unasked(addresses []string, asked map[string]*rotate.CRLStatus, fetching bool) (why error, ok bool) {
	if !fetching {
		return nil, true
	}
	if len(addresses) == 0 {
		return nil, false // a peer may name one; its refusal tells
	}
	for _, a := range addresses {
		l := asked[a]
		if l == nil || l.Err == nil || l.Failures > 0 {
			return nil, false
		}
		why = l.Err
	}
	return why, true
}

func (l lackingList) condition(n *crlNeed) staleList {
	s := staleList{key: l.issuer + "\n" + l.of, severity: condition.Warning, hint: "name its host in crl.hosts, or put a current list into crl.files; on a host without a route, carry one here: spinecert trust crl FILE; spinecert doctor tries the ways"}
	what := "are accepted unchecked"
	if n.mode == trust.Require {
		s.severity, what = condition.Critical, "are refused"
	}
	s.text = fmt.Sprintf("no current CRL of %q covers %s: peers that need it %s", l.issuer, l.of, what)
	if len(l.addresses) > 0 {
		s.text += "; nothing fetches " + clipName(strings.Join(l.addresses, ", "))
	} else {
		s.text += "; no address of it is known"
	}
	if l.why != nil {
		s.text += ": " + clipName(oneLine(l.why))
	} else if len(l.addresses) > 0 {
		s.text += ": crl.hosts is empty"
	}
	return s
}
