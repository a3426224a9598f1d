package prove

import (
	"context"
	"crypto/x509"
	"errors"
	"time"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/deliver/failure"
)

const (
	// A row of handshakes that match takes so long at least: nginx's old workers go on
	// answering beside the new ones for some 100 ms, and less often than every second time.
	rowSpan = 120 * time.Millisecond
	// after one that does not, doubled each time.
	firstBackoff, lastBackoff = 10 * time.Millisecond, 250 * time.Millisecond
)

// Prove looks until p.Stable handshakes in a row match, within p.Within; where the
// address is a name, each with every address of it that takes a connection. The error is
// that of the last one that did not, with what was seen then. When ctx is cancelled it
// returns at once.
func Prove(ctx context.Context, p config.Probe, want Want) (Seen, error) {
	within, cancel := context.WithTimeout(ctx, p.Within)
	defer cancel()
	t := trial{target: want.target(p), backoff: firstBackoff}
	return t.run(ctx, within, want)
}

// See is [Look] and [Match] in one: it looks once, at what is wanted.
func See(ctx context.Context, p config.Probe, want Want) (Seen, error) {
	t := want.target(p)
	return t.see(ctx, true, want)
}

// target is what to look at for what is wanted.
func (w Want) target(p config.Probe) target {
	var leaf *x509.Certificate
	if len(w.Chain) > 0 {
		leaf = w.Chain[0]
	}
	return newTarget(p, w.Identity, leaf)
}

// see looks once and judges what it sees.
func (t *target) see(ctx context.Context, late bool, want Want) (Seen, error) {
	seen, err := t.look(ctx, late)
	if err == nil || want.MayRefuse && failure.ReasonOf(err, "") == failure.RefusedUs {
		return judge(seen, want)
	}
	return seen, err
}

// A trial is a row of handshakes with one service.
type trial struct {
	target
	row            int // that matched since the last that did not
	matched, tried int
	backoff        time.Duration
	last           Seen // with bad, what was seen then
	bad            error
}

// run looks until it is proved, or the time is over.
func (t *trial) run(ctx, within context.Context, want Want) (Seen, error) {
	for {
		pause, done := t.once(within, want)
		if done {
			return t.last, nil
		}
		select {
		case <-time.After(pause):
			continue
		case <-within.Done():
		}
		if errors.Is(ctx.Err(), context.Canceled) {
			return t.last, failure.New(failure.Interrupted, "", "prove %s: %w", place(t.probe), context.Canceled)
		}
		return t.last, t.failed()
	}
}

// once looks once more. It returns how long to wait until the next time, or that it is proved.
func (t *trial) once(within context.Context, want Want) (pause time.Duration, done bool) {
	// Only the last of the row waits for a late refusal: all others would wait as long.
	seen, err := t.see(within, t.row+1 >= t.probe.Stable, want)
	t.tried++
	if err == nil {
		t.row, t.backoff = t.row+1, firstBackoff
		t.matched++
		if done = t.row >= t.probe.Stable; done || t.bad == nil {
			t.last = seen
		}
		return rowSpan / time.Duration(max(t.probe.Stable-1, 1)), done
	}
	t.row = 0
	pause, t.backoff = t.backoff, min(2*t.backoff, lastBackoff)
	// One that was cut short because the time is over says less than those before. The
	// network knows it an instant before the context does, so the clock is asked.
	if end, _ := within.Deadline(); t.tried == 1 || time.Now().Before(end) && within.Err() == nil {
		t.last, t.bad = seen, err
	}
	return pause, false
}

// failed says why it is not proved.
func (t *trial) failed() error {
	p := t.probe
	if t.bad == nil {
		return failure.New(failure.Timeout, "give the probe more time (within), or ask for fewer handshakes (stable)",
			"prove %s: %d of %d handshakes in %s matched, no other certificate was seen, and %d in a row are wanted", place(p), t.matched, t.tried, p.Within, p.Stable)
	}
	var bad *failure.Error
	if !errors.As(t.bad, &bad) {
		bad = failure.New(failure.HandshakeFailed, "", "%w", t.bad)
	}
	return failure.New(bad.Reason, bad.Advice, "%w (%d of %d handshakes in %s matched)", bad.Err, t.matched, t.tried, p.Within)
}
