package alert

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/condition"
	"github.com/spinecert/spinecert/internal/order"
)

// longestAck is how long an acknowledgement lasts at most: what is forgotten comes back.
const longestAck = 90 * 24 * time.Hour

// List returns what people are told of at now, the gravest first, and how the sinks stand.
func (e *Engine) List(now time.Time) admin.AlertList {
	e.mu.Lock()
	defer e.mu.Unlock()
	l := admin.AlertList{Alerts: make([]admin.Alert, 0, len(e.book.records)), Sinks: make([]admin.SinkStatus, 0, len(e.runners))}
	for _, r := range e.book.records {
		l.Alerts = append(l.Alerts, e.alert(r, now))
	}
	order.Sort(l.Alerts, func(a, b admin.Alert) int { return byGravity(&a.Condition, &b.Condition) })
	for _, r := range e.runners {
		l.Sinks = append(l.Sinks, e.status(&r.sink))
	}
	return l
}

// alert is a record as others see it. e.mu is held.
func (e *Engine) alert(r *record, now time.Time) admin.Alert {
	a := admin.Alert{Condition: r.Condition, State: admin.AlertActive, Opened: admin.Time{Time: r.Opened}, Told: admin.Time{Time: r.Told}, Sinks: e.book.toldTo(r)}
	repeat, step := e.rules.repeat(r.Condition.Severity), nextStep(r.Condition.Steps, now)
	var again time.Time
	if repeat > 0 && !r.Told.IsZero() {
		again = r.Told.Add(repeat)
	}
	switch {
	case r.Opened.IsZero():
		a.State, again = admin.AlertWaiting, time.Time{}
	case !r.Gone.IsZero():
		a.State, again, step = admin.AlertResolving, time.Time{}, time.Time{}
	case r.acknowledged(now):
		a.State = admin.AlertAcknowledged
		if repeat > 0 && r.Ack.Until.After(again) {
			again = r.Ack.Until
		}
	}
	if byEnd(step, again) < 0 {
		again = step // which is told, whoever sees to it
	}
	a.Next = admin.Time{Time: again}
	if r.acknowledged(now) {
		ack := *r.Ack
		a.Ack = &ack
	}
	return a
}

// nextStep returns the first step that is not passed, zero for none.
func nextStep(steps []time.Time, now time.Time) time.Time {
	if i := slices.IndexFunc(steps, now.Before); i >= 0 {
		return steps[i]
	}
	return time.Time{}
}

// status is how a sink stands. e.mu is held.
func (e *Engine) status(sink *Sink) admin.SinkStatus {
	h := e.book.health(sink.Name)
	s := admin.SinkStatus{Name: sink.Name, Type: sink.Type, Min: string(sink.Min), State: admin.SinkWorks, Pending: e.book.Pending(sink.Name),
		LastSent: admin.Time{Time: h.Sent}, Failures: h.Failures}
	if h.Failures > 0 {
		_, next := e.book.held(sink.Name)
		if !h.next.IsZero() {
			next = h.next
		}
		s.State, s.LastError, s.Hint, s.NextTry = admin.SinkFailing, h.Error, h.Hint, admin.Time{Time: next}
	}
	return s
}

// Pending returns of how many alerts each sink is still to be told something.
func (e *Engine) Pending() map[string]int {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := make(map[string]int, len(e.runners))
	for _, r := range e.runners {
		out[r.sink.Name] = e.book.Pending(r.sink.Name)
	}
	return out
}

// Failing are the conditions of sinks that have not worked for some time at now.
func (e *Engine) Failing(now time.Time) []condition.Condition {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []condition.Condition
	works := false
	for _, r := range e.runners {
		h := e.book.health(r.sink.Name)
		bad := h.Failures >= failingFrom && now.Sub(h.Since) >= failingAfter
		if !bad || h.Down == 0 {
			works = works || r.sink.Type != journalType
		}
		if !bad {
			continue
		}
		text := "alerts do not get through: "
		if n, _ := e.book.held(r.sink.Name); h.Down == 0 {
			text = fmt.Sprintf("%d of the alerts do not get through, and are tried again: ", n)
		}
		out = append(out, condition.Condition{Code: condition.SinkFailing, Kind: condition.Sink, Subject: r.sink.Name, Severity: condition.Warning, Since: h.Since,
			Message: text + h.Error, Hint: cmp.Or(h.Hint, "correct the sink, then spinecert alerts test "+r.sink.Name)})
	}
	if !works {
		for i := range out {
			out[i].Severity = condition.Critical
		}
	}
	return out
}

// journalType is the type of the sinks that are the daemon's own log, which reaches nobody
// by itself.
const journalType = "journal"

// Ack notes that somebody sees to an alert until some time; an until that is not after now
// ends that. The error is ErrNoAlert, or that the book could not be written: it holds then
// until the daemon ends.
func (e *Engine) Ack(id string, ack Ack) (admin.Alert, error) {
	a, err := e.ack(id, ack)
	if err != nil {
		return a, err
	}
	return a, e.Save()
}

// ack is Ack in memory.
func (e *Engine) ack(id string, ack Ack) (admin.Alert, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	r := e.book.records[id]
	if r == nil {
		return admin.Alert{}, ErrNoAlert
	}
	if latest := ack.At.Add(longestAck); ack.Until.After(latest) {
		ack.Until = latest
	}
	r.Ack = &ack
	if !ack.Until.After(ack.At) {
		r.Ack = nil
	}
	e.version++
	return e.alert(r, ack.At), nil
}

// Test sends a message that says that nothing is wrong, and returns when the sink has taken
// it. The error is ErrNoSink, or what the sink says.
func (e *Engine) Test(ctx context.Context, sink string, now time.Time) error {
	e.mu.Lock()
	i := slices.IndexFunc(e.runners, func(r *runner) bool { return r.sink.Name == sink })
	if i < 0 {
		e.mu.Unlock()
		return ErrNoSink
	}
	r := e.runners[i]
	e.mu.Unlock()
	n := Notice{Event: Test, Opened: now, At: now, Condition: condition.Condition{
		ID: "test/sink/" + sink, Code: "test", Kind: condition.Sink, Subject: sink, Severity: condition.Warning, Since: now,
		Message: "this is a test of the sink " + sink + "; nothing is wrong", Hint: "nothing is to be done",
	}}
	if r.sink.Mirror != nil {
		return r.mirror(ctx, []Notice{n}, nil) // which ends by itself, as it is not shown again
	}
	m := &Message{ID: "test-" + rand.Text(), Host: e.options.Host, Group: "test", At: now, Notices: []Notice{n}, Total: 1, Warning: 1, Groups: 1}
	err := r.deliver(ctx, m)
	if err == nil { // what waits need not wait longer
		r.change(func(b *Book) { b.hasten(sink) })
		r.settle(result{took: true})
		r.poke()
	}
	return err
}
