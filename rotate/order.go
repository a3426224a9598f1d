package rotate

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"

	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/trust"
)

// Order is what somebody asks for, and how far they go.
type Order struct {
	// Allow names guard rules that are overridden for the candidate that is found,
	// and for no other.
	Allow []string
	// Release ends the hold of a rollback.
	Release bool
	// Bundle is the digest of the one bundle that Accept takes; zero is any. What the
	// trust files have become since somebody looked at them was not judged by anybody.
	Bundle [sha256.Size]byte
	// Actor is handed on in Event.Actor. May be nil.
	Actor any
}

// order is an Order on its way through the run loop. Each has a look of its own.
type order struct {
	Order
	kind     orderKind
	identity *pki.Identity // orderOffer; nil withdraws
	to       uint64        // orderRollback; 0 is the one before
	answer   chan *Refusal // has room for one
	again    bool          // the plan changed during its look: it wants another
}

type orderKind int

const (
	orderLook orderKind = iota
	orderOffer
	orderRollback
)

// rules are those that an order overrides; o may be nil.
func (o *order) rules() []string {
	if o == nil {
		return nil
	}
	return o.Allow
}

// rulesFor are those that an order overrides for this bundle; o may be nil.
func (o *order) rulesFor(b *trust.Bundle) []string {
	if o != nil && o.Bundle != [sha256.Size]byte{} && o.Bundle != b.Digest() {
		return nil
	}
	return o.rules()
}

// actor is who asked; o may be nil.
func (o *order) actor() any {
	if o == nil {
		return nil
	}
	return o.Actor
}

// Rotate looks at the source of a slot now and waits for the outcome. The error is
// a *Refusal if the source is not what the slot serves. With Order.Release the
// source of a slot that is held counts again; for a managed slot that is the
// generation that was rolled back from.
func (k *Keeper) Rotate(ctx context.Context, slot string, o Order) error {
	return k.slotOrder(ctx, slot, &order{Order: o})
}

// Offer gives a managed slot an identity to serve, and waits until it is in force
// and kept, or refused: then the error is a *Refusal, and the offer stands, to be
// tried again when trust changes, at its notBefore and on back-off, until another
// is made. A nil identity withdraws it.
func (k *Keeper) Offer(ctx context.Context, slot string, id *pki.Identity, o Order) error {
	return k.slotOrder(ctx, slot, &order{Order: o, kind: orderOffer, identity: id})
}

// Rollback puts an older generation in force again, under a new number; to is 0
// for the one before. The slot is held: what its source holds now is not taken
// any more. An order to roll back overrides the guard rule older. The error is a
// *Refusal, and the slot serves what it served, if there is no such generation, if
// its certificate has expired or is revoked, or if it cannot be kept.
func (k *Keeper) Rollback(ctx context.Context, slot string, to uint64, o Order) error {
	return k.slotOrder(ctx, slot, &order{Order: o, kind: orderRollback, to: to})
}

// Accept takes the trust files of an environment although they lack a CA that is
// in force and has not expired. It waits for the outcome; the error is a *Refusal
// if they are refused for something else.
func (k *Keeper) Accept(ctx context.Context, environment string, o Order) error {
	o.Allow = []string{RuleTrustShrink}
	return k.give(ctx, &order{Order: o}, func() (*unit, error) {
		if e := k.environments[environment]; e != nil {
			return &e.unit, nil
		}
		return nil, fmt.Errorf("there is no environment %q", environment)
	})
}

func (k *Keeper) slotOrder(ctx context.Context, slot string, o *order) error {
	for _, rule := range o.Allow {
		if err := CheckRule(rule); err != nil {
			return err
		}
	}
	return k.give(ctx, o, func() (*unit, error) {
		s := k.slots[slot]
		switch {
		case s == nil:
			return nil, fmt.Errorf("there is no slot %q", slot)
		case o.kind == orderOffer && !s.config.Managed:
			return nil, fmt.Errorf("slot %q reads files: put the certificate there", slot)
		}
		return &s.unit, nil
	})
}

// give hands an order to the run loop and waits for its answer.
func (k *Keeper) give(ctx context.Context, o *order, find func() (*unit, error)) error {
	o.answer = make(chan *Refusal, 1)
	var unknown error
	err := k.call(ctx, func() {
		var u *unit
		if u, unknown = find(); unknown == nil {
			u.orders = append(u.orders, o)
			k.mark(u)
		}
	})
	if err = cmp.Or(err, unknown); err != nil {
		return err
	}
	select {
	case r := <-o.answer:
		if r != nil {
			return r
		}
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-k.done:
		return ErrStopped
	}
}

// done answers an order, once; o may be nil.
func (o *order) done(r *Refusal) {
	if o == nil {
		return
	}
	select {
	case o.answer <- r:
	default: // answered before
	}
}
