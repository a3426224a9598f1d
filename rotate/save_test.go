package rotate

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

func TestFilesAreServedFirstAndThenKept(t *testing.T) {
	b, m := newStoreBench(t)
	ls := b.aged(3)
	b.pair(ls[0])
	b.start()
	b.saved(m)
	for _, l := range ls[1:] {
		b.rotated(m, l)
	}
	commits := m.committed("pcs")
	for i, c := range commits {
		if c.Number != uint64(i+1) || c.serving != c.Number || c.keep != 5 || c.Origin != FromFiles || c.Held || c.Of != 0 || c.Environment != "test" {
			t.Errorf("commit %d: %+v", i, c)
		}
	}
	if len(commits) != 3 {
		t.Errorf("committed %s, want each generation once", numbers(commits))
	}
	g := b.is(ls[2])
	if r := m.inForce(); r.Source != g.source || !r.Since.Equal(g.Since) || !r.NotAfter.Equal(g.NotAfter) {
		t.Errorf("kept %+v, served %+v", r, g)
	}
	if st := b.pcs().Status(); st.Unsaved != nil || !st.UnsavedSince.IsZero() || st.State != SlotReady {
		t.Errorf("status %+v", st)
	}
	b.wantTold(map[EventKind]int{EventRotated: 3, EventUnsaved: 0, EventSaved: 0, EventRestored: 0, EventWentBack: 0})
}

func TestHangingStoreHoldsUpNoRotation(t *testing.T) {
	b, m := newStoreBench(t)
	ls := b.aged(5)
	other := b.slot
	other.Name, other.Files = "other", Files{Certificate: b.path("other.crt"), Key: b.path("other.key")}
	b.put("other.key", ls[0].KeyPEM(), 0o600)
	b.put("other.crt", ls[0].FullChainPEM(), 0o644)
	b.pair(ls[0])
	release := m.hang("commit")
	b.start()
	b.do(b.keeper.Apply(b.context(), Plan{Environments: []EnvironmentConfig{b.env}, Slots: []SlotConfig{b.slot, other}}))
	b.until("both saves hang", func() bool { return m.hanging() == 2 })
	for _, l := range ls[1:] {
		b.pair(l)
		b.serves(l)
		b.put("other.key", l.KeyPEM(), 0o600)
		b.put("other.crt", l.FullChainPEM(), 0o644)
		b.until("the other slot rotates", func() bool {
			return b.keeper.Slot("other").Snapshot().Generation.Identity.Leaf().Equal(l.Cert)
		})
	}
	release()
	for _, slot := range []string{"pcs", "other"} {
		b.until("the newest is kept", func() bool { c := m.committed(slot); return len(c) > 0 && c[len(c)-1].Number == 5 })
		if got := numbers(m.committed(slot)); got != "1 5 " {
			t.Errorf("slot %s: committed %s, want the one that hung and then the newest alone", slot, got)
		}
	}
	b.wantTold(map[EventKind]int{EventUnsaved: 0, EventSaved: 0, EventRotated: 10})
}

// Saves that hang take no more than their share, and those behind them come later.
func TestManySavesHang(t *testing.T) {
	b, m := newStoreBench(t)
	b.pair(b.leaf())
	release := m.hang("commit")
	b.start()
	plan := Plan{Environments: []EnvironmentConfig{b.env}}
	for i := range 3 * maxSaves {
		s := b.slot
		s.Name = fmt.Sprint("pcs-", i)
		plan.Slots = append(plan.Slots, s)
	}
	b.do(b.keeper.Apply(b.context(), plan))
	b.until("saves hang", func() bool { return m.hanging() == maxSaves })
	time.Sleep(20 * time.Millisecond)
	if got := m.hanging(); got != maxSaves {
		t.Errorf("%d saves at once, want %d", got, maxSaves)
	}
	release()
	for _, s := range plan.Slots {
		b.until("all are kept", func() bool { return len(m.committed(s.Name)) == 1 })
	}
}

