package deliver

import (
	"crypto/tls"
	"os"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/deliver/failure"
	"github.com/spinecert/spinecert/internal/testpki"
)

// With on_failure: keep, CAs that no reload brought to the service are not in sync, as
// no handshake shows them.
func TestKeptTrustIsNotSeen(t *testing.T) {
	r := newRig(t)
	p := newProgram(r, "web")
	p.run()
	reload := r.script("reload.sh", "test -e "+r.path("veto")+" && exit 1\necho x >> "+r.path("done")+"; touch "+p.flag)
	r.start(p.withTrust("web", func(c *config.Service) { c.KeepBad = true; c.Reload.Exec = []string{reload} }))
	r.until("delivered", func() bool { return r.status("web").State == InSync })
	r.write("veto", nil, 0o644)
	added := r.grow()
	r.until("kept", func() bool { st := r.status("web"); return st.State == Failed && st.KeptBad })
	r.turns("web", 4)
	if st, err := r.live().Deliver(t.Context(), "web", Order{}); err == nil || st.State != Failed || !st.KeptBad {
		t.Errorf("%s, %v: and no reload ever succeeded", st.State, err)
	}
	if n := r.lines("done"); n != 1 || !p.trusts(added) {
		t.Fatalf("%d reloads, the new CA in place: %v", n, p.trusts(added))
	}
	if err := os.Remove(r.path("veto")); err != nil {
		t.Fatal(err)
	}
	if _, err := r.live().Deliver(t.Context(), "web", Order{Now: true}); err != nil {
		t.Fatal(err)
	}
	if st := r.status("web"); st.State != InSync || r.lines("done") != 2 {
		t.Errorf("%s after %d reloads", st.State, r.lines("done"))
	}
}

// A service that is only given CAs is not in sync before a reload succeeded, whatever
// certificate of its own it serves.
func TestFirstTrustNeedsReload(t *testing.T) {
	r := newRig(t)
	p := newProgram(r, "web")
	p.run()
	p.serve2(r.sub.Issue(t, testpki.DNS("own.example")))
	r.write("veto", nil, 0o644)
	reload := r.script("reload.sh", "echo x >> "+r.path("tries")+"; test ! -e "+r.path("veto"))
	r.start(p.service("web", func(c *config.Service) {
		c.Files = []config.ServiceFile{{Format: "trust-pem", Name: "trust.pem", Mode: 0o644}}
		c.Reload.Exec = []string{reload}
	}))
	notInSync := func() bool { return r.status("web").State != InSync }
	r.meanwhile("the second try", notInSync, func() bool { return r.lines("tries") > 1 })
	for range 3 {
		if st, err := r.live().Deliver(t.Context(), "web", Order{}); err == nil || st.State != Failed {
			t.Fatalf("%s, %v: and no reload ever succeeded", st.State, err)
		}
	}
	if err := os.Remove(r.path("veto")); err != nil {
		t.Fatal(err)
	}
	r.until("in sync by itself", func() bool { return r.status("web").State == InSync })
}

// CAs that were put in place before the daemon ended, and that the service was not told
// of, are read after the start before anything is in sync.
func TestTrustIsReadAfterCrash(t *testing.T) {
	r := newRig(t)
	p := newProgram(r, "web")
	p.run()
	reload := r.script("reload.sh", "echo x >> "+r.path("begun")+"; test -e "+r.path("hang")+" && exec sleep 1000\necho x >> "+r.path("done")+"; touch "+p.flag)
	c := p.withTrust("web", func(c *config.Service) { c.Reload.Exec = []string{reload} })
	r.start(c)
	r.until("delivered", func() bool { return r.status("web").State == InSync })
	r.write("hang", nil, 0o644)
	added := r.grow()
	r.until("the reload hangs", func() bool { return r.lines("begun") == 2 })
	r.stop()
	if !p.trusts(added) || r.lines("done") != 1 {
		t.Fatalf("new CA in place: %v, %d reloads", p.trusts(added), r.lines("done"))
	}
	if err := os.Remove(r.path("hang")); err != nil {
		t.Fatal(err)
	}
	r.start(c)
	r.until("in sync", func() bool { return r.status("web").State == InSync })
	if r.lines("done") != 2 || !p.trusts(added) {
		t.Errorf("in sync after %d reloads, the new CA in place: %v", r.lines("done"), p.trusts(added))
	}
}

