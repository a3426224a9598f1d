package rotate

import (
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/trust"
)

func TestManagedSlotBegins(t *testing.T) {
	b, m := newManagedBench(t)
	ls := b.aged(2)
	b.start()
	b.wantState(SlotEmpty)
	if st := b.pcs().Status(); st.Refusal != nil || st.Generation != nil || !st.PendingSince.IsZero() {
		t.Errorf("status %+v", st)
	}
	for i, l := range ls {
		b.offered(l)
		if g := b.is(l); g.Number != uint64(i+1) || g.Origin != FromImport || g.Held || g.Of != 0 {
			t.Errorf("generation %+v", g)
		}
		b.wantState(SlotReady)
	}
	// The order is the point: kept first, then served.
	for i, c := range m.committed("pcs") {
		if c.serving != uint64(i) || c.Origin != FromImport || c.keep != 5 {
			t.Errorf("generation %d was written while %d was served; %+v", c.Number, c.serving, c)
		}
	}
	b.wantTold(map[EventKind]int{EventRotated: 2, EventRefused: 0, EventPending: 0, EventSaved: 0})
	b.restart()
	if g := b.is(ls[1]); g.Number != 2 {
		t.Errorf("generation %d after a start", g.Number)
	}
	b.wantState(SlotReady)
	b.wantTold(map[EventKind]int{EventRestored: 1, EventRotated: 0})
}

func TestNothingServesBeforeItIsKept(t *testing.T) {
	b, m := newManagedBench(t)
	ls := b.aged(2)
	b.start()
	b.offered(ls[0])
	release := m.hang("commit")
	outcome := make(chan error, 1)
	go func() { outcome <- b.offer(ls[1]) }()
	b.until("the commit hangs", func() bool { return m.hanging() == 1 })
	b.is(ls[0])
	if len(outcome) != 0 {
		t.Error("answered before it was kept")
	}
	release()
	b.do(<-outcome)
	b.is(ls[1])
}

func TestOfferThatCannotBeKept(t *testing.T) {
	for _, fault := range []string{"commit", "swap"} {
		t.Run(fault, func(t *testing.T) {
			b, m := newManagedBench(t)
			ls := b.aged(3)
			b.start()
			b.offered(ls[0])
			m.fail(fault, errFull)
			r := b.denied(b.offer(ls[1]), "state_unwritable")
			if !r.Pending || r.Rule != "" || !errors.Is(r, errFull) {
				t.Errorf("refusal %+v", r)
			}
			b.is(ls[0])
			if m.inForce().Number != 1 {
				t.Errorf("in force %+v", m.inForce())
			}
			b.wantState(SlotPending)
			tries := m.count("commit")
			b.until("it is tried again", func() bool { return m.count("commit") > tries+2 })
			if got := b.count(EventPending); got != 1 {
				t.Errorf("told %d times, want once", got)
			}
			m.fail(fault, nil)
			b.serves(ls[1]) // by itself
			b.state(SlotReady)
			if got := b.is(ls[1]).Number; got != m.inForce().Number {
				t.Errorf("serves %d, kept is %d", got, m.inForce().Number)
			}
			b.offered(ls[2])
		})
	}
}

// What a Commit that failed left behind is not in the way of another identity.
func TestAnotherOfferAfterOneThatCouldNotBeKept(t *testing.T) {
	b, m := newManagedBench(t)
	ls := b.aged(3)
	b.start()
	b.offered(ls[0])
	m.fail("swap", errFull)
	b.denied(b.offer(ls[1]), ReasonUnwritable)
	m.fail("swap", nil)
	b.do(b.keeper.Offer(b.context(), "pcs", nil, Order{}))
	b.offered(ls[2])
	if got := b.is(ls[2]).Number; got != m.inForce().Number || got < 2 {
		t.Errorf("serves %d, kept is %d", got, m.inForce().Number)
	}
}

func TestOfferIsTakenAtItsNotBefore(t *testing.T) {
	inTime(t, func(b *bench) {
		b, m := withStore(b)
		b.slot.Poll = 48 * time.Hour
		b.managed()
		ls := b.aged(1)
		b.start()
		b.offered(ls[0])
		start := time.Now().Add(3 * time.Hour).Truncate(time.Second)
		second := b.leaf(testpki.Validity(start, start.Add(time.Hour)))
		if r := b.denied(b.offer(second), string(trust.NotYetValid)); r.Pending {
			b.t.Error("pending, though it is whole")
		}
		later(time.Until(start) - 6*time.Minute)
		b.is(ls[0])
		later(6*time.Minute + time.Second)
		if g := b.is(second); g.Number != 2 || m.inForce().Number != 2 {
			b.t.Errorf("generation %d, kept %d", g.Number, m.inForce().Number)
		}
		b.wantState(SlotReady)
		b.wantTold(map[EventKind]int{EventRefused: 1, EventRotated: 2})
	})
}

