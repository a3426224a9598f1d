package rotate

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
)

// A hold ends with the source: files with other bytes, another answer.
func TestHoldEndsWithTheSource(t *testing.T) {
	bothKinds(t, func(t *testing.T, b *bench, m *memStore, take func(*testpki.Leaf)) {
		ls := b.aged(3)
		b.start()
		take(ls[0])
		take(ls[1])
		b.do(b.rollback(0))
		b.is(ls[0])
		take(ls[2])
		if g := b.is(ls[2]); g.Number != 4 || g.Held || g.Of != 0 {
			t.Errorf("generation %+v", g)
		}
		b.state(SlotReady)
		b.restart()
		b.is(ls[2])
		b.wantState(SlotReady)
	})
}

// The very identity that was rolled back from does not come back by itself.
func TestRolledBackIdentityInOtherBytes(t *testing.T) {
	b, m := newStoreBench(t)
	ls := b.aged(2)
	b.pair(ls[0])
	b.start()
	b.saved(m)
	b.rotated(m, ls[1])
	b.do(b.rollback(0))
	for _, text := range []string{"again\n", "and again\n"} {
		b.put("pcs.crt", append([]byte(text), ls[1].FullChainPEM()...), 0o644)
		r := b.refused(RuleRolledBack)
		if r.Rule != RuleRolledBack || !strings.Contains(r.Hint(), "--release") {
			t.Errorf("refusal %v, hint %q", r, r.Hint())
		}
		b.still(ls[0])
		b.restart()
		b.is(ls[0])
		b.denied(b.keeper.Rotate(b.context(), "pcs", Order{Allow: []string{RuleOlder, RuleNames}}), RuleRolledBack)
	}
	b.put("pcs.crt", ls[1].FullChainPEM(), 0o644) // the bytes of then
	b.state(SlotHeld)
	b.put("pcs.crt", append([]byte("third\n"), ls[1].FullChainPEM()...), 0o644)
	b.refused(RuleRolledBack)
	b.do(b.keeper.Rotate(b.context(), "pcs", Order{Allow: []string{RuleRolledBack}}))
	if g := b.is(ls[1]); g.Held || g.Number != 4 {
		t.Errorf("generation %+v", g)
	}
	b.state(SlotReady)
}

func TestRolledBackIdentityOfferedAgain(t *testing.T) {
	b, _ := newManagedBench(t)
	ls := b.aged(2)
	b.start()
	b.offered(ls[0])
	b.offered(ls[1])
	b.do(b.rollback(0))
	b.denied(b.offer(ls[1]), RuleRolledBack)
	b.is(ls[0])
	b.offered(ls[1], RuleRolledBack)
	b.wantState(SlotReady)
	b.do(b.rollback(0))
	b.offered(ls[0]) // what serves: nothing new, and no word against the hold
	if g := b.is(ls[0]); !g.Held || g.Number != 5 {
		t.Errorf("generation %+v", g)
	}
	b.wantState(SlotHeld)
}

func TestReleaseWithABrokenSource(t *testing.T) {
	b, m := newStoreBench(t)
	ls := b.aged(3)
	b.pair(ls[0])
	b.start()
	b.saved(m)
	b.rotated(m, ls[1])
	b.do(b.rollback(0))
	b.write("pcs.key", nil, 0o600)
	b.denied(b.release(), reasonIncoherent)
	if g := b.is(ls[0]); !g.Held {
		t.Error("the hold is gone, and nothing came of it")
	}
	b.do(os.Remove(b.path("pcs.key")))
	b.denied(b.release(), reasonUnreadable)
	b.restart()
	if g := b.is(ls[0]); !g.Held || g.Number != 3 {
		t.Errorf("generation %+v", g)
	}
	b.put("pcs.key", ls[1].KeyPEM(), 0o600)
	b.state(SlotHeld)
	b.do(b.release())
	b.is(ls[1])
	b.state(SlotReady)
}

// Once the files hold what serves, there is nothing to hold.
func TestReleaseOfWhatServes(t *testing.T) {
	b, m := newStoreBench(t)
	ls := b.aged(2)
	b.pair(ls[0])
	b.start()
	b.saved(m)
	b.rotated(m, ls[1])
	b.do(b.rollback(0))
	b.pair(ls[0])
	_ = b.release()
	b.state(SlotReady)
	g := b.is(ls[0])
	if g.Held || g.Number != 4 || g.Origin != FromFiles {
		t.Errorf("generation %+v", g)
	}
	b.saved(m)
	b.restart()
	b.wantState(SlotReady)
	if g := b.is(ls[0]); g.Held {
		t.Error("held again")
	}
	b.pair(ls[1]) // no longer something that was rolled back from
	b.serves(ls[1])
}

