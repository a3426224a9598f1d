package rotate

import (
	"cmp"
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Options are those of a Keeper.
type Options struct {
	// Events is told every change, by the run loop, one at a time. May be nil.
	Events func(Event)
	// Beat is called each time the run loop turns, at least every Beat interval. A
	// watchdog can rely on it. May be nil.
	Beat func()
	// Store keeps generations beyond the life of the process; nil keeps none.
	Store Store
	// CRLs keeps fetched and carried CRLs; nil keeps them in memory only.
	CRLs CRLStore
	// ClockSuspect says that dates are not to be relied on: nothing is dropped or
	// replaced for them alone. May be nil; it must not block.
	ClockSuspect func() bool
	// Workers bounds how many sources are read and judged at once; 0 is four for each CPU.
	Workers int
}

// beatInterval is the longest the run loop sleeps. Deadlines are compared with
// the wall clock then: timers miss suspends and steps of the clock.
const beatInterval = 5 * time.Second

// A look that takes longer than hangAfter holds up nobody else. Each holds a
// thread, and Go ends a program that has 10,000 of them.
const (
	hangCheck = time.Second
	hangAfter = 10 * time.Second
	maxHung   = 256
)

// Keeper keeps environments and slots up to date: it is the one run loop, and
// the only writer of what slots serve.
type Keeper struct {
	options Options
	watch   func(mark func(*unit)) (*watcher, error) // newWatcher, but in tests
	watcher *watcher
	wake    chan struct{} // capacity 1
	calls   chan func()
	results chan result
	done    chan struct{} // closed when Run has ended
	apply   chan struct{} // capacity 1: the one Apply that runs

	mu    sync.Mutex
	queue []*unit // may have changed
	later []*unit // to be judged again when the queue is empty

	index atomic.Pointer[index] // for readers

	// Only the run loop touches what follows.
	environments map[string]*Environment
	slots        map[string]*Slot
	agenda       agenda
	running      map[*unit]bool
	inflight     int       // of running, those that count as workers
	hung         int       // of running, those that do not come back
	checked      time.Time // when findHung looked
	unsaved      map[*Slot]bool
	saving       int
	blind        map[*unit]bool
	watchTold    map[string]bool // causes for which something is blind
	flights      int             // lists that are being fetched
	air          sync.WaitGroup  // of flights, and of keeping what they brought
}

// index is what readers see of a plan.
type index struct {
	environments []*Environment
	slots        []*Slot
	byName       map[string]*Slot
}

// ErrStopped is returned by calls to a Keeper whose Run has ended.
var ErrStopped = errors.New("keeper is stopped")

// New returns a Keeper that does nothing until Run is called.
func New(o Options) *Keeper {
	if o.Events == nil {
		o.Events = func(Event) {}
	}
	if o.Beat == nil {
		o.Beat = func() {}
	}
	if o.Workers <= 0 {
		o.Workers = 4 * runtime.GOMAXPROCS(0)
	}
	k := &Keeper{
		options: o, watch: newWatcher, wake: make(chan struct{}, 1), calls: make(chan func()), results: make(chan result),
		done: make(chan struct{}), apply: make(chan struct{}, 1), environments: map[string]*Environment{}, slots: map[string]*Slot{},
		running: map[*unit]bool{}, unsaved: map[*Slot]bool{}, blind: map[*unit]bool{}, watchTold: map[string]bool{},
	}
	k.index.Store(&index{byName: map[string]*Slot{}})
	return k
}

// Run is the run loop. It returns when ctx ends; it must be called once. What
// slots serve stays as it is afterwards.
func (k *Keeper) Run(ctx context.Context) error {
	defer close(k.done)
	var watchErr error
	k.watcher, watchErr = k.watch(k.mark)
	if watchErr != nil {
		k.tell(watchLost("inotify", watchErr))
	}
	workers, stop := context.WithCancel(ctx)
	var group sync.WaitGroup
	defer group.Wait()
	defer k.air.Wait() // what was fetched is kept, or not at all, before the store goes away
	defer stop()
	group.Go(func() {
		k.watcher.run(workers, func(err error) {
			// An error of call says that Run ends: there is nobody to tell.
			_ = k.call(workers, func() { k.trouble(err) })
		})
	})
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		now := time.Now()
		k.options.Beat()
		timer.Reset(k.turn(workers, now))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-k.wake:
		case f := <-k.calls:
			f()
		case r := <-k.results:
			k.finish(r, time.Now())
		case <-timer.C:
		}
	}
}

// turn starts every look that is due and returns how long the loop may sleep.
// Polls go first: there are only so many of them, and marks could starve them.
func (k *Keeper) turn(ctx context.Context, now time.Time) time.Duration {
	k.findHung(now)
	k.saveDue(ctx, now)
	fetchAt, fetching := k.fetchDue(ctx, now)
	for k.inflight < k.options.Workers {
		if u := k.agenda.due(now); u != nil {
			if !u.running {
				k.start(ctx, u, u.due(now), now, now)
			}
			continue
		}
		u, marked := k.take()
		if u == nil {
			break
		}
		switch {
		case u.removed:
		case !u.running:
			k.start(ctx, u, true, marked, now)
		case u.again.IsZero() || marked.Before(u.again):
			u.again = marked
		}
	}
	sleep := beatInterval
	if at, ok := k.agenda.next(); ok && k.inflight < k.options.Workers {
		sleep = min(sleep, max(0, at.Sub(now)))
	}
	if fetching {
		sleep = min(sleep, max(fetchPause, fetchAt.Sub(now)))
	}
	return sleep
}

