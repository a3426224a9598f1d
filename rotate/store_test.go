package rotate

import (
	"errors"
	"os"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/trust"
)

// What may lie on disk at a start, when the store has the third of five certificates.
func TestRestart(t *testing.T) {
	expired := testpki.Validity(time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour))
	tests := map[string]struct {
		change func(b *bench, ls []*testpki.Leaf)
		state  SlotState
		reason string
	}{
		"torn pair": {func(b *bench, ls []*testpki.Leaf) { b.put("pcs.key", ls[3].KeyPEM(), 0o600) }, SlotPending, reasonIncoherent},
		"no files": {func(b *bench, _ []*testpki.Leaf) {
			b.do(errors.Join(os.Remove(b.path("pcs.key")), os.Remove(b.path("pcs.crt"))))
		}, SlotPending, reasonUnreadable},
		"half a file":  {func(b *bench, ls []*testpki.Leaf) { b.write("pcs.crt", ls[3].CertPEM()[:200], 0o644) }, SlotPending, reasonIncoherent},
		"readable key": {func(b *bench, ls []*testpki.Leaf) { b.do(os.Chmod(b.path("pcs.key"), 0o644)) }, SlotRefused, reasonKeyReadable},
		"expired":      {func(b *bench, _ []*testpki.Leaf) { b.pair(b.leaf(expired)) }, SlotRefused, "expired"},
		"of a stranger": {func(b *bench, _ []*testpki.Leaf) {
			b.pair(testpki.NewRoot(b.t, testpki.Name("Stranger")).Issue(b.t, testpki.Name("pcs.nhs.uk")))
		}, SlotRefused, "unknown_issuer"},
		"older":          {func(b *bench, ls []*testpki.Leaf) { b.pair(ls[1]) }, SlotRefused, RuleOlder},
		"a name is gone": {func(b *bench, _ []*testpki.Leaf) { b.pair(b.leaf(testpki.DNS("other.nhs.uk"))) }, SlotRefused, RuleNames},
		"a directory": {func(b *bench, _ []*testpki.Leaf) {
			b.do(errors.Join(os.Remove(b.path("pcs.key")), os.Mkdir(b.path("pcs.key"), 0o700)))
		}, SlotRefused, reasonUnreadable},
		"nothing changed": {func(*bench, []*testpki.Leaf) {}, SlotReady, ""},
		"other bytes, same certificate": {func(b *bench, ls []*testpki.Leaf) {
			b.put("pcs.crt", append([]byte("renewed by hand\n"), ls[2].CertPEM()...), 0o644)
		}, SlotReady, ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			b, m := newStoreBench(t)
			ls := b.aged(5)
			b.pair(ls[0])
			b.start()
			b.saved(m)
			b.rotated(m, ls[1])
			b.rotated(m, ls[2])
			was := b.is(ls[2])
			b.stop()
			tc.change(b, ls)
			b.restart()
			g := b.is(ls[2])
			if g.Number != 3 || g.Digest() != was.Digest() || !g.Since.Equal(was.Since) || g.Origin != FromFiles || !g.NotAfter.Equal(was.NotAfter) {
				t.Errorf("restored as %+v, want %+v", g, was)
			}
			b.wantState(tc.state)
			if r := b.pcs().Status().Refusal; (r == nil) != (tc.reason == "") || r != nil && r.Reason != tc.reason {
				t.Errorf("refusal %v, want %q", r, tc.reason)
			}
			b.wantTold(map[EventKind]int{EventRestored: 1, EventRotated: 0, EventOwnChain: 0, EventDamaged: 0, EventUnsaved: 0})
			if e := b.of(EventRestored)[0]; e.To.Number != 3 || e.From != nil || e.Slot != "pcs" || e.Environment != "test" {
				t.Errorf("told %+v", e)
			}
			b.still(ls[2])
			if got := numbers(m.committed("pcs")); got != "1 2 3 " {
				t.Errorf("committed %s: a start writes nothing", got)
			}
			// And it goes on from there.
			if info, err := os.Stat(b.path("pcs.key")); err == nil && info.IsDir() {
				b.do(os.Remove(b.path("pcs.key")))
			}
			next := b.leaf() // starts later than all
			b.rotated(m, next)
			if g := b.is(next); g.Number != 4 {
				t.Errorf("the next generation is %d", g.Number)
			}
			b.state(SlotReady)
		})
	}
}

