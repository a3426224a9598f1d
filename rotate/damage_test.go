package rotate

import (
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
)

func TestDamagedCurrent(t *testing.T) {
	damage := map[string]func(s *memSlot){
		"current is not whole":    func(s *memSlot) { s.damage = errors.New("read generation: its digest is another") },
		"its key does not fit":    func(s *memSlot) { g := s.kept[3]; g.broken = true; s.kept[3] = g },
		"its directory is gone":   func(s *memSlot) { delete(s.kept, 3) },
		"half of a newer one too": func(s *memSlot) { s.damage = errors.New("dangling"); s.kept[7] = memGeneration{torn: true} },
	}
	for name, f := range damage {
		for _, managed := range []bool{false, true} {
			t.Run(name+map[bool]string{true: ", managed"}[managed], func(t *testing.T) {
				b, m := newStoreBench(t)
				ls := b.aged(4)
				take := func(l *testpki.Leaf) {
					t.Helper()
					if managed {
						b.offered(l)
					} else {
						b.rotated(m, l)
					}
				}
				if managed {
					b.managed()
				}
				b.start()
				for _, l := range ls[:3] {
					take(l)
				}
				b.stop()
				if !managed {
					b.write("pcs.key", nil, 0o600)
				}
				m.change(f)
				m.change(func(s *memSlot) {
					if strings.HasPrefix(name, "current") || strings.HasPrefix(name, "half") { // then it is not in the history either
						g := s.kept[3]
						g.torn = true
						s.kept[3] = g
					}
				})
				b.restart()
				if g := b.is(ls[1]); g.Number != 2 {
					t.Errorf("generation %d stands in, want the newest that can be loaded", g.Number)
				}
				b.wantTold(map[EventKind]int{EventDamaged: 1, EventRestored: 1, EventRotated: 0})
				if e := b.of(EventDamaged); len(e) == 1 && (e[0].Err == nil || e[0].To == nil || e[0].To.Number != 2 || e[0].Reason != "generation_damaged") {
					t.Errorf("told %+v", e[0])
				}
				take(ls[3])
				want := uint64(4)
				if name == "half of a newer one too" {
					want = 8
				}
				if g := b.is(ls[3]); g.Number != want {
					t.Errorf("the next generation is %d, want %d: above every number that was ever used", g.Number, want)
				}
			})
		}
	}
}

func TestNothingKeptCanBeLoaded(t *testing.T) {
	b, m := newStoreBench(t)
	ls := b.aged(2)
	b.pair(ls[0])
	b.start()
	b.saved(m)
	b.stop()
	m.fail("load", errors.New("bad key"))
	b.write("pcs.key", nil, 0o600)
	b.restart()
	if b.pcs().Snapshot() != nil {
		t.Error("what cannot be loaded is served")
	}
	b.wantTold(map[EventKind]int{EventDamaged: 1, EventRestored: 0})
	b.rotated(m, ls[1])
	if g := b.is(ls[1]); g.Number != 2 {
		t.Errorf("generation %d", g.Number)
	}
}

// A store that does not answer at the start (permissions, a disk that is not
// mounted) is asked again: a managed slot has nothing else to serve.
func TestStoreThatCannotBeReadAtTheStart(t *testing.T) {
	b, m := newManagedBench(t)
	only := b.leaf()
	b.start()
	b.offered(only)
	m.fail("current", errors.New("permission denied"))
	m.fail("history", errors.New("permission denied"))
	b.restart()
	if b.pcs().Snapshot() != nil {
		t.Fatal("served out of nothing")
	}
	st := b.pcs().Status()
	if st.State != SlotPending || st.Refusal == nil || !strings.Contains(st.Refusal.Error(), "permission denied") {
		t.Errorf("the slot is %s, refusal %v: nothing says why it is empty", st.State, st.Refusal)
	}
	b.wantTold(map[EventKind]int{EventDamaged: 1})
	m.fail("current", nil)
	m.fail("history", nil)
	b.serves(only)
	b.state(SlotReady)
	b.wantTold(map[EventKind]int{EventDamaged: 1, EventRestored: 1, EventRotated: 0})
}

func TestHangingStoreAtTheStart(t *testing.T) {
	inTime(t, func(b *bench) {
		b, m := withStore(b)
		b.pair(b.leaf())
		release := m.hang("current")
		began := time.Now()
		b.start()
		if took := time.Since(began); took > hangAfter+hangCheck+beatInterval {
			t.Errorf("the start took %s", took)
		}
		if r := b.pcs().Status().Refusal; r == nil || !r.Pending || strings.Contains(r.Error(), "its files") {
			t.Errorf("refusal %v: it is not the files that do not answer", r)
		}
		release()
		later(time.Minute)
		b.wantState(SlotReady)
	})
}

// snapshot copies what a slot has, and restore puts a copy back.
func (m *memStore) snapshot() *memSlot {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := *m.slots["pcs"]
	s.kept = maps.Clone(s.kept)
	return &s
}

func (m *memStore) restore(s *memSlot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.slots["pcs"] = s
}

// A hold outlives the damage of the generation that has it: what was rolled back
// from does not come back by that.
func TestDamagedHold(t *testing.T) {
	b, m := newManagedBench(t)
	ls := b.aged(3)
	b.start()
	for _, l := range ls {
		b.offered(l)
	}
	b.do(b.rollback(1))
	b.stop()
	held := m.inForce()
	m.mu.Lock()
	g := m.slots["pcs"].kept[held.Number]
	g.broken = true
	m.slots["pcs"].kept[held.Number] = g
	m.mu.Unlock()
	b.start()
	if now := b.is(ls[0]); !now.Held || now.left != held.Left {
		t.Errorf("generation %+v", now)
	}
	b.wantState(SlotHeld)
	b.do(b.keeper.Rotate(b.context(), "pcs", Order{Release: true}))
	b.is(ls[2])
}
