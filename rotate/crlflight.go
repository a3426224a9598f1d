package rotate

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"time"

	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate/fetch"
	"github.com/spinecert/spinecert/trust"
)

// crlflight.go: one list is asked for, judged and put in force.

// longestFlight bounds one download. Handshakes wait for less; what comes later is
// in force for the next one.
const longestFlight = time.Minute

// The results of asking for a list; also the metric labels.
const (
	CRLFetched   = "fetched"   // a new list is in force
	CRLUnchanged = "unchanged" // the one in force is the newest
	CRLFailed    = "failed"    // no answer that could be judged
	CRLRefused   = "refused"   // what came was judged bad; what was in force stays
)

// flight is one request and what it needs of the run loop's knowledge.
type flight struct {
	client      *fetch.Client
	environment string
	address     string
	known       fetch.Known
	bundle      *trust.Bundle
	store       CRLStore
}

// landing is what came of it.
type landing struct {
	crl    *trust.CRL // nil if unchanged, or with an error
	known  fetch.Known
	memory bool // the store did not take the contents
	result string
	err    error
	spool  *os.File // the contents of crl; whoever takes the landing closes it
}

func (f flight) run(ctx context.Context) landing {
	ctx, cancel := context.WithTimeout(ctx, longestFlight)
	defer cancel()
	var r landing
	if f.store != nil {
		if spool, err := f.store.SpoolCRL(); err == nil {
			r = f.into(ctx, spool)
			if reasonOfFetch(r.err) != fetch.Unwritable {
				return r
			}
		}
	}
	// Also where the disk is full: it must not keep a revocation out.
	spool, err := memorySpool()
	if err != nil {
		return landing{result: CRLFailed, err: fmt.Errorf("make room for crl %q: %w", f.address, err)}
	}
	r = f.into(ctx, spool)
	r.memory = true
	return r
}

// into asks once, and writes the answer to spool.
func (f flight) into(ctx context.Context, spool *os.File) landing {
	answer, err := f.client.Get(ctx, f.address, f.known, spool)
	if err != nil || answer.Unchanged {
		r := landing{result: CRLUnchanged, known: answer.Known, err: err}
		if err != nil {
			r.result = CRLFailed
		}
		return closing(spool, r)
	}
	crl, err := readList(spool, f.address, f.bundle)
	if err == nil {
		err = fits(crl, f.address)
	}
	if err != nil {
		return closing(spool, landing{result: CRLRefused, err: err})
	}
	return landing{crl: crl, known: answer.Known, result: CRLFetched, spool: spool}
}

func closing(spool *os.File, r landing) landing {
	_ = spool.Close() // it is gone then; nothing of it counts
	return r
}

// fits refuses a list that names other distribution points than the address it came
// from: a genuine list of another partition, put in the place of the right one,
// would leave the certificates of this one without an answer.
func fits(crl *trust.CRL, address string) error {
	if crl.MayBeOf(address) {
		return nil
	}
	return &trust.CRLError{Origin: address, Reason: trust.CRLInvalid, Detail: fmt.Sprintf("it is the list of %q, not of this address", crl.Scope().Names),
		Advice: "see what the server is set to answer, and whether something stands between"}
}

// readList reads a list, DER or PEM, that is on disk.
func readList(f *os.File, origin string, bundle *trust.Bundle) (_ *trust.CRL, err error) {
	// A disk that fails, or a file that somebody cuts short, is a fault of the memory
	// that it is mapped to.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if fault := recover(); fault != nil {
			if _, ok := fault.(interface{ Addr() uintptr }); !ok {
				panic(fault)
			}
			err = fmt.Errorf("read crl %q: it cannot be read to its end", origin)
		}
	}()
	der, release, err := mapped(f)
	if err != nil {
		return nil, fmt.Errorf("read crl %q: %w", origin, err)
	}
	defer release()
	if der, err = oneCRL(der, origin); err != nil {
		return nil, err
	}
	return trust.ReadCRL(der, origin, bundle.Certificates())
}

// oneCRL returns the DER of the one list in data. DER is taken as it is.
func oneCRL(data []byte, origin string) ([]byte, error) {
	if len(data) > 0 && data[0] == 0x30 {
		return data, nil
	}
	contents, err := pki.Parse(data, nil)
	if err != nil || len(contents.CRLs) != 1 {
		return nil, &trust.CRLError{Origin: origin, Reason: trust.Malformed, Detail: "it is not one CRL, DER or PEM", Advice: "see what is there: spinecert inspect FILE"}
	}
	return contents.CRLs[0], nil
}

