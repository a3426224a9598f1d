package rotate

import (
	"crypto/tls"
	"errors"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/trust"
)

// shown returns the slot's leaf as the other side saw it.
func shown(v visit, role Role) []byte {
	if role == Client {
		return v.server.PeerCertificates[0].Raw
	}
	return v.client.PeerCertificates[0].Raw
}

func TestResumedSessionNeverShowsTheOldLeaf(t *testing.T) {
	roles(t, func(t *testing.T, role Role, version uint16) {
		b := newBench(t)
		first, second := b.leaf(), b.leaf()
		b.pair(first)
		b.start()
		e := b.endpoint(EndpointConfig{Role: role, ServerName: "peer.nhs.uk"}, version)
		peer := b.peer(b.sub.Issue(t, testpki.Name("peer.nhs.uk")), version)
		b.good(e, peer, false)
		if v := b.good(e, peer, true); string(shown(v, role)) != string(first.Cert.Raw) {
			t.Error("not the first leaf")
		}
		b.pair(second)
		b.serves(second)
		if v := b.good(e, peer, false); string(shown(v, role)) != string(second.Cert.Raw) {
			t.Error("the old leaf was shown after the rotation")
		}
		b.good(e, peer, true)
	})
}

func TestSessionsOutliveTrustButNotRevocation(t *testing.T) {
	roles(t, func(t *testing.T, role Role, version uint16) {
		b := newBench(t)
		b.pair(b.leaf())
		b.withCRLs()
		b.start()
		e := b.endpoint(EndpointConfig{Role: role, ServerName: "peer.nhs.uk"}, version)
		leaf := b.sub.Issue(t, testpki.Name("peer.nhs.uk"))
		peer := b.peer(leaf, version)
		b.good(e, peer, false)
		b.good(e, peer, true)

		b.put("sub.crl", b.sub.CRL(t), 0o644)
		b.do(b.keeper.Refresh(b.context()))
		if got := b.count(EventTrustChanged); got != 2 {
			t.Fatalf("trust changed %d times, want 2", got)
		}
		b.good(e, peer, true)

		b.put("sub.crl", b.sub.CRL(t, testpki.Revoke(leaf.Cert.SerialNumber)), 0o644)
		b.do(b.keeper.Refresh(b.context()))
		v := b.visit(e, peer)
		err := v.serverErr
		if role == Client {
			err = v.clientErr
		}
		if trust.ReasonOf(err) != trust.Revoked {
			t.Errorf("client %v, server %v, want revoked", v.clientErr, v.serverErr)
		}
	})
}

// The name policy is judged on every connection; sessions of one endpoint are no
// sessions of another.
func TestSessionsEndWithThePeersName(t *testing.T) {
	roles(t, func(t *testing.T, role Role, version uint16) {
		b := newBench(t)
		b.pair(b.leaf())
		b.start()
		before := b.endpoint(EndpointConfig{Role: role, ServerName: "peer.nhs.uk"}, version)
		peer := b.peer(b.sub.Issue(t, testpki.Name("peer.nhs.uk")), version)
		b.good(before, peer, false)
		b.good(before, peer, true)
		after := b.endpoint(EndpointConfig{Role: role, ServerName: "peer.nhs.uk", Peers: trust.Names("else.nhs.uk")}, version)
		v := b.visit(after, peer)
		err := errors.Join(v.clientErr, v.serverErr)
		if r := trust.ReasonOf(err); r != trust.NotListed && r != trust.NameMismatch {
			t.Errorf("client %v, server %v", v.clientErr, v.serverErr)
		}

		// Even with the keys and sessions of the other it is judged.
		cfg := config(t, after).Clone()
		after.slot.mu.Lock()
		if role == Server {
			cfg.SetSessionTicketKeys(after.slot.endpoints[before].keys)
		} else {
			cfg.ClientSessionCache = after.slot.endpoints[before].cache
		}
		after.slot.mu.Unlock()
		server, client := cfg, peer
		if role == Client {
			server, client = peer, cfg
		}
		if v := meet(t, server, client); !v.failed() {
			t.Error("a resumed session outlived the name of its peer")
		}
	})
}

