package crash

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"
	"time"
)

// errnos are what a file system says that is full, broken, read-only or not ours.
var errnos = [...]struct {
	name  string
	errno syscall.Errno
}{{"ENOSPC", syscall.ENOSPC}, {"EIO", syscall.EIO}, {"EROFS", syscall.EROFS}, {"EACCES", syscall.EACCES}}

// calls is how many changes to the disk one process makes, more or less.
const calls = 300

// plan is what befalls one process. Parent and child make it of the same seed.
type plan struct {
	kill    int           // it kills itself before this call; 0: it does not
	outside time.Duration // it is killed from outside so long after its start; 0: it is not
	faults  []window
	aim     int  // calls are counted from this swap of current on; 0: from the start
	steps   int  // how many operations it does
	check   bool // the parent lets package state and a new Keeper look afterwards
}

// early is the number of a call. Small ones are likelier: more processes come so far.
func (p plan) early(r *rand.Rand) int {
	if p.aim > 0 {
		return 1 + r.IntN(10)
	}
	return 1 + r.IntN(1+r.IntN(calls))
}

// window lets some calls in a row fail.
type window struct {
	from, count int
	errno       int // of errnos
}

func random(seed, run, salt uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, run<<8|salt)) }

func planOf(seed, run uint64) plan {
	r := random(seed, run, 1)
	p := plan{steps: 1 + r.IntN(8), check: r.IntN(3) > 0}
	if r.IntN(4) == 0 {
		p.aim = 1 + r.IntN(2) // just after a commit, or while it is taken back
	}
	how := r.IntN(10)
	if how < 5 { // fails
		for range 1 + r.IntN(3) {
			w := window{from: p.early(r), count: 1, errno: r.IntN(len(errnos))}
			if r.IntN(3) == 0 {
				w.count = 1 + r.IntN(60) // full, until somebody makes room
			}
			p.faults = append(p.faults, w)
		}
	}
	switch {
	case how >= 3 && how < 8:
		p.kill = p.early(r)
		if r.IntN(2) == 0 && len(p.faults) > 0 { // on the way back from a fault
			p.kill = p.faults[0].from + 1 + r.IntN(12)
		}
		p.steps += 8 // it is to come so far
	case how == 8:
		p.outside = time.Duration(r.IntN(20_000)) * time.Microsecond
	}
	return p
}

// disk fails and kills as planned.
type disk struct {
	plan plan
	note func(format string, args ...any)

	mu       sync.Mutex
	calls    int
	swaps    int // of current
	at       int // counts from the swap that is aimed at
	injected int
}

// fault is durable.Disk.Fault.
func (d *disk) fault(op, name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls++
	if d.swaps >= d.plan.aim {
		d.at++
	}
	if op == "rename" && name == "current" {
		d.swaps++
	}
	if d.at > 0 && d.at == d.plan.kill {
		kill()
	}
	for _, w := range d.plan.faults {
		if d.at >= w.from && d.at < w.from+w.count {
			d.injected++
			d.note("fault %s %d %s %s", errnos[w.errno].name, d.calls, op, name)
			return errnos[w.errno].errno
		}
	}
	return nil
}

// faults counts those that were injected.
func (d *disk) faults() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.injected
}

// injected reports whether an error may come from here.
func injected(err error) bool {
	for _, e := range errnos {
		if errors.Is(err, e.errno) {
			return true
		}
	}
	return false
}

func kill() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // until it arrives
}

// ledger is written line by line to a file that outlives the process.
type ledger struct{ file *os.File }

func openLedger(path string) (*ledger, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	return &ledger{f}, err
}

// note writes one line, with one system call: it is there, or it is not.
func (l *ledger) note(format string, args ...any) {
	if _, err := fmt.Fprintf(l.file, format+"\n", args...); err != nil {
		fmt.Println(err)
		os.Exit(3)
	}
}
