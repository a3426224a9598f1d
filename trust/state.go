package trust

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spinecert/spinecert/pki"
)

// Mode says what a missing answer about revocation means.
type Mode string

// The revocation modes.
const (
	Require Mode = "require" // no current CRL: refused
	Prefer  Mode = "prefer"  // no current CRL: accepted, and said
	Off     Mode = "off"     // CRLs are not consulted
)

// Profile names the conventions of a PKI.
type Profile string

// The profiles. In the NHS profiles the CRLs of an issuer are partitioned, each
// leaf names its own (SPINE.md, 3).
const (
	NHSG1   Profile = "nhs-g1"
	NHSG2   Profile = "nhs-g2"
	Private Profile = "private"
)

// Purpose is the role in which a certificate is presented.
type Purpose int

// The purposes. The zero value is AnyPurpose, which checks no extended key usage.
const (
	AnyPurpose Purpose = iota
	ServerAuth
	ClientAuth
)

// tolerance is granted to notBefore and thisUpdate for clocks that are a little
// behind. notAfter and nextUpdate get none.
const tolerance = 5 * time.Minute

// minRSABits is the smallest RSA modulus that is accepted anywhere in a path.
const minRSABits = 2048

// maxRSABits is the largest, as in crypto/tls: verifying takes quadratic time.
const maxRSABits = 8192

// minECBits and maxECBits bound the smallest curve that can be asked for.
const (
	minECBits = 256
	maxECBits = 521
)

// StateConfig is what a State is made from.
type StateConfig struct {
	Environment string
	Profile     Profile
	Bundle      *Bundle
	CRLs        []*CRL // each was verified against a CA of Bundle by ReadCRL
	NameFromCN  bool   // the CN counts as a name where there is no SAN
	Revocation  Mode   // "" is Require
	Grace       time.Duration
	// AcceptableCAs names the CAs for CertificateRequest, by SHA-256 or common
	// name; nil is every unexpired subCA of Bundle.
	AcceptableCAs []string
	// MinRSABits and MinECBits are the smallest keys that a path may hold; 0 is
	// 2048 and 256, and less cannot be asked for.
	MinRSABits, MinECBits int
	// SignatureAlgorithms are those with which a path may be signed; none is every
	// one that is not weak. A weak one cannot be asked for.
	SignatureAlgorithms []x509.SignatureAlgorithm
	// RequireStaple demands a stapled OCSP response of every server, not only of
	// those whose certificate does (RFC 7633).
	RequireStaple bool
	Sequence      uint64
}

// State is one immutable judgement base of an environment. It is shared by all
// slots of the environment and safe for concurrent use.
type State struct {
	config        StateConfig
	roots         *x509.CertPool
	intermediates *x509.CertPool
	crls          crlIndexes
	environments  map[string]bool // NHS environments whose CAs are in the bundle
	cache         *verdicts
	// Of states that differ in their CRLs alone: see Review.
	lineage *byte           // the same one for all of them
	since   map[*CRL]uint64 // the sequence number of the first that had it
	recent  []*CRL          // those that came last first
}

// NewState checks c and builds the pools and the CRL index.
func NewState(c StateConfig) (*State, error) {
	if c.Bundle == nil {
		return nil, errors.New("make trust state: no bundle")
	}
	if len(c.Bundle.Roots()) == 0 {
		return nil, errors.New("make trust state: the bundle has no root")
	}
	if slices.Contains(c.CRLs, nil) {
		return nil, errors.New("make trust state: a CRL is nil")
	}
	if c.Grace < 0 {
		return nil, fmt.Errorf("make trust state: grace %s is negative", c.Grace)
	}
	if c.Revocation == "" {
		c.Revocation = Require
	}
	if c.Revocation != Require && c.Revocation != Prefer && c.Revocation != Off {
		return nil, fmt.Errorf("make trust state: unknown revocation mode %q", c.Revocation)
	}
	if err := c.checkStrength(); err != nil {
		return nil, err
	}
	s := &State{
		config: c, roots: x509.NewCertPool(), intermediates: x509.NewCertPool(),
		crls: indexCRLs(c.CRLs), environments: map[string]bool{}, cache: newVerdicts(),
	}
	for _, ca := range c.Bundle.Certificates() {
		if k, ok := Known(ca); ok {
			s.environments[k.Environment] = true
		}
	}
	for _, ca := range c.Bundle.Roots() {
		s.roots.AddCert(ca)
	}
	for _, ca := range c.Bundle.SubCAs() {
		s.intermediates.AddCert(ca)
	}
	s.lineage = new(byte)
	s.remember(nil)
	if _, err := s.acceptable(c.AcceptableCAs, time.Time{}); err != nil {
		return nil, err
	}
	return s, nil
}

