package daemon

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/spinecert/spinecert/internal/tunnel"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
)

// maxEvents is how many events may wait for the log. A log that hangs must not
// hold up a rotation or a handshake: what is over is counted and given up.
const maxEvents = 4096

// maxHanded is how many connections may have been cut and not be told yet.
const maxHanded = 1024

// post hands work to the goroutine that writes the log.
func (d *Daemon) post(work func()) {
	defer d.pages.changed.tell() // what is worth a line may be on the status page
	select {
	case d.events <- work:
	default:
		d.metrics.lostEvents.Inc()
	}
}

// doWork does what others hand over until ctx ends and nothing waits any more.
func doWork(ctx context.Context, from <-chan func()) {
	for {
		select {
		case work := <-from:
			work()
		case <-ctx.Done():
			for {
				select {
				case work := <-from:
					work()
				default:
					return
				}
			}
		}
	}
}

// onRotate is told by the run loop of rotate. It counts at once and leaves the rest to others.
func (d *Daemon) onRotate(e rotate.Event) {
	if d.handedOver.Load() { // all of it happens in the process that took over as well, and there it is told
		if e.Kind == rotate.EventTrustChanged {
			d.wakeReview()
		}
		return
	}
	d.wakeAlerts()
	switch e.Kind {
	case rotate.EventRotated:
		d.metrics.rotated(e.Slot, e.Latency, e.Time)
		d.store.forget(e.Slot)
		d.memories.left(e.Slot, e.From, e.Environment)
		d.wakeRequests(e.Slot)
		d.wakeReadiness()
		d.services.WakeSlot(e.Slot)
	case rotate.EventRestored:
		d.metrics.restored(e.Slot, e.To.Since)
		d.wakeReadiness()
		d.services.WakeSlot(e.Slot)
	case rotate.EventDamaged:
		if e.To != nil {
			d.store.found(e.Slot, e.Time, fmt.Sprintf("generation %d serves, as the one in force cannot be loaded: %v", e.To.Number, e.Err))
		}
	case rotate.EventWentBack:
		d.store.found(e.Slot, e.Time, e.Err.Error())
	case rotate.EventRefused, rotate.EventOwnChain:
		d.metrics.notRotated(e.Slot, "refused", e.Reason)
	case rotate.EventPending:
		d.metrics.notRotated(e.Slot, "pending", e.Reason)
	case rotate.EventCleared:
		if e.Slot != "" {
			d.metrics.cleared(e.Slot)
		}
	case rotate.EventWatchLost, rotate.EventOverflow:
		d.metrics.watchLost.WithLabelValues(e.Reason).Inc()
	case rotate.EventTrustChanged:
		d.wakeReview()
		d.services.WakeEnvironment(e.Environment)
	case rotate.EventCRLFetch:
		d.metrics.crlFetches.WithLabelValues(e.Environment, e.Result).Inc()
	}
	if audited(e) {
		d.keepAudit(d.auditOf(e))
	}
	d.post(func() { d.record(e) })
}

// audited reports whether an event is one for the audit file. What passes by itself is
// none, and neither are current CRLs, which come every hour; what somebody carries here
// is told by trustCarry.
func audited(e rotate.Event) bool {
	switch e.Kind {
	case rotate.EventPending, rotate.EventTrustPending:
		return false
	case rotate.EventCRLFetch: // a server that lies is news
		return e.Result == rotate.CRLRefused && !e.Repeated
	case rotate.EventTrustChanged:
		return !e.CRLsOnly
	}
	return true
}

// auditOf returns the audit line of an event of rotate.
func (d *Daemon) auditOf(e rotate.Event) auditLine {
	line := auditLine{Time: e.Time, Event: string(e.Kind), Slot: e.Slot, Reason: e.Reason, Actor: actor{UID: d.uid, PID: d.pid, Via: viaFiles}}
	if who, ok := e.Actor.(actor); ok {
		line.Actor = who
	} else if e.To != nil && (e.To.Origin != rotate.FromFiles || e.Kind != rotate.EventRotated) {
		line.Actor.Via = viaState
	}
	if e.To != nil {
		line.To, line.Digest = e.To.Number, e.To.Digest()
	}
	if e.From != nil {
		line.From = e.From.Number
	}
	return line
}