// fetchDue starts what is due and returns when something will be; false if nothing is known.
func (k *Keeper) fetchDue(ctx context.Context, now time.Time) (time.Time, bool) {
	var next time.Time
	for _, e := range k.environments {
		e.takeSeekers(now)
		if !e.publishAt.IsZero() && now.Sub(e.published).Abs() >= publishPause {
			e.publishCRLs(k, now)
		}
		state := e.state.Load()
		if state == nil {
			continue
		}
		if now.Sub(e.collected) >= defaultRefresh || e.collected.After(now) {
			e.collect(k, now)
		}
		if e.client.Load() == nil {
			continue
		}
		if e.fetchAt.IsZero() || !now.Before(e.fetchAt) || e.fetchAt.Sub(now) > 2*e.refresh()+longestPause {
			k.launch(ctx, e, state, now)
		}
		if e.untold {
			e.tellLists()
		}
		if !e.publishAt.IsZero() && (next.IsZero() || e.publishAt.Before(next)) {
			next = e.publishAt
		}
		if !e.fetchAt.IsZero() && (next.IsZero() || e.fetchAt.Before(next)) {
			next = e.fetchAt
		}
	}
	return next, !next.IsZero()
}

// launch starts the flights of e that are due, as far as there is room, and notes
// when the next one is.
func (k *Keeper) launch(ctx context.Context, e *Environment, state *trust.State, now time.Time) {
	var waiting, rest []*crlList
	e.fetchAt = wall(now.Add(beatInterval))
	for _, l := range e.lists {
		switch {
		case l.barred && l.told == "": // once: it is a mistake in the configuration
			l.failures = 1
			k.tellFetch(e, l, landing{result: CRLFailed, err: l.err})
			e.untold = true
		case l.flying || l.barred || l.origin == CRLOfCarrier:
		case !l.due(now, e.refresh()):
			if l.next.Before(e.fetchAt) {
				e.fetchAt = l.next
			}
		case len(l.waiting) > 0:
			waiting = append(waiting, l)
		default:
			rest = append(rest, l)
		}
	}
	// Not always in the same order: the first ones must not starve the others.
	rand.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
	for _, l := range waiting {
		if k.flights < maxFlights {
			k.fly(ctx, e, l, state)
		}
	}
	for _, l := range rest {
		if k.flights < maxUnwanted {
			k.fly(ctx, e, l, state)
		}
	}
}

func (k *Keeper) fly(ctx context.Context, e *Environment, l *crlList, state *trust.State) {
	l.flying = true
	k.flights++
	f := flight{client: e.client.Load(), environment: e.name, address: l.address, bundle: state.Bundle(), store: k.options.CRLs}
	// Not where the answer would leave us without its contents, nor for a list that
	// has ended: whoever says that it is the newest may say so for ever.
	if l.crl != nil && !l.unsaved && state.Bundle().Names(l.crl.IssuerCertificate()) && !time.Now().After(l.crl.NextUpdate()) {
		f.known = fetch.Known{ETag: l.kept.ETag, LastModified: l.kept.LastModified}
	}
	k.air.Go(func() {
		r := f.run(ctx)
		var save func(context.Context)
		err := k.call(ctx, func() { save = k.land(e, l, r, time.Now()) })
		if err == nil && save != nil {
			save(ctx)
		}
		if r.spool != nil {
			_ = r.spool.Close()
		}
	})
}

// land puts what came of a flight in force, and returns what is left to be done for
// the disk, which the run loop does not wait for.
func (k *Keeper) land(e *Environment, l *crlList, r landing, now time.Time) (save func(context.Context)) {
	k.flights--
	for _, other := range k.environments {
		other.fetchAt = time.Time{} // there is room for a flight
	}
	first := !l.asked
	l.flying, l.asked, l.tried = false, true, wall(now)
	defer l.answered()
	if e.unit.removed || e.lists[l.address] != l {
		return nil
	}
	if r.crl != nil {
		if bundle := e.state.Load().Bundle(); !bundle.Names(r.crl.IssuerCertificate()) {
			r = landing{result: CRLFailed, err: errors.New("the bundle changed meanwhile; it is asked for again")}
		} else if err := l.refuse(r.crl, bundle, now); err != nil {
			r = landing{result: CRLRefused, err: err}
		}
	}
	whole := r.crl != nil
	if l.err = r.err; r.err != nil {
		l.failures++
	} else {
		l.failures, l.kept.Fetched = 0, wall(now).UTC()
		l.kept.ETag, l.kept.LastModified = r.known.ETag, r.known.LastModified
	}
	if whole && l.crl != nil && l.crl.Digest() == r.crl.Digest() && e.state.Load().Bundle().Names(l.crl.IssuerCertificate()) {
		r.crl, r.result = nil, CRLUnchanged
	}
	if r.crl != nil {
		l.crl, l.unsaved = r.crl, true
		e.publishSoon(k, first || len(l.waiting) > 0, now)
	}
	e.schedule(l, now)
	e.tellLists()
	k.tellFetch(e, l, r)
	if r.err != nil || k.options.CRLs == nil || l.saving {
		return nil
	}
	kept, spool := l.kept, r.spool
	switch {
	case !whole && l.unsaved || whole && r.memory: // nothing that the store could keep
		return nil
	case !l.unsaved:
		spool = nil
	}
	l.saving, l.unsaved = true, false
	return func(ctx context.Context) { k.saveList(ctx, e, l, kept, spool) }
}

