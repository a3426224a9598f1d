package clock

import (
	"strings"
	"testing"
	"time"
)

const largest = 5 * time.Minute

// host is one whose clocks a test moves.
type host struct {
	wall   time.Time
	boot   time.Duration
	synced bool
}

// pass lets time pass, awake or asleep: nobody can tell by these clocks.
func (h *host) pass(d time.Duration) { h.wall, h.boot = h.wall.Add(d), h.boot+d }

// set sets the wall clock by hand, as settimeofday does: no longer synchronised.
func (h *host) set(to time.Time) { h.wall, h.synced = to, false }

func (h *host) reading() Reading { return Reading{Wall: h.wall, Boot: h.boot, Synchronised: h.synced} }

var today = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// step is something that happens, and what is thought of the clock a second later.
type step struct {
	name    string
	do      func(h *host)
	suspect bool
	why     string // a part of it; "" is any
}

func TestWatch(t *testing.T) {
	t.Parallel()
	year := 365 * 24 * time.Hour
	nothing := func(*host) {}
	sleep := func(d time.Duration) func(*host) { return func(h *host) { h.pass(d) } }
	shift := func(d time.Duration) func(*host) { return func(h *host) { h.set(h.wall.Add(d)) } }
	sync := func(h *host) { h.synced = true }
	for _, tc := range []struct {
		name   string
		newest time.Time
		start  time.Time // zero: today
		synced bool
		first  bool // suspect at the start
		steps  []step
	}{
		{name: "nothing happens", steps: []step{{"", nothing, false, ""}}},
		{name: "years forward", newest: today.Add(-time.Hour), steps: []step{
			{"set", shift(3 * year), true, "set forward by 1095 days, to 2029-11-21T"}, {"it stays so", sleep(100 * 24 * time.Hour), true, "forward"},
			{"back", shift(-3 * year), false, "where it was"}}},
		{name: "years back", steps: []step{
			{"set", shift(-10 * year), true, "set back by 3650 days"}, {"on by one", shift(year), true, "back by 3650"},
			{"forward again", shift(9 * year), false, "where it was"}}},
		{name: "beyond what a duration holds", steps: []step{
			{"set", func(h *host) { h.set(time.Date(2400, 1, 1, 0, 0, 0, 0, time.UTC)) }, true, "forward"}, {"back", func(h *host) { h.set(today) }, false, ""}}},
		{name: "1970 at boot, then by hand", newest: today, start: time.Unix(12, 0), first: true, steps: []step{
			{"", nothing, true, "1970-01-01T00:00:12Z, and the newest record of this host is of 2026-11-22T12:00:00Z"},
			{"not enough", func(h *host) { h.set(today.Add(-time.Hour)) }, true, "1970"},
			{"right", func(h *host) { h.set(today.Add(time.Minute)) }, false, "passed the newest record"},
			{"from now on by steps", shift(time.Hour), true, "forward by 1h0m"}}},
		{name: "1970 at boot, then synchronised", newest: today, start: time.Unix(12, 0), first: true, steps: []step{
			{"", nothing, true, ""}, {"", func(h *host) { h.set(today.Add(time.Hour)); h.synced = true }, false, "kernel"}}},
		{name: "a little behind the newest record", newest: today.Add(4 * time.Minute), steps: []step{{"", nothing, false, ""}}},
		{name: "the record was of a clock that was wrong", newest: today.Add(70 * year), first: true, steps: []step{
			{"", nothing, true, "2096"}, {"synchronised", sync, false, "kernel"}, {"and for good", func(h *host) { h.synced = false }, false, ""}}},
		{name: "synchronised from the start, behind the record", newest: today.Add(70 * year), synced: true, steps: []step{{"", nothing, false, ""}}},
		{name: "sleep", steps: []step{{"a night", sleep(9 * time.Hour), false, ""}, {"a year", sleep(year), false, ""}}},
		{name: "a step while it slept", steps: []step{
			{"", func(h *host) { h.pass(9 * time.Hour); h.set(h.wall.Add(time.Hour)) }, true, "forward by 1h0m"}}},
		{name: "a small step", steps: []step{{"", shift(4 * time.Minute), false, ""}, {"and back", shift(-4 * time.Minute), false, ""}}},
		{name: "small steps that add up", steps: []step{
			{"", shift(4 * time.Minute), false, ""}, {"", shift(4 * time.Minute), true, "forward by 8m0s"}, {"", shift(-4 * time.Minute), false, ""}}},
		{name: "several steps", steps: []step{
			{"", shift(time.Hour), true, "forward"}, {"", shift(-3 * time.Hour), true, ""}, {"", shift(2 * time.Hour), false, ""},
			{"again", shift(-time.Hour), true, "back by 1h0m"}}},
		{name: "synchronised by the step itself", steps: []step{
			{"makestep", func(h *host) { h.set(h.wall.Add(2 * time.Hour)); h.synced = true }, false, ""},
			{"by hand, from there", shift(-2 * time.Hour), true, "back by 2h0m"}}},
		{name: "synchronised later", steps: []step{
			{"", shift(2 * time.Hour), true, ""}, {"", sync, false, "kernel"}, {"", nothing, false, ""},
			{"what is compared with is new", func(h *host) { h.synced = false }, false, ""}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			h := &host{wall: today, boot: 1000 * time.Hour}
			if !tc.start.IsZero() {
				h.wall, h.boot = tc.start, 12*time.Second
			}
			h.synced = tc.synced
			w := NewWatch(tc.newest)
			if j := w.Look(h.reading(), largest); j.Suspect != tc.first {
				t.Errorf("at the start: %+v", j)
			}
			for i, s := range tc.steps {
				s.do(h)
				h.pass(time.Second)
				before := w.Judgement()
				j := w.Look(h.reading(), largest)
				if j.Suspect != s.suspect || !strings.Contains(j.Why, s.why) {
					t.Errorf("%d %s: %+v, want suspect %t, %q", i, s.name, j, s.suspect, s.why)
				}
				if j.Suspect == before.Suspect && j != before {
					t.Errorf("%d %s: told again: %+v after %+v", i, s.name, j, before)
				}
				if j != w.Judgement() {
					t.Errorf("%d %s: Judgement() is another", i, s.name)
				}
			}
		})
	}
}

