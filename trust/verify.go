package trust

import (
	"crypto/x509"
	"time"

	"github.com/spinecert/spinecert/pki"
)

// maxPresented bounds how many certificates of a peer are looked at. The largest
// bridge of BetterTLS has 36.
const maxPresented = 40

// Request says what a chain is judged for.
type Request struct {
	Purpose    Purpose
	Peers      Peers
	Revocation Mode // "" is the environment's
	NameFromCN bool // count the CN where there is no SAN, also if the environment does not
	// Staple is the OCSP response that a server stapled to its handshake, in DER. It
	// is looked at where the server's certificate, or the environment, demands one.
	Staple []byte
	Now    time.Time
}

// Revocation results of a Verdict.
const (
	RevocationGood        = "good"        // every certificate has a current CRL and is not on it
	RevocationGrace       = "grace"       // as good, but a CRL is past nextUpdate, within the grace
	RevocationUnavailable = "unavailable" // accepted by Prefer without a current CRL
	RevocationOff         = "not_checked" // the mode is Off
)

// Verdict is an acceptance: which path, which name, what revocation said.
type Verdict struct {
	Chain      []*x509.Certificate // leaf first, root last; shared, do not modify
	Name       string              // the name that counted; "" with AnyName and no name
	NameSource pki.NameSource
	Revocation string    // one of the Revocation constants
	Unchecked  Reason    // with RevocationUnavailable: why there was no answer
	Missing    []string  // with RevocationUnavailable: where the CRLs that are not at hand can be had
	Until      time.Time // the earliest end of a certificate or CRL this verdict rests on

	seen seen
}

// seen says against which lists a path was looked up: all that a state had.
type seen struct {
	lineage  *byte
	sequence uint64
}

// Verify judges the certificates that a peer presented, its leaf first. It
// returns a Verdict, or a *VerifyError with one Reason. Additional and
// unrelated certificates are ignored; missing subCAs come from the bundle. It
// never waits and never looks anything up outside of s.
func (s *State) Verify(presented []*x509.Certificate, r Request) (Verdict, error) {
	if err := s.admit(presented, r); err != nil {
		return Verdict{}, err
	}
	if r.Revocation == "" {
		r.Revocation = s.config.Revocation
	}
	fromCN := r.NameFromCN || s.config.NameFromCN
	key := verdictKey(presented, r.Purpose, r.Revocation, fromCN)
	v, ok := s.cache.lookup(key, r.Now)
	var err error
	if ok {
		v, err = named(v, presented[0], r, fromCN)
	} else {
		v, err = s.verifyFresh(presented, r, fromCN)
	}
	if err != nil {
		return Verdict{}, err
	}
	if err := s.stapled(v.Chain, r); err != nil { // on each connection: a staple is never remembered
		return Verdict{}, err
	}
	if r.Revocation != Off {
		v.seen = seen{s.lineage, s.config.Sequence}
	}
	return v, nil
}

// admit refuses what cannot be judged at all. It stands before everything else,
// as crypto/x509 fills in what is missing here in its own way: without roots it
// takes those of the system, without a time the time of day.
func (s *State) admit(presented []*x509.Certificate, r Request) error {
	if len(presented) == 0 {
		return refuse(NoCertificate, nil, "the peer presented no certificate")
	}
	for i, c := range presented {
		if c == nil || len(c.Raw) == 0 {
			return refuse(Malformed, nil, "certificate %d of the peer was not parsed", i+1)
		}
	}
	leaf := presented[0]
	switch {
	case len(presented) > maxPresented:
		e := refuse(TooLarge, leaf, "the peer presented %d certificates, at most %d are looked at", len(presented), maxPresented)
		e.Advice = "the peer should send its own certificate and the subCAs above it, nothing else"
		return e
	case s == nil || s.roots == nil || s.cache == nil:
		return refuse(UnknownIssuer, leaf, "there is no trust state to judge %s with", describe(leaf))
	case r.Purpose < AnyPurpose || r.Purpose > ClientAuth:
		return refuse(WrongPurpose, leaf, "there is no purpose %d to judge %s for", int(r.Purpose), describe(leaf))
	case r.Now.IsZero():
		return refuse(NotYetValid, leaf, "no time was given to judge %s at", describe(leaf))
	}
	return nil
}