func TestUnsavedIsToldOnceAndTriedAgain(t *testing.T) {
	inTime(t, func(b *bench) {
		b, m := withStore(b)
		b.slot.Poll, b.env.Poll = 48*time.Hour, 48*time.Hour
		ls := b.aged(3)
		m.fail("commit", errFull)
		b.pair(ls[0])
		began := time.Now()
		b.start()
		later(10 * time.Millisecond)
		b.is(ls[0])
		st := b.pcs().Status()
		if !errors.Is(st.Unsaved, errFull) || st.UnsavedSince.Before(began) || st.State != SlotReady || st.Refusal != nil {
			t.Errorf("status %+v", st)
		}
		b.pair(ls[1])
		b.do(b.keeper.Rotate(b.context(), "pcs", Order{}))
		b.is(ls[1]) // goes on rotating
		later(10 * time.Minute)
		tries := m.count("commit")
		if tries < 10 || tries > 30 {
			t.Errorf("tried %d times in ten minutes, want about each minute and more often at first", tries)
		}
		if again := b.pcs().Status(); again.UnsavedSince != st.UnsavedSince || again.Unsaved == nil {
			t.Errorf("unsaved since %s, want since the first failure %s", again.UnsavedSince, st.UnsavedSince)
		}
		b.wantTold(map[EventKind]int{EventUnsaved: 1, EventSaved: 0})
		m.fail("commit", nil)
		later(longestSaves + beatInterval)
		if got := numbers(m.committed("pcs")); got != "2 " {
			t.Errorf("committed %s, want the one that serves", got)
		}
		if st := b.pcs().Status(); st.Unsaved != nil || !st.UnsavedSince.IsZero() {
			t.Errorf("status %+v after it was saved", st)
		}
		tries = m.count("commit")
		later(time.Hour)
		if got := m.count("commit"); got != tries {
			t.Errorf("written %d times more for nothing", got-tries)
		}
		// The next failure is another one.
		m.fail("commit", errFull)
		b.pair(ls[2])
		b.do(b.keeper.Rotate(b.context(), "pcs", Order{}))
		later(time.Minute)
		b.wantTold(map[EventKind]int{EventUnsaved: 2, EventSaved: 1, EventRotated: 3})
		told := b.of(EventUnsaved)[0]
		if told.Reason != "state_unwritable" || !errors.Is(told.Err, errFull) || told.To.Number != 1 {
			t.Errorf("event %+v", told)
		}
	})
}

// A new generation does not wait for the back-off of the one before it.
func TestNewGenerationIsSavedAtOnce(t *testing.T) {
	inTime(t, func(b *bench) {
		b, m := withStore(b)
		b.slot.Poll, b.env.Poll = 48*time.Hour, 48*time.Hour
		ls := b.aged(2)
		m.fail("commit", errFull)
		b.pair(ls[0])
		b.start()
		later(5 * time.Minute)
		m.fail("commit", nil)
		b.pair(ls[1])
		b.do(b.keeper.Rotate(b.context(), "pcs", Order{}))
		later(10 * time.Millisecond)
		if got := numbers(m.committed("pcs")); got != "2 " {
			t.Errorf("committed %s at once, want 2", got)
		}
	})
}

func TestKeepNothing(t *testing.T) {
	b, m := newStoreBench(t)
	ls := b.aged(3)
	b.pair(ls[0])
	b.start()
	b.saved(m)
	b.slot.Keep = 0
	b.apply()
	b.pair(ls[1])
	b.serves(ls[1])
	r := b.denied(b.rollback(0), "no_generation")
	if r.Pending {
		t.Error("a rollback of what is not kept is pending")
	}
	// What was kept before counts for nothing: only the numbers go on.
	b.restart()
	if g := b.is(ls[1]); g.Number < 2 {
		t.Errorf("number %d was used before", g.Number)
	}
	b.wantTold(map[EventKind]int{EventRestored: 0, EventRotated: 1})
	b.stop()
	b.write("pcs.key", nil, 0o600)
	b.restart()
	if b.pcs().Snapshot() != nil {
		t.Error("a slot that keeps nothing serves what it kept when it kept something")
	}
	if got := numbers(m.committed("pcs")); got != "1 " {
		t.Errorf("committed %s", got)
	}
	// From now on it keeps what it serves, without waiting for the next certificate.
	b.pair(ls[2])
	b.serves(ls[2])
	b.slot.Keep = 2
	b.apply()
	b.saved(m)
}

