package daemon

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unique"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/trust"
)

// statusWithTimeline is status with the timeline of each slot: the generations that
// it served, the one that it serves, and what is coming.
func (d *Daemon) statusWithTimeline(ctx context.Context) admin.Status {
	s := d.status(ctx)
	d.addTimelines(ctx, &s, time.Now())
	return s
}

func (d *Daemon) addTimelines(ctx context.Context, s *admin.Status, now time.Time) {
	c := d.currentConfig()
	requests := make(map[string][]admin.Request, len(s.Requests)) // by slot, oldest first
	for _, r := range s.Requests {
		requests[r.Slot] = append(requests[r.Slot], r)
	}
	all := make([]wanted, 0, len(s.Slots))
	for i := range s.Slots {
		w := wanted{slot: s.Slots[i].Name, serving: s.Slots[i].Generation}
		for _, r := range requests[w.slot] {
			if r.State == admin.RequestAnswered {
				w.answers = append(w.answers, r)
			}
		}
		all = append(all, w)
	}
	limit := min(maxPast, max(1, maxAllPast/max(1, len(all))))
	d.memories.refresh(ctx, all, func(w wanted) ([]brief, map[string]answerMemory) { return d.readTimeline(c, w, limit) })
	for i := range s.Slots {
		s.Slots[i].Timeline = d.timeline(c, &s.Slots[i], requests[s.Slots[i].Name], limit, now)
	}
}

// readTimeline reads what the disk has of one timeline. What cannot be read is left out.
func (d *Daemon) readTimeline(c *config.Config, w wanted, limit int) (past []brief, answers map[string]answerMemory) {
	if c.State.KeepGenerations > 0 { // else what lies there is of another time, with the same numbers
		below := w.serving
		if below == 0 {
			below = math.MaxUint64
		}
		for _, o := range d.store.Outlines(w.slot, below, limit) {
			past = append(past, briefFrom(&o))
		}
	}
	answers = make(map[string]answerMemory, len(w.answers))
	for _, r := range w.answers {
		known := answerMemory{answered: r.Answered.Time}
		if time.Since(known.answered) < 2*time.Second {
			known.answered = time.Time{} // it is told by the second: another one may follow in this one
		}
		if certs, err := d.store.Answer(w.slot, r.ID); err == nil {
			known.brief = briefOfAnswer(certs, r.ID)
		}
		answers[r.ID] = known
	}
	return past, answers
}

func briefOfAnswer(certs []*x509.Certificate, request string) brief {
	i := slices.IndexFunc(certs, func(c *x509.Certificate) bool { return pki.RequestID(c.PublicKey) == request })
	if i < 0 {
		return brief{}
	}
	return briefOfLeaf(certs[i], certs)
}

// briefOfLeaf is what is remembered of a certificate that no slot serves yet.
func briefOfLeaf(leaf *x509.Certificate, chain []*x509.Certificate) brief {
	b := brief{origin: rotate.FromImport, environment: unique.Make(""), serial: leaf.SerialNumber.Text(16),
		notBefore: unixOf(leaf.NotBefore), notAfter: unixOf(leaf.NotAfter)}
	for _, c := range chain {
		b.notAfter = min(b.notAfter, unixOf(c.NotAfter))
	}
	_, _ = hex.Decode(b.sha256[:], []byte(pki.Fingerprint(leaf))) // it is hex of that length
	return b
}

// timeline puts together what is known of one slot, the oldest first.
func (d *Daemon) timeline(c *config.Config, of *admin.Slot, requests []admin.Request, limit int, now time.Time) []admin.Generation {
	slot := d.keeper.Slot(of.Name)
	if slot == nil {
		return nil // it is gone since
	}
	var serving *rotate.Generation
	var present brief // zero while it serves nothing
	if snap := slot.Snapshot(); snap != nil {
		serving = snap.Generation
		present = briefOf(serving, of.Environment)
	}
	past := d.memories.past(of.Name)
	out := served(of, serving, present, past, limit)
	for i := range requests {
		out = append(out, d.requested(&requests[i]))
	}
	if g, ok := candidateOf(slot.Status()); ok && !of.Managed {
		out = append(out, g)
	}
	if at, will := nextRequest(c, of.Name, serving, present, past, len(requests)); will {
		g := admin.Generation{State: admin.GenerationComing, Origin: string(rotate.FromImport), Asked: admin.Time{Time: at}, Note: "the next request, which is made by itself"}
		if !at.After(now) {
			g.Note = "the next request is due"
		}
		out = append(out, g)
	}
	return out
}

