package rotate

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate/fetch"
	"github.com/spinecert/spinecert/trust"
)

// Environment holds the trust of one environment over time.
type Environment struct {
	name   string
	state  atomic.Pointer[trust.State]
	status atomic.Pointer[EnvironmentStatus]
	small  atomic.Pointer[smallLists] // of the files, in force

	// Of fetched and carried lists, see crllist.go.
	keeper   *Keeper
	client   atomic.Pointer[fetch.Client]    // nil: nothing is fetched
	asked    atomic.Pointer[map[string]bool] // by address: it was asked for once
	crls     atomic.Pointer[[]CRLStatus]
	patience atomic.Int64 // of a handshake, nanoseconds
	seeking  sync.Mutex
	seekers  []*seeker
	keeping  sync.Mutex // held while a list is written to the store, or taken from it
	carrying sync.Mutex // held while a list is carried here

	// Only the run loop touches what follows.
	unit     unit
	config   EnvironmentConfig
	changed  bool // the configuration changed since the state was made
	sequence uint64
	source   [sha256.Size]byte
	files    []*trust.CRL // of the files, in force
	kept     []*trust.CRL // of them, those in force although the files hold older ones

	lists     map[string]*crlList // by address
	fetchAt   time.Time           // when a list may be due; zero: now
	collected time.Time           // when collect ran
	publishAt time.Time           // when lists that have landed are to be in force; zero: none wait
	published time.Time           // when that was done last
	untold    bool                // a list is known that tellLists has not published
}

// EnvironmentStatus is how an environment stands. It is immutable.
type EnvironmentStatus struct {
	Config  EnvironmentConfig
	Trust   *trust.State // nil until it was read once
	Refusal *Refusal     // why the files on disk are not what is in force
	Since   time.Time    // since when they are not; zero if they are
	// Proposed is what the trust files hold, where that is refused by RuleTrustShrink; else nil.
	Proposed *trust.Bundle
}

func newEnvironment(k *Keeper, c EnvironmentConfig) *Environment {
	e := &Environment{name: c.Name, keeper: k, config: c, changed: true, lists: map[string]*crlList{}}
	e.unit.owner = e
	e.retune()
	e.status.Store(&EnvironmentStatus{Config: c})
	return e
}

// Name returns the name of the environment.
func (e *Environment) Name() string { return e.name }

// Trust returns the state that is in force, or nil.
func (e *Environment) Trust() *trust.State { return e.state.Load() }

// Status returns how the environment stands.
func (e *Environment) Status() *EnvironmentStatus { return e.status.Load() }

func (e *Environment) job(k *Keeper, o *order) job {
	t := trustLook{config: e.config, current: e.state.Load(), files: e.files, order: o, store: k.options.CRLs, suspect: k.suspect(), have: map[string]bool{}}
	source, changed := e.source, e.changed
	limit := e.config.MaxCRL
	if limit == 0 {
		limit = maxFile
	}
	for address, l := range e.lists {
		if l.crl != nil {
			t.have[address] = true
			t.signers = append(t.signers, l.crl.IssuerCertificate())
		}
	}
	return job{
		paths: e.config.Trust, folders: e.config.CRLs, limit: limit,
		stage: func(m *material, unread *Refusal, now time.Time) (publish, *Refusal) {
			if unread != nil {
				return nil, unread
			}
			if t.current != nil && !changed && m.digest == source && len(m.failed) == 0 {
				return nil, nil
			}
			staged, refusal := t.stage(m, now)
			if staged == nil || refusal != nil && !changed && t.same(staged) {
				return nil, refusal
			}
			if refusal != nil {
				m.digest = [sha256.Size]byte{} // what is in force is not what the files hold
			}
			return func(k *Keeper, at time.Time) (bool, *Refusal) {
				return e.publish(k, staged, &t.config, m.digest, o, at)
			}, refusal
		},
	}
}

// trustLook is one look at the trust of an environment: what the run loop knew when
// it began.
type trustLook struct {
	config  EnvironmentConfig
	current *trust.State // nil at first
	files   []*trust.CRL // in force, of its files
	order   *order
	store   CRLStore
	suspect bool                // dates do not count
	have    map[string]bool     // addresses whose list is in memory
	signers []*x509.Certificate // of those lists
}

// stagedTrust is what came of it.
type stagedTrust struct {
	state  *trust.State // without fetched lists
	kept   []*trust.CRL // of the files in force, although they now hold older ones
	loaded []keptList
	small  smallLists // that were read
}

// same reports whether staged is what is in force.
func (t *trustLook) same(staged *stagedTrust) bool {
	next := staged.state.CRLs()
	return t.current != nil && t.current.Bundle().Digest() == staged.state.Bundle().Digest() && len(next) == len(t.files) &&
		!slices.ContainsFunc(next, func(a *trust.CRL) bool {
			return !slices.ContainsFunc(t.files, func(b *trust.CRL) bool { return a.Digest() == b.Digest() && a.Origin() == b.Origin() })
		})
}