func TestTicketKeys(t *testing.T) {
	b := newBench(t)
	first, second := b.leaf(), b.leaf()
	b.pair(first)
	b.start()
	one, two := b.endpoint(EndpointConfig{}, tls.VersionTLS12), b.endpoint(EndpointConfig{}, tls.VersionTLS12)
	s := b.pcs()
	keys := func(e *Endpoint) [][32]byte {
		s.mu.Lock()
		defer s.mu.Unlock()
		return append([][32]byte(nil), s.endpoints[e].keys...)
	}
	k := keys(one)[0]
	if k == keys(two)[0] || k == [32]byte{} {
		t.Fatal("two endpoints have the same ticket key, or none")
	}
	now := time.Now()
	s.refreshTLS(now.Add(ticketLife - time.Hour))
	if got := keys(one); len(got) != 1 || got[0] != k {
		t.Error("a ticket key was renewed too early")
	}
	s.refreshTLS(now.Add(ticketLife + time.Hour))
	got := keys(one)
	if len(got) != 2 || got[0] == k || got[1] != k {
		t.Error("a day old ticket key was not renewed, or does not decrypt any more")
	}
	s.refreshTLS(now.Add(2*ticketLife + 2*time.Hour))
	if got := keys(one); len(got) != ticketKeysKept || got[0] == k || got[1] == k {
		t.Error("a two days old ticket key still decrypts")
	}
	b.pair(second)
	b.serves(second)
	for _, was := range got {
		for _, is := range keys(one) {
			if is == was {
				t.Error("a ticket key outlived its generation")
			}
		}
	}
}

// The configuration of a connection has the renewed keys: old sessions are still
// resumed for a day, and then not.
func TestTicketsOfYesterdayAreResumed(t *testing.T) {
	both(t, func(t *testing.T, version uint16) {
		b := newBench(t)
		b.pair(b.leaf())
		b.start()
		e := b.endpoint(EndpointConfig{}, version)
		peer := b.peer(b.sub.Issue(t, testpki.Name("peer.nhs.uk")), version)
		b.good(e, peer, false)
		b.pcs().refreshTLS(time.Now().Add(ticketLife + time.Hour))
		b.good(e, peer, true)
	})
}

func TestNoResumption(t *testing.T) {
	roles(t, func(t *testing.T, role Role, version uint16) {
		b := newBench(t)
		b.pair(b.leaf())
		b.start()
		e := b.endpoint(EndpointConfig{Role: role, NoResumption: true, ServerName: "peer.nhs.uk"}, version)
		peer := b.peer(b.sub.Issue(t, testpki.Name("peer.nhs.uk")), version)
		b.good(e, peer, false)
		b.good(e, peer, false)
	})
}

func TestClientCacheIsNotSharedOverGenerations(t *testing.T) {
	b := newBench(t)
	b.pair(b.leaf())
	b.start()
	e, other := b.endpoint(EndpointConfig{Role: Client}, tls.VersionTLS12), b.endpoint(EndpointConfig{Role: Client}, tls.VersionTLS12)
	cache := config(t, e).ClientSessionCache
	if cache == nil || cache == config(t, other).ClientSessionCache {
		t.Error("two endpoints share a session cache, or have none")
	}
	b.put("trust.pem", append([]byte("changed\n"), b.sub.BundlePEM()...), 0o644)
	b.do(b.keeper.Refresh(b.context()))
	if config(t, e).ClientSessionCache != cache {
		t.Error("a change of trust ended every session")
	}
	next := b.leaf()
	b.pair(next)
	b.serves(next)
	if config(t, e).ClientSessionCache == cache {
		t.Error("a session cache outlived its generation")
	}
}
