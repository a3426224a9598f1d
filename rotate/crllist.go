package rotate

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"time"

	"github.com/spinecert/spinecert/rotate/fetch"
	"github.com/spinecert/spinecert/trust"
)

// crllist.go: which lists an environment knows, and when each is asked for. All of
// it belongs to the run loop.

const (
	maxFlights     = 4 // lists that are asked for at once, of all environments
	maxUnwanted    = 2 // of them, such as no handshake waits for
	maxPeerLists   = 1024
	defaultRefresh = time.Hour
	defaultWait    = 5 * time.Second
	leastPause     = time.Minute // between two requests for one address, unless CRLFetch.Refresh is shorter
	longestPause   = 15 * time.Minute
	forgetAfter    = 7 * 24 * time.Hour // a peer's list that nobody serves any more
)

// crlList is one address and what is known of its list.
type crlList struct {
	address  string
	origin   CRLOrigin
	issuers  map[string]bool // names of the CAs, raw DER, whose certificates name the address; empty: not known yet
	crl      *trust.CRL      // in force; nil while there is none
	kept     KeptCRL
	tried    time.Time
	since    time.Time // when it became known
	next     time.Time
	failures int
	err      error
	told     string // outcome last told
	barred   bool   // it may not be asked for
	asked    bool   // it was answered, or failed, once: no handshake waits for it again
	flying   bool
	saving   bool
	unsaved  bool // the store does not have the contents of crl
	waiting  []*seeker
}

// crlName is an address that a certificate of an issuer names.
type crlName struct{ address, issuer string }

// listNames returns what certificates name, each address of only, or all if it is nil.
func listNames(only []string, certs ...*x509.Certificate) []crlName {
	var out []crlName
	for _, c := range certs {
		for _, a := range trust.CRLAddresses(c) {
			if only == nil || slices.Contains(only, a) {
				out = append(out, crlName{a, string(c.RawIssuer)})
			}
		}
	}
	return out
}

func (e *Environment) refresh() time.Duration { return cmp.Or(e.config.Fetch.Refresh, defaultRefresh) }

// retune takes over what the configuration says of fetching.
func (e *Environment) retune() {
	c := e.config.Fetch
	e.patience.Store(int64(cmp.Or(c.Timeout, defaultWait)))
	e.fetchAt = time.Time{}
	if len(c.Hosts) == 0 {
		e.client.Store(nil)
		for _, l := range e.lists {
			l.answered()
		}
		return
	}
	client, err := fetch.New(c.client(e.config.MaxCRL))
	if err != nil {
		client = nil // Plan.Check refused it before it came here
	}
	e.client.Store(client)
	for _, l := range e.lists {
		if l.origin == CRLOfCarrier {
			continue
		}
		if l.failures > 0 { // what had no route may have one now
			l.next = time.Time{}
		}
		if l.bar(client); !l.barred {
			continue
		}
		if l.answered(); l.crl == nil && l.origin == CRLOfPeer {
			delete(e.lists, l.address)
		}
	}
}

// bar notes whether the list may be asked for at all.
func (l *crlList) bar(client *fetch.Client) {
	was := l.barred
	l.barred = false
	if client == nil {
		return
	}
	if err := client.Permits(l.address); err != nil {
		l.barred, l.err = true, err
	} else if was {
		l.err, l.failures, l.told = nil, 0, ""
	}
}

// client translates c for package fetch.
func (c CRLFetch) client(maxBytes int64) fetch.Config {
	return fetch.Config{Hosts: c.Hosts, Proxy: c.Proxy, MaxBytes: cmp.Or(maxBytes, maxFile)}
}

// want makes addresses known, each with the first origin that applies.
func (e *Environment) want(names []crlName, origin CRLOrigin, now time.Time) {
	client := e.client.Load()
	if client == nil {
		return
	}
	for _, n := range names {
		address := n.address
		if l := e.lists[address]; l != nil {
			if l.origin == CRLOfPeer {
				l.origin = origin
			}
			l.ofIssuer(n.issuer)
			continue
		}
		l := &crlList{address: address, origin: origin, since: now, kept: KeptCRL{Address: address}}
		l.ofIssuer(n.issuer)
		// What ours name and nobody may ask for is told; what peers name is not kept.
		if l.bar(client); origin == CRLOfPeer && (l.barred || !e.roomForPeer(now)) {
			continue
		}
		e.lists[address] = l
		e.fetchAt, e.untold = time.Time{}, true
	}
}

// maxIssuers bounds the CAs that one address is believed to be of.
const maxIssuers = 16

// ofIssuer notes that a certificate of this issuer names the address: a list of
// another CA is not what it stands for.
func (l *crlList) ofIssuer(name string) {
	if l.issuers == nil {
		l.issuers = map[string]bool{}
	}
	if len(l.issuers) < maxIssuers {
		l.issuers[name] = true
	}
}

// roomForPeer reports whether one more list of a peer may be known, and makes room
// by forgetting one that never came.
func (e *Environment) roomForPeer(now time.Time) bool {
	var worst *crlList
	n := 0
	for _, l := range e.lists {
		if l.origin != CRLOfPeer {
			continue
		}
		n++
		if l.crl == nil && !l.flying && l.asked && (now.Sub(l.tried) > leastPause || l.tried.After(now)) && (worst == nil || l.tried.Before(worst.tried)) {
			worst = l
		}
	}
	if n < maxPeerLists {
		return true
	}
	if worst == nil {
		return false
	}
	worst.answered()
	delete(e.lists, worst.address)
	return true
}

