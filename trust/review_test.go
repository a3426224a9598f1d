package trust

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
)

// review is one open connection that is judged again.
type review struct {
	state   *State
	shown   []*x509.Certificate
	request Request
	undated bool
	want    Reason // "" stays open
}

func TestReviewOfOpenConnections(t *testing.T) {
	now := second()
	root, other := testpki.NewRoot(t), testpki.NewRoot(t, testpki.Name("Other"))
	sub := root.SubCA(t, testpki.Validity(now.Add(-time.Hour), now.Add(48*time.Hour)))
	leaf := sub.Issue(t, testpki.Name("peer.nhs.uk"), testpki.CDP(crlURL), testpki.Validity(now.Add(-time.Hour), now.Add(24*time.Hour)))
	request := Request{Purpose: ClientAuth, Peers: Names("peer.nhs.uk"), Now: now}
	before := stateOf(t, StateConfig{}, root.Cert, sub.Cert)
	verdict, err := before.Verify(sent(leaf), request)
	if err != nil {
		t.Fatal(err)
	}
	at := func(d time.Duration) Request { r := request; r.Now = now.Add(d); return r }
	named := func(p Peers) Request { r := request; r.Peers = p; return r }
	pinned, err := AnyName().WithPins("00" + string(make62()))
	if err != nil {
		t.Fatal(err)
	}
	revoking := func(a *testpki.Authority, serials ...*testpki.Leaf) *CRL {
		opts := []testpki.CRLOption{testpki.NextUpdate(now.Add(time.Hour))}
		for _, l := range serials {
			opts = append(opts, testpki.Revoke(l.Cert.SerialNumber))
		}
		return readCRL1(t, a, "x.crl", opts...)
	}
	required := StateConfig{Revocation: Require}
	withCRLs := func(mode Mode, crls ...*CRL) *State {
		return stateOf(t, StateConfig{Revocation: mode, CRLs: crls}, root.Cert, sub.Cert)
	}
	cross := other.CrossSign(t, sub)
	tests := map[string]review{
		"nothing changed":                {before, sent(leaf), request, false, ""},
		"no list at hand":                {stateOf(t, required, root.Cert, sub.Cert), sent(leaf), request, false, ""},
		"list past its grace":            {withCRLs(Require, revoking(sub)), sent(leaf), at(2 * time.Hour), false, ""},
		"leaf revoked":                   {withCRLs(Require, revoking(sub, leaf)), sent(leaf), request, false, Revoked},
		"leaf revoked, prefer":           {withCRLs(Prefer, revoking(sub, leaf)), sent(leaf), request, false, Revoked},
		"leaf revoked, off":              {withCRLs(Off, revoking(sub, leaf)), sent(leaf), request, false, ""},
		"leaf revoked on an ended list":  {withCRLs(Require, revoking(sub, leaf)), sent(leaf), at(2 * time.Hour), false, Revoked},
		"leaf revoked, clock suspect":    {withCRLs(Require, revoking(sub, leaf)), sent(leaf), at(2 * time.Hour), true, Revoked},
		"subCA revoked":                  {withCRLs(Require, readCRL1(t, root, "r.crl", testpki.Revoke(sub.Cert.SerialNumber))), sent(leaf), request, false, Revoked},
		"leaf expired":                   {before, sent(leaf), at(25 * time.Hour), false, Expired},
		"leaf expired, clock suspect":    {before, sent(leaf), at(25 * time.Hour), true, ""},
		"subCA expired":                  {before, sent(leaf), at(49 * time.Hour), false, Expired},
		"clock set back":                 {before, sent(leaf), at(-365 * 24 * time.Hour), false, ""},
		"name no longer listed":          {before, sent(leaf), named(Names("other.nhs.uk")), false, NotListed},
		"name not listed, clock suspect": {before, sent(leaf), named(Names("other.nhs.uk")), true, NotListed},
		"nobody is listed":               {before, sent(leaf), named(Peers{}), false, NotListed},
		"pin does not fit":               {before, sent(leaf), named(pinned), false, NotListed},
		"root gone":                      {stateOf(t, StateConfig{}, other.Cert), sent(leaf), request, false, UnknownIssuer},
		"root gone, clock suspect":       {stateOf(t, StateConfig{}, other.Cert), sent(leaf), at(25 * time.Hour), true, UnknownIssuer},
		"subCA gone, peer sends it":      {stateOf(t, StateConfig{}, root.Cert), sent(leaf), request, false, ""},
		"subCA gone, peer does not":      {stateOf(t, StateConfig{}, root.Cert), []*x509.Certificate{leaf.Cert}, request, false, UnknownIssuer},
		"another root signs the subCA":   {stateOf(t, StateConfig{}, other.Cert, cross.Cert), sent(leaf), request, false, ""},
		"larger keys are asked for":      {stateOf(t, StateConfig{MinRSABits: 4096, MinECBits: 521}, root.Cert, sub.Cert), sent(leaf), request, false, WeakKey},
		"no certificate":                 {before, nil, request, false, NoCertificate},
		"no time":                        {before, sent(leaf), Request{Purpose: ClientAuth, Peers: AnyName()}, false, NotYetValid},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			v, err := tc.state.Review(tc.shown, verdict, tc.request, tc.undated)
			if tc.want != "" {
				wantRefusal(t, v, err, tc.want)
				return
			}
			if err != nil {
				t.Fatalf("cut for %v", err)
			}
			if len(v.Chain) < 2 || !v.Chain[0].Equal(leaf.Cert) {
				t.Errorf("the verdict that is left has the path %v", v.Chain)
			}
			// What is left serves for the next review.
			if _, err := tc.state.Review(tc.shown, v, tc.request, tc.undated); err != nil {
				t.Errorf("the second review: %v", err)
			}
		})
	}
}

