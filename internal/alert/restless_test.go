package alert

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spinecert/spinecert/internal/condition"
)

func dated(subject string, end time.Time, now time.Time) []condition.Condition {
	left := end.Sub(now)
	if left > 90*day {
		return nil
	}
	c := wrong(condition.Expiring, condition.Slot, subject, condition.Warning)
	c.Ends = condition.Moment{Time: end}
	for _, l := range []time.Duration{90 * day, 30 * day, 14 * day, 7 * day, day, 0} {
		c.Steps = append(c.Steps, end.Add(-l))
	}
	if left <= 7*day {
		c.Severity = condition.Critical
	}
	if left <= 0 {
		c.Code, c.Ends = condition.Expired, condition.Moment{}
	}
	return []condition.Condition{c}
}

// A message that the far side refuses for its content keeps no other back.
func TestPoisonMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &poison{bad: "rotation_refused/slot/aaa"}
		sc := newScene(t, filepath.Join(t.TempDir(), FileName), Sink{Name: "ops", Type: "webhook", Min: condition.Warning, Timeout: time.Second, Key: "1", Sender: s})
		defer sc.end()
		sc.set(failing("aaa", condition.Critical), failing("bbb", condition.Critical), failing("ccc", condition.Warning))
		time.Sleep(7 * day)
		synctest.Wait()
		if !slices.Contains(s.got, "rotation_refused/slot/bbb") || !slices.Contains(s.got, "rotation_refused/slot/ccc") {
			t.Errorf("after 7 days of a far side that refuses one message with 400, it was told %q of the others; pending %v", s.got, sc.Pending())
		}
	})
}

type poison struct {
	bad string
	got []string
}

func (p *poison) Send(_ context.Context, m *Message) error {
	for _, n := range m.Notices {
		if n.Condition.ID == p.bad {
			return errors.New("answered 400 Bad Request")
		}
	}
	for _, n := range m.Notices {
		p.got = append(p.got, n.Condition.ID)
	}
	return nil
}

// An acknowledged warning that becomes critical soon after it grew worse is told all the same.
func TestAckThenEscalationWithinHour(t *testing.T) {
	b := NewBook(begin, nil)
	w, c := failing("pcs", condition.Warning), failing("pcs", condition.Critical)
	at := begin
	step := func(d time.Duration, c condition.Condition) {
		at = at.Add(d)
		b.Update(at, everybody, []condition.Condition{c}, false)
	}
	step(0, w)
	told(b, "ops", at)
	step(time.Minute, c)
	check(t, "escalated", told(b, "ops", at), "escalated rotation_refused/slot/pcs critical")
	step(10*time.Minute, w) // mended in part
	b.records["rotation_refused/slot/pcs"].Ack = &Ack{By: "root", At: at, Until: at.Add(60 * day)}
	step(10*time.Minute, c) // nothing to serve any more
	var got []string
	for range 59 {
		step(day, c)
		got = append(got, told(b, "ops", at)...)
	}
	if len(got) == 0 {
		t.Errorf("acknowledged as a warning, critical since 59 days, and nothing was told; ack %v", b.records["rotation_refused/slot/pcs"].Ack)
	}
}

// sink_failing is not over because the daemon was restarted.
func TestSinkFailingOverRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), FileName)
		down := &far{do: func(context.Context, int) error { return errors.New("connection refused") }}
		up := &far{}
		sinks := []Sink{{Name: "ops", Type: "email", Min: condition.Warning, Timeout: time.Second, Key: "1", Sender: down}, {Name: "page", Type: "exec", Min: condition.Warning, Timeout: time.Second, Key: "2", Sender: up}}
		start := func() (*Engine, func()) {
			var e *Engine
			e = New(Options{File: file, Host: "gateway1", Tell: Observer{Sent: func(string, string, int) {}, Failed: func(string, error) {}, Works: func(string) {}, Unreadable: func(error) {}, Unwritten: func(error) {}},
				Look: func(now time.Time) ([]condition.Condition, bool) {
					out := []condition.Condition{failing("pcs", condition.Critical)}
					for _, c := range e.Failing(now) {
						c.Complete("")
						out = append(out, c)
					}
					return out, false
				}})
			e.Configure(Setting{RepeatWarning: 7 * day, RepeatCritical: day, Sinks: sinks})
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan struct{})
			go func() { defer close(ended); _ = e.Run(ctx) }()
			return e, func() { cancel(); <-ended }
		}
		_, stop := start()
		time.Sleep(time.Hour)
		synctest.Wait()
		t.Logf("before: %q", up.took())
		for range 3 {
			stop()
			_, stop = start()
			time.Sleep(time.Hour)
			synctest.Wait()
			if got := up.took(); len(got) > 0 {
				t.Errorf("a restart while a sink is down tells: %q", got)
			}
		}
		stop()
	})
}