// A slot that is told to keep nothing gives up what it could not save.
func TestKeepNothingWhileUnsaved(t *testing.T) {
	inTime(t, func(b *bench) {
		b, m := withStore(b)
		m.fail("commit", errFull)
		b.pair(b.leaf())
		b.start()
		later(time.Second)
		b.slot.Keep = 0
		b.apply()
		later(time.Minute)
		m.fail("commit", nil)
		later(5 * time.Minute)
		if got := m.committed("pcs"); len(got) != 0 {
			t.Errorf("committed %s", numbers(got))
		}
		if st := b.pcs().Status(); st.Unsaved != nil {
			t.Errorf("unsaved: %v, though nothing is to be saved", st.Unsaved)
		}
	})
}

// A slot that is removed while its save hangs leaves nothing that runs.
func TestRemovedWhileItIsSaved(t *testing.T) {
	b, m := newStoreBench(t)
	b.pair(b.leaf())
	release := m.hang("commit")
	b.start()
	b.until("the save hangs", func() bool { return m.hanging() == 1 })
	b.do(b.keeper.Apply(b.context(), Plan{Environments: []EnvironmentConfig{b.env}}))
	release()
	b.until("it has ended", func() bool {
		var n int
		b.do(b.keeper.call(b.context(), func() { n = b.keeper.saving + len(b.keeper.unsaved) }))
		return n == 0
	})
}

func TestStoreThatWentBack(t *testing.T) {
	for _, managed := range []bool{false, true} {
		t.Run(fmt.Sprintf("managed %v", managed), func(t *testing.T) {
			b, m := newStoreBench(t)
			ls := b.aged(6)
			take := func(i int) {
				t.Helper()
				if managed {
					b.offered(ls[i])
				} else {
					b.rotated(m, ls[i])
				}
			}
			if managed {
				b.managed()
			}
			b.start()
			take(0)
			old := m.copied()
			take(1)
			take(2)
			m.putBack(old)
			b.wantTold(map[EventKind]int{EventWentBack: 0})
			take(3)
			if got := m.inForce().Number; got != 4 {
				t.Errorf("generation %d after a restore, want 4: numbers do not repeat", got)
			}
			b.until("it is told", func() bool { return b.count(EventWentBack) == 1 })
			take(4)
			if e := b.of(EventWentBack); len(e) != 1 || e[0].Reason != "restored_older" || e[0].Slot != "pcs" || e[0].Err == nil {
				t.Errorf("told %+v, want once", e)
			}
			m.putBack(memSlot{kept: map[uint64]memGeneration{}}) // another time, and all of it
			take(5)
			b.until("it is told again", func() bool { return b.count(EventWentBack) == 2 })
			if got := numbers(m.committed("pcs")); got != "1 2 3 4 5 6 " {
				t.Errorf("committed %s", got)
			}
		})
	}
}

func TestStoreThatWentBackAndIsFullIsToldOnce(t *testing.T) {
	inTime(t, func(b *bench) {
		b, m := withStore(b)
		ls := b.aged(3)
		b.managed()
		b.start()
		b.offered(ls[0])
		old := m.copied()
		b.offered(ls[1])
		m.putBack(old)
		m.fail("commit", errFull)
		b.denied(b.offer(ls[2]), ReasonUnwritable)
		later(10 * time.Minute)
		b.wantTold(map[EventKind]int{EventWentBack: 1})
	})
}

// What a rollback left behind that could not be kept does not stand in the way of
// the files that come after it.
func TestFilesAfterRollbackThatWasNotKept(t *testing.T) {
	b, m := newStoreBench(t)
	ls := b.aged(3)
	b.start()
	b.rotated(m, ls[0])
	b.rotated(m, ls[1])
	m.fail("swap", errFull) // generation 3 is written, and not in force
	b.denied(b.rollback(0), "state_unwritable")
	m.fail("swap", nil)
	b.rotated(m, ls[2])
	if g := b.is(ls[2]); g.Number != 4 || m.inForce().Number != 4 {
		t.Errorf("generation %d serves, %d is kept, want 4", g.Number, m.inForce().Number)
	}
}
