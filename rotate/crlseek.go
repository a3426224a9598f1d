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
	addresses []string
	left      int           // addresses that are still awaited; for the run loop
	done      chan struct{} // closed when none is
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
// nobody's to wait for: they are looked after.
func (e *Environment) seek(ctx context.Context, addresses []string, wait bool) {
	if !e.unasked(addresses) {
		return
	}
	s := &seeker{addresses: addresses, done: make(chan struct{})}
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
		e.want(s.addresses, CRLOfPeer, now)
		for _, a := range s.addresses {
			if l := e.lists[a]; l != nil && !l.asked && !l.barred {
				l.waiting = append(l.waiting, s)
				l.next, e.fetchAt = time.Time{}, time.Time{}
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
			if l.origin == CRLOfCarrier || l.barred || !l.flying && now.Sub(l.tried) < least {
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
		id := snap.Generation.Identity
		chain := append([]*x509.Certificate{id.Leaf()}, id.Chain()...)
		if (was.Revoked(chain) == nil) != (is.Revoked(chain) == nil) {
			k.markLater(&s.unit)
		}
	}
}
