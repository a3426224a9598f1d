package rotate

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
)

// bothKinds runs a test for a slot that reads files and for a managed one; take has it
// serve and keep l.
func bothKinds(t *testing.T, test func(t *testing.T, b *bench, m *memStore, take func(l *testpki.Leaf))) {
	t.Helper()
	t.Run("files", func(t *testing.T) {
		b, m := newStoreBench(t)
		test(t, b, m, func(l *testpki.Leaf) { t.Helper(); b.rotated(m, l) })
	})
	t.Run("managed", func(t *testing.T) {
		b, m := newManagedBench(t)
		test(t, b, m, func(l *testpki.Leaf) { t.Helper(); b.offered(l) })
	})
}

func TestRollback(t *testing.T) {
	bothKinds(t, func(t *testing.T, b *bench, m *memStore, take func(*testpki.Leaf)) {
		ls := b.aged(4)
		b.start()
		for _, l := range ls[:3] {
			take(l)
		}
		b.do(b.rollback(0)) // though it is older
		held := func(of *testpki.Leaf, number, ofNumber uint64) {
			t.Helper()
			g := b.is(of)
			if g.Number != number || g.Origin != FromRollback || g.Of != ofNumber || !g.Held {
				t.Errorf("generation %+v", g)
			}
			b.state(SlotHeld)
			if st := b.pcs().Status(); st.Refusal != nil || st.Generation != g || st.Unsaved != nil {
				t.Errorf("status %+v", st)
			}
			if r := m.inForce(); r.Number != number || !r.Held || r.Of != ofNumber || r.Digest != g.digest || r.Left != g.left {
				t.Errorf("in force %+v", r)
			}
		}
		held(ls[1], 4, 2)
		if c := m.committed("pcs"); c[len(c)-1].serving != 3 {
			t.Errorf("the hold was written while %d was served, want 3: first kept, then served", c[len(c)-1].serving)
		}
		for range 3 { // looks, and the poll, change nothing
			b.do(b.keeper.Rotate(b.context(), "pcs", Order{}))
		}
		held(ls[1], 4, 2)
		b.restart()
		held(ls[1], 4, 2)
		b.wantTold(map[EventKind]int{EventRestored: 1, EventRotated: 0, EventRefused: 0})
		b.do(b.rollback(0)) // further back
		held(ls[0], 5, 1)
		b.denied(b.rollback(0), "no_generation")
		b.denied(b.rollback(5), "no_generation") // serves
		b.denied(b.rollback(1), "no_generation") // the same content
		b.denied(b.rollback(77), "no_generation")
		held(ls[0], 5, 1)
		b.do(b.rollback(3)) // by number, forward too
		held(ls[2], 6, 3)
		b.do(b.rollback(2))
		held(ls[1], 7, 2)

		b.do(b.release()) // what it was rolled back from first
		g := b.is(ls[2])
		if g.Number != 8 || g.Held || g.Of != 0 || g.Origin == FromRollback {
			t.Errorf("generation %+v", g)
		}
		b.state(SlotReady)
		b.saved(m)
		if r := m.inForce(); r.Held || r.Number != 8 {
			t.Errorf("in force %+v", r)
		}
		b.restart()
		if g := b.is(ls[2]); g.Number != 8 {
			t.Errorf("generation %+v", g)
		}
		take(ls[3])
		b.wantState(SlotReady)
	})
}

