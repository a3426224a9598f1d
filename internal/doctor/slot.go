package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/condition"
	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/pki/lint"
	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/trust"
)

// slot is one slot, and what it serves.
type slot struct {
	Inside
	*rotate.Slot
	config config.Slot
	snap   *rotate.Snapshot // nil: nothing
}

func (in Inside) slot(s *rotate.Slot) slot {
	c, _ := in.Config.Slot(s.Name())
	return slot{in, s, c, s.Snapshot()}
}

// condition is the ID of one of the slot.
func (s slot) condition(code condition.Code, detail string) string {
	return condition.ID(code, condition.Slot, s.Name(), detail)
}

// nextHint is how a slot gets its next certificate.
func (s slot) nextHint() string {
	if s.Status().Config.Managed {
		return "ask for the next certificate now, unless a request waits already: spinecert csr new --slot " + s.Name()
	}
	return "ask for the next certificate now, and put it in place of the files; it is taken by itself"
}

// slotServes: there is an identity.
func slotServes(_ context.Context, s slot, r *report) {
	if s.snap != nil {
		return // slotDates says how it stands
	}
	st := s.Status()
	next := "put certificate and key where the configuration has them"
	if st.Config.Managed {
		next = "spinecert csr new --slot " + s.Name()
		for _, q := range s.Requests {
			if q.Slot == s.Name() {
				next = "request " + q.ID + " waits for its certificate: import what comes back"
			}
		}
	}
	used := slices.ContainsFunc(s.Tunnels, func(t Wired) bool { return t.Config.Slot == s.Name() })
	level := Warn
	if used || st.Refusal != nil {
		level = Fail
	}
	r.add(level, s.Name(), cmp.Or(hint(st.Refusal), next), fmt.Sprintf("slot %s has no identity: %s", s.Name(), said(st.Refusal, "none came yet")))
	r.as(refusalOf(s.Name(), st.Refusal))
}

// slotSource: what is served is what the source holds.
func slotSource(_ context.Context, s slot, r *report) {
	st := s.Status()
	if s.snap == nil {
		return
	}
	g := s.snap.Generation
	switch {
	case st.Refusal == nil && g.Held:
		r.warn(s.Name(), fmt.Sprintf("spinecert rotate %s --release", s.Name()), "slot %s was rolled back to generation %d, and takes nothing from its source", s.Name(), g.Of)
	case st.Refusal == nil:
	case st.Refusal.Pending:
		r.warn(s.Name(), cmp.Or(hint(st.Refusal), "complete the files; they are taken by themselves"), "slot %s serves generation %d; what its source holds now does not fit together: %s", s.Name(), g.Number, said(st.Refusal, ""))
	default:
		r.warn(s.Name(), cmp.Or(hint(st.Refusal), "mend the source; it is taken by itself"), "slot %s serves generation %d; what its source holds now is refused: %s", s.Name(), g.Number, said(st.Refusal, ""))
	}
	if st.Refusal != nil {
		r.as(refusalOf(s.Name(), st.Refusal))
	}
	if st.Unsaved != nil {
		r.warn(s.Name(), cmp.Or(pki.Hint(st.Unsaved), "make room, or give the state directory back to the user of the daemon"), "what slot %s serves is not on disk, and would not outlive a restart: %v", s.Name(), st.Unsaved)
		r.as(s.condition(condition.StateUnwritable, "unsaved"))
	}
}

