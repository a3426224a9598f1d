package alert

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/spinecert/spinecert/internal/condition"
)

const (
	firstWait = 10 * time.Second // after a failure; it doubles
	longWait  = 30 * time.Minute
	showEvery = time.Minute // how often mirrors are shown everything
	// failingAfter is how long a sink fails before that is a condition.
	failingAfter = 5 * time.Minute
)

// runner sends to one sink.
type runner struct {
	engine  *Engine
	sink    Sink
	turns   *turns
	poked   chan struct{}
	showing map[string]Notice // a mirror's, as it was shown last; for whoever runs

	mu     sync.Mutex
	cancel context.CancelFunc // nil while it does not run
	health health
}

// health is how a sink stands.
type health struct {
	failures int       // in a row
	since    time.Time // of the first of them
	err      error     // of the last
	sent     time.Time // when it last took something
	next     time.Time // when it is tried again; zero: as soon as there is something
}

// newRunner returns a runner for a sink. turns are those of the one that had the name
// before; nil for none.
func newRunner(e *Engine, s Sink, t *turns) *runner {
	if t == nil {
		t = newTurns()
	}
	return &runner{engine: e, sink: s, turns: t, poked: make(chan struct{}, 1)}
}

// startRunners starts those that do not run. e.mu is held.
func (e *Engine) startRunners() {
	for _, r := range e.runners {
		r.mu.Lock()
		if r.cancel == nil {
			ctx, cancel := context.WithCancel(e.running)
			r.cancel = cancel
			e.sending.Go(func() { r.run(ctx) })
		}
		r.mu.Unlock()
	}
}

func (r *runner) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cancel != nil {
		r.cancel()
		r.cancel = nil
	}
}

// poke has it look whether there is something to send.
func (r *runner) poke() {
	select {
	case r.poked <- struct{}{}:
	default:
	}
}

// run sends until ctx ends; not before whoever sent under its name has ended.
func (r *runner) run(ctx context.Context) {
	if r.turns.running.take(ctx) != nil {
		return
	}
	defer r.turns.running.give()
	for ctx.Err() == nil {
		r.rest(ctx, r.turn(ctx))
	}
}

// rest waits so long, or until something happened, unless the sink is not to be tried yet.
func (r *runner) rest(ctx context.Context, wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		case <-r.poked:
			if !r.waits() {
				return
			}
		}
	}
}

// waits reports whether it is not to be tried before its time.
func (r *runner) waits() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.health.failures > 0 && !reached(r.health.err)
}

// reached reports whether something got through all the same, see Sender.
func reached(err error) bool {
	var partly interface{ Reached() bool }
	return errors.As(err, &partly) && partly.Reached()
}

// turn sends what there is, and returns when to look again at the latest.
func (r *runner) turn(ctx context.Context) time.Duration {
	var err error
	if r.sink.Mirror != nil {
		err = r.show(ctx)
	} else {
		err = r.send(ctx)
	}
	if ctx.Err() != nil {
		return 0
	}
	wait := time.Hour // nothing comes without a word
	if r.sink.Mirror != nil {
		wait = showEvery
	}
	if err != nil {
		wait = r.failed(err)
	}
	return wait
}

// send sends every message there is, until one fails. One that reached some of those it is
// for keeps nothing else back.
func (r *runner) send(ctx context.Context) (partly error) {
	e := r.engine
	e.mu.Lock()
	messages := e.book.take(r.sink.Name, e.options.Host, time.Now())
	e.mu.Unlock()
	for _, m := range messages {
		if err := r.deliver(ctx, &m.Message); err != nil {
			e.options.Tell.Sent(r.sink.Name, "failed", 1)
			if !reached(err) {
				return err
			}
			partly = err
			continue
		}
		e.options.Tell.Sent(r.sink.Name, "sent", 1)
		r.worked()
		e.mu.Lock()
		e.book.done(r.sink.Name, m)
		e.version++
		e.mu.Unlock()
		_ = e.Save() // it has told
	}
	return partly
}

// deliver gives a sink one message.
func (r *runner) deliver(ctx context.Context, m *Message) error {
	return r.turns.call(ctx, r.sink.Timeout, func(ctx context.Context) error { return r.sink.Sender.Send(ctx, m) })
}

// mirror shows a mirror everything.
func (r *runner) mirror(ctx context.Context, active, resolved []Notice) error {
	return r.turns.call(ctx, r.sink.Timeout, func(ctx context.Context) error { return r.sink.Mirror.Show(ctx, active, resolved) })
}

// show shows a mirror what is wrong, and what is not any more.
func (r *runner) show(ctx context.Context) error {
	e := r.engine
	e.mu.Lock()
	active := e.book.Active(r.sink.Min)
	e.mu.Unlock()
	now := time.Now()
	next := make(map[string]Notice, len(active))
	for _, n := range active {
		next[n.Condition.ID] = n
	}
	var resolved []Notice
	for id, was := range r.showing {
		if n, ok := next[id]; !ok || n.Condition.Severity != was.Condition.Severity || n.Condition.Code != was.Condition.Code {
			was.Event, was.At, was.Resolved = Resolved, now, condition.Moment{Time: now}
			resolved = append(resolved, was)
		}
	}
	if len(active)+len(resolved) == 0 {
		return nil
	}
	if err := r.mirror(ctx, active, resolved); err != nil {
		e.options.Tell.Sent(r.sink.Name, "failed", 1)
		// It may have taken a part: what it was shown is to be ended as well.
		for id, n := range next {
			if _, ok := r.showing[id]; !ok {
				r.keep(id, n)
			}
		}
		return err
	}
	e.options.Tell.Sent(r.sink.Name, "sent", 1)
	r.worked()
	r.showing = next
	return nil
}

func (r *runner) keep(id string, n Notice) {
	if r.showing == nil {
		r.showing = map[string]Notice{}
	}
	r.showing[id] = n
}

func (r *runner) worked() {
	r.mu.Lock()
	failures := r.health.failures
	r.health = health{sent: time.Now()}
	r.mu.Unlock()
	if failures > 0 {
		r.engine.options.Tell.Works(r.sink.Name)
	}
}

// failed notes an error, and returns how long to wait.
func (r *runner) failed(err error) time.Duration {
	now := time.Now()
	r.mu.Lock()
	h := &r.health
	told := h.err != nil && h.err.Error() == err.Error()
	if h.failures++; h.failures == 1 {
		h.since = now
	}
	h.err = err
	wait := waitAfter(h.failures, r.sink.Mirror != nil, err)
	h.next = now.Add(wait)
	r.mu.Unlock()
	if !told {
		r.engine.options.Tell.Failed(r.sink.Name, err)
	}
	return wait
}

// waitAfter doubles the wait with each failure, a little more or less, so that many hosts
// do not come back at once. A mirror is what others rely on to be up to date.
func waitAfter(failures int, mirror bool, err error) time.Duration {
	wait := firstWait << min(failures-1, 10)
	longest := longWait
	if mirror {
		longest = showEvery
	}
	wait = min(wait, longest)
	wait += time.Duration(rand.Int64N(int64(wait) / 4)) //nolint:gosec // not a secret
	var asked interface{ RetryAfter() time.Duration }
	if errors.As(err, &asked) {
		wait = max(wait, min(asked.RetryAfter(), longWait))
	}
	return wait
}
