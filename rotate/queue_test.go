package rotate

import (
	"testing"
	"time"
)

func TestQueueTakesChangesOfTrustLast(t *testing.T) {
	k := New(Options{})
	units := map[string]*unit{"a": {}, "b": {}, "c": {}}
	names := map[*unit]string{}
	for name, u := range units {
		names[u] = name
	}
	first := time.Now().Add(-time.Minute)
	k.markLater(units["a"])
	k.markLater(units["b"])
	k.markAt(units["c"], first)
	k.mark(units["c"])
	k.mark(units["b"]) // was waiting, and now is urgent
	k.markLater(units["c"])
	got := ""
	for u, at := k.take(); u != nil; u, at = k.take() {
		got += names[u]
		if u == units["c"] && !at.Equal(first) {
			t.Errorf("first marked at %s, want %s", at, first)
		}
	}
	if got != "cba" {
		t.Errorf("looked at in the order %q, want %q", got, "cba")
	}
}

// A look that began before the plan changed publishes nothing.
func TestLookOfAnOldPlan(t *testing.T) {
	b := newBench(t)
	b.watch = noInotify
	first, second := b.leaf(), b.leaf()
	b.pair(first)
	b.start()
	b.pair(second)
	s := b.pcs()
	b.do(b.keeper.call(b.context(), func() {
		look := s.job(b.keeper, nil)
		m, err := readAll(look.paths, look.limit)
		if err != nil {
			t.Error(err)
			return
		}
		publish, refusal := look.stage(m, nil, time.Now())
		if publish == nil {
			t.Errorf("not staged: %v", refusal)
			return
		}
		s.config.FQDN = "other.nhs.uk"
		if told, refusal := publish(b.keeper, time.Now()); told || refusal != nil {
			t.Errorf("told %v, refusal %v", told, refusal)
		}
	}))
	if !b.serving(first) {
		t.Error("what the old plan would have served was published")
	}
	if err := b.keeper.Rotate(b.context(), "pcs", Order{}); err == nil {
		t.Error("the new plan was not applied")
	}
}

func TestAgendaHoldsEachOnce(t *testing.T) {
	var a agenda
	now := time.Now()
	units := make([]*unit, 50)
	for i := range units {
		units[i] = &unit{next: now.Add(time.Duration(i*37%50) * time.Second)}
		a.add(units[i])
	}
	for i := range 1000 {
		u := units[i%50]
		u.next = now.Add(time.Duration(i*7919%600) * time.Second)
		a.add(u)
	}
	a.remove(units[3])
	a.remove(units[3])
	if a.Len() != 49 {
		t.Fatalf("%d entries for 49 units", a.Len())
	}
	if u := a.due(now.Add(-time.Second)); u != nil {
		t.Error("due before its time")
	}
	last := time.Time{}
	for range 49 {
		at, _ := a.next()
		u := a.due(now.Add(time.Hour))
		if u == nil || u == units[3] || !u.next.Equal(at) || at.Before(last) {
			t.Fatalf("out of order: %v after %v", at, last)
		}
		last = at
	}
	if _, ok := a.next(); ok || a.due(now.Add(time.Hour)) != nil {
		t.Error("more than there were")
	}
}
