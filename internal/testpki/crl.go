package testpki

import (
	"crypto"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"math/big"
	"slices"
	"testing"
	"time"
)

const defaultCRLLife = 7 * 24 * time.Hour

type crlSettings struct {
	entries                []byte // content of revokedCertificates
	thisUpdate, nextUpdate time.Time
	number                 *big.Int
	noNumber, noAKI        bool
	idp                    *idp
	extensions             []pkix.Extension
	key                    crypto.Signer
	issuer                 []byte
	sha1, badSignature     bool
}

// CRLOption changes one property of a CRL. Later options win; those that add
// (Revoke, CriticalCRLExtension) add up.
type CRLOption func(*crlSettings)

// Revoke lists serial numbers as revoked an hour ago, without a reason.
func Revoke(serials ...*big.Int) CRLOption {
	return func(s *crlSettings) {
		for _, n := range serials {
			s.entries = append(s.entries, entry(n, time.Now().Add(-time.Hour), 0)...)
		}
	}
}

// RevokeWith lists one serial number with its date and reason code; 0 leaves the
// reason out, 8 is removeFromCRL (RFC 5280, Section 5.3.1).
func RevokeWith(serial *big.Int, at time.Time, reason int) CRLOption {
	return func(s *crlSettings) { s.entries = append(s.entries, entry(serial, at, reason)...) }
}

// RevokeEntryExtension lists a serial number with one entry extension, such as a
// critical one nobody knows.
func RevokeEntryExtension(serial *big.Int, e pkix.Extension) CRLOption {
	return func(s *crlSettings) {
		exts := marshal([]pkix.Extension{e})
		s.entries = appendTLV(s.entries, 0x30, marshal(serial), marshal(time.Now().UTC()), exts)
	}
}

// ThisUpdate sets the date of issue.
func ThisUpdate(t time.Time) CRLOption { return func(s *crlSettings) { s.thisUpdate = t } }

// NextUpdate sets the end; the zero time leaves the field out.
func NextUpdate(t time.Time) CRLOption { return func(s *crlSettings) { s.nextUpdate = t } }

// Number sets the cRLNumber. Without it the CRLs of one authority count from 1.
func Number(n int64) CRLOption {
	return func(s *crlSettings) { s.number, s.noNumber = big.NewInt(n), false }
}

// NoNumber leaves the cRLNumber out.
func NoNumber() CRLOption { return func(s *crlSettings) { s.noNumber = true } }

// NoAuthorityKeyID leaves the authorityKeyIdentifier out.
func NoAuthorityKeyID() CRLOption { return func(s *crlSettings) { s.noAKI = true } }

// CriticalCRLExtension adds a critical extension that nobody knows.
func CriticalCRLExtension(oid asn1.ObjectIdentifier) CRLOption {
	return CRLExtension(pkix.Extension{Id: oid, Critical: true, Value: asn1.NullBytes})
}

// CRLExtension adds an extension as it is.
func CRLExtension(e pkix.Extension) CRLOption {
	return func(s *crlSettings) { s.extensions = append(s.extensions, e) }
}

// Delta makes a delta CRL: a critical deltaCRLIndicator with base number 1
// (RFC 5280, Section 5.2.4).
func Delta() CRLOption {
	oid := asn1.ObjectIdentifier{2, 5, 29, 27}
	return CRLExtension(pkix.Extension{Id: oid, Critical: true, Value: marshal(big.NewInt(1))})
}

// CRLSHA1 has the CRL signed with SHA-1.
func CRLSHA1() CRLOption { return func(s *crlSettings) { s.sha1 = true } }

// BadCRLSignature spoils the signature.
func BadCRLSignature() CRLOption { return func(s *crlSettings) { s.badSignature = true } }

// CRLKey signs with another key than the authority's.
func CRLKey(key crypto.Signer) CRLOption { return func(s *crlSettings) { s.key = key } }

// CRLIssuer sets the issuer name, as DER, to another than the authority's.
func CRLIssuer(der []byte) CRLOption { return func(s *crlSettings) { s.issuer = der } }

