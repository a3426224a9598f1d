package sandbox

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// ScenarioG2 is the change from one hierarchy of CAs to another under load, as
// from G1 to G2 (SPINE.md, 3): first trust both, then move the slots and last the
// server certificates of the national side, then let the old chain go.
const ScenarioG2 = "g2"

// changeRotations is the number of rotations on either side of the change, where
// none was named: every style on each slot.
const changeRotations = 12

// shareOfSide is the part of the duration that the rotations of one side take, as
// a divisor. The steps in between take what they take.
const shareOfSide = 3

// holdsWithin is how long something may take to become so.
const holdsWithin = 5 * time.Second

// change carries a sandbox from its first hierarchy to its second.
type change struct {
	*stage
	picture       *picture
	tally         *tally
	duration      time.Duration
	before, after []step
	last          []step
	first         *authority // the old hierarchy
	old, young    *identity  // probes of either hierarchy
	steps         []StepResult
}

func newChange(s *stage, p *picture, t *tally, o RehearseOptions) *change {
	c := &change{stage: s, picture: p, tally: t, duration: o.Duration, first: s.spine, old: s.probe,
		before: plan(o.Rotations), after: plan(max(o.Rotations, 2)), // both slots have to move
		last: []step{{slot: providerSlot, how: renameBoth, broken: otherCA}, {slot: consumerSlot, how: keyThenCert, broken: otherCA}}}
	for _, name := range []string{"everything on the old hierarchy", "both hierarchies trusted", "slots moved, then the stand-in", "the old hierarchy gone"} {
		c.steps = append(c.steps, StepResult{Name: name, Checks: []Check{}})
	}
	return c
}

// totals are the good and the broken rotations that it makes.
func (c *change) totals() (good, broken int) {
	for _, s := range slices.Concat(c.before, c.after, c.last) {
		good++
		if s.broken != "" {
			broken++
		}
	}
	return good, broken
}

func (c *change) results() []StepResult { return c.steps }

// carryOut takes the steps; then the load runs on to the end. What the daemon gets
// wrong is in the results and ends the change; the error is for what the sandbox
// could not do.
func (c *change) carryOut(ctx context.Context) (err error) {
	began := time.Now()
	if c.young, err = probeIdentity(c.next, began); err != nil {
		return err
	}
	for i, take := range []func(context.Context, *StepResult) error{c.onOld, c.trustBoth, c.move, c.dropOld} {
		r, at := &c.steps[i], time.Now()
		err := take(ctx, r)
		r.Seconds = math.Round(time.Since(at).Seconds()*1000) / 1000
		if err != nil {
			return err
		}
		failed := slices.IndexFunc(r.Checks, func(k Check) bool { return !k.Held })
		if r.Done = failed < 0 && !over(ctx); !r.Done {
			break
		}
		c.picture.event(fmt.Sprintf("step %d of %d done: %s", i+1, len(c.steps), r.Name))
	}
	return c.lastUntil(ctx, began.Add(c.duration))
}

// check enters what has to be so.
func (c *change) check(ctx context.Context, r *StepResult, what string, err error) {
	k := Check{What: what, Held: err == nil}
	if err != nil {
		if k.Detail = err.Error(); over(ctx) {
			k.Detail = "the time was over"
		}
		c.picture.event("not so: " + what + ": " + k.Detail)
	}
	r.Checks = append(r.Checks, k)
}

// soon asks again and again until it is so, or for too long.
func (c *change) soon(ctx context.Context, is func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, holdsWithin)
	defer cancel()
	var last error
	for {
		err := is(ctx)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return cmpError(last, err) // err may be of the end of the time
		}
		last = err
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// onOld is the first step: all is as before, and the new hierarchy is a stranger.
func (c *change) onOld(ctx context.Context, r *StepResult) error {
	if err := c.spread(ctx, c.picture, c.tally, c.before, c.duration/shareOfSide); err != nil {
		return err
	}
	c.check(ctx, r, "a peer of the new hierarchy is refused", c.refused(ctx, c.young))
	var err error
	if n := c.crl.requests().Unknown; n > 0 {
		err = fmt.Errorf("%d requests", n)
	}
	c.check(ctx, r, "nobody asks for CRLs of hierarchies that are not trusted", err)
	return nil
}