func TestOfferBeforeItsCA(t *testing.T) {
	b, _ := newManagedBench(t)
	g2 := testpki.NewRoot(t, testpki.Name("Root G2")).SubCA(t, testpki.Name("Authentication G2"))
	first, second := b.leaf(), g2.Issue(t, testpki.Name("pcs.nhs.uk"))
	b.start()
	b.offered(first)
	if r := b.denied(b.offer(second), string(trust.UnknownIssuer)); r.Rule != RuleChain {
		t.Errorf("rule %q", r.Rule)
	}
	b.is(first)
	b.wantState(SlotRefused)
	b.put("trust.pem", append(b.sub.BundlePEM(), g2.BundlePEM()...), 0o644)
	b.serves(second)
	b.state(SlotReady)
	b.wantTold(map[EventKind]int{EventRotated: 2, EventOwnChain: 0})
}

func TestOfferBeforeItsTrust(t *testing.T) {
	b, m := newManagedBench(t)
	only := b.leaf()
	b.env.Trust = []string{b.path("later.pem")}
	b.start()
	b.denied(b.offer(only), ReasonNoTrust)
	if len(m.committed("pcs")) != 0 {
		t.Error("kept without having been judged")
	}
	b.put("later.pem", b.sub.BundlePEM(), 0o644)
	b.serves(only)
	b.state(SlotReady)
}

func TestOfferWithdrawn(t *testing.T) {
	b, m := newManagedBench(t)
	ls := b.aged(2)
	b.start()
	b.do(b.keeper.Offer(b.context(), "pcs", nil, Order{})) // there is none
	b.offered(ls[1])
	b.denied(b.offer(ls[0]), RuleOlder)
	b.wantState(SlotRefused)
	b.do(b.keeper.Offer(b.context(), "pcs", nil, Order{Allow: []string{RuleOlder}}))
	b.wantState(SlotReady)
	b.do(b.keeper.Rotate(b.context(), "pcs", Order{}))
	b.is(ls[1])
	b.wantTold(map[EventKind]int{EventCleared: 1, EventRefused: 1})
	if got := numbers(m.committed("pcs")); got != "1 " {
		t.Errorf("committed %s", got)
	}
	// A rule that was allowed for nothing is allowed for nothing that comes.
	b.denied(b.offer(ls[0]), RuleOlder)
	b.is(ls[1])
}

// What the guard refuses of an offer, and its name, alone, lets through.
func TestGuardOfOffers(t *testing.T) {
	now := time.Now()
	key := testpki.NewKey(t, "ecdsa-p256")
	base := []testpki.Option{testpki.DNS("a.nhs.uk", "b.nhs.uk"), testpki.Validity(now.Add(-time.Hour), now.Add(time.Hour)), testpki.Key(key)}
	tests := map[string]struct {
		opts     []testpki.Option
		stranger bool
		reason   string // "" is accepted
		rule     string
	}{
		"a new key":           {nil, false, "", ""},
		"older":               {[]testpki.Option{testpki.Validity(now.Add(-2*time.Hour), now.Add(time.Hour))}, false, RuleOlder, RuleOlder},
		"a name lost":         {[]testpki.Option{testpki.DNS("a.nhs.uk")}, false, RuleNames, RuleNames},
		"the same key":        {[]testpki.Option{testpki.Key(key)}, false, RuleKeyReuse, RuleKeyReuse},
		"of a stranger":       {nil, true, "unknown_issuer", RuleChain},
		"expired":             {[]testpki.Option{testpki.Validity(now.Add(-time.Hour), now.Add(-time.Minute))}, false, "expired", RuleChain},
		"ends earlier, newer": {[]testpki.Option{testpki.Validity(now.Add(-time.Minute), now.Add(time.Minute))}, false, "", ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			b, m := newManagedBench(t)
			first := b.sub.Issue(t, base...)
			issuer := b.sub
			if tc.stranger {
				issuer = testpki.NewRoot(t, testpki.Name("Stranger")).SubCA(t, testpki.Name("Stranger's"))
			}
			opts := append([]testpki.Option{base[0], base[1]}, tc.opts...)
			second := issuer.Issue(t, opts...)
			b.start()
			b.offered(first)
			if tc.reason == "" {
				b.offered(second)
				return
			}
			r := b.denied(b.offer(second), tc.reason)
			if r.Rule != tc.rule || r.Pending {
				t.Errorf("refusal %+v", r)
			}
			if tc.rule != RuleChain && !strings.Contains(r.Hint(), "import") {
				t.Errorf("hint %q is not for a managed slot", r.Hint())
			}
			b.is(first)
			for _, other := range Rules() {
				if other != tc.rule {
					b.denied(b.offer(second, other), tc.reason)
				}
			}
			b.is(first)
			if len(m.committed("pcs")) != 1 {
				t.Error("kept though it was refused")
			}
			b.offered(second, tc.rule)
			if m.inForce().Digest != b.is(second).digest {
				t.Error("served, not kept")
			}
		})
	}
}

