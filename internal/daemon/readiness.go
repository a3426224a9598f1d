package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
)

// keepReadiness opens and closes listeners as slots get or lose what they serve.
func (d *Daemon) keepReadiness(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.ready:
			d.setReadiness()
		}
	}
}

func (d *Daemon) wakeReadiness() {
	select {
	case d.ready <- struct{}{}:
	default:
	}
}

func (d *Daemon) setReadiness() {
	d.opening.Lock()
	d.setReadinessLocked()
	d.opening.Unlock()
	if d.staged.Load() {
		d.notify("STATUS=" + d.summary())
	}
}

// setReadinessLocked is held by d.opening, so that what it saw of a slot is still
// so when a tunnel that a reload gave another slot is told.
func (d *Daemon) setReadinessLocked() {
	for _, t := range d.liveTunnels() {
		s := d.keeper.Slot(t.config.Slot)
		t.tunnel.SetReady(s != nil && s.Snapshot() != nil)
	}
}

func (d *Daemon) liveTunnels() []*liveTunnel {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.tunnels
}

// namedSlots bounds how many slots that are not ready a summary names: systemd takes messages of 4096 bytes, and of a
// longer one not even READY.
const namedSlots = 10

// summary is one sentence for systemd and the log.
func (d *Daemon) summary() string {
	ready, all := 0, d.keeper.Slots()
	missing := ""
	var next time.Time
	for i, s := range all {
		snap := s.Snapshot()
		if snap == nil {
			if i-ready < namedSlots {
				missing += " " + s.Name()
			}
			continue
		}
		ready++
		if next.IsZero() || snap.Generation.NotAfter.Before(next) {
			next = snap.Generation.NotAfter
		}
	}
	text := fmt.Sprintf("%d of %d slots ready", ready, len(all))
	if missing != "" {
		text += "; not ready:" + missing
	}
	if more := len(all) - ready - namedSlots; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	if !next.IsZero() {
		text += "; next expiry " + next.UTC().Format(time.DateOnly)
	}
	return text
}

// notify tells systemd, if it runs us. A failure has nobody to be told to.
func (d *Daemon) notify(state string) {
	if d.handedOver.Load() {
		return // systemd listens to another process
	}
	_, _ = sd.SdNotify(false, state)
}

// watchdog tells systemd that the run loop turns. A loop that hangs is not told.
func (d *Daemon) watchdog(ctx context.Context) {
	interval, err := sd.SdWatchdogEnabled(false)
	if err != nil {
		d.record1("watchdog_unusable", slog.LevelWarn, "what systemd says of its watchdog cannot be understood, and it hears nothing", slog.String("error", err.Error()),
			slog.String("hint", "take WATCHDOG_USEC and WATCHDOG_PID out of the drop-ins of the unit; WatchdogSec= sets both"))
	}
	if err != nil || interval <= 0 {
		return
	}
	d.notify(sd.SdNotifyWatchdog)                             // it may have been long ago that the process before said so, if there was one
	t := time.NewTicker(max(interval/3, 50*time.Millisecond)) // nobody can be told as often as some variables say
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			if d.turning(now, interval) {
				d.notify(sd.SdNotifyWatchdog)
			}
		}
	}
}

func (d *Daemon) turning(now time.Time, within time.Duration) bool {
	return now.Sub(d.started)-time.Duration(d.beat.Load()) < within
}
