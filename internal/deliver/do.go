package deliver

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/deliver/failure"
	"github.com/spinecert/spinecert/internal/deliver/haproxy"
	"github.com/spinecert/spinecert/pki"
)

// deliver brings the service to what it should be at. Fresh writes a set although one
// is there.
func (s *service) deliver(t *turn, fresh bool) (time.Duration, error) {
	began := time.Now()
	s.show(t, Status{State: Delivering})
	again := !fresh && s.record.Attempt != nil && s.record.Attempt.Digest == t.d.digest
	answers := s.answers(t)
	m, err := s.attempt(t, fresh)
	up := answers() // before anything changes
	if err != nil {
		return s.failUnlessOver(t, StepDeliver, err)
	}
	if err := t.target.Switch(m.Set); err != nil {
		return s.failUnlessOver(t, StepDeliver, err)
	}
	s.show(t, Status{State: Delivering}) // with what is in the directory now
	if again && up && s.proves(t, m) {   // it was down, or we were, and it has read them by itself
		return s.succeed(t, m, began)
	}
	step, err := s.apply(t, m)
	if err == nil {
		return s.succeed(t, m, began)
	}
	return s.undo(t, m, step, err, up)
}

// attempt makes the set, or takes the one that an attempt that was cut short has made,
// and records it before anything goes through it.
func (s *service) attempt(t *turn, fresh bool) (*made, error) {
	if a := s.record.Attempt; !fresh && a != nil && a.Digest == t.d.digest && t.target.Intact(a.Set, a.Files) == nil {
		return a, nil
	}
	files, err := s.manager.compose(t.c, t.d, t.now)
	if err != nil {
		return nil, err
	}
	name, entries, err := t.target.Write(files, t.now)
	if err != nil {
		return nil, err
	}
	m := &made{Digest: t.d.digest, Rest: t.d.rest, Generation: t.d.generation.Number, Leaf: pki.Fingerprint(t.d.generation.Identity.Leaf()),
		Ends: t.d.ends, NotAfter: t.d.generation.NotAfter, Directory: t.c.Directory, Set: name, Files: entries, Formats: map[string]string{}, Delivered: t.now.UTC()}
	for _, c := range shown(t.c, t.d) {
		m.Chain = append(m.Chain, c.Raw)
	}
	for _, f := range t.c.Files {
		m.Formats[f.Name] = f.Format
	}
	was := s.record
	s.record.Attempt, s.record.Undo = m, false
	if h := s.record.Held; h != nil && (h.Digest != t.d.digest || t.forced()) {
		s.record.Held = nil
	}
	if err := s.save(); err != nil {
		s.record, s.unsaved = was, false
		return nil, errors.Join(err, t.target.Prune(was.sets()...))
	}
	return m, nil
}

// sets are the sets that a record speaks of.
func (r record) sets() []string {
	var out []string
	for _, m := range []*made{r.Proved, r.Attempt} {
		if m != nil {
			out = append(out, m.Set)
		}
	}
	return out
}

// apply has the service read a set, and sees that it did.
func (s *service) apply(t *turn, m *made) (step string, err error) {
	if err := s.validate(t); err != nil {
		return StepValidate, err
	}
	if err := s.reload(t, m); err != nil {
		return StepReload, err
	}
	return StepProve, s.prove(t, m)
}

// succeed records that a set is served.
func (s *service) succeed(t *turn, m *made, began time.Time) (time.Duration, error) {
	proved := *m
	proved.Proved = time.Now().UTC()
	from := s.record.Proved.version()
	s.record = record{Schema: recordSchema, Proved: &proved}
	s.retry, s.told, s.toldBack, s.lists = retry{}, "", "", listWait{}
	s.lookAt, s.seen = t.now.Add(s.lookEvery()), nil
	s.tell(t, Event{Kind: EventDelivered, From: from, To: proved.version(), Took: time.Since(began)})
	if err := s.save(); err != nil {
		return s.fail(t, StepDeliver, err) // of the set before nothing is removed until it is kept
	}
	s.tidy = t.target.Prune(proved.Set) == nil
	s.inSync(t)
	return s.poll(), nil
}

// inSync says that the service is where it should be.
func (s *service) inSync(t *turn) {
	memory := t.d.memory
	s.synced.Store(&memory)
	s.show(t, Status{State: InSync})
	s.manager.wake(func(c *config.Service) bool { return slices.Contains(c.After, s.name) })
}

