package rotate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/trust"
)

func TestApplyRefusesWhatCannotBe(t *testing.T) {
	b := newBench(t)
	b.pair(b.leaf())
	b.start()
	before, slots := b.pcs().Snapshot(), len(b.keeper.Slots())
	alter := map[string]func(p *Plan){
		`there is no environment "elsewhere"`: func(p *Plan) { p.Slots[1].Environment = "elsewhere" },
		`"pcs": its name is empty or used`:    func(p *Plan) { p.Slots[1].Name = "pcs" },
		`need certificate and key`:            func(p *Plan) { p.Slots[1].Files = Files{Certificate: "/x"} },
		`path "x" is not absolute`:            func(p *Plan) { p.Slots[1].Files = Files{Certificate: "x", Key: "/y"} },
		`unknown guard rule "all"`:            func(p *Plan) { p.Slots[1].Allow = []string{"all"} },
		`"test": its name is empty or used`:   func(p *Plan) { p.Environments = append(p.Environments, p.Environments[0]) },
		`no trust file`:                       func(p *Plan) { p.Environments[0].Trust = nil },
	}
	for want, f := range alter {
		second := b.slot
		second.Name = "second"
		changed := b.env
		changed.Grace = time.Hour
		p := Plan{Environments: []EnvironmentConfig{changed}, Slots: []SlotConfig{b.slot, second}}
		f(&p)
		if err := b.keeper.Apply(b.context(), p); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("apply: %v, want %q", err, want)
		}
	}
	if b.pcs().Snapshot() != before || len(b.keeper.Slots()) != slots {
		t.Error("a refused plan changed something")
	}
	p := Plan{Slots: []SlotConfig{{Name: "a"}, {Name: "b"}}}
	if err := b.keeper.Apply(b.context(), p); err == nil || strings.Count(err.Error(), "\n") != 3 {
		t.Errorf("want every problem at once, got %v", err)
	}
}

func TestApplyChangesAndRemoves(t *testing.T) {
	b := newBench(t)
	first := b.leaf()
	b.pair(first)
	b.start()
	slot, generation := b.pcs(), b.pcs().Snapshot().Generation
	e := b.endpoint(EndpointConfig{}, 0)

	second := b.slot
	second.Name = "second"
	plan := Plan{Environments: []EnvironmentConfig{b.env}, Slots: []SlotConfig{second, b.slot}}
	b.do(b.keeper.Apply(b.context(), plan))
	if got := b.keeper.Slots(); len(got) != 2 || got[0] != slot || got[1].Snapshot() == nil {
		t.Fatal("want both slots, by name, served")
	}
	plan.Slots = plan.Slots[:1]
	b.do(b.keeper.Apply(b.context(), plan))
	if b.pcs() != nil {
		t.Error("a slot that was removed is still there")
	}
	if _, err := e.TLS(); err != nil {
		t.Errorf("what drains can no longer connect: %v", err)
	}
	b.apply()
	if got := b.pcs(); got == nil || got == slot || got.Snapshot() == nil || got.Snapshot().Generation == generation {
		t.Error("a slot that came back is not a new one")
	}
	b.do(b.keeper.Apply(b.context(), Plan{}))
	if len(b.keeper.Environments()) != 0 || len(b.keeper.Slots()) != 0 {
		t.Error("an empty plan left something")
	}
}

// Moving a slot to another environment has its peers judged by that one at once,
// though the identity stays the same or fails there.
func TestApplyMovesASlotToAnotherEnvironment(t *testing.T) {
	for _, known := range []bool{true, false} {
		t.Run(fmt.Sprintf("identity known there %v", known), func(t *testing.T) {
			b := newBench(t)
			b.pair(b.leaf())
			b.start()
			other := testpki.NewRoot(t, testpki.Name("Other")).SubCA(t)
			bundle := other.BundlePEM()
			if known {
				bundle = append(bundle, b.sub.BundlePEM()...)
			}
			b.write("int.pem", bundle, 0o644)
			generation := b.pcs().Snapshot().Generation
			b.env.Name, b.env.Trust, b.slot.Environment = "int", []string{b.path("int.pem")}, "int"
			b.apply()
			snap := b.pcs().Snapshot()
			if got := snap.Trust.Environment(); got != "int" {
				t.Errorf("peers are judged by environment %q", got)
			}
			if snap.Generation.Digest() != generation.Digest() || snap.Generation.Number != generation.Number {
				t.Error("the identity changed with the environment")
			}
			if got := b.pcs().Status().State; (got == SlotReady) != known {
				t.Errorf("the slot is %s", got)
			}
		})
	}
}

