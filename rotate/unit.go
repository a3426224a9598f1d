package rotate

import (
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"time"

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

// publish puts what was staged in force. It runs in the run loop. told reports
// whether it told an event; else the owner's cleared event may be due.
type publish func(k *Keeper, now time.Time) (told bool, r *Refusal)

// job is one look at a source: what to read and how to judge it. It is made by
// the run loop and runs in a worker. stage is given what was read, or why nothing
// was; it returns (nil, nil) for "nothing new".
type job struct {
	paths   []string
	folders []string // files, or directories of files; only for environments
	limit   int64
	stage   func(m *material, unread *Refusal, now time.Time) (publish, *Refusal)
	// aside is asked after stage: if it returns true, what came of the look is the
	// answer to its order alone and says nothing of the source. May be nil.
	aside func() bool
	// own judges what is served already. It is asked where the source does not say
	// it: while the source is broken, or holds something else. May be nil.
	own func(source [sha256.Size]byte, now time.Time) *Refusal
}

// owner is what a unit belongs to: a Slot or an Environment. All methods are
// called by the run loop.
type owner interface {
	job(k *Keeper, o *order) job
	settled(k *Keeper, r *Refusal, now time.Time)
	event(r *Refusal, late bool) Event
	ownChain(r *Refusal) Event
	cleared() Event
}

// unit is the bookkeeping of the run loop for one source that is watched. The
// run loop owns it, but for marked, queued and lazy, which Keeper.mu guards.
type unit struct {
	owner  owner
	marked time.Time // first sign of a change not yet looked at; zero: none
	queued bool      // in Keeper.queue
	lazy   bool      // in Keeper.later

	poll, settle time.Duration
	running      bool
	started      time.Time // when the look that runs began
	hung         bool      // the look that runs does not come back
	again        time.Time // first marked while it ran: when; zero: not
	removed      bool
	since        time.Time // when the change now being looked at was first seen
	orders       []*order  // each for a look of its own
	order        *order    // of the look that runs
	waiting      []chan<- *Refusal
	answers      []chan<- *Refusal // who waits for the look that runs
	next         time.Time         // when to look without an event
	pos          int               // place in the agenda, from 1; 0: not in it
	retry        time.Time         // when to read and judge a refused source again; next may be sooner
	retries      int
	failing      time.Time // since when the source is not what is in force
	late         bool      // told that it has been incoherent for too long
	told         string    // the refusal last told
	ownTold      string    // the refusal of what is served last told, while the source was broken
	refusal      *Refusal
	digest       [sha256.Size]byte // of the last full read
	stat         string            // of the last full read; "" after a failure
	read         time.Time         // when that was
}

// look is what one look needs of the unit's past.
type look struct {
	job  job
	full bool
	stat string
	read time.Time
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
	aside     bool
	own       *Refusal
	watchErr  error
}

// run looks at the source. It touches the disk, and may hang on it.
func (l look) run(u *unit, w *watcher, now time.Time) result {
	res := result{unit: u}
	if !l.full && l.stat != "" && now.Sub(l.read) < fullRead {
		if paths, _, failed := l.job.files(); len(failed) == 0 && unmoved(paths, l.stat) {
			res.unchanged = true
			return res
		}
	}
	// Watches first, then reading: a change in between is an event. New links and
	// directories found on the way are watched before anything is read through them.
	for range readRetries {
		places := l.job.places()
		res.watchErr = w.set(u, places)
		if samePlaces(places, l.job.places()) {
			break
		}
	}
	m, err := l.job.read()
	var unread *Refusal
	if err != nil && !errors.As(err, &unread) {
		unread = unreadable(err)
	}
	if err == nil {
		res.read, res.digest, res.stat = true, m.digest, m.stat
	}
	res.publish, res.refusal = l.job.stage(m, unread, now)
	res.aside = l.job.aside != nil && l.job.aside()
	if res.refusal != nil && !res.aside && l.job.own != nil {
		res.own = l.job.own(res.digest, now)
	}
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

// schedule says when to look again without an event. The poll goes on whatever
// happens; a source that is refused is besides read and judged again on back-off.
func (u *unit) schedule(now time.Time) {
	// Spread, so that many slots do not poll at the same moment.
	u.next = now.Add(u.poll*9/10 + rand.N(u.poll/5+1))
	if u.refusal == nil {
		u.retries, u.retry = 0, time.Time{}
		return
	}
	if !now.Before(u.retry) { // events in between neither hasten nor delay it
		u.retry = now.Add(u.backOff())
		u.retries++
	}
	soonest := func(t time.Time) {
		if t.Before(u.next) {
			u.next = t
		}
	}
	soonest(u.retry)
	if at, early := startsAt(u.refusal); early && at.After(now) {
		soonest(at)
	}
	if at := u.failing.Add(u.settle); u.refusal.Pending && !u.late && at.After(now) {
		soonest(at)
	}
}

func (u *unit) backOff() time.Duration {
	first, most := refusedRetry, longestRetry
	if u.refusal.Pending {
		first, most = firstRetry, u.poll
	}
	return min(first<<min(u.retries, 20), most)
}

// due reports whether a look that no event asked for must read the source:
// because its refusal may have ended by itself. Else it compares stats first.
func (u *unit) due(now time.Time) bool {
	if u.refusal == nil {
		return false
	}
	at, early := startsAt(u.refusal)
	return early && !at.After(now) || !now.Before(u.retry) || u.refusal.Pending && !u.late && now.Sub(u.failing) >= u.settle
}

// startsAt returns when a certificate that is refused for its notBefore comes into force.
func startsAt(r *Refusal) (time.Time, bool) {
	var v *trust.VerifyError
	if !errors.As(r.Err, &v) || v.Reason != trust.NotYetValid || v.Certificate == nil {
		return time.Time{}, false
	}
	return v.Certificate.NotBefore, true
}
