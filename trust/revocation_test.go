package trust

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"slices"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/spinecert/spinecert/internal/testpki"
)

func readCRL1(tb testing.TB, ca *testpki.Authority, origin string, opts ...testpki.CRLOption) *CRL {
	tb.Helper()
	crl, err := ReadCRL(ca.CRL(tb, opts...), origin, certs(ca))
	if err != nil {
		tb.Fatal(err)
	}
	return crl
}

// point is a CRLDistributionPoints of one URI, for some reasons only or of
// another issuer (RFC 5280, Section 4.2.1.13).
func point(uri string, reasons, issuer bool) testpki.Option {
	tag := func(n uint8) cbasn1.Tag { return cbasn1.Tag(n).ContextSpecific() }
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(tag(0).Constructed(), func(b *cryptobyte.Builder) {
				b.AddASN1(tag(0).Constructed(), func(b *cryptobyte.Builder) {
					b.AddASN1(tag(6), func(b *cryptobyte.Builder) { b.AddBytes([]byte(uri)) })
				})
			})
			if reasons {
				b.AddASN1(tag(1), func(b *cryptobyte.Builder) { b.AddBytes([]byte{6, 0x40}) })
			}
			if issuer {
				b.AddASN1(tag(2).Constructed(), func(b *cryptobyte.Builder) {
					b.AddASN1(tag(6), func(b *cryptobyte.Builder) { b.AddBytes([]byte("http://other.test/")) })
				})
			}
		})
	})
	return testpki.Extension(pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 31}, Value: b.BytesOrPanic()})
}

const crlURL = "http://crl.nhs.uk/int/1c/crlc7.crl"

func TestRevocationScope(t *testing.T) {
	now := second()
	root := testpki.NewRoot(t)
	leaf := root.Issue(t, testpki.CDP("http://elsewhere.test/x.crl", crlURL))
	bare := root.Issue(t)
	idp := testpki.IDP
	flags := func(user, ca bool) testpki.CRLOption { return testpki.IDPFlags(user, ca, false, false) }
	type list struct {
		origin string
		opts   []testpki.CRLOption
	}
	tests := map[string]struct {
		leaf    *testpki.Leaf
		profile Profile
		list    list
		want    Reason // "": good
	}{
		"name of the certificate":        {leaf, NHSG1, list{"a", []testpki.CRLOption{idp(crlURL)}}, ""},
		"one of its names":               {leaf, NHSG1, list{"a", []testpki.CRLOption{idp("http://x.test/", crlURL)}}, ""},
		"other partition":                {leaf, NHSG1, list{"a", []testpki.CRLOption{idp("http://crl.nhs.uk/int/1c/crlc8.crl")}}, CRLUnavailable},
		"other partition, private":       {leaf, Private, list{crlURL, []testpki.CRLOption{idp("http://crl.nhs.uk/int/1c/crlc8.crl")}}, CRLUnavailable},
		"other case":                     {leaf, NHSG1, list{"a", []testpki.CRLOption{idp("http://crl.nhs.uk/INT/1c/crlc7.crl")}}, CRLUnavailable},
		"certificate names none":         {bare, Private, list{"a", []testpki.CRLOption{idp(crlURL)}}, CRLUnavailable},
		"no name, private":               {leaf, Private, list{"whatever.crl", nil}, ""},
		"no name, none in the leaf":      {bare, NHSG2, list{"whatever.crl", nil}, ""},
		"no name, from the address":      {leaf, NHSG2, list{crlURL, nil}, ""},
		"no name, file of that name":     {leaf, NHSG2, list{"/etc/crl/crlc7.crl", nil}, ""},
		"no name, another file":          {leaf, NHSG2, list{"/etc/crl/crlc8.crl", nil}, CRLUnavailable},
		"no name, alike address":         {leaf, NHSG2, list{"http://crl.nhs.uk/int/old/crlc7.crl", nil}, CRLUnavailable},
		"no name, profile unknown":       {leaf, "none", list{"/etc/crl/crlc8.crl", nil}, CRLUnavailable},
		"for users":                      {leaf, Private, list{"a", []testpki.CRLOption{flags(true, false)}}, ""},
		"for CAs":                        {leaf, Private, list{"a", []testpki.CRLOption{flags(false, true)}}, CRLUnavailable},
		"for users, named":               {leaf, NHSG1, list{"a", []testpki.CRLOption{idp(crlURL), flags(true, false)}}, ""},
		"for CAs, named":                 {leaf, NHSG1, list{"a", []testpki.CRLOption{idp(crlURL), flags(false, true)}}, CRLUnavailable},
		"for users, of no name, another": {leaf, NHSG1, list{"b.crl", []testpki.CRLOption{flags(true, false)}}, CRLUnavailable},
		"point for some reasons":         {root.Issue(t, point(crlURL, true, false)), NHSG1, list{"a", []testpki.CRLOption{idp(crlURL)}}, CRLUnavailable},
		"point of another issuer":        {root.Issue(t, point(crlURL, false, true)), NHSG1, list{"a", []testpki.CRLOption{idp(crlURL)}}, CRLUnavailable},
		"point for some, no name":        {root.Issue(t, point(crlURL, true, false)), NHSG1, list{crlURL, nil}, CRLUnavailable},
		"point made by hand":             {root.Issue(t, point(crlURL, false, false)), NHSG1, list{"a", []testpki.CRLOption{idp(crlURL)}}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := StateConfig{Profile: tt.profile, Revocation: Require, CRLs: []*CRL{readCRL1(t, root, tt.list.origin, tt.list.opts...)}}
			v, err := stateOf(t, c, root.Cert).Verify(sent(tt.leaf), Request{Peers: AnyName(), Now: now})
			if tt.want != "" {
				wantRefusal(t, v, err, tt.want)
			} else if err != nil || v.Revocation != RevocationGood {
				t.Errorf("revocation is %q, error %v", v.Revocation, err)
			}
			// Whatever its scope: a serial on a list of the issuer is revoked.
			c.CRLs = []*CRL{readCRL1(t, root, tt.list.origin, append(tt.list.opts, testpki.Revoke(tt.leaf.Cert.SerialNumber))...)}
			for _, c.Revocation = range []Mode{Require, Prefer} {
				v, err = stateOf(t, c, root.Cert).Verify(sent(tt.leaf), Request{Peers: AnyName(), Now: now})
				wantRefusal(t, v, err, Revoked, "was revoked by")
			}
		})
	}
}

