package rotate

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/trust"
)

// Generation is one identity that a slot serves or served. It is immutable.
type Generation struct {
	Number   uint64 // for people; never repeats within a slot
	Identity *pki.Identity
	NotAfter time.Time // the earliest end of leaf and chain
	Since    time.Time // when it was published
	Origin   Origin
	Of       uint64 // FromRollback: the generation that was put in force again
	Held     bool   // FromRollback: until released, or until the source changes

	digest [sha256.Size]byte
	source [sha256.Size]byte // Held: what the source held then, which is not taken
	left   [sha256.Size]byte // Held: digest of what was rolled back from

	leftLeaf    [sha256.Size]byte // Held: SHA-256 of its leaf
	environment string            // in which it was published
}

// Digest identifies the content: leaf, chain and, through the leaf, the key.
// Lower-case hex SHA-256.
func (g *Generation) Digest() string { return hexDigest(g.digest) }

// Snapshot is what a slot serves at one moment: a generation and the trust state
// it stands under, and the TLS configurations made of both. It is immutable; a
// connection loads it once.
type Snapshot struct {
	Generation *Generation
	Trust      *trust.State
	env        *Environment
	built      time.Time
	configs    map[*Endpoint]endpointTLS
}

type endpointTLS struct {
	config *tls.Config
	err    error
}

// SlotState says how a slot's source relates to what it serves.
type SlotState string

// The states. Whatever the state, a slot with a generation serves it.
const (
	SlotEmpty   SlotState = "empty"   // no files, nothing served
	SlotReady   SlotState = "ready"   // what is on disk is what is served
	SlotPending SlotState = "pending" // what is on disk does not fit together yet
	SlotRefused SlotState = "refused" // what is on disk was judged bad
	SlotHeld    SlotState = "held"    // it was rolled back; what is on disk is not taken
)

// SlotStatus is how a slot stands. It is immutable.
type SlotStatus struct {
	Config       SlotConfig
	State        SlotState
	Generation   *Generation // nil while nothing is served
	Refusal      *Refusal    // why the source is not what is served, or why what is served fails its own trust
	PendingSince time.Time   // zero unless the state is pending or refused
	LastAttempt  time.Time   // when the source was last looked at
	Unsaved      error       // why the Store does not have what is served; nil if it has, or is about to
	UnsavedSince time.Time
	Offered      bool // managed: an offer stands, and Refusal is about it
}

// Slot holds one identity over time. Its methods may be called by many goroutines.
type Slot struct {
	name     string
	snapshot atomic.Pointer[Snapshot]
	status   atomic.Pointer[SlotStatus]

	mu        sync.Mutex // held while a snapshot is made and stored, and for endpoints
	endpoints map[*Endpoint]*sessions

	wentBack atomic.Bool
	storing  sync.Mutex    // held while the store is read or written; never by the run loop
	missed   uint64        // stored, when it was noticed that the store went back; storing guards it
	stored   atomic.Uint64 // newest generation that the store has
	asking   atomic.Bool   // the look that runs waits for the store

	tried Record // of the last Commit that failed; for the look that runs

	// Only the run loop touches what follows.
	unit   unit
	config SlotConfig
	env    *Environment
	number uint64
	loaded bool // the store was asked
	// damageTold is why what it has in force could not be loaded, when that was last told.
	damageTold string
	kept       *Generation // it had this, but there is no trust yet to serve it with
	offer      *pki.Identity
	// offerRules are overridden for the offer, as long as it stands.
	offerRules []string
	unsaved    unsavedState
	judged     *trust.State // the state with which the served source was last judged good
}

func newSlot(c SlotConfig) *Slot {
	s := &Slot{name: c.Name, config: c, endpoints: map[*Endpoint]*sessions{}}
	s.unit.owner = s
	s.status.Store(&SlotStatus{Config: c, State: SlotEmpty})
	return s
}

// Name returns the name of the slot.
func (s *Slot) Name() string { return s.name }

// Snapshot returns what the slot serves now, or nil.
func (s *Slot) Snapshot() *Snapshot { return s.snapshot.Load() }

// Status returns how the slot stands.
func (s *Slot) Status() *SlotStatus { return s.status.Load() }

