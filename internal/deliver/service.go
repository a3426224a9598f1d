package deliver

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/deliver/failure"
	"github.com/spinecert/spinecert/internal/deliver/set"
	"github.com/spinecert/spinecert/internal/format"
	"github.com/spinecert/spinecert/pki"
)

const (
	defaultPoll = 30 * time.Second
	defaultLook = 10 * time.Minute
	// startApart is between the first looks at services, each of which is a handshake.
	startApart = 2 * time.Millisecond
)

// service is one service over time. Everything but what is atomic or a channel
// belongs to its goroutine.
type service struct {
	manager  *Manager
	name     string
	config   atomic.Pointer[settings]
	status   atomic.Pointer[Status]
	synced   atomic.Pointer[string] // desired.memory of when it was last in sync
	renewed  atomic.Bool            // its configuration is another one
	wake     chan struct{}          // full: look again
	orders   chan asked
	gone     chan struct{} // closed when nothing is done for it any more
	cancel   context.CancelFunc
	before   chan struct{} // nil, or closed when one of its name that is gone does nothing any more
	position int
	claimed  place         // the manager's lock guards it
	identity *pki.Identity // of what was proved last, unless that was before the start

	record  record
	loaded  bool
	unsaved bool   // record is not on disk
	tidy    bool   // nothing is in the directory that is not needed
	resumes bool   // a delivery began before the start, and goes on
	placed  string // the set that `current` points to
	served  Version
	looked  time.Time // when it was last seen to serve something
	lookAt  time.Time // when it is looked at again
	readAt  time.Time // when its files are read again
	seen    *set.Seen // how they looked then
	lists   listWait
	retry   retry
	told    string // the failure that was told last

	toldBack string // the digest that was last told to be taken back
}

func newService(m *Manager, c config.Service) *service {
	s := &service{manager: m, name: c.Name, wake: make(chan struct{}, 1), orders: make(chan asked), gone: make(chan struct{})}
	s.config.Store(newSettings(c))
	s.status.Store(&Status{Config: c, State: Delivering, Since: time.Now()})
	return s
}

// rouse has the service look again, without waiting for it.
func (s *service) rouse() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// renew says that the configuration is another one.
func (s *service) renew() {
	s.renewed.Store(true)
	s.rouse()
}

// end cuts short what is done. The manager holds its lock.
func (s *service) end() {
	if s.cancel == nil { // it was never started
		close(s.gone)
		return
	}
	s.cancel()
}

func (s *service) run(ctx context.Context) {
	defer s.manager.release(s)
	defer close(s.gone)
	if s.before != nil {
		st := *s.status.Load()
		st.Waits = "waits for what was done for it before its configuration went away"
		s.status.Store(&st)
		select {
		case <-s.before:
		case <-ctx.Done():
			return
		}
	}
	timer := time.NewTimer(time.Duration(s.position) * startApart)
	defer timer.Stop()
	for {
		var a *asked
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		case <-timer.C:
		case order := <-s.orders:
			a = &order
		}
		next, err := s.turn(ctx, a)
		if ctx.Err() != nil {
			return
		}
		if a != nil {
			a.answer <- outcome{*s.status.Load(), err}
		}
		timer.Reset(next)
	}
}

// turn is what one look is about.
type turn struct {
	ctx    context.Context
	c      *settings
	d      desired
	goal   string // the digest of what is delivered: that of d, unless beside
	beside bool   // the identity stays what was proved: that of the slot is held
	fresh  bool   // a new set is written, and read as a whole
	down   bool   // the service did not answer before
	untold bool   // nothing was done to have it read a set
	target *set.Target
	order  *asked // nil: nobody asked
	now    time.Time
}

func (t *turn) forced() bool { return t.order != nil && t.order.Now }

// turn looks at the service and does what is to be done. It returns after which time
// it looks again by itself, and the failure that an order is answered with.
func (s *service) turn(ctx context.Context, order *asked) (time.Duration, error) {
	renewed := s.renewed.Swap(false) // before the configuration is read
	t := &turn{ctx: ctx, c: s.config.Load(), order: order, now: time.Now()}
	if renewed || order != nil {
		s.retry, s.lookAt, s.told, s.toldBack = retry{}, time.Time{}, "", ""
	}
	err := s.prepare(t)
	if t.target != nil {
		defer t.target.Close()
	}
	if err != nil {
		return s.unprepared(t, err)
	}
	if t.target == nil {
		s.inSyncStill(t)
		return s.poll(), nil
	}
	return s.act(t)
}

// waitsFor is no failure: something is not there yet.
type waitsFor struct{ error }

