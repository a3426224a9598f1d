package rotate

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"time"
)

const (
	ticketLife     = 24 * time.Hour // of a ticket key, before it only decrypts
	cachedSessions = 64             // of a client endpoint; it talks to few servers
	ticketKeysKept = 2
)

// sessions is what an endpoint needs to resume sessions of one generation. It is
// never shared and never stored: a resumed session must not show, or be judged
// by, an identity that was rotated away. A config that is returned by
// GetConfigForClient without keys of its own would use those of the outer
// config, and Clone copies them; so every endpoint and generation has its own.
type sessions struct {
	digest [sha256.Size]byte // of the generation
	keys   [][32]byte        // newest first
	since  time.Time         // when the newest was made
	cache  tls.ClientSessionCache
}

// follow starts afresh for another generation and renews old ticket keys. Trust
// changes keep them: a refreshed CRL is no reason to end every session.
func (s *sessions) follow(g *Generation, c EndpointConfig, now time.Time) {
	if s.since.IsZero() || s.digest != g.digest {
		s.digest, s.keys = g.digest, nil
		if c.Role == Client {
			s.cache = tls.NewLRUClientSessionCache(cachedSessions)
			s.since = now
			return
		}
	}
	if c.Role == Client || len(s.keys) > 0 && !s.due(now) {
		return
	}
	var key [32]byte
	_, _ = rand.Read(key[:]) // crypto/rand.Read never returns an error; it stops the program
	s.keys = append([][32]byte{key}, s.keys...)
	if len(s.keys) > ticketKeysKept {
		s.keys = s.keys[:ticketKeysKept]
	}
	s.since = now
}

// due reports whether the newest ticket key is old enough to be renewed.
func (s *sessions) due(now time.Time) bool {
	return len(s.keys) > 0 && now.Sub(s.since) >= ticketLife
}