func TestNewerFilesAtAStart(t *testing.T) {
	b, m := newStoreBench(t)
	ls := b.aged(3)
	b.pair(ls[0])
	b.start()
	b.saved(m)
	b.stop()
	b.pair(ls[1])
	b.restart()
	if g := b.is(ls[1]); g.Number != 2 {
		t.Errorf("generation %d, want 2", g.Number)
	}
	if e := b.of(EventRotated); len(e) != 1 || e[0].To.Number != 2 || e[0].From == nil || e[0].From.Number != 1 {
		t.Errorf("told %+v", e)
	}
	b.saved(m)
	b.restart()
	if g := b.is(ls[1]); g.Number != 2 {
		t.Errorf("generation %d after another start, want 2", g.Number)
	}
	b.wantTold(map[EventKind]int{EventRotated: 0, EventRestored: 1})
}

// A rule that refuses at a start is allowed by name as at any time.
func TestOlderFilesAtAStartAreAllowedByName(t *testing.T) {
	b, m := newStoreBench(t)
	ls := b.aged(2)
	b.pair(ls[1])
	b.start()
	b.saved(m)
	b.stop()
	b.pair(ls[0])
	b.restart()
	b.is(ls[1])
	b.do(b.keeper.Rotate(b.context(), "pcs", Order{Allow: []string{RuleOlder}}))
	if g := b.is(ls[0]); g.Number != 2 {
		t.Errorf("generation %d", g.Number)
	}
	b.saved(m)
	b.restart()
	b.is(ls[0])
	b.wantState(SlotReady)
}

func TestTrustThatComesAfterTheStart(t *testing.T) {
	for name, managed := range map[string]bool{"files": false, "managed": true} {
		t.Run(name, func(t *testing.T) {
			b, m := newStoreBench(t)
			only := b.leaf()
			if managed {
				b.managed()
				b.start()
				b.offered(only)
			} else {
				b.pair(only)
				b.start()
				b.saved(m)
			}
			b.stop()
			b.do(os.Remove(b.path("trust.pem")))
			if !managed {
				b.write("pcs.key", nil, 0o600)
			}
			b.restart()
			if b.pcs().Snapshot() != nil {
				t.Fatal("served without trust")
			}
			b.wantTold(map[EventKind]int{EventRestored: 0})
			b.put("trust.pem", b.sub.BundlePEM(), 0o644)
			b.serves(only)
			if managed {
				b.state(SlotReady)
			} else {
				b.state(SlotPending)
			}
			if g := b.is(only); g.Number != 1 {
				t.Errorf("generation %d", g.Number)
			}
			b.wantTold(map[EventKind]int{EventRestored: 1, EventRotated: 0})
		})
	}
}

func TestKeptForAnotherEnvironmentIsNotServed(t *testing.T) {
	for name, managed := range map[string]bool{"files": false, "managed": true} {
		t.Run(name, func(t *testing.T) {
			b, m := newStoreBench(t)
			ls := b.aged(2)
			if managed {
				b.managed()
				b.start()
				b.offered(ls[0])
			} else {
				b.pair(ls[0])
				b.start()
				b.saved(m)
			}
			b.stop()
			if !managed {
				b.write("pcs.key", nil, 0o600)
			}
			b.env.Name, b.slot.Environment = "int", "int" // though its trust would accept it
			b.restart()
			if b.pcs().Snapshot() != nil {
				t.Fatal("an identity of the old environment is served")
			}
			b.wantTold(map[EventKind]int{EventRestored: 0})
			if managed {
				b.offered(ls[1])
			} else {
				b.rotated(m, ls[1])
			}
			if r := m.inForce(); r.Number != 2 || r.Environment != "int" {
				t.Errorf("in force %+v", r)
			}
			if managed { // it was never of this environment, though it is kept
				b.denied(b.rollback(0), "no_generation")
				b.denied(b.rollback(1), "no_generation")
			}
		})
	}
}

