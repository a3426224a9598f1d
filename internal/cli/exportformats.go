package cli

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/spinecert/spinecert/pki"
)

// exportNeeds says what a format is made of.
type exportNeeds uint8

const (
	needIdentity exportNeeds = 1 << iota // of the slot, or what is in the files
	needTrust                            // of the environment, or what is in the files
	needCRLs                             // the same
)

// exportFormat is one format of export.
type exportFormat struct {
	name     string
	needs    exportNeeds
	private  bool // holds the private key
	password bool // needs one
	beside   bool // names files that are written beside it
	encode   func(*exportSource) ([]byte, error)
}

// exportFormats lists them in the order of the manual.
func exportFormats() []exportFormat {
	return []exportFormat{
		{name: "cert", needs: needIdentity, encode: (*exportSource).cert},
		{name: "chain", needs: needIdentity, encode: (*exportSource).chainOnly},
		{name: "fullchain", needs: needIdentity, encode: (*exportSource).fullChain},
		{name: "key", needs: needIdentity, private: true, encode: (*exportSource).keyOnly},
		{name: "combined", needs: needIdentity, private: true, encode: (*exportSource).combined},
		{name: "der", needs: needIdentity, encode: (*exportSource).der},
		{name: "pkcs12", needs: needIdentity, private: true, password: true, encode: (*exportSource).pkcs12},
		{name: "jks", needs: needIdentity, private: true, password: true, encode: (*exportSource).jks},
		{name: "trust-pem", needs: needTrust, encode: (*exportSource).trustPEM},
		{name: "trust-pkcs12", needs: needTrust, password: true, encode: (*exportSource).trustPKCS12},
		{name: "crl-pem", needs: needCRLs, encode: (*exportSource).crlPEM},
		{name: "ldaprc", needs: needIdentity | needTrust, beside: true, encode: (*exportSource).ldaprc},
	}
}

func exportFormatNames() []string {
	var names []string
	for _, f := range exportFormats() {
		names = append(names, f.name)
	}
	return names
}

// record keeps what is written, for the result.
func (s *exportSource) record(certs ...*x509.Certificate) {
	for _, c := range certs {
		s.wrote = append(s.wrote, c.Subject.String())
	}
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
	if s.key != nil { // a key alone is enough
		return pki.EncodeKey(s.key)
	}
	id, err := s.identity()
	if err != nil {
		return nil, err
	}
	return pki.EncodeKey(id.Signer())
}

// whole is the identity, recorded as written.
func (s *exportSource) whole() (*pki.Identity, []*x509.Certificate, error) {
	id, err := s.identity()
	if err != nil {
		return nil, nil, err
	}
	certs := id.Certificates()
	s.record(certs...)
	return id, certs, nil
}

// combined is certificate, chain, key, in the order that HAProxy wants.
func (s *exportSource) combined() ([]byte, error) {
	id, certs, err := s.whole()
	if err != nil {
		return nil, err
	}
	key, err := pki.EncodeKey(id.Signer())
	if err != nil {
		return nil, err
	}
	return append(pki.EncodeCertificates(certs...), key...), nil
}

func (s *exportSource) pkcs12() ([]byte, error) {
	id, _, err := s.whole()
	if err != nil {
		return nil, err
	}
	return pki.EncodePKCS12(id, s.password)
}

func (s *exportSource) jks() ([]byte, error) {
	id, _, err := s.whole()
	if err != nil {
		return nil, err
	}
	return pki.EncodeJKS(id, s.password, s.now)
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

// crlPEM is one file of CRLs. Programs on OpenSSL refuse everybody below a CA
// whose list is missing or over.
func (s *exportSource) crlPEM() ([]byte, error) {
	var out []byte
	for _, der := range s.crls {
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
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})...)
	}
	return out, nil
}
