package alert

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spinecert/spinecert/internal/condition"
	"github.com/spinecert/spinecert/internal/durable"
)

type later time.Duration

func (l later) Error() string             { return "come back later" }
func (l later) RetryAfter() time.Duration { return time.Duration(l) }

// TestBackOff: the wait doubles up to half an hour, whatever else happens; the far side may
// ask for a longer one; once it works all is told once, and the next failure begins anew.
func TestBackOff(t *testing.T) {
	bubble(t, func(t *testing.T, file string) {
		f := &far{do: func(context.Context, int) error { return errors.New("down") }}
		s := newScene(t, file, to("ops", f))
		s.set(failing("pcs", condition.Warning))
		for i := range 30 { // what else goes wrong has nothing tried before its time
			time.Sleep(10 * time.Minute)
			s.set(failing("pcs", condition.Warning), failing(fmt.Sprint("other-", i), condition.Warning))
		}
		want := firstWait
		for i := 1; i < len(f.times); i++ {
			if wait := f.times[i].Sub(f.times[i-1]); wait < want || wait > want*5/4 {
				t.Errorf("attempt %d came %s after the one before, want %s and up to a quarter more", i, wait, want)
			}
			want = min(2*want, longWait)
		}
		if n := f.calls(); n < 14 || n > 18 {
			t.Errorf("%d attempts in 5 hours", n)
		}
		check(t, "of many failures", s.said(), "failed ops: down")
		f.set(func(context.Context, int) error { return later(5 * time.Hour) })
		time.Sleep(longWait * 5 / 4)
		f.set(nil)
		time.Sleep(longWait*5/4 + time.Second) // no far side may ask for more
		synctest.Wait()
		f.mu.Lock()
		if len(f.got) < 2 || !slices.Contains(f.got, "opened rotation_refused/slot/pcs") {
			t.Errorf("it was told %q", f.got)
		}
		f.got = nil
		f.mu.Unlock()
		events := s.said()
		if events[len(events)-1] != "works ops" {
			t.Errorf("%q", events)
		}
		s.end()
	})
}

func TestRetryAfter(t *testing.T) {
	for _, tt := range []struct {
		err      error
		failures int
		longest  time.Duration
		least    time.Duration
		most     time.Duration
	}{
		{errors.New("x"), 1, longWait, 10 * time.Second, 13 * time.Second},
		{errors.New("x"), 4, longWait, 80 * time.Second, 100 * time.Second},
		{errors.New("x"), 1000, longWait, longWait, longWait * 5 / 4},
		{errors.New("x"), 1000, showEvery, time.Minute, 75 * time.Second},
		{fmt.Errorf("send: %w", later(7*time.Minute)), 1, longWait, 7 * time.Minute, 7 * time.Minute},
		{later(7 * time.Hour), 1, longWait, longWait, longWait},
		{later(-time.Hour), 1, longWait, 10 * time.Second, 13 * time.Second},
	} {
		if got := waitAfter(tt.failures, tt.longest, tt.err); got < tt.least || got > tt.most {
			t.Errorf("%v, failure %d: %s", tt.err, tt.failures, got)
		}
	}
}

// TestHanging: a sink that hangs until its time is over is failing; one that hangs on after
// that as well, and is given nothing until it returns; one that panics too. None of them
// keeps the engine from ending, or another sink from being told.
func TestHanging(t *testing.T) {
	bubble(t, func(t *testing.T, file string) {
		release := make(chan struct{})
		hangs := &far{do: func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() }}
		stuck := &far{do: func(context.Context, int) error { <-release; return nil }}
		panics := &far{do: func(context.Context, int) error { panic("password of the relay") }}
		good := &far{}
		s := newScene(t, file, to("hangs", hangs), to("stuck", stuck), to("panics", panics), to("good", good))
		s.set(failing("pcs", condition.Warning))
		check(t, "good", good.took(), "opened rotation_refused/slot/pcs")
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		events := s.said()
		slices.Sort(events)
		check(t, "log", events, "failed hangs: context deadline exceeded", "failed panics: it failed in a way that was not foreseen (string)",
			"failed stuck: it did not end when its time was over; nothing more is sent until it does", "failed stuck: the attempt before this one has not ended yet")
		if stuck.calls() != 1 || hangs.calls() < 5 || panics.calls() < 5 {
			t.Errorf("%d, %d and %d attempts", stuck.calls(), hangs.calls(), panics.calls())
		}
		failing := s.Failing(time.Now())
		if len(failing) != 3 || failing[0].Severity != condition.Warning {
			t.Errorf("%+v", failing)
		}
		close(release)
		synctest.Wait()
		stuck.set(nil)
		time.Sleep(longWait * 5 / 4)
		synctest.Wait()
		stuck.took()
		if n := s.Pending()["stuck"]; n != 0 || len(s.Failing(time.Now())) != 2 {
			t.Errorf("%d wait for what works again", n)
		}
		never := make(chan struct{})
		defer close(never)
		stuck.set(func(context.Context, int) error { <-never; return nil })
		s.set()
		time.Sleep(2 * time.Minute)
		if took := s.end(); took > 3*returnPatience {
			t.Errorf("it took %s to end", took)
		}
	})
}

