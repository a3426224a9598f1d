package manage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spinecert/spinecert/internal/order"
	"github.com/spinecert/spinecert/internal/state"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
)

// waiting is an answer that waits beside its request.
type waiting struct {
	request  state.Request
	identity *pki.Identity
}

// answersOf returns the answers that wait for one slot, the one with the latest
// notBefore first. The error names those that cannot be read.
func (m *Manager) answersOf(slot string) ([]waiting, error) {
	var out []waiting
	var errs []error
	for _, r := range m.requestsOf(slot) {
		if r.Answered.IsZero() || m.held(r) {
			continue
		}
		id, err := m.kept(r)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, waiting{r, id})
	}
	order.Stable(out, func(a, b waiting) int {
		return b.identity.Leaf().NotBefore.Compare(a.identity.Leaf().NotBefore)
	})
	return out, errors.Join(errs...)
}

// kept returns the answer that waits with a request, joined with its key.
func (m *Manager) kept(r state.Request) (*pki.Identity, error) {
	certs, err := m.c.Directory.Answer(r.Slot, r.ID)
	if err != nil {
		return nil, err
	}
	key, err := m.c.Directory.RequestKey(r.Slot, r.ID)
	if err != nil {
		return nil, err
	}
	id, err := pki.NewIdentity(certs, key)
	if err != nil {
		return nil, fmt.Errorf("read answer of request %s: %w", r.ID, err)
	}
	return id, nil
}

// offerWaiting offers the answer that waits for a slot: of several the newest that
// can be in force now, else the newest that a root vouches for, else the newest. Those that are refused for good are
// dropped. Without any, and if withdraw is set, what was offered is withdrawn. The
// caller has the turn of the slot.
func (m *Manager) offerWaiting(ctx context.Context, slot string, withdraw bool) error {
	answers, err := m.answersOf(slot)
	errs := []error{err}
	for len(answers) > 0 {
		best := m.best(slot, answers)
		w := answers[best]
		answers = slices.Delete(answers, best, best+1)
		err := m.c.Keeper.Offer(ctx, slot, w.identity, rotate.Order{Allow: m.allowed(w.request.ID, w.identity)})
		switch {
		case err == nil:
			return errors.Join(append(errs, m.settled(ctx, slot))...)
		case WaitsFor(err):
			return errors.Join(errs...)
		case !isRefusal(err):
			return errors.Join(append(errs, err)...)
		}
		errs = append(errs, m.drop(w.request, judged(Refused, err)))
		withdraw = true
	}
	if withdraw {
		errs = append(errs, m.withdraw(ctx, slot))
	}
	return errors.Join(errs...)
}

// best is the place of the one to offer. Anybody can sign a certificate for the key
// of a request, and choose its dates: it must not stand before one that is genuine.
func (m *Manager) best(slot string, answers []waiting) int {
	s, _ := m.c.Configuration().Slot(slot)
	bundle, now := m.bundleOf(s.Environment), time.Now()
	best, found := 0, false
	for i, w := range answers {
		if m.c.Keeper.Preview(slot, w.identity, m.allowed(w.request.ID, w.identity), now) == nil {
			return i
		}
		if !found && vouched(w.identity, bundle, now) {
			best, found = i, true
		}
	}
	return best
}

func isRefusal(err error) bool {
	var r *rotate.Refusal
	return errors.As(err, &r)
}

// withdraw takes back what is offered to a slot.
func (m *Manager) withdraw(ctx context.Context, slot string) error {
	// A refusal is of what the slot serves, and not of this order.
	if err := m.c.Keeper.Offer(ctx, slot, nil, rotate.Order{}); err != nil && !isRefusal(err) {
		return err
	}
	return nil
}

// drop removes an answer that waited, and says why.
func (m *Manager) drop(r state.Request, why error) error {
	err := m.c.Directory.DropAnswer(r.Slot, r.ID)
	m.refresh(r.Slot)
	m.allow(r.ID, allowance{})
	if err == nil {
		m.c.Tell(Event{Kind: AnswerDropped, Slot: r.Slot, Request: r.ID, Err: why})
	}
	return err
}

// settled ends the request whose key is in force now, and offers what waits besides.
// The caller has the turn of the slot.
func (m *Manager) settled(ctx context.Context, slot string) error {
	if err := m.endInForce(slot); err != nil {
		return err // else its answer would be offered again
	}
	return m.offerWaiting(ctx, slot, false)
}

// Rotated ends the request whose key a slot has in force now, and offers other
// answers that wait for it. Call it when a slot serves a new generation, whoever
// caused that; never from an event of the Keeper, as it waits for the run loop.
func (m *Manager) Rotated(ctx context.Context, slot string) error {
	if len(m.requestsOf(slot)) == 0 {
		return nil
	}
	end, err := m.turn(ctx, slot)
	if err != nil {
		return err
	}
	defer end()
	return m.settled(ctx, slot)
}

// Restore takes up after a start what the state directory holds, once the Keeper
// has the plan: requests whose key is in force end, and answers that wait are
// offered again. It may be called at any time, and again. Slots that are not managed any more are left alone. The error
// names everything that could not be done; the rest was.
func (m *Manager) Restore(ctx context.Context) error {
	requests, err := m.Requests()
	errs := []error{err}
	done := map[string]bool{}
	for _, r := range requests {
		if slot, ok := m.c.Configuration().Slot(r.Slot); done[r.Slot] || !ok || slot.Managed == nil {
			continue
		}
		done[r.Slot] = true
		if err := m.Rotated(ctx, r.Slot); err != nil {
			errs = append(errs, fmt.Errorf("restore requests of slot %q: %w", r.Slot, err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}
