package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/alert"
	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/manage"
	"github.com/spinecert/spinecert/internal/tunnel"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
)

// A reload says no as long as it can: the configuration is read and checked as a
// whole, and the listeners that are new are opened, before anything changes. Then
// it commits, which cannot fail. Bad material is no reason to say no: the slot
// keeps what it serves, and the answer names it.
func (d *Daemon) reload(ctx context.Context, who actor) (admin.ReloadResult, error) {
	d.reloads.Lock()
	defer d.reloads.Unlock()
	if d.handedOver.Load() {
		return admin.ReloadResult{Config: d.configStatus(), Refused: []string{}}, errLater
	}
	if d.isStopping() {
		return admin.ReloadResult{Config: d.configStatus(), Refused: []string{}}, errStopping
	}
	d.notify(fmt.Sprintf("%s\nMONOTONIC_USEC=%d", sd.SdNotifyReloading, monotonicMicroseconds()))
	err := d.reloadConfig(ctx)
	if errors.Is(err, errStopping) {
		return admin.ReloadResult{Config: d.configStatus(), Refused: []string{}}, err
	}
	var refused []string
	if err == nil {
		d.confirmClock() // asked to reload, the operator has looked
		refused = d.refreshMaterial(ctx)
	}
	d.settleReload(err)
	d.exams.forget()
	text := "reloaded; " + d.summary()
	if err != nil {
		text = "reload refused, the last configuration stays; " + d.summary()
	} else if len(refused) > 0 {
		text = fmt.Sprintf("reloaded, but not everything was taken (%d refused); %s", len(refused), d.summary())
	}
	// READY comes last and says what happened, also after a failure: systemd would
	// otherwise wait for it until its timeout and take the service for broken.
	d.notify(sd.SdNotifyReady + "\nSTATUS=" + text)
	d.recordReload(who, text, len(refused) > 0, err)
	result := admin.ReloadResult{Config: d.configStatus(), Refused: refused}
	switch {
	case err != nil:
		return result, reloadError(err)
	case len(refused) > 0:
		return result, &admin.Error{Code: admin.CodeRefused, Message: text, Problems: refused,
			Hint: "what was served goes on; see spinecert status, mend the files, they are taken by themselves"}
	}
	return result, nil
}

func (d *Daemon) reloadConfig(ctx context.Context) error {
	next, err := config.Load(d.file)
	if err != nil {
		return err
	}
	d.mu.Lock()
	current := d.config
	d.mu.Unlock()
	if err := needsRestart(current, next); err != nil {
		return err
	}
	if err := d.plan(next).Check(); err != nil {
		return err
	}
	sinks, err := d.sinks(next)
	if err != nil {
		return err
	}
	prepared, err := d.prepareTunnels(next)
	if err != nil {
		return err
	}
	d.stage(ctx, next)
	if err := d.commit(next, prepared, sinks); err != nil {
		return err
	}
	d.tellConfiguration(next)
	d.forgetSeries(current, next)
	d.wakeRequests(everySlot)
	return nil
}

// errStopping is the answer to a reload that comes too late: what it opened would
// not be drained.
var errStopping = &admin.Error{Code: admin.CodeFailed, Message: "the daemon is stopping; nothing was reloaded", Hint: "what starts next reads the configuration anew"}

func (d *Daemon) isStopping() bool {
	d.opening.Lock()
	defer d.opening.Unlock()
	return d.stopping
}

// commit puts a configuration in force. It only fails once the daemon is stopping.
func (d *Daemon) commit(next *config.Config, prepared []preparedTunnel, sinks []alert.Sink) error {
	writers := d.writerIDs(next.Admin.Writers)
	d.opening.Lock()
	defer d.opening.Unlock()
	if d.stopping {
		abort(prepared)
		return errStopping
	}
	d.mu.Lock()
	d.config, d.loaded, d.writers = next, time.Now(), writers
	d.mu.Unlock()
	d.level.Set(next.LogLevel)
	d.warn(next)
	d.clock.largest.Store(int64(next.ClockMaxStep))
	d.gate.SetLimits(gateLimits(next.Limits))
	d.commitTunnels(prepared)
	d.services.Apply(next.Services)
	d.alerts.apply(next, sinks)
	d.pages.peers.apply(next.Admin)
	d.wakeReview() // peers may be permitted no longer
	return nil
}

// warn writes what a configuration accepts beyond its defaults to the log.
func (d *Daemon) warn(c *config.Config) {
	for _, w := range c.Warnings() {
		d.record1("config_warning", slog.LevelWarn, w.Message, slog.String("key", w.Key), slog.Int("line", w.Line))
	}
	d.warnSockets(c)
}

