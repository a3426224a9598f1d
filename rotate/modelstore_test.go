package rotate

import (
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/spinecert/spinecert/internal/testpki"
)

// generations is a managed slot under orders, restarts and faults of its store.
type generations struct {
	b      *bench
	m      *memStore
	leaves []*testpki.Leaf
	served *Generation // when the last action was over
	last   uint64      // greatest number that was served
}

// after notes what an action came to: an order that failed has changed nothing.
func (g *generations) after(r *rapid.T, what string, err error) *Generation {
	var refusal *Refusal
	if err != nil && !errors.As(err, &refusal) {
		r.Fatalf("%s: %v", what, err)
	}
	if err != nil { // what waits for better times would come into them at any time
		g.m.fail("commit", nil)
		g.m.fail("swap", nil)
		_ = g.b.keeper.Offer(g.b.context(), "pcs", nil, Order{})
	}
	var now *Generation
	if snap := g.b.pcs().Snapshot(); snap != nil {
		now = snap.Generation
	}
	switch {
	case err == nil || now == g.served:
	case now == nil || refusal.Reason != ReasonUnwritable || now.Number <= g.last:
		r.Fatalf("%s was refused (%v), and %+v serves", what, err, now)
	}
	return now
}

func (g *generations) actions() map[string]func(*rapid.T) {
	k := func() *Keeper { return g.b.keeper }
	return map[string]func(*rapid.T){
		"offer": func(r *rapid.T) {
			l := rapid.SampledFrom(g.leaves).Draw(r, "leaf")
			allow := rapid.SampledFrom([][]string{nil, {RuleOlder}, {RuleOlder, RuleRolledBack}}).Draw(r, "allow")
			same := g.served != nil && g.served.Identity.Leaf().Equal(l.Cert) // then a hold goes on
			err := k().Offer(g.b.context(), "pcs", identity(g.b.t, l), Order{Allow: allow})
			if now := g.after(r, "offer", err); err == nil && (now.Held && !same || !now.Identity.Leaf().Equal(l.Cert)) {
				r.Fatalf("the offer was taken, and %+v serves", now)
			}
		},
		"rollback": func(r *rapid.T) {
			to := rapid.Uint64Range(0, g.last+1).Draw(r, "to")
			was := g.served
			err := k().Rollback(g.b.context(), "pcs", to, Order{})
			if now := g.after(r, "rollback", err); err == nil && (!now.Held || now.Of == 0 || now.digest == was.digest) {
				r.Fatalf("rolled back from %+v to %+v", was, now)
			}
		},
		"release": func(r *rapid.T) {
			was := g.served
			err := k().Rotate(g.b.context(), "pcs", Order{Release: true})
			if now := g.after(r, "release", err); err == nil && now != nil && (now.Held || was.Held && now.digest != was.left) {
				r.Fatalf("released from %+v to %+v", was, now)
			}
		},
		"restart": func(*rapid.T) { g.b.restart() },
		"fault": func(r *rapid.T) {
			g.m.fail(rapid.SampledFrom([]string{"commit", "swap"}).Draw(r, "op"), errFull)
		},
		"mend": func(*rapid.T) { g.m.fail("commit", nil); g.m.fail("swap", nil) },
		"":     g.check,
	}
}

// check: what the store has in force is what serves, and numbers only grow.
func (g *generations) check(r *rapid.T) {
	snap, kept := g.b.pcs().Snapshot(), g.m.inForce()
	if snap == nil {
		if kept.Number != 0 {
			r.Fatalf("nothing serves, and %+v is kept", kept)
		}
		return
	}
	now := snap.Generation
	if kept.Number != now.Number || kept.Digest != now.digest || kept.Held != now.Held || kept.Of != now.Of || kept.Left != now.left {
		r.Fatalf("serves %+v, kept is %+v", now, kept)
	}
	if now.Number < g.last {
		r.Fatalf("generation %d after %d", now.Number, g.last)
	}
	g.served, g.last = now, now.Number
}

func TestModelOfGenerations(t *testing.T) {
	root := testpki.NewRoot(t)
	sub := root.SubCA(t)
	leaves := (&bench{t: t, sub: sub}).aged(4)
	rapid.Check(t, func(r *rapid.T) {
		b, m := newManagedBench(t)
		b.watch, b.root, b.sub = noInotify, root, sub
		b.slot.Keep = rapid.IntRange(1, 4).Draw(r, "keep")
		b.write("trust.pem", sub.BundlePEM(), 0o644)
		b.start()
		defer func() { b.stop() }()
		g := &generations{b: b, m: m, leaves: leaves}
		r.Repeat(g.actions())
	})
}
