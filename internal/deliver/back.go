package deliver

import (
	"errors"
	"time"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/deliver/failure"
	"github.com/spinecert/spinecert/internal/deliver/haproxy"
	"github.com/spinecert/spinecert/pki"
)

// blameless are failures of a reload that never came to the service: they are tried
// again, as the set is not what is wrong.
func blameless(err error) bool {
	switch failure.ReasonOf(err, "") {
	case failure.BusAway, failure.NotPermitted, failure.UnitMissing, failure.SocketAway, failure.CommandUnusable:
		return true
	}
	return false
}

// undo decides what becomes of a set that failed.
func (s *service) undo(t *turn, m *made, step string, err error, up bool) (time.Duration, error) {
	if t.ctx.Err() != nil { // the daemon stops; the next start goes on
		return 0, t.ctx.Err()
	}
	old := s.record.Proved
	switch {
	case t.c.KeepBad:
		s.hold(t, m, step, err)
		_ = s.save()
		s.show(t, Status{State: Failed, Step: step, Reason: failure.ReasonOf(err, failure.ProbeFailed), Error: oneLine(err), Hint: pki.Hint(err), KeptBad: true})
		s.tellFailure(t, EventFailed, step, err)
		return s.poll(), err
	case old == nil || old.Digest == m.Digest: // there is nothing to go back to
		return s.fail(t, step, err)
	case !up && step != StepValidate: // it did not run before, either
		return s.fail(t, step, failure.New(failure.ReasonOf(err, failure.Unreachable), startIt(t.c.Reload), "%w", err))
	}
	if !blameless(err) && !t.beside {
		s.hold(t, m, step, err)
	}
	s.record.Undo = true
	_ = s.save() // kept later; until then a crash tries the new set once more
	s.tellFailure(t, EventFailed, step, err)
	return s.goBack(t, &stepError{step, err})
}

// startIt is the next action for a service that does not run.
func startIt(r config.Reload) string {
	hint := "it did not answer before, either: start it"
	if r.Unit != "" {
		hint += " (systemctl start " + r.Unit + ")"
	}
	return hint + ", the new files are in place for it; then it is proved by itself"
}

// stepError is a failure and where it happened.
type stepError struct {
	step string
	err  error
}

func (s *service) hold(t *turn, m *made, step string, err error) {
	h := &held{Digest: t.d.digest, Set: m.Set, Generation: t.d.generation.Number, Step: step, Reason: failure.ReasonOf(err, failure.ReloadFailed),
		Message: oneLine(err), Hint: pki.Hint(err), Since: t.now.UTC()}
	if p := s.record.Proved; p != nil && p.Identity != t.d.identity {
		h.Identity, h.Recipe = t.d.identity, t.d.recipe
	}
	s.record.Held = h
}

// holds reports whether something is not tried again by itself: the set that failed, or
// any other with the identity that it had. Trust and CRLs are another stream: they do
// not wait for an identity, see beside.
func (r *record) holds(d desired) bool {
	h := r.Held
	return h != nil && (h.Digest == d.digest || h.Identity != "" && h.Identity == d.identity && h.Recipe == d.recipe)
}

// goBack puts what was proved last in place, and sees that it is served. Cause is nil
// where that goes on after it failed, or after a start.
func (s *service) goBack(t *turn, cause *stepError) (time.Duration, error) {
	began := time.Now()
	old := s.record.Proved
	err := t.target.Intact(old.Set, old.Files)
	if err == nil {
		err = t.target.Switch(old.Set)
	}
	var told error // what the service says to being told of the old set
	if err == nil && (cause == nil || cause.step != StepValidate) {
		told = s.reloadOld(t, old)
	}
	if t.ctx.Err() != nil {
		return 0, t.ctx.Err()
	}
	if err == nil {
		s.placed = old.Set
		err = s.prove(t, old)
	}
	if err == nil && !s.untouched(cause) && !s.seenWhole(t, old) {
		err = told
	}
	if t.ctx.Err() != nil {
		return 0, t.ctx.Err()
	}
	if err != nil {
		wait := s.retry.failed("undo")
		st := Status{State: Failed, Step: StepUndo, Reason: failure.ReasonOf(err, failure.ReloadFailed), Error: oneLine(err), Hint: pki.Hint(err), Retry: s.retry.at}
		if cause != nil {
			st.Error = oneLine(cause.err) + "; and the way back to what was proved before failed: " + st.Error
		}
		s.show(t, st)
		s.tellFailure(t, EventStuck, StepUndo, err)
		return wait, err
	}
	s.record.Attempt, s.record.Undo = nil, false
	if err := s.save(); err == nil {
		s.tidy = t.target.Prune(s.record.sets()...) == nil
	}
	h := s.record.Held
	if h != nil || cause == nil || s.toldBack != t.goal { // what is tried again and again is told once
		s.tell(t, Event{Kind: EventRolledBack, To: old.version(), Took: time.Since(began)})
		s.toldBack = t.goal
	}
	switch {
	case h != nil && (cause == nil || !t.beside):
		s.retry = retry{}
		s.showHeld(t)
		return s.poll(), failure.New(h.Reason, h.Hint, "%s", h.Message)
	case cause == nil: // and once more
		return time.Millisecond, failure.New(failure.Waiting, "spinecert services "+s.name+" says how it goes on", "service %s is back on what was proved, and is tried again", s.name)
	}
	return s.fail(t, cause.step, cause.err)
}

// untouched reports whether the service has read nothing of the set that failed: it was
// not told, or said no. It may say no to the way back as well, and serves the old one.
func (s *service) untouched(cause *stepError) bool {
	h := s.record.Held
	if cause == nil {
		return h == nil || h.Step == StepReload && h.Reason == failure.ReloadFailed
	}
	return blameless(cause.err) && cause.step != StepProve ||
		cause.step == StepReload && failure.ReasonOf(cause.err, "") == failure.ReloadFailed && !errors.Is(cause.err, haproxy.ErrPartly)
}

// seenWhole reports whether a handshake shows all in which the set that failed and the
// one before differ, so that what a service says to being told does not matter.
func (s *service) seenWhole(t *turn, old *made) bool {
	a := s.record.Attempt
	return len(t.c.Probes) > 0 && len(old.Chain) > 0 && a != nil && a.Beside == old.Beside && a.Leaf != old.Leaf
}
