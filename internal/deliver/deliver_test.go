package deliver

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/deliver/failure"
)

// A rotation is delivered, read and seen.
func TestRotation(t *testing.T) {
	r := newRig(t)
	p := newProgram(r, "web")
	p.run()
	r.start(p.service("web"))
	r.until("delivered", func() bool { return r.status("web").State == InSync })
	first := r.status("web").Proved.Leaf
	if p.serves() != first || p.onDisk() != first {
		t.Errorf("it serves %s and has %s on disk, want %s", p.serves(), p.onDisk(), first)
	}
	for range 3 {
		next := r.rotate()
		r.synced("web", next)
		if p.serves() != next {
			t.Errorf("it serves %s, want %s", p.serves(), next)
		}
	}
	if n := len(r.told(EventDelivered)); n != 4 {
		t.Errorf("%d deliveries were told, want 4", n)
	}
	if st := r.status("web"); st.Served.Leaf != st.Proved.Leaf || st.Served.Generation != st.Desired.Generation {
		t.Errorf("served %+v, proved %+v", st.Served, st.Proved)
	}
}

// What fails its proof is taken back, and not tried again until the slot changes or somebody says so.
func TestRollBack(t *testing.T) {
	r := newRig(t)
	p := newProgram(r, "web")
	p.run()
	r.start(p.service("web"))
	r.until("delivered", func() bool { return r.status("web").State == InSync })
	good := r.status("web").Proved.Leaf
	p.is(sticks)
	bad := r.rotate()
	r.until("held", func() bool { return r.status("web").State == Held })
	st := r.status("web")
	if st.Reason != failure.WrongCertificate || st.Step != StepProve || st.Delivered.Leaf != good || st.Desired.Leaf != bad || st.Served.Leaf != good {
		t.Errorf("held with %+v", st)
	}
	if p.onDisk() != good || p.serves() != good {
		t.Errorf("it serves %s and has %s on disk, want %s", p.serves(), p.onDisk(), good)
	}
	if n := len(r.told(EventRolledBack)); n != 1 {
		t.Errorf("%d roll backs, want 1", n)
	}
	// Not by itself, and not when it is asked without --now.
	p.is(obeys)
	if _, err := r.live().Deliver(t.Context(), "web", Order{}); failure.ReasonOf(err, "") != failure.WrongCertificate {
		t.Errorf("deliver without --now: %v", err)
	}
	if p.onDisk() != good {
		t.Error("a held set was delivered again")
	}
	if st, err := r.live().Deliver(t.Context(), "web", Order{Now: true}); err != nil || st.State != InSync {
		t.Fatalf("deliver --now: %v, %+v", err, st)
	}
	r.synced("web", bad)
	// And the next one by itself.
	p.is(sticks)
	r.rotate()
	r.until("held again", func() bool { return r.status("web").State == Held })
	p.is(obeys)
	r.synced("web", r.rotate())
}

// A hold outlives the process.
func TestHoldAfterRestart(t *testing.T) {
	r := newRig(t)
	p := newProgram(r, "web")
	p.run()
	c := p.service("web")
	r.start(c)
	r.until("delivered", func() bool { return r.status("web").State == InSync })
	good := r.status("web").Proved.Leaf
	p.is(sticks)
	r.rotate()
	r.until("held", func() bool { return r.status("web").State == Held })
	p.is(obeys)
	r.start(c)
	r.until("held after a start", func() bool { st := r.status("web"); return st.State == Held && !st.Looked.IsZero() })
	if p.onDisk() != good || p.serves() != good {
		t.Errorf("it serves %s and has %s on disk, want %s", p.serves(), p.onDisk(), good)
	}
}

// A service that was down before is not the fault of what was delivered.
func TestDown(t *testing.T) {
	r := newRig(t)
	p := newProgram(r, "web")
	p.run()
	c := p.service("web", func(c *config.Service) { c.Probes[0].Within = 300 * time.Millisecond })
	r.start(c)
	r.until("delivered", func() bool { return r.status("web").State == InSync })
	p.kill()
	next := r.rotate()
	r.until("failed", func() bool {
		st := r.status("web")
		return st.State == Failed && st.Desired.Leaf == next && st.Delivered.Leaf == next
	})
	st := r.status("web")
	if st.Reason != failure.Unreachable || st.Hint == "" || st.Retry.IsZero() {
		t.Errorf("failed with %+v", st)
	}
	if p.onDisk() != next {
		t.Error("the new set is not there for when it starts")
	}
	p.run()
	r.synced("web", next)
}

// One that dies over a set: the old files are there for whoever starts it, and it is known that it is down.
func TestDies(t *testing.T) {
	r := newRig(t)
	p := newProgram(r, "web")
	p.run()
	r.start(p.service("web", func(c *config.Service) { c.Probes[0].Within = 300 * time.Millisecond }))
	r.until("delivered", func() bool { return r.status("web").State == InSync })
	good := r.status("web").Proved.Leaf
	p.is(dies)
	r.rotate()
	r.until("stuck", func() bool { return len(r.told(EventStuck)) == 1 })
	st := r.status("web")
	if st.State != Failed || st.Step != StepUndo || p.onDisk() != good {
		t.Errorf("stuck with %+v, on disk %s", st, p.onDisk())
	}
	p.is(obeys)
	p.run()
	r.until("back, and held", func() bool { return r.status("web").State == Held })
	if p.serves() != good {
		t.Errorf("it serves %s, want %s", p.serves(), good)
	}
}

