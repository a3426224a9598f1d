package cli

import (
	"crypto"
	"crypto/x509"
	"errors"

	"github.com/spinecert/spinecert/pki"
)

// record keeps what is written, for the result.
func (s *exportSource) record(certs ...*x509.Certificate) {
	for _, c := range certs {
		s.wrote = append(s.wrote, c.Subject.String())
	}
}

func (s *exportSource) leaf() (*x509.Certificate, error) {
	var pub crypto.PublicKey
	if s.key != nil {
		pub = s.key.Public()
	}
	return s.answer.Leaf(pub)
}

// leafAndChain is what is sent in a handshake, in its order.
func (s *exportSource) leafAndChain() ([]*x509.Certificate, error) {
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

func (s *exportSource) cert() ([]byte, error) {
	leaf, err := s.leaf()
	if err != nil {
		return nil, err
	}
	s.record(leaf)
	return pki.EncodeCertificates(leaf), nil
}

func (s *exportSource) der() ([]byte, error) {
	leaf, err := s.leaf()
	if err != nil {
		return nil, err
	}
	s.record(leaf)
	return leaf.Raw, nil
}

func (s *exportSource) chainOnly() ([]byte, error) {
	certs, err := s.leafAndChain()
	if err != nil {
		return nil, err
	}
	if len(certs) == 1 {
		return nil, errors.New("there is no subCA: a root issued the certificate itself")
	}
	s.record(certs[1:]...)
	return pki.EncodeCertificates(certs[1:]...), nil
}

func (s *exportSource) fullChain() ([]byte, error) {
	certs, err := s.leafAndChain()
	if err != nil {
		return nil, err
	}
	s.record(certs...)
	return pki.EncodeCertificates(certs...), nil
}

func (s *exportSource) keyOnly() ([]byte, error) {
	if s.key == nil {
		_, err := s.identity()
		return nil, err
	}
	return pki.EncodeKey(s.key)
}

// combined is certificate, chain, key, in the order that HAProxy wants.
func (s *exportSource) combined() ([]byte, error) {
	id, err := s.identity()
	if err != nil {
		return nil, err
	}
	key, err := pki.EncodeKey(id.Signer())
	if err != nil {
		return nil, err
	}
	certs := append([]*x509.Certificate{id.Leaf()}, id.Chain()...)
	s.record(certs...)
	return append(pki.EncodeCertificates(certs...), key...), nil
}

func (s *exportSource) pkcs12() ([]byte, error) {
	id, err := s.identity()
	if err != nil {
		return nil, err
	}
	s.record(append([]*x509.Certificate{id.Leaf()}, id.Chain()...)...)
	return pki.EncodePKCS12(id, s.password)
}

// authorities are the CAs in the files, subCAs first.
func (s *exportSource) authorities() ([]*x509.Certificate, error) {
	cas := s.answer.CAs()
	if len(cas) == 0 {
		return nil, errors.New("there is no CA certificate in the files")
	}
	if len(cas) < len(s.answer.Certificates) {
		s.notes = append(s.notes, "certificates that are no CA were left out")
	}
	s.record(cas...)
	return cas, nil
}

func (s *exportSource) trustPEM() ([]byte, error) {
	cas, err := s.authorities()
	return pki.EncodeCertificates(cas...), err
}

func (s *exportSource) trustPKCS12() ([]byte, error) {
	cas, err := s.authorities()
	if err != nil {
		return nil, err
	}
	return pki.EncodeTrustStore(cas, s.password)
}
