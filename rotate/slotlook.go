package rotate

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/trust"
)

// slotLook is one look at a slot: what the run loop knew when it began, and what a
// worker finds out.
type slotLook struct {
	slot    *Slot
	config  SlotConfig
	env     *Environment
	state   *trust.State
	store   Store // nil keeps nothing
	order   *order
	rules   []string
	offer   *pki.Identity
	current *Generation       // what is served, or was brought back from the store
	number  uint64            // of the newest generation
	last    [sha256.Size]byte // of the source when it was last read
	first   bool              // the store was not asked yet
	settled bool              // what is served was judged good with this state

	record   Record      // first: what the store has in force
	brought  *Generation // first: what comes back
	damage   error       // first: why it is not what the store has in force
	again    uint64      // what is served was put into the store again, under this number
	setAside bool
}

// stage decides what becomes of one look. It runs in a worker.
func (l *slotLook) stage(m *material, unread *Refusal, now time.Time) (publish, *Refusal) {
	if l.first && l.store != nil {
		l.ask(func() { l.record, l.damage = l.store.Current(l.slot.name) })
		l.number = max(l.number, l.record.Highest, l.record.Number)
		if l.config.Keep == 0 { // in memory only: what was kept once counts for nothing
			l.record, l.damage = Record{}, nil
		}
	}
	next, refusal := l.decide(m, unread, now)
	if l.again != 0 {
		next = l.renumbered(next)
	}
	if !l.first || l.store == nil {
		return next, refusal
	}
	brought, number, damage := l.brought, l.number, l.damage
	return func(k *Keeper, at time.Time) (bool, *Refusal) {
		if l.slot.env == l.env { // else another look follows, which asks again
			l.slot.bring(k, brought, number, damage, at)
		}
		if next == nil {
			return false, nil
		}
		return next(k, at)
	}, refusal
}

func (l *slotLook) decide(m *material, unread *Refusal, now time.Time) (publish, *Refusal) {
	switch {
	case l.order != nil && l.order.kind == orderRollback:
		l.setAside = true
		return l.rollback(m, now)
	case l.config.Managed:
		return l.managed(now)
	case unread != nil:
		l.bringBack()
		return nil, unread
	}
	return l.files(m, now)
}

// released reports whether the order ends a hold.
func (l *slotLook) released() bool { return l.order != nil && l.order.Release }

// files judges what was read of the files of a slot.
func (l *slotLook) files(m *material, now time.Time) (publish, *Refusal) {
	if l.record.Held {
		l.bringBack()
	}
	if cur := l.current; cur != nil && m.digest == cur.source && !l.released() {
		if cur.Held {
			return l.ownChain(now)
		}
		if l.settled && keyPermissions(&l.config, m) == nil {
			return nil, nil
		}
	}
	cand, refusal := examine(&l.config, m, l.state, l.rules, now)
	if refusal == nil && l.record.Number != 0 && !l.record.Held && cand.digest == l.record.Digest && l.record.Environment == l.env.name {
		cand.number, cand.since, cand.origin, cand.of = l.record.Number, l.record.Since, l.record.Origin, l.record.Of
		return l.publish(cand), nil // the store has it already
	}
	l.bringBack()
	if refusal == nil {
		refusal = l.guard(cand, now)
	}
	if refusal != nil {
		return nil, refusal
	}
	cand.origin = FromFiles
	return l.publish(cand), nil
}

func (l *slotLook) guard(cand *candidate, now time.Time) *Refusal {
	if l.current == nil || cand.digest == l.current.digest {
		return nil
	}
	rules := l.rules
	if l.released() {
		rules = append(slices.Clone(rules), RuleRolledBack)
	}
	return guard(&l.config, l.current, cand, rules, now)
}

