package cli

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"io/fs"
	"slices"

	"github.com/spinecert/spinecert/internal/format"
	"github.com/spinecert/spinecert/pki"
)

// exportMode is the mode of a file.
func exportMode(f format.Format) fs.FileMode {
	if f.Private {
		return 0o600
	}
	return 0o644
}

// encode makes a file of what was read, and those beside it, and keeps what is told
// of them.
func (s *exportSource) encode(f format.Format) ([]byte, error) {
	if len(f.Beside) > 0 {
		return s.encodeBeside(f)
	}
	made, err := s.gather(f.Needs)
	if err != nil {
		return nil, err
	}
	data, err := f.Encode(made)
	if err != nil {
		return nil, err
	}
	s.tellCRLs(made.CRLs)
	return data, nil
}

// gather finds among what was read what a format needs, and no more: a certificate
// alone, or a key alone, is enough for some. The certificates to write are recorded.
func (s *exportSource) gather(needs format.Needs) (format.Source, error) {
	out := format.Source{Password: s.password, Now: s.now}
	var err error
	switch {
	case needs&format.Key != 0:
		out.Key, out.Certificates, err = s.keyAndChain(needs)
	case needs&format.Chain != 0:
		out.Certificates, err = s.leafAndChain()
	case needs&format.Leaf != 0:
		out.Certificates = make([]*x509.Certificate, 1)
		out.Certificates[0], err = s.leaf()
	case needs&format.Trust != 0:
		out.CAs, err = s.authorities()
	case needs&format.CRLs != 0:
		out.CRLs = s.crls
	}
	if err != nil {
		return format.Source{}, err
	}
	wrote := slices.Concat(out.Certificates, out.CAs)
	if needs&format.Identity == format.Chain {
		wrote = wrote[1:]
	}
	for _, c := range wrote {
		s.wrote = append(s.wrote, c.Subject.String())
	}
	return out, nil
}

// keyAndChain is the key, with leaf and chain if they are needed as well.
func (s *exportSource) keyAndChain(needs format.Needs) (crypto.Signer, []*x509.Certificate, error) {
	if s.key != nil && needs&format.Identity == format.Key { // a key alone is enough
		return s.key, nil, nil
	}
	id, err := s.identity()
	switch {
	case err != nil:
		return nil, nil, err
	case needs&format.Identity == format.Key:
		return id.Signer(), nil, nil
	}
	return id.Signer(), id.Certificates(), nil
}

func (s *exportSource) leaf() (*x509.Certificate, error) {
	if s.kept != nil {
		return s.kept.Leaf(), nil
	}
	var pub crypto.PublicKey
	if s.key != nil {
		pub = s.key.Public()
	}
	return s.answer.Leaf(pub)
}

// leafAndChain is what is sent in a handshake, in its order.
func (s *exportSource) leafAndChain() ([]*x509.Certificate, error) {
	if s.kept != nil {
		return s.kept.Certificates(), nil
	}
	leaf, err := s.leaf()
	if err != nil {
		return nil, err
	}
	chain, err := s.answer.Chain(leaf, s.now)
	if err != nil {
		return nil, err
	}
	return append([]*x509.Certificate{leaf}, chain...), nil
}

// identity is leaf, chain and key, which fit together.
func (s *exportSource) identity() (*pki.Identity, error) {
	if s.kept != nil {
		return s.kept, nil
	}
	if s.key == nil {
		return nil, s.noKey()
	}
	certs, err := s.leafAndChain()
	if err != nil {
		return nil, err
	}
	return pki.NewIdentity(certs, s.key)
}

// tellCRLs describes the lists that were written. Programs on OpenSSL refuse everybody
// below a CA whose list is missing or over.
func (s *exportSource) tellCRLs(crls [][]byte) {
	for _, der := range crls {
		facts := describeCRL(der, s.now)
		line := facts.Issuer + ", of " + stamp(facts.ThisUpdate)
		if !facts.NextUpdate.IsZero() {
			line += ", until " + stamp(facts.NextUpdate)
		}
		s.lists = append(s.lists, line)
		if facts.Stale {
			s.notes = append(s.notes, fmt.Sprintf("the CRL of %s is over since %s: nginx, HAProxy, Apache and PostgreSQL then refuse every certificate of this CA",
				facts.Issuer, stamp(facts.NextUpdate)))
		}
	}
}
