package rotate

import (
	"context"
	"crypto/x509"
	"time"

	"github.com/spinecert/spinecert/trust"
)

// crlseek.go: handshakes that lack a list, and whoever else wants one now.

// maxSeekers bounds the handshakes that wait for a list, or hand one on.
const maxSeekers = 4096

// seeker waits for the lists of some addresses.
type seeker struct {
	names []crlName
	wait  bool
	left  int           // addresses that are still awaited; for the run loop
	done  chan struct{} // closed when none is
}

// unasked reports whether one of the addresses may be asked and never was. It is
// for handshakes: it takes no lock and looks nothing up.
func (e *Environment) unasked(addresses []string) bool {
	if e == nil || len(addresses) == 0 {
		return false
	}
	client := e.client.Load()
	if client == nil {
		return false
	}
	asked := e.asked.Load()
	for _, a := range addresses {
		if asked != nil && (*asked)[a] {
			continue
		}
		if client.Permits(a) == nil {
			return true
		}
	}
	return false
}

// seek has lists asked for that never were. With wait it returns when all were
// answered or failed, or when ctx or the configured patience is over: then the
// state that is in force may judge otherwise. Lists that were asked for before are
// nobody's to wait for: they are looked after. shown are the certificates of the peer.
func (e *Environment) seek(ctx context.Context, addresses []string, shown []*x509.Certificate, wait bool) {
	if !e.unasked(addresses) {
		return
	}
	s := &seeker{wait: wait, done: make(chan struct{})}
	s.names = listNames(addresses, shown...)
	if state := e.state.Load(); state != nil {
		s.names = append(s.names, listNames(addresses, state.Bundle().SubCAs()...)...)
	}
	e.seeking.Lock()
	full := len(e.seekers) >= maxSeekers
	if !full {
		e.seekers = append(e.seekers, s)
	}
	e.seeking.Unlock()
	e.keeper.rouse()
	if full || !wait {
		return
	}
	patience := time.NewTimer(time.Duration(e.patience.Load()))
	defer patience.Stop()
	select {
	case <-s.done:
	case <-ctx.Done():
	case <-patience.C:
	case <-e.keeper.done:
	}
}

// takeSeekers makes what handshakes look for known. The run loop calls it.
func (e *Environment) takeSeekers(now time.Time) {
	e.seeking.Lock()
	seekers := e.seekers
	e.seekers = nil
	e.seeking.Unlock()
	for _, s := range seekers {
		e.want(s.names, CRLOfPeer, now)
		counted := map[string]bool{}
		for _, n := range s.names {
			l := e.lists[n.address]
			if l == nil || l.asked || l.barred || counted[n.address] {
				continue
			}
			counted[n.address] = true
			l.next, e.fetchAt = time.Time{}, time.Time{}
			if s.wait {
				l.waiting = append(l.waiting, s)
				s.left++
			}
		}
		if s.left == 0 {
			close(s.done)
		}
	}
}

// answered tells those who wait for a list that there is nothing more to wait for.
func (l *crlList) answered() {
	for _, s := range l.waiting {
		if s.left--; s.left == 0 {
			close(s.done)
		}
	}
	l.waiting = nil
}

// CRLs returns how the fetched and carried lists of the environment stand, by
// address. Do not modify the slice.
func (e *Environment) CRLs() []CRLStatus {
	if s := e.crls.Load(); s != nil {
		return *s
	}
	return nil
}

// RefreshCRLs asks for every fetched list of an environment now, those excepted
// that were asked for within the last minute, and waits for the answers. The
// outcome is in Environment.CRLs.
func (k *Keeper) RefreshCRLs(ctx context.Context, environment string) error {
	s := &seeker{done: make(chan struct{})}
	nothing := true
	err := k.call(ctx, func() {
		e, now := k.environments[environment], time.Now()
		if e == nil || e.client.Load() == nil {
			return
		}
		least := min(leastPause, e.refresh())
		for _, l := range e.lists {
			if l.origin == CRLOfCarrier || l.barred || !l.flying && now.Sub(l.tried) < least && !l.tried.After(now) {
				continue
			}
			l.waiting = append(l.waiting, s)
			l.next, e.fetchAt = time.Time{}, time.Time{}
			s.left++
		}
		nothing = s.left == 0
	})
	if err != nil || nothing {
		return err
	}
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-k.done:
		return ErrStopped
	}
}

// markRevoked has the slots of e look again that stand otherwise by the lists of
// now: their own certificate is revoked, or no longer.
func (e *Environment) markRevoked(k *Keeper, was, is *trust.State) {
	for _, s := range k.slots {
		snap := s.snapshot.Load()
		if snap == nil || snap.env != e {
			continue
		}
		told := s.unit.refusal != nil && s.unit.refusal.Reason == string(trust.Revoked)
		if told || is.RevokedSince(was, snap.Generation.Identity.Certificates()) != nil {
			k.markLater(&s.unit)
		}
	}
}
