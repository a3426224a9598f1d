package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// How often a revoked peer knocks until it is refused, and how often files in the
// directory of revocations are looked for.
const (
	betweenKnocks = 100 * time.Millisecond
	betweenHands  = 200 * time.Millisecond
)

// again finds out what becomes of a new connection of a peer, and enters it.
func (s *stage) again(ctx context.Context, p *peer, resume bool) {
	begun := time.Now()
	resumed, err := p.try(ctx, resume)
	switch {
	case over(ctx):
	case err != nil && !turned(err):
		// It was not refused; whether it would have been nobody knows.
		s.ledger.request(p.label(), fmt.Errorf("new connection: %w", err))
	default:
		s.cuts.tried(p.id.number(), p.label(), begun, resumed, err)
	}
}

// publish revokes a peer: from then on its partition of the CRL says so. p is locked.
func (s *stage) publish(ctx context.Context, p *peer) (time.Time, error) {
	now := time.Now()
	address, err := s.spine.revoke(p.id.leaf, now)
	if err != nil {
		return now, err
	}
	der, err := s.spine.sign(ctx, address, now)
	if err != nil {
		return now, err
	}
	return s.cuts.publish(p.id.number(), p.label(), p.live(), func() (time.Time, error) { return s.crl.put(address, der) })
}

// follow looks at what becomes of a peer that was revoked at a time: it knocks, with
// its ticket, until it is refused, waits until its connections are cut, and tries
// once more with the ticket and once without. p is locked.
func (s *stage) follow(ctx context.Context, p *peer, at time.Time) {
	number := p.id.number()
	tick := time.NewTicker(betweenKnocks)
	defer tick.Stop()
	for {
		s.again(ctx, p, true)
		if _, refused := s.cuts.standing(number); refused > 0 || time.Since(at) > s.cuts.within {
			break
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
	late := time.NewTimer(time.Until(at.Add(s.cuts.within)))
	defer late.Stop()
	for _, l := range p.lines {
		select {
		case <-l.gone:
			continue
		case <-ctx.Done():
			return
		case <-late.C:
		}
		if open := p.live(); open > 0 {
			s.cuts.uncut(p.label(), open)
		}
		break
	}
	s.again(ctx, p, true)
	s.again(ctx, p, false)
	if !over(ctx) {
		s.cuts.proved()
	}
}

// outcome says what became of a revoked peer.
func (s *stage) outcome(p *peer, at time.Time) string {
	open, refused := s.cuts.standing(p.id.number())
	cut := ""
	if last := s.cuts.lastCut(p.id.number()); !last.IsZero() {
		cut = fmt.Sprintf(" after %.0f ms", milliseconds(last.Sub(at)))
	}
	if open > 0 {
		return fmt.Sprintf("%s revoked: %d of its connections are still open", p.label(), open)
	}
	return fmt.Sprintf("%s revoked: its connections cut%s, %d new ones refused", p.label(), cut, refused)
}

// comeBack gives a revoked peer a new certificate and connects it again. p is locked.
func (s *stage) comeBack(ctx context.Context, p *peer) error {
	for _, l := range p.lines {
		l.hangUp() // where the daemon did not
	}
	if err := s.embody(p, time.Now()); err != nil || over(ctx) {
		return err
	}
	if err := p.open(ctx, s.talkEvery(), &s.talking); err != nil && !over(ctx) {
		s.ledger.request(p.label(), err)
	}
	return nil
}

// embody gives a peer a new certificate.
func (s *cast) embody(p *peer, now time.Time) error {
	if p == s.far.peer {
		id, err := s.spine.issue(p.name, s.far.key, now.Add(-backdate), now.Add(leafLife))
		if err != nil {
			return err
		}
		s.far.present(id, s.proxy)
		p.id = id
		return nil
	}
	id, err := peerIdentity(s.spine, p.name, now)
	if err != nil {
		return err
	}
	p.become(s.proxy, id)
	return nil
}

// revokeInTurn revokes a peer, waits for what becomes of it and lets it come back
// with a new certificate. It does nothing for one that somebody revoked by hand.
func (s *stage) revokeInTurn(ctx context.Context, pic *picture, p *peer) error {
	if !p.mu.TryLock() {
		return nil
	}
	defer p.mu.Unlock()
	if p.out {
		return nil
	}
	at, err := s.publish(ctx, p)
	if err != nil {
		return err
	}
	s.follow(ctx, p, at)
	if over(ctx) {
		return nil
	}
	pic.event(s.outcome(p, at) + "; it comes back with a new certificate")
	return s.comeBack(ctx, p)
}

// obeyHands revokes peers that are named by a file in the directory of revocations,
// and lets them come back when the file is gone, until ctx ends.
func (s *stage) obeyHands(ctx context.Context, pic *picture) {
	tick := time.NewTicker(betweenHands)
	defer tick.Stop()
	var group sync.WaitGroup
	defer group.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		entries, err := os.ReadDir(s.layout.revoke())
		if err != nil {
			continue // somebody took the directory away: nothing is revoked by it
		}
		named := map[string]bool{}
		for _, e := range entries {
			named[e.Name()] = true
		}
		for _, p := range s.peers {
			if !p.mu.TryLock() {
				continue
			}
			if named[p.label()] == p.out {
				p.mu.Unlock()
				continue
			}
			p.out = !p.out
			group.Go(func() {
				defer p.mu.Unlock()
				if err := s.byHand(ctx, pic, p); err != nil && !over(ctx) {
					pic.event(err.Error())
				}
			})
		}
	}
}

// byHand carries out what the file of a peer says. p is locked.
func (s *stage) byHand(ctx context.Context, pic *picture, p *peer) error {
	if !p.out {
		pic.event(p.label() + " comes back with a new certificate")
		return s.comeBack(ctx, p)
	}
	at, err := s.publish(ctx, p)
	if err != nil {
		return err
	}
	s.follow(ctx, p, at)
	if !over(ctx) {
		pic.event(s.outcome(p, at) + "; remove the file to let it come back")
	}
	return nil
}

// refresh publishes a new version of each list, with the same on it.
func (s *cast) refresh(ctx context.Context, a *authority) error {
	var problems []error
	for _, address := range a.addresses() {
		der, err := a.sign(ctx, address, time.Now())
		if err == nil {
			_, err = s.crl.put(address, der)
		}
		problems = append(problems, err)
	}
	return errors.Join(problems...)
}
