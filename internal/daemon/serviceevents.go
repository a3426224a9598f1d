package daemon

import (
	"log/slog"

	"github.com/spinecert/spinecert/internal/deliver"
	"github.com/spinecert/spinecert/internal/manage"
	"github.com/spinecert/spinecert/pki"
)

// viaService is how something is caused that the daemon does for a service by itself.
const viaService = "service"

// The results of a delivery, as metric labels.
const (
	resultProved     = "proved"
	resultFailed     = "failed"
	resultRolledBack = "rolled_back"
)

// onDeliver is told what happens to services, by the goroutine of each. It counts, and
// leaves the rest to others.
func (d *Daemon) onDeliver(e deliver.Event) {
	d.wakeAlerts()
	d.countDelivery(e)
	line := auditLine{Time: e.Time, Event: string(e.Kind), Service: e.Service, Slot: e.Slot, From: e.From.Generation, To: e.To.Generation,
		Digest: e.To.Digest, Reason: e.Reason, Actor: actor{UID: d.uid, PID: d.pid, Via: viaService}}
	if who, ok := e.Actor.(actor); ok {
		line.Actor = who
	}
	if e.Err != nil {
		line.Message, line.Hint = manage.Clip(oneLine(e.Err)), manage.Clip(pki.Hint(e.Err))
	}
	d.keepAudit(line)
	d.recordDelivery(e)
}

// countDelivery counts for services that are configured: the series of one that a
// reload has removed have ended, and what is still done for it must not bring them back.
func (d *Daemon) countDelivery(e deliver.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.config.Service(e.Service); !ok {
		return
	}
	switch e.Kind {
	case deliver.EventDelivered:
		d.metrics.deliveries.WithLabelValues(e.Service, resultProved).Inc()
	case deliver.EventFailed:
		d.metrics.deliveries.WithLabelValues(e.Service, resultFailed).Inc()
	case deliver.EventRolledBack:
		d.metrics.deliveries.WithLabelValues(e.Service, resultRolledBack).Inc()
		d.metrics.rollbacks.WithLabelValues(e.Service).Inc()
	}
}

// forgetService ends the series of a service that left the configuration, unless another
// reload has brought it back.
func (d *Daemon) forgetService(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.config.Service(name); !ok {
		d.metrics.forgetService(name)
	}
}

// recordDelivery writes one event to the log.
func (d *Daemon) recordDelivery(e deliver.Event) {
	level, text := slog.LevelInfo, ""
	switch e.Kind {
	case deliver.EventDelivered:
		text = "service was seen to serve what its slot has"
	case deliver.EventFailed:
		level, text = slog.LevelError, "service is not as it should be"
	case deliver.EventRolledBack:
		level, text = slog.LevelWarn, "service is back on what was proved before; what its slot has is held"
	case deliver.EventStuck:
		level, text = slog.LevelError, "what was proved before could not be put back in service; it is tried again"
	case deliver.EventDrift:
		level, text = slog.LevelWarn, "files of a service are not what was delivered; they are delivered again"
	case deliver.EventRecovered:
		text = "service is as it should be again"
	case deliver.EventRecord:
		level, text = slog.LevelWarn, "what is recorded of a service cannot be read; its files are delivered anew"
	case deliver.EventResumed:
		text = "a delivery that had begun before the start goes on"
	}
	attrs := []slog.Attr{slog.String("service", e.Service), slog.String("slot", e.Slot)}
	if e.To.Generation != 0 {
		attrs = append(attrs, slog.Uint64("generation", e.To.Generation), slog.String("digest", e.To.Digest[:min(len(e.To.Digest), 12)]))
	}
	if e.Took > 0 {
		attrs = append(attrs, slog.Duration("took", e.Took))
	}
	if e.Step != "" {
		attrs = append(attrs, slog.String("step", e.Step))
	}
	if e.Reason != "" {
		attrs = append(attrs, slog.String("reason", e.Reason))
	}
	if e.Err != nil {
		attrs = append(attrs, slog.String("error", manage.Clip(oneLine(e.Err))))
		if hint := pki.Hint(e.Err); hint != "" {
			attrs = append(attrs, slog.String("hint", manage.Clip(hint)))
		}
	}
	if who, ok := e.Actor.(actor); ok {
		attrs = append(attrs, slog.Int("uid", who.UID), slog.String("via", who.Via))
	}
	d.record1(string(e.Kind), level, text, attrs...)
}
