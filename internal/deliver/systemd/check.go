package systemd

import (
	"context"
	"errors"

	"github.com/spinecert/spinecert/internal/deliver/failure"
)

// Check runs a unit that says whether what is in place would be taken, such as a oneshot with
// nginx -t, and waits for its end. It runs anew each time, which a start does not: that joins one under way, which may have seen other files,
// and does nothing where the unit has RemainAfterExit. So it is restarted, and each
// unit has one Check at a time. When ctx ends first the unit is stopped. The error is a
// *failure.Error: validate_failed when it said no; command_unusable when it could not be run, or another Check of it had the time; timeout,
// interrupted, unit_missing, not_permitted, bus_away.
func (m *Manager) Check(ctx context.Context, unit string) error {
	w := work{unit: unit, verb: "restart"}
	leave, err := m.alone(ctx, w)
	if err != nil {
		return err
	}
	defer leave()
	b, err := m.connect(ctx)
	if err != nil {
		return w.explain(err)
	}
	if err := w.notOurselves(ctx, b); err != nil {
		return err
	}
	result, err := b.wait(ctx, "RestartUnit", unit)
	if err != nil {
		if ctx.Err() != nil {
			b.stop(ctx, unit)
		}
		return asVerdict(w.refused(ctx, b, w.explain(err)), failure.CommandUnusable)
	}
	err = w.judge(ctx, b, result)
	if err != nil && (result != "failed" || w.notRun(ctx, b)) {
		return asVerdict(err, failure.CommandUnusable)
	}
	return asVerdict(err, failure.ValidateFailed)
}

// alone waits until no other Check has the unit.
func (m *Manager) alone(ctx context.Context, w work) (leave func(), err error) {
	m.mu.Lock()
	place := m.checks[w.unit]
	if place == nil {
		place = make(chan struct{}, 1)
		m.checks[w.unit] = place
	}
	m.mu.Unlock()
	leave = func() { <-place }
	select {
	case place <- struct{}{}:
		return leave, nil
	default:
	}
	select {
	case place <- struct{}{}:
		return leave, nil
	case <-ctx.Done():
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil, w.explain(ctx.Err())
	}
	return nil, failure.New(failure.CommandUnusable, "give each service a unit of its own, or validate a longer timeout", "%s: another service had it run all the time", w)
}

// asVerdict gives an error of a job that is no matter of systemd, of polkit or of time the reason of a step.
func asVerdict(err error, reason string) error {
	f := new(failure.Error)
	if !errors.As(err, &f) || f.Reason != failure.ReloadFailed && f.Reason != failure.UnitInactive {
		return err
	}
	if f.Reason == failure.UnitInactive { // started too often
		reason = failure.CommandUnusable
	}
	return &failure.Error{Reason: reason, Advice: f.Advice, Err: f.Err}
}

// notRun reports whether systemd could not run what the unit names.
func (w work) notRun(ctx context.Context, b *bus) bool {
	ctx, cancel := context.WithTimeout(ctx, question)
	defer cancel()
	path, err := b.unit(ctx, "LoadUnit", w.unit)
	if err != nil {
		return false
	}
	result, _ := property[string](ctx, b, path, serviceInterface, "Result")
	status, _ := property[int32](ctx, b, path, serviceInterface, "ExecMainStatus")
	return result == "resources" || result == "exit-code" && ofSystemd(status)
}

// ofSystemd reports whether an exit status is one with which systemd says why it could not run a program (systemd.exec(5), "Process Exit Codes").
func ofSystemd(status int32) bool { return status >= 200 && status <= 245 }
