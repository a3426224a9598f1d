package manage

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/spinecert/spinecert/internal/enrol"
	"github.com/spinecert/spinecert/internal/state"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/trust"
)

// File is a file as it was read.
type File struct {
	Name string // for messages only
	Data []byte
}

// ImportOrder hands over what came back.
type ImportOrder struct {
	Files    []File
	Password []byte // of PKCS#12 files; may be nil
	Request  string // ID of the request it is for; "" is found by public key
	// CertificatesOnly leaves what may hold private keys unread: PKCS#12 and zip.
	CertificatesOnly bool
	Allow            []string // guard rules to override, for this answer
	DryRun           bool     // judge, and change nothing
	Actor            any      // handed on in events; may be nil
}

// Outcome says what became of an answer.
type Outcome string

// The outcomes.
const (
	InForce   Outcome = "in_force"  // the slot serves it
	Unchanged Outcome = "unchanged" // the slot served it already
	Waits     Outcome = "waiting"   // it stays with its request and is tried again
	Fits      Outcome = "fits"      // DryRun: it would be in force
)

// Imported is an answer that found its place.
type Imported struct {
	Slot, Environment string
	Request           string // its ID; "" where the key is the one in force
	Outcome           Outcome
	From, To          uint64 // generations before and after; 0 is none
	Identity          *pki.Identity
	Where             string          // the leaf was found there
	Root              string          // subject of the root it leads to; "" where it was not judged
	Added             map[string]bool // SHA-256 of the CAs of the chain that came from the trust files
	Notes             []string
	Again             string          // Waits: when it is tried again, as a sentence
	NotBefore         time.Time       // Waits for that day; else zero
	Open              []state.Request // what waits for the slot besides
}

// Import takes back what came for a request: it finds the request by public key,
// joins certificate, chain and key, and waits until the slot serves them.
//
// The error is an *Error where the answer was judged. With the kind Waiting it fits
// and stays with its request, to be tried again; then, and with no other error, the
// result is whole. What is refused changes nothing: an answer that waited before
// still does. If ctx ends first, the answer may be in force, or stay.
func (m *Manager) Import(ctx context.Context, o ImportOrder) (Imported, error) {
	if m.c.Keeper == nil {
		return Imported{}, errNoKeeper
	}
	for _, rule := range o.Allow {
		if err := rotate.CheckRule(rule); err != nil {
			return Imported{}, usage("", "%w", err)
		}
	}
	answer, err := o.read()
	if err != nil {
		return Imported{}, err
	}
	t, err := m.target(answer, o.Request)
	if err != nil {
		return Imported{}, err
	}
	end, err := m.turn(ctx, t.slot.Name)
	if err != nil {
		return Imported{}, err
	}
	defer end()
	slot := t.slot.Name
	if t, err = m.target(answer, o.Request); err != nil { // as it is now: the request may have ended meanwhile
		return Imported{}, err
	}
	if t.slot.Name != slot {
		return Imported{}, &Error{Kind: Failed, Err: fmt.Errorf("slots %q and %q changed meanwhile", slot, t.slot.Name), Advice: "import it again"}
	}
	c, err := m.fit(answer, t, time.Now())
	if err != nil {
		return Imported{}, err
	}
	return m.take(ctx, c, o)
}

// read reads every file. One in which nothing is found is judged bad, be the
// others good or not.
func (o *ImportOrder) read() (*enrol.Answer, error) {
	answer := &enrol.Answer{KeepClosed: o.CertificatesOnly}
	var errs []error
	for _, f := range o.Files {
		errs = append(errs, answer.Read(f.Name, f.Data, o.Password))
	}
	if err := errors.Join(errs...); err != nil {
		e := &Error{Kind: Refused, Reason: ReasonMalformed, Err: err}
		if o.CertificatesOnly && len(answer.Private) > 0 {
			e.Advice = "take it with spinecert import FILE, which reads what holds keys"
		}
		return nil, e
	}
	if len(o.Files) == 0 {
		return nil, usage("name the file that came back", "there is nothing to import")
	}
	return answer, nil
}

// take judges a candidate as far as that can be done without changing anything,
// then keeps it and offers it to its slot.
func (m *Manager) take(ctx context.Context, c candidate, o ImportOrder) (Imported, error) {
	var before *pki.Identity
	if !c.request.Answered.IsZero() {
		before, _ = m.kept(c.request) // what cannot be read may be replaced
	}
	if err := c.superseded(before, o.Allow); err != nil {
		return Imported{}, err
	}
	err := m.c.Keeper.Preview(c.slot.Name, c.identity, o.Allow, time.Now())
	if err != nil && (!WaitsFor(err) || c.request.ID == "") {
		return Imported{}, judged(Refused, c.said(err))
	}
	out := m.describe(c)
	if o.DryRun {
		if err != nil {
			return m.waits(out, c, err)
		}
		out.Outcome = Fits
		return out, nil
	}
	return m.offer(ctx, c, o, before, out)
}

