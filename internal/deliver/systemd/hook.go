package systemd

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"

	"github.com/spinecert/spinecert/internal/deliver/failure"
)

// hookNo is the exit status of a hook whose command said no; with any other one the command did not.
const hookNo = 3

// Hook runs step ("validate", "reload" or "probe") of a service in the unit
// spinecert-hook@SERVICE:STEP.service, outside the daemon's sandbox, and waits for
// its end. When ctx ends first the unit is stopped. The error is a *failure.Error: validate_failed, reload_failed or probe_failed, as the
// step is, when its command ran and said no; command_unusable when it did not come to that; timeout, interrupted, unit_missing, not_permitted,
// bus_away. What the command printed is in the journal of the unit alone.
func (m *Manager) Hook(ctx context.Context, service, step string) error {
	// restart: what is left of a run that nobody waits for any more, as after a crash of the daemon, is ended first. start would wait for
	// that one, which may have seen other files.
	w := work{unit: "spinecert-hook@" + service + ":" + step + ".service", verb: "restart"}
	failed := Failed(step)
	if failed == "" {
		return failure.New(failure.CommandUnusable, "use validate, reload or probe", "%s: there is no such step", w)
	}
	b, err := m.connect(ctx)
	if err != nil {
		return w.hookError(err)
	}
	result, err := b.wait(ctx, "RestartUnit", w.unit)
	switch {
	case err == nil && result == "done":
		return nil
	case err == nil:
		return w.outcome(ctx, b, result, failed, "; spinecert hook "+service+" "+step)
	case ctx.Err() != nil:
		b.stop(ctx, w.unit)
	}
	return w.hookError(w.refused(ctx, b, w.explain(err)))
}

// hookError is explain for a hook, whose unit is part of this program.
func (w work) hookError(err error) error {
	e := new(failure.Error)
	if !errors.As(w.explain(err), &e) {
		return err
	}
	switch e.Reason {
	case failure.UnitMissing:
		e.Advice = "install spinecert-hook@.service and say systemctl daemon-reload; systemctl status " + w.unit
	case failure.ReloadFailed:
		e.Reason = failure.CommandUnusable
	}
	return e
}

// outcome makes an error of a hook that failed. It is the set's fault only where the hook says so.
func (w work) outcome(ctx context.Context, b *bus, result, failed, again string) error {
	ctx, cancel := context.WithTimeout(ctx, question)
	defer cancel()
	reason, text := failure.CommandUnusable, fmt.Sprintf("systemd says %q", result)
	path, err := b.unit(ctx, "LoadUnit", w.unit)
	if err != nil {
		return failure.New(reason, w.commands(), "run %q: %s", w.unit, text)
	}
	unitResult, _ := property[string](ctx, b, path, serviceInterface, "Result")
	status, _ := property[int32](ctx, b, path, serviceInterface, "ExecMainStatus")
	said, _ := property[string](ctx, b, path, serviceInterface, "StatusText")
	switch unitResult {
	case "exit-code":
		reason, text = verdict(status, said, failed)
	case "signal", "core-dump":
		text = fmt.Sprintf("ended by signal %d", status)
	case "timeout":
		reason, text = failure.Timeout, "no end within TimeoutStartSec of the unit"
	case "", "success": // nothing to add
	default:
		text = "systemd says " + unitResult
	}
	return failure.New(reason, w.commands()+again, "run %q: %s", w.unit, text)
}

// statusText is what a hook may say: a reason, and how the command ended.
var statusText = regexp.MustCompile(`^([a-z_]+)(?:: (exit status [0-9]+|signal: [a-z0-9 ()]+))?$`)

// verdict tells from exit status and status text of a hook why it failed.
func verdict(status int32, said, failed string) (reason, text string) {
	text = fmt.Sprintf("exit status %d", status)
	if ofSystemd(status) {
		return failure.CommandUnusable, text + ", with which systemd says that it could not run spinecert"
	}
	word, how := "", ""
	if parts := statusText.FindStringSubmatch(said); parts != nil {
		word, how = parts[1], parts[2]
	}
	switch {
	case status == hookNo && word == failed && how != "":
		return failed, "the command said no: " + how
	case status == hookNo && word == failed:
		return failed, "the command said no"
	case status == 1 && word == failure.Timeout:
		return word, text + ": the command had no end within its time"
	case status == 1 && slices.Contains([]string{failure.NotPermitted, failure.Interrupted}, word):
		return word, text + ": " + word
	}
	return failure.CommandUnusable, text + ": the command was not run"
}

// HookStatus returns what the program of a hook unit gives systemd as its status text, so that Hook can tell the reason
// of err from it. Every user of the host can read that: it has the reason and how the command ended, and no word that the command printed.
func HookStatus(err error) string {
	text := "STATUS=" + failure.ReasonOf(err, failure.CommandUnusable)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		text += ": " + strings.ToLower(exit.String())
	}
	return text
}

// Failed returns the reason for a step that said no; "" if there is no such step.
func Failed(step string) string {
	return map[string]string{"validate": failure.ValidateFailed, "reload": failure.ReloadFailed, "probe": failure.ProbeFailed}[step]
}
