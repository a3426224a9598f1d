package manage

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	// JudgedOnly keeps no answer whose chain leads to no root of the environment: for
	// a place where others may put one. Whoever has seen a request can sign a
	// certificate for its key.
	JudgedOnly bool
	Allow      []string // guard rules to override, for this answer
	DryRun     bool     // judge, and change nothing
	Actor      any      // handed on in events; may be nil
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
	Doubts            []string        // Waits: the guard rules that will refuse it then, as sentences; also in Notes
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
// still does. With JudgedOnly the kind Failed and the reason environment_not_ready
// say that it could not be judged yet. If ctx ends first, the answer may be in force,
// or stay.
func (m *Manager) Import(ctx context.Context, o ImportOrder) (Imported, error) {
	if m.c.Keeper == nil {
		return Imported{}, errNoKeeper
	}
	for _, rule := range o.Allow {
		if err := rotate.CheckRule(rule); err != nil {
			return Imported{}, usage("", "%w", err)
		}
	}
	answer, err := within(ctx, o.read)
	if err != nil {
		return Imported{}, err
	}
	for range tries {
		c, err := within(ctx, func() (candidate, error) { return m.judge(ctx, answer, &o) })
		if err != nil {
			return Imported{}, err
		}
		if out, stale, err := m.takeInTurn(ctx, c, answer, o); !stale {
			return out, err
		}
	}
	return Imported{}, &Error{Kind: Failed, Err: errors.New("the slot, its request or its trust changed again and again while the answer was judged"), Advice: "import it again"}
}

// tries is how often an answer is judged while what it is judged by changes.
const tries = 5

// takeInTurn takes a candidate if it is still what it was when it was judged; else
// it is stale.
func (m *Manager) takeInTurn(ctx context.Context, c candidate, answer *enrol.Answer, o ImportOrder) (out Imported, stale bool, err error) {
	end, err := m.turn(ctx, c.slot.Name)
	if err != nil {
		return Imported{}, false, err
	}
	defer end()
	now, err := m.target(answer, o.Request) // the request may have ended meanwhile
	if err != nil {
		return Imported{}, false, err
	}
	if !c.stands(now, m.bundleOf(c.slot.Environment)) {
		return Imported{}, true, nil
	}
	c.target = now
	out, err = m.take(ctx, c, o)
	return out, false, err
}

// stands reports whether a candidate was judged in the place that it has now.
func (c *candidate) stands(now target, bundle *trust.Bundle) bool {
	was := &c.target
	return was.slot.Name == now.slot.Name && was.slot.Environment == now.slot.Environment && was.slot.FQDN == now.slot.FQDN &&
		was.request.ID == now.request.ID && pki.KeyFingerprint(was.key) == pki.KeyFingerprint(now.key) &&
		(c.bundle == nil) == (bundle == nil) && (bundle == nil || c.bundle.Digest() == bundle.Digest())
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
	return answer, tooLarge(answer)
}

// judge finds the place of an answer and judges it there as far as that can be done
// without changing anything. Whoever made the answer chose how long that takes, so
// nobody waits for it: it is not done in the turn of the slot.
func (m *Manager) judge(ctx context.Context, answer *enrol.Answer, o *ImportOrder) (candidate, error) {
	t, err := m.target(answer, o.Request)
	if err != nil {
		return candidate{}, err
	}
	now := time.Now()
	c, err := m.fit(ctx, answer, t, now)
	if err != nil {
		return c, err
	}
	if o.JudgedOnly && c.missing != nil {
		return c, m.unvouched(&c)
	}
	c.waits = m.preview(c.slot.Name, c.identity, o.Allow, now)
	if c.waits != nil && (!WaitsFor(c.waits) || c.request.ID == "") {
		return c, judged(Refused, c.said(c.waits))
	}
	if c.waits != nil {
		c.doubts = m.doubts(&c, o.Allow, now)
	}
	m.judging()
	return c, nil
}

// unvouched is for an answer that no root vouches for, from where anybody may have
// put it.
func (m *Manager) unvouched(c *candidate) error {
	if c.bundle == nil {
		return &Error{Kind: Failed, Reason: rotate.ReasonNoTrust, Err: c.missing,
			Advice: "see the environment in spinecert status; the answer is judged by itself when its trust files are there"}
	}
	return &Error{Kind: Refused, Reason: string(trust.UnknownIssuer), Err: c.missing,
		Advice: m.compare(c.slot.Environment, fmt.Sprintf("add it (spinecert trust add FILE --environment %s) and drop the answer again, or take both with spinecert import", c.slot.Environment))}
}

// preview judges an answer as the slot would. What ends by itself comes first: the
// guard is asked again on the day on which it has ended, and may say something else.
func (m *Manager) preview(slot string, id *pki.Identity, allow []string, now time.Time) error {
	err := m.c.Keeper.Preview(slot, id, allow, now)
	if err == nil || WaitsFor(err) {
		return err
	}
	guards := []string{rotate.RuleOlder, rotate.RuleNames, rotate.RuleKeyReuse, rotate.RuleRolledBack}
	if first := m.c.Keeper.Preview(slot, id, slices.Concat(allow, guards), now); WaitsFor(first) {
		return first
	}
	return err
}

// doubts says which guard rules will refuse an answer that waits, as far as that
// can be said before its time.
func (m *Manager) doubts(c *candidate, allow []string, now time.Time) []string {
	if from := c.identity.Leaf().NotBefore; now.Before(from) {
		now = from
	}
	var out []string
	rules := append(slices.Clone(allow), rotate.RuleChain)
	for {
		var r *rotate.Refusal
		err := m.c.Keeper.Preview(c.slot.Name, c.identity, rules, now)
		if !errors.As(err, &r) || r.Rule == "" || slices.Contains(rules, r.Rule) {
			return out
		}
		out = append(out, Clip(fmt.Sprintf("%v: when its time comes it will be refused for that, unless it is imported with --allow %s", r.Err, r.Rule)))
		rules = append(rules, r.Rule)
	}
}
