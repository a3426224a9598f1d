package trust

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
)

// A CA that signs its lists with another key than its certificates; who certified
// that key decides (RFC 5280, Section 6.3.3 (f)).
func TestListsByOtherKeys(t *testing.T) {
	now := second()
	root := testpki.NewRoot(t)
	sub := root.SubCA(t, testpki.PathLen(1))
	leaf := sub.Issue(t)
	name := testpki.RawSubject(sub.Cert.RawSubject)
	beside := root.SubCA(t, name) // the root certifies the new key
	below := sub.SubCA(t, name)   // the CA does itself
	stray := testpki.NewRoot(t, testpki.Name("Stray Root")).SubCA(t, name)
	cousin := root.SubCA(t, testpki.Name("Cousin")).SubCA(t, name) // under the same root, but not the same CA
	expired := root.SubCA(t, name, testpki.Validity(now.Add(-48*time.Hour), now.Add(-time.Hour)))
	mute := root.SubCA(t, name, testpki.KeyUsage(x509.KeyUsageCertSign))
	revoked := testpki.Revoke(leaf.Cert.SerialNumber)
	tests := map[string]struct {
		by       *testpki.Authority
		list     []testpki.CRLOption
		rootList []testpki.CRLOption
		subList  []testpki.CRLOption // nil: the CA's own key signed no list
		want     Reason
	}{
		"certified by the root":               {by: beside},
		"certified by the CA":                 {by: below, subList: []testpki.CRLOption{testpki.IDPFlags(false, true, false, false)}},
		"certified by the CA, without a list": {by: below, want: CRLUnavailable},
		"of another root":                     {by: stray, want: CRLUnavailable},
		"of another CA of this root":          {by: cousin, want: CRLUnavailable},
		"expired":                             {by: expired, want: CRLUnavailable},
		"revoked":                             {by: beside, rootList: []testpki.CRLOption{testpki.Revoke(beside.Cert.SerialNumber)}, want: CRLUnavailable},
		"names the leaf":                      {by: beside, list: []testpki.CRLOption{revoked}, subList: []testpki.CRLOption{}, want: Revoked},
		"expired, names the leaf":             {by: expired, list: []testpki.CRLOption{revoked}, subList: []testpki.CRLOption{}, want: Revoked},
		"revoked, names the leaf": {by: beside, list: []testpki.CRLOption{revoked}, subList: []testpki.CRLOption{},
			rootList: []testpki.CRLOption{testpki.Revoke(beside.Cert.SerialNumber)}},
		"of another root, names the leaf": {by: stray, list: []testpki.CRLOption{revoked}, subList: []testpki.CRLOption{}},
	}
	for what, tt := range tests {
		t.Run(what, func(t *testing.T) {
			crls := []*CRL{readCRL1(t, root, "root", tt.rootList...), readCRL1(t, tt.by, "other", tt.list...)}
			if tt.subList != nil {
				crls = append(crls, readCRL1(t, sub, "sub", tt.subList...))
			}
			cas := certs(root, sub, tt.by, tt.by.Root())
			s := stateOf(t, StateConfig{Revocation: Require, CRLs: crls}, cas...)
			v, err := s.Verify(sent(leaf), Request{Peers: AnyName(), Now: now})
			if tt.want == CRLUnavailable && ReasonOf(err) == NoCRLAddress {
				return // nobody's list, and the leaf names none
			}
			if tt.want != "" {
				wantRefusal(t, v, err, tt.want)
			} else if err != nil {
				t.Errorf("refused: %v", err)
			}
			if again := s.Revoked([]*x509.Certificate{leaf.Cert, sub.Cert, root.Cert}); (ReasonOf(again) == Revoked) != (tt.want == Revoked) {
				t.Errorf("of the open connection: %v", again)
			}
		})
	}
	if _, err := ReadCRL(mute.CRL(t), "mute", certs(root, sub, mute)); ReasonOf(err) != CRLInvalid {
		t.Errorf("the list of a key that may not sign lists: %v", err)
	}
}

// What rests on another key ends with it.
func TestOtherKeyShortensTheVerdict(t *testing.T) {
	now := second()
	root := testpki.NewRoot(t)
	sub := root.SubCA(t)
	leaf := sub.Issue(t)
	ends := now.Add(2 * time.Hour)
	next := root.SubCA(t, testpki.RawSubject(sub.Cert.RawSubject), testpki.Validity(now.Add(-time.Hour), ends))
	crls := []*CRL{readCRL1(t, root, "root"), readCRL1(t, next, "next")}
	s := stateOf(t, StateConfig{Revocation: Require, CRLs: crls}, certs(root, sub, next)...)
	v, err := s.Verify(sent(leaf), Request{Peers: AnyName(), Now: now})
	if err != nil || !v.Until.Equal(ends) {
		t.Errorf("until %v, error %v; want %v", v.Until, err, ends)
	}
}
