package trust

import (
	"crypto/x509"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/spinecert/spinecert/pki"
)

// nhsFile reads one of the real certificates, which lie beside the repository.
func nhsFile(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "shared", "spine", "ca", name))
	if os.IsNotExist(err) {
		t.Skipf("the published NHS certificates are not beside the repository: %s", name)
	}
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func nhsBundle(t *testing.T, name string) *Bundle {
	t.Helper()
	b, err := ParseBundle(Source{Name: name, Data: nhsFile(t, name)})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func nhsLeaf(t *testing.T, name string) []*x509.Certificate {
	t.Helper()
	c, err := pki.ParseCertificates(nhsFile(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const (
	liveBundle, intBundle, depBundle = "live-bundle.pem", "int-bundle.pem", "dep-bundle.pem"
	liveLeaf, intLeaf                = "leaf-g1-live-bars-proxy.pem", "leaf-g1-int-api.pem"
	liveName, intName                = "bars-proxy.spineservices.nhs.uk", "int.api.service.nhs.uk"
)

// The table of known CAs is what the published bundles hold, no more and no less.
func TestNHSKnownCAs(t *testing.T) {
	seen := map[string]bool{}
	for file, environments := range map[string][]string{
		liveBundle: {"live"}, intBundle: {"ptl", "int"}, depBundle: {"ptl", "int", "dep"}, // the G2 subCA of INT is shipped for DEP too
	} {
		b := nhsBundle(t, file)
		for _, c := range b.Certificates() {
			k, ok := Known(c)
			if !ok {
				t.Errorf("%s: %q (%s) is not known", file, c.Subject, pki.Fingerprint(c))
				continue
			}
			seen[k.fingerprint] = true
			isRoot := slices.ContainsFunc(b.Roots(), c.Equal)
			if k.Name != c.Subject.CommonName || k.keyID != hex.EncodeToString(c.SubjectKeyId) || k.Root != isRoot || k.fingerprint != pki.Fingerprint(c) {
				t.Errorf("%s: %+v does not describe %q, key %x, root %v", file, k, c.Subject, c.SubjectKeyId, isRoot)
			}
			if !slices.Contains(environments, k.Environment) {
				t.Errorf("%s: %s is of the environment %s", file, k.Name, k.Environment)
			}
			if g2 := c.Subject.CommonName[len(c.Subject.CommonName)-2:] == "G2"; g2 != (k.Generation == "G2") {
				t.Errorf("%s: %s is of the generation %s", file, k.Name, k.Generation)
			}
		}
	}
	for _, k := range knownCAs {
		if !seen[k.fingerprint] {
			t.Errorf("%s stands in no bundle", k.Name)
		}
	}
}

func TestNHSBundles(t *testing.T) {
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	for file, want := range map[string][3]int{liveBundle: {2, 2, 2}, intBundle: {2, 2, 0}, depBundle: {2, 2, 0}} {
		b := nhsBundle(t, file)
		if got := [3]int{len(b.Roots()), len(b.SubCAs()), len(b.Expired(now))}; got != want {
			t.Errorf("%s: roots, subCAs, expired are %v, want %v", file, got, want)
		}
		if !b.Living(now) {
			t.Errorf("%s has no living root", file)
		}
	}
}

func TestNHSVerify(t *testing.T) {
	then, today := time.Date(2023, 6, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	tests := map[string]struct {
		bundle, leaf string
		peers        Peers
		fromCN       bool
		at           time.Time
		want         Reason
		says         string
	}{
		"live":                     {liveBundle, liveLeaf, Names(liveName), true, then, "", liveName},
		"int":                      {intBundle, intLeaf, Names(intName), true, then, "", intName},
		"live, any name":           {liveBundle, liveLeaf, AnyName(), true, then, "", liveName},
		"live today":               {liveBundle, liveLeaf, Names(liveName), true, today, Expired, liveName},
		"int today":                {intBundle, intLeaf, Names(intName), true, today, Expired, intName},
		"live, CN does not count":  {liveBundle, liveLeaf, Names(liveName), false, then, NameMismatch, "common name does not count"},
		"live, other name":         {liveBundle, liveLeaf, Names("proxy.national.ncrs.nhs.uk"), true, then, NameMismatch, liveName},
		"int, other name":          {intBundle, intLeaf, Names(liveName), true, then, NameMismatch, intName},
		"live leaf, int bundle":    {intBundle, liveLeaf, Names(liveName), true, then, WrongEnvironment, "NHS Level 1C"},
		"live leaf, dep bundle":    {depBundle, liveLeaf, Names(liveName), true, then, WrongEnvironment, "NHS live PKI"},
		"int leaf, live bundle":    {liveBundle, intLeaf, Names(intName), true, then, WrongEnvironment, "NHS INT Level 1C"},
		"live leaf, int, too late": {intBundle, liveLeaf, Names(liveName), true, today, WrongEnvironment, "NHS live PKI"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s, err := NewState(StateConfig{Bundle: nhsBundle(t, tt.bundle), Profile: NHSG1, Revocation: Off})
			if err != nil {
				t.Fatal(err)
			}
			v, err := s.Verify(nhsLeaf(t, tt.leaf), Request{Peers: tt.peers, NameFromCN: tt.fromCN, Now: tt.at})
			if tt.want != "" {
				wantRefusal(t, v, err, tt.want, tt.says)
				return
			}
			if err != nil || v.Name != tt.says || v.NameSource != pki.NameFromCN || len(v.Chain) != 3 {
				t.Errorf("name %q from %q, path of %d, error %v", v.Name, v.NameSource, len(v.Chain), err)
			}
		})
	}
}

// The whole chain of the peer, roots and all, does not lead into another environment.
func TestNHSWrongEnvironmentWithItsChain(t *testing.T) {
	then := time.Date(2023, 6, 1, 0, 0, 0, 0, time.UTC)
	s, err := NewState(StateConfig{Bundle: nhsBundle(t, intBundle), Revocation: Off})
	if err != nil {
		t.Fatal(err)
	}
	chain := append(nhsLeaf(t, liveLeaf), nhsBundle(t, liveBundle).Certificates()...)
	v, err := s.Verify(chain, Request{Peers: AnyName(), Now: then})
	wantRefusal(t, v, err, WrongEnvironment, "NHS live PKI")
	for _, c := range nhsBundle(t, liveBundle).Certificates() { // a CA itself, with or without a key identifier
		v, err = s.Verify([]*x509.Certificate{c}, Request{Peers: AnyName(), Now: then})
		wantRefusal(t, v, err, WrongEnvironment, "NHS live PKI")
	}
	// INT and DEP hang on one root (SPINE.md, 3): the DEP bundle accepts an INT
	// leaf that brings its subCA. Without it, it is of another environment.
	dep, err := NewState(StateConfig{Bundle: nhsBundle(t, depBundle), Revocation: Off})
	if err != nil {
		t.Fatal(err)
	}
	v, err = dep.Verify(nhsLeaf(t, intLeaf), Request{Peers: AnyName(), Now: then})
	if r := ReasonOf(err); r != WrongEnvironment && r != UnknownIssuer { // DEP's bundle holds one subCA of INT
		t.Errorf("INT leaf alone below the DEP bundle: %v, %v", v, err)
	}
	chain = append(nhsLeaf(t, intLeaf), nhsBundle(t, intBundle).SubCAs()...)
	if v, err = dep.Verify(chain, Request{Peers: AnyName(), Now: then}); err != nil || len(v.Chain) != 3 {
		t.Errorf("INT leaf with its subCA below the DEP bundle: %v", err)
	}
}

// In require the leaf names its own partition, which nobody has here.
func TestNHSRevocation(t *testing.T) {
	then := time.Date(2023, 6, 1, 0, 0, 0, 0, time.UTC)
	s, err := NewState(StateConfig{Bundle: nhsBundle(t, liveBundle), Profile: NHSG1, NameFromCN: true})
	if err != nil {
		t.Fatal(err)
	}
	v, err := s.Verify(nhsLeaf(t, liveLeaf), Request{Purpose: ServerAuth, Peers: Names(liveName), Now: then})
	e := wantRefusal(t, v, err, CRLUnavailable, "http://crl.nhs.uk/live/1c/crl")
	if len(e.Addresses) == 0 {
		t.Error("no address to fetch from")
	}
}