// stage makes a trust state of what was read. With a refusal beside it, that is of
// lists which were not taken: those in force stay, and what else was read counts.
func (t *trustLook) stage(m *material, now time.Time) (*stagedTrust, *Refusal) {
	c := &t.config
	var sources []trust.Source
	for _, path := range c.Trust {
		sources = append(sources, trust.Source{Name: label(path), Data: m.data[path]})
	}
	bundle, err := trust.ParseBundle(sources...)
	if err != nil {
		return nil, trustRefusal(err)
	}
	dated := now
	if t.suspect {
		dated = time.Time{} // nothing has ended for a clock that may be wrong
	}
	if !bundle.Living(dated) {
		return nil, &Refusal{Reason: string(trust.Expired), Err: fmt.Errorf("trust bundle of environment %q: every root in it has expired", c.Name),
			Advice: "add the current root of the environment to its trust files"}
	}
	if r := guardTrust(c.Name, bundle, t.current, t.order.rulesFor(bundle), dated); r != nil {
		return nil, r
	}
	out := &stagedTrust{small: smallLists{}}
	crls, unread := readCRLs(m, bundle, out.small)
	if t.current != nil {
		crls, out.kept = newerCRLs(crls, t.files)
		lost := lostCRLs(c, bundle, crls, t.files, dated)
		crls, out.kept = append(crls, lost...), append(out.kept, lost...)
	}
	out.state, err = trust.NewState(trust.StateConfig{
		Environment: c.Name, Profile: c.Profile, Bundle: bundle, CRLs: crls, NameFromCN: c.NameFromCN,
		Revocation: c.Revocation, Grace: c.Grace, AcceptableCAs: c.AcceptableCAs, MinRSABits: c.MinRSABits, MinECBits: c.MinECBits,
		SignatureAlgorithms: c.Signatures, RequireStaple: c.RequireStaple,
	})
	if err != nil {
		return nil, trustRefusal(err)
	}
	if t.current == nil || t.current.Bundle().Digest() != bundle.Digest() {
		if slices.ContainsFunc(t.signers, func(c *x509.Certificate) bool { return !bundle.Names(c) }) {
			t.have = nil // read all again: another certificate may hold the same key
		}
		out.loaded = loadKept(t.store, c.Name, bundle, t.have)
	}
	if unread != nil {
		r := trustRefusal(unread)
		r.CRLs = true
		return out, r
	}
	return out, nil
}

// readCRLs returns the lists that were read, their bytes in small, and what is wrong with the others.
func readCRLs(m *material, bundle *trust.Bundle, small smallLists) ([]*trust.CRL, error) {
	var out []*trust.CRL
	var errs []error
	for _, path := range slices.Sorted(maps.Keys(m.failed)) {
		errs = append(errs, m.failed[path])
	}
	for _, path := range m.folded {
		if m.failed[path] != nil {
			continue
		}
		contents, err := pki.Parse(m.data[path], nil)
		if err != nil {
			errs = append(errs, pki.WithFile(err, label(path)))
			continue
		}
		if len(contents.CRLs) == 0 {
			errs = append(errs, fmt.Errorf("read crl %q: there is no CRL in it", label(path)))
		}
		for _, der := range contents.CRLs {
			crl, err := trust.ReadCRL(der, path, bundle.Certificates())
			if err != nil {
				errs = append(errs, err)
				continue
			}
			out = append(out, crl)
			if len(m.data[path]) <= maxSmallFile {
				small[crl.Digest()] = der
			}
		}
	}
	return out, errors.Join(errs...)
}

// newerCRLs replaces each CRL of next that is older than the one in force for the
// same issuer and scope: revocation never goes back.
func newerCRLs(next, current []*trust.CRL) (out, kept []*trust.CRL) {
	out = slices.Clone(next)
	for i, n := range out {
		for _, c := range current {
			if sameList(n, c) && olderCRL(n, c) {
				out[i], kept = c, append(kept, c)
			}
		}
	}
	return out, kept
}

// lostCRLs returns the lists of current that no file holds any more, although
// their files are still named: a list that was replaced by one of another issuer
// or partition must not take its revocations with it. It stays until it ends.
func lostCRLs(c *EnvironmentConfig, bundle *trust.Bundle, next, current []*trust.CRL, now time.Time) []*trust.CRL {
	var lost []*trust.CRL
	for _, old := range current {
		replaced := slices.ContainsFunc(next, func(n *trust.CRL) bool { return sameList(n, old) })
		ended := now.After(old.NextUpdate().Add(c.Grace))
		if !replaced && !ended && isSource(c, old.Origin()) && slices.ContainsFunc(bundle.Certificates(), old.IssuerCertificate().Equal) {
			lost = append(lost, old)
		}
	}
	return lost
}

// isSource reports whether a file is named, or is in a directory that is named.
func isSource(c *EnvironmentConfig, path string) bool {
	return slices.ContainsFunc(c.CRLs, func(named string) bool {
		named = filepath.Clean(named)
		return named == filepath.Clean(path) || named == filepath.Dir(path)
	})
}