// What a service refuses before it is told never reaches it.
func TestValidate(t *testing.T) {
	r := newRig(t)
	p := newProgram(r, "web")
	p.run()
	veto := r.path("veto")
	c := p.service("web", func(c *config.Service) {
		c.Validate = config.Command{Exec: []string{"/usr/bin/test", "!", "-e", veto}, Timeout: 5 * time.Second}
	})
	r.start(c)
	r.until("delivered", func() bool { return r.status("web").State == InSync })
	good := r.status("web").Proved.Leaf
	r.write("veto", nil, 0o644)
	r.rotate()
	r.until("held", func() bool { return r.status("web").State == Held })
	if st := r.status("web"); st.Step != StepValidate || st.Reason != failure.ValidateFailed {
		t.Errorf("held with %+v", st)
	}
	if p.serves() != good || p.onDisk() != good {
		t.Error("what did not validate reached the service")
	}
}

// A file that somebody edited is delivered again.
func TestDrift(t *testing.T) {
	r := newRig(t)
	p := newProgram(r, "web")
	p.run()
	r.start(p.service("web"))
	r.until("delivered", func() bool { return r.status("web").State == InSync })
	good := r.status("web").Proved.Leaf
	r.write("etc-web/current/fullchain.pem", []byte("edited"), 0o644)
	r.until("told", func() bool { return len(r.told(EventDrift)) > 0 })
	r.synced("web", good)
	if p.onDisk() != good {
		t.Errorf("on disk is %s", p.onDisk())
	}
}

// on_failure: keep leaves it in place, and looks whether somebody mends it.
func TestKeep(t *testing.T) {
	r := newRig(t)
	p := newProgram(r, "web")
	p.run()
	r.start(p.service("web", func(c *config.Service) { c.KeepBad = true; c.Probes[0].Within = 300 * time.Millisecond }))
	r.until("delivered", func() bool { return r.status("web").State == InSync })
	p.is(sticks)
	next := r.rotate()
	r.until("failed", func() bool { return r.status("web").State == Failed && r.status("web").KeptBad })
	if p.onDisk() != next || len(r.told(EventRolledBack)) != 0 {
		t.Error("it was taken back")
	}
	p.is(obeys)
	r.write("web.reload", nil, 0o644) // by hand
	r.synced("web", next)
}

// A service waits for those that it comes after, and only for them.
func TestAfter(t *testing.T) {
	r := newRig(t)
	a, b := newProgram(r, "a"), newProgram(r, "b")
	a.run()
	b.run()
	r.start(a.service("a"), b.service("b", func(c *config.Service) { c.After = []string{"a"} }))
	r.until("delivered", func() bool { return r.status("b").State == InSync })
	good := r.status("b").Proved.Leaf
	a.is(sticks)
	bad := r.rotate()
	r.until("a is held", func() bool { return r.status("a").State == Held })
	r.until("b waits", func() bool {
		st := r.status("b")
		return st.State == Delivering && st.Waits != "" && st.Desired.Leaf == bad
	})
	if b.onDisk() != good {
		t.Error("b did not wait")
	}
	if _, err := r.live().Deliver(t.Context(), "b", Order{Now: true}); failure.ReasonOf(err, "") != failure.Waiting {
		t.Errorf("deliver b --now: %v", err)
	}
	a.is(obeys)
	if _, err := r.live().Deliver(t.Context(), "a", Order{Now: true}); err != nil {
		t.Fatal(err)
	}
	r.synced("b", bad)
}

// What has been told to nobody, as the way is barred, is tried again and blames no set.
func TestBlameless(t *testing.T) {
	r := newRig(t)
	p := newProgram(r, "web")
	p.run()
	c := p.service("web")
	r.start(c)
	r.until("delivered", func() bool { return r.status("web").State == InSync })
	good := r.status("web").Proved.Leaf
	c.Reload = config.Reload{Kind: config.ReloadHAProxy, Socket: r.path("away.sock"), Timeout: time.Second}
	r.live().Apply([]config.Service{c})
	next := r.rotate()
	r.until("failed", func() bool {
		st := r.status("web")
		return st.State == Failed && st.Reason == failure.SocketAway && st.Delivered.Leaf == good
	})
	if p.onDisk() != good || p.serves() != good {
		t.Error("the old set is not in place")
	}
	c.Reload = p.service("web").Reload
	r.live().Apply([]config.Service{c})
	r.synced("web", next)
}

// A record that cannot be written: nothing is begun that a crash would make forgotten.
func TestRecordRefused(t *testing.T) {
	r := newRig(t)
	p := newProgram(r, "web")
	p.run()
	r.start(p.service("web"))
	r.until("delivered", func() bool { return r.status("web").State == InSync })
	good := r.status("web").Proved.Leaf
	r.records.refuse(errors.New("disk full"))
	next := r.rotate()
	r.until("failed", func() bool { st := r.status("web"); return st.State == Failed && st.Reason == failure.StateUnwritable })
	if p.onDisk() != good || p.serves() != good {
		t.Error("something was begun")
	}
	r.records.refuse(nil)
	r.synced("web", next)
}

// One that hangs holds up nobody.
func TestHangs(t *testing.T) {
	r := newRig(t)
	a, b := newProgram(r, "a"), newProgram(r, "b")
	a.run()
	b.run()
	hang := a.service("a", func(c *config.Service) {
		c.Reload.Exec = []string{"/bin/sleep", "1000"}
		c.Reload.Timeout = time.Minute
	})
	r.start(hang, b.service("b"))
	r.until("b is delivered", func() bool { return r.status("b").State == InSync })
	r.synced("b", r.rotate())
	if st := r.status("a"); st.State != Delivering {
		t.Errorf("a: %+v", st)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := r.live().Deliver(ctx, "a", Order{Now: true}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("deliver a: %v", err)
	}
	r.stop() // and it ends with the daemon
	r.start()
}
