package deliver

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/deliver/failure"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/rotate"
)

// later is a window that opens in two hours of local time.
func later() *config.Window {
	now := time.Now()
	since := time.Duration(now.Hour())*time.Hour + time.Duration(now.Minute())*time.Minute
	day := 24 * time.Hour
	return &config.Window{From: (since + 2*time.Hour) % day, To: (since + 3*time.Hour) % day}
}

func TestWindow(t *testing.T) {
	r := newRig(t)
	p := newProgram(r, "web")
	p.run()
	c := p.service("web", func(c *config.Service) { c.Reload.Window, c.Reload.WindowWait = later(), 7*24*time.Hour })
	r.start(c)
	r.until("the first is not waited for", func() bool { return r.status("web").State == InSync })
	good := r.status("web").Proved.Leaf
	next := r.rotate()
	r.until("waits", func() bool {
		st := r.status("web")
		return st.Desired.Leaf == next && st.State == Delivering && strings.Contains(st.Waits, "window")
	})
	if _, err := r.live().Deliver(t.Context(), "web", Order{}); failure.ReasonOf(err, "") != failure.Waiting {
		t.Errorf("deliver: %v", err)
	}
	if p.onDisk() != good {
		t.Error("the window was not waited for")
	}
	if _, err := r.live().Deliver(t.Context(), "web", Order{Now: true}); err != nil {
		t.Error(err)
	}
	r.synced("web", next)

	c.Reload.WindowWait = 0 // no patience
	r.live().Apply([]config.Service{c})
	r.synced("web", r.rotate())
}

// What ends before the window opens is not left to end.
func TestWindowBeforeTheEnd(t *testing.T) {
	r := newRig(t)
	short := r.sub.Issue(t, testpki.DNS("pcs.thirdparty.nhs.uk"), testpki.Validity(time.Now().Add(-2*time.Hour), time.Now().Add(50*time.Minute)))
	r.write("pcs.key", testpki.EncodeKey(short.Key), 0o600)
	r.write("pcs.crt", testpki.EncodeCerts(short.Cert, r.sub.Cert), 0o644)
	if err := r.keeper.Rotate(t.Context(), "pcs", rotate.Order{Allow: []string{rotate.RuleOlder}}); err != nil {
		t.Fatal(err)
	}
	p := newProgram(r, "web")
	p.run()
	r.start(p.service("web", func(c *config.Service) { c.Reload.Window, c.Reload.WindowWait = later(), 7*24*time.Hour }))
	r.until("delivered", func() bool { return r.status("web").State == InSync })
	next := r.rotate()
	if err := r.keeper.Rotate(t.Context(), "pcs", rotate.Order{Allow: []string{rotate.RuleOlder}}); err != nil {
		t.Fatal(err)
	}
	r.synced("web", next)
}

// Services come and go with the configuration.
func TestApply(t *testing.T) {
	r := newRig(t)
	a, b := newProgram(r, "a"), newProgram(r, "b")
	a.run()
	b.run()
	r.start(a.service("a"))
	r.until("a", func() bool { return r.status("a").State == InSync })
	r.live().Apply([]config.Service{b.service("b"), a.service("a")})
	r.until("b", func() bool { return r.status("b").State == InSync })
	if got := r.live().Status(); len(got) != 2 || got[0].Config.Name != "b" {
		t.Errorf("status %+v", got)
	}
	r.live().Apply([]config.Service{b.service("b")})
	next := r.rotate()
	r.synced("b", next)
	if a.onDisk() == next || a.onDisk() == "" {
		t.Error("what is gone from the configuration was delivered")
	}
	if _, err := r.live().Deliver(t.Context(), "a", Order{}); !errors.Is(err, ErrUnknown) {
		t.Errorf("deliver a: %v", err)
	}
	// Back, in another directory: nothing there is anything to go back to.
	moved := newProgram(r, "moved")
	c := a.service("a")
	c.Directory = moved.dir
	a.dir = moved.dir
	r.live().Apply([]config.Service{b.service("b"), c})
	r.synced("a", next)
	if a.serves() != next {
		t.Errorf("it serves %s, want %s", a.serves(), next)
	}
}

// A slot that has nothing yet is nothing to fail over.
func TestEmptySlot(t *testing.T) {
	r := newRig(t)
	p := newProgram(r, "web")
	p.run()
	c := p.service("web")
	c.Slot = "none"
	r.start(c)
	r.until("waits", func() bool { st := r.status("web"); return st.State == Delivering && st.Waits != "" && st.Hint != "" })
	if p.onDisk() == "" || len(p.left()) != 0 {
		t.Errorf("something was delivered: %v", p.left())
	}
}

// A set that is held and was edited by hand cannot be made again: that is said.
func TestDriftWhileHeld(t *testing.T) {
	r := newRig(t)
	p := newProgram(r, "web")
	p.run()
	r.start(p.service("web"))
	r.until("delivered", func() bool { return r.status("web").State == InSync })
	p.is(sticks)
	next := r.rotate()
	r.until("held", func() bool { return r.status("web").State == Held })
	r.write("etc-web/current/fullchain.pem", []byte("edited"), 0o644)
	r.until("told", func() bool {
		st := r.status("web")
		return st.State == Failed && st.Reason == failure.Drift && strings.Contains(st.Hint, "--now")
	})
	p.is(obeys)
	if _, err := r.live().Deliver(t.Context(), "web", Order{Now: true}); err != nil {
		t.Fatal(err)
	}
	r.synced("web", next)
}

// A service that serves something else, though nothing was delivered, is told once.
func TestAstray(t *testing.T) {
	r := newRig(t)
	p := newProgram(r, "web")
	p.run()
	r.start(p.service("web"))
	r.until("delivered", func() bool { return r.status("web").State == InSync })
	good := r.status("web").Proved.Leaf
	other := r.sub.Issue(t, testpki.DNS("other.thirdparty.nhs.uk"))
	p.serve2(other)
	r.until("mended", func() bool { return len(r.told(EventRecovered)) == 1 && p.serves() == good })
	r.synced("web", good)
	p.is(sticks)
	p.serve2(other)
	r.until("failed", func() bool { st := r.status("web"); return st.State == Failed && st.Reason == failure.WrongCertificate })
	if p.onDisk() != good {
		t.Error("the files changed")
	}
	p.is(obeys)
	if _, err := r.live().Deliver(t.Context(), "web", Order{Now: true}); err != nil {
		t.Fatal(err)
	}
	r.synced("web", good)
}