// Slewing is no step, however far it goes: 8 % for a day are two hours.
func TestSlewing(t *testing.T) {
	t.Parallel()
	for name, rate := range map[string]float64{"adjtime": 0.0005, "chrony": 0.0833, "chrony back": -0.0833} {
		h := &host{wall: today, boot: time.Hour}
		w := NewWatch(today)
		w.Look(h.reading(), largest)
		for range 24 * 3600 {
			h.pass(time.Second)
			h.wall = h.wall.Add(time.Duration(rate * float64(time.Second)))
			if j := w.Look(h.reading(), largest); j.Suspect {
				t.Fatalf("%s: %+v", name, j)
			}
		}
	}
}

// A pause of the process hides no step: what may be slewed meanwhile is bounded.
func TestPause(t *testing.T) {
	t.Parallel()
	h := &host{wall: today, boot: time.Hour}
	w := NewWatch(time.Time{})
	w.Look(h.reading(), largest)
	for range 10 {
		h.pass(24 * time.Hour)
		h.set(h.wall.Add(time.Minute))
		w.Look(h.reading(), largest)
	}
	if j := w.Judgement(); !j.Suspect {
		t.Errorf("ten minutes in ten steps: %+v", j)
	}
}

func TestConfirm(t *testing.T) {
	t.Parallel()
	h := &host{wall: today, boot: time.Hour}
	w := NewWatch(today.Add(time.Hour))
	if j := w.Confirm(); j.Suspect || j.Why != "" {
		t.Errorf("before the first look: %+v", j)
	}
	if j := w.Look(h.reading(), largest); !j.Suspect || !j.Since.Equal(today) {
		t.Fatalf("%+v", j)
	}
	if j := w.Confirm(); j.Suspect || !strings.Contains(j.Why, "operator") {
		t.Errorf("%+v", j)
	}
	for range 3 {
		h.pass(time.Second)
		if j := w.Look(h.reading(), largest); j.Suspect {
			t.Fatalf("the word does not last: %+v", j)
		}
	}
	h.set(h.wall.Add(4 * time.Minute))
	w.Look(h.reading(), largest)
	w.Confirm() // what is right now is what later steps are measured from
	h.set(h.wall.Add(4 * time.Minute))
	if j := w.Look(h.reading(), largest); j.Suspect {
		t.Errorf("%+v", j)
	}
	h.set(h.wall.Add(-8 * time.Minute))
	h.pass(time.Second)
	w.Look(h.reading(), largest)
	h.set(h.wall.Add(-8 * time.Minute))
	if j := w.Look(h.reading(), largest); !j.Suspect {
		t.Errorf("the word is for ever: %+v", j)
	}
}

// The real clocks go on, in step, and the kernel answers.
func TestRead(t *testing.T) {
	t.Parallel()
	a, err := Read()
	if err != nil {
		t.Fatal(err)
	}
	b, err := Read()
	if err != nil || b.Boot < a.Boot || a.Boot <= 0 {
		t.Fatalf("%+v, then %+v, %v", a, b, err)
	}
	if d := time.Since(a.Wall).Abs(); d > time.Hour {
		t.Errorf("the wall clock is %s away from time.Now", d)
	}
}
