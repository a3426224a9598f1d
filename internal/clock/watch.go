package clock

import (
	"fmt"
	"time"
)

// Judgement is what a Watch thinks of the wall clock.
type Judgement struct {
	Suspect bool
	Why     string    // a sentence: why it is suspect, or why it no longer is; "" if it never was
	Since   time.Time // when that was noticed, by the wall clock; zero if it never was suspect
}

// Watch follows the clocks of one host. Make it with NewWatch.
type Watch struct {
	newest time.Time // what was written down, until the clock has passed it
	looked bool
	last   Reading
	// started is when the host was started, as the wall clock had it when it was
	// believed. A step of the wall clock moves it, time and sleep do not.
	started time.Time
	behind  bool // suspect because of newest: then nothing is known of started
	now     Judgement
}

// NewWatch returns a Watch for a host whose newest record has the time newest; zero
// if there is none.
func NewWatch(newest time.Time) *Watch { return &Watch{newest: newest} }

// Judgement returns what the last look said.
func (w *Watch) Judgement() Judgement { return w.now }

// Slewing moves the wall clock without a step: adjtime by 0.05 %, chrony by up to
// 8.3 %. So started follows what it is compared with, by a tenth of the time that
// passed, and of a minute at most: small steps that come one after the other add up,
// and a pause is no time in which a clock is slewed.
const (
	slew    = 10 // one part in
	slewFor = time.Minute
)

// Look judges what the clocks say. largest is how far the wall clock may step.
func (w *Watch) Look(r Reading, largest time.Duration) Judgement {
	started := r.Wall.Add(-r.Boot)
	if !w.looked {
		w.looked, w.started = true, started
		w.behind = r.Wall.Before(w.newest.Add(-largest))
	}
	passed := r.Boot - w.last.Boot
	w.last = r
	step := started.Sub(w.started)
	switch {
	case w.now.Suspect:
		w.reconsider(r, largest, step.Abs())
	case w.behind && !r.Synchronised:
		w.doubt(r, fmt.Sprintf("it says %s, and the newest record of this host is of %s", stamp(r.Wall), stamp(w.newest)))
	case step.Abs() > largest && !r.Synchronised:
		direction := "forward"
		if step < 0 {
			direction = "back"
		}
		w.doubt(r, fmt.Sprintf("it was set %s by %s, to %s", direction, span(step.Abs()), stamp(r.Wall)))
	case step.Abs() > largest || w.behind: // whoever synchronised it set it
		w.believe(r)
	default:
		most := max(0, min(passed, slewFor)) / slew
		w.started = w.started.Add(max(-most, min(most, step)))
	}
	return w.now
}

// reconsider ends the suspicion if there is no reason for it any more. away is how
// far the clock is from where it was believed.
func (w *Watch) reconsider(r Reading, largest, away time.Duration) {
	switch {
	case r.Synchronised:
		w.trust(r, "the kernel says that it is synchronised")
	case w.behind && !r.Wall.Before(w.newest.Add(-largest)):
		w.trust(r, "it has passed the newest record of this host")
	case !w.behind && away <= largest:
		w.trust(r, "it is where it was before it was set")
	}
}

// Confirm is the operator's word that the clock, as it was read last, is right.
func (w *Watch) Confirm() Judgement {
	if w.now.Suspect {
		w.trust(w.last, "the operator says that it is right")
	} else if w.looked {
		w.believe(w.last)
	}
	return w.now
}

func (w *Watch) doubt(r Reading, why string) {
	w.now = Judgement{Suspect: true, Why: why + "; nothing says that it is synchronised", Since: r.Wall}
}

func (w *Watch) trust(r Reading, why string) {
	w.now = Judgement{Why: why, Since: r.Wall}
	w.believe(r)
}

func (w *Watch) believe(r Reading) {
	w.started, w.behind, w.newest = r.Wall.Add(-r.Boot), false, time.Time{}
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// span writes a duration for people.
func span(d time.Duration) string {
	if d >= 48*time.Hour {
		return fmt.Sprintf("%d days", int64(d/(24*time.Hour)))
	}
	return d.Round(time.Second).String()
}
