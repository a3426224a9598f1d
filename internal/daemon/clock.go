package daemon

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spinecert/spinecert/internal/clock"
	"github.com/spinecert/spinecert/internal/state"
)

// lookAtClockEvery is how often the clocks are compared.
const lookAtClockEvery = time.Second

// The events of the clock, in log and audit. What the audit file says between the
// first and the second has the time of a clock that was not believed.
const (
	eventClockSuspect = "clock_suspect"
	eventClockTrusted = "clock_trusted"
)

// clockWatch is what the daemon knows of the wall clock.
type clockWatch struct {
	suspect atomic.Bool
	largest atomic.Int64 // clock.max_step

	mu    sync.Mutex
	read  func() (clock.Reading, error)
	watch *clock.Watch
}

// newClockWatch begins with the newest time of the audit file.
func newClockWatch(read func() (clock.Reading, error), newest time.Time) *clockWatch {
	if read == nil {
		read = clock.Read
	}
	return &clockWatch{read: read, watch: clock.NewWatch(newest)}
}

func (c *clockWatch) judgement() clock.Judgement {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.watch.Judgement()
}

// keepClock compares the clocks until ctx ends, and tells what was not told meanwhile.
func (d *Daemon) keepClock(ctx context.Context) {
	t := time.NewTicker(lookAtClockEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			d.lookAtClock()
			d.tellSuppressed(now)
		}
	}
}

// lookAtClock compares the clocks once. Clocks that cannot be read say nothing new.
func (d *Daemon) lookAtClock() {
	largest := time.Duration(d.clock.largest.Load())
	d.judgeClock(func(w *clock.Watch) {
		if r, err := d.clock.read(); err == nil {
			w.Look(r, largest)
		}
	})
}

// clockSuspect compares the clocks, and says whether the wall clock can be believed
// for what is about to be done. What was true a second ago does not do: the step may
// have been since. It waits for nobody.
func (d *Daemon) clockSuspect() bool {
	d.lookAtClock()
	return d.clock.suspect.Load()
}

// confirmClock is the operator's word that the clock is right.
func (d *Daemon) confirmClock() {
	d.lookAtClock() // as it is now, and not a second ago
	d.judgeClock(func(w *clock.Watch) { w.Confirm() })
}

func (d *Daemon) judgeClock(judge func(*clock.Watch)) {
	d.clock.mu.Lock()
	defer d.clock.mu.Unlock()
	before := d.clock.watch.Judgement()
	judge(d.clock.watch)
	j := d.clock.watch.Judgement()
	if j.Suspect == before.Suspect {
		return
	}
	d.clock.suspect.Store(j.Suspect)
	line := auditLine{Time: time.Now(), Event: eventClockTrusted, Reason: j.Why, Actor: actor{UID: d.uid, PID: d.pid, Via: viaState}}
	if j.Suspect {
		line.Event = eventClockSuspect
		d.record1(eventClockSuspect, slog.LevelError, "the clock of this host cannot be believed; nothing is cut, dropped or replaced for dates alone",
			slog.String("reason", j.Why), slog.String("hint", clockHint))
	} else {
		d.record1(eventClockTrusted, slog.LevelInfo, "the clock of this host is believed again", slog.String("reason", j.Why))
		d.wakeReview() // dates count again
	}
	d.keepAudit(line)
	d.wakeAlerts()
}

const clockHint = "see timedatectl, and have the clock synchronised; that ends it by itself. If the clock is right as it is: spinecert reload"

// lastTime follows the lines of the audit file, oldest first: newest is the latest
// time in it that was written by a clock which was believed.
type lastTime struct {
	newest time.Time
	doubt  bool
}

func (l *lastTime) add(line *state.AuditLine) {
	switch {
	case line.Event == eventClockSuspect:
		l.doubt = true
	case line.Event == eventClockTrusted:
		l.newest, l.doubt = line.Time, false
	case !l.doubt && line.Time.After(l.newest):
		l.newest = line.Time
	}
}