// One key may act under several names; a list of one says nothing of the other.
func TestRevocationOtherNameOfTheKey(t *testing.T) {
	root := testpki.NewRoot(t)
	sub := root.SubCA(t, testpki.Name("Old Name"))
	renamed := root.SubCA(t, testpki.Name("New Name"), testpki.Key(sub.Key))
	leaf := sub.Issue(t, testpki.CDP(crlURL))
	lists := []*CRL{readCRL1(t, root, "root.crl"), readCRL1(t, renamed, "new.crl", testpki.Revoke(leaf.Cert.SerialNumber))}
	c := StateConfig{Revocation: Require, CRLs: lists}
	v, err := stateOf(t, c, certs(root, sub, renamed)...).Verify(sent(leaf), Request{Peers: AnyName(), Now: second()})
	wantRefusal(t, v, err, CRLUnavailable, "Old Name")
	c.CRLs = append(c.CRLs, readCRL1(t, sub, "old.crl"))
	v, err = stateOf(t, c, certs(root, sub, renamed)...).Verify(sent(leaf), Request{Peers: AnyName(), Now: second()})
	wantChain(t, v, err, leaf.Cert, sub.Cert, root.Cert)
}

func TestRevocationModes(t *testing.T) {
	now := second()
	root := testpki.NewRoot(t)
	leaf, bare := root.Issue(t, testpki.CDP(crlURL)), root.Issue(t)
	gone := root.Issue(t, testpki.CDP(crlURL))
	stale := readCRL1(t, root, "stale.crl", testpki.ThisUpdate(now.Add(-48*time.Hour)), testpki.NextUpdate(now.Add(-24*time.Hour)))
	future := readCRL1(t, root, "future.crl", testpki.ThisUpdate(now.Add(time.Hour)), testpki.NextUpdate(now.Add(24*time.Hour)))
	current := readCRL1(t, root, "current.crl", testpki.Revoke(gone.Cert.SerialNumber))
	foreign := readCRL1(t, testpki.NewRoot(t), "foreign.crl", testpki.Revoke(leaf.Cert.SerialNumber))
	tests := map[string]struct {
		leaf    *testpki.Leaf
		crls    []*CRL
		require Reason // what Require says; "" is good
	}{
		"good":                   {leaf, []*CRL{current}, ""},
		"none, no address":       {bare, nil, NoCRLAddress},
		"none, address":          {leaf, nil, CRLUnavailable},
		"of another CA":          {leaf, []*CRL{foreign}, CRLUnavailable},
		"stale":                  {leaf, []*CRL{stale}, CRLStale},
		"from the future":        {leaf, []*CRL{future}, CRLInvalid},
		"stale and current":      {leaf, []*CRL{stale, current}, ""},
		"current and stale":      {leaf, []*CRL{current, stale}, ""},
		"from the future beside": {leaf, []*CRL{future, current}, ""},
		"revoked":                {gone, []*CRL{current}, Revoked},
		"revoked, newer without": {gone, []*CRL{current, future, stale}, Revoked},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := stateOf(t, StateConfig{CRLs: tt.crls}, root.Cert)
			ask := func(m Mode) (Verdict, error) {
				return s.Verify(sent(tt.leaf), Request{Peers: AnyName(), Revocation: m, Now: now})
			}
			if v, err := ask(Off); err != nil || v.Revocation != RevocationOff || v.Unchecked != "" {
				t.Errorf("off: %q, %v", v.Revocation, err)
			}
			for _, m := range []Mode{Require, "Prefer", "none"} { // what is no mode is the strict one
				v, err := ask(m)
				switch {
				case tt.require != "":
					e := wantRefusal(t, v, err, tt.require)
					if slices.Contains([]Reason{CRLUnavailable, CRLStale}, tt.require) && !slices.Equal(e.Addresses, []string{crlURL}) {
						t.Errorf("addresses are %q", e.Addresses)
					}
				case err != nil || v.Revocation != RevocationGood || v.Unchecked != "":
					t.Errorf("%s: %q, %v", m, v.Revocation, err)
				}
			}
			v, err := ask(Prefer)
			switch {
			case tt.require == Revoked:
				wantRefusal(t, v, err, Revoked)
			case tt.require == "" && (err != nil || v.Revocation != RevocationGood):
				t.Errorf("prefer: %q, %v", v.Revocation, err)
			case tt.require != "" && (err != nil || v.Revocation != RevocationUnavailable || v.Unchecked != tt.require):
				t.Errorf("prefer: %q because of %q, %v", v.Revocation, v.Unchecked, err)
			}
		})
	}
}