// slotChain: our own certificate passes what we demand of others.
func slotChain(_ context.Context, s slot, r *report) {
	if s.snap == nil {
		return
	}
	id, state := s.snap.Generation.Identity, s.snap.Trust
	v, err := state.Verify(id.Certificates(), trust.Request{Peers: trust.AnyName(), Revocation: trust.Off, Now: s.Now})
	if err != nil {
		var refusal *trust.VerifyError
		next, tells := s.nextHint(), ""
		if errors.As(err, &refusal) {
			switch refusal.Reason {
			case trust.WrongEnvironment:
				next = "give the slot the environment that its certificate is of, or get a certificate of this one"
			case trust.WeakKey, trust.WeakSignature:
				tells = s.condition(condition.WeakAlgorithm, "")
			}
		}
		r.fail(s.Name(), next, "peers will refuse the certificate of slot %s: %v", s.Name(), err)
		r.as(tells)
		return
	}
	if err := state.Revoked(v.Chain); err != nil {
		r.fail(s.Name(), "ask for a certificate on a new key: peers that look at the CRL refuse this one", "the certificate of slot %s is revoked: %v", s.Name(), err)
		r.as(s.condition(condition.OwnCertificateRevoked, ""))
	}
	for _, c := range v.Chain {
		if k, ok := trust.Known(c); ok && k.Generation == "G1" {
			r.warn(s.Name(), "ask for a certificate of G2, see the page From G1 to G2 of the manual", "slot %s stands under %s of G1, which is withdrawn", s.Name(), k.Name)
			r.as(s.condition(condition.G1Chain, ""))
			break
		}
	}
}

// slotDates: how long it lasts.
func slotDates(_ context.Context, s slot, r *report) {
	if s.snap == nil {
		return
	}
	g := s.snap.Generation
	left := g.NotAfter.Sub(s.Now)
	who := strings.Join(slices.Concat(s.config.Affects.ODS, s.config.Affects.ASIDs), " ")
	if who != "" {
		who = "; affects " + who
	}
	level := s.lifeLevel(left)
	switch {
	case left <= 0:
		r.fail(s.Name(), s.nextHint(), "slot %s: its certificate or chain expired on %s%s", s.Name(), stamp(g.NotAfter), who)
	case level != OK:
		r.add(level, s.Name(), s.nextHint(), fmt.Sprintf("slot %s: its certificate or chain ends in %s, on %s%s", s.Name(), days(left), stamp(g.NotAfter), who))
	default:
		names, _ := g.Identity.Names()
		r.ok(s.Name(), "slot %s serves %s, generation %d, for %s, until %s", s.Name(), strings.Join(names, " "), g.Number, days(left), stamp(g.NotAfter))
	}
	r.as(s.condition(condition.Expiring, ""))
}

// slotNames: the certificate is for the name that the slot is for.
func slotNames(_ context.Context, s slot, r *report) {
	if s.snap == nil || s.config.FQDN == "" {
		return
	}
	have, source := s.snap.Generation.Identity.Names()
	if !slices.Contains(have, s.config.FQDN) {
		r.fail(s.Name(), "get a certificate for that name, or correct fqdn", "slot %s is for %s, and its certificate for %s", s.Name(), s.config.FQDN, strings.Join(have, " "))
		return
	}
	if e, _ := s.Config.Environment(s.Status().Config.Environment); source == pki.NameFromCN && e.Profile == string(trust.NHSG2) {
		r.warn(s.Name(), "ask for a certificate with the name in its SAN", "slot %s has its name in the CN alone; peers may not look there", s.Name())
	}
}

// slotRules: what Spine, or programs, refuse of a certificate.
func slotRules(_ context.Context, s slot, r *report) {
	if s.snap == nil {
		return
	}
	for _, f := range lint.Leaf(s.snap.Generation.Identity.Leaf()) {
		if f.Rule.Severity == lint.Error {
			r.warn(s.Name(), cmp.Or(f.Rule.Advice, "spinecert inspect --strict shows all"), "the certificate of slot %s breaks a rule: %s", s.Name(), f)
		}
	}
}

// slotRequests: what was asked for and has not come.
func slotRequests(_ context.Context, s slot, r *report) {
	for _, q := range s.Requests {
		if q.Slot != s.Name() {
			continue
		}
		switch {
		case q.State == admin.RequestAnswered:
			r.warn(s.Name(), cmp.Or(q.Hint, "spinecert csr list says for what it waits"), "the answer to request %s of slot %s is not in force yet: %s", q.ID, s.Name(), q.LastError)
		default:
			r.warn(s.Name(), "send it if that was not done (spinecert csr show --mail "+q.ID+"), or ask where it is", "request %s of slot %s waits for its certificate since %s", q.ID, s.Name(), stamp(q.Created))
		}
		r.as(s.condition(condition.RequestPending, q.ID))
	}
}