// remember notes since when each list of s is in force. was is what is known of the
// states before it.
func (s *State) remember(was map[*CRL]uint64) {
	s.since = make(map[*CRL]uint64, len(s.config.CRLs))
	for _, crl := range s.config.CRLs {
		at, ok := was[crl]
		if !ok {
			at = s.config.Sequence
		}
		s.since[crl] = at
	}
	s.recent = slices.Clone(s.config.CRLs)
	slices.SortStableFunc(s.recent, func(a, b *CRL) int { return cmp.Compare(s.since[b], s.since[a]) })
}

// WithCRLs returns a state that differs from s in its CRLs and its sequence number,
// which is larger.
func (s *State) WithCRLs(crls []*CRL, sequence uint64) *State {
	next := *s
	next.config.CRLs, next.config.Sequence = crls, sequence
	next.crls, next.cache = indexCRLs(crls), newVerdicts()
	next.remember(s.since)
	return &next
}

// Environment returns the name of the environment.
func (s *State) Environment() string { return s.config.Environment }

// Bundle returns the CA certificates.
func (s *State) Bundle() *Bundle { return s.config.Bundle }

// CRLs returns the revocation lists. Do not modify the slice.
func (s *State) CRLs() []*CRL { return s.config.CRLs }

// Revocation returns the mode that holds where a Request names none.
func (s *State) Revocation() Mode { return s.config.Revocation }

// Sequence numbers the states of one environment; a later state has a larger one.
func (s *State) Sequence() uint64 { return s.config.Sequence }

// AcceptableCAs returns the CAs to name in a CertificateRequest: those of only
// (SHA-256 or common names in the bundle), or the environment's list where only
// is empty, or else every subCA of the bundle that is unexpired at now; a bundle
// of roots alone names its roots. A name that is not in the bundle is an error.
func (s *State) AcceptableCAs(only []string, now time.Time) (*x509.CertPool, error) {
	if len(only) == 0 {
		only = s.config.AcceptableCAs
	}
	cas, err := s.acceptable(only, now)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	for _, ca := range cas {
		pool.AddCert(ca)
	}
	return pool, nil
}

func (s *State) acceptable(only []string, now time.Time) ([]*x509.Certificate, error) {
	if len(only) == 0 {
		living := func(cas []*x509.Certificate) []*x509.Certificate {
			return slices.DeleteFunc(slices.Clone(cas), func(c *x509.Certificate) bool { return now.After(c.NotAfter) })
		}
		if subCAs := living(s.config.Bundle.SubCAs()); len(subCAs) > 0 {
			return subCAs, nil
		}
		return living(s.config.Bundle.Roots()), nil
	}
	var out []*x509.Certificate
	for _, name := range only {
		found := false
		want := strings.ToLower(strings.ReplaceAll(name, ":", ""))
		for _, c := range s.config.Bundle.Certificates() {
			if pki.Fingerprint(c) == want || c.Subject.CommonName == name {
				out, found = append(out, c), true
			}
		}
		if !found {
			return nil, fmt.Errorf("find acceptable CA %q of environment %q: not in its bundle", clip(name), s.config.Environment)
		}
	}
	return out, nil
}