// job is called by the run loop and returns a look at the source that runs elsewhere.
func (s *Slot) job(k *Keeper, o *order) job {
	c, state := s.config, s.env.state.Load()
	l := &slotLook{slot: s, config: c, env: s.env, state: state, store: k.options.Store, order: o, offer: s.offer,
		number: s.number, last: s.unit.digest, first: !s.loaded, rules: slices.Concat(c.Allow, o.rules())}
	if o != nil && o.kind == orderOffer {
		s.offer, s.offerRules = o.identity, o.Allow
		if s.offer == nil {
			s.offerRules = nil
		}
	}
	if c.Managed && (o == nil || o.kind != orderRollback) {
		l.rules = slices.Concat(l.rules, s.offerRules) // they live as long as the offer
	}
	if snap := s.snapshot.Load(); snap != nil {
		l.current = snap.Generation
	} else if s.kept != nil {
		l.current = s.kept
	}
	l.settled = s.judged != nil && s.judged == state && s.unit.refusal == nil && o == nil
	return job{
		paths: c.Files.paths(), limit: maxSourceFile, stage: l.stage, aside: func() bool { return l.setAside },
		own: func(source [sha256.Size]byte, now time.Time) *Refusal {
			cur := l.current
			if cur == nil || state == nil || source == cur.source && !c.Managed || c.Managed && l.offer == nil {
				return nil
			}
			return (&candidate{file: c.Files.certificate(), identity: cur.Identity}).judge(state, now)
		},
	}
}

// bring puts in force what the store kept. It runs in the run loop, once.
func (s *Slot) bring(k *Keeper, g *Generation, number uint64, damage error, now time.Time) {
	s.number = max(s.number, number)
	// What cannot be loaded now is asked for again, as long as nothing else serves.
	s.loaded = damage == nil || g != nil || s.snapshot.Load() != nil
	if damage == nil {
		s.damageTold = ""
	} else if text := damage.Error(); text != s.damageTold {
		s.damageTold = text
		k.tell(Event{Kind: EventDamaged, Slot: s.name, Environment: s.env.name, To: g, Reason: "generation_damaged", Err: damage})
	}
	if g == nil || s.snapshot.Load() != nil {
		return
	}
	s.kept, s.number = g, max(s.number, g.Number)
	s.has(g.Number)
	if state := s.env.state.Load(); state != nil {
		s.serveKept(k, state, now)
	}
}

// serveKept has the slot serve what the store kept, now that there is trust.
func (s *Slot) serveKept(k *Keeper, state *trust.State, now time.Time) {
	g := s.kept
	s.kept = nil
	s.swap(g, state, now)
	s.env.wantOwn(g, now)
	k.tell(Event{Kind: EventRestored, Slot: s.name, Environment: s.env.name, To: g})
}

// publish makes a candidate what the slot serves. It runs in the run loop, and
// joins the two streams: if trust moved on since the candidate was staged, the
// candidate is judged again by the trust of now. What the store has in force is
// served in any case: memory follows the disk.
func (s *Slot) publish(k *Keeper, c *candidate, rules []string, o *order, now time.Time) (bool, *Refusal) {
	failing := false
	if state := s.env.state.Load(); c.trust != state {
		if r := c.judge(state, now); r != nil && !allowed(rules, r) {
			if !c.kept || state == nil {
				s.loaded = s.loaded && c.number == 0 // what the store keeps must not be forgotten over it
				return false, r
			}
			k.mark(&s.unit) // the next look tells that its chain no longer passes
			failing = true
		}
	}
	old := s.snapshot.Load()
	if c.trust == nil {
		return false, noTrust()
	}
	if s.judged = c.trust; failing {
		s.judged = nil
	}
	// The certificate that serves ends a hold where its files say so, not where it is imported again.
	if old != nil && old.Generation.digest == c.digest && !c.kept && (!old.Generation.Held || s.config.Managed) {
		if old.Generation.source != c.source && !s.config.Managed || old.Trust != c.trust {
			g := *old.Generation
			g.source = c.source
			s.swap(&g, c.trust, now)
		}
		s.offer, s.offerRules = nil, nil
		return false, nil
	}
	next := &Generation{Number: c.number, Identity: c.identity, NotAfter: c.notAfter, Since: c.since, Origin: c.origin, Of: c.of, Held: c.held,
		environment: s.env.name, digest: c.digest, source: c.source, left: c.left, leftLeaf: c.leftLeaf}
	stored := c.kept || c.number != 0
	if c.number == 0 {
		// Not one that a rollback left behind whose Commit failed: it may be on disk, with another content.
		next.Number, next.Since = max(s.number, s.tried.Number)+1, now
	}
	s.number, s.kept = max(s.number, next.Number), nil
	s.swap(next, c.trust, now)
	s.env.wantOwn(next, now)
	event := Event{Kind: EventRotated, Slot: s.name, Environment: s.env.name, To: next, Latency: now.Sub(s.unit.since)}
	if old != nil {
		event.From = old.Generation
	}
	event.Actor = o.actor()
	if c.number != 0 && !c.kept {
		event.Kind = EventRestored
	}
	s.offer, s.offerRules = nil, nil // also one that waited before a rollback
	if stored {
		s.has(next.Number)
		k.forgiven(s, next)
	} else {
		k.save(s)
	}
	k.tell(event)
	return true, nil
}