// Nothing has changed after a rollback that was refused.
func TestRollbackRefused(t *testing.T) {
	old := testpki.Validity(time.Now().Add(-3*time.Hour), time.Now().Add(-time.Minute))
	tests := map[string]struct {
		leaf   func(b *bench) *testpki.Leaf // what would be gone back to; nil: a good one
		before func(b *bench, m *memStore, first *testpki.Leaf)
		reason string
	}{
		"expired": {func(b *bench) *testpki.Leaf { return b.leaf(old, testpki.DNS("pcs.nhs.uk", "two.nhs.uk")) }, nil, "expired"},
		"revoked": {nil, func(b *bench, _ *memStore, first *testpki.Leaf) {
			b.put("sub.crl", b.sub.CRL(b.t, testpki.Number(9), testpki.Revoke(first.Cert.SerialNumber)), 0o644)
			b.until("it is revoked", func() bool { return revokes(b.environment().Trust(), first.Cert.SerialNumber) })
		}, "revoked"},
		"its CA is gone": {nil, func(b *bench, _ *memStore, _ *testpki.Leaf) {
			b.env.CRLs = nil
			b.apply()
			b.replaceTrust(testpki.NewRoot(b.t, testpki.Name("Other")).SubCA(b.t, testpki.Name("Other sub")).BundlePEM())
		}, "unknown_issuer"},
		"a name is lost": {func(b *bench) *testpki.Leaf { return b.leaf(testpki.DNS("pcs.nhs.uk")) }, nil, RuleNames},
		"cannot be kept": {nil, func(_ *bench, m *memStore, _ *testpki.Leaf) { m.fail("commit", errFull) }, "state_unwritable"},
		"kept at last":   {nil, func(_ *bench, m *memStore, _ *testpki.Leaf) { m.fail("swap", errFull) }, "state_unwritable"},
		"cannot be read": {nil, func(_ *bench, m *memStore, _ *testpki.Leaf) { m.fail("load", errors.New("its key does not fit")) }, "no_generation"},
		"another fqdn": {nil, func(b *bench, _ *memStore, _ *testpki.Leaf) {
			b.slot.FQDN = "three.nhs.uk"
			b.apply()
		}, "name_mismatch"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			bothKinds(t, func(t *testing.T, b *bench, m *memStore, take func(*testpki.Leaf)) {
				b.withCRLs()
				b.env.Revocation = "prefer"
				first := b.aged(1, testpki.DNS("pcs.nhs.uk", "two.nhs.uk"))[0]
				if tc.leaf != nil {
					first = tc.leaf(b)
				}
				second := b.leaf(testpki.DNS("pcs.nhs.uk", "two.nhs.uk"))
				b.slot.Allow = []string{RuleChain, RuleOlder} // so that the expired one serves at all
				b.start()
				take(first)
				b.slot.Allow = nil
				b.apply()
				take(second)
				if tc.before != nil {
					tc.before(b, m, first)
				}
				_ = b.keeper.Rotate(b.context(), "pcs", Order{})
				state, kept := b.pcs().Status().State, m.inForce()
				for _, allow := range [][]string{nil, {RuleChain, RuleOlder, RuleKeyReuse, RuleRolledBack}} {
					r := b.denied(b.rollback(0, allow...), tc.reason)
					if r.Rule == RuleChain || r.Pending != (tc.reason == "state_unwritable") {
						t.Errorf("refusal %+v", r)
					}
				}
				if g := b.is(second); g.Number != 2 || g.Held {
					t.Errorf("generation %+v", g)
				}
				if now := m.inForce(); now != kept {
					t.Errorf("in force %+v, was %+v", now, kept)
				}
				b.state(state)
				if tc.reason == RuleNames {
					b.do(b.rollback(0, RuleNames)) // somebody says so
					b.is(first)
				}
				m.fail("commit", nil)
				m.fail("swap", nil)
				if tc.reason == "state_unwritable" {
					b.still(second) // it is not done later, when nobody expects it
					b.do(b.rollback(0))
					b.is(first)
				}
			})
		})
	}
}

// Chain is never overridden by a rollback, also where the configuration has it.
func TestRollbackToExpiredWhereChainIsAllowed(t *testing.T) {
	bothKinds(t, func(t *testing.T, b *bench, _ *memStore, take func(*testpki.Leaf)) {
		b.slot.Allow = []string{RuleChain, RuleOlder, RuleNames}
		first := b.leaf(testpki.Validity(time.Now().Add(-3*time.Hour), time.Now().Add(-time.Minute)))
		second := b.leaf()
		b.start()
		take(first)
		take(second)
		b.denied(b.rollback(0, RuleChain), "expired")
		b.is(second)
	})
}

func TestRollbackOfNothing(t *testing.T) {
	bothKinds(t, func(t *testing.T, b *bench, _ *memStore, take func(*testpki.Leaf)) {
		b.start()
		b.denied(b.rollback(0), "no_generation")
		b.denied(b.rollback(1), "no_generation")
		take(b.leaf())
		if r := b.denied(b.rollback(0), "no_generation"); r.Pending || !strings.Contains(r.Error(), "kept are 1 (serves)") {
			t.Errorf("refusal %v", r)
		}
		b.wantState(SlotReady)
		b.wantTold(map[EventKind]int{EventRotated: 1, EventRestored: 0})
	})
}

// An order to roll back that comes before the slot was ever looked at.
func TestRollbackAtTheStart(t *testing.T) {
	b, m := newManagedBench(t)
	ls := b.aged(2)
	b.start()
	for _, l := range ls {
		b.offered(l)
	}
	b.forget()
	release := m.hang("current")
	started := make(chan struct{})
	go func() { b.start(); close(started) }()
	b.until("the store is asked", func() bool { return m.hanging() == 1 })
	outcome := make(chan error, 1)
	go func() { outcome <- b.rollback(0) }()
	release()
	<-started
	b.do(<-outcome)
	if g := b.is(ls[0]); g.Number != 3 || !g.Held {
		t.Errorf("generation %+v", g)
	}
	b.wantTold(map[EventKind]int{EventRestored: 1, EventRotated: 1})
}