func sameList(a, b *trust.CRL) bool {
	if !bytes.Equal(a.IssuerCertificate().RawSubjectPublicKeyInfo, b.IssuerCertificate().RawSubjectPublicKeyInfo) {
		return false
	}
	x, y := a.Scope(), b.Scope()
	if x.OnlyUser != y.OnlyUser || x.OnlyCA != y.OnlyCA {
		return false
	}
	if len(x.RawNames) == 0 && len(y.RawNames) == 0 {
		return a.Origin() == b.Origin() // partitions without a name are told apart by their file
	}
	return slices.EqualFunc(x.RawNames, y.RawNames, func(p, q []byte) bool { return bytes.Equal(p, q) })
}

func olderCRL(n, c *trust.CRL) bool {
	if !n.ThisUpdate().Equal(c.ThisUpdate()) {
		return n.ThisUpdate().Before(c.ThisUpdate())
	}
	return n.Number() != nil && c.Number() != nil && n.Number().Cmp(c.Number()) < 0
}

func trustRefusal(err error) *Refusal {
	var r *Refusal
	switch {
	case errors.Is(err, pki.ErrIncoherent):
		return pending(reasonIncoherent, err)
	case errors.As(err, &r): // of reading
		return &Refusal{Reason: r.Reason, Pending: r.Pending, Err: err, Advice: r.Advice}
	}
	reason := string(trust.ReasonOf(err))
	var be *trust.BundleError
	if reason == "" && errors.As(err, &be) {
		reason = string(be.Reason)
	}
	if reason == "" {
		reason = reasonMaterial
	}
	return &Refusal{Reason: reason, Err: err}
}

// publish puts a state in force and gives it to every slot of the environment.
// Whether the identities of the slots still pass is found out afterwards: that
// never holds up a change of trust.
func (e *Environment) publish(k *Keeper, staged *stagedTrust, c *EnvironmentConfig, source [sha256.Size]byte, o *order, now time.Time) (bool, *Refusal) {
	old := e.state.Load()
	e.files = staged.state.CRLs()
	e.takeKept(staged.loaded, staged.state.Bundle(), now)
	e.sequence++
	state := staged.state.WithCRLs(e.allCRLs(staged.state.Bundle()), e.sequence) // joined with what was fetched meanwhile
	e.state.Store(state)
	e.source = source
	e.changed = !sameEnvironment(e.config, *c)
	e.collected, e.publishAt = time.Time{}, time.Time{}
	was := e.kept
	e.kept = staged.kept
	e.keepSmall(staged.small)
	for _, crl := range e.kept {
		if slices.Contains(was, crl) {
			continue // told before
		}
		err := fmt.Errorf("read crl %q: it no longer holds the list of %s, or an older one; that list stays in force", crl.Origin(), day(crl.ThisUpdate()))
		k.tell(Event{Kind: EventTrustRefused, Environment: e.name, Reason: RuleCRLNumber, Err: err})
	}
	for _, s := range k.slots {
		if s.env == e {
			s.trustChanged(k, state, now)
			k.markLater(&s.unit)
		}
	}
	// Last: what was asked for is in every snapshot then, and so is the state.
	e.tellLists()
	k.tell(Event{Kind: EventTrustChanged, Environment: e.name, Trust: state, Previous: old, Actor: o.actor()})
	return true, nil
}

// restate renews what readers see after the state has changed by itself.
func (e *Environment) restate() {
	st := *e.status.Load()
	st.Trust = e.state.Load()
	e.status.Store(&st)
}

func (e *Environment) settled(_ *Keeper, r *Refusal, _ time.Time) {
	st := &EnvironmentStatus{Config: e.config, Trust: e.state.Load(), Refusal: r, Since: e.unit.failing}
	if r != nil {
		st.Proposed = r.bundle
	}
	e.status.Store(st)
}

func (e *Environment) event(r *Refusal, late bool) Event {
	ev := Event{Kind: EventTrustRefused, Environment: e.name, Reason: r.Reason, Err: r}
	switch {
	case late:
		ev.Kind = EventIncoherent
	case r.Pending:
		ev.Kind = EventTrustPending
	}
	return ev
}

// ownChain is never called: an environment has nothing of its own to be judged.
func (e *Environment) ownChain(r *Refusal) Event { return e.event(r, false) }

func (e *Environment) cleared() Event { return Event{Kind: EventCleared, Environment: e.name} }

func sameEnvironment(a, b EnvironmentConfig) bool {
	return slices.Equal(a.Trust, b.Trust) && slices.Equal(a.CRLs, b.CRLs) && slices.Equal(a.AcceptableCAs, b.AcceptableCAs) &&
		slices.Equal(a.Fetch.Hosts, b.Fetch.Hosts) && a.Fetch.Proxy == b.Fetch.Proxy && a.Fetch.Refresh == b.Fetch.Refresh && a.Fetch.Timeout == b.Fetch.Timeout &&
		a.MinRSABits == b.MinRSABits && a.MinECBits == b.MinECBits && slices.Equal(a.Signatures, b.Signatures) && a.RequireStaple == b.RequireStaple &&
		a.Profile == b.Profile && a.NameFromCN == b.NameFromCN && a.Revocation == b.Revocation && a.Grace == b.Grace && a.MaxCRL == b.MaxCRL
}
