package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/alert"
	"github.com/spinecert/spinecert/internal/alert/sink"
	"github.com/spinecert/spinecert/internal/condition"
	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/pki"
)

// logSink is the sink that is there without being configured, unless one of its type is.
const logSink = "journal"

// alerts are what the daemon tells people by itself.
type alerts struct {
	*alert.Engine
	beyond atomic.Pointer[map[string]bool] // IDs of what is wrong and only counted
}

func newAlerts(d *Daemon, c *config.Config) *alerts {
	return &alerts{Engine: alert.New(alert.Options{
		File: filepath.Join(c.State.Directory, alert.FileName), Host: hostName(), Look: d.lookForAlerts, Unseen: d.unseen,
		Tell: alert.Observer{
			Sent:       func(name, result string, n int) { d.metrics.alertsSent.WithLabelValues(name, result).Add(float64(n)) },
			Failed:     d.sinkFailed,
			Works:      d.sinkWorks,
			Unreadable: d.alertsUnreadable,
			Unwritten:  d.alertsUnwritten,
		},
	})}
}

func (d *Daemon) sinkFailed(name string, err error) {
	d.record1("sink_failed", slog.LevelWarn, "alerts do not get through; they wait, and are tried again", slog.String("sink", name),
		slog.String("error", oneLine(err)), slog.String("hint", pki.Hint(err)))
}

func (d *Daemon) sinkWorks(name string) {
	d.record1("sink_works", slog.LevelInfo, "alerts get through again", slog.String("sink", name))
}

func (d *Daemon) alertsUnreadable(err error) {
	d.record1("alerts_unreadable", slog.LevelError, "what people were told by the last process is not known", slog.String("error", oneLine(err)))
}

func (d *Daemon) alertsUnwritten(err error) {
	d.record1("alerts_unwritten", slog.LevelError, "what people are to be told is in memory only", slog.String("error", oneLine(err)), slog.String("hint", pki.Hint(err)))
}

// hostName is how this host calls itself in messages.
func hostName() string {
	name, err := os.Hostname()
	if err != nil {
		return "unknown host"
	}
	return name
}

// lookForAlerts is what is wrong now, and whether the clock can be believed.
func (d *Daemon) lookForAlerts(now time.Time) ([]condition.Condition, bool) {
	suspect := d.clockSuspect()                 // as it is now: nothing is told by a clock that has just jumped
	requests, _ := d.manager.RequestStatus(now) // the rest is a condition of its own
	return d.conditions(now, requests, d.services.Status()), suspect
}

// sinkConditions tell which sinks do not work.
func (a *alerts) sinkConditions(now time.Time, add adder) {
	for _, c := range a.Failing(now) {
		add(c, "")
	}
}

// sinks makes the sinks of a configuration.
func (d *Daemon) sinks(c *config.Config) ([]alert.Sink, error) {
	return sinksOf(c, sink.Options{Host: hostName(), Version: d.version, Log: d.logAlerts})
}

// sinksOf makes the sinks of a configuration. The error is config.Problems.
func sinksOf(c *config.Config, o sink.Options) ([]alert.Sink, error) {
	configured := c.Alerts.Sinks
	if !hasLogSink(configured) {
		configured = append(configured[:len(configured):len(configured)], config.Sink{Name: logSink, Type: config.SinkJournal, Min: string(condition.Warning), Timeout: time.Second})
	}
	made, err := sink.All(c, configured, o)
	if err != nil {
		return nil, err
	}
	out := make([]alert.Sink, 0, len(made))
	for i, s := range made {
		out = append(out, alert.Sink{Name: s.Name, Type: s.Type, Min: s.Min, Timeout: configured[i].Timeout, Key: sinkKey(configured[i]), Each: countsEach(configured[i]), Sender: s.Sender, Mirror: s.Mirror})
	}
	return out, nil
}

func hasLogSink(sinks []config.Sink) bool {
	for _, s := range sinks {
		if s.Type == config.SinkJournal || s.Name == logSink {
			return true
		}
	}
	return false
}

// sinkKey is the same for a sink that a reload does not change. What a template says may
// have changed with nothing else.
func sinkKey(s config.Sink) string {
	if s.Template != "" {
		return ""
	}
	key, err := json.Marshal(s)
	if err != nil {
		return ""
	}
	return string(key)
}

// countsEach reports whether a sink is a program that keeps account of alerts, and not a
// person who reads.
func countsEach(s config.Sink) bool {
	switch s.Type {
	case config.SinkExec, config.SinkJournal:
		return true
	case config.SinkWebhook:
		return s.Format != config.FormatTeams && s.Format != config.FormatSlack
	}
	return false
}

