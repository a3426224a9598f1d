package deliver

import (
	"context"
	"path/filepath"
	"strings"
	"time"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/deliver/failure"
	"github.com/spinecert/spinecert/internal/deliver/prove"
	"github.com/spinecert/spinecert/internal/format"
)

// watch looks after a service that is where it should be: its files, and now and then
// what it serves.
func (s *service) watch(t *turn) (time.Duration, error) {
	if t.forced() { // whatever it has read, it reads it again
		return s.deliver(t, true)
	}
	if err := s.intact(t); err != nil {
		if failure.ReasonOf(err, "") != failure.Drift {
			return s.fail(t, StepDeliver, err)
		}
		if w := s.waits(t); w.why != "" {
			s.show(t, Status{State: Delivering, Waits: w.why, Window: w.window, Reason: failure.Drift, Error: oneLine(err)})
			return s.next(t, w.until), err
		}
		if wait, later := s.retry.later(t, t.goal); later {
			return wait, s.lastFailure()
		}
		s.tell(t, Event{Kind: EventDrift, Reason: failure.Drift, Err: err})
		return s.deliver(t, true)
	}
	if wait, later := s.retry.later(t, lookWord); later {
		return wait, s.lastFailure()
	}
	if t.order == nil && t.now.Before(s.lookAt) && s.status.Load().State == InSync {
		s.inSyncStill(t)
		return s.poll(), nil
	}
	if err := s.lookAtIt(t, s.record.Proved); err != nil {
		return s.astray(t, err)
	}
	if s.status.Load().State == Failed {
		s.told = ""
		s.tell(t, Event{Kind: EventRecovered, To: s.record.Proved.version()})
	}
	s.retry, s.lookAt = retry{}, t.now.Add(s.lookEvery())
	s.inSync(t)
	return s.poll(), nil
}

// lookWord is what is tried again where a service is only looked at.
const lookWord = "look"

// inSyncStill renews what is shown.
func (s *service) inSyncStill(t *turn) {
	memory := t.d.memory
	if was := s.synced.Swap(&memory); was == nil || *was != memory {
		s.inSync(t)
		return
	}
	s.show(t, Status{State: InSync})
}

// intact returns nil while the files are what was delivered. They are read now and
// then, and looked at in between.
func (s *service) intact(t *turn) error {
	if t.order == nil && t.now.Before(s.readAt) && s.seen.Unchanged() {
		return nil
	}
	var err error
	if s.seen, err = t.target.See(s.record.Proved.Set, s.record.Proved.Files); err != nil {
		return err
	}
	s.readAt = t.now.Add(s.lookEvery())
	if !s.tidy { // what a crash, or a full disk, left behind
		s.tidy = t.target.Prune(s.record.sets()...) == nil
	}
	return nil
}

// lookAtIt sees once whether the service serves a set.
func (s *service) lookAtIt(t *turn, m *made) error {
	return s.each(t, m, func(ctx context.Context, p config.Probe, want prove.Want) (prove.Seen, error) {
		ctx, cancel := context.WithTimeout(ctx, firstLook)
		defer cancel()
		return prove.See(ctx, p, want)
	})
}

// astray is for a service that does not serve any more what it was proved to serve. It
// is told once to read its files again; after that it is only looked at.
func (s *service) astray(t *turn, err error) (time.Duration, error) {
	reason := failure.ReasonOf(err, "")
	first := s.retry.what != lookWord
	if t.ctx.Err() == nil && (reason == failure.WrongCertificate || reason == failure.WrongChain) && (first || t.forced()) {
		s.tellFailure(t, EventFailed, StepProve, err)
		step, again := s.apply(t, s.record.Proved)
		if again != nil {
			return s.failOf(t, step, lookWord, again)
		}
		s.told, s.retry, s.lookAt = "", retry{}, t.now.Add(s.lookEvery())
		s.tell(t, Event{Kind: EventRecovered, To: s.record.Proved.version()})
		s.inSync(t)
		return s.poll(), nil
	}
	return s.failOf(t, StepProve, lookWord, err)
}

// watchHeld looks after a service that is back on what was proved, or that keeps what
// was not.
func (s *service) watchHeld(t *turn) (time.Duration, error) {
	h := s.record.Held
	because := failure.New(h.Reason, h.Hint, "%s", h.Message)
	if a := s.record.Attempt; a != nil { // on_failure: keep
		if s.alone(a) && s.proves(t, a) { // somebody mended it
			return s.succeed(t, a, t.now)
		}
		s.show(t, Status{State: Failed, Step: h.Step, Reason: h.Reason, Error: h.Message, Hint: h.Hint, KeptBad: true})
		return s.poll(), because
	}
	if wait, later := s.retry.later(t, lookWord); later {
		return wait, s.lastFailure()
	}
	if s.record.Proved != nil {
		if err := s.intact(t); err != nil && t.target.Intact(s.record.Proved.Set, s.record.Proved.Files) == nil {
			return s.goBack(t, nil) // only the link was changed
		} else if err != nil {
			// What it was made of is gone: only what the slot has now can be written.
			s.show(t, Status{State: Failed, Step: StepDeliver, Reason: failure.ReasonOf(err, failure.Drift), Error: oneLine(err) + "; what was delivered after it is held: " + h.Message, Hint: "spinecert deliver " + s.name + " --now, once it is mended"})
			s.tellFailure(t, EventFailed, StepDeliver, err)
			return s.poll(), err
		}
		if !t.now.Before(s.lookAt) || t.order != nil || s.status.Load().State == Failed {
			if err := s.lookAtIt(t, s.record.Proved); err != nil && t.ctx.Err() == nil {
				return s.failOf(t, StepProve, lookWord, err)
			}
			s.retry, s.lookAt = retry{}, t.now.Add(s.lookEvery())
		}
	}
	s.showHeld(t)
	return s.poll(), because
}

