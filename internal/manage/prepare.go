package manage

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/rotate"
)

// byPrepare is who made a request that nobody asked for.
const byPrepare = "prepare"

// Prepare makes a request for each managed slot whose certificate ends within its
// prepare, and for one that had something to serve and has not any more, unless a
// request waits already. It may be called at any time, and again. A slot that never
// served anything is left alone: its first request is the operator's, as the name
// has to be registered first (SPINE.md, 4).
//
// What ends is the leaf or a CA of its chain, whichever is first. A certificate
// that ends no later than the one before it, because both are cut to the end of
// their CA, would be asked for again at once: then there is no request before half
// of its life is over.
//
// What fails is told once for each cause, and tried again at the next call; the
// error has all of it.
func (m *Manager) Prepare(ctx context.Context, now time.Time) error {
	var errs []error
	for _, slot := range m.c.Configuration().Slots {
		if slot.Managed == nil || slot.Managed.Prepare <= 0 {
			continue
		}
		if err := ctx.Err(); err != nil {
			return errors.Join(append(errs, err)...)
		}
		if !m.due(slot, now) {
			m.prepared(slot.Name, nil)
			continue
		}
		_, _, err := m.make(ctx, slot, Order{Slot: slot.Name, By: byPrepare, Reason: ReasonExpiring}, true)
		if err != nil && ctx.Err() == nil {
			err = fmt.Errorf("prepare a request for slot %q: %w", slot.Name, err)
			errs = append(errs, err)
		}
		m.prepared(slot.Name, err)
	}
	return errors.Join(errs...)
}

// prepared keeps how it went, and tells what is new of it.
func (m *Manager) prepared(slot string, err error) {
	cause := rootCause(err)
	m.mu.Lock()
	before := m.told[slot]
	if cause == "" {
		delete(m.told, slot)
	} else {
		m.told[slot] = cause
	}
	m.mu.Unlock()
	if cause != "" && cause != before {
		m.c.Tell(Event{Kind: PrepareFailed, Slot: slot, Err: err})
	}
}

// rootCause is the innermost message: those around it may name the new key, which
// is another one each time.
func rootCause(err error) string {
	text := ""
	for err != nil {
		text = err.Error()
		if all, ok := err.(interface{ Unwrap() []error }); ok && len(all.Unwrap()) > 0 {
			err = all.Unwrap()[0]
			continue
		}
		err = errors.Unwrap(err)
	}
	return text
}

// due reports whether a slot needs a request that is not there.
func (m *Manager) due(slot config.Slot, now time.Time) bool {
	r, ever := m.current(slot)
	if !ever || r.Number != 0 && now.Before(r.NotAfter.Add(-slot.Managed.Prepare)) {
		return false
	}
	if len(m.requestsOf(slot.Name)) > 0 {
		return false
	}
	return r.Number == 0 || !now.Before(m.halfway(slot, r))
}

// gain is how much later a renewed certificate must end to be worth asking for.
const gain = 24 * time.Hour

// halfway is zero where the generation in force brought a later end than the one
// before it, else when half of its time is over.
func (m *Manager) halfway(slot config.Slot, r rotate.Record) time.Time {
	history, err := m.c.Directory.History(slot.Name)
	if err != nil {
		return time.Time{}
	}
	for _, before := range history {
		if before.Number >= r.Number || before.Digest == r.Digest || before.Environment != slot.Environment || before.Origin == rotate.FromRollback {
			continue
		}
		if r.Origin == rotate.FromRollback || r.NotAfter.After(before.NotAfter.Add(gain)) {
			break
		}
		return r.Since.Add(r.NotAfter.Sub(r.Since) / 2)
	}
	return time.Time{}
}

// current returns what a slot has in force, and whether it ever had anything. The
// record is zero where it has nothing that can serve in its environment. What
// counts is what the slot serves; while that is nothing, what the disk holds.
func (m *Manager) current(slot config.Slot) (r rotate.Record, ever bool) {
	if g := m.serving(slot.Name); g != nil {
		r := rotate.Record{Number: g.Number, Environment: slot.Environment, Origin: g.Origin, Of: g.Of, Held: g.Held, Since: g.Since, NotAfter: g.NotAfter}
		_, _ = hex.Decode(r.Digest[:], []byte(g.Digest())) // it is hex of that length
		return r, true
	}
	r, err := m.c.Directory.Current(slot.Name)
	if err == nil && r.Number == 0 {
		return rotate.Record{}, false
	}
	if err == nil && r.Environment == slot.Environment {
		return r, true
	}
	if err != nil {
		// It is damaged. The Keeper falls back to the newest that is whole.
		history, _ := m.c.Directory.History(slot.Name)
		for _, h := range history {
			if h.Environment == slot.Environment {
				return h, true
			}
		}
	}
	return rotate.Record{}, true
}
