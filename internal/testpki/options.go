package testpki

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net"
	"time"
)

// settings is what the options of one certificate add up to.
type settings struct {
	template     x509.Certificate
	key          crypto.Signer
	kind         string
	noSAN        bool
	sha1         bool
	badSignature bool
}

// Option changes one property of a certificate. Later options win.
type Option func(*settings)

// Name sets the subject to the one common name cn.
func Name(cn string) Option {
	return func(s *settings) { s.template.Subject = pkix.Name{CommonName: cn} }
}

// Subject sets the whole subject.
func Subject(name pkix.Name) Option {
	return func(s *settings) { s.template.Subject = name }
}

// RawSubject sets the subject to DER that is used as it is, for the string
// types and spellings that differ between certificates (SPINE.md, 3).
func RawSubject(der []byte) Option {
	return func(s *settings) { s.template.RawSubject = der }
}

// DNS sets the dNSNames of the subject alternative name. The first is the
// common name too, unless [Name] sets another.
func DNS(names ...string) Option {
	return func(s *settings) { s.template.DNSNames = names }
}

// NoSAN leaves the subject alternative name out, as G1 endpoint certificates do
// (SPINE.md, 3). Without it a leaf gets its common name as dNSName.
func NoSAN() Option {
	return func(s *settings) { s.noSAN = true }
}

// IP sets the iPAddresses of the subject alternative name; there is then no
// dNSName unless [DNS] gives one.
func IP(addresses ...net.IP) Option {
	return func(s *settings) { s.template.IPAddresses = addresses }
}

// Email sets the rfc822Names of the subject alternative name; there is then no
// dNSName unless [DNS] gives one.
func Email(addresses ...string) Option {
	return func(s *settings) { s.template.EmailAddresses = addresses }
}

// Key uses the given key instead of a new one.
func Key(key crypto.Signer) Option {
	return func(s *settings) { s.key = key }
}

// KeyType makes the key of the given kind; see [NewKey] for the kinds.
func KeyType(kind string) Option {
	return func(s *settings) { s.kind = kind }
}

// Validity sets notBefore and notAfter.
func Validity(from, to time.Time) Option {
	return func(s *settings) { s.template.NotBefore, s.template.NotAfter = from, to }
}

// Serial sets the serial number; without it, it is random.
func Serial(n *big.Int) Option {
	return func(s *settings) { s.template.SerialNumber = n }
}

// EKU sets the extended key usages; with no argument the extension is left out.
// A leaf has serverAuth and clientAuth without it, a CA none.
func EKU(usages ...x509.ExtKeyUsage) Option {
	return func(s *settings) { s.template.ExtKeyUsage = usages }
}

// KeyUsage sets the key usage bits; 0 leaves the extension out.
func KeyUsage(usage x509.KeyUsage) Option {
	return func(s *settings) { s.template.KeyUsage = usage }
}

// CDP sets the CRL distribution points, each a URL of its own.
func CDP(urls ...string) Option {
	return func(s *settings) { s.template.CRLDistributionPoints = urls }
}

// PathLen sets the pathLenConstraint of a CA, 0 included.
func PathLen(n int) Option {
	return func(s *settings) { s.template.MaxPathLen, s.template.MaxPathLenZero = n, n == 0 }
}

// NotCA makes a CA certificate without the cA bit: basicConstraints is there and
// says no.
func NotCA() Option {
	return func(s *settings) {
		s.template.IsCA = false
		s.template.MaxPathLen = -1
		s.template.MaxPathLenZero = false
	}
}

// NoBasicConstraints leaves basicConstraints out.
func NoBasicConstraints() Option {
	return func(s *settings) { NotCA()(s); s.template.BasicConstraintsValid = false }
}

// NameConstraint sets critical name constraints on DNS names.
func NameConstraint(permitted, excluded []string) Option {
	return func(s *settings) {
		s.template.PermittedDNSDomainsCritical = true
		s.template.PermittedDNSDomains, s.template.ExcludedDNSDomains = permitted, excluded
	}
}

// CriticalExtension adds a critical extension that nobody knows.
func CriticalExtension(oid asn1.ObjectIdentifier) Option {
	return Extension(pkix.Extension{Id: oid, Critical: true, Value: asn1.NullBytes})
}

// Extension adds an extension as it is; one that the certificate would have
// anyway is replaced by it.
func Extension(e pkix.Extension) Option {
	return func(s *settings) { s.template.ExtraExtensions = append(s.template.ExtraExtensions, e) }
}

// SHA1 has the certificate signed with SHA-1, which needs an RSA or ECDSA issuer.
func SHA1() Option {
	return func(s *settings) { s.sha1 = true }
}

// BadSignature spoils the signature: every name fits and the mathematics do not.
func BadSignature() Option {
	return func(s *settings) { s.badSignature = true }
}
