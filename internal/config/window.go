package config

import (
	"fmt"
	"time"
)

// Contains reports whether the window is open at t, by the clock on the wall in the location of t. A local time that
// comes twice, when clocks go back, is open twice; one that does not exist, when they go forward, is not open at all.
func (w Window) Contains(t time.Time) bool {
	now := sinceMidnight(t)
	if w.From < w.To {
		return w.From <= now && now < w.To
	}
	return w.From <= now || now < w.To
}

// Next returns the first moment, at or after t, at which the window is open, in the location of t: t itself if it is
// open then.
func (w Window) Next(t time.Time) time.Time {
	for !w.Contains(t) {
		wait := w.From - sinceMidnight(t)
		if wait < 0 {
			wait += 24 * time.Hour
		}
		next := t.Add(wait)
		// When clocks change before, the window may open earlier, later or not today.
		if _, change := t.ZoneBounds(); !change.IsZero() && next.After(change) {
			next = change
		}
		t = next
	}
	return t
}

// String returns the window as the configuration writes it.
func (w Window) String() string {
	clock := func(d time.Duration) string { return fmt.Sprintf("%02d:%02d", int(d.Hours()), int(d.Minutes())%60) }
	return clock(w.From) + "-" + clock(w.To)
}

// sinceMidnight returns what the clock on the wall shows at t.
func sinceMidnight(t time.Time) time.Duration {
	hour, minute, second := t.Clock()
	return time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute + time.Duration(second)*time.Second + time.Duration(t.Nanosecond())
}
