package trust

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// checkCRLError wants a CRLError with this reason and part of its sentence.
func checkCRLError(t *testing.T, name string, err error, reason Reason, detail string) {
	t.Helper()
	var e *CRLError
	switch {
	case !errors.As(err, &e):
		t.Errorf("%s: error is %v, want a CRLError", name, err)
	case e.Reason != reason || ReasonOf(err) != reason || !strings.Contains(e.Detail, detail):
		t.Errorf("%s: %s: %s; want %s: ...%s...", name, e.Reason, e.Detail, reason, detail)
	case e.Hint() == "":
		t.Errorf("%s: no hint", name)
	}
}

// rawCRL is a CRL in parts, each DER, to be made wrong.
type rawCRL struct {
	version, inner, outer, issuer, this, next, entries, extensions, after, trailer []byte
}

var ecdsaSHA256 = []byte("\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02")

func newRawCRL(ca *testpki.Authority) *rawCRL {
	return &rawCRL{
		version: []byte{2, 1, 1}, inner: ecdsaSHA256, outer: ecdsaSHA256, issuer: ca.Cert.RawSubject,
		this: utcTime("260101000000Z"), next: utcTime("270101000000Z"),
	}
}

func utcTime(s string) []byte { return append([]byte{0x17, byte(len(s))}, s...) }

// tlv encodes one value from its parts.
func tlv(tag asn1.Tag, parts ...[]byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(tag, func(b *cryptobyte.Builder) {
		for _, p := range parts {
			b.AddBytes(p)
		}
	})
	return b.BytesOrPanic()
}

func (r *rawCRL) tbs() []byte {
	return tlv(asn1.SEQUENCE, r.version, r.inner, r.issuer, r.this, r.next, r.entries, r.extensions, r.after)
}

func (r *rawCRL) der(signature []byte) []byte {
	return append(tlv(asn1.SEQUENCE, r.tbs(), r.outer, tlv(asn1.BIT_STRING, []byte{0}, signature)), r.trailer...)
}

func (r *rawCRL) sign(t testing.TB, key crypto.Signer) []byte {
	t.Helper()
	sum := sha256.Sum256(r.tbs())
	signature, err := key.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	return r.der(signature)
}

func extensionsDER(exts ...[]byte) []byte {
	return tlv(asn1.Tag(0).Constructed().ContextSpecific(), tlv(asn1.SEQUENCE, exts...))
}

// extension has an object identifier below 2.5.29.
func extensionDER(id byte, critical bool, value []byte) []byte {
	parts := [][]byte{tlv(asn1.OBJECT_IDENTIFIER, []byte{0x55, 0x1d, id})}
	if critical {
		parts = append(parts, []byte{1, 1, 0xff})
	}
	return tlv(asn1.SEQUENCE, append(parts, tlv(asn1.OCTET_STRING, value))...)
}

func entryDER(serial []byte, more ...[]byte) []byte {
	return tlv(asn1.SEQUENCE, append([][]byte{tlv(asn1.INTEGER, serial), utcTime("260101120000Z")}, more...)...)
}

func TestReadCRL(t *testing.T) {
	root := testpki.NewRoot(t)
	this := time.Date(2026, 3, 1, 2, 3, 4, 0, time.UTC)
	revoked, held := big.NewInt(0x1234), testpki.LargeCRLSerial(5)
	der := root.CRL(t, testpki.ThisUpdate(this), testpki.NextUpdate(this.AddDate(0, 0, 7)), testpki.Number(42),
		testpki.RevokeWith(revoked, this.AddDate(0, 0, -3), 1), testpki.RevokeWith(held, this, 8),
		testpki.IDP("http://crl.nhs.uk/int/1c/crlc7.crl"))
	digest := sha256.Sum256(der)
	crl, err := ReadCRL(der, "crlc7.crl", []*x509.Certificate{testpki.NewRoot(t).Cert, root.Cert})
	if err != nil {
		t.Fatal(err)
	}
	checkAgainstLibrary(t, "crlc7.crl", bytes.Clone(der), crl)
	clear(der) // nothing of it may be in use

	if crl.Origin() != "crlc7.crl" || crl.IssuerCertificate() != root.Cert || crl.Digest() != digest || crl.Len() != 2 {
		t.Errorf("origin %q, issuer %v, digest %x, len %d", crl.Origin(), crl.IssuerCertificate().Subject, crl.Digest(), crl.Len())
	}
	if !bytes.Equal(crl.Issuer(), root.Cert.RawSubject) || !bytes.Equal(crl.AuthorityKeyID(), root.Cert.SubjectKeyId) {
		t.Error("issuer or key identifier changed with the input")
	}
	if !crl.ThisUpdate().Equal(this) || !crl.NextUpdate().Equal(this.AddDate(0, 0, 7)) || crl.Number().Int64() != 42 {
		t.Errorf("dates %v to %v, number %v", crl.ThisUpdate(), crl.NextUpdate(), crl.Number())
	}
	crl.Number().SetInt64(1)
	if crl.Number().Int64() != 42 {
		t.Error("the number can be changed from outside")
	}
	s := crl.Scope()
	if !s.HasIDP || len(s.Names) != 1 || s.Names[0] != "http://crl.nhs.uk/int/1c/crlc7.crl" || s.OtherNames || s.OnlyUser || s.OnlyCA ||
		string(s.RawNames[0][2:]) != s.Names[0] {
		t.Errorf("scope is %+v", s)
	}
	got, ok := crl.Lookup(revoked)
	if want := (Revocation{time.Date(2026, 2, 26, 0, 0, 0, 0, time.UTC), 1}); !ok || got != want {
		t.Errorf("lookup: %v %v, want %v", got, ok, want)
	}
	if got.when() != " on 2026-02-26 (key compromise)" {
		t.Errorf("when: %q", got.when())
	}
	if got, ok := crl.Lookup(held); !ok || got.Reason != 8 { // removeFromCRL takes back nothing here
		t.Errorf("lookup of removeFromCRL: %v %v", got, ok)
	}
	if _, ok := crl.Lookup(big.NewInt(0x1235)); ok {
		t.Error("another serial is revoked")
	}
}

