package doctor

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"hash"

	"github.com/spinecert/spinecert/pki"
)

// spoolLimit bounds what is held of one answer: four are asked at once, within the
// daemon. Lists of the NHS have some 100 KiB.
const spoolLimit = 8 << 20

// spool holds an answer as far as it is small, and the digest of all of it.
type spool struct {
	kept bytes.Buffer
	over bool
	sum  hash.Hash
}

func newSpool() *spool { return &spool{sum: sha256.New()} }

// Write never fails.
func (s *spool) Write(p []byte) (int, error) {
	s.sum.Write(p)
	if s.over = s.over || s.kept.Len()+len(p) > spoolLimit; s.over {
		s.kept = bytes.Buffer{}
	} else {
		s.kept.Write(p)
	}
	return len(p), nil
}

func (s *spool) digest() (sum [sha256.Size]byte) {
	s.sum.Sum(sum[:0])
	return sum
}

// der returns the one list that is held, DER or PEM.
func (s *spool) der() ([]byte, error) {
	data := s.kept.Bytes()
	switch {
	case s.over:
		return nil, errTooLarge
	case len(data) > 0 && data[0] == 0x30: // SEQUENCE
		return data, nil
	}
	contents, err := pki.Parse(data, nil)
	if err != nil || len(contents.CRLs) != 1 {
		return nil, errors.New("what the server has is not one CRL, DER or PEM")
	}
	return contents.CRLs[0], nil
}