// A leaf that is revoked under one path, and its subCA under the other.
func TestReviewFindsAnotherPath(t *testing.T) {
	now := second()
	a, b := testpki.NewRoot(t, testpki.Name("A")), testpki.NewRoot(t, testpki.Name("B"))
	sub := a.SubCA(t)
	cross := b.CrossSign(t, sub)
	leaf := sub.Issue(t, testpki.Name("peer.nhs.uk"))
	request := Request{Purpose: ClientAuth, Peers: Names("peer.nhs.uk"), Now: now}
	only := stateOf(t, StateConfig{}, a.Cert, sub.Cert)
	verdict, err := only.Verify(sent(leaf), request)
	if err != nil {
		t.Fatal(err)
	}
	gone := readCRL1(t, a, "a.crl", testpki.Revoke(sub.Cert.SerialNumber))
	both := stateOf(t, StateConfig{Revocation: Require, CRLs: []*CRL{gone}}, a.Cert, sub.Cert, b.Cert, cross.Cert)
	v, err := both.Review(sent(leaf), verdict, request, false)
	if err != nil {
		t.Fatalf("the path under B stands: %v", err)
	}
	if root := v.Chain[len(v.Chain)-1]; !root.Equal(b.Cert) {
		t.Errorf("the path left leads to %s", root.Subject)
	}
}

func make62() []byte {
	out := make([]byte, 62)
	for i := range out {
		out[i] = 'a'
	}
	return out
}

func TestStrengthThatIsAskedFor(t *testing.T) {
	now := second()
	root := testpki.NewRoot(t, testpki.KeyType("rsa-4096"))
	sub := root.SubCA(t, testpki.KeyType("rsa-3072"))
	leaf := sub.Issue(t, testpki.Name("peer.nhs.uk"), testpki.KeyType("rsa-2048"))
	curve := sub.Issue(t, testpki.Name("peer.nhs.uk"), testpki.KeyType("ecdsa-p256"))
	request := Request{Purpose: ClientAuth, Peers: Names("peer.nhs.uk"), Now: now}
	tests := map[string]struct {
		config StateConfig
		leaf   *testpki.Leaf
		want   Reason
	}{
		"RSA 2048 by default":  {StateConfig{}, leaf, ""},
		"RSA 2048 of 3072":     {StateConfig{MinRSABits: 3072}, leaf, WeakKey},
		"EC is not RSA":        {StateConfig{MinRSABits: 3072}, curve, ""},
		"P-256 of 384":         {StateConfig{MinECBits: 384}, curve, WeakKey},
		"subCA of 4096":        {StateConfig{MinRSABits: 4096}, curve, WeakKey},
		"SHA-256 is permitted": {StateConfig{SignatureAlgorithms: []x509.SignatureAlgorithm{x509.SHA256WithRSA}}, leaf, ""},
		"SHA-384 is asked for": {StateConfig{SignatureAlgorithms: []x509.SignatureAlgorithm{x509.SHA384WithRSA}}, leaf, WeakSignature},
		"none named":           {StateConfig{SignatureAlgorithms: []x509.SignatureAlgorithm{}}, leaf, ""},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			v, err := stateOf(t, tc.config, root.Cert, sub.Cert).Verify(sent(tc.leaf), request)
			if tc.want != "" {
				wantRefusal(t, v, err, tc.want)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
	for name, c := range map[string]StateConfig{
		"RSA below the floor": {MinRSABits: 1024}, "RSA above the ceiling": {MinRSABits: 16384}, "EC below the floor": {MinECBits: 224},
		"SHA-1": {SignatureAlgorithms: []x509.SignatureAlgorithm{x509.SHA256WithRSA, x509.SHA1WithRSA}},
	} {
		c.Bundle = bundleOf(t, root.Cert)
		if _, err := NewState(c); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}
