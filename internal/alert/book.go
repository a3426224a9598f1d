package alert

import (
	"slices"
	"time"

	"github.com/spinecert/spinecert/internal/condition"
)

// How long things take that are told.
const (
	// calm is how long something must be gone before it is resolved: what comes and goes is
	// one alert. What follows from dates does not come back, and is resolved at once.
	calm = time.Minute
	// startCalm is how long after its start a daemon does not take an alert of the one
	// before it for resolved: what is wrong may not have been looked at yet.
	startCalm = 2 * time.Minute
	// again is how long after it grew worse an alert is not told once more that it did, when
	// it is its severity alone that goes up and down. What is there again so soon after its
	// end is resolved only after it was gone for so long: what comes and goes every few
	// minutes is told once. A clock that is put back by less is only waited for.
	again = time.Hour
)

// Rules say when alerts are told, and to whom. They come from the configuration.
type Rules struct {
	RepeatWarning  time.Duration // how long after it was told last a warning is told again; 0 never
	RepeatCritical time.Duration
	Sinks          []Rule
}

// Rule is what a sink wants.
type Rule struct {
	Name   string
	Min    condition.Severity
	Mirror bool // it is shown everything, and has no queue
	// Each means that it is told each alert, for a program that keeps account of them: what
	// a person is told in one digest is several messages for it.
	Each bool
}

// repeat is after which time an alert of a severity is told again.
func (r *Rules) repeat(s condition.Severity) time.Duration {
	if s == condition.Critical {
		return r.RepeatCritical
	}
	return r.RepeatWarning
}

// wants reports whether a sink is told of a condition. Of its own failing it is told
// nothing: it would hear of it when that is over.
func (r Rule) wants(c *condition.Condition) bool {
	return !r.Mirror && !r.Min.Worse(c.Severity) && (c.Code != condition.SinkFailing || c.Subject != r.Name)
}

// record is the life of one alert.
type record struct {
	Condition condition.Condition `json:"condition"`      // as it was seen last
	Opened    time.Time           `json:"opened"`         // when it was told first; zero: not yet
	Told      time.Time           `json:"told"`           // when it was told last
	Worse     time.Time           `json:"worse"`          // when it was told last that it grew worse
	Level     int                 `json:"level"`          // steps that were told
	Gone      time.Time           `json:"gone"`           // since when it is not seen; zero: it is
	Calm      time.Duration       `json:"calm,omitempty"` // how long it must be gone, when that is longer than for others
	Ack       *Ack                `json:"ack,omitempty"`
	Sinks     []string            `json:"sinks"` // that were told of it, or are about to be

	carried bool // it is not known yet whether it is still so
}

// Book is what is known of all alerts, and what each sink is still to be told. It is for
// one goroutine at a time.
type Book struct {
	records map[string]*record
	queues  map[string]*queue
	healths map[string]*health
	ended   map[string]time.Time // when an alert was resolved; not for long
	started time.Time            // of this process
	latest  time.Time            // that the book was given
	seq     uint64               // counts notices
	dropped func(sink string, n int)
	unseen  func(*condition.Condition) bool // whether it cannot be said now that it is over
	bound   int                             // of what is resolved and waits for one sink
}

// NewBook returns a book without alerts. dropped is told how many notices a queue gave up;
// it may be nil.
func NewBook(now time.Time, dropped func(sink string, n int)) *Book {
	if dropped == nil {
		dropped = func(string, int) {}
	}
	return &Book{records: map[string]*record{}, queues: map[string]*queue{}, healths: map[string]*health{}, ended: map[string]time.Time{}, started: now,
		dropped: dropped, unseen: func(*condition.Condition) bool { return false }, bound: maxPending}
}

// Update takes in what is wrong at now, and returns whether anything changed that is to be
// kept. While the clock is suspect, or a little behind where it was, nothing that follows
// from dates changes, and nothing is repeated.
func (b *Book) Update(now time.Time, rules Rules, wrong []condition.Condition, suspect bool) (changed bool) {
	b.keepQueues(rules.Sinks)
	suspect = b.behind(now) || suspect
	for id, at := range b.ended {
		if now.Sub(at) >= again || at.Sub(now) >= again {
			delete(b.ended, id)
		}
	}
	seen := make(map[string]bool, len(wrong))
	for i := range wrong {
		c := &wrong[i]
		if seen[c.ID] {
			continue
		}
		seen[c.ID] = true
		changed = b.look(now, rules, c, suspect) || changed
	}
	for id, r := range b.records {
		if !seen[id] {
			changed = b.miss(now, rules, id, r, suspect) || changed
		}
	}
	return changed
}

// behind reports whether the clock has not come back yet to where it was before it was put
// back a little. One that was put back by more was wrong before, and is believed now.
func (b *Book) behind(now time.Time) bool {
	if now.Before(b.latest) && b.latest.Sub(now) < again {
		return true
	}
	b.latest = now
	return false
}

// look takes in one condition that is there. Its severity, and which of its steps are
// passed, follow from dates as well.
func (b *Book) look(now time.Time, rules Rules, c *condition.Condition, suspect bool) bool {
	r, known := b.records[c.ID]
	if suspect && (c.Code.Definition().Dated || len(c.Steps) > 0) {
		return known && r.seen()
	}
	if suspect && known && !c.Ends.IsZero() && c.Severity.Worse(r.Condition.Severity) {
		c.Severity = r.Condition.Severity // it may be worse for its end alone
	}
	if !known {
		r = &record{}
		if _, restless := b.ended[c.ID]; restless {
			r.Calm = again
		}
		b.records[c.ID] = r
	}
	before := *r
	r.seen()
	if known && !r.Condition.Since.IsZero() && r.Condition.Since.Before(c.Since) && r.Condition.Code == c.Code {
		c.Since = r.Condition.Since
	}
	level := c.Level(now)
	event := r.event(now, rules, c, level, suspect)
	if event != "" {
		b.tell(now, rules, r, c, event)
	}
	r.Condition = *c
	if !r.Opened.IsZero() {
		r.Level = level
	}
	b.tellNew(now, rules, r)
	return !known || event != "" || len(before.Sinks) != len(r.Sinks) || !before.Gone.Equal(r.Gone) || !same(&before.Condition, &r.Condition) || before.Level != r.Level
}