// needsRestart: what is tied to the process is not changed under it.
func needsRestart(a, b *config.Config) error {
	for _, c := range []struct{ key, was, is string }{
		{"state.directory", a.State.Directory, b.State.Directory},
		{"admin.socket.path", a.Admin.Socket, b.Admin.Socket},
		{"admin.socket.group", a.Admin.Group, b.Admin.Group},
		{"admin.http.listen", a.Admin.HTTP, b.Admin.HTTP},
		{"log.format", a.LogFormat, b.LogFormat},
	} {
		if c.was != c.is {
			return needsNewStart(b.File, c.key, c.was, c.is)
		}
	}
	if was, is := a.Admin.HTTPSlot, b.Admin.HTTPSlot; (was == "") != (is == "") { // who is connected speaks the other protocol
		return needsNewStart(b.File, "admin.http.slot", was, is)
	}
	return nil
}

func needsNewStart(file, key, was, is string) error {
	hint := "restart the daemon, or put the old value back"
	if key == "admin.http.listen" || key == "admin.http.slot" || key == "log.format" { // which an upgrade takes
		hint = "spinecert upgrade, or restart the daemon; or put the old value back"
	}
	return config.Problems{{File: file, Key: key, Message: fmt.Sprintf("cannot change from %q to %q while running", was, is), Hint: hint}}
}

// preparedTunnel is a tunnel that will be in force if the reload commits.
type preparedTunnel struct {
	live    *liveTunnel
	pending *tunnel.Pending
	fresh   bool // its endpoint is to be made
}

// prepareTunnels tries everything about the tunnels of c that can fail. On an
// error nothing has changed.
func (d *Daemon) prepareTunnels(c *config.Config) ([]preparedTunnel, error) {
	have := map[string]*liveTunnel{}
	for _, t := range d.liveTunnels() {
		have[t.name] = t
	}
	var prepared []preparedTunnel
	for _, tc := range c.Tunnels {
		p, err := d.prepareTunnel(c, tc, have[tc.Name])
		if err != nil {
			abort(prepared)
			return nil, adviseListen(fmt.Errorf("open tunnel %q: %w", tc.Name, err))
		}
		prepared = append(prepared, p)
	}
	return prepared, nil
}

func abort(prepared []preparedTunnel) {
	for _, p := range prepared {
		p.pending.Abort()
	}
}

func (d *Daemon) prepareTunnel(c *config.Config, tc config.Tunnel, old *liveTunnel) (preparedTunnel, error) {
	if _, err := endpointConfig(tc); err != nil {
		return preparedTunnel{}, err
	}
	live := &liveTunnel{name: tc.Name, config: tc, tally: newTally()}
	p := preparedTunnel{live: live, fresh: true}
	if old == nil {
		live.tunnel = tunnel.New(context.Background(), tc.Name, d.gate, d.observer(tc.Name, live.tally))
	} else {
		live.tunnel, live.tally = old.tunnel, old.tally
	}
	if slot := d.keeper.Slot(tc.Slot); old != nil && slot != nil && sameEndpoint(old.config, tc) && old.binding.slot() == slot {
		live.binding, p.fresh = old.binding, false
	} else {
		live.binding = &binding{}
	}
	settings, err := d.tunnelConfig(tc, live.binding, c.Limits)
	if err != nil {
		return preparedTunnel{}, err
	}
	pending, err := live.tunnel.Prepare(settings)
	if err != nil {
		return preparedTunnel{}, err
	}
	p.pending = pending
	return p, nil
}

// commitTunnels puts prepared tunnels in force and lets those that are gone end.
// d.opening is held.
func (d *Daemon) commitTunnels(prepared []preparedTunnel) {
	keep := map[*tunnel.Tunnel]bool{}
	next, byName := make([]*liveTunnel, 0, len(prepared)), make(map[string]*liveTunnel, len(prepared))
	for _, p := range prepared {
		if p.fresh {
			d.bind(p.live)
		}
		p.pending.Commit()
		keep[p.live.tunnel] = true
		next = append(next, p.live)
		byName[p.live.name] = p.live
	}
	d.mu.Lock()
	old := d.tunnels
	d.tunnels, d.byName = next, byName
	patience := d.config.Limits.Drain
	d.mu.Unlock()
	d.setReadinessLocked()
	for _, t := range old {
		d.retire(t, next, !keep[t.tunnel], patience)
	}
}

