package trust

import (
	"bytes"
	"crypto/x509"
	"slices"
)

// vouched returns those of the presented CAs that a CA of the bundle signed, or
// one that is itself vouched for. No other can be in an accepted path.
//
// VerifyConnection runs before the peer has proved anything. Left to itself,
// crypto/x509 searches upwards from the leaf, with up to 100 signature checks
// by keys of the peer's making; this searches downwards, so that a stranger can
// only have his certificates checked with the keys of the bundle, once each.
func (s *State) vouched(presented []*x509.Certificate) []*x509.Certificate {
	rest := s.strangers(presented[1:])
	if len(rest) == 0 {
		return nil // the usual case: the peer sent its leaf and what we have
	}
	known := s.config.Bundle.Certificates()
	bundled := len(known)
	for i := 0; i < len(known) && len(rest) > 0; i++ {
		rest = slices.DeleteFunc(rest, func(c *x509.Certificate) bool {
			if !bytes.Equal(c.RawIssuer, known[i].RawSubject) || c.CheckSignatureFrom(known[i]) != nil {
				return false
			}
			known = append(known, c)
			return true
		})
	}
	return known[bundled:]
}

// strangers returns the CAs among presented that are not in the bundle, each once.
func (s *State) strangers(presented []*x509.Certificate) []*x509.Certificate {
	var out []*x509.Certificate
	for _, c := range presented {
		if c.BasicConstraintsValid && c.IsCA && weakKey(c) == nil && !s.config.Bundle.Holds(c) && !contains(out, c) {
			out = append(out, c)
		}
	}
	return out
}