// record writes one event of rotate to the log.
func (d *Daemon) record(e rotate.Event) {
	level, text := slog.LevelWarn, ""
	var attrs []slog.Attr
	if e.Slot != "" {
		attrs = append(attrs, slog.String("slot", e.Slot))
	}
	if e.Environment != "" {
		attrs = append(attrs, slog.String("environment", e.Environment))
	}
	switch e.Kind {
	case rotate.EventRotated:
		level, text = slog.LevelInfo, "slot serves a new generation"
		leaf := e.To.Identity.Leaf()
		attrs = append(attrs, slog.Uint64("generation", e.To.Number), slog.String("serial", leaf.SerialNumber.Text(16)),
			slog.String("sha256", pki.Fingerprint(leaf)), slog.Time("not_after", e.To.NotAfter), slog.Duration("latency", e.Latency))
		if e.To.Origin != rotate.FromFiles {
			attrs = append(attrs, slog.String("origin", string(e.To.Origin)))
		}
		if e.To.Of != 0 {
			attrs = append(attrs, slog.Uint64("of", e.To.Of))
		}
		if who, ok := e.Actor.(actor); ok {
			attrs = append(attrs, slog.Int("uid", who.UID), slog.String("via", who.Via))
		}
	case rotate.EventRestored:
		level, text = slog.LevelInfo, "slot serves a generation that the state directory kept"
		attrs = append(attrs, slog.Uint64("generation", e.To.Number), slog.Time("not_after", e.To.NotAfter), slog.Bool("held", e.To.Held))
	case rotate.EventUnsaved:
		level, text = slog.LevelError, "state directory does not take the generation that the slot serves; it goes on serving it and trying"
	case rotate.EventSaved:
		level, text = slog.LevelInfo, "state directory has the generation that the slot serves"
	case rotate.EventDamaged:
		level, text = slog.LevelError, "generation in force on disk cannot be loaded"
	case rotate.EventWentBack:
		level, text = slog.LevelError, "an older copy of the slot's generations was put in their place"
	case rotate.EventTrustChanged:
		level, text = slog.LevelInfo, "environment has a new trust state"
		if e.CRLsOnly { // crl_fetch has said which
			level, text = slog.LevelDebug, "environment has other CRLs"
		}
		b := e.Trust.Bundle()
		attrs = append(attrs, slog.Uint64("sequence", e.Trust.Sequence()), slog.Int("roots", len(b.Roots())), slog.Int("subcas", len(b.SubCAs())),
			slog.Int("expired", len(b.Expired(e.Time))), slog.Int("crls", len(e.Trust.CRLs())))
	case rotate.EventCRLFetch:
		var more []slog.Attr
		level, text, more = d.sayFetch(e)
		attrs = append(attrs, more...)
	case rotate.EventCRLKept:
		text = "state directory does not take a CRL; it is in force all the same"
		attrs = append(attrs, slog.String("address", e.Address))
	case rotate.EventCleared:
		level, text = slog.LevelInfo, "files and what is served agree again"
	case rotate.EventPending:
		if e.Reason == string(rotate.EventDamaged) {
			level, text = slog.LevelError, "nothing of what the state directory keeps for the slot can be loaded; it is tried again"
			break
		}
		level, text = slog.LevelInfo, "source does not fit together yet; what is served stays"
	case rotate.EventIncoherent:
		level, text = d.unlessServed(e, "source has not fitted together for too long")
	case rotate.EventRefused:
		level, text = d.unlessServed(e, "candidate refused")
	case rotate.EventOwnChain:
		level, text = slog.LevelError, "what the slot serves does not pass the trust of its environment; it goes on serving it"
	case rotate.EventTrustPending:
		level, text = slog.LevelInfo, "trust files are not whole yet; the last trust state stays"
	case rotate.EventTrustRefused:
		text = "trust files not taken; the last trust state stays"
	case rotate.EventWatchLost:
		text = "directory cannot be watched; the poll goes on"
	case rotate.EventOverflow:
		text = "kernel dropped file events; everything is looked at again"
	}
	if e.Err != nil {
		attrs = append(attrs, slog.String("reason", e.Reason), slog.String("error", e.Err.Error()))
		if hint := adviceOf(e.Err); hint != "" {
			attrs = append(attrs, slog.String("hint", hint))
		}
	}
	d.writeLine(string(e.Kind), level, text, attrs)
}

// unlessServed says what a candidate that was not taken means: little where something is served meanwhile.
func (d *Daemon) unlessServed(e rotate.Event, text string) (slog.Level, string) {
	if s := d.keeper.Slot(e.Slot); e.Slot != "" && (s == nil || s.Snapshot() == nil) {
		return slog.LevelError, text + "; the slot serves nothing"
	}
	return slog.LevelWarn, text + "; what is served stays"
}

func (d *Daemon) recordTrouble(name string, t tunnel.Trouble) {
	level, text := slog.LevelInfo, "tunnel works again"
	attrs := []slog.Attr{slog.String("tunnel", name), slog.String("address", t.Address)}
	if t.Err != nil {
		level, text = slog.LevelError, "tunnel has trouble"
		attrs = append(attrs, slog.String("error", t.Err.Error()))
		err := t.Err
		if t.Kind == tunnel.TroubleListen {
			err = adviseListen(err)
		}
		if hint := pki.Hint(err); hint != "" {
			attrs = append(attrs, slog.String("hint", hint))
		}
	}
	d.writeLine("tunnel_"+string(t.Kind), level, text, attrs)
}
