package rotate

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
)

// memStore is a Store in memory that keeps the rules of one on disk, and fails the
// test when a keeper breaks those of a Store.
type memStore struct {
	t *testing.T

	mu      sync.Mutex
	slots   map[string]*memSlot
	fault   map[string]error         // by operation: it fails, and nothing has changed
	gates   map[string]chan struct{} // by operation: it hangs until the gate is open
	serving func(slot string) uint64 // the number of what a slot serves, or 0
	commits []memCommit
	busy    map[string]string // by slot: the operation that runs
	waiting int               // operations that hang at a gate
	calls   map[string]int
}

type memSlot struct {
	current uint64
	damage  error // of current
	kept    map[uint64]memGeneration
}

type memGeneration struct {
	record   Record
	identity *pki.Identity
	broken   bool // cannot be loaded
	torn     bool // a directory that is not whole: it has a number and nothing else
}

// memCommit is one Commit that worked, and what the slot served meanwhile.
type memCommit struct {
	Record
	slot    string
	keep    int
	serving uint64
}

func newStore(t *testing.T) *memStore {
	return &memStore{t: t, slots: map[string]*memSlot{}, fault: map[string]error{}, gates: map[string]chan struct{}{},
		busy: map[string]string{}, calls: map[string]int{}, serving: func(string) uint64 { return 0 }}
}

// begin notes the operation, waits at its gate and returns its fault. end must be called.
func (m *memStore) begin(op, slot string) (s *memSlot, err error) {
	m.mu.Lock()
	m.calls[op]++
	if other := m.busy[slot]; other != "" {
		m.t.Errorf("store: %s of slot %q while %s runs", op, slot, other)
	}
	m.busy[slot] = op
	if gate := m.gates[op]; gate != nil {
		m.waiting++
		m.mu.Unlock()
		<-gate
		m.mu.Lock()
		m.waiting--
	}
	if m.slots[slot] == nil {
		m.slots[slot] = &memSlot{kept: map[uint64]memGeneration{}}
	}
	return m.slots[slot], m.fault[op]
}

func (m *memStore) end(slot string) {
	m.busy[slot] = ""
	m.mu.Unlock()
}

func (s *memSlot) highest() uint64 {
	h := s.current
	for n := range s.kept {
		h = max(h, n)
	}
	return h
}

func (m *memStore) Current(slot string) (Record, error) {
	s, err := m.begin("current", slot)
	defer m.end(slot)
	if err != nil {
		return Record{}, err
	}
	g, ok := s.kept[s.current]
	if s.damage == nil && s.current != 0 && (!ok || g.torn) {
		return Record{Highest: s.highest()}, errors.New("current leads nowhere")
	}
	if s.damage != nil || s.current == 0 {
		return Record{Highest: s.highest()}, s.damage
	}
	r := g.record
	r.Highest = s.highest()
	return r, nil
}

func (m *memStore) History(slot string) ([]Record, error) {
	s, err := m.begin("history", slot)
	defer m.end(slot)
	if err != nil {
		return nil, err
	}
	var out []Record
	for _, n := range slices.Backward(slices.Sorted(maps.Keys(s.kept))) {
		if !s.kept[n].torn {
			out = append(out, s.kept[n].record)
		}
	}
	return out, nil
}

func (m *memStore) Load(slot string, number uint64) (*pki.Identity, error) {
	s, err := m.begin("load", slot)
	defer m.end(slot)
	g, ok := s.kept[number]
	switch {
	case err != nil:
		return nil, err
	case !ok || g.torn:
		return nil, fs.ErrNotExist
	case g.broken:
		return nil, errors.New("its key does not fit")
	}
	return g.identity, nil
}

