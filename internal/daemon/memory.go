package daemon

import (
	"context"
	"runtime/debug"
	"time"
)

// Thousands of idle connections must not hold the garbage of the traffic that
// went before: left alone, the runtime collects every two minutes and keeps as
// much again as is alive. So when traffic ebbs, memory is given back, once.
const (
	ebbLook  = time.Second
	ebbBytes = 256 << 10 // moved within a look, or less: an ebb
	ebbShake = 20        // handshakes within a look, or fewer: an ebb
	ebbPause = 30 * time.Second
	ebbShare = 500 // a collection that took d is followed by a pause of at least ebbShare*d
)

// traffic is what moved so far, over all tunnels.
type traffic struct {
	bytes      int64
	handshakes uint64
}

func (d *Daemon) traffic() traffic {
	var t traffic
	for _, live := range d.liveTunnels() {
		st := live.tunnel.Stats()
		t.bytes += st.Received + st.Sent
		tallied := live.tally.status()
		t.handshakes += tallied.accepted + tallied.refused + tallied.audited
	}
	return t
}

// ebb reports whether so little moved between two looks that a collection is in nobody's way.
func (t traffic) ebb(before traffic) bool {
	return t.bytes-before.bytes <= ebbBytes && t.handshakes-before.handshakes <= ebbShake
}

// giveBackMemory collects when traffic has ebbed since it last flowed.
func (d *Daemon) giveBackMemory(ctx context.Context) {
	tick := time.NewTicker(ebbLook)
	defer tick.Stop()
	var last, given traffic
	var next time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			t := d.traffic()
			if t != given && t.ebb(last) && !now.Before(next) {
				start := time.Now()
				debug.FreeOSMemory()
				next = start.Add(max(ebbPause, ebbShare*time.Since(start)))
				given = t
			}
			last = t
		}
	}
}
