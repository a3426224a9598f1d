package doctor

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spinecert/spinecert/internal/condition"
	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/rotate/fetch"
	"github.com/spinecert/spinecert/trust"
)

// crlMode: fail-open is a decision that is said each time.
func crlMode(_ context.Context, e environment, r *report) {
	switch trust.Mode(e.config.Revocation) {
	case trust.Off:
		r.warn(e.Name(), "set revocation: require, once every route below is ok", "environment %s has revocation: off: a revoked peer is accepted", e.Name())
		r.as(e.condition(condition.RevocationOff, ""))
	case trust.Prefer:
		r.warn(e.Name(), "set revocation: require, once every route below is ok", "environment %s has revocation: prefer: a peer whose CRL is not at hand is accepted", e.Name())
	}
}

// missing is how bad it is that no current list is at hand.
func (e environment) missing() Level {
	if trust.Mode(e.config.Revocation) == trust.Require {
		return Fail
	}
	return Warn
}

// mostAddresses bounds how many addresses of one environment are asked.
const mostAddresses = 64

// route is one address of a list, and who names it.
type route struct {
	address string
	issuers []*x509.Certificate // of certificates that name it; none where only a peer did
	origin  string
	known   rotate.CRLStatus // what the daemon knows of it; the zero value: nothing
}

// routes returns the addresses that certificates of the environment name: ours, the
// bundle's, and, through the daemon, those of peers.
func (e environment) routes() []*route {
	var out []*route
	find := func(address, origin string) *route {
		for _, o := range out {
			if o.address == address {
				return o
			}
		}
		out = append(out, &route{address: address, origin: origin})
		return out[len(out)-1]
	}
	add := func(c *x509.Certificate, origin string) {
		for _, address := range trust.CRLAddresses(c) {
			find(address, origin).issuers = append(find(address, origin).issuers, e.above(c)...)
		}
	}
	for _, s := range e.Slots {
		if snap := s.Snapshot(); snap != nil && s.Status().Config.Environment == e.Name() {
			for _, c := range snap.Generation.Identity.Certificates() {
				add(c, "the certificate of slot "+s.Name())
			}
		}
	}
	for _, c := range e.state.Bundle().SubCAs() {
		add(c, "the CA "+quote(c))
	}
	for _, st := range e.CRLs() {
		if !strings.HasPrefix(st.Address, rotate.CarriedPrefix) {
			find(st.Address, "a peer").known = st
		}
	}
	return out
}

// above returns the CAs of the bundle that may have issued c.
func (e environment) above(c *x509.Certificate) []*x509.Certificate {
	var out []*x509.Certificate
	for _, ca := range e.state.Bundle().Certificates() {
		if pki.IssuedBy(c, ca) {
			out = append(out, ca)
		}
	}
	return out
}

// crlRoutes: each list that somebody names can be had.
func crlRoutes(ctx context.Context, e environment, r *report) {
	if e.state == nil || trust.Mode(e.config.Revocation) == trust.Off {
		return // nothing would be asked
	}
	client, err := fetch.New(fetch.Config{Hosts: e.config.CRL.Hosts, Proxy: e.config.CRL.Proxy, MaxBytes: e.config.CRL.MaxSize})
	if err != nil {
		r.fail(e.Name(), "correct crl.hosts and crl.proxy", "environment %s cannot fetch CRLs: %v", e.Name(), err)
		return
	}
	routes := e.routes()
	if len(routes) == 0 && len(e.state.CRLs()) == 0 {
		r.add(e.missing(), e.Name(), "name files with CRLs in crl.files, or carry lists: spinecert trust crl FILE",
			fmt.Sprintf("no certificate of environment %s says where its CRL is, and there is no other list: peers are refused with no_crl_address, unless theirs say it", e.Name()))
		return
	}
	if over := len(routes) - mostAddresses; over > 0 {
		r.warn(e.Name(), "see spinecert status for the others", "environment %s has %s more, which were not asked", e.Name(), plural(over, "CRL address"))
		routes = routes[:mostAddresses]
	}
	r.lines = append(r.lines, each(len(routes), atOnce, func(i int) []Line {
		part := &report{code: r.code}
		e.tryRoute(ctx, client, routes[i], part)
		part.as(e.condition(condition.CRLStale, ""))
		return part.lines
	})...)
}

// inForce returns the best list in force that answers for an address.
func (e environment) inForce(o *route) *trust.CRL {
	var best *trust.CRL
	for _, c := range e.state.CRLs() {
		if e.answers(c, o) && (best == nil || c.NextUpdate().After(best.NextUpdate())) {
			best = c
		}
	}
	return best
}

// answers reports whether a list answers for an address, as trust judges it: it says
// so, came from there, or says nothing and was brought under the address's last part.
func (e environment) answers(c *trust.CRL, o *route) bool {
	scope := c.Scope()
	if c.Origin() == o.address || slices.Contains(scope.Names, o.address) {
		return true
	}
	if len(scope.RawNames) > 0 {
		return false
	}
	ofIssuer := slices.ContainsFunc(o.issuers, sameKey(c.IssuerCertificate()))
	if ofIssuer && e.config.Profile == string(trust.Private) {
		return true
	}
	return c.CameFor(o.address) && (ofIssuer || len(o.issuers) == 0) // who issued what a peer showed is not kept
}

func sameKey(a *x509.Certificate) func(*x509.Certificate) bool {
	return func(b *x509.Certificate) bool {
		return slices.Equal(a.RawSubjectPublicKeyInfo, b.RawSubjectPublicKeyInfo)
	}
}

