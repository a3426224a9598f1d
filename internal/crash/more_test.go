package crash

import (
	"context"
	"fmt"
	"time"

	"github.com/spinecert/spinecert/internal/manage"
	"github.com/spinecert/spinecert/internal/state"
	"github.com/spinecert/spinecert/internal/testpki"
)

// onceMore gets every managed slot a certificate: whatever happened in its life, it
// goes on, and what is too old goes.
func onceMore(ctx context.Context, l life, b *book, s *session) error {
	cas, err := readAuthorities(l.base)
	if err != nil {
		return err
	}
	for _, slot := range managedSlots {
		made, err := s.manager.NewRequest(ctx, manage.Order{Slot: slot.name, By: "uid 0"})
		if err != nil {
			return fmt.Errorf("going on: %w", err)
		}
		if err := finish(ctx, cas.of(slot.environment), made.Request, b, s); err != nil {
			return fmt.Errorf("going on: slot %s: %w", slot.name, err)
		}
		history, err := s.store.History(slot.name)
		if err == nil && len(history) > keptGenerations {
			err = fmt.Errorf("it keeps %d generations", len(history))
		}
		if err != nil {
			return fmt.Errorf("going on: slot %s: %w", slot.name, err)
		}
	}
	return nil
}

// finish imports a certificate for a request.
func finish(ctx context.Context, by authority, r state.Request, b *book, s *session) error {
	for {
		from, before := time.Now(), s.serving(r.Slot)
		leaf, err := by.issue(keyOf(r), r.FQDN, from, from.Add(365*24*time.Hour))
		if err != nil {
			return err
		}
		b.slots[r.Slot].may[nameOf(leaf)] = true
		done, err := s.manager.Import(ctx, manage.ImportOrder{Files: []manage.File{{Name: "answer.txt", Data: testpki.EncodeCerts(leaf)}}})
		if err == nil && done.Outcome != manage.InForce {
			err = fmt.Errorf("it is %s", done.Outcome)
		}
		if err == nil || s.serving(r.Slot) == before {
			return err
		} // else one that waited was faster, and is newer
	}
}