// alone reports whether the leaf tells a set from the one before: trust and CRLs are
// not seen in a handshake.
func (s *service) alone(a *made) bool {
	p := s.record.Proved
	if len(a.Chain) == 0 || p != nil && p.Leaf == a.Leaf {
		return false
	}
	for _, e := range a.Files {
		// A format of a version that is not known here may be of anything.
		if known, ok := format.Find(a.Formats[e.Name]); (!ok || known.Needs&(format.Trust|format.CRLs) != 0) && !p.has(e) {
			return false
		}
	}
	return true
}

func (s *service) showHeld(t *turn) {
	h := s.record.Held
	hint := h.Hint
	if h.Set != "" {
		hint = strings.TrimPrefix(hint+"; what was refused is in "+filepath.Join(t.c.Directory, h.Set), "; ")
	}
	s.show(t, Status{State: Held, Since: h.Since, Step: h.Step, Reason: h.Reason, Error: h.Message, Hint: hint})
}

// synchronous reports whether the service was seen to serve what its slot has now.
// Nothing is read for it.
func (s *service) synchronous() bool {
	d, err := s.manager.desire(s.config.Load())
	was := s.synced.Load()
	return err == nil && was != nil && *was == d.memory && s.status.Load().State == InSync
}

// listWait is how long new lists have been seen.
type listWait struct {
	digest       string
	first, since time.Time
}

// Lists come one after the other, and each would be a reload of its own.
const (
	listsSettle = 2 * time.Second
	listsAtMost = 30 * time.Second
)

// waiting is what a delivery waits for.
type waiting struct {
	why    string    // "" for nothing
	until  time.Time // when that is over by itself; zero if it is not known
	window bool      // it is a window, be it that of another service
	other  string    // the service that it waits for; "" for none
}

// hint is the next action for whoever does not want to wait.
func (w waiting) hint(name string) string {
	if w.other != "" {
		return "spinecert services " + w.other + " says what is wrong there; without " + w.other + " in after, " + name + " does not wait for it"
	}
	return "spinecert deliver " + name + " --now does not wait"
}

// waits says what a delivery waits for.
func (s *service) waits(t *turn) waiting {
	for _, name := range t.c.After {
		if other := s.manager.find(name); other == nil || !other.synchronous() {
			return waiting{why: "waits for " + name + afterState(other), other: name, window: other != nil && other.status.Load().Window}
		}
	}
	if t.forced() {
		return waiting{}
	}
	if p := s.record.Proved; p != nil && p.CRLs != t.d.crls && (t.beside || p.Identity == t.d.identity) && s.record.Attempt == nil {
		if s.lists.digest != t.d.crls {
			if s.lists.first.IsZero() {
				s.lists.first = t.now
			}
			s.lists.digest, s.lists.since = t.d.crls, t.now
		}
		if end := earlier(s.lists.since.Add(listsSettle), s.lists.first.Add(listsAtMost)); t.now.Before(end) {
			return waiting{why: "waits for more CRLs to come", until: end}
		}
	}
	return s.waitsForWindow(t)
}

func afterState(other *service) string {
	if other == nil {
		return ", which is not configured"
	}
	if st := other.status.Load(); st.State != InSync {
		return ", which is " + string(st.State)
	}
	return ""
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// beforeEnd is how long before the end of what a service serves a window is not waited for.
const beforeEnd = time.Hour

// waitsForWindow: a window counts while there is time to wait for it.
func (s *service) waitsForWindow(t *turn) waiting {
	w, p := t.c.Reload.Window, s.record.Proved
	if w == nil || p == nil || w.Contains(t.now) {
		return waiting{}
	}
	next := w.Next(t.now)
	limit := s.wantedSince(t).Add(t.c.Reload.WindowWait)
	if !p.Ends.IsZero() {
		limit = earlier(limit, p.Ends.Add(-beforeEnd))
	}
	if next.After(limit) {
		next = limit
	}
	if !next.After(t.now) {
		return waiting{}
	}
	return waiting{why: "waits for its window, until " + next.Format("2006-01-02 15:04 MST"), until: next, window: true}
}

// wantedSince is since when there is something to deliver.
func (s *service) wantedSince(t *turn) time.Time {
	if st := s.status.Load(); st.Desired.Digest == t.d.digest && !st.Desired.Since.IsZero() {
		return st.Desired.Since
	}
	return t.d.generation.Since
}
