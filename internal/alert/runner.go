package alert

import (
	"cmp"
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
	// failingAfter is how long a sink fails before that is a condition, and failingFrom how often.
	failingAfter = 5 * time.Minute
	failingFrom  = 2
	// ownWait is the longest wait of a message that the far side refuses for its own sake.
	ownWait = time.Hour
	// inVain is how many messages in a row are refused for their own sake before the far
	// side is taken for one that refuses everything.
	inVain = 3
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
	r.engine.mu.Lock()
	defer r.engine.mu.Unlock()
	return time.Now().Before(r.engine.book.health(r.sink.Name).next)
}

// refusal says whether an error is about the message alone, and whether the far side would
// take none of it, see Sender.
func refusal(err error) (own, whole bool) {
	var partly interface{ Reached() bool }
	var no interface{ Refused() bool }
	whole = errors.As(err, &no) && no.Refused()
	return whole || errors.As(err, &partly) && partly.Reached(), whole
}

// turn sends what there is, and returns when to look again at the latest.
func (r *runner) turn(ctx context.Context) time.Duration {
	var got result
	if r.sink.Mirror != nil {
		got.took, got.way = r.show(ctx)
	} else {
		got = r.send(ctx)
	}
	if ctx.Err() != nil {
		return 0
	}
	return r.settle(got)
}

// send sends the messages there are. One that is refused for its own sake keeps no other
// back, and waits by itself; any other failure ends the turn, unless others got through or it was refused before.
func (r *runner) send(ctx context.Context) (got result) {
	e := r.engine
	e.mu.Lock()
	messages := e.book.take(r.sink.Name, e.options.Host, time.Now())
	e.mu.Unlock()
	refused := 0
	for _, m := range messages {
		err := r.deliver(ctx, &m.Message)
		if ctx.Err() != nil && err != nil {
			return got
		}
		if err != nil {
			e.options.Tell.Sent(r.sink.Name, "failed", 1)
			if !r.keepBack(m, err, got.took) {
				got.way = err
				return got
			}
			got.own = err
			if refused++; refused == inVain {
				got.way = err
				return got
			}
			continue
		}
		e.options.Tell.Sent(r.sink.Name, "sent", 1)
		got.took, refused = true, 0
		r.change(func(b *Book) { b.done(r.sink.Name, m) })
	}
	return got
}

// keepBack notes that a message failed, and reports whether it is to wait by itself. took
// says that another got through just now.
func (r *runner) keepBack(m *batch, err error, took bool) (own bool) {
	own, whole := refusal(err)
	own = own || took || m.held
	r.change(func(b *Book) {
		if own {
			b.hold(r.sink.Name, m, whole, time.Now().Add(waitAfter(m.tries+1, ownWait, err)))
		} else {
			b.missed(r.sink.Name, m)
		}
	})
	return own
}

// change changes the book, and writes it.
func (r *runner) change(do func(*Book)) {
	e := r.engine
	e.mu.Lock()
	do(e.book)
	e.version++
	e.mu.Unlock()
	_ = e.Save() // it has told
}

// deliver gives a sink one message.
func (r *runner) deliver(ctx context.Context, m *Message) error {
	return r.turns.call(ctx, r.sink.Timeout, func(ctx context.Context) error { return r.sink.Sender.Send(ctx, m) })
}

// mirror shows a mirror everything.
func (r *runner) mirror(ctx context.Context, active, resolved []Notice) error {
	return r.turns.call(ctx, r.sink.Timeout, func(ctx context.Context) error { return r.sink.Mirror.Show(ctx, active, resolved) })
}

// show shows a mirror what is wrong, and what is not any more. took says that there was something.
func (r *runner) show(ctx context.Context) (took bool, err error) {
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
		return false, nil
	}
	if err := r.mirror(ctx, active, resolved); err != nil {
		e.options.Tell.Sent(r.sink.Name, "failed", 1)
		// It may have taken a part: what it was shown is to be ended as well.
		for id, n := range next {
			if _, ok := r.showing[id]; !ok {
				r.keep(id, n)
			}
		}
		return false, err
	}
	e.options.Tell.Sent(r.sink.Name, "sent", 1)
	r.showing = next
	return true, nil
}

func (r *runner) keep(id string, n Notice) {
	if r.showing == nil {
		r.showing = map[string]Notice{}
	}
	r.showing[id] = n
}

// settle notes what came of a turn, and returns how long to wait.
func (r *runner) settle(got result) time.Duration {
	e, now := r.engine, time.Now()
	wait, longest := time.Hour, longWait // nothing comes without a word
	if r.sink.Mirror != nil {
		wait, longest = showEvery, showEvery
	}
	e.mu.Lock()
	told, works, changed := e.book.note(r.sink.Name, now, got)
	if changed {
		e.version++
	}
	h := e.book.health(r.sink.Name)
	if h.next = (time.Time{}); got.way != nil {
		wait = waitAfter(h.Down, longest, got.way)
		h.next = now.Add(wait)
	} else if n, next := e.book.held(r.sink.Name); n > 0 {
		wait = min(wait, max(0, next.Sub(now)))
	}
	e.mu.Unlock()
	if changed {
		_ = e.Save() // it has told
	}
	switch err := cmp.Or(got.way, got.own); {
	case works:
		e.options.Tell.Works(r.sink.Name)
	case err != nil && !told:
		e.options.Tell.Failed(r.sink.Name, err)
	}
	return wait
}

// waitAfter doubles the wait with each failure, a little more or less, so that many hosts
// do not come back at once.
func waitAfter(failures int, longest time.Duration, err error) time.Duration {
	wait := min(firstWait<<min(failures-1, 10), longest)
	wait += time.Duration(rand.Int64N(int64(wait) / 4)) //nolint:gosec // not a secret
	var asked interface{ RetryAfter() time.Duration }
	if errors.As(err, &asked) {
		wait = max(wait, min(asked.RetryAfter(), longWait))
	}
	return wait
}