// A way back that was not told to the service is no way back where no handshake shows
// what it has read: it is tried until it was told.
func TestWayBackIsTold(t *testing.T) {
	r := newRig(t)
	p := newProgram(r, "web")
	p.run()
	// The reload works once more, when the test says so, and after that nobody can run it.
	reload := r.script("reload.sh", "if test -e "+r.path("block")+"; then chmod 0 $0; echo x >> "+r.path("begun")+
		"; until test -e "+r.path("go")+"; do sleep 0.02; done; fi\necho x >> "+r.path("done")+"; touch "+p.flag)
	o := r.options()
	o.Events = func(e Event) {
		if e.Kind == EventFailed { // it serves the right one again before the way back is looked at
			p.swap(r.ofSlot())
		}
		r.event(e)
	}
	r.startWith(o, p.withTrust("web", func(c *config.Service) { c.Reload.Exec = []string{reload}; c.Probes[0].Within = time.Second }))
	r.until("delivered", func() bool { return r.status("web").State == InSync })
	p.is(sticks)
	r.write("block", nil, 0o644)
	added := r.grow()
	r.until("the reload", func() bool { return r.lines("begun") == 1 })
	p.serve2(r.sub.Issue(t, testpki.DNS("other.example")))
	r.write("go", nil, 0o644)
	r.until("stuck or back", func() bool { return len(r.told(EventStuck))+len(r.told(EventRolledBack)) > 0 })
	if st := r.status("web"); len(r.told(EventRolledBack)) > 0 || st.State != Failed || st.Step != StepUndo {
		t.Fatalf("%s (%s): the service was not told to read the old CAs: %v", st.State, st.Step, r.lately())
	}
	if p.trusts(added) {
		t.Error("the new CA is still in place")
	}
	if err := os.Remove(r.path("block")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(reload, 0o755); err != nil {
		t.Fatal(err)
	}
	r.until("held", func() bool { return r.status("web").State == Held })
	if r.lines("done") < 3 || len(r.told(EventRolledBack)) != 1 {
		t.Errorf("held after %d reloads and %d roll backs", r.lines("done"), len(r.told(EventRolledBack)))
	}
}

// An identity that is held keeps nothing else from the service: new CAs come to it with
// the identity that was proved, also after a start, and the identity stays held.
func TestTrustPassesHeldIdentity(t *testing.T) {
	r := newRig(t)
	p := newProgram(r, "web")
	p.run()
	c := p.withTrust("web")
	r.start(c)
	r.until("delivered", func() bool { return r.status("web").State == InSync })
	good := r.status("web").Proved.Leaf
	p.is(sticks)
	bad := r.rotate()
	r.until("held", func() bool { return r.status("web").State == Held })
	since := r.status("web").Since
	var added [][]byte
	for _, after := range []string{"a hold", "a start", "a stop"} {
		switch after {
		case "a start":
			r.start(c)
			r.until("held after a start", func() bool { st := r.status("web"); return st.State == Held && !st.Looked.IsZero() })
			added = append(added, r.grow())
		case "a stop":
			r.stop()
			was := r.keeper.Slot("pcs").Snapshot()
			added = append(added, r.grow())
			r.until2(func() bool { return r.keeper.Slot("pcs").Snapshot() != was })
			r.start(c)
		default:
			added = append(added, r.grow())
		}
		r.until("the CA that came after "+after, func() bool {
			st := r.status("web")
			return st.State == Held && p.trusts(added[len(added)-1]) && st.Delivered == st.Proved
		})
		st := r.status("web")
		if p.onDisk() != good || p.serves() != good || st.Proved.Leaf != good || st.Desired.Leaf != bad || st.Reason != failure.WrongCertificate || !st.Since.Equal(since) {
			t.Fatalf("after %s: on disk %.8s, served %.8s, want %.8s: %+v", after, p.onDisk(), p.serves(), good, st)
		}
		if _, err := tls.LoadX509KeyPair(p.dir+"/current/fullchain.pem", p.dir+"/current/key.pem"); err != nil {
			t.Errorf("after %s: %v", after, err)
		}
	}
	if back, delivered := len(r.told(EventRolledBack)), len(r.told(EventDelivered)); back != 1 || delivered != 4 {
		t.Errorf("%d roll backs and %d deliveries, want 1 and 4", back, delivered)
	}
	p.is(obeys)
	if _, err := r.live().Deliver(t.Context(), "web", Order{Now: true}); err != nil {
		t.Fatal(err)
	}
	r.synced("web", bad)
	for _, ca := range added {
		if p.serves() != bad || !p.trusts(ca) {
			t.Errorf("it serves %.8s, want %.8s; a CA is in place: %v", p.serves(), bad, p.trusts(ca))
		}
	}
}

// Where the key is delivered, the leaf is what must be served: another proves nothing.
func TestKeyWithoutLeaf(t *testing.T) {
	r := newRig(t)
	p := newProgram(r, "web")
	p.run()
	p.serve2(r.sub.Issue(t, testpki.DNS("other.example")))
	r.start(p.service("web", func(c *config.Service) {
		c.Files = []config.ServiceFile{{Format: "chain", Name: "chain.pem", Mode: 0o644}, {Format: "key", Name: "key.pem", Mode: 0o600}}
		c.Probes[0].Within = time.Second
	}))
	r.meanwhile("failed", func() bool { return r.status("web").State != InSync }, func() bool { return r.status("web").State == Failed })
	if st := r.status("web"); st.Reason != failure.WrongCertificate {
		t.Errorf("%s: %s", st.Reason, st.Error)
	}
	p.is(sticks) // there is no leaf to read
	p.swap(r.ofSlot())
	r.until("in sync", func() bool { return r.status("web").State == InSync })
}