func TestPlansAtOnce(t *testing.T) {
	b := newBench(t)
	b.pair(b.leaf())
	b.start()
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			env, slot := b.env, b.slot
			env.Name = fmt.Sprintf("env-%d", i)
			slot.Environment = env.Name
			for range 5 {
				if err := b.keeper.Apply(b.context(), Plan{[]EnvironmentConfig{env}, []SlotConfig{slot}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if envs := b.keeper.Environments(); len(envs) != 1 || b.pcs().Snapshot().Trust.Environment() != envs[0].Name() {
		t.Errorf("%d environments; the slot is in %s", len(envs), b.pcs().Snapshot().Trust.Environment())
	}
}

func TestRotateAndRefreshWait(t *testing.T) {
	b := newBench(t)
	b.watch = noInotify // nothing happens but on word
	first, second := b.leaf(), b.leaf()
	b.pair(first)
	b.start()
	b.pair(second)
	if !b.pcs().Snapshot().Generation.Identity.Leaf().Equal(first.Cert) {
		t.Fatal("the files were looked at without a reason")
	}
	b.do(b.keeper.Rotate(b.context(), "pcs", Order{}))
	if !b.pcs().Snapshot().Generation.Identity.Leaf().Equal(second.Cert) || b.pcs().Status().State != SlotReady {
		t.Error("Rotate returned before the outcome")
	}
	b.write("trust.pem", append([]byte("changed\n"), b.sub.BundlePEM()...), 0o644)
	b.write("pcs.key", nil, 0o600)
	sequence := b.pcs().Snapshot().Trust.Sequence()
	b.do(b.keeper.Refresh(b.context()))
	if b.pcs().Snapshot().Trust.Sequence() == sequence || b.pcs().Status().State != SlotPending {
		t.Error("Refresh returned before the outcome")
	}
	var r *Refusal
	if err := b.keeper.Rotate(b.context(), "pcs", Order{}); !errors.As(err, &r) || r.Reason != reasonIncoherent {
		t.Errorf("rotate: %v", err)
	}
	if err := b.keeper.Rotate(b.context(), "nobody", Order{}); err == nil {
		t.Error("a slot that is not there was rotated")
	}
	if err := b.keeper.Rotate(b.context(), "pcs", Order{Allow: []string{"everything"}}); err == nil {
		t.Error("an unknown rule was allowed")
	}
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			if err := b.keeper.Refresh(b.context()); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}

func TestAfterTheEnd(t *testing.T) {
	b := newBench(t)
	leaf := b.leaf()
	b.pair(leaf)
	k := New(Options{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- k.Run(ctx) }()
	plan := Plan{[]EnvironmentConfig{b.env}, []SlotConfig{b.slot}}
	b.do(k.Apply(t.Context(), plan))
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("run: %v", err)
	}
	for what, err := range map[string]error{
		"apply": k.Apply(t.Context(), plan), "refresh": k.Refresh(t.Context()), "rotate": k.Rotate(t.Context(), "pcs", Order{}),
	} {
		if !errors.Is(err, ErrStopped) {
			t.Errorf("%s: %v, want ErrStopped", what, err)
		}
	}
	s := k.Slot("pcs")
	e, err := s.Endpoint(EndpointConfig{Peers: trust.AnyName()})
	b.do(err)
	if c := config(t, e); !s.Snapshot().Generation.Identity.Leaf().Equal(c.Certificates[0].Leaf) {
		t.Error("what was served is served no longer")
	}
}

func TestCallsEndWithTheirContext(t *testing.T) {
	k := New(Options{}) // never runs
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	for what, err := range map[string]error{
		"apply": k.Apply(ctx, Plan{}), "refresh": k.Refresh(ctx), "rotate": k.Rotate(ctx, "pcs", Order{}),
	} {
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
