package rotate

import (
	"container/heap"
	"crypto/sha256"
	"math/rand/v2"
	"time"

	"errors"
	"github.com/spinecert/spinecert/trust"
)

const (
	defaultPoll   = 30 * time.Second
	defaultSettle = 60 * time.Second
	fullRead      = 10 * time.Minute      // digests are compared at least this often
	firstRetry    = 20 * time.Millisecond // of a source that is incomplete
	refusedRetry  = time.Second           // of one that was judged bad
	longestRetry  = 5 * time.Minute
)

// publish puts what was staged in force. It runs in the run loop.
type publish func(k *Keeper, now time.Time) *Refusal

// job is one look at a source: what to read and how to judge it. It is made by
// the run loop and runs in a worker; stage returns (nil, nil) for "nothing new".
type job struct {
	paths []string
	limit int64
	stage func(m *material, now time.Time) (publish, *Refusal)
}

// owner is what a unit belongs to: a Slot or an Environment. All methods are
// called by the run loop.
type owner interface {
	job(allow []string) job
	settled(k *Keeper, r *Refusal, now time.Time)
	event(r *Refusal, late bool) Event
	cleared() Event
}

// unit is the bookkeeping of the run loop for one source that is watched. The
// run loop owns it, but for marked and queued, which Keeper.mu guards.
type unit struct {
	owner  owner
	marked time.Time // first sign of a change not yet looked at; zero: none
	queued bool

	poll, settle time.Duration
	running      bool
	again        time.Time // marked while it ran: when; zero: not
	removed      bool
	since        time.Time // when the change now being looked at was first seen
	allow        []string  // overrides for the next look
	waiting      []chan<- *Refusal
	next         time.Time // when to look without an event
	retries      int
	failing      time.Time // since when the source is not what is in force
	late         bool      // told that it has been incoherent for too long
	told         string    // the refusal last told
	refusal      *Refusal
	digest       [sha256.Size]byte // of the last full read
	stat         string            // of the last full read; "" after a failure
	read         time.Time         // when that was
}

// look is what one look needs of the unit's past.
type look struct {
	job     job
	full    bool
	stat    string
	read    time.Time
	refusal bool
}

// result is what a worker found.
type result struct {
	unit      *unit
	unchanged bool // by stat alone; nothing was read
	read      bool
	stat      string
	digest    [sha256.Size]byte
	publish   publish
	refusal   *Refusal
	watchErr  error
	waiting   []chan<- *Refusal
}

// run looks at the source. It touches the disk, and may hang on it.
func (l look) run(u *unit, w *watcher, now time.Time) result {
	res := result{unit: u}
	if !l.full && !l.refusal && l.stat != "" && now.Sub(l.read) < fullRead {
		if stat, err := statAll(l.job.paths); err == nil && stat == l.stat {
			res.unchanged = true
			return res
		}
	}
	// Watches first, then reading: a change in between is an event. New links and
	// directories found on the way are watched before anything is read through them.
	for range readRetries {
		_, places, _ := resolveAll(l.job.paths)
		res.watchErr = w.set(u, places)
		if _, after, _ := resolveAll(l.job.paths); samePlaces(places, after) {
			break
		}
	}
	m, err := readAll(l.job.paths, l.job.limit)
	if err != nil {
		var r *Refusal
		if !errors.As(err, &r) {
			r = unreadable(err)
		}
		res.refusal = r
		return res
	}
	res.read, res.digest, res.stat = true, m.digest, m.stat
	res.publish, res.refusal = l.job.stage(m, now)
	return res
}

func samePlaces(a, b []place) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// schedule says when to look again without an event.
func (u *unit) schedule(now time.Time) {
	if u.refusal == nil {
		u.retries = 0
		// Spread, so that many slots do not poll at the same moment.
		u.next = now.Add(u.poll*9/10 + rand.N(u.poll/5+1))
		return
	}
	first, most := refusedRetry, longestRetry
	if u.refusal.Pending {
		first, most = firstRetry, u.poll
	}
	wait := first << min(u.retries, 20)
	u.retries++
	if wait > most || wait <= 0 {
		wait = most
	}
	u.next = now.Add(wait)
	if at, ok := startsAt(u.refusal, now); ok && at.Before(u.next) {
		u.next = at
	}
}

// startsAt returns when a certificate that is refused for its notBefore comes into force.
func startsAt(r *Refusal, now time.Time) (time.Time, bool) {
	var v *trust.VerifyError
	if !errors.As(r.Err, &v) || v.Reason != trust.NotYetValid || v.Certificate == nil {
		return time.Time{}, false
	}
	at := v.Certificate.NotBefore
	return at, at.After(now)
}

// agenda orders units by the time of their next look. Entries whose time is no
// longer the unit's are skipped when they come up.
type agenda []appointment

type appointment struct {
	at   time.Time
	unit *unit
}

func (a agenda) Len() int           { return len(a) }
func (a agenda) Less(i, j int) bool { return a[i].at.Before(a[j].at) }
func (a agenda) Swap(i, j int)      { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)        { *a = append(*a, x.(appointment)) }
func (a *agenda) Pop() any {
	old := *a
	last := old[len(old)-1]
	*a = old[:len(old)-1]
	return last
}

func (a *agenda) add(u *unit) { heap.Push(a, appointment{u.next, u}) }

// due removes and returns the units whose time has come, and the time of the next one.
func (a *agenda) due(now time.Time) (units []*unit, next time.Time) {
	for a.Len() > 0 {
		top := (*a)[0]
		stale := top.unit.removed || !top.unit.next.Equal(top.at)
		if !stale && top.at.After(now) {
			return units, top.at
		}
		heap.Pop(a)
		if !stale {
			units = append(units, top.unit)
		}
	}
	return units, time.Time{}
}