// publishPause is between two states that differ in lists nobody waits for: a start
// fetches hundreds, and each state is given to every slot.
const publishPause = 250 * time.Millisecond

// publishSoon puts what has landed in force: at once, or together with what lands
// within publishPause.
func (e *Environment) publishSoon(k *Keeper, atOnce bool, now time.Time) {
	if atOnce || now.Sub(e.published).Abs() >= publishPause {
		e.publishCRLs(k, now)
	} else if e.publishAt.IsZero() {
		e.publishAt = e.published.Add(publishPause)
	}
}

// refuse guards the list in force: revocation never goes back.
func (l *crlList) refuse(next *trust.CRL, bundle *trust.Bundle, now time.Time) error {
	invalid := func(advice, format string, args ...any) error {
		return &trust.CRLError{Origin: l.address, Reason: trust.CRLInvalid, Detail: fmt.Sprintf(format, args...), Advice: advice}
	}
	between := "see what the server answers, and whether something stands between"
	signer := next.IssuerCertificate()
	if len(l.issuers) > 0 && !l.issuers[string(signer.RawSubject)] {
		return invalid(between, "it is the list of %q, and the certificates that name this address are of another CA", signer.Subject.CommonName)
	}
	if next.ThisUpdate().After(now.Add(crlTolerance)) {
		return invalid("check the clock of this host", "it is dated in the future, %s", day(next.ThisUpdate()))
	}
	if l.crl == nil || !bundle.Names(l.crl.IssuerCertificate()) {
		return nil
	}
	switch same := sameList(next, l.crl); {
	case same && olderCRL(next, l.crl):
		return &Refusal{Reason: RuleCRLNumber, Rule: RuleCRLNumber, Err: fmt.Errorf("read crl %q: it is %s, older than the one in force, %s", l.address, edition(next), edition(l.crl)),
			Advice: "the newer list stays in force; " + between}
	case same:
	case len(next.Scope().RawNames) == 0 && len(l.crl.Scope().RawNames) > 0:
		return invalid(between, "it does not say what it covers, and the one in force does")
	case !now.After(l.crl.NextUpdate()):
		return invalid("the list in force stays until it ends; "+between, "it is of another key or scope than the one in force")
	}
	return nil
}

// edition names one of the lists of an address.
func edition(crl *trust.CRL) string {
	if n := crl.Number(); n != nil {
		return fmt.Sprintf("number %s of %s", n, day(crl.ThisUpdate()))
	}
	return "of " + day(crl.ThisUpdate())
}

// crlTolerance is granted to thisUpdate, as by package trust.
const crlTolerance = 5 * time.Minute

// RuleCRLNumber refuses a list that is older than the one in force.
const RuleCRLNumber = "crl-number"

func (k *Keeper) tellFetch(e *Environment, l *crlList, r landing) {
	ev := Event{Kind: EventCRLFetch, Environment: e.name, Address: l.address, CRL: r.crl, Result: r.result, Err: r.err}
	outcome := r.result
	if r.err != nil {
		ev.Reason = reasonOfFetch(r.err)
		outcome += " " + r.err.Error()
	} else if r.crl == nil {
		outcome = CRLFetched // it is as good as the one before
	}
	ev.Repeated = outcome == l.told
	l.told = outcome
	k.tell(ev)
}

// reasonOfFetch is one word for why a list was not had.
func reasonOfFetch(err error) string {
	var f *fetch.Error
	var r *Refusal
	switch {
	case errors.As(err, &f):
		return f.Reason
	case errors.As(err, &r):
		return r.Reason
	}
	if reason := trust.ReasonOf(err); reason != "" {
		return string(reason)
	}
	return "failed"
}

// publishCRLs puts a state in force that has the lists of now.
func (e *Environment) publishCRLs(k *Keeper, now time.Time) {
	old := e.state.Load()
	if old == nil {
		return
	}
	e.publishAt, e.published = time.Time{}, now
	e.sequence++
	state := old.WithCRLs(e.allCRLs(old.Bundle()), e.sequence)
	e.state.Store(state)
	for _, s := range k.slots {
		if s.env == e {
			s.trustChanged(k, state, now)
		}
	}
	e.markRevoked(k, old, state)
	e.restate()
	k.tell(Event{Kind: EventTrustChanged, Environment: e.name, Trust: state, Previous: old, CRLsOnly: true})
}