func (m *memStore) Commit(slot string, r Record, id *pki.Identity, keep int) error {
	s, err := m.begin("commit", slot)
	defer m.end(slot)
	if err != nil {
		return err
	}
	if there, ok := s.kept[r.Number]; ok && there.record.Digest != r.Digest {
		m.t.Logf("store: generation %d of slot %q is committed twice", r.Number, slot)
		return fs.ErrExist
	}
	if keep < 1 || r.Number == 0 || r.Digest == ([32]byte{}) || r.Environment == "" || r.Since.IsZero() || r.NotAfter.IsZero() || r.Origin == "" {
		m.t.Errorf("store: commit of %+v with keep %d", r, keep)
	}
	if late := m.fault["swap"]; late != nil { // written, but not in force
		s.kept[r.Number] = memGeneration{record: r, identity: id}
		return late
	}
	s.kept[r.Number] = memGeneration{record: r, identity: id}
	s.current, s.damage = r.Number, nil
	n := 0
	for _, number := range slices.Backward(slices.Sorted(maps.Keys(s.kept))) {
		if n++; n > keep && number != r.Number && number != r.Of && !(r.Held && s.kept[number].record.Digest == r.Left) {
			delete(s.kept, number)
		}
	}
	m.commits = append(m.commits, memCommit{Record: r, slot: slot, keep: keep, serving: m.serving(slot)})
	return nil
}

// fail has an operation fail with err from now on; nil: work again.
func (m *memStore) fail(op string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fault[op] = err
}

// hang has an operation hang, and returns what has it go on.
func (m *memStore) hang(op string) (release func()) {
	gate := make(chan struct{})
	m.mu.Lock()
	m.gates[op] = gate
	m.mu.Unlock()
	release = sync.OnceFunc(func() {
		m.mu.Lock()
		delete(m.gates, op)
		m.mu.Unlock()
		close(gate)
	})
	m.t.Cleanup(release)
	return release
}

func (m *memStore) hanging() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.waiting
}

func (m *memStore) count(op string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.calls[op]
}

// committed returns what was committed for a slot so far.
func (m *memStore) committed(slot string) []memCommit {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []memCommit
	for _, c := range m.commits {
		if c.slot == slot {
			out = append(out, c)
		}
	}
	return out
}

// inForce returns what the store has in force for pcs.
func (m *memStore) inForce() Record {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.slots["pcs"]; s != nil {
		return s.kept[s.current].record
	}
	return Record{}
}

// change alters what is kept for pcs.
func (m *memStore) change(f func(s *memSlot)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.slots["pcs"] == nil {
		m.slots["pcs"] = &memSlot{kept: map[uint64]memGeneration{}}
	}
	f(m.slots["pcs"])
}

// copied returns what is kept for pcs, to be put back later.
func (m *memStore) copied() memSlot {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.slots["pcs"] == nil {
		return memSlot{kept: map[uint64]memGeneration{}}
	}
	s := *m.slots["pcs"]
	s.kept = maps.Clone(s.kept)
	return s
}

func (m *memStore) putBack(s memSlot) {
	s.kept = maps.Clone(s.kept)
	m.change(func(now *memSlot) { *now = s })
}

// newStoreBench is a bench whose files slot is kept in a store.
func newStoreBench(t *testing.T) (*bench, *memStore) {
	t.Helper()
	return withStore(newBench(t))
}

func withStore(b *bench) (*bench, *memStore) {
	m := newStore(b.t)
	b.store, b.slot.Keep = m, 5
	m.serving = func(slot string) uint64 {
		b.mu.Lock()
		s := b.keeper.Slot(slot)
		b.mu.Unlock()
		if s != nil && s.Snapshot() != nil {
			return s.Snapshot().Generation.Number
		}
		return 0
	}
	return b, m
}

// managed makes the slot of a bench a managed one.
func (b *bench) managed() {
	b.slot = SlotConfig{Name: "pcs", Environment: "test", Managed: true, Keep: 5, Poll: b.slot.Poll, Settle: b.slot.Settle}
}