func TestRevocationDates(t *testing.T) {
	begin := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	end := begin.Add(24 * time.Hour)
	root := testpki.NewRoot(t, testpki.Validity(begin.Add(-time.Hour), end.Add(48*time.Hour)))
	leaf := root.Issue(t, testpki.Validity(begin.Add(-time.Hour), end.Add(48*time.Hour)))
	crl := readCRL1(t, root, "root.crl", testpki.ThisUpdate(begin), testpki.NextUpdate(end))
	const grace = time.Hour
	tests := map[string]struct {
		at    time.Time
		grace time.Duration
		want  Reason
		says  string
		until time.Time
	}{
		"at thisUpdate":                  {begin, 0, "", RevocationGood, end},
		"5 minutes before":               {begin.Add(-5 * time.Minute), 0, "", RevocationGood, end},
		"5 minutes and a little":         {begin.Add(-5*time.Minute - 1), 0, CRLInvalid, "future", end},
		"at nextUpdate":                  {end, 0, "", RevocationGood, end},
		"a nanosecond behind":            {end.Add(1), 0, CRLStale, `"root.crl"`, end},
		"at nextUpdate with grace":       {end, grace, "", RevocationGood, end},
		"in the grace":                   {end.Add(1), grace, "", RevocationGrace, end.Add(grace)},
		"at the end of the grace":        {end.Add(grace), grace, "", RevocationGrace, end.Add(grace)},
		"behind the grace":               {end.Add(grace + 1), grace, CRLStale, "2030-01-02", end},
		"grace is not for the beginning": {begin.Add(-6 * time.Minute), grace, CRLInvalid, "", end},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := stateOf(t, StateConfig{Revocation: Require, Grace: tt.grace, CRLs: []*CRL{crl}}, root.Cert)
			v, err := s.Verify(sent(leaf), Request{Peers: AnyName(), Now: tt.at})
			if tt.want != "" {
				wantRefusal(t, v, err, tt.want, tt.says)
				return
			}
			if err != nil || v.Revocation != tt.says || !v.Until.Equal(tt.until) {
				t.Errorf("%q until %s, error %v", v.Revocation, v.Until, err)
			}
		})
	}
}

