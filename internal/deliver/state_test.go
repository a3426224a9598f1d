package deliver

import (
	"os"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/deliver/failure"
)

// A way back to a set that is gone does not stand in the way of what the slot has next.
func TestNextPassesUndo(t *testing.T) {
	r := newRig(t)
	p := newProgram(r, "web")
	p.run()
	c := p.service("web", func(c *config.Service) { c.Probes[0].Within = 500 * time.Millisecond })
	r.start(c)
	r.until("delivered", func() bool { return r.status("web").State == InSync })
	r.stop()
	rec, err := readRecord(r.records, "web")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(p.dir + "/" + rec.Proved.Set); err != nil {
		t.Fatal(err)
	}
	r.takes(r.rotate())
	away := c
	away.Reload = config.Reload{Kind: config.ReloadHAProxy, Socket: r.path("away.sock"), Timeout: time.Second}
	r.start(away)
	r.until("stuck", func() bool { return len(r.told(EventStuck)) > 0 })
	r.live().Apply([]config.Service{c})
	r.synced("web", r.rotate())
}

// A service that is down does not fill its directory with keys: what was proved and the
// newest set are all that is kept.
func TestSetsOfServiceThatIsDown(t *testing.T) {
	r := newRig(t)
	p := newProgram(r, "web")
	p.run()
	r.start(p.service("web", func(c *config.Service) { c.Probes[0].Within = 400 * time.Millisecond }))
	r.until("delivered", func() bool { return r.status("web").State == InSync })
	p.kill()
	for range 4 {
		next := r.rotate()
		r.until("in place", func() bool { st := r.status("web"); return st.State == Failed && st.Delivered.Leaf == next })
		if left := p.left(); len(left) != 2 {
			t.Fatalf("in the directory are %v, want the proved and the newest set", left)
		}
	}
}

// A link that is removed by hand while something is held comes back to what was proved.
func TestHeldLinkRemoved(t *testing.T) {
	r := newRig(t)
	p := newProgram(r, "web")
	p.run()
	r.start(p.service("web", func(c *config.Service) { c.Probes[0].Within = 500 * time.Millisecond }))
	r.until("delivered", func() bool { return r.status("web").State == InSync })
	good := r.status("web").Proved.Leaf
	p.is(sticks)
	r.rotate()
	r.until("held", func() bool { return r.status("web").State == Held })
	if err := os.Remove(p.dir + "/current"); err != nil {
		t.Fatal(err)
	}
	r.until("the link is back", func() bool { return p.onDisk() == good })
	r.until("held as before", func() bool { return r.status("web").State == Held && len(r.told(EventRolledBack)) == 2 })
	if n := len(r.told(EventDelivered)); n != 1 {
		t.Errorf("%d deliveries", n)
	}
}

// staysFailed has a service tried again, by order and by itself, and sees that it is
// failed all the time, since one moment: it would else be mended and break each time.
func (r *rig) staysFailed(name string) {
	r.Helper()
	was := r.status(name)
	for range 3 {
		st, err := r.live().Deliver(r.Context(), name, Order{})
		if err == nil || st.State != Failed || !st.Since.Equal(was.Since) {
			r.Fatalf("asked for, it is %s since %s, want failed since %s: %v", st.State, st.Since, was.Since, err)
		}
	}
	retry := r.status(name).Retry
	r.meanwhile("it is tried again by itself", func() bool {
		st := r.status(name)
		return st.State == Failed && st.Since.Equal(was.Since)
	}, func() bool { return r.status(name).Retry.After(retry) })
}

// A service that never ran is failed over all attempts, as one failure.
func TestDownStaysFailed(t *testing.T) {
	r := newRig(t)
	p := newProgram(r, "web")
	r.start(p.service("web", func(c *config.Service) { c.Probes[0].Within = 200 * time.Millisecond }))
	r.until("failed", func() bool { return r.status("web").State == Failed })
	r.staysFailed("web")
	if n := len(r.told(EventFailed)); n != 4 { // each order asks to be told
		t.Errorf("told %d times, want 4", n)
	}
	p.run()
	r.until("in sync", func() bool { return r.status("web").State == InSync })
}

// A service that goes down while something is held is failed until it answers, and
// then held again since the same moment.
func TestHeldAndDownStaysFailed(t *testing.T) {
	r := newRig(t)
	p := newProgram(r, "web")
	p.run()
	r.start(p.service("web", func(c *config.Service) { c.Probes[0].Within = 500 * time.Millisecond }))
	r.until("delivered", func() bool { return r.status("web").State == InSync })
	p.is(sticks)
	r.rotate()
	r.until("held", func() bool { return r.status("web").State == Held })
	since := r.status("web").Since
	p.kill()
	r.until("seen to be down", func() bool { st := r.status("web"); return st.State == Failed && st.Reason == failure.Unreachable })
	r.staysFailed("web")
	p.run()
	r.until("held as before", func() bool { return r.status("web").State == Held })
	if st := r.status("web"); !st.Since.Equal(since) {
		t.Errorf("held since %s, want %s", st.Since, since)
	}
}

// Of two services with one directory, by whatever path, one has it and the other says
// so; it gets the directory when the first one is gone from the configuration.
func TestOneDirectoryTwice(t *testing.T) {
	r := newRig(t)
	a, b := newProgram(r, "a"), newProgram(r, "b")
	a.run()
	b.run()
	if err := os.Remove(b.dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(a.dir, b.dir); err != nil {
		t.Fatal(err)
	}
	services := map[string]config.Service{"a": a.service("a"), "b": b.withTrust("b")}
	r.start(services["a"], services["b"])
	has, not := "a", "b"
	r.until("one has it", func() bool {
		if r.status("b").State == InSync {
			has, not = "b", "a"
		}
		st := r.status(not)
		return r.status(has).State == InSync && st.State == Failed && st.Reason == failure.UnsafeDirectory
	})
	for range 2 {
		r.synced(has, r.rotate())
	}
	if _, err := r.live().Deliver(t.Context(), not, Order{Now: true}); failure.ReasonOf(err, "") != failure.UnsafeDirectory {
		t.Errorf("deliver %s: %v", not, err)
	}
	if drifts, delivered := len(r.told(EventDrift)), len(r.told(EventDelivered)); drifts != 0 || delivered != 3 {
		t.Errorf("%d drifts and %d deliveries, want none and 3", drifts, delivered)
	}
	r.live().Apply([]config.Service{services[not]})
	r.until("the other has it", func() bool { return r.status(not).State == InSync })
}
