package daemon

import (
	"sync"
	"time"

	"github.com/spinecert/spinecert/internal/anchor"
	"github.com/spinecert/spinecert/internal/order"
	"github.com/spinecert/spinecert/internal/tunnel"
	"github.com/spinecert/spinecert/pki"
)

// maxSeen bounds the peers that are remembered of one environment.
const maxSeen = 1000

// seen remembers which peers were accepted under which CAs, so that somebody who
// takes a CA away can be told whom it hits.
type seen struct {
	mu    sync.Mutex
	peers map[string]map[seenKey]*anchor.Peer // by environment
}

type seenKey struct{ name, tunnel string }

// note keeps an accepted peer.
func (s *seen) note(environment, tunnelName string, h tunnel.Handshake, now time.Time) {
	if h.Result != tunnel.Accepted || len(h.Verdict.Chain) < 2 {
		return
	}
	name := h.Verdict.Name
	if name == "" {
		name = h.Verdict.Chain[0].Subject.CommonName
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.peers == nil {
		s.peers = map[string]map[seenKey]*anchor.Peer{}
	}
	of := s.peers[environment]
	if of == nil {
		of = map[seenKey]*anchor.Peer{}
		s.peers[environment] = of
	}
	key := seenKey{name, tunnelName}
	p := of[key]
	if p == nil {
		if len(of) >= maxSeen {
			forgetOldest(of)
		}
		p = &anchor.Peer{Name: name, Tunnel: tunnelName}
		of[key] = p
	}
	p.Last = now
	cas := h.Verdict.Chain[1:]
	if len(p.CAs) == len(cas) && p.CAs[0] == pki.Fingerprint(cas[0]) {
		return
	}
	p.CAs = make([]string, 0, len(cas))
	for _, ca := range cas {
		p.CAs = append(p.CAs, pki.Fingerprint(ca))
	}
}

func forgetOldest(of map[seenKey]*anchor.Peer) {
	var oldest seenKey
	var last time.Time
	for key, p := range of {
		if last.IsZero() || p.Last.Before(last) {
			oldest, last = key, p.Last
		}
	}
	delete(of, oldest)
}

// of returns the peers of an environment, those seen last first.
func (s *seen) of(environment string) []anchor.Peer {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []anchor.Peer
	for _, p := range s.peers[environment] {
		out = append(out, *p)
	}
	order.Sort(out, func(a, b anchor.Peer) int { return b.Last.Compare(a.Last) })
	return out
}

// noteSeen remembers a peer that a tunnel accepted.
func (d *Daemon) noteSeen(name string, h tunnel.Handshake) {
	if h.Result != tunnel.Accepted {
		return
	}
	d.mu.Lock()
	t := d.byName[name] // as it is now: a reload may have given the tunnel another slot
	d.mu.Unlock()
	if t == nil {
		return // it is gone, and drains
	}
	if s := d.keeper.Slot(t.config.Slot); s != nil {
		d.seen.note(s.Status().Config.Environment, name, h, time.Now())
	}
}
