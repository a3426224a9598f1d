package rotate

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/trust"
)

// Environment holds the trust of one environment over time.
type Environment struct {
	name   string
	state  atomic.Pointer[trust.State]
	status atomic.Pointer[EnvironmentStatus]

	// Only the run loop touches what follows.
	unit     unit
	config   EnvironmentConfig
	changed  bool // the configuration changed since the state was made
	sequence uint64
	source   [sha256.Size]byte
	kept     []*trust.CRL // in force although the files hold older ones
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

func newEnvironment(c EnvironmentConfig) *Environment {
	e := &Environment{name: c.Name, config: c, changed: true}
	e.unit.owner = e
	e.status.Store(&EnvironmentStatus{Config: c})
	return e
}

// Name returns the name of the environment.
func (e *Environment) Name() string { return e.name }

// Trust returns the state that is in force, or nil.
func (e *Environment) Trust() *trust.State { return e.state.Load() }

// Status returns how the environment stands.
func (e *Environment) Status() *EnvironmentStatus { return e.status.Load() }

func (e *Environment) job(_ *Keeper, o *order) job {
	c, current, source, changed := e.config, e.state.Load(), e.source, e.changed
	limit := c.MaxCRL
	if limit == 0 {
		limit = maxFile
	}
	e.sequence++
	sequence := e.sequence
	return job{
		paths: slices.Concat(c.Trust, c.CRLs), limit: limit,
		stage: func(m *material, unread *Refusal, now time.Time) (publish, *Refusal) {
			if unread != nil {
				return nil, unread
			}
			if current != nil && !changed && m.digest == source {
				return nil, nil
			}
			state, kept, refusal := stageTrust(&c, m, current, sequence, o, now)
			if refusal != nil {
				return nil, refusal
			}
			return func(k *Keeper, at time.Time) (bool, *Refusal) {
				return e.publish(k, state, &c, m.digest, kept, o, at)
			}, nil
		},
	}
}

// stageTrust makes a trust state of what was read. kept are the CRLs of current
// that stay in force because the files now hold older ones.
func stageTrust(c *EnvironmentConfig, m *material, current *trust.State, sequence uint64, o *order, now time.Time) (*trust.State, []*trust.CRL, *Refusal) {
	var sources []trust.Source
	for _, path := range c.Trust {
		sources = append(sources, trust.Source{Name: path, Data: m.data[path]})
	}
	bundle, err := trust.ParseBundle(sources...)
	if err != nil {
		return nil, nil, trustRefusal(err)
	}
	if !bundle.Living(now) {
		return nil, nil, &Refusal{Reason: string(trust.Expired), Err: fmt.Errorf("trust bundle of environment %q: every root in it has expired", c.Name),
			Advice: "add the current root of the environment to its trust files"}
	}
	if r := guardTrust(c.Name, bundle, current, o.rulesFor(bundle), now); r != nil {
		return nil, nil, r
	}
	crls, err := readCRLs(c, m, bundle)
	if err != nil {
		return nil, nil, trustRefusal(err)
	}
	var kept []*trust.CRL
	if current != nil {
		crls, kept = newerCRLs(crls, current.CRLs())
		lost := lostCRLs(c, bundle, crls, current.CRLs(), now)
		crls, kept = append(crls, lost...), append(kept, lost...)
	}
	state, err := trust.NewState(trust.StateConfig{
		Environment: c.Name, Profile: c.Profile, Bundle: bundle, CRLs: crls, NameFromCN: c.NameFromCN,
		Revocation: c.Revocation, Grace: c.Grace, AcceptableCAs: c.AcceptableCAs, Sequence: sequence,
	})
	if err != nil {
		return nil, nil, trustRefusal(err)
	}
	return state, kept, nil
}

func readCRLs(c *EnvironmentConfig, m *material, bundle *trust.Bundle) ([]*trust.CRL, error) {
	var out []*trust.CRL
	var errs []error
	for _, path := range c.CRLs {
		contents, err := pki.Parse(m.data[path], nil)
		if err != nil {
			errs = append(errs, pki.WithFile(err, path))
			continue
		}
		if len(contents.CRLs) == 0 {
			errs = append(errs, fmt.Errorf("read crl %q: there is no CRL in it", path))
		}
		for _, der := range contents.CRLs {
			crl, err := trust.ReadCRL(der, path, bundle.Certificates())
			if err != nil {
				errs = append(errs, err)
				continue
			}
			out = append(out, crl)
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
		if !replaced && !ended && slices.Contains(c.CRLs, old.Origin()) && slices.ContainsFunc(bundle.Certificates(), old.IssuerCertificate().Equal) {
			lost = append(lost, old)
		}
	}
	return lost
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
	if errors.Is(err, pki.ErrIncoherent) {
		return pending(reasonIncoherent, err)
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
func (e *Environment) publish(k *Keeper, state *trust.State, c *EnvironmentConfig, source [sha256.Size]byte, kept []*trust.CRL, o *order, now time.Time) (bool, *Refusal) {
	old := e.state.Load()
	if old != nil && old.Sequence() >= state.Sequence() {
		return false, nil // forward only
	}
	e.state.Store(state)
	e.source = source
	e.changed = !sameEnvironment(e.config, *c)
	k.tell(Event{Kind: EventTrustChanged, Environment: e.name, Trust: state, Previous: old, Actor: o.actor()})
	was := e.kept
	e.kept = kept
	for _, crl := range kept {
		if slices.Contains(was, crl) {
			continue // told before
		}
		err := fmt.Errorf("read crl %q: it no longer holds the list of %s, or an older one; that list stays in force", crl.Origin(), day(crl.ThisUpdate()))
		k.tell(Event{Kind: EventTrustRefused, Environment: e.name, Reason: "crl-number", Err: err})
	}
	for _, s := range k.slots {
		if s.env == e {
			s.trustChanged(k, state, now)
			k.markLater(&s.unit)
		}
	}
	return true, nil
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
		a.Profile == b.Profile && a.NameFromCN == b.NameFromCN && a.Revocation == b.Revocation && a.Grace == b.Grace && a.MaxCRL == b.MaxCRL
}
