package daemon

import (
	"context"
	"slices"
	"time"
)

// reviewEvery is how often open connections are judged without a change, for what
// time alone ends. A timer would miss what the wall clock does.
const reviewEvery = 10 * time.Second

// wakeReview has every open connection judged again, soon. It never blocks: what
// changes the trust must not wait for connections.
func (d *Daemon) wakeReview() {
	select {
	case d.changed <- struct{}{}:
	default: // a review is about to begin
	}
}

// keepReviewing judges open connections when something changed, and from time to time,
// until ctx ends.
func (d *Daemon) keepReviewing(ctx context.Context) {
	t := time.NewTicker(reviewEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-d.changed: // told once every slot has the new trust
		}
		undated := d.clockSuspect()
		for _, t := range d.everyTunnel() {
			t.tunnel.Review(undated)
		}
		d.pages.peers.review(undated)
	}
}

// everyTunnel returns the tunnels in force, and those that drain.
func (d *Daemon) everyTunnel() []*liveTunnel {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Concat(d.tunnels, d.removed)
}