func TestReleaseOfManagedSlots(t *testing.T) {
	b, m := newManagedBench(t)
	ls := b.aged(3)
	b.start()
	b.do(b.release()) // of nothing
	b.offered(ls[0])
	b.do(b.release())
	b.is(ls[0])
	b.offered(ls[1])
	b.do(b.rollback(0))
	m.fail("commit", errFull)
	b.denied(b.release(), "state_unwritable")
	if g := b.is(ls[0]); !g.Held {
		t.Error("not held any more")
	}
	m.fail("commit", nil)
	b.state(SlotHeld)
	b.do(b.release())
	if g := b.is(ls[1]); g.Number != 4 || g.Held || g.Origin != FromImport {
		t.Errorf("generation %+v", g)
	}
	b.do(b.rollback(0))
	m.change(func(s *memSlot) {
		for n, g := range s.kept {
			if g.record.Digest == s.kept[s.current].record.Left {
				delete(s.kept, n)
			}
		}
	})
	b.denied(b.release(), "no_generation")
	if g := b.is(ls[0]); !g.Held {
		t.Error("not held any more")
	}
}

// A rule that an offer was allowed is not allowed for a rollback as well.
func TestRulesOfAnOfferAreNotThoseOfARollback(t *testing.T) {
	b, _ := newManagedBench(t)
	first := b.aged(1, testpki.DNS("pcs.nhs.uk"))[0]
	second := b.leaf(testpki.DNS("pcs.nhs.uk", "two.nhs.uk"))
	start := time.Now().Add(time.Hour)
	third := b.leaf(testpki.DNS("pcs.nhs.uk"), testpki.Validity(start, start.Add(time.Hour)))
	b.start()
	b.offered(first)
	b.offered(second)
	b.denied(b.offer(third, RuleNames), "not_yet_valid")
	b.denied(b.rollback(0), RuleNames)
	b.is(second)
}

// What was rotated to a moment ago, and is not saved yet, is not lost by a rollback.
func TestRollbackOfWhatIsNotSavedYet(t *testing.T) {
	b, m := newStoreBench(t)
	ls := b.aged(3)
	b.pair(ls[0])
	b.start()
	b.saved(m)
	m.fail("commit", errFull)
	b.pair(ls[1])
	b.serves(ls[1])
	b.until("it is told", func() bool { return b.count(EventUnsaved) == 1 })
	m.fail("commit", nil)
	b.do(b.rollback(0))
	if g := b.is(ls[0]); g.Number != 3 || g.Of != 1 {
		t.Errorf("generation %+v", g)
	}
	if st := b.pcs().Status(); st.Unsaved != nil || !st.UnsavedSince.IsZero() {
		t.Errorf("unsaved: %v, though the store has what is served", st.Unsaved)
	}
	b.wantTold(map[EventKind]int{EventUnsaved: 1, EventSaved: 1})
	b.do(b.rollback(2))
	b.is(ls[1])
}

// The store is asked by one at a time, also by a rollback while a save runs.
func TestRollbackWhileASaveRuns(t *testing.T) {
	for _, fails := range []bool{false, true} {
		t.Run(fmt.Sprintf("it fails %v", fails), func(t *testing.T) {
			b, m := newStoreBench(t)
			ls := b.aged(2)
			b.pair(ls[0])
			b.start()
			b.saved(m)
			release := m.hang("commit")
			b.pair(ls[1])
			b.serves(ls[1])
			b.until("the save hangs", func() bool { return m.hanging() == 1 })
			outcome := make(chan error, 1)
			go func() { outcome <- b.rollback(0) }()
			time.Sleep(10 * time.Millisecond)
			if len(outcome) != 0 {
				t.Error("answered before the store was")
			}
			if fails {
				m.fail("commit", errFull)
				release()
				b.denied(<-outcome, ReasonUnwritable)
				m.fail("commit", nil)
				b.do(b.rollback(0))
			} else {
				release()
				b.do(<-outcome)
			}
			b.is(ls[0])
			b.saved(m)
			b.until("nothing is unsaved", func() bool { return b.pcs().Status().Unsaved == nil })
			time.Sleep(20 * time.Millisecond)
			if st := b.pcs().Status(); st.Unsaved != nil || st.State != SlotHeld {
				t.Errorf("status %+v", st)
			}
		})
	}
}

// Who waits for a plan waits for a look at the source, not for that of a rollback.
func TestApplyDuringARollback(t *testing.T) {
	b, m := newStoreBench(t)
	b.watch = noInotify
	ls := b.aged(3)
	b.pair(ls[0])
	b.start()
	b.saved(m)
	b.pair(ls[1])
	b.do(b.keeper.Rotate(b.context(), "pcs", Order{}))
	b.saved(m)
	b.pair(ls[2])
	// Both are there before the next look begins, which is that of the rollback.
	o := &order{kind: orderRollback, answer: make(chan *Refusal, 1)}
	var looked chan *Refusal
	b.do(b.keeper.call(b.context(), func() {
		u := &b.keeper.slots["pcs"].unit
		u.orders = append(u.orders, o)
		b.keeper.slots["pcs"].config.FQDN = "other.nhs.uk"
		looked = b.keeper.lookNow(u)
	}))
	<-o.answer
	if r := <-looked; r == nil || r.Reason != reasonFQDN {
		t.Errorf("the look at the source found %v, want a refusal", r)
	}
}

