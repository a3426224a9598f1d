package rotate

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/trust"
)

// older and fewer are what the guard refuses, newer and more what it lets through.
func TestGuard(t *testing.T) {
	now := time.Now()
	names := func(n ...string) []testpki.Option {
		return []testpki.Option{testpki.DNS(n...), testpki.Validity(now.Add(-time.Hour), now.Add(time.Hour))}
	}
	tests := map[string]struct {
		opts []testpki.Option
		rule string // "" is accepted
	}{
		"older":                  {append(names("a.nhs.uk", "b.nhs.uk"), testpki.Validity(now.Add(-2*time.Hour), now.Add(2*time.Hour))), RuleOlder},
		"ends earlier":           {append(names("a.nhs.uk", "b.nhs.uk"), testpki.Validity(now.Add(-time.Minute), now.Add(time.Minute))), ""},
		"a name lost":            {names("a.nhs.uk"), RuleNames},
		"all names lost":         {names("c.nhs.uk"), RuleNames},
		"a name gained":          {names("a.nhs.uk", "b.nhs.uk", "c.nhs.uk"), ""},
		"same names, other case": {names("B.nhs.uk", "A.NHS.UK"), ""},
		"another kind of key":    {append(names("a.nhs.uk", "b.nhs.uk"), testpki.KeyType("ed25519")), ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			first, second := b.sub.Issue(t, names("a.nhs.uk", "b.nhs.uk")...), b.sub.Issue(t, tc.opts...)
			b.pair(first)
			b.start()
			b.serves(first)
			b.pair(second)
			if tc.rule == "" {
				b.serves(second)
				return
			}
			r := b.refused(tc.rule)
			if r.Rule != tc.rule || !strings.Contains(r.Hint(), "--allow "+tc.rule) {
				t.Errorf("rule %q, hint %q", r.Rule, r.Hint())
			}
			b.still(first)
			other := map[string]string{RuleOlder: RuleNames, RuleNames: RuleOlder}[tc.rule]
			if err := b.keeper.Rotate(b.context(), "pcs", Order{Allow: []string{other}}); err == nil {
				t.Errorf("%s let through what %s refuses", other, tc.rule)
			}
			b.still(first)
			if err := b.keeper.Rotate(b.context(), "pcs", Order{Allow: []string{tc.rule}}); err != nil {
				t.Fatalf("rotate with %s allowed: %v", tc.rule, err)
			}
			b.serves(second)
			if got := b.count(EventRefused); got != 1 {
				t.Errorf("refusal told %d times, want once", got)
			}
		})
	}
}

func TestNameThatMovesFromCNToSANIsNotLost(t *testing.T) {
	b := newBench(t)
	first, second := b.leaf(testpki.NoSAN()), b.sub.Issue(t, testpki.Name("x"), testpki.DNS("pcs.nhs.uk"))
	b.pair(first)
	b.start()
	b.serves(first)
	b.pair(second)
	b.serves(second)
}

func TestAllowDiesWithItsCandidate(t *testing.T) {
	b := newBench(t)
	old := testpki.Validity(time.Now().Add(-3*time.Hour), time.Now().Add(time.Hour))
	first, one, two := b.leaf(), b.leaf(old), b.leaf(old)
	b.pair(first)
	b.start()
	b.serves(first)

	// The look that the override is for finds nothing whole: it is used up.
	b.put("pcs.key", one.KeyPEM(), 0o600)
	var r *Refusal
	if err := b.keeper.Rotate(b.context(), "pcs", Order{Allow: []string{RuleOlder}}); !errors.As(err, &r) || !r.Pending {
		t.Fatalf("rotate of a torn pair: %v", err)
	}
	b.put("pcs.crt", one.FullChainPEM(), 0o644)
	b.refused(RuleOlder)
	b.still(first)

	if err := b.keeper.Rotate(b.context(), "pcs", Order{Allow: []string{RuleOlder}}); err != nil {
		t.Fatal(err)
	}
	b.serves(one)
	b.pair(first) // newer again
	b.serves(first)
	b.pair(two)
	b.refused(RuleOlder)
	b.still(first)
}

func TestRulesAllowedByConfiguration(t *testing.T) {
	b := newBench(t)
	b.slot.Allow = []string{RuleOlder, RuleNames, RuleChain}
	stranger := testpki.NewRoot(t, testpki.Name("Stranger"))
	first, second := b.leaf(), stranger.Issue(t, testpki.Name("other.nhs.uk"), testpki.Validity(time.Now().Add(-9*time.Hour), time.Now().Add(time.Hour)))
	b.pair(first)
	b.start()
	b.serves(first)
	b.pair(second)
	b.serves(second)
	b.state(SlotReady)

	b.slot.Allow = nil
	b.apply()
	b.refused("unknown_issuer")
	b.still(second)
	if got := b.count(EventOwnChain); got != 1 {
		t.Errorf("told %d times that the slot's own chain is refused, want once", got)
	}
}

// The five minutes are for the clocks of others: a certificate is not shown to
// peers before its day while there is another one, and is while there is none.
func TestNotBeforeIsKeptWhileSomethingServes(t *testing.T) {
	b := newBench(t)
	soon := func() *testpki.Leaf {
		return b.leaf(testpki.Validity(time.Now().Add(2*time.Minute), time.Now().Add(24*time.Hour)))
	}
	first := soon()
	b.pair(first)
	b.start()
	b.serves(first)
	second := b.leaf()
	b.pair(second) // notBefore an hour ago: older, so by word
	b.do(b.keeper.Rotate(b.context(), "pcs", Order{Allow: []string{RuleOlder}}))
	b.serves(second)
	b.pair(soon())
	if r := b.refused(string(trust.NotYetValid)); r.Rule != RuleChain {
		t.Errorf("rule %q", r.Rule)
	}
	b.still(second)
}