func TestRevocationOfSubCA(t *testing.T) {
	now := second()
	root := testpki.NewRoot(t)
	sub := root.SubCA(t, testpki.Name("Sub"), testpki.CDP(crlURL))
	leaf := sub.Issue(t)
	bad := readCRL1(t, root, "bad.crl", testpki.RevokeWith(sub.Cert.SerialNumber, now.Add(-time.Hour), 2))
	rootCRL, subCRL := readCRL1(t, root, "root.crl"), readCRL1(t, sub, "sub.crl")
	early := readCRL1(t, sub, "early.crl", testpki.NextUpdate(now.Add(time.Hour)))
	onlyUser := readCRL1(t, root, "users.crl", testpki.IDPFlags(true, false, false, false))
	onlyCA := readCRL1(t, root, "cas.crl", testpki.IDPFlags(false, true, false, false))
	sameSerial := readCRL1(t, sub, "same.crl", testpki.Revoke(sub.Cert.SerialNumber))
	tests := map[string]struct {
		crls []*CRL
		want Reason
		says string
	}{
		"both":                         {[]*CRL{subCRL, rootCRL}, "", ""},
		"for CAs only":                 {[]*CRL{subCRL, onlyCA}, "", ""},
		"for users only":               {[]*CRL{subCRL, onlyUser}, CRLUnavailable, `"Sub"`},
		"none of the root":             {[]*CRL{subCRL}, CRLUnavailable, crlURL},
		"none of the subCA":            {[]*CRL{rootCRL}, NoCRLAddress, `none of its issuer "Sub"`},
		"revoked":                      {[]*CRL{subCRL, bad}, Revoked, "CA compromise"},
		"revoked, leaf without a list": {[]*CRL{bad}, Revoked, `"Sub"`},
		"serial on another CA's list":  {[]*CRL{sameSerial, rootCRL}, "", ""},
		"earliest end":                 {[]*CRL{early, rootCRL}, "", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := stateOf(t, StateConfig{Revocation: Require, CRLs: tt.crls}, root.Cert)
			v, err := s.Verify(sent(leaf), Request{Peers: AnyName(), Now: now})
			if tt.want != "" {
				wantRefusal(t, v, err, tt.want, tt.says)
				return
			}
			wantChain(t, v, err, leaf.Cert, sub.Cert, root.Cert)
			if end := tt.crls[0].NextUpdate(); !v.Until.Equal(end) && !v.Until.Equal(tt.crls[1].NextUpdate()) || end.Before(v.Until) {
				t.Errorf("holds until %s, a list ends at %s", v.Until, end)
			}
		})
	}
}

// A subCA that one of two roots revoked is still good below the other.
func TestRevocationOfOnePath(t *testing.T) {
	now := second()
	one, two := testpki.NewRoot(t, testpki.Name("One")), testpki.NewRoot(t, testpki.Name("Two"))
	sub := one.SubCA(t, testpki.Serial(big.NewInt(7001)))
	cross := two.CrossSign(t, sub, testpki.Serial(big.NewInt(7002)))
	leaf := sub.Issue(t)
	subCRL := readCRL1(t, sub, "sub.crl")
	verify := func(crls ...*CRL) (Verdict, error) {
		s := stateOf(t, StateConfig{Revocation: Require, CRLs: append(crls, subCRL)}, certs(one, two, sub, cross)...)
		return s.Verify([]*x509.Certificate{leaf.Cert}, Request{Peers: AnyName(), Now: now})
	}
	v, err := verify(readCRL1(t, one, "one", testpki.Revoke(sub.Cert.SerialNumber)), readCRL1(t, two, "two"))
	wantChain(t, v, err, leaf.Cert, cross.Cert, two.Cert)
	v, err = verify(readCRL1(t, one, "one"), readCRL1(t, two, "two", testpki.Revoke(cross.Cert.SerialNumber)))
	wantChain(t, v, err, leaf.Cert, sub.Cert, one.Cert)
	v, err = verify(readCRL1(t, one, "one"))
	wantChain(t, v, err, leaf.Cert, sub.Cert, one.Cert)
	v, err = verify(readCRL1(t, one, "one", testpki.Revoke(sub.Cert.SerialNumber)), readCRL1(t, two, "two", testpki.Revoke(cross.Cert.SerialNumber)))
	wantRefusal(t, v, err, Revoked)
}
