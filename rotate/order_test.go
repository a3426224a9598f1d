package rotate

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
)

func TestOrdersThatCannotBe(t *testing.T) {
	b, _ := newStoreBench(t)
	b.pair(b.leaf())
	b.start()
	k, ctx := b.keeper, b.context()
	for what, err := range map[string]error{
		"offer to files":      k.Offer(ctx, "pcs", identity(t, b.leaf()), Order{}),
		"offer to nobody":     k.Offer(ctx, "nobody", nil, Order{}),
		"roll back nobody":    k.Rollback(ctx, "nobody", 0, Order{}),
		"accept of nobody":    k.Accept(ctx, "nobody", Order{}),
		"unknown rule":        k.Rollback(ctx, "pcs", 0, Order{Allow: []string{"everything"}}),
		"a rule of trust":     k.Rotate(ctx, "pcs", Order{Allow: []string{RuleTrustShrink}}),
		"an unknown rule too": k.Offer(ctx, "pcs", nil, Order{Allow: []string{""}}),
	} {
		var r *Refusal
		if err == nil || errors.As(err, &r) {
			t.Errorf("%s: %v, want an error of usage", what, err)
		}
	}
	b.managed()
	b.store = nil
	k = New(Options{})
	if err := k.Apply(ctx, Plan{[]EnvironmentConfig{b.env}, []SlotConfig{b.slot}}); err == nil {
		t.Error("a managed slot without a store")
	}
	b.stop()
	for what, err := range map[string]error{
		"offer": b.keeper.Offer(ctx, "pcs", nil, Order{}), "rollback": b.keeper.Rollback(ctx, "pcs", 0, Order{}), "accept": b.keeper.Accept(ctx, "test", Order{}),
	} {
		if !errors.Is(err, ErrStopped) {
			t.Errorf("%s: %v, want ErrStopped", what, err)
		}
	}
}

