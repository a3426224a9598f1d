package deliver

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/deliver/failure"
	"github.com/spinecert/spinecert/internal/testpki"
)

// A set that killed its service is taken back after a start, too, though the service
// is down by then: that it was up before is on record.
func TestKilledServiceAfterStart(t *testing.T) {
	r := newRig(t)
	p := newProgram(r, "web")
	p.run()
	patient := p.service("web", func(c *config.Service) { c.Probes[0].Within = time.Minute })
	r.start(patient)
	r.until("delivered", func() bool { return r.status("web").State == InSync })
	good := r.status("web").Proved.Leaf
	p.is(dies)
	bad := r.rotate()
	r.until("it is dead", func() bool { return p.onDisk() == bad && p.dead() })
	r.stop()
	r.start(p.service("web", func(c *config.Service) { c.Probes[0].Within = 300 * time.Millisecond }))
	r.until("the proved set is in place", func() bool { return p.onDisk() == good })
	r.until("told", func() bool { return len(r.told(EventResumed)) == 1 && len(r.told(EventStuck)) == 1 })
	p.is(obeys)
	p.run()
	r.until("held", func() bool { return r.status("web").State == Held })
	if p.serves() != good || p.onDisk() != good {
		t.Errorf("it serves %.8s and has %.8s on disk, want %.8s", p.serves(), p.onDisk(), good)
	}
}

// unreadable is a store whose first read fails.
type unreadable struct {
	*records
	reads atomic.Int64
}

func (u *unreadable) ReadService(name string) ([]byte, error) {
	if u.reads.Add(1) == 1 {
		return nil, errors.New("too many open files")
	}
	return u.records.ReadService(name)
}

// A record that cannot be read is read again before anything is done: what is held
// stays held.
func TestRecordUnreadable(t *testing.T) {
	r := newRig(t)
	p := newProgram(r, "web")
	p.run()
	c := p.service("web", func(c *config.Service) { c.Probes[0].Within = 300 * time.Millisecond })
	r.start(c)
	r.until("delivered", func() bool { return r.status("web").State == InSync })
	good := r.status("web").Proved.Leaf
	p.is(sticks)
	r.rotate()
	r.until("held", func() bool { return r.status("web").State == Held })
	r.stop()
	p.is(obeys)
	o, from := r.options(), &unreadable{records: r.records}
	o.Records = from
	r.startWith(o, c)
	r.meanwhile("held again", func() bool { return p.onDisk() == good }, func() bool { return r.status("web").State == Held })
	if e := r.told(EventFailed); e[len(e)-1].Reason != failure.StateUnwritable || from.reads.Load() < 2 {
		t.Errorf("%d reads, and told last: %v", from.reads.Load(), e[len(e)-1])
	}
	if n := len(r.told(EventDelivered)); n != 1 || len(r.told(EventRecord)) != 0 || p.serves() != good {
		t.Errorf("%d deliveries; it serves %.8s, want %.8s", n, p.serves(), good)
	}
}

// A chain on record that says nothing proves nothing: the files are delivered anew, and
// the service must be seen to serve them.
func TestRecordWithBadChain(t *testing.T) {
	r := newRig(t)
	p := newProgram(r, "web")
	p.run()
	c := p.service("web", func(c *config.Service) { c.Probes[0].Within = time.Second })
	r.start(c)
	r.until("delivered", func() bool { return r.status("web").State == InSync })
	good := r.status("web").Proved.Leaf
	r.stop()
	r.edit("web", func(rec *record) { rec.Proved.Chain[1] = rec.Proved.Chain[1][:30] })
	p.is(sticks)
	p.serve2(r.sub.Issue(t, testpki.DNS("other.example")))
	r.start(c)
	notInSync := func() bool { return r.status("web").State != InSync }
	r.meanwhile("failed", notInSync, func() bool { return r.status("web").State == Failed })
	if n := len(r.told(EventRecord)); n != 1 {
		t.Errorf("that the record is damaged was told %d times", n)
	}
	if st, err := r.live().Deliver(t.Context(), "web", Order{}); failure.ReasonOf(err, "") != failure.WrongCertificate {
		t.Errorf("deliver: %v, %s", err, st.State)
	}
	p.is(obeys)
	r.synced("web", good)
}

// edit changes what is on record.
func (r *rig) edit(name string, change func(*record)) {
	r.Helper()
	r.records.mu.Lock()
	defer r.records.mu.Unlock()
	var rec record
	if err := json.Unmarshal(r.records.kept[name], &rec); err != nil {
		r.Fatal(err)
	}
	change(&rec)
	data, err := json.Marshal(rec)
	if err != nil {
		r.Fatal(err)
	}
	r.records.kept[name] = data
}

// A turn that begins when the daemon stops, or the service is gone from the
// configuration, changes nothing: nobody would prove it.
func TestTurnAfterTheEnd(t *testing.T) {
	r := newRig(t)
	p := newProgram(r, "web")
	p.run()
	c := p.service("web", func(c *config.Service) { c.Probes[0].Within = time.Minute })
	r.start(c)
	r.until("delivered", func() bool { return r.status("web").State == InSync })
	good := p.onDisk()
	r.stop()
	next := r.rotate()
	r.takes(next)
	r.turnEnded(c)
	if p.onDisk() != good || len(p.left()) != 1 {
		t.Errorf("on disk is %.8s, want %.8s, in %v", p.onDisk(), good, p.left())
	}
	rec, err := readRecord(r.records, "web")
	if err != nil || rec.Attempt != nil {
		t.Fatalf("on record: %+v, %v", rec.Attempt, err)
	}
	// Nor does one that finds a set that was made and is not in place.
	p.is(sticks)
	r.start(c)
	r.until("in place", func() bool { return p.onDisk() == next })
	r.stop()
	if err := errors.Join(os.Remove(p.dir+"/current"), os.Symlink(rec.Proved.Set, p.dir+"/current")); err != nil {
		t.Fatal(err)
	}
	r.turnEnded(c)
	if p.onDisk() != good {
		t.Errorf("on disk is %.8s, want %.8s", p.onDisk(), good)
	}
}

// turnEnded has a service looked at when it is over.
func (r *rig) turnEnded(c config.Service) {
	r.Helper()
	m := New(r.options())
	m.Apply([]config.Service{c})
	ctx, cancel := context.WithCancel(r.Context())
	cancel()
	for range 20 { // which of its cases a select takes is chance
		if _, err := m.find(c.Name).turn(ctx, nil); err == nil {
			r.Error("the turn says that all is well")
		}
	}
}