// apply puts what the configuration says of alerts in force.
func (a *alerts) apply(c *config.Config, sinks []alert.Sink) {
	a.Configure(alert.Setting{RepeatWarning: c.Alerts.RepeatWarning, RepeatCritical: c.Alerts.RepeatCritical, Sinks: sinks})
}

// logAlerts writes a message to the log, a line for each alert.
func (d *Daemon) logAlerts(m *alert.Message) {
	for i := range m.Notices {
		d.logAlert(&m.Notices[i])
	}
	if more := m.Total - len(m.Notices); more > 0 {
		d.record1("alert_more", slog.LevelWarn, "more alerts changed at once: spinecert alerts list", slog.Int("count", more))
	}
}

func (d *Daemon) logAlert(n *alert.Notice) {
	c := &n.Condition
	level, text := slog.LevelWarn, string(c.Code)+": "+c.Message
	switch {
	case !n.Active():
		level, text = slog.LevelInfo, "resolved: "+text
	case c.Severity == condition.Critical:
		level = slog.LevelError
	}
	attrs := []slog.Attr{slog.String("condition", string(c.Code)), slog.String("subject", c.Subject), slog.String("severity", string(c.Severity)), slog.String("alert", c.ID)}
	if c.Slot != "" {
		attrs = append(attrs, slog.String("slot", c.Slot))
	}
	if n.Active() {
		attrs = append(attrs, slog.String("stops", c.Stops), slog.String("hint", c.Hint), slog.String("command", c.Command))
	}
	if n.Active() && !c.Ends.IsZero() {
		attrs = append(attrs, slog.Time("ends", c.Ends.UTC()))
	}
	d.record1("alert_"+string(n.Event), level, text, attrs...)
}

// alertBackend answers the admin API.
func (d *Daemon) alertBackend() *admin.AlertBackend {
	return &admin.AlertBackend{
		List: func(context.Context) (admin.AlertList, error) { return d.alerts.List(time.Now()), nil },
		Ack:  exclusive(d, d.ackAlert),
		Test: d.testSink, // which changes nothing, and keeps no change waiting
	}
}

// ackAlert notes that somebody sees to an alert.
func (d *Daemon) ackAlert(_ context.Context, c admin.Caller, r admin.AckRequest) (admin.Alert, error) {
	now := time.Now()
	a, err := d.alerts.Ack(r.ID, alert.Ack{By: userName(c.UID), UID: c.UID, At: now.UTC(), Until: now.Add(r.For).UTC()})
	switch {
	case errors.Is(err, alert.ErrNoAlert):
		return a, &admin.Error{Code: admin.CodeUnknown, Message: fmt.Sprintf("there is no alert %q", r.ID), Hint: "spinecert alerts list names them"}
	case err != nil:
		err = failedWith(fmt.Errorf("the acknowledgement holds until the daemon ends: %w", err))
	}
	d.keepAudit(auditLine{Time: now, Event: "alert_ack", Slot: a.Slot, Reason: fmt.Sprintf("%s for %s", r.ID, r.For), Actor: actorOf(c)})
	return a, err
}

func (d *Daemon) testSink(ctx context.Context, c admin.Caller, r admin.TestRequest) (admin.TestResult, error) {
	if d.handedOver.Load() {
		return admin.TestResult{}, errLater
	}
	began := time.Now()
	err := d.alerts.Test(ctx, r.Sink, began)
	result := admin.TestResult{Sink: r.Sink, TookMS: time.Since(began).Milliseconds()}
	for _, s := range d.alerts.List(began).Sinks {
		if s.Name == r.Sink {
			result.Type = s.Type
		}
	}
	reason := r.Sink
	switch {
	case errors.Is(err, alert.ErrNoSink):
		return result, &admin.Error{Code: admin.CodeUnknown, Message: fmt.Sprintf("there is no sink %q", r.Sink), Hint: "spinecert alerts list names them; they stand under alerts.sinks"}
	case err != nil:
		reason += " failed"
		err = &admin.Error{Code: admin.CodeFailed, Message: err.Error(), Hint: pki.Hint(err)}
	}
	d.keepAudit(auditLine{Time: began, Event: "alert_test", Reason: reason, Actor: actorOf(c)})
	return result, err
}

// userName is the name of a user, else the number.
func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return strconv.Itoa(uid)
}

// wakeAlerts has the conditions looked at soon.
func (d *Daemon) wakeAlerts() {
	if d.alerts != nil { // while it is being made
		d.alerts.Wake()
	}
}
