package deliver

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/durable"
)

// TestCrash ends a delivery before each of its writes in turn, as a crash would, and
// starts again: whatever was done by then, the service comes to what its slot has,
// serves it, and nothing is left behind. Once with a service that takes the new set,
// and once with one that does not, so that the way back is cut short too.
func TestCrash(t *testing.T) {
	for _, refuses := range []bool{false, true} {
		t.Run(fmt.Sprintf("refuses=%v", refuses), func(t *testing.T) {
			r := newRig(t)
			p := newProgram(r, "web")
			p.run()
			c := p.service("web", func(c *config.Service) { c.Probes[0].Within = 400 * time.Millisecond })
			r.start(c)
			r.until("delivered", func() bool { return r.status("web").State == InSync })
			for n := int64(0); ; n++ {
				r.stop()
				good := p.serves()
				next := r.rotate()
				r.until2(func() bool { s := r.keeper.Slot("pcs").Snapshot(); return s != nil && leafOf(s) == next })
				if refuses {
					p.is(sticks)
				}
				if !r.crashAfter(n, c) {
					if n < 10 {
						t.Fatalf("only %d writes were made", n)
					}
					t.Logf("%d points", n)
					break
				}
				r.start(c)
				want := next
				if refuses {
					r.until("held", func() bool { return r.status("web").State == Held })
					want = good
				} else {
					r.synced("web", next)
				}
				if p.serves() != want || p.onDisk() != want {
					t.Fatalf("after a crash at write %d it serves %s and has %s on disk, want %s", n, p.serves(), p.onDisk(), want)
				}
				most := 1
				if refuses {
					most = 2 // what was refused is kept to be looked at
				}
				r.until("nothing else is left", func() bool { return len(p.left()) <= most })
			}
		})
	}
}

// left are the things in the directory beside the link.
func (p *program) left() []string {
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		p.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		if e.Name() != "current" {
			out = append(out, e.Name())
		}
	}
	return out
}

var errDead = errors.New("the process has ended")

// crashAfter runs a Manager of which nothing is written after n writes. It reports
// whether that cut anything short.
func (r *rig) crashAfter(n int64, c config.Service) bool {
	r.Helper()
	var done atomic.Int64
	dead := make(chan struct{})
	var died atomic.Bool
	fault := func(string, string) error {
		if done.Add(1) > n {
			if died.CompareAndSwap(false, true) {
				close(dead)
			}
			return errDead
		}
		return nil
	}
	r.records.before(func() error { return fault("", "") })
	r.disk = durable.Disk{Fault: fault}
	defer func() { r.disk = durable.Disk{}; r.records.before(nil) }()
	r.start(c)
	finished := func() bool {
		st := r.status("web")
		return (st.State == InSync || st.State == Held) && !st.Looked.IsZero()
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		select {
		case <-dead:
			r.stop()
			return true
		default:
		}
		if finished() {
			r.stop()
			return died.Load()
		}
		if time.Now().After(deadline) {
			r.Fatalf("neither finished nor dead: %+v", r.status("web"))
		}
	}
}
