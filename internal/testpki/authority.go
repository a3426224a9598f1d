package testpki

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"math/big"
	"sync/atomic"
	"testing"
	"time"
)

const (
	defaultLeafName = "leaf.thirdparty.nhs.uk"
	defaultLife     = 365 * 24 * time.Hour
	defaultCALife   = 10 * defaultLife
)

// Authority is a CA: a root, or a subCA below Parent.
type Authority struct {
	Cert   *x509.Certificate
	Key    crypto.Signer
	Parent *Authority // nil for a root

	crlNumber atomic.Int64
}

// NewRoot makes a self-signed root.
func NewRoot(tb testing.TB, opts ...Option) *Authority {
	tb.Helper()
	s := caSettings("Test Root Authority", opts)
	cert, key := makeCert(tb, "ca", s, nil)
	return &Authority{Cert: cert, Key: key}
}

// SubCA makes a CA below a.
func (a *Authority) SubCA(tb testing.TB, opts ...Option) *Authority {
	tb.Helper()
	s := caSettings("Test Authentication", opts)
	cert, key := makeCert(tb, "ca", s, a)
	return &Authority{Cert: cert, Key: key, Parent: a}
}

// CrossSign makes a certificate of a for the name and key of other, which then
// has two certificates. The result issues with other's key and has a as parent.
func (a *Authority) CrossSign(tb testing.TB, other *Authority, opts ...Option) *Authority {
	tb.Helper()
	base := []Option{RawSubject(other.Cert.RawSubject), Key(other.Key)}
	return a.SubCA(tb, append(base, opts...)...)
}

// Issue makes an end-entity certificate below a, for both purposes.
func (a *Authority) Issue(tb testing.TB, opts ...Option) *Leaf {
	tb.Helper()
	s := baseSettings()
	s.template.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
	s.template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	for _, opt := range opts {
		opt(s)
	}
	t := &s.template
	if t.Subject.String() == "" && t.RawSubject == nil {
		t.Subject.CommonName = defaultLeafName
		if len(t.DNSNames) > 0 {
			t.Subject.CommonName = t.DNSNames[0]
		}
	}
	if len(t.DNSNames)+len(t.IPAddresses)+len(t.EmailAddresses) == 0 && t.Subject.CommonName != "" {
		t.DNSNames = []string{t.Subject.CommonName}
	}
	cert, key := makeCert(tb, "leaf", s, a)
	return &Leaf{Cert: cert, Key: key, Chain: a.chain()}
}

// Root returns the root above a, or a itself.
func (a *Authority) Root() *Authority {
	for a.Parent != nil {
		a = a.Parent
	}
	return a
}

// CertPEM returns the certificate of a alone.
func (a *Authority) CertPEM() []byte { return EncodeCerts(a.Cert) }

// BundlePEM returns the certificates of a and of every CA above it, root last.
func (a *Authority) BundlePEM() []byte {
	return EncodeCerts(append(a.chain(), a.Root().Cert)...)
}

// chain returns the subCAs from a upwards, without the root.
func (a *Authority) chain() []*x509.Certificate {
	var certs []*x509.Certificate
	for ; a.Parent != nil; a = a.Parent {
		certs = append(certs, a.Cert)
	}
	return certs
}

func baseSettings() *settings {
	now := time.Now()
	return &settings{kind: "ecdsa-p256", template: x509.Certificate{
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(defaultLife), BasicConstraintsValid: true,
		MaxPathLen: -1,
	}}
}

func caSettings(name string, opts []Option) *settings {
	s := baseSettings()
	s.template.NotAfter = s.template.NotBefore.Add(defaultCALife)
	s.template.Subject.CommonName = name
	s.template.IsCA = true
	s.template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	for _, opt := range opts {
		opt(s)
	}
	return s
}

// makeCert signs the certificate that s describes with the key of issuer, or with
// its own if issuer is nil.
func makeCert(tb testing.TB, role string, s *settings, issuer *Authority) (*x509.Certificate, crypto.Signer) {
	tb.Helper()
	key := s.key
	if key == nil {
		key = newKey(tb, role, s.kind)
	}
	t := &s.template
	if s.noSAN {
		t.DNSNames, t.IPAddresses, t.EmailAddresses = nil, nil, nil
	}
	if t.SerialNumber == nil {
		t.SerialNumber = randomSerial(tb)
	}
	if t.SubjectKeyId == nil { // crypto/x509 adds it only to what is a CA
		t.SubjectKeyId = keyID(tb, key.Public())
	}
	parent, signer := t, key
	if issuer != nil {
		parent, signer = issuer.Cert, issuer.Key
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, key.Public(), signer)
	if err != nil {
		tb.Fatalf("make certificate %q: %v", t.Subject, err)
	}
	if s.sha1 || s.badSignature {
		der = resign(tb, der, signer, s.sha1, s.badSignature)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatalf("parse certificate %q: %v", t.Subject, err)
	}
	return cert, key
}

// keyID is method 1 of RFC 7093, Section 2.
func keyID(tb testing.TB, pub crypto.PublicKey) []byte {
	tb.Helper()
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		tb.Fatalf("encode public key: %v", err)
	}
	sum := sha256.Sum256(der)
	return sum[:20]
}

func randomSerial(tb testing.TB) *big.Int {
	tb.Helper()
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 126))
	if err != nil {
		tb.Fatalf("make serial number: %v", err)
	}
	return n.SetBit(n, 126, 1) // always 16 bytes and never 0
}
