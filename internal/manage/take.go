package manage

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spinecert/spinecert/internal/state"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/trust"
)

// take keeps a candidate that was judged, in the turn of its slot, and offers it.
func (m *Manager) take(ctx context.Context, c candidate, o ImportOrder) (Imported, error) {
	var before *pki.Identity
	if !c.request.Answered.IsZero() {
		before, _ = m.kept(c.request) // what cannot be read may be replaced
	}
	if err := c.superseded(before, o.Allow, time.Now()); err != nil {
		return Imported{}, err
	}
	out := m.describe(c)
	if o.DryRun {
		if c.waits != nil {
			return m.waits(out, c, c.waits)
		}
		out.Outcome = Fits
		return out, nil
	}
	return m.offer(ctx, c, o, before, out)
}

// said prefers the words of Fit, which names what is missing.
func (c *candidate) said(err error) error {
	var v *trust.VerifyError
	if c.missing != nil && errors.As(c.missing, &v) && trust.ReasonOf(err) == v.Reason {
		return c.missing
	}
	return err
}

// offer keeps a candidate beside its request and offers it to the slot.
func (m *Manager) offer(ctx context.Context, c candidate, o ImportOrder, before *pki.Identity, out Imported) (Imported, error) {
	if err := m.keep(c.request, c.identity); err != nil {
		return Imported{}, fmt.Errorf("keep the answer to request %s: %w", c.request.ID, err)
	}
	// Together with the answer: whatever happens from here on, it is what is on the disk.
	rules := m.allow(c.request.ID, allowance{digest(c.identity), o.Allow})
	err := m.c.Keeper.Offer(ctx, c.slot.Name, c.identity, rotate.Order{Allow: o.Allow, Actor: o.Actor})
	switch {
	case err == nil:
		return m.taken(ctx, c, out)
	case !isRefusal(err):
		return out, err
	case WaitsFor(err) && c.request.ID != "":
		if err := m.yield(ctx, c); err != nil {
			out.Notes = append(out.Notes, fmt.Sprintf("what else waits for the slot could not be offered again, which is tried again within the hour: %v", err))
		}
		out, why := m.waits(out, c, err)
		m.c.Tell(Event{Kind: AnswerKept, Slot: c.slot.Name, Request: c.request.ID, Actor: o.Actor, Err: why})
		return out, why
	}
	// Refused for good. What waited before takes its place again.
	why := judged(Refused, c.said(err))
	undo := m.c.dropAnswer(c.request)
	if before != nil {
		undo = m.keep(c.request, before)
	}
	m.allow(c.request.ID, rules)
	m.refresh(c.slot.Name)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoPatience)
	defer cancel()
	if err := errors.Join(undo, m.offerWaiting(ctx, c.slot.Name, true)); err != nil {
		return Imported{}, &Error{Kind: Failed, Err: fmt.Errorf("%w; and then: %w", why, err), Advice: pki.Hint(why)}
	}
	return Imported{}, why
}

// yield gives the place of an answer that no root vouches for to another that waits
// for the slot.
func (m *Manager) yield(ctx context.Context, c candidate) error {
	if c.missing == nil || !slices.ContainsFunc(m.others(c), func(r state.Request) bool { return !r.Answered.IsZero() }) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoPatience)
	defer cancel()
	return m.offerWaiting(ctx, c.slot.Name, false)
}

// undoPatience bounds the way back from an answer that was refused.
const undoPatience = 10 * time.Second

// keep writes an answer beside its request. Without a request there is no place.
func (m *Manager) keep(r state.Request, id *pki.Identity) error {
	if r.ID == "" {
		return nil
	}
	chain := pki.EncodeCertificates(append([]*x509.Certificate{id.Leaf()}, id.Chain()...)...)
	if err := m.c.Directory.KeepAnswer(r.Slot, r.ID, chain); err != nil {
		return err
	}
	m.refresh(r.Slot)
	return nil
}

func (c Config) dropAnswer(r state.Request) error {
	if r.ID == "" {
		return nil
	}
	return c.Directory.DropAnswer(r.Slot, r.ID)
}