// managed judges what was offered to a managed slot, or else what it serves.
func (l *slotLook) managed(now time.Time) (publish, *Refusal) {
	l.bringBack()
	if l.order != nil && l.order.kind == orderOffer {
		l.offer = l.order.identity
	}
	cand := &candidate{file: "answer for slot " + l.config.Name, identity: l.offer, origin: FromImport}
	switch {
	case l.current != nil && l.current.Held && l.released(): // before an offer that waits: it was asked for
		left, err := l.findLeft()
		if err != nil {
			return nil, &Refusal{Reason: reasonNoHistory, Err: err, Advice: "import the certificate again, or go on with what serves"}
		}
		cand.identity = left
	case l.offer != nil:
	case l.current == nil && l.damage != nil:
		r := pending(reasonDamaged, l.damage)
		r.Advice = cmp.Or(pki.Hint(l.damage), "spinecert state verify names what is wrong; it is tried again by itself, or import the certificate again")
		return nil, r
	case l.current == nil || l.settled:
		return nil, nil
	default:
		if l.slot.tried.Number > l.current.Number { // what is withdrawn may be in force on the disk
			if refusal := l.resync(); refusal != nil {
				return nil, refusal
			}
		}
		return l.ownChain(now)
	}
	cand, refusal := examineIdentity(&l.config, cand, l.state, l.rules, now)
	if refusal == nil {
		refusal = l.guard(cand, now)
	}
	if refusal != nil {
		return nil, refusal
	}
	if l.current != nil && l.current.digest == cand.digest && !l.released() {
		// Nothing new: it is in force already, and is to be on the disk.
		if refusal := l.resync(); refusal != nil {
			return nil, refusal
		}
		return l.publish(cand), nil
	}
	return l.commit(cand, now)
}

// resync sees to it that the store has in force what the slot serves: an older
// copy may have been put in its place, it may not have been saved yet, or a Commit
// failed and could not be undone.
func (l *slotLook) resync() *Refusal {
	if l.current == nil {
		return nil
	}
	was, err := l.inForce()
	if err == nil && was.Digest == l.current.digest && was.Held == l.current.Held {
		return nil
	}
	if stored := l.slot.stored.Load(); err == nil && was.Number < stored {
		l.slot.wentBack.Store(true)
	}
	r := l.current.record()
	if known := max(was.Highest, l.slot.stored.Load(), l.slot.tried.Number); r.Number <= known {
		r.Number = max(known, l.number) + 1
	}
	if refusal := l.write(r, l.current.Identity); refusal != nil {
		l.slot.tried = r
		return refusal
	}
	if l.number = max(l.number, r.Number); r.Number != l.current.Number {
		l.again = r.Number
	}
	return nil
}

// renumbered has the slot serve what it serves under the number that the store
// has it under, and then whatever comes next.
func (l *slotLook) renumbered(next publish) publish {
	return func(k *Keeper, now time.Time) (bool, *Refusal) {
		s := l.slot
		if snap := s.snapshot.Load(); snap != nil && snap.Generation == l.current {
			g := *l.current
			g.Number, s.number = l.again, max(s.number, l.again)
			s.swap(&g, snap.Trust, now)
		}
		if next == nil {
			return false, nil
		}
		return next(k, now)
	}
}

// inForce asks the store what it has in force.
func (l *slotLook) inForce() (r Record, err error) {
	l.ask(func() { r, err = l.store.Current(l.slot.name) })
	return r, err
}

// findLeft returns what a held slot was rolled back from.
func (l *slotLook) findLeft() (*pki.Identity, error) {
	history, err := l.history()
	if err != nil {
		return nil, err
	}
	for _, r := range history {
		if r.Digest == l.current.left {
			return l.loaded(r.Number)
		}
	}
	return nil, fmt.Errorf("slot %q no longer keeps the generation that it was rolled back from", l.slot.name)
}

// ownChain judges what is served by the trust of now, and remembers that it passed.
func (l *slotLook) ownChain(now time.Time) (publish, *Refusal) {
	if l.settled {
		return nil, nil
	}
	own := &candidate{file: fmt.Sprintf("generation %d of slot %s", l.current.Number, l.slot.name), identity: l.current.Identity}
	if r := checkFQDN(&l.config, own); r != nil {
		return nil, r // the configuration has another name since
	}
	if r := own.judge(l.state, now); r != nil {
		return nil, r
	}
	return func(*Keeper, time.Time) (bool, *Refusal) {
		if snap := l.slot.snapshot.Load(); snap != nil && snap.Generation.digest == l.current.digest {
			l.slot.judged = l.state
		}
		return false, nil
	}, nil
}

// commit has the store keep a candidate before anything serves it.
func (l *slotLook) commit(cand *candidate, now time.Time) (publish, *Refusal) {
	cand.number, cand.since = l.number+1, now
	// A Commit that failed may have left its number behind: only the same content may use it again.
	if tried := l.slot.tried; tried.Number >= cand.number {
		cand.number = tried.Number
		if tried.Digest != cand.digest {
			cand.number++
		}
	}
	r := l.recordOf(cand)
	refusal := l.write(r, cand.identity)
	if refusal != nil && errors.Is(refusal, fs.ErrExist) { // others wrote there: a backup was put back
		if was, err := l.inForce(); err == nil && was.Highest >= r.Number {
			cand.number = was.Highest + 1
			r.Number = cand.number
			refusal = l.write(r, cand.identity)
		}
	}
	if refusal != nil {
		l.slot.tried = r
		return nil, refusal
	}
	cand.kept = true
	return l.publish(cand), nil
}