func TestPruningKeepsWhatIsNeeded(t *testing.T) {
	bothKinds(t, func(t *testing.T, b *bench, m *memStore, take func(*testpki.Leaf)) {
		b.slot.Keep = 2
		ls := b.aged(5)
		b.start()
		for _, l := range ls {
			take(l)
		}
		for _, c := range m.committed("pcs") {
			if c.keep != 2 {
				t.Errorf("keep %d", c.keep)
			}
		}
		b.do(b.rollback(0))
		b.is(ls[3])
		b.do(b.release())
		b.is(ls[4])
	})
}

// However many steps back, forward is what the first of them left.
func TestForwardAfterTwoSteps(t *testing.T) {
	b, _ := newManagedBench(t)
	ls := b.aged(3)
	b.start()
	for _, l := range ls {
		b.offered(l)
	}
	b.do(b.rollback(0))
	b.do(b.rollback(0))
	b.is(ls[0])
	b.do(b.release())
	b.is(ls[2])
}

// A step back to a generation that came of a rollback is one to what that was made of.
func TestBackToARollback(t *testing.T) {
	b, _ := newManagedBench(t)
	ls := b.aged(2)
	b.start()
	for _, l := range ls {
		b.offered(l)
	}
	b.do(b.rollback(0))
	b.do(b.release())
	b.do(b.rollback(0))
	if g := b.is(ls[0]); g.Number != 5 || g.Of != 1 {
		t.Errorf("generation %+v", g)
	}
	b.denied(b.rollback(0), "no_generation") // further back there is nothing
	b.is(ls[0])
}

// What the files hold at the moment of the order is not taken, though nobody had looked at it.
func TestRollbackHoldsWhatLiesThere(t *testing.T) {
	b, m := newStoreBench(t)
	b.watch = noInotify
	ls := b.aged(4)
	b.pair(ls[0])
	b.start()
	b.saved(m)
	b.pair(ls[1])
	b.do(b.keeper.Rotate(b.context(), "pcs", Order{}))
	b.pair(ls[2])
	b.do(b.rollback(0))
	b.do(b.keeper.Rotate(b.context(), "pcs", Order{}))
	b.is(ls[0])
	b.wantState(SlotHeld)
	b.pair(ls[3])
	b.do(b.keeper.Rotate(b.context(), "pcs", Order{}))
	b.is(ls[3])
}

// An answer that waited before a rollback does not end its hold.
func TestOfferThatWaitedBeforeARollback(t *testing.T) {
	b, m := newManagedBench(t)
	ls := b.aged(3)
	b.start()
	b.offered(ls[0])
	b.offered(ls[1])
	m.fail("commit", errFull)
	b.denied(b.offer(ls[2]), ReasonUnwritable)
	m.fail("commit", nil)
	b.do(b.rollback(1))
	b.do(b.keeper.Refresh(b.context()))
	if g := b.is(ls[0]); !g.Held {
		t.Errorf("generation %+v", g)
	}
	b.wantState(SlotHeld)
}

// Under another chain it is the same certificate that was rolled back from.
func TestRolledBackLeafUnderAnotherChain(t *testing.T) {
	b, _ := newManagedBench(t)
	deep := b.sub.SubCA(t, testpki.Name("Deep"))
	again := b.sub.SubCA(t, testpki.Name("Deep"), testpki.Key(deep.Key))
	b.start()
	now := time.Now()
	first := deep.Issue(t, testpki.Name("pcs.nhs.uk"), testpki.Validity(now.Add(-3*time.Hour), now.Add(time.Hour)))
	second := deep.Issue(t, testpki.Name("pcs.nhs.uk"), testpki.Validity(now.Add(-2*time.Hour), now.Add(time.Hour)))
	b.offered(first)
	b.offered(second)
	b.do(b.rollback(0))
	second.Chain[0] = again.Cert // renewed on the same key
	b.denied(b.offer(second), RuleRolledBack)
	b.is(first)
}

// An older copy that was put back under a running keeper takes nothing with it:
// what serves is put into the store again before anything relies on it.
func TestOlderCopyBeforeARollback(t *testing.T) {
	b, m := newManagedBench(t)
	ls := b.aged(3)
	b.start()
	b.offered(ls[0])
	copied := m.snapshot()
	b.offered(ls[1])
	m.restore(copied)
	b.do(b.rollback(0))
	b.is(ls[0])
	b.do(b.keeper.Rotate(b.context(), "pcs", Order{Release: true}))
	b.is(ls[1])
	b.wantTold(map[EventKind]int{EventWentBack: 1})
}