// taken ends the request of an answer that is in force.
func (m *Manager) taken(ctx context.Context, c candidate, out Imported) (Imported, error) {
	out.Outcome = Unchanged
	if g := m.serving(c.slot.Name); g != nil {
		out.To, out.Identity = g.Number, g.Identity
		if out.To != out.From {
			out.Outcome = InForce
		}
	}
	if err := m.settled(ctx, c.slot.Name); err != nil {
		out.Notes = append(out.Notes, fmt.Sprintf("it is in force, but its request could not be ended, which is tried again at the next start: %v", err))
	}
	out.Open = m.others(c)
	return out, nil
}

// others are the requests that a slot has besides.
func (m *Manager) others(c candidate) []state.Request {
	var out []state.Request
	for _, r := range m.requestsOf(c.slot.Name) {
		if r.ID != c.request.ID {
			out = append(out, r)
		}
	}
	return out
}

func (m *Manager) describe(c candidate) Imported {
	out := Imported{Slot: c.slot.Name, Environment: c.slot.Environment, Request: c.request.ID, Identity: c.identity, Where: c.fitted.Where,
		Notes: slices.Concat(c.doubts, c.fitted.Notes), Doubts: c.doubts, Added: map[string]bool{}, Open: m.others(c)}
	for _, ca := range c.fitted.Added {
		out.Added[pki.Fingerprint(ca)] = true
	}
	if c.fitted.Judged && c.fitted.Root != nil {
		out.Root = c.fitted.Root.Subject.String()
	}
	if g := m.serving(c.slot.Name); g != nil {
		out.From, out.To = g.Number, g.Number
		if root := m.rootOf(c.slot.Environment, g.Identity); root != nil && c.fitted.Root != nil && !root.Equal(c.fitted.Root) {
			out.Notes = append(out.Notes, fmt.Sprintf("its root is %s, and that of what serves was %s: peers that do not trust the new one refuse us from now on. Back: spinecert rollback %s",
				named(c.fitted.Root.Subject), named(root.Subject), c.slot.Name))
		}
	}
	return out
}

// rootOf is the root that an identity leads to by the trust of now, or nil.
func (m *Manager) rootOf(environment string, id *pki.Identity) *x509.Certificate {
	state := m.trustOf(environment)
	if state == nil {
		return nil
	}
	v, err := state.Verify(append([]*x509.Certificate{id.Leaf()}, id.Chain()...), trust.Request{Purpose: trust.AnyPurpose, Peers: trust.AnyName(),
		Revocation: trust.Off, NameFromCN: true, Now: time.Now()})
	if err != nil {
		return nil
	}
	return v.Chain[len(v.Chain)-1]
}

// waits says why an answer is not in force yet, and when it is tried again.
func (m *Manager) waits(out Imported, c candidate, err error) (Imported, error) {
	out.Outcome = Waits
	var r *rotate.Refusal
	var v *trust.VerifyError
	errors.As(err, &r) // it is one, or it would not wait
	switch r.Reason {
	case string(trust.NotYetValid):
		out.Again = "it comes into force by itself when it is valid"
		if errors.As(err, &v) && v.Certificate != nil {
			out.NotBefore = v.Certificate.NotBefore.UTC()
			out.Again = "it comes into force by itself on " + out.NotBefore.Format(time.RFC3339)
		}
	case string(trust.UnknownIssuer):
		out.Again = fmt.Sprintf("it is tried again when the trust of environment %s changes", c.slot.Environment)
	case rotate.ReasonNoTrust:
		out.Again = fmt.Sprintf("it is tried again when the trust of environment %s is there", c.slot.Environment)
	default:
		out.Again = "it is tried again by itself, every few minutes at least"
	}
	why := judged(Waiting, c.said(err))
	var e *Error
	if r.Reason == string(trust.UnknownIssuer) && errors.As(why, &e) && c.missing == nil {
		e.Advice = m.compare(c.slot.Environment, "add it: spinecert trust add FILE --environment "+c.slot.Environment)
	}
	return out, why
}