// seen notes that it is there, and returns whether that was in doubt.
func (r *record) seen() bool {
	gone := !r.Gone.IsZero()
	r.carried, r.Gone = false, time.Time{}
	return gone
}

// event says what is to be told of an alert, "" for nothing.
func (r *record) event(now time.Time, rules Rules, c *condition.Condition, level int, suspect bool) Event {
	if level == 0 && r.Opened.IsZero() {
		return ""
	}
	switch worse := c.Severity.Worse(r.Condition.Severity); {
	case r.Opened.IsZero():
		return Opened
	case level > r.Level, worse && (r.acknowledged(now) || r.Worse.After(now) || now.Sub(r.Worse) >= again):
		return Escalated
	}
	if r.Told.After(now) && !suspect {
		r.Told = now // by a clock that was wrong
	}
	if suspect || r.acknowledged(now) {
		return ""
	}
	if repeat := rules.repeat(c.Severity); repeat > 0 && now.Sub(r.Told) >= repeat {
		return Repeated
	}
	return ""
}

// acknowledged reports whether somebody sees to it. A word that was given by a clock far
// ahead does not count.
func (r *record) acknowledged(now time.Time) bool {
	return r.Ack != nil && now.Before(r.Ack.Until) && r.Ack.At.Sub(now) < again
}

// tell queues an event for every sink that wants it.
func (b *Book) tell(now time.Time, rules Rules, r *record, c *condition.Condition, event Event) {
	r.Told = now
	switch event {
	case Opened:
		r.Opened = now
	case Escalated:
		r.Ack, r.Worse = nil, now
	}
	for _, sink := range rules.Sinks {
		if !sink.wants(c) {
			continue
		}
		e := event
		if !slices.Contains(r.Sinks, sink.Name) {
			r.Sinks = append(r.Sinks, sink.Name)
			e = Opened
		}
		b.enqueue(sink.Name, Notice{Event: e, Condition: *c, Opened: r.Opened, At: now, Ack: r.Ack})
	}
}

// tellNew tells sinks that came later what they have missed.
func (b *Book) tellNew(now time.Time, rules Rules, r *record) {
	if r.Opened.IsZero() {
		return
	}
	for _, sink := range rules.Sinks {
		if !sink.wants(&r.Condition) || slices.Contains(r.Sinks, sink.Name) {
			continue
		}
		r.Sinks = append(r.Sinks, sink.Name)
		b.enqueue(sink.Name, Notice{Event: Opened, Condition: r.Condition, Opened: r.Opened, At: now, Ack: r.Ack})
	}
}

// miss takes in that an alert is not there any more.
func (b *Book) miss(now time.Time, rules Rules, id string, r *record, suspect bool) bool {
	dated := r.Condition.Code.Definition().Dated
	if suspect && dated {
		return false
	}
	if b.unseen(&r.Condition) {
		return r.seen() // as far as is known
	}
	if r.carried && now.Sub(b.started) < startCalm {
		return false
	}
	if r.Opened.IsZero() {
		delete(b.records, id)
		return true
	}
	first := r.Gone.IsZero()
	if first || r.Gone.After(now) {
		r.Gone = now
	}
	wait := max(calm, r.Calm)
	if r.carried || dated {
		wait = r.Calm
	}
	if now.Sub(r.Gone) < wait {
		return first
	}
	for _, sink := range rules.Sinks {
		if !sink.Mirror && slices.Contains(r.Sinks, sink.Name) {
			b.enqueue(sink.Name, Notice{Event: Resolved, Condition: r.Condition, Opened: r.Opened, Resolved: condition.Moment{Time: now}, At: now})
		}
	}
	delete(b.records, id)
	b.ended[id] = now
	return true
}

// same reports whether two conditions say the same; what is written down need not be
// written again then.
func same(a, b *condition.Condition) bool {
	return a.ID == b.ID && a.Code == b.Code && a.Severity == b.Severity && a.Message == b.Message && a.Hint == b.Hint && a.Command == b.Command &&
		a.Since.Equal(b.Since) && a.Ends.Equal(b.Ends.Time) && a.Stops == b.Stops && a.Affects.Note == b.Affects.Note &&
		slices.Equal(a.Affects.ODS, b.Affects.ODS) && slices.Equal(a.Affects.ASIDs, b.Affects.ASIDs)
}

// Active are the alerts that were told and are there, for mirrors, in no order.
func (b *Book) Active(least condition.Severity) []Notice {
	var out []Notice
	for _, r := range b.records {
		if !r.Opened.IsZero() && !least.Worse(r.Condition.Severity) {
			out = append(out, Notice{Event: Opened, Condition: r.Condition, Opened: r.Opened, At: r.Told, Ack: r.Ack})
		}
	}
	return out
}

// Since returns since when an alert is there, zero if it is not known.
func (b *Book) Since(id string) time.Time {
	if r := b.records[id]; r != nil {
		return r.Condition.Since
	}
	return time.Time{}
}