// collect makes the lists known that the bundle and our own certificates name, and
// lets go of those that nobody names any more.
func (e *Environment) collect(k *Keeper, now time.Time) {
	e.collected = now
	state := e.state.Load()
	if state == nil {
		return
	}
	named := map[string]bool{}
	note := func(names []crlName, origin CRLOrigin) {
		for _, n := range names {
			named[n.address] = true
		}
		e.want(names, origin, now)
	}
	if e.config.Revocation != trust.Off {
		for _, s := range k.slots {
			if snap := s.snapshot.Load(); snap != nil && snap.env == e {
				note(listNames(nil, snap.Generation.Identity.Certificates()...), CRLOfOwn)
			}
		}
		for _, ca := range state.Bundle().SubCAs() {
			if !now.After(ca.NotAfter) {
				note(listNames(nil, ca), CRLOfBundle)
			}
		}
	}
	dropped := false
	for address, l := range e.lists {
		switch {
		case l.origin == CRLOfCarrier && e.superseded(l):
			delete(e.lists, address)
			e.forgetKept(k, address)
			dropped = true
			continue
		case named[address] || l.flying || l.origin == CRLOfCarrier:
			continue
		case l.origin != CRLOfPeer:
			l.origin = CRLOfPeer
		}
		last := l.since
		if l.kept.Fetched.After(last) {
			last = l.kept.Fetched
		}
		over := l.crl == nil || now.After(l.crl.NextUpdate().Add(e.config.Grace))
		if over && l.failures > 0 && now.Sub(last) > forgetAfter && !k.suspect() {
			l.answered()
			delete(e.lists, address)
			e.forgetKept(k, address)
			dropped = true
		}
	}
	if dropped {
		e.publishCRLs(k, now)
		e.collected = now
	}
	e.tellLists()
}

// superseded reports whether a newer list of the issuer and partition of a carried
// one is in force.
func (e *Environment) superseded(l *crlList) bool {
	if l.crl == nil {
		return false
	}
	return slices.ContainsFunc(e.state.Load().CRLs(), func(other *trust.CRL) bool {
		named := len(l.crl.Scope().RawNames) > 0 && sameList(other, l.crl)
		unnamed := len(other.Scope().RawNames) == 0 && len(l.crl.Scope().RawNames) == 0 && bytes.Equal(other.Issuer(), l.crl.Issuer()) &&
			path.Base(other.Origin()) == path.Base(l.address)
		return (named || unnamed) && olderCRL(l.crl, other)
	})
}

// wantOwn makes the lists known that a generation names.
func (e *Environment) wantOwn(g *Generation, now time.Time) {
	if e.config.Revocation != trust.Off {
		e.want(listNames(nil, g.Identity.Certificates()...), CRLOfOwn, now)
	}
}

// allCRLs are those of files, then the fetched and carried ones of CAs whose name and
// key are in the bundle, whatever certificate they have there now.
func (e *Environment) allCRLs(bundle *trust.Bundle) []*trust.CRL {
	out := slices.Clone(e.files)
	for _, address := range slices.Sorted(maps.Keys(e.lists)) {
		crl := e.lists[address].crl
		if crl == nil || !bundle.Names(crl.IssuerCertificate()) {
			continue
		}
		out = append(out, crl)
	}
	return out
}

// schedule says when a list is asked for again.
func (e *Environment) schedule(l *crlList, now time.Time) {
	every := e.refresh()
	least := min(leastPause, every)
	spread := func(d time.Duration) time.Duration { return d*9/10 + rand.N(d/5+1) }
	if l.failures > 0 {
		most := max(least, min(every, longestPause))
		l.next = wall(now.Add(spread(min(least<<min(l.failures-1, 10), most))))
		return
	}
	next := now.Add(spread(every))
	if l.crl != nil {
		// Early enough for several attempts before it ends.
		life := l.crl.NextUpdate().Sub(l.crl.ThisUpdate())
		if due := l.crl.NextUpdate().Add(-life / 10); due.Before(next) {
			next = due
		}
	}
	if soonest := now.Add(spread(least)); next.Before(soonest) {
		next = soonest
	}
	l.next = wall(next)
}

// wall takes the monotonic reading away: a host that sleeps, or whose clock is set,
// asks by the time of day.
func wall(t time.Time) time.Time { return t.Round(0) }

// due reports whether a list is to be asked for. A clock that was set back must not
// put it off for years.
func (l *crlList) due(now time.Time, every time.Duration) bool {
	return !now.Before(l.next) || l.next.Sub(wall(now)) > 2*every+longestPause
}

// tellLists publishes how the lists stand, for readers and for handshakes.
func (e *Environment) tellLists() {
	e.untold = false
	status, asked := make([]CRLStatus, 0, len(e.lists)), make(map[string]bool, len(e.lists))
	for _, address := range slices.Sorted(maps.Keys(e.lists)) {
		l := e.lists[address]
		asked[address] = l.asked
		status = append(status, CRLStatus{Address: l.address, Origin: l.origin, CRL: l.crl, Fetched: l.kept.Fetched, Tried: l.tried, Next: l.next, Failures: l.failures, Err: l.err})
	}
	e.crls.Store(&status)
	e.asked.Store(&asked)
}