// TestFailing: from 5 minutes on it is a condition, critical where nothing but the log works;
// a sink is not told of itself.
func TestFailing(t *testing.T) {
	bubble(t, func(t *testing.T, file string) {
		down := func(context.Context, int) error { return errors.New("no route") }
		a, b := &far{do: down}, &far{}
		log := to("journal", &far{})
		log.Type = journalType
		s := newScene(t, file, to("a", a), to("b", b), log)
		s.set(failing("pcs", condition.Warning))
		time.Sleep(4 * time.Minute)
		if f := s.Failing(time.Now()); len(f) != 0 {
			t.Errorf("after 4 minutes: %+v", f)
		}
		time.Sleep(2 * time.Minute)
		f := s.Failing(time.Now())
		if len(f) != 1 || f[0].Subject != "a" || f[0].Severity != condition.Warning || f[0].Kind != condition.Sink || !strings.Contains(f[0].Message, "no route") || !strings.Contains(f[0].Hint, "spinecert alerts test a") {
			t.Fatalf("after 6 minutes: %+v", f)
		}
		f[0].Complete("")
		b.took()
		s.set(failing("pcs", condition.Warning), f[0])
		check(t, "b", b.took(), "opened sink_failing/sink/a")
		for _, st := range s.List(time.Now()).Sinks {
			if (st.State == "failing") != (st.Name == "a") || st.Name == "a" && (st.Pending != 1 || st.NextTry.IsZero() || st.LastError != "no route") {
				t.Errorf("%+v", st)
			}
		}
		b.set(down)
		s.set(failing("pcs", condition.Warning), failing("other", condition.Warning), f[0])
		time.Sleep(6 * time.Minute)
		if f := s.Failing(time.Now()); len(f) != 2 || f[0].Severity != condition.Critical {
			t.Errorf("nothing but the log works: %+v", f)
		}
		a.set(nil)
		if err := s.Test(context.Background(), "a", time.Now()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		got := a.took()
		slices.Sort(got)
		check(t, "a, after a test worked", got, "opened rotation_refused/slot/other", "opened rotation_refused/slot/pcs", "test test/sink/a")
		s.end()
	})
}

// TestConfigure: a reload in the middle of a message tells it once and never two at a time;
// a sink that did not change is not disturbed.
func TestConfigure(t *testing.T) {
	bubble(t, func(t *testing.T, file string) {
		slow := func(ctx context.Context, _ int) error { time.Sleep(10 * time.Second); return nil } // whatever ctx says
		same, changed := &far{do: slow}, &far{do: slow}
		s := newScene(t, file, to("same", same), to("changed", changed))
		s.set(failing("pcs", condition.Warning))
		time.Sleep(time.Second)
		other := to("changed", changed)
		other.Key = "2"
		s.Configure(Setting{Sinks: []Sink{to("same", same), other}})
		time.Sleep(time.Minute)
		synctest.Wait()
		check(t, "same", same.took(), "opened rotation_refused/slot/pcs")
		// Whether the first attempt arrived is not known: the second has the same ID.
		if changed.most != 1 || len(changed.ids) != 2 || changed.ids[0] != changed.ids[1] || same.most != 1 {
			t.Errorf("messages %q, %d at a time", changed.ids, changed.most)
		}
		changed.set(func(ctx context.Context, _ int) error { // one that obeys, and has it all the same
			<-ctx.Done()
			time.Sleep(time.Second)
			return nil
		})
		changed.took()
		same.set(nil)
		s.set(failing("pcs", condition.Warning), failing("more", condition.Warning))
		s.Configure(Setting{Sinks: []Sink{to("changed", changed)}})
		time.Sleep(2 * time.Second)
		synctest.Wait()
		check(t, "changed", changed.took(), "opened rotation_refused/slot/more")
		if n := changed.calls(); n != 3 {
			t.Errorf("%d attempts", n)
		}
		check(t, "same, before it was gone", same.took(), "opened rotation_refused/slot/more")
		s.end()
	})
}

// TestRunAgain: after an upgrade that failed it goes on where it was; between, nothing is
// written and nothing sent, not by a sink that returns late either.
func TestRunAgain(t *testing.T) {
	bubble(t, func(t *testing.T, file string) {
		release := make(chan struct{})
		f := &far{}
		s := newScene(t, file, to("ops", f))
		s.set(failing("a", condition.Warning))
		check(t, "before", f.took(), "opened rotation_refused/slot/a")
		f.set(func(context.Context, int) error { <-release; return nil })
		s.set(failing("a", condition.Warning), failing("b", condition.Warning))
		s.end()
		writes := 0
		s.replace = func(path string, data []byte, mode fs.FileMode) error {
			writes++
			return durable.Replace(path, data, mode)
		}
		f.set(nil)
		close(release) // it has the message after all
		s.set(failing("a", condition.Warning), failing("b", condition.Warning), failing("c", condition.Warning))
		if _, err := s.Ack("rotation_refused/slot/a", Ack{By: "anna", At: time.Now(), Until: time.Now().Add(time.Hour)}); err != nil {
			t.Error(err)
		}
		s.LookNow()
		time.Sleep(time.Hour)
		if writes != 0 {
			t.Errorf("%d times written after the end", writes)
		}
		f.took()
		s.run()
		synctest.Wait()
		got := f.took()
		slices.Sort(got)
		check(t, "run again", got, "opened rotation_refused/slot/b", "opened rotation_refused/slot/c")
		s.end()
		if writes == 0 {
			t.Error("not written")
		}
	})
}

// TestUnwritten: a disk that refuses, and one that does not answer, keep nobody from being
// told, nor List from answering; what they missed is written once they work.
func TestUnwritten(t *testing.T) {
	for name, broken := range map[string]func(release chan struct{}) error{
		"refuses": func(chan struct{}) error { return errors.New("no space left") },
		"hangs":   func(release chan struct{}) error { <-release; return nil },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, file string) {
				release, bad := make(chan struct{}), true
				f := &far{}
				s := newScene(t, file, to("ops", f))
				var mu sync.Mutex
				s.replace = func(path string, data []byte, mode fs.FileMode) error {
					mu.Lock()
					b := bad
					mu.Unlock()
					if b {
						if err := broken(release); err != nil {
							return err
						}
					}
					return durable.Replace(path, data, mode)
				}
				s.set(failing("pcs", condition.Warning))
				began := time.Now()
				if n := len(s.List(began).Alerts); n != 1 || !time.Now().Equal(began) {
					t.Errorf("%d alerts, after %s", n, time.Since(began))
				}
				time.Sleep(2 * savePatience)
				synctest.Wait()
				check(t, "told", f.took(), "opened rotation_refused/slot/pcs")
				if s.Unwritten() == nil || !strings.Contains(s.Unwritten().Error(), file) {
					t.Errorf("unwritten: %v", s.Unwritten())
				}
				if _, err := s.Ack("rotation_refused/slot/pcs", Ack{By: "anna", At: time.Now(), Until: time.Now().Add(time.Hour)}); err == nil {
					t.Error("an acknowledgement that is not written is no success")
				}
				time.Sleep(time.Hour)
				check(t, "log", s.said(), "unwritten")
				mu.Lock()
				bad = false
				mu.Unlock()
				close(release)
				time.Sleep(usualEvery + time.Second)
				synctest.Wait()
				if err := s.Unwritten(); err != nil {
					t.Error(err)
				}
				next := NewBook(time.Now(), nil)
				if err := next.Load(file); err != nil || next.records["rotation_refused/slot/pcs"] == nil || next.records["rotation_refused/slot/pcs"].Ack == nil {
					t.Errorf("the file lacks what was not written: %v", err)
				}
				s.end()
			})
		})
	}
}