// The rules that were allowed for an offer live as long as it, and no longer.
func TestAllowDiesWithTheOffer(t *testing.T) {
	b, m := newManagedBench(t)
	ls := b.aged(4)
	b.start()
	b.offered(ls[2])
	m.fail("commit", errFull)
	b.denied(b.offer(ls[0], RuleOlder), ReasonUnwritable)
	b.denied(b.offer(ls[1]), RuleOlder) // another offer: the word was not for it
	m.fail("commit", nil)
	b.denied(b.keeper.Rotate(b.context(), "pcs", Order{}), RuleOlder)
	b.is(ls[2])

	m.fail("commit", errFull)
	b.denied(b.offer(ls[0], RuleOlder), ReasonUnwritable)
	m.fail("commit", nil)
	b.serves(ls[0]) // tried again by itself, still allowed
	b.offered(ls[3])
	b.denied(b.offer(ls[1]), RuleOlder)
	b.is(ls[3])
}

func TestSameIdentityOfferedAgain(t *testing.T) {
	b, m := newManagedBench(t)
	only := b.leaf()
	b.start()
	b.offered(only)
	before := b.pcs().Snapshot()
	for range 3 {
		b.offered(only)
	}
	// The chain is completed from the bundle, so the leaf alone is the same.
	alone, err := pki.NewIdentity([]*x509.Certificate{only.Cert}, only.Key)
	b.do(err)
	b.do(b.keeper.Offer(b.context(), "pcs", alone, Order{}))
	if b.pcs().Snapshot() != before || len(m.committed("pcs")) != 1 {
		t.Errorf("another snapshot, or committed %s", numbers(m.committed("pcs")))
	}
	b.wantTold(map[EventKind]int{EventRotated: 1, EventCleared: 0})
}

// What was judged by one trust is not put in force under another that refuses it,
// unless the disk has it already: memory follows the disk.
func TestTrustChangesWhileAnOfferIsKept(t *testing.T) {
	b, m := newManagedBench(t)
	other := testpki.NewRoot(t, testpki.Name("Other Root")).SubCA(t, testpki.Name("Other"))
	b.write("trust.pem", append(b.sub.BundlePEM(), other.BundlePEM()...), 0o644)
	first, second := other.Issue(t, testpki.Name("pcs.nhs.uk")), b.leaf()
	b.start()
	b.offered(first)
	release := m.hang("commit")
	outcome := make(chan error, 1)
	go func() { outcome <- b.offer(second) }()
	b.until("the commit hangs", func() bool { return m.hanging() == 1 })
	b.replaceTrust(other.BundlePEM())
	sequence := b.environment().Trust().Sequence()
	b.is(first)
	release()
	<-outcome
	b.serves(second)
	if m.inForce().Digest != b.is(second).digest {
		t.Error("memory and disk differ")
	}
	if got := b.pcs().Snapshot().Trust.Sequence(); got != sequence {
		t.Errorf("served under trust %d, want the newest %d", got, sequence)
	}
	b.until("it is told that its chain fails", func() bool { return b.count(EventOwnChain) == 1 })
	b.state(SlotRefused)
}

func TestTrustChangesBeforeAnOfferIsPublished(t *testing.T) {
	b, _ := newManagedBench(t)
	first := b.leaf()
	b.start()
	b.offered(first)
	other := testpki.NewRoot(t, testpki.Name("Other Root")).SubCA(t, testpki.Name("Other"))
	second := b.leaf()
	s := b.pcs()
	// The same identity in files: judged, not kept yet, and then refused.
	b.do(b.keeper.call(b.context(), func() {
		cand := &candidate{file: "f", identity: identity(t, second)}
		if cand, r := examineIdentity(&s.config, cand, s.env.state.Load(), nil, time.Now()); r != nil {
			t.Error(r)
		} else {
			bundle, err := trust.ParseBundle(trust.Source{Name: "x", Data: other.BundlePEM()})
			b.do(err)
			state, err := trust.NewState(trust.StateConfig{Environment: "test", Profile: trust.Private, Bundle: bundle, Revocation: trust.Off, Sequence: 99})
			b.do(err)
			s.env.state.Store(state)
			if told, r := s.publish(b.keeper, cand, nil, nil, time.Now()); told || r == nil || r.Rule != RuleChain {
				t.Errorf("told %v, refusal %v", told, r)
			}
		}
	}))
	b.is(first)
}