// served is the past and the present of a slot.
func served(of *admin.Slot, serving *rotate.Generation, present brief, past []brief, limit int) []admin.Generation {
	out := make([]admin.Generation, 0, len(past)+3)
	below := uint64(math.MaxUint64)
	if serving != nil {
		g := present.generation(admin.GenerationPresent)
		g.Note = presentNote(of, serving)
		below, limit, out = serving.Number, limit+1, append(out, g)
	}
	for i := range past {
		b := &past[i]
		if b.number >= below {
			continue
		}
		if len(out) == limit {
			break
		}
		g := b.generation(admin.GenerationPast)
		g.Note = pastNote(b, of.Environment)
		if last := len(out) - 1; last >= 0 && out[last].Number == b.number+1 { // else there may have been another between them
			g.To = out[last].From
		}
		out = append(out, g)
	}
	slices.Reverse(out)
	return out
}

func presentNote(of *admin.Slot, g *rotate.Generation) string {
	var notes []string
	if g.Origin == rotate.FromRollback {
		notes = append(notes, fmt.Sprintf("generation %d again", g.Of))
	}
	if g.Held {
		notes = append(notes, "held")
	}
	if of.Unsaved != "" {
		notes = append(notes, "not in the state directory")
	}
	return strings.Join(notes, ", ")
}

func pastNote(b *brief, environment string) string {
	var notes []string
	if b.origin == rotate.FromRollback {
		notes = append(notes, fmt.Sprintf("generation %d again", b.of))
	}
	if in := b.environment.Value(); in != environment {
		notes = append(notes, "in environment "+in)
	}
	return strings.Join(notes, ", ")
}

// requested is what a request is to become.
func (d *Daemon) requested(r *admin.Request) admin.Generation {
	g := admin.Generation{Note: "the request waits for its certificate"}
	if r.State == admin.RequestAnswered {
		if b, ok := d.memories.answer(r.ID); ok {
			g = b.generation(admin.GenerationComing)
		}
		g.Note = waitsNote(r.LastReason, r.Environment, g.NotBefore)
	}
	g.State, g.Origin, g.Asked, g.Request = admin.GenerationComing, string(rotate.FromImport), moment(unixOf(r.Created)), r.ID
	return g
}

// waitsNote says what a certificate waits for that is not in force yet.
func waitsNote(reason, environment string, notBefore admin.Time) string {
	switch reason {
	case "":
		return "is about to come into force"
	case string(trust.NotYetValid):
		if !notBefore.IsZero() {
			return "waits until it is valid, " + notBefore.UTC().Format(time.RFC3339)
		}
		return "waits until it is valid"
	case string(trust.UnknownIssuer):
		return "waits for its CA in the trust of " + environment
	case rotate.ReasonNoTrust:
		return "waits for the trust of " + environment
	case rotate.ReasonUnwritable:
		return "waits for the state directory"
	case "held":
		return "waits for the end of the hold"
	}
	return "waits: " + reason
}

// candidateOf is what the files of a slot hold that waits for its notBefore or for
// a CA, as far as its refusal tells it.
func candidateOf(st *rotate.SlotStatus) (admin.Generation, bool) {
	var v *trust.VerifyError
	if st.Refusal == nil || !errors.As(st.Refusal.Err, &v) || v.Certificate == nil || v.Reason != trust.NotYetValid && v.Reason != trust.UnknownIssuer {
		return admin.Generation{}, false
	}
	if st.Generation != nil && st.Generation.Identity.Leaf().Equal(v.Certificate) {
		return admin.Generation{}, false // it is about what serves
	}
	var g admin.Generation
	if v.Certificate.IsCA { // of the chain: the leaf is not known, only when that comes into force
		if v.Reason == trust.NotYetValid {
			g.NotBefore = moment(unixOf(v.Certificate.NotBefore))
		}
	} else {
		b := briefOfLeaf(v.Certificate, nil)
		g = b.generation(admin.GenerationComing)
	}
	g.State, g.Origin, g.Note = admin.GenerationComing, string(rotate.FromFiles), waitsNote(string(v.Reason), st.Config.Environment, g.NotBefore)
	return g, true
}

// renewalGain is how much later than the one before a certificate must end to be
// worth asking for early, see manage.Prepare.
const renewalGain = 24 * time.Hour

// nextRequest returns when the daemon will make the next request for a slot by itself,
// if it will. The rules are those of manage.Prepare.
func nextRequest(c *config.Config, name string, serving *rotate.Generation, present brief, past []brief, open int) (time.Time, bool) {
	slot, ok := c.Slot(name)
	if !ok || slot.Managed == nil || slot.Managed.Prepare <= 0 || serving == nil || open > 0 {
		return time.Time{}, false
	}
	at := serving.NotAfter.Add(-slot.Managed.Prepare)
	for i := range past {
		before := &past[i]
		if before.number >= present.number || before.digest == present.digest || before.environment != present.environment || before.origin == rotate.FromRollback {
			continue
		}
		if present.origin != rotate.FromRollback && present.notAfter <= before.notAfter+int64(renewalGain/time.Second) {
			if half := serving.Since.Add(serving.NotAfter.Sub(serving.Since) / 2); half.After(at) {
				at = half
			}
		}
		break
	}
	return at.UTC().Truncate(time.Second), true
}