// Nor because a reload has changed the sink.
func TestSinkFailingOverReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), FileName)
		down := &far{do: func(context.Context, int) error { return errors.New("connection refused") }}
		up := &far{}
		sinks := []Sink{{Name: "hook", Type: "webhook", Min: condition.Warning, Timeout: time.Second, Key: "", Sender: down}, {Name: "page", Type: "exec", Min: condition.Warning, Timeout: time.Second, Key: "2", Sender: up}}
		var e *Engine
		e = New(Options{File: file, Host: "gateway1", Tell: Observer{Sent: func(string, string, int) {}, Failed: func(string, error) {}, Works: func(string) {}, Unreadable: func(error) {}, Unwritten: func(error) {}},
			Look: func(now time.Time) ([]condition.Condition, bool) {
				out := []condition.Condition{failing("pcs", condition.Critical)}
				for _, c := range e.Failing(now) {
					c.Complete("")
					out = append(out, c)
				}
				return out, false
			}})
		set := Setting{RepeatWarning: 7 * day, RepeatCritical: day, Sinks: sinks}
		e.Configure(set)
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() { defer close(ended); _ = e.Run(ctx) }()
		time.Sleep(time.Hour)
		synctest.Wait()
		t.Logf("before: %q", up.took())
		e.Configure(set) // SIGHUP, nothing changed
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := up.took(); len(got) > 0 {
			t.Errorf("a reload that changes nothing tells: %q", got)
		}
		cancel()
		<-ended
	})
}

// A small step back of the clock across a step tells nothing twice.
func TestSmallStepBack(t *testing.T) {
	b := NewBook(begin, nil)
	end := begin.Add(30*day + time.Minute)
	at := begin
	var got []string
	look := func(at time.Time) {
		b.Update(at, everybody, dated("pcs", end, at), false)
		got = append(got, told(b, "ops", at)...)
	}
	look(at)
	look(at.Add(2 * time.Minute))  // 30d step passed: escalated
	look(at.Add(-1 * time.Minute)) // put back by 3 minutes
	look(at.Add(2 * time.Minute))
	check(t, "30 days", got, "opened expiring/slot/pcs warning", "escalated expiring/slot/pcs warning")
}

func TestSmallStepBackOpens(t *testing.T) {
	b := NewBook(begin, nil)
	end := begin.Add(90 * day)
	var got []string
	look := func(at time.Time) {
		b.Update(at, everybody, dated("pcs", end, at), false)
		got = append(got, told(b, "ops", at)...)
	}
	look(begin.Add(time.Second))
	look(begin.Add(-2 * time.Minute)) // put back by 2 minutes
	look(begin.Add(time.Second))
	check(t, "90 days", got, "opened expiring/slot/pcs warning")
}

// What happens while a message is on its way is told as what came after it.
func TestInFlight(t *testing.T) {
	b := NewBook(begin, nil)
	w, c := failing("pcs", condition.Warning), failing("pcs", condition.Critical)
	b.Update(begin, everybody, []condition.Condition{w}, false)
	ms := b.take("ops", "h", begin) // on its way
	b.Update(begin.Add(10*time.Second), everybody, []condition.Condition{c}, false)
	b.done("ops", ms[0]) // taken
	check(t, "then", told(b, "ops", begin), "escalated rotation_refused/slot/pcs critical")

	b = NewBook(begin, nil)
	b.Update(begin, everybody, []condition.Condition{w}, false)
	ms = b.take("ops", "h", begin)
	b.Update(begin.Add(10*time.Second), everybody, nil, false)
	b.Update(begin.Add(80*time.Second), everybody, nil, false)
	b.done("ops", ms[0])
	check(t, "over", told(b, "ops", begin), "resolved rotation_refused/slot/pcs warning")
}

// What comes and goes slower than a minute is not told each time.
func TestSlowFlapping(t *testing.T) {
	b := NewBook(begin, nil)
	n := 0
	for s := range 24 * 60 * 4 { // a day, looked at each 15 s: 15 s there, 75 s not
		at := begin.Add(time.Duration(s) * 15 * time.Second)
		var w []condition.Condition
		if s%6 == 0 {
			w = append(w, failing("pcs", condition.Warning))
		}
		b.Update(at, everybody, w, false)
		n += len(told(b, "ops", at))
	}
	if n > 100 {
		t.Errorf("one alert that flaps makes %d messages a day to one sink", n)
	}
}
