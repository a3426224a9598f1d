package rotate

import (
	"context"
	"errors"
	"runtime"
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
	// Workers bounds how many sources are read and judged at once; 0 is four for each CPU.
	Workers int
}

// beatInterval is the longest the run loop sleeps. Deadlines are compared with
// the wall clock then: timers miss suspends and steps of the clock.
const beatInterval = 5 * time.Second

// Keeper keeps environments and slots up to date: it is the one run loop, and
// the only writer of what slots serve.
type Keeper struct {
	options Options
	watcher *watcher
	wake    chan struct{} // capacity 1
	calls   chan func()
	results chan result
	done    chan struct{} // closed when Run has ended

	mu    sync.Mutex
	queue []*unit

	index atomic.Pointer[index] // for readers

	// Only the run loop touches what follows.
	environments map[string]*Environment
	slots        map[string]*Slot
	agenda       agenda
	inflight     int
	watchTold    map[string]bool
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
	if o.Workers == 0 {
		o.Workers = 4 * runtime.GOMAXPROCS(0)
	}
	k := &Keeper{
		options: o, wake: make(chan struct{}, 1), calls: make(chan func()), results: make(chan result), done: make(chan struct{}),
		environments: map[string]*Environment{}, slots: map[string]*Slot{}, watchTold: map[string]bool{},
	}
	k.index.Store(&index{byName: map[string]*Slot{}})
	return k
}

// Run is the run loop. It returns when ctx ends; it must be called once. What
// slots serve stays as it is afterwards.
func (k *Keeper) Run(ctx context.Context) error {
	defer close(k.done)
	var watchErr error
	k.watcher, watchErr = newWatcher(k.mark)
	if watchErr != nil {
		k.tell(Event{Kind: EventWatchLost, Reason: "inotify", Err: watchErr})
	}
	workers, stop := context.WithCancel(ctx)
	var group sync.WaitGroup
	defer group.Wait()
	defer stop()
	group.Go(func() {
		k.watcher.run(workers, func(err error) {
			k.call(workers, func() { k.tell(Event{Kind: EventOverflow, Reason: "overflow", Err: err}) })
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
func (k *Keeper) turn(ctx context.Context, now time.Time) time.Duration {
	due, next := k.agenda.due(now)
	for _, u := range due {
		u.next = time.Time{}
		if !u.running {
			k.start(ctx, u, false, now)
		}
	}
	for k.inflight < k.options.Workers {
		u, marked := k.take()
		if u == nil {
			break
		}
		if u.removed {
			continue
		}
		if u.running {
			u.again = marked
			continue
		}
		u.since = marked
		k.start(ctx, u, true, now)
	}
	wait := beatInterval
	if !next.IsZero() {
		wait = min(wait, max(0, next.Sub(now)))
	}
	return wait
}

// mark says that a source may have changed. Any goroutine may call it.
func (k *Keeper) mark(u *unit) { k.markAt(u, time.Time{}) }

// markAt is mark for a change first seen at since; zero is now.
func (k *Keeper) markAt(u *unit, since time.Time) {
	if since.IsZero() {
		since = time.Now()
	}
	k.mu.Lock()
	if u.marked.IsZero() || since.Before(u.marked) {
		u.marked = since
	}
	if !u.queued {
		u.queued = true
		k.queue = append(k.queue, u)
	}
	k.mu.Unlock()
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

func (k *Keeper) take() (*unit, time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.queue) == 0 {
		return nil, time.Time{}
	}
	u := k.queue[0]
	k.queue = k.queue[1:]
	marked := u.marked
	u.queued, u.marked = false, time.Time{}
	return u, marked
}

func (k *Keeper) start(ctx context.Context, u *unit, full bool, now time.Time) {
	u.running = true
	k.inflight++
	if !full {
		u.since = now
	}
	l := look{job: u.owner.job(u.allow), full: full || len(u.waiting) > 0, stat: u.stat, read: u.read, refusal: u.refusal != nil}
	waiting := u.waiting
	u.allow, u.waiting = nil, nil
	go func() {
		r := l.run(u, k.watcher, now)
		r.waiting = waiting
		select {
		case k.results <- r:
		case <-ctx.Done():
		}
	}()
}

// finish takes the result of one look: it publishes, or keeps what there is.
func (k *Keeper) finish(r result, now time.Time) {
	u := r.unit
	u.running = false
	k.inflight--
	if u.removed {
		_ = k.watcher.set(u, nil)
		answer(r.waiting, nil)
		return
	}
	if r.watchErr != nil && !k.watchTold[r.watchErr.Error()] {
		k.watchTold[r.watchErr.Error()] = true
		k.tell(Event{Kind: EventWatchLost, Reason: "watch", Err: r.watchErr})
	}
	if !r.unchanged {
		if r.read {
			u.read, u.digest = now, r.digest
		}
		u.stat = r.stat
		refusal := r.refusal
		if refusal == nil && r.publish != nil {
			refusal = r.publish(k, now)
		}
		k.settle(u, refusal, r.publish != nil, now)
		answer(r.waiting, refusal)
	} else {
		u.owner.settled(k, u.refusal, now)
		answer(r.waiting, u.refusal)
	}
	u.schedule(now)
	k.agenda.add(u)
	if !u.again.IsZero() || len(u.waiting) > 0 {
		k.markAt(u, u.again)
		u.again = time.Time{}
	}
}

func answer(waiting []chan<- *Refusal, r *Refusal) {
	for _, c := range waiting {
		c <- r // each has room for one
	}
}

// settle keeps the outcome of a look, and tells it unless it was told before.
func (k *Keeper) settle(u *unit, r *Refusal, published bool, now time.Time) {
	was := u.refusal
	u.refusal = r
	if r == nil {
		u.failing, u.late, u.retries = time.Time{}, false, 0
		if was != nil && u.told != "" && !published {
			k.tell(u.owner.cleared())
		}
		u.told = ""
		u.owner.settled(k, nil, now)
		return
	}
	if was == nil || was.Error() != r.Error() {
		u.retries = 0
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
