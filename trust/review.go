package trust

import (
	"crypto/x509"
	"errors"
	"slices"
	"time"
)

// Review judges the peer of an open connection again. v is the verdict that let
// it in, perhaps of an earlier state. Names, pins, the strength of keys, the end of
// its certificates, the bundle and revocation are judged as they are now. What only
// keeps new connections out does not cut an open one: a CRL that is missing or
// stale, a staple, or a clock that was set back. With undated, no date is judged
// either, as the clock is suspect.
//
// A path that was verified once is not verified again as long as the bundle still
// holds what it rests on, so that a review costs microseconds. It returns the
// verdict to keep for the next review, or a *VerifyError.
func (s *State) Review(presented []*x509.Certificate, v Verdict, r Request, undated bool) (Verdict, error) {
	if err := s.admit(presented, r); err != nil {
		return Verdict{}, err
	}
	if r.Revocation == "" {
		r.Revocation = s.config.Revocation
	}
	fromCN := r.NameFromCN || s.config.NameFromCN
	if len(v.Chain) == 0 { // it was never accepted: there is nothing to keep
		return s.Verify(presented, r)
	}
	now, err := named(v, presented[0], r, fromCN)
	if err != nil {
		return Verdict{}, err
	}
	first := s.stands(now.Chain, presented, r, fromCN, undated, v.seen)
	if r.Revocation == Off {
		now.seen = seen{}
	} else {
		now.seen = seen{s.lineage, s.config.Sequence}
	}
	if first == nil {
		return now, nil
	}
	// It may stand by another path, say under a cross-certificate.
	at := r
	if undated {
		at.Now = someTime(presented, now.Chain, r.Now)
	}
	paths, err := s.paths(presented, at, fromCN)
	if err != nil {
		if errors.Is(first, errPathGone) {
			return Verdict{}, err
		}
		return Verdict{}, first
	}
	for _, path := range paths {
		err := s.stands(path, presented, r, fromCN, undated, seen{})
		if err == nil {
			now.Chain, now.Until = path, earliestEnd(path)
			return now, nil
		}
		if errors.Is(first, errPathGone) {
			first = err
		}
	}
	return Verdict{}, first
}

// errPathGone says that the bundle lacks what a path rests on.
var errPathGone = errors.New("the bundle no longer holds this path")

// stands reports whether a path whose signatures were verified is still good. Lists
// that were in force when it was looked up, see before, are not asked again: a CA may
// have thousands, and of them one has changed.
func (s *State) stands(path, presented []*x509.Certificate, r Request, fromCN, undated bool, before seen) error {
	if len(path) < 2 || !contains(s.config.Bundle.Roots(), path[len(path)-1]) {
		return errPathGone
	}
	for _, ca := range path[1 : len(path)-1] {
		if !s.config.Bundle.Holds(ca) && !contains(presented, ca) {
			return errPathGone
		}
	}
	if err := s.config.extraChecks(path, fromCN); err != nil {
		return err
	}
	for _, c := range path {
		if !undated && r.Now.After(c.NotAfter) {
			return refuse(Expired, c, "%s expired on %s", describe(c), stamp(c.NotAfter))
		}
	}
	switch {
	case r.Revocation == Off:
		return nil
	case before.lineage != s.lineage:
		return s.Revoked(path)
	}
	return s.revokedSince(path, before.sequence)
}

// revokedSince is Revoked by the lists that were not in force in an earlier state of
// the same lineage.
func (s *State) revokedSince(path []*x509.Certificate, sequence uint64) error {
	for _, crl := range s.recent {
		if s.since[crl] <= sequence {
			return nil
		}
		if slices.ContainsFunc(path, func(c *x509.Certificate) bool { _, on := crl.Lookup(c.SerialNumber); return on }) {
			return s.Revoked(path) // perhaps: it may be another CA's certificate of the same number
		}
	}
	return nil
}

// RevokedSince is Revoked for who knows that a chain was good in before: where both
// differ in their CRLs alone, only the lists that came since are asked.
func (s *State) RevokedSince(before *State, chain []*x509.Certificate) error {
	if before == nil || before.lineage != s.lineage {
		return s.Revoked(chain)
	}
	return s.revokedSince(chain, before.config.Sequence)
}

// someTime is a time at which the certificates at hand had begun and path had not ended.
func someTime(presented, path []*x509.Certificate, now time.Time) time.Time {
	if len(path) == 0 {
		return now
	}
	at, end := path[0].NotBefore, earliestEnd(path)
	for _, c := range slices.Concat(presented, path) {
		if c.NotBefore.After(at) && c.NotBefore.Before(end) {
			at = c.NotBefore
		}
	}
	return at
}
