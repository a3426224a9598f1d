package manage

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/order"
	"github.com/spinecert/spinecert/internal/state"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/trust"
)

// Config says what a Manager works with.
type Config struct {
	Directory *state.Directory
	// Keeper keeps the slots, with Directory as its Store, and must be running. nil
	// is enough to make, list and cancel requests.
	Keeper *rotate.Keeper
	// Configuration returns the one that is in force.
	Configuration func() *config.Config
	// Tell is told what happened. It must not block. May be nil.
	Tell func(Event)
}

// EventKind says what happened.
type EventKind string

// The events.
const (
	RequestMade      EventKind = "request_made"
	RequestCancelled EventKind = "request_cancelled"
	AnswerKept       EventKind = "answer_kept"    // it fits, and waits beside its request; Err says what for
	AnswerDropped    EventKind = "answer_dropped" // one that waited is refused for good, with Err
	RequestEnded     EventKind = "request_ended"  // its key is in force
	PrepareFailed    EventKind = "prepare_failed" // a request could not be made by itself; told once for each cause
)

// Event is one thing that happened.
type Event struct {
	Kind    EventKind
	Slot    string
	Request string // its ID; "" with PrepareFailed
	Actor   any    // of the order; nil where nobody asked
	Err     error
}

// Manager runs the loop of all managed slots of one state directory. Make it with New.
type Manager struct {
	c Config

	mu     sync.Mutex // guards what follows; not held while anything is waited for but the disk
	turns  map[string]chan struct{}
	loaded time.Time                  // when the requests were read from the disk; zero: not yet
	broken error                      // what of them could not be read
	open   map[string][]state.Request // by slot, oldest first
	slotOf map[string]string          // by ID
	told   map[string]string          // by slot: the cause of PrepareFailed
	rules  map[string]allowance       // by ID of a request: what was allowed for the answer that waits

	judging func() // in tests: what others do once an answer is judged, before its turn
}

// allowance is the guard rules that were overridden for one answer, and no other.
type allowance struct {
	answer [sha256.Size]byte
	rules  []string
}

// reread is how long requests that could not be read are left alone.
const reread = time.Minute

// New returns a Manager. Nothing is read before the first call.
func New(c Config) *Manager {
	if c.Tell == nil {
		c.Tell = func(Event) {}
	}
	return &Manager{c: c, turns: map[string]chan struct{}{}, told: map[string]string{}, rules: map[string]allowance{}, judging: func() {}}
}

// turn waits until nobody else changes a slot. It is over with the function that
// is returned.
func (m *Manager) turn(ctx context.Context, slot string) (end func(), err error) {
	m.mu.Lock()
	t := m.turns[slot]
	if t == nil {
		t = make(chan struct{}, 1)
		m.turns[slot] = t
	}
	m.mu.Unlock()
	select {
	case t <- struct{}{}:
		return func() { <-t }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// load reads the requests from the disk, once: nobody else writes them.
func (m *Manager) load() {
	if !m.loaded.IsZero() && (m.broken == nil || time.Since(m.loaded) < reread) {
		return
	}
	all, err := m.c.Directory.Requests("")
	m.loaded, m.broken = time.Now(), err
	m.open, m.slotOf = map[string][]state.Request{}, make(map[string]string, len(all))
	for _, r := range all {
		m.add(r)
	}
}

func (m *Manager) add(r state.Request) {
	m.open[r.Slot] = append(slices.Clip(m.open[r.Slot]), r) // readers may have the old slice
	m.slotOf[r.ID] = r.Slot
}

// refresh reads the requests of one slot again, after a change.
func (m *Manager) refresh(slot string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.load()
	now, err := m.c.Directory.Requests(slot)
	if err != nil {
		m.loaded = time.Time{} // the next call reads everything, and keeps what is wrong
	}
	for _, r := range m.open[slot] {
		delete(m.slotOf, r.ID)
	}
	delete(m.open, slot)
	for _, r := range now {
		m.add(r)
	}
}

// requestsOf returns the requests of one slot that wait, oldest first. Do not
// modify the slice.
func (m *Manager) requestsOf(slot string) []state.Request {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.load()
	return m.open[slot]
}

// Unread says what of the requests that wait could not be read, nil if that is nothing.
func (m *Manager) Unread() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.load()
	return m.broken
}

// Requests returns the requests that wait, oldest first. The error names what lies
// beside them and cannot be read; the others are returned all the same.
func (m *Manager) Requests() ([]state.Request, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.load()
	out := make([]state.Request, 0, len(m.slotOf))
	for _, of := range m.open {
		out = append(out, of...)
	}
	order.Sort(out, func(a, b state.Request) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Slot, b.Slot), cmp.Compare(a.ID, b.ID))
	})
	return out, m.broken
}

