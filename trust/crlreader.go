package trust

import (
	"bytes"
	"crypto/x509"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// crlFields is a CRL cut into its fields, unverified. Tbs, signature, prefix,
// suffix and revoked point into the input; the others are copies.
type crlFields struct {
	tbs        []byte // what is signed, tag and length included
	algorithm  []byte // AlgorithmIdentifier, tag and length included
	signature  []byte
	prefix     []byte // contents of tbs up to the entries
	revoked    cryptobyte.String
	suffix     []byte // contents of tbs after the entries
	issuer     []byte
	thisUpdate time.Time
	nextUpdate time.Time
	keyID      []byte
	number     *big.Int
	scope      Scope
}

// readCRLFields reads everything but the entries (RFC 5280, Section 5.1). Go's
// own reader is laxer: it takes data after the end, duplicate extensions, lists
// without nextUpdate, and leaves extensions to its caller.
func readCRLFields(der []byte) (*crlFields, error) {
	f := &crlFields{}
	input := cryptobyte.String(der)
	var list, tbs, algorithm cryptobyte.String
	if !input.ReadASN1(&list, asn1.SEQUENCE) {
		return nil, crlFault(Malformed, "it is not a DER sequence, or is truncated")
	}
	if !input.Empty() {
		return nil, crlFault(Malformed, "%d bytes follow its end", len(input))
	}
	if !list.ReadASN1Element(&tbs, asn1.SEQUENCE) || !list.ReadASN1Element(&algorithm, asn1.SEQUENCE) {
		return nil, crlFault(Malformed, "it does not begin with a list and an algorithm")
	}
	if !list.ReadASN1BitStringAsBytes(&f.signature) || !list.Empty() {
		return nil, crlFault(Malformed, "its signature is not a string of whole octets, or something follows it")
	}
	f.tbs, f.algorithm = tbs, algorithm
	if !tbs.ReadASN1(&tbs, asn1.SEQUENCE) {
		return nil, crlFault(Malformed, "its list is not a DER sequence")
	}
	contents := tbs
	if err := f.readHeader(&tbs); err != nil {
		return nil, err
	}
	f.prefix = contents[:len(contents)-len(tbs)]
	if tbs.PeekASN1Tag(asn1.SEQUENCE) && !tbs.ReadASN1(&f.revoked, asn1.SEQUENCE) {
		return nil, crlFault(Malformed, "its entries are not a DER sequence")
	}
	f.suffix = tbs
	if err := f.readExtensions(tbs); err != nil {
		return nil, err
	}
	return f, nil
}

// readHeader reads version, algorithm, issuer and dates.
func (f *crlFields) readHeader(tbs *cryptobyte.String) error {
	// RFC 5280, Section 5: conforming issuers make version 2 only. Version 1 has
	// no key identifier and no scope, and crypto/x509 does not read it either.
	if tbs.PeekASN1Tag(asn1.SEQUENCE) {
		e := crlFault(CRLInvalid, "it is a version 1 CRL")
		e.Advice = "ask the CA for version 2 CRLs; with openssl ca, set crl_extensions"
		return e
	}
	var version int
	if !tbs.ReadASN1Integer(&version) {
		return crlFault(Malformed, "its version is not an integer")
	}
	if version != 1 { // 1 means version 2
		return crlFault(CRLInvalid, "its version is unknown")
	}
	var algorithm, issuer cryptobyte.String
	if !tbs.ReadASN1Element(&algorithm, asn1.SEQUENCE) || !tbs.ReadASN1Element(&issuer, asn1.SEQUENCE) {
		return crlFault(Malformed, "its algorithm or issuer is not a DER sequence")
	}
	if !bytes.Equal(algorithm, f.algorithm) { // RFC 5280, Section 5.1.1.2
		return crlFault(CRLInvalid, "its two signature algorithms differ")
	}
	f.issuer = bytes.Clone(issuer)
	var ok bool
	if f.thisUpdate, ok = readCRLTime(tbs); !ok {
		return crlFault(Malformed, "its thisUpdate is not a time")
	}
	// RFC 5280, Section 5.1.2.5: nextUpdate is required. A list that never ends
	// could be replayed for ever.
	if !tbs.PeekASN1Tag(asn1.UTCTime) && !tbs.PeekASN1Tag(asn1.GeneralizedTime) {
		return crlFault(CRLInvalid, "it has no nextUpdate")
	}
	if f.nextUpdate, ok = readCRLTime(tbs); !ok {
		return crlFault(Malformed, "its nextUpdate is not a time")
	}
	return nil
}

func (f *crlFields) readExtensions(tbs cryptobyte.String) error {
	if tbs.Empty() {
		return nil
	}
	var extensions cryptobyte.String
	if !tbs.ReadASN1(&extensions, asn1.Tag(0).Constructed().ContextSpecific()) || !tbs.Empty() ||
		!extensions.ReadASN1(&tbs, asn1.SEQUENCE) || !extensions.Empty() {
		return crlFault(Malformed, "something other than extensions follows its entries")
	}
	var seen crlExtensions
	for !tbs.Empty() {
		ext, err := seen.next(&tbs)
		if err != nil {
			return err
		}
		if err := f.readExtension(ext); err != nil {
			return err
		}
	}
	return nil
}

func (f *crlFields) readExtension(ext crlExtension) error {
	value := ext.value
	switch string(ext.oid) {
	case oidDeltaCRLIndicator: // critical or not: it lists changes only
		return crlFault(CRLInvalid, "it is a delta CRL")
	case oidIssuingDistribution:
		scope, err := readIssuingDistributionPoint(value)
		f.scope = scope
		return err
	case oidCRLNumber:
		// RFC 5280, Section 5.2.3: at most 20 octets.
		f.number = new(big.Int)
		if !value.ReadASN1Integer(f.number) || !value.Empty() || f.number.Sign() < 0 || f.number.BitLen() > 160 {
			return crlFault(Malformed, "its CRL number is not an integer of at most 20 octets")
		}
	case oidAuthorityKeyID:
		var aki, keyID cryptobyte.String
		var present bool
		if !value.ReadASN1(&aki, asn1.SEQUENCE) || !value.Empty() ||
			!aki.ReadOptionalASN1(&keyID, &present, asn1.Tag(0).ContextSpecific()) || present && keyID.Empty() {
			return crlFault(Malformed, "its authority key identifier does not parse")
		}
		f.keyID = bytes.Clone(keyID)
	default:
		if ext.critical { // RFC 5280, Section 5.2
			return crlFault(CRLInvalid, "it has a critical extension that is not understood: %s", ext.name())
		}
	}
	return nil
}

// crossCheckHeader lets crypto/x509 read the same list without its entries: a
// second opinion on names, dates and extensions at any size, and its reading of
// the algorithm identifier, which is the one that the verification uses.
func (f *crlFields) crossCheckHeader() (*x509.RevocationList, error) {
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddBytes(f.prefix)
			b.AddBytes(f.suffix)
		})
		b.AddBytes(f.algorithm)
		b.AddASN1BitString(nil)
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, crlFault(Malformed, "its fields cannot be written again: %v", err)
	}
	header, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, crlFault(Malformed, "crypto/x509 refuses it: %v", err)
	}
	if !bytes.Equal(header.RawIssuer, f.issuer) || !bytes.Equal(header.AuthorityKeyId, f.keyID) ||
		!header.ThisUpdate.Equal(f.thisUpdate) || !header.NextUpdate.Equal(f.nextUpdate) {
		return nil, crlFault(Malformed, "it can be read in two ways")
	}
	return header, nil
}