// fetchPause keeps the run loop from turning for lists that are due while there is
// no room for another flight: a landing wakes it.
const fetchPause = 100 * time.Millisecond

// dated is the time by which something has ended: now, or the beginning of time while
// nobody knows.
func (e *Environment) dated(now time.Time) time.Time {
	if e != nil && e.keeper.suspect() {
		return time.Time{}
	}
	return now
}

// suspect reports whether dates are not to be relied on.
func (k *Keeper) suspect() bool {
	return k != nil && k.options.ClockSuspect != nil && k.options.ClockSuspect()
}

func (k *Keeper) start(ctx context.Context, u *unit, full bool, since, now time.Time) {
	u.running, u.started, u.since = true, now, since
	k.running[u] = true
	k.inflight++
	if len(u.orders) > 0 {
		u.order, u.orders = u.orders[0], u.orders[1:]
	}
	l := look{job: u.owner.job(k, u.order), full: full || len(u.waiting) > 0 || u.order != nil, stat: u.stat, read: u.read}
	u.answers, u.waiting = u.waiting, nil
	go func() {
		r := l.run(u, k.watcher, now)
		select {
		case k.results <- r:
		case <-ctx.Done():
		}
	}()
}

// finish takes the result of one look: it publishes, or keeps what there is.
func (k *Keeper) finish(r result, now time.Time) {
	u := r.unit
	o := u.order
	hung, answers := k.returned(u)
	if u.removed {
		k.unwatch(u)
		answer(answers, nil)
		o.done(removed())
		return
	}
	var refusal *Refusal
	switch {
	case r.unchanged:
		u.owner.settled(k, u.refusal, now)
		if hung {
			k.mark(u) // it was given up as hanging: find out how it stands
		}
	case r.aside:
		k.watched(u, r.watchErr)
		refusal = k.aside(r, now)
		u.waiting, answers = append(answers, u.waiting...), nil // it was not for them
		k.mark(u)                                               // the look may have been for a change as well
	default:
		k.watched(u, r.watchErr)
		k.outcome(r, now)
		refusal = u.refusal
	}
	answer(answers, u.refusal)
	if o != nil && o.again && !hung {
		o.again = false
		u.orders = slices.Insert(u.orders, 0, o)
	} else {
		o.done(refusal)
	}
	u.schedule(now)
	k.agenda.add(u)
	if !u.again.IsZero() || len(u.waiting) > 0 || len(u.orders) > 0 {
		k.markAt(u, u.again)
		u.again = time.Time{}
	}
}

// returned takes u out of the looks that run.
func (k *Keeper) returned(u *unit) (hung bool, answers []chan<- *Refusal) {
	hung, answers = u.hung, u.answers
	if hung {
		k.hung--
	} else {
		k.inflight--
	}
	u.running, u.hung, u.answers, u.order = false, false, nil, nil
	delete(k.running, u)
	return hung, answers
}

// outcome publishes what a look found and keeps what came of it.
func (k *Keeper) outcome(r result, now time.Time) {
	u := r.unit
	if r.read {
		u.read, u.digest = now, r.digest
	}
	u.stat = r.stat
	refusal, told := r.refusal, false
	if r.publish != nil { // also with a refusal: of the source, when what was kept comes back
		var late *Refusal
		told, late = r.publish(k, now)
		refusal = cmp.Or(refusal, late)
	}
	k.settle(u, refusal, told, now)
	switch {
	case r.own == nil:
		u.ownTold = ""
	case r.own.Error() != u.ownTold:
		u.ownTold = r.own.Error()
		k.tell(u.owner.ownChain(r.own))
	}
}

// aside publishes what an order asked for that is not the source.
func (k *Keeper) aside(r result, now time.Time) *Refusal {
	refusal := r.refusal
	if r.publish != nil {
		_, late := r.publish(k, now)
		refusal = cmp.Or(refusal, late)
	}
	r.unit.owner.settled(k, r.unit.refusal, now)
	return refusal
}

func answer(waiting []chan<- *Refusal, r *Refusal) {
	for _, c := range waiting {
		c <- r // each has room for one
	}
}

// settle keeps the outcome of a look, and tells it unless it was told before, by
// whoever published it or after an earlier look.
func (k *Keeper) settle(u *unit, r *Refusal, told bool, now time.Time) {
	was := u.refusal
	u.refusal = r
	if r == nil {
		u.failing, u.late = time.Time{}, false
		if was != nil && u.told != "" && !told {
			k.tell(u.owner.cleared())
		}
		u.told = ""
		u.owner.settled(k, nil, now)
		return
	}
	if was == nil || was.Error() != r.Error() {
		u.retries, u.retry = 0, time.Time{}
	}
	if u.failing.IsZero() {
		u.failing = now
	}
	u.owner.settled(k, r, now)
	if r.Error() != u.told {
		u.told = r.Error()
		k.tell(u.owner.event(r, false))
	}
	if r.Pending && !u.late && now.Sub(u.failing) >= u.settle {
		u.late = true
		k.tell(u.owner.event(r, true))
	}
}

func (k *Keeper) tell(e Event) {
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	k.options.Events(e)
}

// call runs f in the run loop and returns when it has run.
func (k *Keeper) call(ctx context.Context, f func()) error {
	ran := make(chan struct{})
	select {
	case k.calls <- func() { f(); close(ran) }:
	case <-ctx.Done():
		return ctx.Err()
	case <-k.done:
		return ErrStopped
	}
	select {
	case <-ran:
		return nil
	case <-k.done:
		return ErrStopped
	}
}
