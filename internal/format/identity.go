package format

import (
	"crypto"
	"crypto/x509"

	"github.com/spinecert/spinecert/pki"
)

func cert(s Source) ([]byte, error) {
	leaf, err := parsed(s.Certificates[:min(len(s.Certificates), 1)])
	return pki.EncodeCertificates(leaf...), err
}

func der(s Source) ([]byte, error) {
	leaf, err := parsed(s.Certificates[:min(len(s.Certificates), 1)])
	if err != nil {
		return nil, err
	}
	return leaf[0].Raw, nil
}

func chain(s Source) ([]byte, error) {
	certs, err := parsed(s.Certificates)
	switch {
	case err != nil:
		return nil, err
	case len(certs) == 1:
		return nil, ErrNoChain
	}
	return pki.EncodeCertificates(certs[1:]...), nil
}

func fullChain(s Source) ([]byte, error) {
	certs, err := parsed(s.Certificates)
	return pki.EncodeCertificates(certs...), err
}

func key(s Source) ([]byte, error) { return encodeKey(s.Key) }

// combined is certificate, chain, key, in the order that HAProxy wants.
func combined(s Source) ([]byte, error) {
	id, err := identity(s)
	if err != nil {
		return nil, err
	}
	data, err := encodeKey(s.Key)
	if err != nil {
		return nil, err
	}
	return append(pki.EncodeCertificates(id.Certificates()...), data...), nil
}

func pkcs12(s Source) ([]byte, error) {
	id, err := identity(s)
	if err != nil {
		return nil, err
	}
	return pki.EncodePKCS12(id, s.Password)
}

func jks(s Source) ([]byte, error) {
	id, err := identity(s)
	if err != nil {
		return nil, err
	}
	return pki.EncodeJKS(id, s.Password, s.Now)
}

// identity is the leaf with its key, which must be a pair, and the chain as it was
// given: which of two cross-signed CAs is sent has been decided.
func identity(s Source) (*pki.Identity, error) {
	if _, err := encodeKey(s.Key); err != nil {
		return nil, err
	}
	certs, err := parsed(s.Certificates)
	if err != nil {
		return nil, err
	}
	id, err := pki.NewIdentity(certs[:1], s.Key)
	if err != nil {
		return nil, err
	}
	return id.WithChain(certs[1:]), nil
}

// parsed reads certificates again from their DER, so that what is written is a
// certificate, whoever made the value.
func parsed(certs []*x509.Certificate) ([]*x509.Certificate, error) {
	if len(certs) == 0 {
		return nil, ErrNoCertificate
	}
	var out []*x509.Certificate
	for _, c := range certs {
		if c == nil {
			return nil, errCertificate
		}
		again, err := x509.ParseCertificate(c.Raw)
		if err != nil {
			return nil, errCertificate
		}
		out = append(out, again)
	}
	return out, nil
}

// encodeKey is [pki.EncodeKey] for any value: crypto/x509 panics on a key of which
// parts are missing, and a Go value can be such a key in many ways.
func encodeKey(key crypto.Signer) (data []byte, err error) {
	defer func() {
		if recover() != nil { // what it says may be about the key
			data, err = nil, errKey
		}
	}()
	if key == nil {
		return nil, ErrNoKey
	}
	if data, err = pki.EncodeKey(key); err != nil {
		return nil, errKey
	}
	return data, nil
}
