package trust

import (
	"crypto/x509"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// FuzzReadCRL holds the reader against crypto/x509, without the signature, which
// no fuzzer gets past. What the reader takes, the library must take, and see the
// same in it. The other way round there are differences, all meant: the reader
// refuses more, and says why.
func FuzzReadCRL(f *testing.F) {
	root := testpki.NewRoot(f)
	f.Add(root.CRL(f, testpki.IDP("http://crl.nhs.uk/a.crl"), testpki.RevokeWith(big.NewInt(7), time.Now(), 1), testpki.Revoke(big.NewInt(-9))))
	f.Add(root.CRL(f, testpki.Delta()))
	f.Add(root.CRL(f, testpki.IDPFlags(true, true, true, true)))
	raw := newRawCRL(root)
	raw.entries = tlv(asn1.SEQUENCE, entryDER([]byte{1}, tlv(asn1.SEQUENCE, extensionDER(21, false, []byte{10, 1, 1}), extensionDER(24, true, nil))))
	f.Add(raw.sign(f, root.Key))
	files, _ := filepath.Glob("../../shared/vectors/pkits/crls/*CA?CRL.crl")
	for _, file := range files {
		der, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(der)
	}
	f.Fuzz(checkReadings)
}

// FuzzCRLFields puts anything in place of the entries and of the extensions of
// a list that is otherwise right, where few mutations of a whole list get to.
func FuzzCRLFields(f *testing.F) {
	root := testpki.NewRoot(f)
	crl := newRawCRL(root)
	reason := tlv(asn1.SEQUENCE, extensionDER(21, false, []byte{10, 1, 1}), extensionDER(24, true, nil))
	f.Add(slices.Concat(entryDER([]byte{1}, reason), entryDER([]byte{0xff})), extensionDER(20, false, []byte{2, 1, 1}))
	f.Add([]byte{}, slices.Concat(extensionDER(27, true, []byte{2, 1, 1}), extensionDER(35, false, []byte{0x30, 3, 0x80, 1, 9})))
	f.Add(entryDER([]byte{0, 0x80}), extensionDER(28, true, tlv(asn1.SEQUENCE, []byte{0x81, 1, 0xff})))
	f.Fuzz(func(t *testing.T, entries, extensions []byte) {
		raw := *crl
		raw.entries = tlv(asn1.SEQUENCE, entries)
		raw.extensions = extensionsDER(extensions)
		checkReadings(t, raw.der([]byte("signature")))
	})
}

func checkReadings(t *testing.T, der []byte) {
	list, oracle := x509.ParseRevocationList(der)
	fields, entries, err := readUnverified(der)
	if err != nil {
		var e *CRLError
		if !errors.As(err, &e) || e.Detail == "" || e.Reason != Malformed && e.Reason != CRLInvalid {
			t.Fatalf("refused with %#v", err)
		}
		return
	}
	if oracle != nil {
		t.Fatalf("crypto/x509 refuses what was read: %v", oracle)
	}
	compareWithLibrary(t, list, &CRL{issuer: fields.issuer, keyID: fields.keyID, thisUpdate: fields.thisUpdate,
		nextUpdate: fields.nextUpdate, number: fields.number, scope: fields.scope, entries: entries})
}

func readUnverified(der []byte) (*crlFields, *crlIndex, error) {
	fields, err := readCRLFields(der)
	if err != nil {
		return nil, nil, err
	}
	if _, err := fields.crossCheckHeader(); err != nil {
		return nil, nil, err
	}
	entries, err := readCRLEntries(fields.revoked)
	return fields, entries, err
}

func compareWithLibrary(t *testing.T, list *x509.RevocationList, crl *CRL) {
	t.Helper()
	if !crl.ThisUpdate().Equal(list.ThisUpdate) || !crl.NextUpdate().Equal(list.NextUpdate) || string(crl.Issuer()) != string(list.RawIssuer) ||
		string(crl.AuthorityKeyID()) != string(list.AuthorityKeyId) || crl.Len() != len(list.RevokedCertificateEntries) {
		t.Fatal("the two readings differ")
	}
	if (crl.Number() == nil) != (list.Number == nil) || list.Number != nil && crl.Number().Cmp(list.Number) != 0 {
		t.Fatalf("number %v, want %v", crl.Number(), list.Number)
	}
	listed := map[string]bool{}
	for _, e := range list.RevokedCertificateEntries {
		listed[e.SerialNumber.String()] = true
		if _, on := crl.Lookup(e.SerialNumber); !on {
			t.Fatalf("%v is not found", e.SerialNumber)
		}
	}
	for _, e := range list.RevokedCertificateEntries {
		for _, d := range []int64{1, -1} {
			n := new(big.Int).Add(e.SerialNumber, big.NewInt(d))
			if _, on := crl.Lookup(n); on != listed[n.String()] {
				t.Fatalf("%v is on the list: %v", n, on)
			}
		}
	}
}

// FuzzDistributionPoints: whatever is read has names that are addresses.
func FuzzDistributionPoints(f *testing.F) {
	cert := testpki.NewRoot(f).Issue(f, testpki.CDP("http://crl.nhs.uk/a.crl", "http://crl.nhs.uk/b.crl")).Cert
	for _, ext := range cert.Extensions {
		f.Add(ext.Value)
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		points, ok := readDistributionPoints(value)
		for _, p := range points {
			if !ok || len(p.URIs) > len(p.RawNames) || p.Relative && len(p.RawNames) > 0 {
				t.Fatalf("%v: %+v", ok, p)
			}
		}
		scope, err := readIssuingDistributionPoint(value)
		if err == nil && (!scope.HasIDP || scope.OnlyUser && scope.OnlyCA || scope.OtherNames != (len(scope.RawNames) > len(scope.Names))) {
			t.Fatalf("%+v", scope)
		}
	})
}

// FuzzCRLTime holds the reader of dates against cryptobyte's.
func FuzzCRLTime(f *testing.F) {
	for _, s := range []string{"260101000000Z", "000229235959Z", "20500229000000Z", "20000229000000Z", "491231235960Z", "00000101000000Z", "99991231235959Z", "0A0101000000Z", "2A010101000000Z"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if len(s) > 100 {
			return
		}
		for _, tag := range []asn1.Tag{asn1.UTCTime, asn1.GeneralizedTime} {
			ours, theirs := cryptobyte.String(tlv(tag, []byte(s))), cryptobyte.String(tlv(tag, []byte(s)))
			got, ok := readCRLTime(&ours)
			var want time.Time
			var oracle bool
			if tag == asn1.UTCTime {
				oracle = theirs.ReadASN1UTCTime(&want)
			} else {
				oracle = theirs.ReadASN1GeneralizedTime(&want)
			}
			if ok && (!oracle || !got.Equal(want)) || !ok && oracle && (tag == asn1.GeneralizedTime && len(s) == 15 || tag == asn1.UTCTime && len(s) == 13) && s[len(s)-1] == 'Z' {
				t.Fatalf("%q: %v %v, want %v %v", s, got, ok, want, oracle)
			}
		}
	})
}