// bind makes the endpoint of a tunnel, now that its slot exists.
func (d *Daemon) bind(t *liveTunnel) {
	c, err := endpointConfig(t.config)
	slot := d.keeper.Slot(t.config.Slot)
	if err == nil && slot == nil {
		err = fmt.Errorf("there is no slot %q", t.config.Slot) // Apply was not given the time to make it
	}
	if err == nil {
		var e *rotate.Endpoint
		if e, err = slot.Endpoint(c); err == nil {
			t.binding.endpoint.Store(e)
			return
		}
	}
	// The configuration was checked for all that Endpoint refuses; without an
	// endpoint the tunnel refuses every connection.
	d.record1("tunnel_unbound", slog.LevelError, "tunnel cannot use its slot", slog.String("tunnel", t.name), slog.String("error", err.Error()))
}

// retire ends what a reload replaced: an endpoint once the handshakes that began
// with it are over, and a tunnel that is gone once it has drained.
func (d *Daemon) retire(t *liveTunnel, next []*liveTunnel, gone bool, patience time.Duration) {
	for _, n := range next {
		if n.binding == t.binding {
			return
		}
	}
	if gone {
		d.mu.Lock()
		d.removed = append(d.removed, t)
		d.mu.Unlock()
		go func() {
			d.drain(context.Background(), []*liveTunnel{t}, patience)
			t.binding.close()
			d.forgetTunnel(t)
		}()
		return
	}
	time.AfterFunc(2*t.config.Timeouts.Handshake, t.binding.close)
}

// forgetTunnel ends what is left of a tunnel that has drained. Its series stay if
// another reload has brought a tunnel of its name.
func (d *Daemon) forgetTunnel(t *liveTunnel) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.removed = slices.DeleteFunc(slices.Clone(d.removed), func(r *liveTunnel) bool { return r == t })
	if !slices.ContainsFunc(d.tunnels, func(l *liveTunnel) bool { return l.name == t.name }) {
		d.metrics.forgetTunnel(t.name)
	}
}

// refreshMaterial has every source read again and names those that were not taken.
func (d *Daemon) refreshMaterial(ctx context.Context) []string {
	bounded, cancel := context.WithTimeout(ctx, stageTimeout)
	defer cancel()
	var refused []string
	if err := d.keeper.Refresh(bounded); err != nil {
		refused = append(refused, fmt.Sprintf("some files could not be read in time: %v", err))
	}
	for _, e := range d.keeper.Environments() {
		if r := e.Status().Refusal; r != nil {
			refused = append(refused, fmt.Sprintf("environment %s: %v%s", e.Name(), r, ruleWay(r)))
		}
	}
	for _, s := range d.keeper.Slots() {
		st := s.Status()
		if r := st.Refusal; r != nil && !(st.Offered && manage.WaitsFor(r)) { // an answer that waits is no fault of the reload
			refused = append(refused, fmt.Sprintf("slot %s: %v%s", s.Name(), r, ruleWay(r)))
		}
	}
	return refused
}

func (d *Daemon) settleReload(err error) {
	d.metrics.reloaded.Set(bit(err == nil))
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil && d.lastErr == nil {
		d.since = time.Now()
	}
	d.lastErr = err
}

func (d *Daemon) recordReload(who actor, text string, refused bool, err error) {
	reason, level := "", slog.LevelInfo
	if refused {
		level = slog.LevelWarn
	}
	attrs := []slog.Attr{slog.Int("uid", who.UID), slog.String("via", who.Via)}
	if err != nil {
		reason, level = admin.CodeConfiguration, slog.LevelError
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	d.record1("reload", level, text, attrs...)
	d.keepAudit(auditLine{Time: time.Now(), Event: "reload", Reason: reason, Actor: who})
}

func (d *Daemon) forgetSeries(old, next *config.Config) {
	for _, s := range old.Slots {
		if _, ok := next.Slot(s.Name); !ok {
			d.metrics.forgetSlot(s.Name)
		}
	}
	for _, e := range old.Environments {
		if _, ok := next.Environment(e.Name); !ok {
			d.metrics.forgetEnvironment(e.Name)
		}
	}
	for _, s := range old.Services {
		d.forgetService(s.Name)
	}
}

// reloadError turns what kept a reload from happening into an answer.
func reloadError(err error) error {
	e := &admin.Error{Code: admin.CodeConfiguration, Message: "configuration not taken; the last one stays in force", Hint: pki.Hint(err)}
	var problems config.Problems
	if !errors.As(err, &problems) {
		e.Problems = []string{err.Error()}
		return e
	}
	for _, p := range problems {
		line := p.Error()
		if p.Hint != "" {
			line += " (" + p.Hint + ")"
		}
		e.Problems = append(e.Problems, line)
	}
	return e
}

func monotonicMicroseconds() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		return 0
	}
	return ts.Nano() / 1000
}
