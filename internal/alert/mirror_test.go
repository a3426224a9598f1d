package alert

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spinecert/spinecert/internal/condition"
)

// glass is a mirror that keeps what it was shown.
type glass struct {
	mu    sync.Mutex
	shown [][]string
	err   error
}

func (g *glass) Show(_ context.Context, active, resolved []Notice) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	var all []string
	for _, n := range active {
		all = append(all, "+"+n.Condition.ID+" "+string(n.Condition.Severity))
	}
	for _, n := range resolved {
		all = append(all, "-"+n.Condition.ID+" "+string(n.Condition.Severity))
	}
	slices.Sort(all)
	g.shown = append(g.shown, all)
	return g.err
}

func (g *glass) fail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.err = err
}

func (g *glass) last() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.shown) == 0 {
		return nil
	}
	return g.shown[len(g.shown)-1]
}

func (g *glass) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := len(g.shown)
	g.shown = nil
	return n
}

func mirrored(name string, g Mirror, least condition.Severity) Sink {
	return Sink{Name: name, Type: "alertmanager", Min: least, Timeout: 30 * time.Second, Key: "1", Mirror: g}
}

// TestMirror: it is shown everything at once when something changes, and each minute; what
// ends, or has another severity, is resolved once; nothing is shown while nothing is wrong.
func TestMirror(t *testing.T) {
	bubble(t, func(t *testing.T, file string) {
		g, grave := &glass{}, &glass{}
		s := newScene(t, file, mirrored("am", g, condition.Warning), mirrored("grave", grave, condition.Critical))
		time.Sleep(10 * time.Minute)
		if n := g.count(); n != 0 {
			t.Errorf("shown %d times that nothing is wrong", n)
		}
		w, c := failing("pcs", condition.Warning), failing("pcs", condition.Critical)
		s.set(w)
		check(t, "at once", g.last(), "+rotation_refused/slot/pcs warning")
		g.count()
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := g.count(); n != 60 {
			t.Errorf("shown %d times in an hour", n)
		}
		s.set(c)
		check(t, "graver", g.last(), "+rotation_refused/slot/pcs critical", "-rotation_refused/slot/pcs warning")
		check(t, "min: critical", grave.last(), "+rotation_refused/slot/pcs critical")
		time.Sleep(time.Minute)
		synctest.Wait()
		check(t, "a minute later", g.last(), "+rotation_refused/slot/pcs critical")
		s.set(w)
		check(t, "min: critical, milder", grave.last(), "-rotation_refused/slot/pcs critical")
		if _, err := s.Ack(w.ID, Ack{By: "anna", At: time.Now(), Until: time.Now().Add(time.Hour)}); err != nil {
			t.Error(err)
		}
		s.set()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		check(t, "over", g.last(), "-rotation_refused/slot/pcs warning")
		g.count()
		time.Sleep(time.Hour)
		if n := g.count(); n != 0 {
			t.Errorf("shown %d times after it was over", n)
		}
		s.end()
	})
}

// TestMirrorDown: what was over while it was down is resolved when it is back, over a
// restart as well as long as it is carried; a show that failed may have been seen in part.
func TestMirrorDown(t *testing.T) {
	bubble(t, func(t *testing.T, file string) {
		g := &glass{err: errors.New("503")}
		s := newScene(t, file, mirrored("am", g, condition.Warning))
		s.set(failing("a", condition.Warning))
		s.set(failing("a", condition.Critical), failing("b", condition.Warning))
		s.set(failing("b", condition.Warning))
		time.Sleep(3 * time.Minute) // a is over, and may have been seen
		synctest.Wait()
		g.fail(nil)
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		g.mu.Lock()
		all := slices.Concat(g.shown...)
		g.mu.Unlock()
		if !slices.Contains(all, "-rotation_refused/slot/a warning") {
			t.Errorf("what it may have seen was not resolved: %q", all)
		}
		check(t, "in the end", g.last(), "+rotation_refused/slot/b warning")
		s.end()
		g.count()
		next := newScene(t, file, mirrored("am", g, condition.Warning))
		check(t, "after a restart", g.last(), "+rotation_refused/slot/b warning")
		time.Sleep(startCalm + time.Minute)
		synctest.Wait()
		g.mu.Lock()
		over := 0
		for _, lines := range g.shown {
			if slices.Contains(lines, "-rotation_refused/slot/b warning") {
				over++
			}
		}
		g.mu.Unlock()
		if over != 1 {
			t.Errorf("resolved %d times", over)
		}
		if err := next.Test(context.Background(), "am", time.Now()); err != nil {
			t.Error(err)
		}
		check(t, "a test, which ends by itself", g.last(), "+test/sink/am warning")
		next.end()
	})
}