func TestPlanOfManagedSlots(t *testing.T) {
	b, _ := newManagedBench(t)
	for want, f := range map[string]func(c *SlotConfig){
		"a managed slot has no files":      func(c *SlotConfig) { c.Files.Certificate = "/x" },
		"keeps one generation at least":    func(c *SlotConfig) { c.Keep = 0 },
		"need certificate and key, or pkc": func(c *SlotConfig) { c.Managed = false },
	} {
		c := b.slot
		f(&c)
		if err := (Plan{[]EnvironmentConfig{b.env}, []SlotConfig{c}}).Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestActorIsHandedOn(t *testing.T) {
	b, _ := newManagedBench(t)
	ls := b.aged(2)
	b.start()
	for i, l := range ls {
		b.do(b.keeper.Offer(b.context(), "pcs", identity(t, l), Order{Actor: i}))
	}
	b.do(b.keeper.Rollback(b.context(), "pcs", 0, Order{Actor: 2}))
	for i, e := range b.of(EventRotated) {
		if e.Actor != i {
			t.Errorf("event %d has actor %v", i, e.Actor)
		}
	}
}

// Orders come from many at once, while plans change: each has one answer, and it
// is true at that moment or the next.
func TestOrdersAtOnce(t *testing.T) {
	for _, managed := range []bool{false, true} {
		t.Run(fmt.Sprintf("managed %v", managed), func(t *testing.T) {
			b, m := newStoreBench(t)
			ls := b.aged(12)
			if managed {
				b.managed()
			}
			b.pair(ls[0])
			b.start()
			if managed {
				b.offered(ls[0])
			}
			var group sync.WaitGroup
			for i := range 4 {
				group.Go(func() {
					for n := range 10 {
						var r *Refusal
						var err error
						switch i {
						case 0:
							err = b.rollback(0, RuleNames)
						case 1:
							err = b.keeper.Rotate(b.context(), "pcs", Order{Release: n%2 == 0})
						case 2:
							if managed {
								err = b.offer(ls[n+1], RuleOlder, RuleRolledBack)
							} else {
								b.pair(ls[n+1])
							}
						case 3:
							c := b.slot
							c.FQDN = map[bool]string{true: "pcs.nhs.uk"}[n%2 == 0]
							err = b.keeper.Apply(b.context(), Plan{[]EnvironmentConfig{b.env}, []SlotConfig{c}})
						}
						if err != nil && !errors.As(err, &r) {
							t.Errorf("order %d: %v", i, err)
						}
					}
				})
			}
			group.Wait()
			b.until("memory and disk agree", func() bool {
				g := b.pcs().Snapshot().Generation
				return m.inForce().Number == g.Number && m.inForce().Digest == g.digest
			})
			last := uint64(0)
			for _, c := range m.committed("pcs") {
				if c.Number <= last {
					t.Fatalf("committed %s: numbers do not grow", numbers(m.committed("pcs")))
				}
				last = c.Number
			}
		})
	}
}

// An order that meets a change of the plan is looked at again; it is not said to
// be done before it is.
func TestPlanChangesDuringAnOrder(t *testing.T) {
	for name, order := range map[string]func(b *bench, l *testpki.Leaf) error{
		"rollback": func(b *bench, _ *testpki.Leaf) error { return b.rollback(0) },
		"offer":    func(b *bench, l *testpki.Leaf) error { return b.offer(l) },
	} {
		t.Run(name, func(t *testing.T) {
			b, m := newManagedBench(t)
			ls := b.aged(3)
			b.start()
			b.offered(ls[0])
			b.offered(ls[1])
			want := map[string]*testpki.Leaf{"rollback": ls[0], "offer": ls[2]}[name]
			release := m.hang("commit")
			outcome, applied := make(chan error, 1), make(chan error, 1)
			go func() { outcome <- order(b, ls[2]) }()
			b.until("the commit hangs", func() bool { return m.hanging() == 1 })
			b.slot.FQDN = "pcs.nhs.uk"
			plan := Plan{Environments: []EnvironmentConfig{b.env}, Slots: []SlotConfig{b.slot}}
			go func() { applied <- b.keeper.Apply(b.context(), plan) }()
			b.until("the plan has changed", func() bool {
				same := false
				b.do(b.keeper.call(b.context(), func() { same = b.keeper.slots["pcs"].config.FQDN != "" }))
				return same
			})
			release()
			b.do(<-outcome)
			b.is(want)
			b.do(<-applied)
			if m.inForce().Digest != b.is(want).digest {
				t.Error("memory and disk differ")
			}
		})
	}
}

// The same, and the new plan refuses what the old one would have taken.
func TestPlanThatRefusesChangesDuringAnOrder(t *testing.T) {
	b, m := newManagedBench(t)
	ls := b.aged(3)
	b.start()
	b.offered(ls[0])
	release := m.hang("commit")
	outcome := make(chan error, 1)
	go func() { outcome <- b.offer(ls[1]) }()
	b.until("the commit hangs", func() bool { return m.hanging() == 1 })
	b.do(b.keeper.call(b.context(), func() { b.keeper.slots["pcs"].config.FQDN = "other.nhs.uk" }))
	release()
	b.do(<-outcome) // the disk had it before the plan changed: memory follows
	b.is(ls[1])
	if got := m.inForce(); got.Digest != b.pcs().Snapshot().Generation.digest {
		t.Errorf("generation %d is kept", got.Number)
	}
	b.refused(reasonFQDN) // and it is said that the name is another now
}

func TestOrderToASlotThatIsRemoved(t *testing.T) {
	b, m := newManagedBench(t)
	ls := b.aged(2)
	b.start()
	b.offered(ls[0])
	release := m.hang("commit")
	outcomes := make(chan error, 3)
	go func() { outcomes <- b.offer(ls[1]) }()
	b.until("the commit hangs", func() bool { return m.hanging() == 1 })
	go func() { outcomes <- b.rollback(0) }()
	go func() { outcomes <- b.keeper.Rotate(b.context(), "pcs", Order{}) }()
	b.until("all orders are there", func() bool {
		n := 0
		b.do(b.keeper.call(b.context(), func() { n = len(b.keeper.slots["pcs"].unit.orders) }))
		return n == 2
	})
	b.do(b.keeper.Apply(b.context(), Plan{Environments: []EnvironmentConfig{b.env}}))
	for range 3 { // though the store still hangs
		b.denied(<-outcomes, "removed")
	}
	release()
	b.until("the look is over", func() bool {
		n := 0
		b.do(b.keeper.call(b.context(), func() { n = len(b.keeper.running) }))
		return n == 0
	})
	b.apply() // it comes back, with what the disk has
	b.is(ls[1])
}

func TestHangingStoreIsAnsweredInTime(t *testing.T) {
	inTime(t, func(b *bench) {
		b, m := withStore(b)
		b.managed()
		ls := b.aged(3)
		other := b.slot
		other.Name = "other"
		b.start()
		b.do(b.keeper.Apply(b.context(), Plan{Environments: []EnvironmentConfig{b.env}, Slots: []SlotConfig{b.slot, other}}))
		b.offered(ls[0])
		release := m.hang("commit")
		began := time.Now()
		r := b.denied(b.offer(ls[1]), "state_unwritable")
		if took := time.Since(began); took < hangAfter || took > hangAfter+hangCheck+beatInterval || !r.Pending {
			b.t.Errorf("answered after %s: %v", took, r)
		}
		// And so is who comes later.
		began = time.Now()
		b.denied(b.rollback(0), "state_unwritable")
		if took := time.Since(began); took > hangCheck+beatInterval {
			b.t.Errorf("answered after %s", took)
		}
		b.is(ls[0])
		release()
		later(time.Minute)
		b.is(ls[1]) // the disk has it, so it serves
		b.wantState(SlotReady)
		if m.inForce().Digest != b.is(ls[1]).digest {
			b.t.Error("memory and disk differ")
		}
	})
}

// Whoever puts files in place may keep their key.
func TestFilesMayKeepTheirKey(t *testing.T) {
	b := newBench(t)
	key := testpki.NewKey(t, "ecdsa-p256")
	first, second := b.leaf(testpki.Key(key)), b.leaf(testpki.Key(key))
	b.pair(first)
	b.start()
	b.pair(second)
	b.serves(second)
}
