package cli

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	stdasn1 "encoding/asn1"
	"encoding/hex"
	"errors"
	"math/big"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"github.com/spinecert/spinecert/pki"
)

// keyFacts is what inspect says of a private key: nothing of its content.
type keyFacts struct {
	Key       string `json:"key"`
	KeySHA256 string `json:"key_sha256"`
	Fits      []int  `json:"fits"` // positions, from 1, of the certificates for it in the same file
}

func describeKey(key crypto.Signer, certs []*x509.Certificate) keyFacts {
	f := keyFacts{Key: pki.DescribeKey(key.Public()), KeySHA256: pki.KeyFingerprint(key.Public()), Fits: []int{}}
	for i, c := range certs {
		if f.KeySHA256 != "" && pki.KeyFingerprint(c.PublicKey) == f.KeySHA256 {
			f.Fits = append(f.Fits, i+1)
		}
	}
	return f
}

// requestFacts is what inspect says of a certificate request.
type requestFacts struct {
	ID        string      `json:"id"` // first 16 digits of the key's SHA-256 (CONTRACT.md, 1)
	Subject   string      `json:"subject"`
	Names     []string    `json:"names"`
	Key       string      `json:"key"`
	KeySHA256 string      `json:"key_sha256"`
	Signature string      `json:"signature"`     // good, or bad: not made with its own key
	Lint      []lintFacts `json:"lint,omitzero"` // with --strict only
}

func describeRequest(r *x509.CertificateRequest) requestFacts {
	f := requestFacts{Subject: r.Subject.String(), Names: list(r.DNSNames), Key: pki.DescribeKey(r.PublicKey),
		KeySHA256: pki.KeyFingerprint(r.PublicKey), Signature: "good"}
	f.ID = pki.RequestID(r.PublicKey)
	if r.CheckSignature() != nil {
		f.Signature = "bad"
	}
	return f
}

// crlFacts is what inspect says of a CRL. Its signature is not looked at: its
// CA may not be at hand.
type crlFacts struct {
	Issuer             string    `json:"issuer"`
	ThisUpdate         time.Time `json:"this_update,omitzero"`
	NextUpdate         time.Time `json:"next_update,omitzero"`
	Number             string    `json:"number"`
	Entries            int       `json:"entries"`
	SignatureAlgorithm string    `json:"signature_algorithm"`
	AuthorityKeyID     string    `json:"authority_key_id"`
	Stale              bool      `json:"stale"`
	SaysCover          bool      `json:"issuing_distribution_point"` // RFC 5280, Section 5.2.5: it says itself what it covers
	Error              string    `json:"error,omitempty"`
}

func describeCRL(der []byte, now time.Time) crlFacts {
	header, entries, err := crlHeader(der)
	if err != nil {
		return crlFacts{Error: err.Error()}
	}
	idp := stdasn1.ObjectIdentifier{2, 5, 29, 28}
	return crlFacts{
		Issuer: header.Issuer.String(), ThisUpdate: header.ThisUpdate.UTC(), NextUpdate: header.NextUpdate.UTC(), Number: number(header.Number),
		Entries: entries, SignatureAlgorithm: header.SignatureAlgorithm.String(), AuthorityKeyID: hex.EncodeToString(header.AuthorityKeyId),
		Stale:     !header.NextUpdate.IsZero() && now.After(header.NextUpdate),
		SaysCover: slices.ContainsFunc(header.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(idp) }),
	}
}

func number(n *big.Int) string {
	if n == nil {
		return ""
	}
	return n.String()
}

// crlHeader reads a CRL without its entries, which it counts: crypto/x509 needs
// some 700 bytes for each. The list without entries is no longer what was
// signed, and is only looked at.
func crlHeader(der []byte) (*x509.RevocationList, int, error) {
	malformed := errors.New("the CRL is malformed")
	s := cryptobyte.String(der)
	var whole, tbs, entries cryptobyte.String
	if !s.ReadASN1(&whole, asn1.SEQUENCE) || !s.Empty() || !whole.ReadASN1(&tbs, asn1.SEQUENCE) {
		return nil, 0, malformed
	}
	before, ok := beforeEntries(&tbs)
	if !ok || !tbs.ReadOptionalASN1(&entries, nil, asn1.SEQUENCE) {
		return nil, 0, malformed
	}
	// Only extensions may follow. Without the entries crypto/x509 would take
	// another sequence for them.
	if rest := tbs; !rest.Empty() && (!rest.SkipASN1(asn1.Tag(0).ContextSpecific().Constructed()) || !rest.Empty()) {
		return nil, 0, malformed
	}
	count := 0
	for ; !entries.Empty(); count++ {
		if !entries.SkipASN1(asn1.SEQUENCE) {
			return nil, 0, malformed
		}
	}
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddBytes(before)
			b.AddBytes(tbs)
		})
		b.AddBytes(whole) // algorithm and signature
	})
	short, err := b.Bytes()
	if err != nil {
		return nil, 0, malformed
	}
	list, err := x509.ParseRevocationList(short)
	if err != nil {
		return nil, 0, malformed
	}
	return list, count, nil
}

// beforeEntries cuts off what stands before revokedCertificates: version,
// algorithm, issuer and dates (RFC 5280, Section 5.1).
func beforeEntries(tbs *cryptobyte.String) ([]byte, bool) {
	start := *tbs
	if tbs.PeekASN1Tag(asn1.INTEGER) && !tbs.SkipASN1(asn1.INTEGER) || !tbs.SkipASN1(asn1.SEQUENCE) || !tbs.SkipASN1(asn1.SEQUENCE) {
		return nil, false
	}
	for _, tag := range []asn1.Tag{asn1.UTCTime, asn1.GeneralizedTime, asn1.UTCTime, asn1.GeneralizedTime} {
		if tbs.PeekASN1Tag(tag) && !tbs.SkipASN1(tag) {
			return nil, false
		}
	}
	return start[:len(start)-len(*tbs)], true
}
