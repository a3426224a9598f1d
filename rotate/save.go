package rotate

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/spinecert/spinecert/pki"
)

// save.go: what slots that read files serve is written to the Store in the
// background. It never holds up a rotation: the pointer is swapped first.

const (
	maxSaves     = 4 // at once; each may hang on a disk
	firstResave  = time.Second
	longestSaves = time.Minute
)

// unsavedState is what the run loop knows of a generation that the Store has not.
type unsavedState struct {
	running bool
	err     error
	since   time.Time
	next    time.Time
	retries int
}

// save has the Store keep what s serves, soon.
func (k *Keeper) save(s *Slot) {
	snap := s.snapshot.Load()
	if k.options.Store == nil || snap == nil || s.config.Keep == 0 || s.config.Managed && snap.Generation.Number <= s.stored.Load() {
		return // what a managed slot serves is there already, unless it read files or kept nothing before
	}
	s.unsaved.next, s.unsaved.retries = time.Time{}, 0
	k.unsaved[s] = true
}

// saveDue starts what is due to be saved.
func (k *Keeper) saveDue(ctx context.Context, now time.Time) {
	for s := range k.unsaved {
		if k.saving >= maxSaves {
			return
		}
		if s.unsaved.running || now.Before(s.unsaved.next) {
			continue
		}
		snap := s.snapshot.Load()
		if snap == nil {
			delete(k.unsaved, s)
			continue
		}
		g, keep := snap.Generation, s.config.Keep
		s.unsaved.running = true
		k.saving++
		go func() {
			err := s.keep(k.options.Store, keep, g.record(), g.Identity)
			var highest uint64
			if errors.Is(err, fs.ErrExist) { // others wrote there: a backup was put back
				highest = s.highest(k.options.Store)
			}
			// An error of call says that Run ends: it is saved after the next start.
			_ = k.call(ctx, func() { k.saved(s, g, highest, err) })
		}()
	}
}

// saved keeps the outcome of a save.
func (k *Keeper) saved(s *Slot, g *Generation, highest uint64, err error) {
	k.saving--
	if s.unit.removed {
		return
	}
	u, now := &s.unsaved, time.Now()
	u.running = false
	if snap := s.snapshot.Load(); snap != nil && snap.Generation == g && highest >= g.Number {
		next := *g
		s.number = max(s.number, highest) + 1
		next.Number = s.number
		s.swap(&next, snap.Trust, now)
		k.save(s)
	}
	if g.Number <= s.stored.Load() || s.config.Keep == 0 {
		err = nil // it has a newer one meanwhile, or is to have none
	}
	failed := u.err != nil
	u.err = err
	if err != nil {
		u.next = now.Add(min(firstResave<<min(u.retries, 10), longestSaves))
		u.retries++
		if !failed {
			u.since = now
			k.tell(Event{Kind: EventUnsaved, Slot: s.name, Environment: s.env.name, To: g, Reason: ReasonUnwritable, Err: err})
		}
	} else {
		u.retries, u.since = 0, time.Time{}
		if snap := s.snapshot.Load(); snap == nil || snap.Generation.Number == g.Number {
			delete(k.unsaved, s)
		}
		if failed {
			k.tell(Event{Kind: EventSaved, Slot: s.name, Environment: s.env.name, To: g})
		}
	}
	s.settled(k, s.unit.refusal, now)
}

// forgiven ends the trouble with saving s: the Store has what it serves, or is to
// have nothing.
func (k *Keeper) forgiven(s *Slot, g *Generation) {
	delete(k.unsaved, s)
	u := &s.unsaved
	if u.err != nil && s.config.Keep != 0 {
		k.tell(Event{Kind: EventSaved, Slot: s.name, Environment: s.env.name, To: g})
	}
	u.err, u.since, u.retries, u.next = nil, time.Time{}, 0, time.Time{}
}

// keep commits a generation to the store, unless it has a newer one. It notices
// when the store holds less than was written to it.
func (s *Slot) keep(store Store, keep int, r Record, id *pki.Identity) error {
	s.storing.Lock()
	defer s.storing.Unlock()
	stored := s.stored.Load()
	if r.Number <= stored {
		return nil
	}
	if stored > s.missed {
		if was, err := store.Current(s.name); err == nil && was.Number < stored {
			s.missed = stored // told once, however often Commit fails
			s.wentBack.Store(true)
		}
	}
	if err := store.Commit(s.name, r, id, keep); err != nil {
		return err
	}
	s.has(r.Number)
	return nil
}

// highest asks the store for the greatest number of the slot.
func (s *Slot) highest(store Store) uint64 {
	s.storing.Lock()
	defer s.storing.Unlock()
	was, _ := store.Current(s.name) // Highest is there with an error as well
	return was.Highest
}

// has notes that the store holds a generation. The run loop calls it as well, and
// must not wait for the store.
func (s *Slot) has(number uint64) {
	for {
		was := s.stored.Load()
		if number <= was || s.stored.CompareAndSwap(was, number) {
			return
		}
	}
}

// record is what a Store is told of a generation.
func (g *Generation) record() Record {
	return Record{Number: g.Number, Environment: g.environment, Origin: g.Origin, Of: g.Of, Held: g.Held, Digest: g.digest, Source: g.source,
		Left: g.left, LeftLeaf: g.leftLeaf, Since: g.Since, NotAfter: g.NotAfter}
}