// write has the store keep a generation.
func (l *slotLook) write(r Record, id *pki.Identity) *Refusal {
	l.slot.asking.Store(true)
	defer l.slot.asking.Store(false)
	err := l.slot.keep(l.store, l.config.Keep, r, id)
	if err == nil {
		return nil
	}
	refusal := pending(ReasonUnwritable, fmt.Errorf("keep generation %d of slot %q: %w", r.Number, l.slot.name, err))
	refusal.Advice = cmp.Or(pki.Hint(err), "make room in the state directory, or give it back to the daemon's user; it is tried again by itself")
	return refusal
}

// ask runs what reads the store of this slot: nothing else does meanwhile.
func (l *slotLook) ask(read func()) {
	l.slot.asking.Store(true)
	defer l.slot.asking.Store(false)
	l.slot.storing.Lock()
	defer l.slot.storing.Unlock()
	read()
}

func (l *slotLook) history() (out []Record, err error) {
	l.ask(func() { out, err = l.store.History(l.slot.name) })
	return out, err
}

func (l *slotLook) loaded(number uint64) (id *pki.Identity, err error) {
	l.ask(func() { id, err = l.store.Load(l.slot.name, number) })
	return id, err
}

func (l *slotLook) recordOf(c *candidate) Record {
	return Record{Number: c.number, Environment: l.env.name, Origin: c.origin, Of: c.of, Held: c.held, Digest: c.digest, Source: c.source,
		Left: c.left, LeftLeaf: c.leftLeaf, Since: c.since, NotAfter: c.notAfter}
}

// publish returns what puts a candidate in force.
func (l *slotLook) publish(c *candidate) publish {
	return func(k *Keeper, now time.Time) (bool, *Refusal) {
		s := l.slot
		if s.env != l.env || !sameSlot(s.config, l.config) {
			// The plan changed meanwhile; another look follows.
			if c.kept && s.env == l.env {
				told, r := s.publish(k, c, l.rules, l.order, now) // memory follows the disk
				s.judged = nil                                    // by the plan of now
				k.mark(&s.unit)
				return told, r
			}
			s.loaded = s.loaded && !c.kept
			if l.order != nil {
				l.order.again = true
			}
			k.mark(&s.unit)
			return false, s.unit.refusal
		}
		return s.publish(k, c, l.rules, l.order, now)
	}
}

// bringBack loads what the store has in force, at the first look. An identity that
// cannot be loaded is replaced by the newest that can.
func (l *slotLook) bringBack() {
	if !l.first || l.store == nil || l.current != nil {
		return
	}
	if l.damage == nil && l.record.Number == 0 {
		return
	}
	if l.damage == nil {
		if l.record.Environment != l.env.name {
			return // the slot was given another environment; rather nothing than an identity of the old one
		}
		if l.load(l.record) {
			return
		}
	}
	history, err := l.history()
	l.damage = errors.Join(l.damage, err)
	held := l.record
	if held.Held { // the same content first, and never what was rolled back from
		slices.SortStableFunc(history, func(a, b Record) int {
			return cmp.Compare(bit(b.Digest == held.Digest), bit(a.Digest == held.Digest))
		})
	}
	for _, r := range history {
		if r.Environment != l.env.name || r.Number == held.Number || held.Held && r.Digest == held.Left {
			continue
		}
		if held.Held { // the hold outlives the damage
			r.Held, r.Of, r.Origin, r.Left, r.LeftLeaf, r.Source = true, held.Of, held.Origin, held.Left, held.LeftLeaf, held.Source
		}
		if l.load(r) {
			return
		}
	}
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (l *slotLook) load(r Record) bool {
	id, err := l.loaded(r.Number)
	if err != nil {
		l.damage = errors.Join(l.damage, fmt.Errorf("load generation %d of slot %q: %w", r.Number, l.slot.name, err))
		return false
	}
	l.current = &Generation{Number: r.Number, Identity: id, NotAfter: r.NotAfter, Since: r.Since, Origin: r.Origin, Of: r.Of, Held: r.Held,
		environment: r.Environment, digest: r.Digest, source: r.Source, left: r.Left, leftLeaf: r.LeftLeaf}
	l.brought = l.current
	return true
}
