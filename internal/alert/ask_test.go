package alert

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spinecert/spinecert/internal/condition"
)

// TestAck: it is bounded, can be taken back, silences repeats and nothing else, outlives a
// restart, and ends when it grows worse.
func TestAck(t *testing.T) {
	bubble(t, func(t *testing.T, file string) {
		const id = "rotation_refused/slot/pcs"
		f := &far{}
		setting := Setting{RepeatWarning: day, RepeatCritical: day, Sinks: []Sink{to("ops", f)}}
		s := startScene(t, file, setting)
		s.set(failing("pcs", condition.Warning))
		f.took()
		now := time.Now()
		a, err := s.Ack(id, Ack{By: "anna", UID: 7, At: now, Until: now.Add(1000 * day)})
		if err != nil || a.State != "acknowledged" || a.Ack == nil || !a.Ack.Until.Equal(now.Add(longestAck)) || !a.Next.Equal(a.Ack.Until) || a.Ack.By != "anna" {
			t.Errorf("%+v, %v", a, err)
		}
		time.Sleep(5 * day)
		synctest.Wait()
		check(t, "acknowledged", f.took())
		now = time.Now()
		if a, err = s.Ack(id, Ack{By: "anna", At: now, Until: now}); err != nil || a.Ack != nil || a.State != "active" {
			t.Errorf("taken back: %+v, %v", a, err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		check(t, "taken back", f.took(), "repeated "+id)
		now = time.Now()
		if _, err := s.Ack(id, Ack{By: "anna", At: now, Until: now.Add(3 * day)}); err != nil {
			t.Error(err)
		}
		s.end()
		s = startScene(t, file, setting, failing("pcs", condition.Warning))
		time.Sleep(2 * day)
		synctest.Wait()
		check(t, "after a restart", f.took())
		s.set(failing("pcs", condition.Critical))
		check(t, "graver", f.took(), "escalated "+id)
		if l := s.List(time.Now()); len(l.Alerts) != 1 || l.Alerts[0].Ack != nil {
			t.Errorf("%+v", l.Alerts)
		}
		if _, err := s.Ack("expiring/slot/nowhere", Ack{}); !errors.Is(err, ErrNoAlert) {
			t.Error(err)
		}
		s.end()
	})
}

// TestList: the gravest first, then what ends first; when each is told again.
func TestList(t *testing.T) {
	bubble(t, func(t *testing.T, file string) {
		f := &far{}
		s := startScene(t, file, Setting{RepeatWarning: 7 * day, RepeatCritical: day, Sinks: []Sink{to("ops", f), mirrored("am", &glass{}, condition.Warning)}})
		now := time.Now()
		dated := func(subject string, in, step time.Duration, severity condition.Severity) condition.Condition {
			c := wrong(condition.Expiring, condition.Slot, subject, severity)
			c.Ends = condition.Moment{Time: now.Add(in)}
			if step != 0 {
				c.Steps = []time.Time{now.Add(-time.Hour), now.Add(step)}
			}
			return c
		}
		waits := failing("z", condition.Warning)
		waits.Steps = []time.Time{now.Add(3 * day), now.Add(9 * day)}
		s.set(failing("b", condition.Warning), failing("a", condition.Critical), dated("late", 20*day, 0, condition.Warning), dated("soon", 10*day, 2*day, condition.Warning), waits,
			dated("last", day, 12*time.Hour, condition.Critical))
		var got []string
		for _, a := range s.List(time.Now()).Alerts {
			got = append(got, fmt.Sprintf("%s %s %s %s", a.Subject, a.State, a.Next.Sub(now).Round(time.Hour), strings.Join(a.Sinks, ",")))
		}
		check(t, "list", got, "last active 12h0m0s ops", "a active 24h0m0s ops", "soon active 48h0m0s ops", "late active 168h0m0s ops", "b active 168h0m0s ops", "z waiting 72h0m0s ")
		s.set(failing("b", condition.Warning))
		got = nil
		for _, a := range s.List(time.Now()).Alerts {
			got = append(got, a.Subject+" "+a.State+" "+fmt.Sprint(a.Next.IsZero()))
		}
		check(t, "what is gone for a moment", got, "a resolving true", "b active false")
		s.end()
	})
}

// TestTest: it goes past the queue, which stays; nobody has to wait for ever.
func TestTest(t *testing.T) {
	bubble(t, func(t *testing.T, file string) {
		f := &far{do: func(context.Context, int) error { return errors.New("down") }}
		s := newScene(t, file, to("ops", f))
		s.set(failing("pcs", condition.Warning))
		if err := s.Test(context.Background(), "ops", time.Now()); err == nil || err.Error() != "down" {
			t.Error(err)
		}
		if n := s.Pending()["ops"]; n != 1 {
			t.Errorf("%d wait", n)
		}
		if err := s.Test(context.Background(), "nowhere", time.Now()); !errors.Is(err, ErrNoSink) {
			t.Error(err)
		}
		release := make(chan struct{})
		f.set(func(context.Context, int) error { <-release; return nil })
		time.Sleep(10 * time.Minute)
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		began := time.Now()
		if err := s.Test(ctx, "ops", began); err == nil || time.Since(began) > 5*time.Second+returnPatience {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		close(release)
		synctest.Wait()
		s.end()
	})
}

// TestNoLock: nothing is held while it is looked at what is wrong, and while something is
// sent: everything else can be asked meanwhile.
func TestNoLock(t *testing.T) {
	bubble(t, func(t *testing.T, file string) {
		var s *scene
		all := func() {
			now := time.Now()
			s.List(now)
			s.Pending()
			s.Failing(now)
			s.Since("expiring/slot/x")
			_ = s.Unwritten()
			_, _ = s.Ack("rotation_refused/slot/pcs", Ack{By: "anna", At: now, Until: now.Add(time.Hour)})
			s.Wake()
		}
		f := &far{do: func(context.Context, int) error {
			all()
			s.Configure(Setting{Sinks: s.sinks()})
			s.LookNow()
			return nil
		}}
		s = newScene(t, file, to("ops", f))
		s.end()
		look := s.options.Look
		s.options.Look = func(now time.Time) ([]condition.Condition, bool) { all(); return look(now) }
		s.run()
		s.set(failing("pcs", condition.Warning))
		check(t, "told", f.took(), "opened rotation_refused/slot/pcs")
		s.end()
	})
}

func (s *scene) sinks() []Sink {
	s.Engine.mu.Lock()
	defer s.Engine.mu.Unlock()
	var out []Sink
	for _, r := range s.runners {
		out = append(out, r.sink)
	}
	return out
}

// TestTogether: everything at once, for the race detector; in the end each alert is told.
func TestTogether(t *testing.T) {
	bubble(t, func(t *testing.T, file string) {
		f, g := &far{}, &glass{}
		sinks := []Sink{to("ops", f), mirrored("am", g, condition.Warning)}
		s := newScene(t, file, sinks...)
		var group sync.WaitGroup
		for i := range 4 {
			group.Go(func() {
				for j := range 25 {
					now := time.Now()
					s.mu.Lock()
					s.wrong = append(s.wrong[:len(s.wrong):len(s.wrong)], failing(fmt.Sprintf("slot-%d-%d", i, j), condition.Warning))
					s.mu.Unlock()
					s.LookNow()
					s.List(now)
					s.Since(fmt.Sprint(j))
					s.Failing(now)
					s.Pending()
					_, _ = s.Ack(fmt.Sprintf("rotation_refused/slot/slot-%d-%d", i, j-1), Ack{At: now, Until: now.Add(time.Hour)})
					changed := sinks[0]
					changed.Key = fmt.Sprint(i, j)
					s.Configure(Setting{Sinks: []Sink{changed, sinks[1]}})
					_ = s.Test(context.Background(), "ops", now)
				}
			})
		}
		group.Wait()
		time.Sleep(time.Minute)
		synctest.Wait()
		told := map[string]bool{}
		for _, line := range f.took() {
			told[line] = true
		}
		for _, c := range s.wrong {
			if !told["opened "+c.ID] {
				t.Errorf("%s was not told", c.ID)
			}
		}
		if f.most != 1 {
			t.Errorf("%d messages at a time", f.most)
		}
		if n := len(g.last()); n != len(s.wrong) {
			t.Errorf("the mirror shows %d", n)
		}
		s.end()
	})
}
