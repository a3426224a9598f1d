package enrol

import (
	"crypto"
	"crypto/x509"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/trust"
)

func answerOf(t *testing.T, parts ...[]byte) *Answer {
	t.Helper()
	a := &Answer{}
	for _, p := range parts {
		if err := a.Read("answer", p, nil); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

func bundleOf(t *testing.T, parts ...[]byte) *trust.Bundle {
	t.Helper()
	b, err := trust.ParseBundle(trust.Source{Name: "trust.pem", Data: slices.Concat(parts...)})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestFit(t *testing.T) {
	root := testpki.NewRoot(t, testpki.Name("Live Root"))
	policy := root.SubCA(t, testpki.Name("Live Policy"))
	sub := policy.SubCA(t, testpki.Name("Live Authentication"))
	leaf := sub.Issue(t, testpki.DNS("pcs.thirdparty.nhs.uk"))
	other := testpki.NewRoot(t, testpki.Name("Other Root"))
	for _, tc := range []struct {
		name   string
		answer [][]byte
		bundle *trust.Bundle
		added  int
		root   bool
		judged bool
		notes  []string
	}{
		{"the leaf alone", [][]byte{leaf.CertPEM()}, bundleOf(t, sub.BundlePEM()), 2, true, true, nil},
		{"chain, with its root", [][]byte{leaf.FullChainPEM(), root.CertPEM()}, bundleOf(t, sub.BundlePEM()), 0, true, true, nil},
		{"any order", [][]byte{root.CertPEM(), policy.CertPEM(), leaf.CertPEM(), sub.CertPEM()}, bundleOf(t, root.CertPEM()), 0, true, true, nil},
		{"one subCA of the answer, one of trust", [][]byte{leaf.CertPEM(), sub.CertPEM()}, bundleOf(t, policy.BundlePEM()), 1, true, true, nil},
		{"strangers", [][]byte{other.CertPEM(), leaf.CertPEM(), other.Issue(t).CertPEM()}, bundleOf(t, sub.BundlePEM(), other.CertPEM()), 2, true, true,
			[]string{`not needed and left out: "CN=leaf.thirdparty.nhs.uk"`}},
		{"no trust, with root", [][]byte{leaf.FullChainPEM(), root.CertPEM()}, nil, 0, true, false, []string{"the chain was not judged"}},
		{"no trust, without root", [][]byte{leaf.FullChainPEM()}, nil, 0, false, false, []string{"the chain was not judged"}},
		{"the key came along", [][]byte{leaf.CertPEM(), leaf.KeyPEM()}, bundleOf(t, sub.BundlePEM()), 2, true, true, []string{"holds the private key"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, err := Fit(answerOf(t, tc.answer...), leaf.Key, tc.bundle, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if !f.Identity.Leaf().Equal(leaf.Cert) {
				t.Error("another leaf")
			}
			want := []*x509.Certificate{sub.Cert, policy.Cert}
			if !slices.EqualFunc(f.Identity.Chain(), want, (*x509.Certificate).Equal) {
				t.Errorf("chain of %d certificates, want the subCAs in the order of signing", len(f.Identity.Chain()))
			}
			if len(f.Added) != tc.added || (f.Root != nil) != tc.root || f.Judged != tc.judged {
				t.Errorf("added %d, root %v, judged %v", len(f.Added), f.Root != nil, f.Judged)
			}
			if len(f.Notes) != len(tc.notes) {
				t.Fatalf("notes %q, want %q", f.Notes, tc.notes)
			}
			for i, want := range tc.notes {
				if !strings.Contains(f.Notes[i], want) {
					t.Errorf("note %q, want %q", f.Notes[i], want)
				}
			}
		})
	}
}

func TestMisfits(t *testing.T) {
	now := time.Now()
	root := testpki.NewRoot(t, testpki.Name("Live Root"))
	sub := root.SubCA(t, testpki.Name("Live Authentication"))
	leaf := sub.Issue(t, testpki.DNS("pcs.thirdparty.nhs.uk"))
	foreign := testpki.NewRoot(t, testpki.Name("Other Root"))
	expired := sub.Issue(t, testpki.Key(leaf.Key), testpki.Validity(now.Add(-48*time.Hour), now.Add(-24*time.Hour)))
	self := testpki.NewRoot(t, testpki.Key(leaf.Key))
	bad := sub.Issue(t, testpki.Key(leaf.Key), testpki.BadSignature())
	for _, tc := range []struct {
		name   string
		answer []byte
		bundle *trust.Bundle
		reason trust.Reason
		say    string
		hint   string
	}{
		{"another key", sub.Issue(t, testpki.Name("other.nhs.uk")).CertPEM(), nil, trust.NoCertificate, `found: "CN=other.nhs.uk" in answer`, "another request"},
		{"CAs only", sub.BundlePEM(), nil, trust.NoCertificate, "Live Authentication", "only CA certificates"},
		{"the request", pemRequest(t, leaf), nil, trust.NoCertificate, "no certificate at all in answer", "the request itself"},
		{"expired", expired.CertPEM(), bundleOf(t, sub.BundlePEM()), trust.Expired, "expired on ", "clock"},
		{"self-signed", self.CertPEM(), nil, trust.UnknownIssuer, "its own key", "sent back"},
		{"subCA missing, no trust", leaf.CertPEM(), nil, trust.UnknownIssuer, `the subCA that issued "CN=pcs.thirdparty.nhs.uk" is missing: "CN=Live Authentication"`, "--trust FILE"},
		{"subCA missing", leaf.CertPEM(), bundleOf(t, root.CertPEM()), trust.UnknownIssuer, `is missing: "CN=Live Authentication"`, "have Live Root"},
		{"root missing", leaf.FullChainPEM(), bundleOf(t, foreign.CertPEM()), trust.UnknownIssuer, `the CA that issued "CN=Live Authentication" is missing: "CN=Live Root"`, "have Other Root"},
		{"foreign root beside it", slices.Concat(leaf.FullChainPEM(), root.CertPEM()), bundleOf(t, foreign.CertPEM()), trust.UnknownIssuer, "", "root of the chain"},
		{"a bad signature", bad.CertPEM(), bundleOf(t, sub.BundlePEM()), trust.BadSignature, "does not verify", "ask the authority"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Fit(answerOf(t, tc.answer), leaf.Key, tc.bundle, now)
			if err == nil {
				t.Fatal("fits")
			}
			if tc.reason != "" && trust.ReasonOf(err) != tc.reason || !strings.Contains(err.Error(), tc.say) || !strings.Contains(pki.Hint(err), tc.hint) {
				t.Errorf("%v\nhint: %s", err, pki.Hint(err))
			}
		})
	}
}

func pemRequest(t *testing.T, leaf *testpki.Leaf) []byte {
	t.Helper()
	request, err := pki.NewRequest(leaf.Key, "pcs.thirdparty.nhs.uk")
	if err != nil {
		t.Fatal(err)
	}
	return request
}

// key stands for the private key of a certificate that is somebody else's.
type key struct{ public crypto.PublicKey }

func (k key) Public() crypto.PublicKey { return k.public }

func (k key) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("it is not ours")
}

// TestOtherEnvironment needs real certificates: the program knows the CAs of each
// environment by their fingerprints (SPINE.md, 3).
func TestOtherEnvironment(t *testing.T) {
	dir := filepath.Join("..", "..", "..", "shared", "spine", "ca")
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("the real NHS certificates are not beside the repository: %v", err)
	}
	at := time.Date(2023, 6, 1, 0, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		leaf, bundle string
		want         trust.Reason
	}{
		{"leaf-g1-live-bars-proxy.pem", "live-bundle.pem", ""},
		{"leaf-g1-live-bars-proxy.pem", "int-bundle.pem", trust.WrongEnvironment},
		{"leaf-g1-int-api.pem", "int-bundle.pem", ""},
		{"leaf-g1-int-api.pem", "live-bundle.pem", trust.WrongEnvironment},
	} {
		read := func(name string) []byte {
			data, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			return data
		}
		a := answerOf(t, read(tc.leaf))
		f, err := Fit(a, key{a.Certificates[0].Certificate.PublicKey}, bundleOf(t, read(tc.bundle)), at)
		switch {
		case tc.want == "" && (err != nil || !f.Judged || len(f.Added) == 0):
			t.Errorf("%s with %s: %v", tc.leaf, tc.bundle, err)
		case tc.want != "" && (trust.ReasonOf(err) != tc.want || !strings.Contains(pki.Hint(err), "another environment")):
			t.Errorf("%s with %s: %v\nhint: %s", tc.leaf, tc.bundle, err, pki.Hint(err))
		}
	}
}

func TestNewestCounts(t *testing.T) {
	now := time.Now()
	sub := testpki.NewRoot(t).SubCA(t)
	old := sub.Issue(t, testpki.DNS("pcs.thirdparty.nhs.uk"), testpki.Validity(now.Add(-100*time.Hour), now.Add(time.Hour)))
	next := sub.Issue(t, testpki.DNS("pcs.thirdparty.nhs.uk"), testpki.Key(old.Key), testpki.Validity(now.Add(time.Hour), now.Add(100*time.Hour)))
	f, err := Fit(answerOf(t, old.CertPEM(), next.CertPEM()), old.Key, bundleOf(t, sub.BundlePEM()), now)
	if err != nil {
		t.Fatal(err)
	}
	if !f.Identity.Leaf().Equal(next.Cert) || len(f.Notes) != 2 || !strings.Contains(f.Notes[0], "older certificate") || !strings.Contains(f.Notes[1], "valid from") {
		t.Errorf("notes %q", f.Notes)
	}
}