func TestReadCRLRefuses(t *testing.T) {
	root := testpki.NewRoot(t)
	twice := extensionDER(20, false, []byte{2, 1, 1})
	idp := func(parts ...[]byte) []byte {
		return extensionsDER(extensionDER(28, true, tlv(asn1.SEQUENCE, parts...)))
	}
	context := func(n asn1.Tag) asn1.Tag { return n.ContextSpecific() }
	inner := func(n asn1.Tag) asn1.Tag { return n.Constructed().ContextSpecific() }
	yes := []byte{0xff}
	entries := func(e ...[]byte) func(*rawCRL) {
		return func(r *rawCRL) { r.entries = tlv(asn1.SEQUENCE, e...) }
	}
	ext := func(e []byte) func(*rawCRL) { return func(r *rawCRL) { r.extensions = e } }
	entryExt := func(e ...[]byte) func(*rawCRL) { return entries(entryDER([]byte{7}, tlv(asn1.SEQUENCE, e...))) }
	for name, c := range map[string]struct {
		change func(*rawCRL)
		reason Reason
		detail string
	}{
		"version 1":             {func(r *rawCRL) { r.version = nil }, CRLInvalid, "version 1"},
		"version 3":             {func(r *rawCRL) { r.version = []byte{2, 1, 2} }, CRLInvalid, "version"},
		"algorithms differ":     {func(r *rawCRL) { r.outer = []byte("\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x03") }, CRLInvalid, "algorithms differ"},
		"unknown algorithm":     {func(r *rawCRL) { r.inner = []byte("\x30\x03\x06\x01\x2a"); r.outer = r.inner }, CRLInvalid, "not supported"},
		"no nextUpdate":         {func(r *rawCRL) { r.next = nil }, CRLInvalid, "nextUpdate"},
		"local time":            {func(r *rawCRL) { r.this = utcTime("260101000000+0100") }, Malformed, "thisUpdate"},
		"no seconds":            {func(r *rawCRL) { r.next = utcTime("2601010000Z") }, Malformed, "nextUpdate"},
		"trailing data":         {func(r *rawCRL) { r.trailer = []byte{0} }, Malformed, "1 bytes follow"},
		"after the extensions":  {func(r *rawCRL) { r.extensions, r.after = extensionsDER(twice), []byte{5, 0} }, Malformed, "follows"},
		"no such field":         {func(r *rawCRL) { r.after = []byte{5, 0} }, Malformed, "follows"},
		"duplicate extension":   {ext(extensionsDER(twice, twice)), Malformed, "2.5.29.20 twice"},
		"negative number":       {ext(extensionsDER(extensionDER(20, false, []byte{2, 1, 0xff}))), Malformed, "CRL number"},
		"long number":           {ext(extensionsDER(extensionDER(20, false, tlv(asn1.INTEGER, bytes.Repeat([]byte{1}, 21))))), Malformed, "CRL number"},
		"delta":                 {ext(extensionsDER(extensionDER(27, true, []byte{2, 1, 1}))), CRLInvalid, "delta"},
		"delta, not critical":   {ext(extensionsDER(extensionDER(27, false, []byte{2, 1, 1}))), CRLInvalid, "delta"},
		"unknown critical":      {ext(extensionsDER(extensionDER(99, true, nil))), CRLInvalid, "not understood: 2.5.29.99"},
		"critical freshest":     {ext(extensionsDER(extensionDER(46, true, nil))), CRLInvalid, "not understood"},
		"key identifier":        {ext(extensionsDER(extensionDER(35, false, tlv(asn1.SEQUENCE, tlv(context(0)))))), Malformed, "key identifier"},
		"indirect":              {ext(idp(tlv(context(4), yes))), CRLInvalid, "indirect"},
		"some reasons":          {ext(idp(tlv(context(3), []byte{6, 0x40}))), CRLInvalid, "some reasons"},
		"attributes":            {ext(idp(tlv(context(5), yes))), CRLInvalid, "attribute"},
		"user and CA":           {ext(idp(tlv(context(1), yes), tlv(context(2), yes))), CRLInvalid, "CAs only, and users only"},
		"flag of two octets":    {ext(idp(tlv(context(1), yes, yes))), Malformed, "distribution point"},
		"flag that is neither":  {ext(idp(tlv(context(1), []byte{1}))), Malformed, "distribution point"},
		"flags in wrong order":  {ext(idp(tlv(context(2), []byte{0}), tlv(context(1), yes))), Malformed, "distribution point"},
		"relative name":         {ext(idp(tlv(inner(0), tlv(inner(1))))), CRLInvalid, "relative"},
		"no name in the names":  {ext(idp(tlv(inner(0), tlv(inner(0))))), Malformed, "distribution point"},
		"name that is none":     {ext(idp(tlv(inner(0), tlv(inner(0), []byte{5, 0})))), Malformed, "distribution point"},
		"address with a space":  {ext(idp(tlv(inner(0), tlv(inner(0), tlv(context(6), []byte("http://a b")))))), Malformed, "distribution point"},
		"certificate issuer":    {entryExt(extensionDER(29, true, tlv(asn1.SEQUENCE))), CRLInvalid, "entry 1: it names another issuer"},
		"issuer, not critical":  {entryExt(extensionDER(29, false, tlv(asn1.SEQUENCE))), CRLInvalid, "entry 1: it names another issuer"},
		"critical in an entry":  {entryExt(extensionDER(99, true, nil)), CRLInvalid, "entry 1: it has a critical extension"},
		"twice in an entry":     {entryExt(extensionDER(21, false, []byte{10, 1, 1}), extensionDER(21, false, []byte{10, 1, 1})), Malformed, "twice"},
		"reason is a boolean":   {entryExt(extensionDER(21, false, []byte{1, 1, 0xff})), Malformed, "reason code"},
		"malformed identifier":  {entries(entryDER([]byte{7}, tlv(asn1.SEQUENCE, tlv(asn1.SEQUENCE, []byte{6, 3, 0x2a, 0x80, 1}, []byte{4, 0})))), Malformed, "object identifier"},
		"no date":               {entries(entryDER([]byte{1}), tlv(asn1.SEQUENCE, []byte{2, 1, 1})), Malformed, "entry 2: its revocation date"},
		"30 February":           {entries(tlv(asn1.SEQUENCE, []byte{2, 1, 1}, utcTime("260230000000Z"))), Malformed, "revocation date"},
		"serial not minimal":    {entries(entryDER([]byte{0, 1})), Malformed, "serial number"},
		"serial without octets": {entries(entryDER(nil)), Malformed, "serial number"},
		"serial of 65 octets":   {entries(entryDER(bytes.Repeat([]byte{1}, 65))), CRLInvalid, "65 octets"},
		"more in an entry":      {entries(entryDER([]byte{1}, tlv(asn1.SEQUENCE, extensionDER(99, false, nil)), []byte{5, 0})), Malformed, "follows its date"},
		"entry of another kind": {entries([]byte{5, 0}), Malformed, "entry 1"},
		"issuer is not a name":  {func(r *rawCRL) { r.issuer = []byte{0x30, 2, 5, 0} }, Malformed, "crypto/x509"},
	} {
		raw := newRawCRL(root)
		c.change(raw)
		crl, err := ReadCRL(raw.sign(t, root.Key), "bad.crl", []*x509.Certificate{root.Cert})
		checkCRLError(t, name, err, c.reason, c.detail)
		if crl != nil || err != nil && !strings.HasPrefix(err.Error(), `read crl "bad.crl": `) {
			t.Errorf("%s: %v, %v", name, crl, err)
		}
	}
	if _, err := ReadCRL(newRawCRL(root).sign(t, root.Key), "good.crl", []*x509.Certificate{root.Cert}); err != nil {
		t.Error(err) // the refusals above are for what was changed
	}
	_, err := ReadCRL(make([]byte, maxCRLBytes+1), "huge.crl", nil)
	checkCRLError(t, "huge", err, TooLarge, "bytes")
	_, err = ReadCRL(testpki.EncodeCRL(root.CRL(t)), "pem.crl", nil)
	checkCRLError(t, "PEM", err, Malformed, "DER")
}

// TestReadCRLTruncated cuts a list after every octet.
func TestReadCRLTruncated(t *testing.T) {
	root := testpki.NewRoot(t)
	der := root.CRL(t, testpki.Revoke(big.NewInt(1)), testpki.IDP("http://crl.nhs.uk/a.crl"))
	for i := range der {
		_, err := ReadCRL(der[:i], "cut.crl", []*x509.Certificate{root.Cert})
		checkCRLError(t, "cut", err, Malformed, "")
	}
}