// blameless are failures of a reload that never came to the service: they are tried
// again, as the set is not what is wrong.
func blameless(err error) bool {
	switch failure.ReasonOf(err, "") {
	case failure.BusAway, failure.NotPermitted, failure.UnitMissing, failure.SocketAway:
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
		s.hold(t, step, err)
		_ = s.save()
		s.show(t, Status{State: Failed, Step: step, Reason: failure.ReasonOf(err, failure.ProbeFailed), Error: oneLine(err), Hint: pki.Hint(err), KeptBad: true})
		s.tellFailure(t, EventFailed, step, err)
		return s.poll(), err
	case old == nil || old.Digest == m.Digest: // there is nothing to go back to
		return s.fail(t, step, err)
	case !up && step != StepValidate: // it did not run before, either
		return s.fail(t, step, err)
	}
	if !blameless(err) {
		s.hold(t, step, err)
	}
	s.record.Undo = true
	_ = s.save() // kept later; until then a crash tries the new set once more
	s.tellFailure(t, EventFailed, step, err)
	return s.goBack(t, &stepError{step, err})
}

// stepError is a failure and where it happened.
type stepError struct {
	step string
	err  error
}

func (s *service) hold(t *turn, step string, err error) {
	s.record.Held = &held{Digest: t.d.digest, Generation: t.d.generation.Number, Step: step, Reason: failure.ReasonOf(err, failure.ReloadFailed),
		Message: oneLine(err), Hint: pki.Hint(err), Since: t.now.UTC()}
}

// goBack puts what was proved last in place, and sees that it is served. Cause is nil
// where that goes on after it failed, or after a start.
func (s *service) goBack(t *turn, cause *stepError) (time.Duration, error) {
	began := time.Now()
	old := s.record.Proved
	err := t.target.Switch(old.Set)
	if err == nil {
		err = t.target.Check(old.Set, old.Files, true)
	}
	if err == nil && (cause == nil || cause.step != StepValidate) {
		err = s.reloadOld(t, old)
	}
	if t.ctx.Err() != nil {
		return 0, t.ctx.Err()
	}
	if proof := s.prove(t, old); proof == nil && err != nil && (blameless(err) || s.refused(cause)) {
		err = nil // it never left the old one
	} else if err == nil {
		err = proof
	}
	if t.ctx.Err() != nil {
		return 0, t.ctx.Err()
	}
	if err != nil {
		wait := s.retry.failed("undo")
		st := Status{State: Failed, Step: StepUndo, Reason: failure.ReasonOf(err, failure.ReloadFailed), Error: oneLine(err), Hint: pki.Hint(err), Retry: s.retry.at}
		if cause != nil {
			st.Error = oneLine(cause.err) + "; and what was proved before could not be put back in service: " + st.Error
		}
		s.show(t, st)
		s.tellFailure(t, EventStuck, StepUndo, err)
		return wait, err
	}
	s.record.Attempt, s.record.Undo = nil, false
	if err := s.save(); err == nil {
		s.tidy = t.target.Prune(old.Set) == nil
	}
	h := s.record.Held
	if h != nil || cause == nil || s.toldBack != t.d.digest { // what is tried again and again is told once
		s.tell(t, Event{Kind: EventRolledBack, To: old.version(), Took: time.Since(began)})
		s.toldBack = t.d.digest
	}
	if h != nil {
		s.retry = retry{}
		s.showHeld(t)
		return s.poll(), failure.New(h.Reason, h.Hint, "%s", h.Message)
	}
	if cause == nil {
		return time.Millisecond, nil // and once more
	}
	return s.fail(t, cause.step, cause.err)
}

// refused reports whether the service said no when it was told of what is held, and so
// has read nothing of it. It then says no to the way back as well.
func (s *service) refused(cause *stepError) bool {
	h := s.record.Held
	return h != nil && h.Step == StepReload && h.Reason == failure.ReloadFailed && (cause == nil || !errors.Is(cause.err, haproxy.ErrPartly))
}

func (s *service) failUnlessOver(t *turn, step string, err error) (time.Duration, error) {
	if t.ctx.Err() != nil {
		return 0, t.ctx.Err()
	}
	return s.fail(t, step, err)
}

// oneLine is an error in one line: of several causes each is one of its own.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