// Remember keeps an acceptance, so that the same peer is judged faster. Call it
// only after the handshake completed, that is when the peer proved its key:
// else anybody could fill the cache with certificates of others. Names are not
// part of what is kept; they are judged on every connection.
func (s *State) Remember(presented []*x509.Certificate, r Request, v Verdict) {
	if s.admit(presented, r) != nil || len(v.Chain) == 0 || !v.Chain[0].Equal(presented[0]) || tooBig(presented) {
		return
	}
	if r.Revocation == "" {
		r.Revocation = s.config.Revocation
	}
	s.cache.store(verdictKey(presented, r.Purpose, r.Revocation, r.NameFromCN || s.config.NameFromCN), v, r.Now)
}

func named(v Verdict, leaf *x509.Certificate, r Request, fromCN bool) (Verdict, error) {
	name, source, err := r.Peers.match(leaf, r.Purpose, fromCN)
	if err != nil {
		return Verdict{}, err
	}
	v.Name, v.NameSource = name, source
	return v, nil
}

func (s *State) verifyFresh(presented []*x509.Certificate, r Request, fromCN bool) (Verdict, error) {
	paths, err := s.paths(presented, r, fromCN)
	if err != nil {
		return Verdict{}, err
	}
	base, err := named(Verdict{}, presented[0], r, fromCN)
	if err != nil {
		return Verdict{}, err
	}
	var first error
	for _, path := range paths {
		v := base
		v.Chain, v.Until = path, earliestEnd(path)
		if err := s.revocation(&v, r); err != nil {
			if first == nil {
				first = err
			}
			continue
		}
		return v, nil
	}
	return Verdict{}, first
}

// paths returns the paths from the leaf to a root that pass every check but
// names and revocation; at least one, or an error.
func (s *State) paths(presented []*x509.Certificate, r Request, fromCN bool) ([][]*x509.Certificate, error) {
	leaf := presented[0]
	pool := s.intermediates
	if more := s.vouched(presented); len(more) > 0 {
		pool = s.intermediates.Clone()
		for _, c := range more {
			pool.AddCert(c)
		}
	}
	opts := x509.VerifyOptions{Roots: s.roots, Intermediates: pool, CurrentTime: r.Now, KeyUsages: r.Purpose.usages()}
	found, err := leaf.Verify(opts)
	if err != nil {
		// notBefore has a tolerance, which x509 does not know: judge again at the
		// latest notBefore that lies within it. An end that passes in between is
		// refused some minutes early, never accepted late.
		if at, later := withinTolerance(presented, s.config.Bundle, r.Now); later {
			opts.CurrentTime = at
			found, err = leaf.Verify(opts)
		}
	}
	if err != nil {
		return nil, s.explain(presented, r, err)
	}
	var good [][]*x509.Certificate
	var first error
	for _, path := range found {
		if err := s.config.extraChecks(path, fromCN); err != nil {
			if first == nil {
				first = err
			}
			continue
		}
		good = append(good, path)
	}
	if len(good) == 0 {
		return nil, first
	}
	return good, nil
}

func (p Purpose) usages() []x509.ExtKeyUsage {
	switch p {
	case ServerAuth:
		return []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	case ClientAuth:
		return []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	default:
		return []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
	}
}

func (p Purpose) String() string {
	switch p {
	case ServerAuth:
		return "server"
	case ClientAuth:
		return "client"
	default:
		return "any"
	}
}

func withinTolerance(presented []*x509.Certificate, b *Bundle, now time.Time) (time.Time, bool) {
	at := now
	look := func(certs []*x509.Certificate) {
		for _, c := range certs {
			if c.NotBefore.After(at) && !c.NotBefore.After(now.Add(tolerance)) {
				at = c.NotBefore
			}
		}
	}
	look(presented)
	look(b.Certificates())
	return at, at.After(now)
}

// extraChecks are those that crypto/x509 does not make on a path it returns.
func (s *StateConfig) extraChecks(path []*x509.Certificate, fromCN bool) error {
	for i, c := range path {
		if err := s.weakKey(c); err != nil {
			return err
		}
		if i < len(path)-1 && s.weakSignature(c) {
			return refuse(WeakSignature, c, "%s is signed with %s", describe(c), algorithmName(c))
		}
	}
	if err := constrainHosts(path); err != nil {
		return err
	}
	if fromCN {
		return constrainCN(path)
	}
	return nil
}

func earliestEnd(path []*x509.Certificate) time.Time {
	end := path[0].NotAfter
	for _, c := range path[1:] {
		if c.NotAfter.Before(end) {
			end = c.NotAfter
		}
	}
	return end
}
