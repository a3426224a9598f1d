package rotate

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"time"
)

// Apply makes plan the set of what is kept. It checks the whole plan first: on
// an error nothing has changed. Then it returns when every environment and slot
// that is new or changed was looked at once, or when ctx ends. Bad material is
// no error of Apply: see Slot.Status. What stays in the plan keeps its *Slot and
// what it serves. Run must be running. If ctx ends first, plan may be in force in
// part; apply it again.
func (k *Keeper) Apply(ctx context.Context, plan Plan) error {
	if err := plan.Check(); err != nil {
		return err
	}
	if k.options.Store == nil && slices.ContainsFunc(plan.Slots, func(c SlotConfig) bool { return c.Managed }) {
		return errors.New("a managed slot needs a Store")
	}
	select { // two plans at once would leave slots without their environment
	case k.apply <- struct{}{}:
		defer func() { <-k.apply }()
	case <-ctx.Done():
		return ctx.Err()
	case <-k.done:
		return ErrStopped
	}
	var trust, slots []chan *Refusal
	if err := k.call(ctx, func() { trust = k.applyEnvironments(plan.Environments) }); err != nil {
		return err
	}
	if err := wait(ctx, k.done, trust); err != nil {
		return err
	}
	if err := k.call(ctx, func() { slots = k.applySlots(plan) }); err != nil {
		return err
	}
	return wait(ctx, k.done, slots)
}

func wait(ctx context.Context, done <-chan struct{}, answers []chan *Refusal) error {
	for _, a := range answers {
		select {
		case <-a:
		case <-ctx.Done():
			return ctx.Err()
		case <-done:
			return ErrStopped
		}
	}
	return nil
}

// applyEnvironments adds and changes; what is gone is removed with the slots, as
// they may still need it.
func (k *Keeper) applyEnvironments(configs []EnvironmentConfig) []chan *Refusal {
	var answers []chan *Refusal
	for _, c := range configs {
		e, ok := k.environments[c.Name]
		switch {
		case !ok:
			e = newEnvironment(k, c)
			k.environments[c.Name] = e
		case sameEnvironment(e.config, c):
			e.config = c
			k.tune(&e.unit, c.Poll, c.Settle)
			continue
		default:
			e.config, e.changed = c, true
			e.retune()
		}
		k.tune(&e.unit, c.Poll, c.Settle)
		answers = append(answers, k.lookNow(&e.unit))
	}
	k.publishIndex()
	return answers
}

func (k *Keeper) applySlots(plan Plan) []chan *Refusal {
	var answers []chan *Refusal
	keep := map[string]bool{}
	for _, c := range plan.Slots {
		keep[c.Name] = true
		s, ok := k.slots[c.Name]
		env := k.environments[c.Environment]
		if !ok {
			s = newSlot(c)
			k.slots[c.Name] = s
		}
		same := ok && sameSlot(s.config, c)
		unkept := s.config.Keep == 0
		s.config = c
		if !c.Managed {
			s.offer, s.offerRules = nil, nil // what was offered is not for files
		}
		switch {
		case !ok:
		case c.Keep == 0:
			k.forgiven(s, nil)
		case unkept && s.snapshot.Load() != nil:
			k.save(s)
		}
		k.tune(&s.unit, c.Poll, c.Settle)
		if same {
			continue
		}
		if s.env != env {
			s.env, s.kept = env, nil // that was of the environment it has left
			if state := env.state.Load(); state != nil {
				s.trustChanged(k, state, time.Now()) // peers are judged by it at once, whatever becomes of our files
			} else {
				s.withdraw() // rather nothing than peers of the environment it has left
			}
			s.loaded = s.loaded && s.snapshot.Load() != nil // the store may know one of this environment
		}
		s.judged = nil
		answers = append(answers, k.lookNow(&s.unit))
	}
	for name, s := range k.slots {
		if !keep[name] {
			k.forget(&s.unit)
			delete(k.unsaved, s)
			delete(k.slots, name)
		}
	}
	wanted := map[string]bool{}
	for _, c := range plan.Environments {
		wanted[c.Name] = true
	}
	for name, e := range k.environments {
		if !wanted[name] {
			k.forget(&e.unit)
			delete(k.environments, name)
		}
	}
	k.publishIndex()
	return answers
}

func (k *Keeper) tune(u *unit, poll, settle time.Duration) {
	was := u.poll
	u.poll, u.settle = cmp.Or(poll, defaultPoll), cmp.Or(settle, defaultSettle)
	if u.pos != 0 && u.poll < was { // else the old poll comes first, and then the new one holds
		u.schedule(time.Now())
		k.agenda.add(u)
	}
}

func (k *Keeper) forget(u *unit) {
	u.removed = true
	k.agenda.remove(u)
	if !u.running {
		k.unwatch(u)
	}
	answer(u.waiting, nil)
	answer(u.answers, nil) // the look that runs may not come back
	u.order.done(removed())
	for _, o := range u.orders {
		o.done(removed())
	}
	u.waiting, u.answers, u.orders = nil, nil, nil
}

// removed is the answer to orders for what is no longer kept.
func removed() *Refusal {
	return &Refusal{Reason: ReasonRemoved, Err: errors.New("it was taken out of the configuration meanwhile"), Advice: "see the configuration; what it served last is still kept"}
}

// lookNow has u looked at in full and returns where the outcome is told, once.
func (k *Keeper) lookNow(u *unit) chan *Refusal {
	c := make(chan *Refusal, 1)
	u.waiting = append(u.waiting, c)
	k.mark(u)
	return c
}

func sameSlot(a, b SlotConfig) bool {
	return a.Environment == b.Environment && a.FQDN == b.FQDN && a.Files == b.Files && a.Managed == b.Managed && a.Keep == b.Keep &&
		a.AllowReadableKey == b.AllowReadableKey && slices.Equal(a.Allow, b.Allow)
}

func (k *Keeper) publishIndex() {
	ix := &index{byName: maps.Clone(k.slots)}
	for _, name := range slices.Sorted(maps.Keys(k.environments)) {
		ix.environments = append(ix.environments, k.environments[name])
	}
	for _, name := range slices.Sorted(maps.Keys(k.slots)) {
		ix.slots = append(ix.slots, k.slots[name])
	}
	k.index.Store(ix)
}

// Slot returns the slot of that name, or nil.
func (k *Keeper) Slot(name string) *Slot { return k.index.Load().byName[name] }

// Slots returns all slots, by name. Do not modify the slice.
func (k *Keeper) Slots() []*Slot { return k.index.Load().slots }

// Environments returns all environments, by name. Do not modify the slice.
func (k *Keeper) Environments() []*Environment { return k.index.Load().environments }

// Refresh reads all environments, then all slots, again and waits for the outcome.
// The outcome is in their Status.
func (k *Keeper) Refresh(ctx context.Context) error {
	var answers []chan *Refusal
	if err := k.call(ctx, func() {
		for _, e := range k.environments {
			answers = append(answers, k.lookNow(&e.unit))
		}
	}); err != nil {
		return err
	}
	if err := wait(ctx, k.done, answers); err != nil {
		return err
	}
	answers = nil
	if err := k.call(ctx, func() {
		for _, s := range k.slots {
			answers = append(answers, k.lookNow(&s.unit))
		}
	}); err != nil {
		return err
	}
	return wait(ctx, k.done, answers)
}
