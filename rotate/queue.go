package rotate

import (
	"errors"
	"time"
)

// queue.go: which sources may have changed, and which looks do not come back.

// mark says that a source may have changed. Any goroutine may call it.
func (k *Keeper) mark(u *unit) { k.markAt(u, time.Time{}) }

// markAt is mark for a change first seen at since; zero is now.
func (k *Keeper) markAt(u *unit, since time.Time) {
	k.mu.Lock()
	k.note(u, since)
	if !u.queued {
		u.queued = true
		k.queue = append(k.queue, u)
	}
	k.mu.Unlock()
	k.rouse()
}

// markLater is mark for what need not be fast: a change of trust has every slot
// of an environment look again, and a slot that rotates must not wait for them.
func (k *Keeper) markLater(u *unit) {
	k.mu.Lock()
	k.note(u, time.Time{})
	if !u.queued && !u.lazy {
		u.lazy = true
		k.later = append(k.later, u)
	}
	k.mu.Unlock()
	k.rouse()
}

// note keeps the first sign of a change. Keeper.mu is held.
func (k *Keeper) note(u *unit, since time.Time) {
	if since.IsZero() {
		since = time.Now()
	}
	if u.marked.IsZero() || since.Before(u.marked) {
		u.marked = since
	}
}

func (k *Keeper) rouse() {
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// take removes and returns the unit that is to be looked at next, or nil, and
// when it was first marked.
func (k *Keeper) take() (*unit, time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var u *unit
	if len(k.queue) > 0 {
		u, k.queue = k.queue[0], k.queue[1:]
	}
	for u == nil && len(k.later) > 0 {
		if first := k.later[0]; first.lazy { // else it was looked at meanwhile
			u = first
		}
		k.later = k.later[1:]
	}
	if u == nil {
		return nil, time.Time{}
	}
	marked := u.marked
	u.queued, u.lazy, u.marked = false, false, time.Time{}
	return u, marked
}

// noAnswer says what a look that hangs waits for.
func (u *unit) noAnswer() *Refusal {
	if s, ok := u.owner.(*Slot); ok && s.asking.Load() {
		r := pending(ReasonUnwritable, errNoStore)
		r.Advice = "see whether the file system of the state directory still answers"
		return r
	}
	r := pending(reasonUnreadable, errNoAnswer)
	r.Advice = "see whether the file systems of its files still answer"
	return r
}

var errNoStore = errors.New("keep generations: the state directory does not answer for longer than " + hangAfter.String())

var errNoAnswer = errors.New("read source: its files are not to be read for longer than " + hangAfter.String())

// findHung takes looks that do not come back (a network file system whose server
// is gone) out of the count of workers, so that they hold up no other source.
// Each holds a thread, so there is a bound to it. The source stays as it was;
// it is looked at again once the look has come back.
func (k *Keeper) findHung(now time.Time) {
	if now.Sub(k.checked) < hangCheck {
		return
	}
	k.checked = now
	for u := range k.running {
		if now.Sub(u.started) < hangAfter {
			continue
		}
		if !u.hung && k.hung < maxHung {
			u.hung = true
			k.hung++
			k.inflight--
		}
		if u.removed {
			continue
		}
		r := u.noAnswer()
		k.settle(u, r, false, now)
		answer(u.answers, r)
		answer(u.waiting, r) // those that came since
		u.order.done(r)
		for _, o := range u.orders {
			o.done(r)
		}
		u.answers, u.waiting, u.orders = nil, nil, nil
	}
}