func (m *Manager) find(id string) (state.Request, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.load()
	of := m.open[m.slotOf[id]]
	if i := slices.IndexFunc(of, func(r state.Request) bool { return r.ID == id }); i >= 0 {
		return of[i], true
	}
	return state.Request{}, false
}

// allowed returns the guard rules that are overridden for this answer to a request.
func (m *Manager) allowed(id string, answer *pki.Identity) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if a, ok := m.rules[id]; ok && a.answer == digest(answer) {
		return a.rules
	}
	return nil
}

// allow keeps them, and returns what was kept before; none forgets them.
func (m *Manager) allow(id string, a allowance) (before allowance) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before = m.rules[id]
	if len(a.rules) == 0 {
		delete(m.rules, id)
	} else {
		m.rules[id] = a
	}
	return before
}

// digest is that of the certificates of an identity.
func digest(id *pki.Identity) (out [sha256.Size]byte) {
	h := sha256.New()
	for _, c := range append([]*x509.Certificate{id.Leaf()}, id.Chain()...) {
		h.Write(c.Raw) // which says itself where it ends
	}
	h.Sum(out[:0])
	return out
}

// endRequest removes a request with its key. One that is gone is no error.
func (m *Manager) endRequest(r state.Request, kind EventKind, actor any) error {
	err := m.c.Directory.EndRequest(r.Slot, r.ID)
	gone := errors.Is(err, fs.ErrNotExist)
	if err != nil && !gone {
		return err
	}
	m.refresh(r.Slot)
	m.allow(r.ID, allowance{})
	if !gone {
		m.c.Tell(Event{Kind: kind, Slot: r.Slot, Request: r.ID, Actor: actor})
	}
	return nil
}

// managed returns a slot of the configuration that is managed.
func (m *Manager) managed(name string) (config.Slot, error) {
	s, ok := m.c.Configuration().Slot(name)
	if !ok {
		return s, unknown("see spinecert status for the slots there are", "there is no slot %q", name)
	}
	if s.Managed == nil {
		return s, usage("make the request with csr new --fqdn NAME --out DIR, or give the slot managed: in place of files:",
			"slot %q reads files: no requests are made for it", name)
	}
	return s, nil
}

// trustOf returns the trust state of an environment, or nil.
func (m *Manager) trustOf(environment string) *trust.State {
	for _, e := range m.c.Keeper.Environments() {
		if e.Name() == environment {
			return e.Trust()
		}
	}
	return nil
}

// serving returns what a slot serves, or nil.
func (m *Manager) serving(slot string) *rotate.Generation {
	if m.c.Keeper == nil {
		return nil
	}
	if s := m.c.Keeper.Slot(slot); s != nil {
		if snap := s.Snapshot(); snap != nil {
			return snap.Generation
		}
	}
	return nil
}

// endInForce ends the requests whose key the disk has in a generation. What memory
// serves is not asked: an older copy may have been put in the place of the disk's,
// and then the request has the only key.
func (m *Manager) endInForce(slot string) error {
	var errs []error
	for _, r := range m.requestsOf(slot) {
		kept, err := m.generated(r)
		if kept {
			err = m.endRequest(r, RequestEnded, nil)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// generated reports whether the disk has the key of a request in force, or had it
// until it was rolled back from. Other generations do not count: one that a crash
// left behind was never in force.
func (m *Manager) generated(request state.Request) (bool, error) {
	current, err := m.c.Directory.Current(request.Slot)
	if err != nil || current.Number == 0 {
		return false, nil //nolint:nilerr // then nothing is known to be in force: the request stays
	}
	numbers := []uint64{current.Number}
	if current.Held {
		records, err := m.c.Directory.History(request.Slot)
		if err != nil {
			return false, err
		}
		for _, r := range records {
			if r.Digest == current.Left && r.Number < current.Number {
				numbers = append(numbers, r.Number)
			}
		}
	}
	for _, number := range numbers {
		id, err := m.c.Directory.Load(request.Slot, number)
		if err == nil && pki.RequestID(id.Leaf().PublicKey) == request.ID {
			return true, nil
		}
	}
	return false, nil
}

// held reports whether an answer came before its slot was rolled back: then it
// waits until the hold ends, as files do that were there.
func (m *Manager) held(r state.Request) bool {
	g := m.serving(r.Slot)
	return g != nil && g.Held && r.Answered.Before(g.Since)
}

// Rollback puts an older generation of a slot in force again, see
// [rotate.Keeper.Rollback], while nothing else changes the slot.
func (m *Manager) Rollback(ctx context.Context, slot string, to uint64, actor any) error {
	end, err := m.turn(ctx, slot)
	if err != nil {
		return err
	}
	defer end()
	return m.c.Keeper.Rollback(ctx, slot, to, rotate.Order{Actor: actor})
}