// CRL returns a CRL of a in DER. It is built by hand, as crypto/x509 refuses
// most defects; a good one reads with x509.ParseRevocationList.
func (a *Authority) CRL(tb testing.TB, opts ...CRLOption) []byte {
	tb.Helper()
	now := time.Now()
	s := &crlSettings{
		thisUpdate: now.Add(-time.Hour), nextUpdate: now.Add(defaultCRLLife),
		key: a.Key, issuer: a.Cert.RawSubject, number: big.NewInt(a.crlNumber.Add(1)),
	}
	for _, opt := range opts {
		opt(s)
	}
	exts := slices.Concat(s.standardExtensions(a.Cert.SubjectKeyId), s.extensions)
	alg := algorithmFor(tb, s.key, s.sha1)
	parts := [][]byte{marshal(1), alg.der, s.issuer, marshal(s.thisUpdate.UTC())}
	if !s.nextUpdate.IsZero() {
		parts = append(parts, marshal(s.nextUpdate.UTC()))
	}
	if len(s.entries) > 0 { // an empty list must be absent (RFC 5280, Section 5.1.2.6)
		parts = append(parts, appendTLV(nil, 0x30, s.entries))
	}
	if len(exts) > 0 {
		parts = append(parts, appendTLV(nil, 0xA0, marshal(exts)))
	}
	return signed(tb, appendTLV(nil, 0x30, parts...), alg, s.key, s.badSignature)
}

func (s *crlSettings) standardExtensions(ski []byte) []pkix.Extension {
	var exts []pkix.Extension
	if !s.noAKI {
		value := appendTLV(nil, 0x30, appendTLV(nil, 0x80, ski))
		exts = append(exts, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 35}, Value: value})
	}
	if !s.noNumber {
		exts = append(exts, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 20}, Value: marshal(s.number)})
	}
	if s.idp != nil {
		exts = append(exts, s.idp.extension())
	}
	return exts
}

// NewLargeCRL returns a CRL of ca, in DER, with n entries whose serial numbers
// are [LargeCRLSerial] of 0 to n-1. A million entries take a fifth of a second.
func NewLargeCRL(tb testing.TB, ca *Authority, n int, opts ...CRLOption) []byte {
	tb.Helper()
	at := marshal(time.Now().Add(-time.Hour).UTC().Truncate(time.Second))
	entries := make([]byte, 0, n*(2+18+len(at)))
	for i := range n {
		serial := largeSerial(i)
		entries = appendTLV(entries, 0x30, []byte{0x02, byte(len(serial))}, serial[:], at)
	}
	list := func(s *crlSettings) { s.entries = append(s.entries, entries...) }
	return ca.CRL(tb, append([]CRLOption{list}, opts...)...)
}

// LargeCRLSerial returns the serial number of entry i of [NewLargeCRL]: 16 bytes,
// in no order, as those of real CAs are.
func LargeCRLSerial(i int) *big.Int {
	serial := largeSerial(i)
	return new(big.Int).SetBytes(serial[:])
}

func largeSerial(i int) [16]byte {
	x := uint64(i) * 0x9E3779B97F4A7C15 // splitmix64
	x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
	x = (x ^ x>>27) * 0x94D049BB133111EB
	var out [16]byte
	binary.BigEndian.PutUint64(out[:], x^x>>31)
	binary.BigEndian.PutUint64(out[8:], uint64(i))
	out[0] = out[0]&0x3F | 0x40 // positive, and no leading zero
	return out
}

func entry(serial *big.Int, at time.Time, reason int) []byte {
	parts := [][]byte{marshal(serial), marshal(at.UTC())}
	if reason != 0 {
		e := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 21}, Value: marshal(asn1.Enumerated(reason))}
		parts = append(parts, marshal([]pkix.Extension{e}))
	}
	return appendTLV(nil, 0x30, parts...)
}

// marshal is for values whose encoding cannot fail.
func marshal(v any) []byte {
	der, err := asn1.Marshal(v)
	if err != nil {
		panic(err)
	}
	return der
}