// trustBoth is the second: both sides trust both, and nothing else changes.
func (c *change) trustBoth(ctx context.Context, r *StepResult) error {
	if err := c.refresh(ctx, c.next); err != nil {
		return err
	}
	file, sums := c.nextFile(), sumsOfAuthority(c.next)
	shown, err := c.daemon.add(ctx, file)
	if err == nil && (shown.Done || !sameSums(sumsOf(shown.Added), sums)) {
		err = fmt.Errorf("it shows %q, want %q; done: %t", sumsOf(shown.Added), sums, shown.Done)
	}
	c.check(ctx, r, "trust add shows the fingerprints and adds nothing", err)
	_, err = c.daemon.add(ctx, file, sumsOfAuthority(c.first)...)
	c.check(ctx, r, "trust add refuses other fingerprints", mustRefuse(err))
	added, err := c.daemon.add(ctx, file, sums...)
	if err == nil && !added.Done {
		err = errors.New("the daemon says that it was not done")
	}
	c.check(ctx, r, "trust add takes the right fingerprints", err)

	c.check(ctx, r, "the CRL of the new root is asked for", c.soon(ctx, func(context.Context) error {
		if !c.crl.wellAsked(c.next.rootList()) {
			return errors.New("nobody did")
		}
		return nil
	}))
	c.proxy.trusts(c.first, c.next)
	if err := c.rotateProxy(time.Now()); err != nil { // its list of acceptable CAs follows
		return err
	}
	c.check(ctx, r, "peers of both hierarchies are accepted, and the CAs of both are asked for", errors.Join(
		c.accepted(ctx, c.young, c.first, c.next), c.accepted(ctx, c.old, c.first, c.next)))
	want := []string{"slot " + providerSlot + ":", "slot " + consumerSlot + ":", "peer " + proxyName + " of tunnel " + providerTunnel + ",",
		"peer " + proxyName + " of tunnel " + freshTunnel + ","}
	c.check(ctx, r, "trust diff says what would break without the old hierarchy", c.soon(ctx, func(ctx context.Context) error {
		diff, err := c.daemon.diff(ctx, file)
		for _, w := range want {
			if err == nil && !slices.ContainsFunc(diff.Breaks, func(b string) bool { return strings.HasPrefix(b, w) }) {
				err = fmt.Errorf("nothing begins with %q in %q", w, diff.Breaks)
			}
		}
		return err
	}))
	return nil
}

// move is the third: the slots move, and the server certificates of the national
// side last.
func (c *change) move(ctx context.Context, r *StepResult) error {
	c.spine = c.next
	if err := c.spread(ctx, c.picture, c.tally, c.after, c.duration/shareOfSide); err != nil {
		return err
	}
	c.nation = c.next
	if err := c.rotateProxy(time.Now()); err != nil {
		return err
	}
	c.proxy.drain() // as the old CA goes, what rests on its certificates is cut
	c.looks[providerSlot] = lookInbound(c.proxy, c.young)
	c.check(ctx, r, "trust diff knows no slot and no peer on the old hierarchy", c.soon(ctx, func(ctx context.Context) error {
		diff, err := c.daemon.diff(ctx, c.nextFile())
		for _, b := range diff.Breaks {
			if strings.HasPrefix(b, "slot ") || strings.HasPrefix(b, "peer ") {
				return errors.New(b)
			}
		}
		return err
	}))
	return nil
}