func newManagedBench(t *testing.T) (*bench, *memStore) {
	t.Helper()
	b, m := newStoreBench(t)
	b.managed()
	return b, m
}

func identity(t testing.TB, l *testpki.Leaf) *pki.Identity {
	t.Helper()
	id, err := pki.NewIdentity(append([]*x509.Certificate{l.Cert}, l.Chain...), l.Key)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (b *bench) offer(l *testpki.Leaf, allow ...string) error {
	b.t.Helper()
	return b.keeper.Offer(b.context(), "pcs", identity(b.t, l), Order{Allow: allow})
}

// offered offers l, which must be taken at once.
func (b *bench) offered(l *testpki.Leaf, allow ...string) {
	b.t.Helper()
	b.do(b.offer(l, allow...))
	b.is(l)
}

func (b *bench) rollback(to uint64, allow ...string) error {
	b.t.Helper()
	return b.keeper.Rollback(b.context(), "pcs", to, Order{Allow: allow})
}

func (b *bench) release() error {
	b.t.Helper()
	return b.keeper.Rotate(b.context(), "pcs", Order{Release: true})
}

// is fails unless the slot serves l now; it returns the generation.
func (b *bench) is(l *testpki.Leaf) *Generation {
	b.t.Helper()
	snap := b.pcs().Snapshot()
	if snap == nil || !snap.Generation.Identity.Leaf().Equal(l.Cert) {
		b.t.Fatalf("the slot does not serve %s; it is %s, refusal %v", l.Cert.SerialNumber.Text(16), b.pcs().Status().State, b.pcs().Status().Refusal)
	}
	return snap.Generation
}

// denied fails unless err is a refusal for reason.
func (b *bench) denied(err error, reason string) *Refusal {
	b.t.Helper()
	var r *Refusal
	if !errors.As(err, &r) || r.Reason != reason {
		b.t.Fatalf("outcome %v, want a refusal for %q", err, reason)
	}
	if r.Hint() == "" && r.Reason != reasonIncoherent {
		b.t.Errorf("refusal %q has no hint", r)
	}
	return r
}

// saved waits until the store has in force what the slot serves.
func (b *bench) saved(m *memStore) Record {
	b.t.Helper()
	b.until("the store has what is served", func() bool {
		snap := b.pcs().Snapshot()
		return snap != nil && m.inForce().Number == snap.Generation.Number && m.inForce().Digest == snap.Generation.digest
	})
	return m.inForce()
}

// rotated puts l in place, and waits until it is served and kept.
func (b *bench) rotated(m *memStore, l *testpki.Leaf) {
	b.t.Helper()
	b.pair(l)
	b.serves(l)
	b.saved(m)
}

// aged issues n certificates for the slot, each a minute younger than the one before, and all
// older than those of leaf.
func (b *bench) aged(n int, opts ...testpki.Option) []*testpki.Leaf {
	b.t.Helper()
	var out []*testpki.Leaf
	for i := range n {
		from := time.Now().Add(-90*time.Minute + time.Duration(i)*time.Minute)
		out = append(out, b.leaf(slices.Concat([]testpki.Option{testpki.Validity(from, from.Add(10*time.Hour))}, opts)...))
	}
	return out
}

func (b *bench) wantState(state SlotState) {
	b.t.Helper()
	if got := b.pcs().Status(); got.State != state {
		b.t.Errorf("the slot is %s, want %s; refusal %v", got.State, state, got.Refusal)
	}
}

func (b *bench) wantTold(want map[EventKind]int) {
	b.t.Helper()
	for kind, n := range want {
		if got := b.count(kind); got != n {
			b.t.Errorf("%s told %d times, want %d: %v", kind, got, n, b.told())
		}
	}
}

var errFull = fmt.Errorf("write: %w", syscall.ENOSPC)

func numbers(cs []memCommit) string {
	out := ""
	for _, c := range cs {
		out += fmt.Sprint(c.Number, " ")
	}
	return out
}