func allowed(rules []string, r *Refusal) bool {
	for _, rule := range rules {
		if rule == r.Rule && rule != "" {
			return true
		}
	}
	return false
}

// swap stores a new snapshot. It cannot fail. It is for the run loop.
func (s *Slot) swap(g *Generation, state *trust.State, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.swapLocked(g, state, s.env, now)
}

func (s *Slot) swapLocked(g *Generation, state *trust.State, env *Environment, now time.Time) {
	var built time.Time
	if len(s.endpoints) > 0 { // asking the clock costs system calls, and of thousands of slots most have none
		built = env.dated(now)
	}
	next := &Snapshot{Generation: g, Trust: state, env: env, built: built, configs: make(map[*Endpoint]endpointTLS, len(s.endpoints))}
	for e, sess := range s.endpoints {
		cfg, err := e.build(next, sess, now)
		next.configs[e] = endpointTLS{cfg, err}
	}
	s.snapshot.Store(next)
}

// trustChanged gives the slot the new state at once, whatever its own source is doing.
func (s *Slot) trustChanged(k *Keeper, state *trust.State, now time.Time) {
	if snap := s.snapshot.Load(); snap != nil {
		s.swap(snap.Generation, state, now)
	} else if s.kept != nil {
		s.serveKept(k, state, now)
	}
}

// withdraw has the slot serve nothing until its environment has trust.
func (s *Slot) withdraw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.snapshot.Store(nil)
}

// refreshTLS renews session ticket keys that are a day old, and takes CAs that have
// ended out of those that are named in CertificateRequest.
func (s *Slot) refreshTLS(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	snap := s.snapshot.Load()
	if snap == nil {
		return
	}
	if len(s.endpoints) == 0 {
		return
	}
	at := snap.env.dated(now)
	ended := slices.ContainsFunc(snap.Trust.Bundle().Certificates(), func(c *x509.Certificate) bool {
		return at.After(c.NotAfter) != snap.built.After(c.NotAfter) // either way: clocks go back
	})
	for _, sess := range s.endpoints {
		if ended || sess.due(now) {
			s.swapLocked(snap.Generation, snap.Trust, snap.env, now)
			return
		}
	}
}

// settled is called by the run loop after each look, with the refusal or nil.
func (s *Slot) settled(k *Keeper, r *Refusal, now time.Time) {
	st := &SlotStatus{Config: s.config, State: SlotReady, Refusal: r, PendingSince: s.unit.failing, LastAttempt: now,
		Unsaved: s.unsaved.err, UnsavedSince: s.unsaved.since, Offered: s.offer != nil}
	snap := s.snapshot.Load()
	if snap != nil {
		st.Generation = snap.Generation
	}
	switch {
	case r == nil && snap == nil:
		st.State = SlotEmpty
	case r == nil && snap.Generation.Held:
		st.State = SlotHeld
	case r == nil:
	case !r.Pending:
		st.State = SlotRefused
	case snap == nil && !s.config.Managed && errors.Is(r.Err, fs.ErrNotExist):
		st.State = SlotEmpty
	default:
		st.State = SlotPending
	}
	s.status.Store(st)
	if s.wentBack.Swap(false) {
		k.tell(Event{Kind: EventWentBack, Slot: s.name, Environment: s.env.name, To: st.Generation, Reason: string(EventWentBack),
			Err: fmt.Errorf("the generations of slot %q on disk were replaced by older ones while it served", s.name)})
	}
	s.refreshTLS(now)
}

// event names what a refusal of this slot is called.
func (s *Slot) event(r *Refusal, late bool) Event {
	e := Event{Kind: EventRefused, Slot: s.name, Environment: s.env.name, Reason: r.Reason, Err: r}
	snap := s.snapshot.Load()
	switch {
	case late:
		e.Kind = EventIncoherent
	case r.Pending:
		e.Kind = EventPending
	case r.Rule == RuleChain && snap != nil && (s.config.Managed && s.offer == nil || s.unit.digest == snap.Generation.source):
		e.Kind = EventOwnChain
	}
	return e
}

func (s *Slot) ownChain(r *Refusal) Event {
	return Event{Kind: EventOwnChain, Slot: s.name, Environment: s.env.name, Reason: r.Reason, Err: r}
}

func (s *Slot) cleared() Event {
	return Event{Kind: EventCleared, Slot: s.name, Environment: s.env.name}
}
