package systemd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spinecert/spinecert/internal/deliver/failure"
)

// Hook runs step ("validate", "reload" or "probe") of a service in the unit
// spinecert-hook@SERVICE:STEP.service, outside the daemon's sandbox, and waits for
// its end. When ctx ends first the unit is stopped. The error is a *failure.Error: validate_failed, reload_failed or probe_failed as the
// step is, with what the unit said last; timeout, interrupted, unit_missing, not_permitted, bus_away.
func (m *Manager) Hook(ctx context.Context, service, step string) error {
	failed := Failed(step)
	// restart: what is left of a run that nobody waits for any more, as after a crash of the daemon, is ended first. start would wait for
	// that one, which may have seen other files.
	w := work{unit: "spinecert-hook@" + service + ":" + step + ".service", verb: "restart"}
	if failed == "" {
		return failure.New(failure.ReloadFailed, "use validate, reload or probe", "%s: there is no such step", w)
	}
	b, err := m.connect(ctx)
	if err != nil {
		return w.hookError(err, failed)
	}
	result, err := b.wait(ctx, "RestartUnit", w.unit)
	switch {
	case err == nil && result == "done":
		return nil
	case err == nil:
		return w.outcome(ctx, b, result, failed)
	case ctx.Err() != nil:
		b.after(ctx, b.object(systemdPath), managerInterface+".StopUnit", w.unit, "replace")
	}
	return w.hookError(w.refused(ctx, b, w.explain(err)), failed)
}

// hookError is explain for a hook, whose unit is part of this program.
func (w work) hookError(err error, failed string) error {
	e := new(failure.Error)
	if !errors.As(w.explain(err), &e) {
		return err
	}
	switch e.Reason {
	case failure.UnitMissing:
		e.Advice = "install spinecert-hook@.service and say systemctl daemon-reload; systemctl status " + w.unit
	case failure.ReloadFailed:
		e.Reason = failed
	}
	return e
}

// outcome makes an error of a hook that failed.
func (w work) outcome(ctx context.Context, b *bus, result, failed string) error {
	ctx, cancel := context.WithTimeout(ctx, question)
	defer cancel()
	reason, text := failed, fmt.Sprintf("systemd says %q", result)
	path, err := b.unit(ctx, "LoadUnit", w.unit)
	if err != nil {
		return failure.New(reason, w.commands(), "run %q: %s", w.unit, text)
	}
	unitResult, _ := property[string](ctx, b, path, serviceInterface, "Result")
	status, _ := property[int32](ctx, b, path, serviceInterface, "ExecMainStatus")
	said, _ := property[string](ctx, b, path, serviceInterface, "StatusText")
	switch unitResult {
	case "exit-code":
		text = fmt.Sprintf("exit status %d", status)
	case "signal", "core-dump":
		text = fmt.Sprintf("ended by signal %d", status)
	case "timeout":
		reason, text = failure.Timeout, "no end within TimeoutStartSec of the unit"
	case "", "success": // nothing to add
	default:
		text = "systemd says " + unitResult
	}
	if word, rest, ok := strings.Cut(said, ": "); ok && slices.Contains(hookReasons(), word) {
		if word != failed && unitResult == "exit-code" {
			reason = word
		}
		said = rest
	}
	if said != "" {
		text += ": " + said
	}
	return failure.New(reason, w.commands(), "run %q: %s", w.unit, text)
}

// hookReasons are those with which the status text of a hook may begin: the end of Status.
func hookReasons() []string {
	return []string{failure.ValidateFailed, failure.ReloadFailed, failure.ProbeFailed, failure.Timeout, failure.NotPermitted, failure.Interrupted}
}

// HookStatus returns what the program of a hook unit gives systemd as its status text, so that Hook can tell the reason
// and the cause of err from it.
func HookStatus(step string, err error) string {
	text := strings.Join(strings.Fields(err.Error()), " ") // one line
	return "STATUS=" + failure.ReasonOf(err, Failed(step)) + ": " + text
}

// Failed returns the reason for a step that said no; "" if there is no such step.
func Failed(step string) string {
	return map[string]string{"validate": failure.ValidateFailed, "reload": failure.ReloadFailed, "probe": failure.ProbeFailed}[step]
}
