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
	now, err := named(v, presented[0], r, fromCN)
	if err != nil {
		return Verdict{}, err
	}
	first := s.stands(now.Chain, presented, r, fromCN, undated)
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
		err := s.stands(path, presented, r, fromCN, undated)
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

// stands reports whether a path whose signatures were verified is still good.
func (s *State) stands(path, presented []*x509.Certificate, r Request, fromCN, undated bool) error {
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
	if r.Revocation == Off {
		return nil
	}
	return s.Revoked(path)
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