// readCRLTime reads a Time in the one form that RFC 5280, Sections 4.1.2.5.1
// and 4.1.2.5.2 allow, with seconds and in UTC. It does not allocate, which
// cryptobyte's readers do for each of a million entries.
func readCRLTime(s *cryptobyte.String) (time.Time, bool) {
	var text cryptobyte.String
	var tag asn1.Tag
	if !s.ReadAnyASN1(&text, &tag) {
		return time.Time{}, false
	}
	var year int
	switch {
	case tag == asn1.UTCTime && len(text) == 13:
		if year = twoDigits(text[0:]) + 1900; year < 1950 { // RFC 5280, Section 4.1.2.5.1
			year += 100
		}
		text = text[2:]
	case tag == asn1.GeneralizedTime && len(text) == 15:
		year = twoDigits(text[0:])*100 + twoDigits(text[2:])
		text = text[4:]
	default:
		return time.Time{}, false
	}
	month, day, hour, minute, second := twoDigits(text[0:]), twoDigits(text[2:]), twoDigits(text[4:]), twoDigits(text[6:]), twoDigits(text[8:])
	if year < 0 || month < 1 || month > 12 || day < 1 || hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59 || text[10] != 'Z' {
		return time.Time{}, false
	}
	t := time.Date(year, time.Month(month), day, hour, minute, second, 0, time.UTC)
	return t, t.Day() == day // 30 February becomes a day of March
}

// twoDigits returns the number that s begins with, or a large negative one.
func twoDigits(s []byte) int {
	tens, ones := s[0]-'0', s[1]-'0'
	if tens > 9 || ones > 9 {
		return -100000
	}
	return int(tens)*10 + int(ones)
}
