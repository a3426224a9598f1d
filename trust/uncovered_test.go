package trust

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
)

// Each certificate below the root is looked at by itself, and a list of the CA above
// it is what covers it, as long as its time and grace last.
func TestUncovered(t *testing.T) {
	t.Parallel()
	root := testpki.NewRoot(t)
	sub := root.SubCA(t, testpki.CDP("http://crl.example/root.crl"))
	leaf := sub.Issue(t, testpki.Name("a.nhs.uk"), testpki.CDP("http://crl.example/sub.crl")).Cert
	bundle, err := ParseBundle(Source{Name: "t", Data: sub.BundlePEM()})
	if err != nil {
		t.Fatal(err)
	}
	cas := []*x509.Certificate{root.Cert, sub.Cert}
	ofRoot, err := ReadCRL(root.CRL(t), "root.crl", cas)
	if err != nil {
		t.Fatal(err)
	}
	// A list that names the leaf is a list all the same.
	ofSub, err := ReadCRL(sub.CRL(t, testpki.Revoke(leaf.SerialNumber)), "sub.crl", cas)
	if err != nil {
		t.Fatal(err)
	}
	now, grace := time.Now(), time.Hour
	for name, tc := range map[string]struct {
		crls []*CRL
		now  time.Time
		want []*x509.Certificate
		why  Reason
	}{
		"no list":     {nil, now, []*x509.Certificate{leaf, sub.Cert}, CRLUnavailable},
		"of the root": {[]*CRL{ofRoot}, now, []*x509.Certificate{leaf}, CRLUnavailable},
		"of the CA":   {[]*CRL{ofSub}, now, []*x509.Certificate{sub.Cert}, CRLUnavailable},
		"both":        {[]*CRL{ofRoot, ofSub}, now, nil, ""},
		"in grace":    {[]*CRL{ofRoot, ofSub}, ofRoot.NextUpdate().Add(grace / 2), nil, ""},
		"after it":    {[]*CRL{ofRoot, ofSub}, ofRoot.NextUpdate().Add(2 * grace), []*x509.Certificate{leaf, sub.Cert}, CRLStale},
	} {
		s, err := NewState(StateConfig{Environment: "t", Profile: Private, Bundle: bundle, CRLs: tc.crls, Revocation: Require, Grace: grace})
		if err != nil {
			t.Fatal(err)
		}
		got := s.Uncovered([]*x509.Certificate{leaf, sub.Cert, root.Cert}, tc.now)
		if len(got) != len(tc.want) {
			t.Errorf("%s: %v", name, got)
			continue
		}
		for i, e := range got {
			if e.Reason != tc.why || !e.Certificate.Equal(tc.want[i]) {
				t.Errorf("%s: %v", name, e)
			}
		}
	}
}
