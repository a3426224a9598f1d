package systemd

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/spinecert/spinecert/internal/deliver/failure"
)

// lastCall bounds what is still asked of systemd when the time is over.
const lastCall = 2 * time.Second

// question bounds what is asked about a unit that failed: the failure is told with or without the answer.
const question = 5 * time.Second

// Job has systemd do reload, restart, try-restart or start with a unit, and waits for
// the result of the job. When ctx ends first the job goes on, as it may be somebody else's too. The error is a *failure.Error: unit_missing,
// unit_inactive, not_permitted, bus_away (also where systemd does not answer the request before ctx ends), timeout (of a job that there is), interrupted, reload_failed.
func (m *Manager) Job(ctx context.Context, unit, action string) error {
	w := work{unit: unit, verb: action}
	method, known := map[string]string{"reload": "ReloadUnit", "restart": "RestartUnit", "try-restart": "TryRestartUnit", "start": "StartUnit"}[action]
	if !known {
		return failure.New(failure.ReloadFailed, "use reload, restart, try-restart or start", "%s: there is no such action", w)
	}
	b, err := m.connect(ctx)
	if err != nil {
		return w.explain(err)
	}
	if err := w.notOurselves(ctx, b); err != nil {
		return err
	}
	result, err := b.wait(ctx, method, unit)
	if err != nil {
		return w.refused(ctx, b, w.explain(err))
	}
	return w.judge(ctx, b, result)
}

// notOurselves refuses the unit of this process, under whatever name: the configuration knows its own, and not those that systemd has links for.
func (w work) notOurselves(ctx context.Context, b *bus) error {
	if b.own == "" {
		return nil
	}
	path, err := b.unit(ctx, "LoadUnit", w.unit)
	switch {
	case err == nil && path == b.own:
		return failure.New(failure.NotPermitted, "name the unit of the service: systemctl show -p Id "+w.unit, "%s: it is the unit of the daemon itself", w)
	case err == nil:
		return nil
	}
	return w.explain(err)
}

// refused looks whether there is such a unit: polkit is asked first, and knows nothing of one whose name is wrong.
func (w work) refused(ctx context.Context, b *bus, err error) error {
	if failure.ReasonOf(err, "") != failure.NotPermitted {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, question)
	defer cancel()
	path, lookErr := b.unit(ctx, "LoadUnit", w.unit)
	if lookErr != nil {
		return err
	}
	if loaded, lookErr := property[string](ctx, b, path, unitInterface, "LoadState"); lookErr == nil && loaded == "not-found" {
		return w.missing(fmt.Errorf("systemd says %q", loaded))
	}
	return err
}

// Active reports whether a unit is active (also while it reloads). The error is a *failure.Error: unit_missing, bus_away, timeout, interrupted, reload_failed.
func (m *Manager) Active(ctx context.Context, unit string) (bool, error) {
	w := work{unit: unit, verb: "look at"}
	b, err := m.connect(ctx)
	if err != nil {
		return false, w.explain(err)
	}
	path, err := b.unit(ctx, "LoadUnit", unit)
	if err != nil {
		return false, w.explain(err)
	}
	active, err := property[string](ctx, b, path, unitInterface, "ActiveState")
	if err != nil {
		return false, w.explain(err)
	}
	if active == "active" || active == "reloading" {
		return true, nil // also one whose file was removed meanwhile
	}
	loaded, err := property[string](ctx, b, path, unitInterface, "LoadState")
	switch {
	case err != nil:
		return false, w.explain(err)
	case loaded != "loaded":
		return false, w.missing(fmt.Errorf("systemd says %q", loaded))
	}
	return false, nil
}

// unit returns the object of a unit.
func (b *bus) unit(ctx context.Context, method, unit string) (dbus.ObjectPath, error) {
	var path dbus.ObjectPath
	reply, err := b.call(ctx, b.object(systemdPath), managerInterface+"."+method, unit)
	if err == nil {
		err = dbus.Store(reply, &path)
	}
	return path, err
}

// judge makes an error of the result of a job (org.freedesktop.systemd1(5), JobRemoved).
func (w work) judge(ctx context.Context, b *bus, result string) error {
	if result == "done" {
		return nil
	}
	if result == "invalid" { // a reload of what does not run
		return failure.New(failure.UnitInactive, w.commands()+"; systemctl start "+w.unit, "%s: the unit does not run", w)
	}
	ctx, cancel := context.WithTimeout(ctx, question)
	defer cancel()
	detail, outcome := w.detail(ctx, b)
	switch {
	case result == "timeout" || result == "failed" && outcome == "timeout":
		return failure.New(failure.Timeout, w.commands(), "%s: systemd gave up waiting for it%s", w, detail)
	case result == "failed" && outcome == startLimit:
		return failure.New(failure.UnitInactive, fmt.Sprintf("systemctl reset-failed %s, and start it; have StartLimitIntervalSec= of the unit allow as many starts as there are, or use action: reload", w.unit),
			"%s: it was started too often within StartLimitIntervalSec, and systemd does not start it any more%s", w, detail)
	}
	return failure.New(failure.ReloadFailed, w.commands(), "%s: systemd says %q%s", w, result, detail)
}

// startLimit is the result of a unit that was started too often.
const startLimit = "start-limit-hit"

// detail returns what systemd knows of a unit whose job failed, and its result in systemd's word.
func (w work) detail(ctx context.Context, b *bus) (text, outcome string) {
	path, err := b.unit(ctx, "LoadUnit", w.unit)
	if err != nil {
		return "", ""
	}
	ask := func(of, name string) string {
		value, _ := property[string](ctx, b, path, of, name)
		return value
	}
	var parts []string
	if active, sub := ask(unitInterface, "ActiveState"), ask(unitInterface, "SubState"); active != "" {
		parts = append(parts, fmt.Sprintf("the unit is %s (%s)", active, sub))
	}
	which := "Result"
	if w.verb == "reload" {
		which = "ReloadResult"
	}
	outcome = ask(serviceInterface, which)
	if outcome != "" && outcome != "success" {
		parts = append(parts, "the result of the "+w.verb+" is "+outcome)
	}
	if len(parts) == 0 {
		return "", outcome
	}
	return "; " + strings.Join(parts, ", "), outcome
}
