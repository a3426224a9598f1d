package trust

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"time"
)

const (
	// maxCRLBytes bounds what is read at all; the fetcher's own limit is lower.
	maxCRLBytes = 256 << 20
	// crossCheckBytes is the size below which crypto/x509 must read the whole
	// list as well. It needs some 700 bytes per entry, too much for larger lists.
	crossCheckBytes = 1 << 20
)

// CRL is a certificate revocation list whose signature was verified when it was
// read: there is no other way to make one. It is immutable, keeps at most 24
// bytes per entry and nothing of the bytes it was read from. It says nothing of time; see
// ThisUpdate and NextUpdate.
type CRL struct {
	origin     string
	signer     *x509.Certificate
	issuer     []byte
	keyID      []byte
	thisUpdate time.Time
	nextUpdate time.Time
	number     *big.Int
	scope      Scope
	digest     [sha256.Size]byte
	entries    *crlIndex
}

// Revocation is what a CRL says of one certificate.
type Revocation struct {
	Date   time.Time // UTC, to the day
	Reason int       // RFC 5280, Section 5.3.1; 0 is unspecified, or a code without a meaning
}

// when says date and reason, to follow "was revoked by X" in a message.
func (r Revocation) when() string {
	names := [...]string{1: "key compromise", 2: "CA compromise", 3: "affiliation changed", 4: "superseded",
		5: "cessation of operation", 6: "certificate hold", 8: "remove from CRL", 9: "privilege withdrawn", 10: "AA compromise"}
	s := " on " + r.Date.Format(time.DateOnly)
	if r.Reason > 0 && r.Reason < len(names) && names[r.Reason] != "" {
		s += " (" + names[r.Reason] + ")"
	}
	return s
}

// CRLError is the refusal of one CRL.
type CRLError struct {
	Origin string // file name or address
	Reason Reason // CRLInvalid, Malformed, WeakSignature or TooLarge
	Detail string // a sentence; never empty
	Advice string // the next action for the operator
}

// Error returns `read crl "origin": cause`.
func (e *CRLError) Error() string { return fmt.Sprintf("read crl %q: %s", e.Origin, e.Detail) }

// Hint returns the next action for the operator.
func (e *CRLError) Hint() string { return e.Advice }

// ReadCRL reads one DER encoded CRL (RFC 5280, Section 5) and verifies its
// signature with the key of one of candidates, the CAs of the bundle. Origin is
// its file name or address, for messages.
//
// The signer is a candidate with the CRL's issuer name and, where both name
// one, its key identifier, that may sign CRLs. Names are equal in their DER, or
// equal as RFC 5280, Section 7.1 compares them while the key identifiers are
// equal too: CAs write one name in two encodings (SPINE.md, 3).
//
// Every error is a [*CRLError]. Malformed: not DER, or not a CRL, down to data
// after its end. WeakSignature: MD5, SHA-1. TooLarge: over 256 MiB. CRLInvalid:
// no candidate signed it, or it is of a kind that is not supported: version 1,
// delta, indirect, for some reasons or attribute certificates only, without
// nextUpdate, with a distribution point relative to its issuer, or with a
// critical extension that is not understood.
//
// An entry with the reason removeFromCRL is a revocation like any other, as
// only a delta CRL can take one back (RFC 5280, Section 5.3.1).
func ReadCRL(der []byte, origin string, candidates []*x509.Certificate) (*CRL, error) {
	c, err := readCRL(der, candidates)
	if err != nil {
		var e *CRLError
		if errors.As(err, &e) {
			e.Origin = origin
		}
		return nil, err
	}
	c.origin = origin
	return c, nil
}

func readCRL(der []byte, candidates []*x509.Certificate) (*CRL, error) {
	if len(der) > maxCRLBytes {
		return nil, &CRLError{Reason: TooLarge, Detail: fmt.Sprintf("it has %d bytes; at most %d are read", len(der), maxCRLBytes),
			Advice: "ask the CA for partitioned CRLs"}
	}
	fields, err := readCRLFields(der)
	if err != nil {
		return nil, err
	}
	header, err := fields.crossCheckHeader()
	if err != nil {
		return nil, err
	}
	signer, err := findCRLSigner(fields, header, candidates)
	if err != nil {
		return nil, err
	}
	entries, err := readCRLEntries(fields.revoked)
	if err != nil {
		return nil, err
	}
	if len(der) < crossCheckBytes {
		if err := crossCheckEntries(der, entries); err != nil {
			return nil, err
		}
	}
	return &CRL{
		signer:     signer,
		issuer:     fields.issuer,
		keyID:      fields.keyID,
		thisUpdate: fields.thisUpdate,
		nextUpdate: fields.nextUpdate,
		number:     fields.number,
		scope:      fields.scope,
		digest:     sha256.Sum256(der),
		entries:    entries,
	}, nil
}

// crossCheckEntries refuses a list that crypto/x509 reads otherwise: two readers
// that disagree mean that one of them may miss a revocation.
func crossCheckEntries(der []byte, entries *crlIndex) error {
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return crlFault(Malformed, "crypto/x509 refuses it: %v", err)
	}
	if len(list.RevokedCertificateEntries) != entries.Len() {
		return crlFault(Malformed, "it reads as %d entries and as %d", entries.Len(), len(list.RevokedCertificateEntries))
	}
	return nil
}

// Lookup returns the revocation of the certificate with this serial number,
// issued by the CRL's issuer, if there is one. It does not allocate. The caller
// has checked that the CRL is current and that its Scope covers the certificate.
func (c *CRL) Lookup(serial *big.Int) (Revocation, bool) {
	return c.entries.find(serial)
}

// Origin returns the file name or address it was read from.
func (c *CRL) Origin() string { return c.origin }

// IssuerCertificate returns the candidate whose key verified the signature. Of
// several certificates for one key (cross-certificates) it is any; compare keys.
func (c *CRL) IssuerCertificate() *x509.Certificate { return c.signer }

// Issuer returns the issuer's name as raw DER. Do not modify it.
func (c *CRL) Issuer() []byte { return c.issuer }

// AuthorityKeyID returns the key identifier of its signer, or nil if it names none. Do not modify it.
func (c *CRL) AuthorityKeyID() []byte { return c.keyID }

// ThisUpdate returns when it was issued, in UTC.
func (c *CRL) ThisUpdate() time.Time { return c.thisUpdate }

// NextUpdate returns when the next one is due at the latest, in UTC. It is never zero.
func (c *CRL) NextUpdate() time.Time { return c.nextUpdate }

// Number returns the CRL number (RFC 5280, Section 5.2.3), or nil if it has none.
func (c *CRL) Number() *big.Int {
	if c.number == nil {
		return nil
	}
	return new(big.Int).Set(c.number)
}

// Len returns the number of entries.
func (c *CRL) Len() int { return c.entries.Len() }

// Scope returns which certificates of the issuer it covers. Do not modify its slices.
func (c *CRL) Scope() Scope { return c.scope }

// Digest returns the SHA-256 of the DER it was read from.
func (c *CRL) Digest() [sha256.Size]byte { return c.digest }

// crlFault makes a refusal without its origin, which ReadCRL adds.
func crlFault(r Reason, format string, args ...any) *CRLError {
	e := &CRLError{Reason: r, Detail: fmt.Sprintf(format, args...)}
	switch r {
	case Malformed:
		e.Advice = "get the CRL again from its issuer; it may be truncated"
	case WeakSignature:
		e.Advice = "ask the CA to sign its CRLs with SHA-256 or better"
	case CRLInvalid:
		e.Advice = "get a complete CRL of this CA, as its certificates name it"
	}
	return e
}
