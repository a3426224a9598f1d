package rotate

import (
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"io/fs"
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

	digest [sha256.Size]byte
	source [sha256.Size]byte
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
)

// SlotStatus is how a slot stands. It is immutable.
type SlotStatus struct {
	Config       SlotConfig
	State        SlotState
	Generation   *Generation // nil while nothing is served
	Refusal      *Refusal    // why the source is not what is served, or why what is served fails its own trust
	PendingSince time.Time   // zero unless the state is pending or refused
	LastAttempt  time.Time   // when the source was last looked at
}

// Slot holds one identity over time. Its methods may be called by many goroutines.
type Slot struct {
	name     string
	snapshot atomic.Pointer[Snapshot]
	status   atomic.Pointer[SlotStatus]

	mu        sync.Mutex // held while a snapshot is made and stored, and for endpoints
	endpoints map[*Endpoint]*sessions

	// Only the run loop touches what follows.
	unit   unit
	config SlotConfig
	env    *Environment
	number uint64
	judged *trust.State // the state with which the served source was last judged good
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
func (s *Slot) job(allow []string) job {
	c, state := s.config, s.env.state.Load()
	var current *Generation
	if snap := s.snapshot.Load(); snap != nil {
		current = snap.Generation
	}
	env := s.env
	settled := s.judged != nil && s.judged == state && s.unit.refusal == nil && len(allow) == 0
	rules := append(append([]string(nil), c.Allow...), allow...)
	return job{
		paths: c.Files.paths(), limit: maxSourceFile,
		stage: func(m *material, now time.Time) (publish, *Refusal) {
			if settled && current != nil && m.digest == current.source && keyPermissions(&c, m) == nil {
				return nil, nil
			}
			cand, refusal := stage(&c, m, state, current, rules, now)
			if refusal != nil {
				return nil, refusal
			}
			return func(k *Keeper, at time.Time) (bool, *Refusal) {
				if s.env != env || !sameSlot(s.config, c) {
					return false, s.unit.refusal // the plan changed meanwhile; another look follows
				}
				return s.publish(k, cand, rules, at)
			}, nil
		},
		own: func(source [sha256.Size]byte, now time.Time) *Refusal {
			if current == nil || state == nil || source == current.source {
				return nil
			}
			return (&candidate{file: c.Files.certificate(), identity: current.Identity}).judge(state, now)
		},
	}
}

// publish makes a candidate what the slot serves. It runs in the run loop, and
// joins the two streams: if trust moved on since the candidate was staged, the
// candidate is judged again by the trust of now.
func (s *Slot) publish(k *Keeper, c *candidate, rules []string, now time.Time) (bool, *Refusal) {
	if state := s.env.state.Load(); c.trust != state {
		if r := c.judge(state, now); r != nil && !allowed(rules, r) {
			return false, r
		}
	}
	old := s.snapshot.Load()
	if c.trust == nil {
		return false, &Refusal{Reason: reasonNoTrust, Err: errors.New("the trust of its environment is not ready")}
	}
	s.judged = c.trust
	if old != nil && old.Generation.digest == c.digest {
		if old.Generation.source != c.source || old.Trust != c.trust {
			g := *old.Generation
			g.source = c.source
			s.swap(&g, c.trust, now)
		}
		return false, nil
	}
	s.number++
	next := &Generation{Number: s.number, Identity: c.identity, NotAfter: c.notAfter, Since: now, digest: c.digest, source: c.source}
	s.swap(next, c.trust, now)
	event := Event{Kind: EventRotated, Slot: s.name, Environment: s.env.name, To: next, Latency: now.Sub(s.unit.since)}
	if old != nil {
		event.From = old.Generation
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

// swap stores a new snapshot. It cannot fail.
func (s *Slot) swap(g *Generation, state *trust.State, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.swapLocked(g, state, now)
}

func (s *Slot) swapLocked(g *Generation, state *trust.State, now time.Time) {
	next := &Snapshot{Generation: g, Trust: state, configs: make(map[*Endpoint]endpointTLS, len(s.endpoints))}
	for e, sess := range s.endpoints {
		cfg, err := e.build(g, state, sess, now)
		next.configs[e] = endpointTLS{cfg, err}
	}
	s.snapshot.Store(next)
}

// trustChanged gives the slot the new state at once, whatever its own source is doing.
func (s *Slot) trustChanged(state *trust.State, now time.Time) {
	if snap := s.snapshot.Load(); snap != nil {
		s.swap(snap.Generation, state, now)
	}
}

// withdraw has the slot serve nothing until its environment has trust.
func (s *Slot) withdraw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.snapshot.Store(nil)
}

// renewTickets renews session ticket keys that are a day old.
func (s *Slot) renewTickets(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	snap := s.snapshot.Load()
	if snap == nil {
		return
	}
	for _, sess := range s.endpoints {
		if sess.due(now) {
			s.swapLocked(snap.Generation, snap.Trust, now)
			return
		}
	}
}

// settled is called by the run loop after each look, with the refusal or nil.
func (s *Slot) settled(k *Keeper, r *Refusal, now time.Time) {
	st := &SlotStatus{Config: s.config, State: SlotReady, Refusal: r, PendingSince: s.unit.failing, LastAttempt: now}
	snap := s.snapshot.Load()
	if snap != nil {
		st.Generation = snap.Generation
	}
	switch {
	case r == nil && snap == nil:
		st.State = SlotEmpty
	case r == nil:
	case !r.Pending:
		st.State = SlotRefused
	case snap == nil && errors.Is(r.Err, fs.ErrNotExist):
		st.State = SlotEmpty
	default:
		st.State = SlotPending
	}
	s.status.Store(st)
	s.renewTickets(now)
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
	case r.Rule == RuleChain && snap != nil && s.unit.digest == snap.Generation.source:
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
