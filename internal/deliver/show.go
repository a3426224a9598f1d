package deliver

import (
	"time"

	"github.com/spinecert/spinecert/internal/deliver/failure"
	"github.com/spinecert/spinecert/pki"
)

// The steps of a delivery, as they stand in Status and Event.
const (
	StepDeliver  = "deliver"
	StepValidate = "validate"
	StepReload   = "reload"
	StepProve    = "prove"
	StepUndo     = "roll back"
)

// show publishes how the service stands. What Status says of versions is filled in here.
func (s *service) show(t *turn, st Status) {
	old, since := s.status.Load(), st.Since
	st.Config, st.Since = t.c.Service, t.now
	if old.State == st.State && (st.State == Failed || (old.Waits == "") == (st.Waits == "")) && (t.d.generation == nil || old.Desired.Digest == t.d.digest) {
		st.Since = old.Since // whatever it fails over, or waits for, by now
	}
	if !since.IsZero() {
		st.Since = since
	}
	if g := t.d.generation; g != nil {
		st.Desired = Version{Digest: t.d.digest, Generation: g.Number, Leaf: pki.Fingerprint(g.Identity.Leaf()), Since: g.Since, Ends: g.NotAfter}
		if old.Desired.Digest == st.Desired.Digest && !old.Desired.Since.IsZero() {
			st.Desired.Since = old.Desired.Since
		} else if s.record.Proved != nil && g.Since.Before(s.record.Proved.Delivered) {
			st.Desired.Since = t.now // its trust or its CRLs changed since
		}
	}
	st.Proved = s.record.Proved.version()
	for _, m := range []*made{s.record.Proved, s.record.Attempt} {
		if m != nil && m.Set == s.placed {
			st.Delivered = m.version()
		}
	}
	st.Served, st.Looked = s.served, s.looked
	s.status.Store(&st)
}

// stands is how the service stands. What its goroutine has not come to yet is no longer
// in sync.
func (s *service) stands() Status {
	st := *s.status.Load()
	if st.State == InSync && !s.synchronous() {
		st.State = Delivering
	}
	return st
}

// showDelivering says that something is done. What failed before with the same set stays
// failed until it did not: it would else be mended with every attempt.
func (s *service) showDelivering(t *turn) {
	if old := s.status.Load(); old.State == Failed && old.Desired.Digest == t.d.digest {
		s.show(t, Status{State: Failed, Step: old.Step, Reason: old.Reason, Error: old.Error, Hint: old.Hint})
		return
	}
	s.show(t, Status{State: Delivering})
}

// The waits between attempts.
const (
	firstRetry = time.Second
	lastRetry  = 5 * time.Minute
)

// retry is when something that failed is tried again.
type retry struct {
	what     string // a digest, or another word
	at       time.Time
	failures int
}

// later reports whether it is too early to try something again, and how long.
func (r *retry) later(t *turn, what string) (time.Duration, bool) {
	if t.order != nil || r.what != what || !t.now.Before(r.at) {
		return 0, false
	}
	return r.at.Sub(t.now), true
}

// failed counts a failure and returns how long to wait.
func (r *retry) failed(what string) time.Duration {
	if r.what != what {
		*r = retry{what: what}
	}
	wait := min(firstRetry<<min(r.failures, 12), lastRetry)
	r.failures++
	r.at = time.Now().Add(wait)
	return wait
}

// fail publishes a failure after which it is tried again, and tells it once.
func (s *service) fail(t *turn, step string, err error) (time.Duration, error) {
	return s.failOf(t, step, t.goal, err)
}

// failOf is fail for what is tried again under another name. Where the service's time is
// over nothing has failed: the next start goes on.
func (s *service) failOf(t *turn, step, what string, err error) (time.Duration, error) {
	if t.ctx.Err() != nil {
		return 0, t.ctx.Err()
	}
	wait := s.retry.failed(what)
	s.show(t, Status{State: Failed, Step: step, Reason: failure.ReasonOf(err, failure.NotWritable), Error: oneLine(err), Hint: pki.Hint(err), Retry: s.retry.at})
	s.tellFailure(t, EventFailed, step, err)
	return min(wait, s.poll()), err
}

// tellFailure tells a failure, unless it is the one that was told last.
func (s *service) tellFailure(t *turn, kind EventKind, step string, err error) {
	text := string(kind) + step + failure.ReasonOf(err, "") + t.d.digest
	if s.told == text {
		return
	}
	s.told = text
	e := Event{Kind: kind, Step: step, Reason: failure.ReasonOf(err, failure.NotWritable), Err: err}
	s.tell(t, e)
}

// tell completes an event for the service.
func (s *service) tell(t *turn, e Event) {
	e.Service, e.Slot, e.Time = s.name, t.c.Slot, time.Now()
	if e.To == (Version{}) && t.d.generation != nil {
		e.To = Version{Digest: t.d.digest, Generation: t.d.generation.Number, Leaf: pki.Fingerprint(t.d.generation.Identity.Leaf())}
	}
	if e.From == (Version{}) {
		e.From = s.record.Proved.version()
	}
	if t.order != nil {
		e.Actor = t.order.Actor
	}
	s.manager.tell(e)
}
