package manage

import (
	"cmp"
	"context"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/enrol"
	"github.com/spinecert/spinecert/internal/state"
	"github.com/spinecert/spinecert/pki"
)

// Why a request is made.
const (
	ReasonNew      = "new"      // the slot has no certificate
	ReasonExpiring = "expiring" // the one it has will end
)

// Order asks for a request.
type Order struct {
	Slot   string
	Key    pki.KeyKind // "" is the policy of the slot
	SANs   []string    // nil is the policy of the slot; empty asks for none
	By     string      // who asks: "uid 0", or "prepare"
	Reason string      // ReasonNew or ReasonExpiring; "" is found out
	Actor  any         // handed on in Event.Actor; may be nil
}

// Made is a request and the mail that asks for its certificate.
type Made struct {
	Request state.Request
	Letter  enrol.Letter
}

// NewRequest makes a key and a request for a managed slot. The key is on disk
// before the request exists; what the slot serves goes on. The error is an *Error
// for a slot that is not there or not managed, a kind of key that is unknown, and
// names against a rule.
func (m *Manager) NewRequest(ctx context.Context, o Order) (Made, error) {
	slot, err := m.managed(o.Slot)
	if err != nil {
		return Made{}, err
	}
	made, _, err := m.make(ctx, slot, o, false)
	return made, err
}

// make makes a request, or none if one waits and alone is set.
func (m *Manager) make(ctx context.Context, slot config.Slot, o Order, alone bool) (Made, bool, error) {
	r, err := requestFor(slot, o)
	if err != nil {
		return Made{}, false, err
	}
	key, err := generate(ctx, r.Key) // not during the turn: it may take seconds
	if err != nil {
		return Made{}, false, err
	}
	end, err := m.turn(ctx, slot.Name)
	if err != nil {
		return Made{}, false, err
	}
	defer end()
	if alone {
		if len(m.requestsOf(slot.Name)) > 0 {
			return Made{}, false, nil
		}
	}
	if r.Reason == "" {
		r.Reason = ReasonNew
		if until, ok := m.until(slot); ok && !until.IsZero() {
			r.Reason = ReasonExpiring
		}
	}
	r.Created = time.Now()
	r, err = m.c.Directory.NewRequest(r, key, func() ([]byte, error) { return pki.NewRequest(key, r.FQDN, r.SANs...) })
	m.refresh(r.Slot) // also after an error: it may be there all the same, but not outlive a crash
	if err != nil {
		return Made{}, false, err
	}
	m.c.Tell(Event{Kind: RequestMade, Slot: r.Slot, Request: r.ID, Actor: o.Actor})
	return Made{Request: r, Letter: m.letter(r)}, true, nil
}

// requestFor fills an order up with the policy of the slot, and judges it.
func requestFor(slot config.Slot, o Order) (state.Request, error) {
	r := state.Request{Slot: slot.Name, Environment: slot.Environment, FQDN: slot.FQDN, SANs: o.SANs, By: o.By, Reason: o.Reason,
		Key: cmp.Or(o.Key, pki.KeyKind(slot.Managed.Key), pki.RSA2048)}
	if r.SANs == nil {
		r.SANs = slot.Managed.SANs
	}
	if !slices.Contains(pki.KeyKinds(), r.Key) {
		var kinds []string
		for _, k := range pki.KeyKinds() {
			kinds = append(kinds, string(k))
		}
		return r, usage("use one of "+strings.Join(kinds, ", "), "there is no key kind %q", string(r.Key))
	}
	if err := pki.CheckRequestNames(r.FQDN, r.SANs...); err != nil {
		return r, &Error{Kind: Refused, Reason: ReasonName, Err: err}
	}
	return r, nil
}

// generate makes a key, unless ctx ends first.
func generate(ctx context.Context, kind pki.KeyKind) (crypto.Signer, error) {
	return within(ctx, func() (crypto.Signer, error) { return pki.GenerateKey(kind) })
}

// within does something that takes no context, and waits for it no longer than ctx.
func within[T any](ctx context.Context, do func() (T, error)) (T, error) {
	type result struct {
		out T
		err error
	}
	done := make(chan result, 1)
	go func() {
		out, err := do()
		done <- result{out, err}
	}()
	select {
	case r := <-done:
		return r.out, r.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

// letter writes the mail for a request.
func (m *Manager) letter(r state.Request) enrol.Letter {
	c := m.c.Configuration()
	asked := enrol.Asked{Name: r.FQDN, Names: r.SANs, Key: string(r.Key), Environment: r.Environment}
	if made, err := pki.Parse(r.CSR, nil); err == nil && len(made.Requests) == 1 {
		csr := made.Requests[0]
		asked.Names, asked.Key = csr.DNSNames, pki.DescribeKey(csr.PublicKey)
	}
	switch r.Reason {
	case ReasonNew:
		asked.Reason = "new endpoint"
	case ReasonExpiring:
		asked.Reason = "the certificate of this name expires"
		if slot, ok := c.Slot(r.Slot); ok {
			if until, ok := m.until(slot); ok && !until.IsZero() {
				asked.Reason += " on " + until.UTC().Format(time.DateOnly)
			}
		}
	}
	org := c.Organisation
	return enrol.NewLetter(enrol.Applicant{Organisation: org.Name, ODS: org.ODS, Contact: org.Contact}, r.CSR, asked)
}

// Request returns one request and its mail. The error is an *Error of the kind
// Unknown if there is none.
func (m *Manager) Request(id string) (Made, error) {
	r, ok := m.find(id)
	if !ok {
		return Made{}, m.noSuch(id)
	}
	return Made{Request: r, Letter: m.letter(r)}, nil
}

func (m *Manager) noSuch(id string) error {
	return unknown("spinecert csr list shows those there are", "there is no request %q", id)
}

// Cancel removes a request with its key: a certificate that still comes for it
// cannot be used. An answer that waits with it goes too. The error is an *Error of
// the kind Unknown if there is none.
func (m *Manager) Cancel(ctx context.Context, id string, actor any) (state.Request, error) {
	r, ok := m.find(id)
	if !ok {
		return r, m.noSuch(id)
	}
	end, err := m.turn(ctx, r.Slot)
	if err != nil {
		return r, err
	}
	defer end()
	if r, ok = m.find(id); !ok {
		return r, m.noSuch(id)
	}
	if err := m.endRequest(r, RequestCancelled, actor); err != nil {
		return r, fmt.Errorf("cancel request %s: %w", id, err)
	}
	if s, err := m.managed(r.Slot); err != nil || r.Answered.IsZero() || m.c.Keeper == nil || m.c.Keeper.Slot(s.Name) == nil {
		return r, nil // a slot that is gone, or reads files, was offered nothing
	}
	// It may be what is offered to the slot: another one takes its place, or nothing.
	return r, m.offerWaiting(context.WithoutCancel(ctx), r.Slot, true)
}

// until returns when what a slot has ends, the earliest of leaf and chain, and
// whether it has anything, or ever had; zero if it has nothing any more.
func (m *Manager) until(slot config.Slot) (end time.Time, ever bool) {
	r, ever := m.current(slot)
	return r.NotAfter, ever
}

var errNoKeeper = errors.New("take an answer: the slots are not kept here")
