package anchor

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/trust"
)

// world is two hierarchies, and a third that signs the CAs of the first across.
type world struct {
	oldRoot, oldSub *testpki.Authority
	newRoot, newSub *testpki.Authority
}

func newWorld(t *testing.T) world {
	t.Helper()
	w := world{oldRoot: testpki.NewRoot(t, testpki.Name("Old Root")), newRoot: testpki.NewRoot(t, testpki.Name("New Root"))}
	w.oldSub, w.newSub = w.oldRoot.SubCA(t, testpki.Name("Old Sub")), w.newRoot.SubCA(t, testpki.Name("New Sub"))
	return w
}

func bundle(t *testing.T, file string, cas ...*testpki.Authority) *trust.Bundle {
	t.Helper()
	var data []byte
	for _, ca := range cas {
		data = append(data, ca.CertPEM()...)
	}
	b, err := trust.ParseBundle(trust.Source{Name: file, Data: data})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// identity is a leaf of ca that brings this chain, which may be none.
func identity(t *testing.T, ca *testpki.Authority, chain ...*testpki.Authority) *pki.Identity {
	t.Helper()
	leaf := ca.Issue(t, testpki.DNS("pcs.thirdparty.nhs.uk"))
	certs := []*x509.Certificate{leaf.Cert}
	for _, c := range chain {
		certs = append(certs, c.Cert)
	}
	id, err := pki.NewIdentity(certs, leaf.Key)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func peer(name string, last time.Time, cas ...*testpki.Authority) Peer {
	p := Peer{Name: name, Tunnel: "ssp-in", Last: last}
	for _, ca := range cas {
		p.CAs = append(p.CAs, pki.Fingerprint(ca.Cert))
	}
	return p
}

func subjects(cas []admin.TrustCA) []string {
	out := []string{}
	for _, ca := range cas {
		out = append(out, strings.TrimPrefix(ca.Subject, "CN="))
	}
	slices.Sort(out)
	return out
}

// wantParts compares sentences by what must be in each.
func wantParts(t *testing.T, got []string, want ...[]string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got %d sentences, want %d: %q", len(got), len(want), got)
	}
	for i, parts := range want {
		for _, part := range parts {
			if !strings.Contains(got[i], part) {
				t.Errorf("sentence %d: %q does not say %q", i, got[i], part)
			}
		}
	}
}

func TestCAs(t *testing.T) {
	w, now := newWorld(t), time.Now()
	past := testpki.NewRoot(t, testpki.Name("Past Root"), testpki.Validity(now.Add(-48*time.Hour), now.Add(-24*time.Hour)))
	cross := w.newRoot.CrossSign(t, w.oldSub)
	b := bundle(t, "live.pem", w.oldRoot, w.oldSub, w.newRoot, w.newSub, past, cross)
	own := w.oldRoot.SubCA(t, testpki.Name("Not in the bundle"))
	v := View{Bundle: b, Now: now, Slots: []Slot{
		{"bare", identity(t, w.oldSub)}, {"new", identity(t, w.newSub, w.newSub)}, {"alien", identity(t, testpki.NewRoot(t).SubCA(t))},
		{"brings", identity(t, own, own)}},
		Seen: []Peer{peer("p.nhs.uk", now, w.newSub, w.newRoot)}}
	type facts struct {
		Root, Expired bool
		Slots         []string
		Peers         int
	}
	got := map[string]facts{}
	for _, ca := range v.CAs(b) {
		key := strings.TrimPrefix(ca.Subject, "CN=")
		if ca.SHA256 == pki.Fingerprint(cross.Cert) {
			key = "Old Sub by New Root"
		}
		if ca.File != "live.pem" || ca.Known != "" {
			t.Errorf("%s: file %q, known %q", key, ca.File, ca.Known)
		}
		got[key] = facts{ca.Root, ca.Expired, ca.Slots, len(ca.Peers)}
	}
	want := map[string]facts{
		"Old Root": {Root: true, Slots: []string{"bare", "brings"}}, "Old Sub": {Slots: []string{"bare"}},
		// Cross-signed: what the old subCA signed stands under the new root as well.
		"Old Sub by New Root": {Slots: []string{"bare"}},
		"New Root":            {Root: true, Slots: []string{"bare", "new"}, Peers: 1}, "New Sub": {Slots: []string{"new"}, Peers: 1},
		"Past Root": {Root: true, Expired: true, Slots: []string{}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestDiff(t *testing.T) {
	w, now := newWorld(t), time.Now()
	cross := w.newRoot.CrossSign(t, w.oldSub)
	past := testpki.NewRoot(t, testpki.Name("Past Root"), testpki.Validity(now.Add(-48*time.Hour), now.Add(-24*time.Hour)))
	both := []*testpki.Authority{w.oldRoot, w.oldSub, w.newRoot, w.newSub}
	oldPeer, newPeer := peer("old.nhs.uk", now, w.oldSub, w.oldRoot), peer("new.nhs.uk", now, w.newSub, w.newRoot)
	ended := w.oldSub.Issue(t, testpki.Validity(now.Add(-48*time.Hour), now.Add(-24*time.Hour)))
	endedID, err := pki.NewIdentity([]*x509.Certificate{ended.Cert}, ended.Key)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name           string
		have, next     []*testpki.Authority
		slots          []Slot
		seen           []Peer
		added, removed []string
		shrinks        bool
		breaks         [][]string
	}{
		{name: "no difference", have: both, next: both, slots: []Slot{{"pcs", identity(t, w.oldSub)}}, seen: []Peer{oldPeer}},
		{name: "only more", have: both[:2], next: both, slots: []Slot{{"pcs", identity(t, w.oldSub)}}, added: []string{"New Root", "New Sub"}},
		{name: "the old chain goes too early", have: both, next: both[2:], slots: []Slot{{"moved", identity(t, w.newSub)}, {"pcs", identity(t, w.oldSub)}}, seen: []Peer{oldPeer, newPeer},
			removed: []string{"Old Root", "Old Sub"}, shrinks: true,
			breaks: [][]string{{"slot pcs: what it serves would not pass any more"}, {"peer old.nhs.uk of tunnel ssp-in", "CN=Old Sub"}}},
		{name: "the old chain goes in time", have: both, next: both[2:], slots: []Slot{{"pcs", identity(t, w.newSub)}}, seen: []Peer{newPeer},
			removed: []string{"Old Root", "Old Sub"}, shrinks: true},
		{name: "the slot brings its subCA", have: both[:2], next: both[:1], slots: []Slot{{"bare", identity(t, w.oldSub)}, {"full", identity(t, w.oldSub, w.oldSub)}},
			removed: []string{"Old Sub"}, shrinks: true, breaks: [][]string{{"slot bare: "}}},
		{name: "a cross-signed subCA takes its place", have: append(both, cross), next: []*testpki.Authority{w.newRoot, w.newSub, cross},
			slots: []Slot{{"pcs", identity(t, w.oldSub)}}, seen: []Peer{oldPeer}, removed: []string{"Old Root", "Old Sub"}, shrinks: true},
		{name: "a cross-signed subCA without its root", have: append(both[:2:2], cross, w.newRoot), next: []*testpki.Authority{cross, testpki.NewRoot(t, testpki.Name("Third"))},
			seen: []Peer{oldPeer}, added: []string{"Third"}, removed: []string{"New Root", "Old Root", "Old Sub"}, shrinks: true, breaks: [][]string{{"peer old.nhs.uk"}}},
		{name: "the peer brought its subCA", have: both, next: both[2:], seen: []Peer{peer("own.nhs.uk", now, w.oldRoot.SubCA(t), w.oldRoot)},
			removed: []string{"Old Root", "Old Sub"}, shrinks: true, breaks: [][]string{{"peer own.nhs.uk", "CN=Old Root"}}},
		{name: "an expired CA goes", have: append(both[:2:2], past), next: both[:2], slots: []Slot{{"pcs", identity(t, w.oldSub)}}, removed: []string{"Past Root"}},
		{name: "an expired slot is no worse for it", have: both, next: both[2:], slots: []Slot{{"ended", endedID}}, removed: []string{"Old Root", "Old Sub"}, shrinks: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := View{Environment: "live", Bundle: bundle(t, "a.pem", test.have...), Slots: test.slots, Seen: test.seen, Now: now}
			d, err := v.Diff(bundle(t, "b.pem", test.next...))
			if err != nil {
				t.Fatal(err)
			}
			if got := subjects(d.Added); !slices.Equal(got, test.added) {
				t.Errorf("added %q, want %q", got, test.added)
			}
			if got := subjects(d.Removed); !slices.Equal(got, test.removed) {
				t.Errorf("removed %q, want %q", got, test.removed)
			}
			if d.Shrinks != test.shrinks || len(d.Digest) != 64 {
				t.Errorf("shrinks %t, want %t; digest %q", d.Shrinks, test.shrinks, d.Digest)
			}
			wantParts(t, d.Breaks, test.breaks...)
		})
	}
}

func TestDiffOfSettings(t *testing.T) {
	w, now := newWorld(t), time.Now()
	all := bundle(t, "a.pem", w.oldRoot, w.oldSub, w.newRoot, w.newSub)
	v := View{Environment: "live", Bundle: all, AcceptableCAs: []string{"Old Sub", "New Sub"}, Now: now}
	for _, ca := range []*testpki.Authority{w.oldSub, w.newSub} {
		crl, err := trust.ReadCRL(ca.CRL(t), strings.ToLower(strings.ReplaceAll(ca.Cert.Subject.CommonName, " ", "-"))+".crl", all.Certificates())
		if err != nil {
			t.Fatal(err)
		}
		v.CRLs = append(v.CRLs, crl)
	}
	d, err := v.Diff(bundle(t, "b.pem", w.newRoot, w.newSub))
	if err != nil {
		t.Fatal(err)
	}
	wantParts(t, d.Breaks, []string{`CRL file "old-sub.crl" is of CN=Old Sub`, "crl.files"}, []string{`acceptable_cas`, `"Old Sub"`})
	// Another certificate for the name and key of the issuer will do for its list.
	if d, err = v.Diff(bundle(t, "b.pem", w.newRoot, w.newSub, w.newRoot.CrossSign(t, w.oldSub))); err != nil {
		t.Fatal(err)
	}
	if len(d.Breaks) != 0 {
		t.Errorf("breaks %q", d.Breaks)
	}
}

func TestWithout(t *testing.T) {
	w, now := newWorld(t), time.Now()
	past := testpki.NewRoot(t, testpki.Validity(now.Add(-48*time.Hour), now.Add(-24*time.Hour)))
	v := View{Environment: "live", Bundle: bundle(t, "a.pem", w.oldRoot, w.oldSub, w.newRoot, past), Now: now}
	sum := func(a *testpki.Authority) string { return pki.Fingerprint(a.Cert) }
	left, err := v.Without(v.Bundle, []string{sum(w.oldRoot), sum(w.oldSub)})
	if err != nil || len(left.Certificates()) != 2 || left.File(left.Roots()[0]) != "a.pem" {
		t.Errorf("left %v, %v", left, err)
	}
	for name, drop := range map[string][]string{"unknown": {sum(w.newSub)}, "last living root": {sum(w.oldRoot), sum(w.newRoot)}} {
		if b, err := v.Without(v.Bundle, drop); err == nil || pki.Hint(err) == "" && err.(*admin.Error).Hint == "" {
			t.Errorf("%s: %v, %v; want a refusal with a hint", name, b, err)
		}
	}
}

// nhsCAs are the real CAs of one published bundle.
func nhsCAs(t *testing.T, name string) []*x509.Certificate {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "..", "shared", "spine", "ca", name))
	if err != nil {
		t.Skipf("the published CAs of the NHS are not at hand: %v", err)
	}
	certs, err := pki.ParseCertificates(data)
	if err != nil {
		t.Fatal(err)
	}
	return certs
}