// dropOld is the fourth: the old CAs go from the trust file, and go out of force on
// word.
func (c *change) dropOld(ctx context.Context, r *StepResult) error {
	if err := c.layout.writeBundle(c.next); err != nil {
		return err
	}
	c.check(ctx, r, "trust files without the old CAs wait for a word", c.daemon.await(ctx, holdsWithin, func(s status) bool { return s.has("trust_changed", environment) }))
	if err := c.layout.writeConfig(ProfileG2, c.places, c.parties()); err != nil {
		return err
	}
	c.check(ctx, r, "a reload says so", mustRefuse(c.daemon.reload(ctx)))
	c.check(ctx, r, "meanwhile peers of both hierarchies are accepted", errors.Join(c.accepted(ctx, c.old, c.first, c.next), c.accepted(ctx, c.young, c.first, c.next)))
	var diff trustDiff
	c.check(ctx, r, "trust diff shows what goes, and nothing breaks", c.soon(ctx, func(ctx context.Context) (err error) {
		if diff, err = c.daemon.diff(ctx); err == nil && (len(diff.Breaks) > 0 || !diff.Shrinks || !sameSums(sumsOf(diff.Removed), sumsOfAuthority(c.first))) {
			err = fmt.Errorf("shrinks %t, removed %q, breaks %q", diff.Shrinks, sumsOf(diff.Removed), diff.Breaks)
		}
		return err
	}))
	c.check(ctx, r, "trust accept refuses another bundle", mustRefuse(c.daemon.accept(ctx, strings.Repeat("0", 64))))
	c.check(ctx, r, "trust accept takes what was shown", c.daemon.accept(ctx, diff.Digest))
	c.check(ctx, r, "the condition is over", c.daemon.await(ctx, holdsWithin, func(s status) bool { return !s.has("trust_changed", environment) }))
	c.check(ctx, r, "a peer of the old hierarchy is refused", c.refused(ctx, c.old))
	c.check(ctx, r, "a peer of the new hierarchy is accepted, and only its CA is asked for", c.accepted(ctx, c.young, c.next))
	c.proxy.trusts(c.next)
	if err := c.rotateProxy(time.Now()); err != nil {
		return err
	}
	c.foreign = c.first // a leaf of it is one of another CA now
	return c.spread(ctx, c.picture, c.tally, c.last, 0)
}

func (c *change) nextFile() trustFile { return trustFile{Name: "new.pem", Data: c.next.bundlePEM()} }

func sumsOfAuthority(a *authority) []string {
	return []string{fingerprint(a.root.Certificate), fingerprint(a.sub.Certificate)}
}

func sameSums(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// mustRefuse turns a refusal into success, and all else into an error.
func mustRefuse(err error) error {
	switch {
	case refusedBy(err):
		return nil
	case err == nil:
		return errors.New("it was not refused")
	}
	return err
}

// knock dials the inbound tunnel as a peer with this identity, and returns the
// names of the CAs that the daemon asked for.
func (c *change) knock(ctx context.Context, id *identity) (asked []string, err error) {
	config := c.proxy.clientConfig(id)
	certificate := id.certificateTLS()
	config.GetClientCertificate = func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		for _, name := range info.AcceptableCAs {
			asked = append(asked, string(name))
		}
		return &certificate, nil
	}
	conn, err := c.proxy.dialer(config)(ctx, "tcp", "")
	if err != nil {
		return asked, err
	}
	return asked, conn.Close()
}

// accepted wants a peer to be let in, and the subCAs of just these authorities to
// be asked for.
func (c *change) accepted(ctx context.Context, id *identity, authorities ...*authority) error {
	asked, err := c.knock(ctx, id)
	if err != nil {
		return err
	}
	var want []string
	for _, a := range authorities {
		want = append(want, string(a.sub.Certificate.RawSubject))
	}
	if !sameSums(asked, want) {
		return fmt.Errorf("%d CAs are asked for, or others than the %d that are trusted", len(asked), len(want))
	}
	return nil
}

// refused wants a peer to be turned away by TLS: a connection that breaks in
// another way proves nothing.
func (c *change) refused(ctx context.Context, id *identity) error {
	_, err := c.knock(ctx, id)
	switch {
	case err == nil:
		return errors.New("it was accepted")
	case strings.Contains(err.Error(), "remote error: tls: "):
		return nil
	}
	return err
}
