package testpki

import (
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
)

// Leaf is an end-entity certificate with its key and the subCAs above it.
type Leaf struct {
	Cert  *x509.Certificate
	Key   crypto.Signer
	Chain []*x509.Certificate // issuing CA first, without the root
}

// CertPEM returns the leaf certificate alone.
func (l *Leaf) CertPEM() []byte { return EncodeCerts(l.Cert) }

// ChainPEM returns the subCAs, issuing CA first; empty below a root.
func (l *Leaf) ChainPEM() []byte { return EncodeCerts(l.Chain...) }

// FullChainPEM returns the leaf and the subCAs.
func (l *Leaf) FullChainPEM() []byte { return append(l.CertPEM(), l.ChainPEM()...) }

// KeyPEM returns the key as PKCS#8 in PEM.
func (l *Leaf) KeyPEM() []byte { return EncodeKey(l.Key) }

// TLS returns leaf, chain and key for crypto/tls.
func (l *Leaf) TLS() tls.Certificate {
	c := tls.Certificate{Certificate: [][]byte{l.Cert.Raw}, PrivateKey: l.Key, Leaf: l.Cert}
	for _, ca := range l.Chain {
		c.Certificate = append(c.Certificate, ca.Raw)
	}
	return c
}

// EncodeCerts returns the certificates as PEM, in the order given.
func EncodeCerts(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

// EncodeKey returns the key as PKCS#8 in PEM. It panics for a key that is not of
// a kind of [NewKey].
func EncodeKey(key crypto.Signer) []byte {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// EncodeCRL returns the CRL as PEM.
func EncodeCRL(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

// Request returns a CSR in DER for the key with the common name cn and the given
// dNSNames.
func Request(tb testing.TB, key crypto.Signer, cn string, names ...string) []byte {
	tb.Helper()
	t := &x509.CertificateRequest{Subject: pkix.Name{CommonName: cn}, DNSNames: names}
	der, err := x509.CreateCertificateRequest(rand.Reader, t, key)
	if err != nil {
		tb.Fatalf("make request for %q: %v", cn, err)
	}
	return der
}

// WriteFile writes data to path with exactly the given mode, and makes the
// directories above it.
func WriteFile(tb testing.TB, path string, data []byte, mode os.FileMode) {
	tb.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(path, data, mode); err != nil {
		tb.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // the umask may have taken bits away
		tb.Fatal(err)
	}
}
