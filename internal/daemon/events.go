package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/spinecert/spinecert/internal/tunnel"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
)

// maxEvents is how many events may wait for the log. A log that hangs must not
// hold up a rotation or a handshake: what is over is counted and given up.
const maxEvents = 4096

// post hands work to the goroutine that writes the log.
func (d *Daemon) post(work func()) {
	select {
	case d.events <- work:
	default:
		d.metrics.lostEvents.Inc()
	}
}

// writeEvents writes the log until ctx ends and nothing waits any more.
func (d *Daemon) writeEvents(ctx context.Context) {
	for {
		select {
		case work := <-d.events:
			work()
		case <-ctx.Done():
			for {
				select {
				case work := <-d.events:
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
	switch e.Kind {
	case rotate.EventRotated:
		d.metrics.rotated(e.Slot, e.Latency, e.Time)
		d.store.forget(e.Slot)
		d.wakeRequests(e.Slot)
		d.wakeReadiness()
	case rotate.EventRestored:
		d.metrics.restored(e.Slot, e.To.Since)
		d.wakeReadiness()
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
			d.metrics.lastGood.WithLabelValues(e.Slot).Set(1)
		}
	case rotate.EventWatchLost, rotate.EventOverflow:
		d.metrics.watchLost.WithLabelValues(e.Reason).Inc()
	}
	if e.Kind != rotate.EventPending && e.Kind != rotate.EventTrustPending {
		d.keepAudit(d.auditOf(e))
	}
	d.post(func() { d.record(e) })
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
	attrs := []slog.Attr{slog.String("event", string(e.Kind))}
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
		b := e.Trust.Bundle()
		attrs = append(attrs, slog.Uint64("sequence", e.Trust.Sequence()), slog.Int("roots", len(b.Roots())), slog.Int("subcas", len(b.SubCAs())),
			slog.Int("expired", len(b.Expired(e.Time))), slog.Int("crls", len(e.Trust.CRLs())))
	case rotate.EventCleared:
		level, text = slog.LevelInfo, "files and what is served agree again"
	case rotate.EventPending:
		if e.Reason == string(rotate.EventDamaged) {
			level, text = slog.LevelError, "nothing of what the state directory keeps for the slot can be loaded; it is tried again"
			break
		}
		level, text = slog.LevelInfo, "source does not fit together yet; what is served stays"
	case rotate.EventIncoherent:
		text = "source has not fitted together for too long; what is served stays"
	case rotate.EventRefused:
		text = "candidate refused; what is served stays"
	case rotate.EventOwnChain:
		text = "what the slot serves does not pass the trust of its environment; it goes on serving it"
	case rotate.EventTrustPending, rotate.EventTrustRefused:
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
	d.log.LogAttrs(context.Background(), level, text, attrs...)
}

// observer turns what one tunnel tells into counts and log lines.
func (d *Daemon) observer(name string, r *refusals) tunnel.Observer {
	forwards := &refusals{} // bounds the lines on what could not be forwarded: one for each connection
	return tunnel.Observer{
		Handshake: func(h tunnel.Handshake) {
			d.metrics.handshake(name, h)
			d.noteSeen(name, h)
			r.count(h)
			if h.Result != tunnel.Accepted && r.allow(time.Now()) {
				d.post(func() { d.recordHandshake(name, h) })
			}
		},
		Closed: func(_ *tunnel.Conn, c tunnel.Closed) {
			switch c.Cause {
			case tunnel.CauseEnd, tunnel.CauseTruncated, tunnel.CauseError, tunnel.CauseForward:
			default:
				d.metrics.cut.WithLabelValues(name, c.Cause).Inc()
			}
		},
		Trouble: func(t tunnel.Trouble) {
			r.trouble(t)
			if t.Kind == tunnel.TroubleForward && !forwards.allow(time.Now()) {
				return
			}
			d.post(func() { d.recordTrouble(name, t) })
		},
	}
}

func (d *Daemon) recordHandshake(name string, h tunnel.Handshake) {
	attrs := []slog.Attr{slog.String("event", "handshake_"+string(h.Result)), slog.String("tunnel", name), slog.String("reason", h.Reason)}
	if h.Remote != nil {
		attrs = append(attrs, slog.String("peer", h.Remote.String()))
	}
	if h.Err != nil {
		attrs = append(attrs, slog.String("error", h.Err.Error()))
		if hint := pki.Hint(h.Err); hint != "" {
			attrs = append(attrs, slog.String("hint", hint))
		}
	}
	d.log.LogAttrs(context.Background(), slog.LevelWarn, "peer not accepted", attrs...)
}

func (d *Daemon) recordTrouble(name string, t tunnel.Trouble) {
	attrs := []slog.Attr{slog.String("event", "tunnel_"+string(t.Kind)), slog.String("tunnel", name), slog.String("address", t.Address)}
	if t.Err == nil {
		d.log.LogAttrs(context.Background(), slog.LevelInfo, "tunnel works again", attrs...)
		return
	}
	d.log.LogAttrs(context.Background(), slog.LevelError, "tunnel has trouble", append(attrs, slog.String("error", t.Err.Error()))...)
}

// refusals bounds the log lines of one tunnel, and keeps what status shows of it.
type refusals struct {
	mu       sync.Mutex
	window   time.Time
	lines    int
	accepted uint64
	refused  uint64
	listen   map[string]error // by address: why it does not open
}

const (
	linesPerWindow = 20
	lineWindow     = 10 * time.Second
)

// allow reports whether one more refusal may be logged. All are counted in any case.
func (r *refusals) allow(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.window) >= lineWindow || now.Before(r.window) {
		r.window, r.lines = now, 0
	}
	r.lines++
	return r.lines <= linesPerWindow
}

func (r *refusals) count(h tunnel.Handshake) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if h.Result == tunnel.Accepted {
		r.accepted++
	} else {
		r.refused++
	}
}

func (r *refusals) trouble(t tunnel.Trouble) {
	if t.Kind != tunnel.TroubleListen {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.listen == nil {
		r.listen = map[string]error{}
	}
	if t.Err == nil {
		delete(r.listen, t.Address)
	} else {
		r.listen[t.Address] = t.Err
	}
}

func (r *refusals) status() (accepted, refused uint64, listen error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for _, err := range r.listen {
		errs = append(errs, err)
	}
	return r.accepted, r.refused, errors.Join(errs...)
}
