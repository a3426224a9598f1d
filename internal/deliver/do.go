package deliver

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/deliver/failure"
	"github.com/spinecert/spinecert/internal/deliver/set"
	"github.com/spinecert/spinecert/pki"
)

// deliver brings the service to what it should be at. Fresh writes a set although one
// is there, and has it read as a whole.
func (s *service) deliver(t *turn, fresh bool) (time.Duration, error) {
	began := time.Now()
	t.fresh = fresh
	s.showDelivering(t)
	m, up, err := s.attempt(t)
	t.down = !up
	if err == nil {
		err = t.ctx.Err() // it may be nobody's service any more
	}
	if err == nil {
		err = t.target.Switch(m.Set)
	}
	if err != nil {
		return s.fail(t, StepDeliver, err)
	}
	s.placed = m.Set
	_ = t.target.Prune(s.record.sets()...) // attempts of before hold keys, too
	s.showDelivering(t)
	step, err := s.apply(t, m)
	if err == nil {
		return s.succeed(t, m, began)
	}
	return s.undo(t, m, step, err, up || m.Up)
}

// attempt makes the set, or takes the one that an attempt that was cut short has made,
// and records it before anything goes through it. Up says whether the service answered
// before; it is recorded, as after a start nobody could say what a set has done.
func (s *service) attempt(t *turn) (m *made, up bool, err error) {
	answers := s.answers(t)
	if a := s.record.Attempt; !t.fresh && a != nil && a.Digest == t.goal && t.target.Intact(a.Set, a.Files) == nil {
		return a, answers(), nil
	}
	name, entries, err := s.write(t)
	up = answers()
	if err != nil {
		return nil, up, err
	}
	m = s.made(t, name, entries, up)
	was := s.record
	s.record.Attempt, s.record.Undo = m, false
	if s.record.Held != nil && !t.beside && (!s.record.holds(t.d) || t.forced()) {
		s.record.Held = nil
	}
	if err = t.ctx.Err(); err == nil {
		err = s.save()
	}
	if err != nil {
		s.record, s.unsaved = was, false
		return nil, up, errors.Join(err, t.target.Prune(was.sets()...))
	}
	return m, up, nil
}

// made describes a set that was written.
func (s *service) made(t *turn, name string, entries []set.Entry, up bool) *made {
	m := &made{Digest: t.goal, Identity: t.d.identity, Beside: t.d.beside, CRLs: t.d.crls, Generation: t.d.generation.Number, Leaf: pki.Fingerprint(t.d.generation.Identity.Leaf()),
		NotAfter: t.d.generation.NotAfter, Ends: t.d.ends, Up: up, Directory: t.c.Directory, Set: name, Files: entries, Formats: map[string]string{}, Delivered: t.now.UTC()}
	for _, c := range shown(t.d) {
		m.Chain = append(m.Chain, c.Raw)
	}
	for _, f := range t.c.Files {
		m.Formats[f.Name] = f.Format
	}
	if p := s.record.Proved; t.beside {
		m.Identity, m.Generation, m.Leaf, m.Chain, m.NotAfter, m.Ends = p.Identity, p.Generation, p.Leaf, p.Chain, p.NotAfter, p.NotAfter
		if !t.d.listsEnd.IsZero() {
			m.Ends = earlier(m.Ends, t.d.listsEnd)
		}
	}
	return m
}

// write makes the files and writes them as a set. How many do so at once is bounded: a
// change of the trust of a thousand services is their files in memory.
func (s *service) write(t *turn) (string, []set.Entry, error) {
	select {
	case s.manager.writers <- struct{}{}:
		defer func() { <-s.manager.writers }()
	case <-t.ctx.Done():
		return "", nil, t.ctx.Err()
	}
	files, err := s.manager.compose(t.c.Service, t.d, t.now, s.kept(t))
	if err != nil {
		return "", nil, err
	}
	return t.target.Write(files, t.now)
}

// kept returns how to get the files of the identity that stays, where that of the slot
// is held; else nil.
func (s *service) kept(t *turn) func(name string) ([]byte, error) {
	if !t.beside {
		return nil
	}
	p := s.record.Proved
	return func(name string) ([]byte, error) {
		for _, e := range p.Files {
			if e.Name == name {
				return t.target.Read(p.Set, e)
			}
		}
		return nil, failure.New(failure.NoMaterial, "spinecert deliver "+s.name+" --now, once what is held is mended", "make %s: the set that was proved last does not have it", name)
	}
}

// sets are the sets that a record speaks of.
func (r record) sets() []string {
	var out []string
	for _, m := range []*made{r.Proved, r.Attempt} {
		if m != nil {
			out = append(out, m.Set)
		}
	}
	if r.Held != nil && r.Held.Set != "" {
		out = append(out, r.Held.Set)
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
	was := s.record.Held
	s.record = record{Schema: recordSchema, Proved: &proved}
	if t.beside {
		s.record.Held = was
	} else {
		s.identity = t.d.generation.Identity
	}
	if len(t.c.Probes) == 0 { // nobody saw it
		s.served = Version{}
	}
	s.retry, s.told, s.toldBack, s.lists = retry{}, "", "", listWait{}
	s.lookAt, s.seen = t.now.Add(s.lookEvery()), nil
	s.tell(t, Event{Kind: EventDelivered, From: from, To: proved.version(), Took: time.Since(began)})
	if err := s.save(); err != nil {
		return s.fail(t, StepDeliver, err) // of the set before nothing is removed until it is kept
	}
	s.tidy = t.target.Prune(s.record.sets()...) == nil
	if t.beside {
		s.showHeld(t)
		return s.poll(), nil
	}
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

// oneLine is an error in one line: of several causes each is one of its own.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