// tryRoute asks one address and says what came, against what is in force.
func (e environment) tryRoute(ctx context.Context, client *fetch.Client, o *route, r *report) {
	have := e.inForce(o)
	current := have != nil && e.Now.Before(have.NextUpdate())
	level, rest := e.missing(), "; no list of it is in force"
	if have != nil {
		rest = fmt.Sprintf("; the list in force is from %q, and ended on %s", config.SourceLabel(have.Origin()), stamp(have.NextUpdate()))
	}
	if current {
		level, rest = Warn, fmt.Sprintf("; the list in force is from %q, and good until %s", config.SourceLabel(have.Origin()), stamp(have.NextUpdate()))
	}
	if err := client.Permits(o.address); err != nil {
		if current && have.Origin() != o.address { // a host without a route, as it should be
			r.ok(o.address, "%s of environment %s is not fetched; a list of it comes from %q, and is good until %s", o.address, e.Name(), config.SourceLabel(have.Origin()), stamp(have.NextUpdate()))
			return
		}
		r.add(level, o.address, "add the host to crl.hosts of the environment, or bring lists: crl.files, spinecert trust crl FILE",
			fmt.Sprintf("%s of environment %s, named by %s, may not be fetched: %v%s", o.address, e.Name(), o.origin, err, rest))
		return
	}
	got, err := e.ask(ctx, client, o, have)
	switch {
	case err != nil:
		r.add(level, o.address, hintOr(err, "is there a route and a firewall rule to it? curl -I "+o.address),
			fmt.Sprintf("%s of environment %s, named by %s: %v%s", o.address, e.Name(), o.origin, err, rest))
	case !e.Now.Before(got.NextUpdate()):
		r.add(level, o.address, "its authority must publish a new list; ask it",
			fmt.Sprintf("%s of environment %s: the server has a list that ended on %s, of %s%s", o.address, e.Name(), stamp(got.NextUpdate()), stamp(got.ThisUpdate()), rest))
	case have != nil && got.ThisUpdate().Before(have.ThisUpdate()):
		r.warn(o.address, "is an old server, or a cache, in the way? An older list is never taken", "%s of environment %s: the server has an older list, of %s, than the one in force, of %s", o.address, e.Name(), stamp(got.ThisUpdate()), stamp(have.ThisUpdate()))
	default:
		r.ok(o.address, "%s of environment %s answers: list of %s with %s, issued %s ago, good for %s", o.address, e.Name(), quote(got.IssuerCertificate()),
			entries(got.Len()), days(e.Now.Sub(got.ThisUpdate())), days(got.NextUpdate().Sub(e.Now)))
	}
}

func entries(n int) string {
	if n == 1 {
		return "1 entry"
	}
	return fmt.Sprintf("%d entries", n)
}

func hintOr(err error, otherwise string) string {
	if h := pki.Hint(err); h != "" {
		return h
	}
	return otherwise
}

// An address is asked at most once a minute, by whoever; and a question ends in time.
const (
	askAgain = time.Minute
	askLimit = 15 * time.Second
)

// ask returns what the server has. What the daemon heard within the last minute is
// its answer.
func (e environment) ask(ctx context.Context, client *fetch.Client, o *route, have *trust.CRL) (*trust.CRL, error) {
	if since := e.Now.Sub(o.known.Tried); since >= 0 && since < askAgain && (o.known.Err != nil || o.known.CRL != nil) {
		return o.known.CRL, o.known.Err
	}
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	s := newSpool()
	if _, err := client.Get(ctx, o.address, fetch.Known{}, s); err != nil {
		return nil, err
	}
	if have != nil && have.Digest() == s.digest() {
		return have, nil // it was judged when it came into force
	}
	der, err := s.der()
	if err != nil {
		return nil, err
	}
	got, err := trust.ReadCRL(der, o.address, e.state.Bundle().Certificates())
	if err != nil {
		return nil, err
	}
	if !got.MayBeOf(o.address) {
		return nil, fmt.Errorf("the server has the list of %q, not of this address", got.Scope().Names)
	}
	return got, nil
}

// crlLists: what comes from files, or was carried, is as old as whoever brings it.
func crlLists(_ context.Context, e environment, r *report) {
	if e.state == nil || trust.Mode(e.config.Revocation) == trust.Off {
		return
	}
	for _, c := range e.state.CRLs() {
		if strings.HasPrefix(c.Origin(), "http:") {
			continue // crlRoutes
		}
		what := fmt.Sprintf("the list of %s from %q in environment %s", quote(c.IssuerCertificate()), config.SourceLabel(c.Origin()), e.Name())
		left, age := c.NextUpdate().Sub(e.Now), e.Now.Sub(c.ThisUpdate())
		switch {
		case left <= -e.config.CRL.Grace:
			r.add(e.missing(), c.Origin(), "bring the current list: its file, or spinecert trust crl FILE", fmt.Sprintf("%s ended on %s, and the grace is over", what, stamp(c.NextUpdate())))
		case left <= 0:
			r.warn(c.Origin(), "bring the current list: its file, or spinecert trust crl FILE", "%s ended on %s; it counts until %s", what, stamp(c.NextUpdate()), stamp(c.NextUpdate().Add(e.config.CRL.Grace)))
		default:
			r.ok(c.Origin(), "%s has %s, was issued %s ago and is good for %s", what, entries(c.Len()), days(age), days(left))
		}
		r.as(e.condition(condition.CRLStale, ""))
	}
}

var errTooLarge = errors.New("it answers, with a list that is too large to be judged on the way; the daemon judges it when it fetches it, see spinecert status")
