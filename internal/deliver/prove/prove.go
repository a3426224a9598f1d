package prove

import (
	"context"
	"crypto/tls"
	"errors"
	"time"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/deliver/failure"
)

const (
	// between handshakes that match: an old worker gets a chance to answer.
	betweenMatches = 15 * time.Millisecond
	// after one that does not, doubled each time.
	firstBackoff, lastBackoff = 10 * time.Millisecond, 250 * time.Millisecond
)

// Prove looks until p.Stable handshakes in a row match, within p.Within. The error is
// that of the last one that did not, with what was seen then. When ctx is cancelled it
// returns at once.
func Prove(ctx context.Context, p config.Probe, want Want) (Seen, error) {
	within, cancel := context.WithTimeout(ctx, p.Within)
	defer cancel()
	t := trial{looker: looker{probe: p, identity: want.Identity, version: tls.VersionTLS12}, backoff: firstBackoff}
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
			return t.last, failure.New(failure.Interrupted, "", "prove %s: %w", place(p), context.Canceled)
		}
		return t.last, t.failed()
	}
}

// A trial is a row of handshakes with one service.
type trial struct {
	looker
	row            int // that matched since the last that did not
	matched, tried int
	backoff        time.Duration
	last           Seen // with bad, what was seen then
	bad            error
}

// once looks once more. It returns how long to wait until the next time, or that it is proved.
func (t *trial) once(within context.Context, want Want) (pause time.Duration, done bool) {
	// Only the last of the row waits for a late refusal: all others would wait as long.
	seen, err := t.look(within, t.row+1 >= t.probe.Stable)
	if err == nil {
		err = Match(seen, want)
	}
	t.tried++
	if err == nil {
		t.row, t.backoff = t.row+1, firstBackoff
		t.matched++
		if done = t.row >= t.probe.Stable; done || t.bad == nil {
			t.last = seen
		}
		return betweenMatches, done
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