// prepare finds out what there is to know before anything is done.
func (s *service) prepare(t *turn) (err error) {
	if !s.loaded {
		r, err := readRecord(s.manager.options.Records, s.name)
		if err != nil && !errors.Is(err, errDamaged) {
			return failure.New(failure.ReasonOf(err, failure.StateUnwritable), pki.Hint(err), "%w", err)
		}
		if err != nil {
			s.manager.tell(Event{Kind: EventRecord, Service: s.name, Slot: t.c.Slot, Err: err})
		}
		s.record, s.loaded = r, true
		s.resumes = r.Attempt != nil
	}
	s.forgetOther(t.c.Directory)
	if t.d, err = s.manager.desire(t.c); err != nil {
		return &waitsFor{err}
	}
	if err := t.d.withPasswords(t.c.Service); err != nil {
		return err
	}
	t.goal = t.d.digest
	if s.unsaved {
		if err := s.save(); err != nil {
			return err
		}
	}
	if s.quiet(t) {
		return nil
	}
	if t.target, err = set.Open(t.c.Directory, s.manager.options.Disk); err != nil {
		return err
	}
	s.placed, _ = t.target.Current() // what is planted there is told when it is in the way
	var at place
	at.device, at.inode = t.target.Is()
	if other := s.manager.claim(s, at); other != nil {
		return failure.New(failure.UnsafeDirectory, "give each service a directory of its own", "directory %q is that of service %s, too", t.c.Directory, other.name)
	}
	return nil
}

// quiet reports whether there is nothing to do, as it was before and nothing moved: of a
// thousand services that is what is asked every half minute.
func (s *service) quiet(t *turn) bool {
	p := s.record.Proved
	return t.order == nil && p != nil && p.Digest == t.d.digest && s.record.Attempt == nil && s.status.Load().State == InSync &&
		s.tidy && t.now.Before(s.lookAt) && t.now.Before(s.readAt) && s.seen.Unchanged()
}

// forgetOther: sets in another directory are nothing to go back to.
func (s *service) forgetOther(directory string) {
	if p := s.record.Proved; p != nil && p.Directory != directory {
		s.record.Proved, s.record.Undo = nil, false
	}
	if a := s.record.Attempt; a != nil && a.Directory != directory {
		s.record.Attempt, s.record.Undo = nil, false
	}
}

func (s *service) unprepared(t *turn, err error) (time.Duration, error) {
	if w, ok := errors.AsType[*waitsFor](err); ok {
		s.show(t, Status{State: Delivering, Waits: w.Error(), Hint: pki.Hint(w.error)})
		return s.poll(), w.error
	}
	return s.fail(t, StepDeliver, err)
}

// act does what there is to do.
func (s *service) act(t *turn) (time.Duration, error) {
	r := &s.record
	if s.resumes {
		s.resumes = false
		s.tell(t, Event{Kind: EventResumed, To: r.Attempt.version()})
	}
	held := r.holds(t.d) && !t.forced()
	switch {
	case r.Undo && r.Proved != nil && !t.forced() && (held || r.Held == nil && r.Attempt != nil && r.Attempt.Digest == t.d.digest):
		if wait, later := s.retry.later(t, "undo"); later {
			return wait, s.lastFailure()
		}
		return s.goBack(t, nil)
	case held && s.besideIt(t):
	case held:
		return s.watchHeld(t)
	case r.Proved != nil && r.Proved.Digest == t.d.digest && r.Attempt == nil:
		return s.watch(t)
	}
	if w := s.waits(t); w.why != "" {
		s.show(t, Status{State: Delivering, Waits: w.why, Window: w.window})
		return s.next(t, w.until), failure.New(failure.Waiting, w.hint(s.name), "service %s %s", s.name, w.why)
	}
	if wait, later := s.retry.later(t, t.goal); later {
		return wait, s.lastFailure()
	}
	return s.deliver(t, t.forced())
}

// besideIt reports whether trust or CRLs are to be delivered beside an identity that is
// held: they are another stream, and do not wait for it.
func (s *service) besideIt(t *turn) bool {
	p, h := s.record.Proved, s.record.Held
	if p == nil || h.Identity == "" || t.d.needs&(format.Trust|format.CRLs) == 0 || p.Beside == t.d.beside {
		return false
	}
	t.beside, t.goal = true, digestOf("beside", p.Identity, t.d.beside)
	return true
}

// lastFailure is the answer to an order that nothing was done for.
func (s *service) lastFailure() error {
	st := s.status.Load()
	return failure.New(st.Reason, st.Hint, "%s", st.Error)
}

func (s *service) poll() time.Duration {
	if p := s.manager.options.Poll; p > 0 {
		return p
	}
	// Spread: a thousand services are not looked at in one moment. But at whole seconds:
	// of those that are idle it is the waking up that costs.
	now := time.Now()
	at := now.Add(defaultPoll + time.Duration(s.position%64)*defaultPoll/512).Truncate(time.Second)
	return at.Sub(now.Round(0))
}

func (s *service) lookEvery() time.Duration {
	if l := s.manager.options.Look; l > 0 {
		return l
	}
	return defaultLook + time.Duration(s.position%64)*defaultLook/512
}

// next is when to look again where something is waited for until then.
func (s *service) next(t *turn, until time.Time) time.Duration {
	next := s.poll()
	if !until.IsZero() {
		next = min(next, max(until.Sub(t.now), time.Millisecond))
	}
	return next
}

// save keeps the record. What is not kept is kept later, before anything else is done.
func (s *service) save() error {
	err := writeRecord(s.manager.options.Records, s.name, s.record)
	s.unsaved = err != nil
	if err != nil {
		return failure.New(failure.StateUnwritable, "make room, or give the state directory back to the daemon's user; it is tried again by itself", "%w", err)
	}
	return nil
}