// said prefers the words of Fit, which names what is missing.
func (c *candidate) said(err error) error {
	var v *trust.VerifyError
	if c.missing != nil && errors.As(c.missing, &v) && trust.ReasonOf(err) == v.Reason {
		return c.missing
	}
	return err
}

// offer keeps a candidate beside its request and offers it to the slot.
func (m *Manager) offer(ctx context.Context, c candidate, o ImportOrder, before *pki.Identity, out Imported) (Imported, error) {
	if err := m.keep(c.request, c.identity); err != nil {
		return Imported{}, fmt.Errorf("keep the answer to request %s: %w", c.request.ID, err)
	}
	err := m.c.Keeper.Offer(ctx, c.slot.Name, c.identity, rotate.Order{Allow: o.Allow, Actor: o.Actor})
	switch {
	case err == nil:
		return m.taken(ctx, c, out)
	case !isRefusal(err):
		return out, err
	case WaitsFor(err) && c.request.ID != "":
		m.allow(c.request.ID, o.Allow)
		out, why := m.waits(out, c, err)
		m.c.Tell(Event{Kind: AnswerKept, Slot: c.slot.Name, Request: c.request.ID, Actor: o.Actor, Err: why})
		return out, why
	}
	// Refused for good. What waited before takes its place again.
	why := judged(Refused, c.said(err))
	undo := m.c.dropAnswer(c.request)
	if before != nil {
		undo = m.keep(c.request, before)
	}
	m.refresh(c.slot.Name)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoPatience)
	defer cancel()
	if err := errors.Join(undo, m.offerWaiting(ctx, c.slot.Name, true)); err != nil {
		return Imported{}, &Error{Kind: Failed, Err: fmt.Errorf("%w; and then: %w", why, err), Advice: pki.Hint(why)}
	}
	return Imported{}, why
}

// undoPatience bounds the way back from an answer that was refused.
const undoPatience = 10 * time.Second

// keep writes an answer beside its request. Without a request there is no place.
func (m *Manager) keep(r state.Request, id *pki.Identity) error {
	if r.ID == "" {
		return nil
	}
	chain := pki.EncodeCertificates(append([]*x509.Certificate{id.Leaf()}, id.Chain()...)...)
	if err := m.c.Directory.KeepAnswer(r.Slot, r.ID, chain); err != nil {
		return err
	}
	m.refresh(r.Slot)
	return nil
}

func (c Config) dropAnswer(r state.Request) error {
	if r.ID == "" {
		return nil
	}
	return c.Directory.DropAnswer(r.Slot, r.ID)
}

// taken ends the request of an answer that is in force.
func (m *Manager) taken(ctx context.Context, c candidate, out Imported) (Imported, error) {
	out.Outcome = Unchanged
	if g := m.serving(c.slot.Name); g != nil {
		out.To, out.Identity = g.Number, g.Identity
		if out.To != out.From {
			out.Outcome = InForce
		}
	}
	if err := m.settled(ctx, c.slot.Name); err != nil {
		out.Notes = append(out.Notes, fmt.Sprintf("it is in force, but its request could not be ended, which is tried again at the next start: %v", err))
	}
	out.Open = m.others(c)
	return out, nil
}

// others are the requests that a slot has besides.
func (m *Manager) others(c candidate) []state.Request {
	var out []state.Request
	for _, r := range m.requestsOf(c.slot.Name) {
		if r.ID != c.request.ID {
			out = append(out, r)
		}
	}
	return out
}

func (m *Manager) describe(c candidate) Imported {
	out := Imported{Slot: c.slot.Name, Environment: c.slot.Environment, Request: c.request.ID, Identity: c.identity, Where: c.fitted.Where,
		Notes: c.fitted.Notes, Added: map[string]bool{}, Open: m.others(c)}
	for _, ca := range c.fitted.Added {
		out.Added[pki.Fingerprint(ca)] = true
	}
	if c.fitted.Judged && c.fitted.Root != nil {
		out.Root = c.fitted.Root.Subject.String()
	}
	if g := m.serving(c.slot.Name); g != nil {
		out.From, out.To = g.Number, g.Number
	}
	return out
}

// waits says why an answer is not in force yet, and when it is tried again.
func (m *Manager) waits(out Imported, c candidate, err error) (Imported, error) {
	out.Outcome = Waits
	var r *rotate.Refusal
	var v *trust.VerifyError
	errors.As(err, &r) // it is one, or it would not wait
	switch r.Reason {
	case string(trust.NotYetValid):
		out.Again = "it comes into force by itself when it is valid"
		if errors.As(err, &v) && v.Certificate != nil {
			out.NotBefore = v.Certificate.NotBefore.UTC()
			out.Again = "it comes into force by itself on " + out.NotBefore.Format(time.RFC3339)
		}
	case string(trust.UnknownIssuer):
		out.Again = fmt.Sprintf("it is tried again when the trust of environment %s changes", c.slot.Environment)
	case reasonNoTrust:
		out.Again = fmt.Sprintf("it is tried again when the trust of environment %s is there", c.slot.Environment)
	default:
		out.Again = "it is tried again by itself, every few minutes at least"
	}
	why := judged(Waiting, c.said(err))
	return out, why
}
