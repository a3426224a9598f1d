package prove

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/pki"
)

const (
	// maxAddresses bounds how many addresses of one name are looked at.
	maxAddresses = 8
	// dialLimit is for each of several addresses: one that swallows packets must not take
	// all the time. The kernel tries again after a second.
	dialLimit = 3 * time.Second
)

// A target is what a probe names: one address, or all those of a name. Behind each may
// be another process, or a listener of its own with another certificate.
type target struct {
	probe    config.Probe
	identity *pki.Identity
	leaf     *x509.Certificate // that is wanted; nil for none
	resolve  func(ctx context.Context, network, host string) ([]netip.Addr, error)
	lookers  []*looker // one an address; nil until they are known
}

func newTarget(p config.Probe, id *pki.Identity, leaf *x509.Certificate) target {
	return target{probe: p, identity: id, leaf: leaf, resolve: net.DefaultResolver.LookupNetIP}
}

// look makes one full handshake with every address that takes a connection.
func (t *target) look(ctx context.Context, late bool) (Seen, error) {
	if t.lookers == nil {
		if err := t.find(ctx); err != nil {
			l := looker{probe: t.probe}
			return l.seen(), l.explain(ctx, &meeting{}, err)
		}
	}
	if len(t.lookers) == 1 {
		return t.lookers[0].look(ctx, late)
	}
	seen, errs := make([]Seen, len(t.lookers)), make([]error, len(t.lookers))
	var all sync.WaitGroup
	for i, l := range t.lookers {
		all.Go(func() { seen[i], errs[i] = l.look(ctx, late) })
	}
	all.Wait()
	return t.together(seen, errs)
}

// together is what several addresses showed. One that nobody listens on is left out,
// unless that is so of all: a service need not listen on every address of its name.
func (t *target) together(seen []Seen, errs []error) (Seen, error) {
	var shown []Seen
	for i, l := range t.lookers {
		switch {
		case l.absent:
		case errs[i] != nil:
			return seen[i], errs[i]
		default:
			shown = append(shown, seen[i])
		}
	}
	if len(shown) == 0 {
		return seen[0], errs[0]
	}
	// Whoever looks at one alone is to see the one that is not as it should be.
	if odd := slices.IndexFunc(shown, func(s Seen) bool { return t.leaf != nil && !s.Chain[0].Equal(t.leaf) }); odd > 0 {
		shown[0], shown[odd] = shown[odd], shown[0]
	}
	first := shown[0]
	first.also = shown[1:]
	return first, nil
}

// find asks for the addresses, once: a row of handshakes is with the same ones.
func (t *target) find(ctx context.Context) error {
	host, port, err := net.SplitHostPort(t.probe.Address)
	_, notName := netip.ParseAddr(host)
	if err != nil || notName == nil || strings.HasPrefix(t.probe.Address, unixPrefix) {
		t.lookers = []*looker{t.looker(t.probe)}
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	found, err := t.resolve(ctx, "ip", host)
	if err != nil {
		return &dialError{err}
	}
	seen := map[netip.Addr]bool{}
	p := t.probe
	p.ServerName = serverName(t.probe)
	for _, address := range found {
		if address = address.Unmap(); !seen[address] && len(seen) < maxAddresses {
			seen[address] = true
			p.Address = net.JoinHostPort(address.String(), port)
			t.lookers = append(t.lookers, t.looker(p))
		}
	}
	if len(t.lookers) > 1 {
		for _, l := range t.lookers {
			l.dialLimit = dialLimit
		}
	}
	return nil
}

func (t *target) looker(p config.Probe) *looker {
	return &looker{probe: p, identity: t.identity, version: tls.VersionTLS12, suites: suitesFor(t.leaf), dialLimit: lookLimit}
}

// suitesFor returns the cipher suites of TLS 1.2 with which a service shows a
// certificate with the kind of key of leaf, if it has one of each kind; nil for all.
// RFC 8422, Section 5.10: the suites of Ed25519 are those of ECDSA.
func suitesFor(leaf *x509.Certificate) []uint16 {
	if leaf == nil {
		return nil
	}
	var prefix string
	switch leaf.PublicKey.(type) {
	case *rsa.PublicKey:
		prefix = "TLS_ECDHE_RSA_"
	case *ecdsa.PublicKey, ed25519.PublicKey:
		prefix = "TLS_ECDHE_ECDSA_"
	default:
		return nil
	}
	var suites []uint16
	for _, s := range tls.CipherSuites() {
		if strings.HasPrefix(s.Name, prefix) {
			suites = append(suites, s.ID)
		}
	}
	return suites
}
