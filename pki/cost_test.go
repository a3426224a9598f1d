package pki

import (
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
)

// within fails where something takes minutes that takes far less than a second.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(15 * time.Second):
		t.Fatal(what + " takes too long")
	}
}

// The names of a certificate are as many as fit into it: going through them is
// linear.
func TestManyNames(t *testing.T) {
	const many = 500_000
	c := &x509.Certificate{}
	for i := range many {
		c.DNSNames = append(c.DNSNames, fmt.Sprintf("%06X", i), fmt.Sprintf("%06x.", i))
	}
	within(t, "reading the names", func() {
		names, source := Names(c)
		if len(names) != many || source != NameFromSAN || names[0] != "000000" || names[many-1] != "07a11f" {
			t.Errorf("%d names", len(names))
		}
	})
}

func TestQuoteName(t *testing.T) {
	var many pkix.RDNSequence
	for i := range 200_000 {
		many = append(many, pkix.RelativeDistinguishedNameSET{{Type: asn1.ObjectIdentifier{1, 2, 3, i}, Value: "x"}})
	}
	var attributes pkix.Name
	attributes.FillFromRDNSequence(&many)
	for name, tc := range map[string]struct {
		name pkix.Name
		want string
	}{
		"usual":        {pkix.Name{CommonName: "pcs.nhs.uk", Organization: []string{"nhs"}}, `"CN=pcs.nhs.uk,O=nhs"`},
		"odd":          {pkix.Name{CommonName: "a\x00\x1b\xff"}, `"CN=a\x00\x1b` + "\ufffd" + `"`},
		"long":         {pkix.Name{CommonName: strings.Repeat("x", 1<<20)}, `"CN=` + strings.Repeat("x", 197) + `..."`},
		"long and odd": {pkix.Name{CommonName: strings.Repeat("\x01", 1<<20)}, `"CN=` + strings.Repeat(`\x01`, 49) + `..."`},
		"exact":        {pkix.Name{CommonName: strings.Repeat("x", 197)}, `"CN=` + strings.Repeat("x", 197) + `"`},
		"attributes":   {attributes, ""},
	} {
		t.Run(name, func(t *testing.T) {
			within(t, "quoting the name", func() {
				got := QuoteName(tc.name)
				if tc.want != "" && got != tc.want || len(got) > maxShown+10 {
					t.Errorf("%d bytes: %.300s", len(got), got)
				}
			})
		})
	}
}

// A message about any number of any certificates is short.
func TestMismatchIsShort(t *testing.T) {
	root := testpki.NewRoot(t)
	long := root.Issue(t, testpki.Subject(pkix.Name{CommonName: strings.Repeat("\x01", 60_000)}))
	other := root.Issue(t)
	if _, err := NewIdentity([]*x509.Certificate{long.Cert, root.Cert}, other.Key); err == nil || len(err.Error()) > 2000 {
		t.Errorf("an error of %d bytes", len(err.Error()))
	}
}

// tangle returns a leaf and CAs of two names that all may have issued each other by
// their names, and did not.
func tangle(t *testing.T) (*testpki.Leaf, []*x509.Certificate) {
	t.Helper()
	left, right := testpki.NewRoot(t, testpki.Name("Left")), testpki.NewRoot(t, testpki.Name("Right"))
	leaf := left.Issue(t)
	certs := []*x509.Certificate{leaf.Cert}
	for range 12 {
		certs = append(certs, right.SubCA(t, testpki.Name("Left"), testpki.BadSignature()).Cert, left.SubCA(t, testpki.Name("Right"), testpki.BadSignature()).Cert)
	}
	certs = append(certs, right.SubCA(t, testpki.Name("Left"), testpki.Key(left.Key)).Cert)
	for range 12 {
		certs = append(certs, left.SubCA(t, testpki.Name("Right"), testpki.Key(right.Key)).Cert, right.SubCA(t, testpki.Name("Left"), testpki.Key(left.Key)).Cert)
	}
	return leaf, certs
}

// A set of CAs of which each may be the issuer of each costs a bounded number of
// signatures, and is refused.
func TestChecksAreBounded(t *testing.T) {
	leaf, certs := tangle(t)
	if len(certs) > maxCertificates {
		t.Fatal(len(certs))
	}
	var checks Checks
	orderChain(leaf.Cert, certs, &checks)
	if checks.verified != maxChecks || !checks.Exceeded() {
		t.Errorf("%d signatures were verified, exceeded %v", checks.verified, checks.Exceeded())
	}
	if _, err := NewIdentity(certs, leaf.Key); err == nil || !strings.Contains(err.Error(), "too many certificates that could be the issuer") || errors.Is(err, ErrIncoherent) || Hint(err) == "" {
		t.Error(err)
	}
}

// Each pair is verified once, and what a certificate made of itself is not counted.
func TestChecksRemember(t *testing.T) {
	root := testpki.NewRoot(t)
	leaf, other := root.Issue(t), testpki.NewRoot(t, testpki.Name("Other"))
	var checks Checks
	for range 3 * maxChecks {
		if !checks.IssuedBy(leaf.Cert, root.Cert) || !checks.IssuedBy(root.Cert, root.Cert) || checks.IssuedBy(leaf.Cert, other.Cert) {
			t.Fatal("wrong")
		}
	}
	if checks.verified != 1 || checks.Exceeded() || len(checks.known) != 2 {
		t.Errorf("%d verified, %d known, exceeded %v", checks.verified, len(checks.known), checks.Exceeded())
	}
}

// The largest key that is verified with costs milliseconds; one bit more is no issuer.
func TestSlowKeys(t *testing.T) {
	key := func(bits, e int) *rsa.PublicKey {
		return &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), bits-1, 1), E: e}
	}
	for name, tc := range map[string]struct {
		key  *rsa.PublicKey
		slow bool
	}{
		"usual":    {key(4096, 65537), false},
		"largest":  {key(8192, 1<<31-1), false},
		"longer":   {key(8193, 65537), true},
		"exponent": {key(2048, 1<<31), true},
	} {
		if got := tooSlow(tc.key); got != tc.slow {
			t.Errorf("%s: %v", name, got)
		}
	}
	name := []byte{0x30, 0x00}
	for bits, most := range map[int]int{8193: 0, 8192: 1} {
		c := &x509.Certificate{RawSubject: name, RawIssuer: name, PublicKeyAlgorithm: x509.RSA, PublicKey: key(bits, 65537),
			SignatureAlgorithm: x509.SHA256WithRSA, RawTBSCertificate: []byte("tbs"), Signature: make([]byte, 1<<10)}
		var checks Checks
		checks.IssuedBy(c, c)
		if len(checks.known) != most {
			t.Errorf("%d bits: %d signatures looked at", bits, len(checks.known))
		}
	}
}