// A slot that moves while it serves nothing takes nothing of the old environment
// with it, and has it back when it returns.
func TestMovesBeforeItsTrustIsThere(t *testing.T) {
	for name, managed := range map[string]bool{"files": false, "managed": true} {
		t.Run(name, func(t *testing.T) {
			b, m := newStoreBench(t)
			only := b.leaf()
			if managed {
				b.managed()
			}
			b.pair(only)
			b.start()
			if managed {
				b.offered(only)
			} else {
				b.saved(m)
			}
			b.stop()
			b.write("pcs.key", nil, 0o600)
			b.do(os.Remove(b.path("trust.pem")))
			b.restart() // kept, and not served: there is no trust
			home, homeSlot := b.env, b.slot
			b.write("int.pem", b.sub.BundlePEM(), 0o644)
			away := b.env
			away.Name, away.Trust, b.slot.Environment = "int", []string{b.path("int.pem")}, "int"
			both := func() {
				t.Helper()
				b.do(b.keeper.Apply(b.context(), Plan{Environments: []EnvironmentConfig{home, away}, Slots: []SlotConfig{b.slot}}))
			}
			both()
			if b.pcs().Snapshot() != nil {
				t.Fatal("what is kept for one environment is served in another")
			}
			b.put("trust.pem", b.sub.BundlePEM(), 0o644)
			b.until("the trust of the old environment is there", func() bool { return b.keeper.Environments()[1].Trust() != nil })
			b.slot = homeSlot
			both()
			if g := b.is(only); g.Number != 1 {
				t.Errorf("generation %d", g.Number)
			}
			b.wantTold(map[EventKind]int{EventRestored: 1, EventRotated: 0})
		})
	}
}

// The same, and the store was asked for the old environment when the plan changed.
func TestMovesWhileTheStoreIsAsked(t *testing.T) {
	b, m := newManagedBench(t)
	b.start()
	b.offered(b.leaf())
	b.forget()
	release := m.hang("current")
	away := b.env
	away.Name = "int"
	moved := b.slot
	moved.Environment = "int"
	started := make(chan struct{})
	go func() { b.start(); close(started) }()
	b.until("the store is asked", func() bool { return m.hanging() == 1 })
	b.do(b.keeper.call(b.context(), func() {
		e := newEnvironment(b.keeper, away)
		e.state.Store(b.keeper.environments["test"].state.Load())
		b.keeper.environments["int"] = e
		s := b.keeper.slots["pcs"]
		s.config, s.env = moved, e // as a plan does
	}))
	release()
	<-started
	_ = b.keeper.Rotate(b.context(), "pcs", Order{})
	if b.pcs().Snapshot() != nil {
		t.Error("what is kept for one environment is served in another")
	}
	b.wantTold(map[EventKind]int{EventRestored: 0})
}

// A mistake in the configuration, corrected, costs a managed slot nothing.
func TestManagedSlotThatReturnsToItsEnvironment(t *testing.T) {
	b, _ := newManagedBench(t)
	only := b.leaf()
	b.start()
	b.offered(only)
	away, home, homeSlot := b.env, b.env, b.slot
	away.Name, away.Trust = "int", []string{b.path("missing.pem")}
	b.slot.Environment = "int"
	both := func() {
		t.Helper()
		b.do(b.keeper.Apply(b.context(), Plan{Environments: []EnvironmentConfig{home, away}, Slots: []SlotConfig{b.slot}}))
	}
	both()
	if b.pcs().Snapshot() != nil {
		t.Fatal("served without trust")
	}
	b.slot = homeSlot
	both()
	if g := b.is(only); g.Number != 1 {
		t.Errorf("generation %d", g.Number)
	}
}

func TestKeptIdentityThatExpired(t *testing.T) {
	for name, files := range map[string]bool{"files in place": true, "files gone": false, "managed": false} {
		t.Run(name, func(t *testing.T) {
			inTime(t, func(b *bench) {
				b, _ = withStore(b)
				b.root = testpki.NewRoot(b.t, testpki.Name("Young"), testpki.Validity(time.Now().Add(-time.Hour), time.Now().Add(1000*time.Hour)))
				b.sub = b.root.SubCA(b.t, testpki.Validity(time.Now().Add(-time.Hour), time.Now().Add(1000*time.Hour)))
				b.write("trust.pem", b.sub.BundlePEM(), 0o644)
				only := b.leaf(testpki.Validity(time.Now().Add(-time.Hour), time.Now().Add(time.Hour)))
				if name == "managed" {
					b.managed()
					b.start()
					b.offered(only)
				} else {
					b.pair(only)
					b.start()
				}
				later(time.Second)
				b.stop()
				if !files && name != "managed" {
					b.do(os.Remove(b.path("pcs.key")))
				}
				later(2 * time.Hour)
				b.restart()
				b.is(only)
				later(time.Hour)
				b.is(only)
				b.wantTold(map[EventKind]int{EventRestored: 1, EventRotated: 0, EventOwnChain: 1})
				if e := b.of(EventOwnChain); len(e) > 0 && e[0].Reason != string(trust.Expired) {
					t.Errorf("told %q", e[0].Reason)
				}
			})
		})
	}
}
