package main

import (
	"context"
	"crypto/tls"
	"math/rand/v2"
	"sync"
	"time"
)

// request is one exchange or visit. It counts from when it was due, not from when it
// began: who waits in line behind a slow one waits too.
type request struct{ due, end time.Time }

// latencies are the requests of a load.
type latencies struct {
	mu       sync.Mutex
	requests []request
	lost     int
}

// window is a stretch of time.
type window struct{ from, to time.Time }

// within returns the milliseconds of the requests that fell into one of ws, also in part.
func (l *latencies) within(ws []window) []float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []float64
	for _, r := range l.requests {
		for _, w := range ws {
			if r.due.Before(w.to) && r.end.After(w.from) {
				out = append(out, milliseconds(r.end.Sub(r.due)))
				break
			}
		}
	}
	return out
}

func (l *latencies) note(r request, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.lost++
		return
	}
	l.requests = append(l.requests, r)
}

func (l *latencies) count() (done, lost int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.requests), l.lost
}

// keep calls work at a steady pace until ctx ends, or until it fails with last.
func (l *latencies) keep(ctx context.Context, every time.Duration, last bool, work func() error) {
	due := time.Now().Add(rand.N(every))
	for {
		if sleep(ctx, time.Until(due)) != nil {
			return
		}
		err := work()
		if ctx.Err() != nil {
			return // cut by the end of the load, not by the daemon
		}
		l.note(request{due, time.Now()}, err)
		if err != nil && last {
			return
		}
		due = due.Add(every)
	}
}

// traffic is a load of two kinds of requests.
type traffic struct {
	exchanges latencies // over open connections
	visits    latencies // with a full handshake each
}

// begin starts an exchange over each of conns every so often, and visits. The
// function it returns ends them and waits, and may be called twice.
func (tr *traffic) begin(ctx context.Context, conns []*tls.Conn, every time.Duration, visitor func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for _, c := range conns {
		wg.Go(func() { tr.exchanges.keep(ctx, every, true, func() error { return ping(c, 256) }) })
	}
	wg.Go(func() { tr.visits.keep(ctx, visitEvery, false, func() error { return visitor(ctx) }) })
	return func() {
		cancel()
		wg.Wait()
	}
}

// visitEvery leaves most of the machine to the daemon.
const visitEvery = 20 * time.Millisecond

// windows are the two kinds of time that are compared.
type windows struct{ quiet, busy []window }

// tell adds what the requests of a load met in the windows.
func (w windows) tell(t *trial, what, event string, l *latencies, target float64) {
	quiet, busy := l.within(w.quiet), l.within(w.busy)
	t.fact("p99 of "+what+", otherwise", quantile(quiet, 0.99), "ms", noTarget, 2)
	t.fact("p99 of "+what+", during "+event, quantile(busy, 0.99), "ms", noTarget, 2)
	t.fact("ratio of the two", quantile(busy, 0.99)/quantile(quiet, 0.99), "", target, 2)
	t.fact("longest of them, otherwise", quantile(quiet, 1), "ms", noTarget, 2)
	t.fact("longest of them, during "+event, quantile(busy, 1), "ms", noTarget, 2)
}
