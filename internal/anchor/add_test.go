package anchor

import (
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/trust"
)

func TestJudge(t *testing.T) {
	w, now := newWorld(t), time.Now()
	sum := func(a *testpki.Authority) string { return pki.Fingerprint(a.Cert) }
	fresh := []byte(string(w.newRoot.CertPEM()) + string(w.newSub.CertPEM()))
	past := testpki.NewRoot(t, testpki.Name("Past"), testpki.Validity(now.Add(-48*time.Hour), now.Add(-24*time.Hour)))
	leaf := w.oldSub.Issue(t, testpki.DNS("pcs.nhs.uk"))
	cannot := testpki.NewRoot(t, testpki.Name("Cannot"), testpki.KeyUsage(x509.KeyUsageDigitalSignature))
	for _, test := range []struct {
		name           string
		data           []byte
		confirm        []string
		added, already []string
		refused        string // "": accepted
	}{
		{name: "both new", data: fresh, added: []string{"New Root", "New Sub"}},
		{name: "in a mail", data: []byte("Dear all,\r\n\r\n> " + strings.ReplaceAll(string(fresh), "\n", "\r\n> ")), added: []string{"New Root", "New Sub"}},
		{name: "one is there", data: append(fresh[:len(fresh):len(fresh)], w.oldSub.CertPEM()...), added: []string{"New Root", "New Sub"}, already: []string{"Old Sub"}},
		{name: "all are there", data: w.oldSub.BundlePEM(), already: []string{"Old Root", "Old Sub"}},
		{name: "cross-signed", data: w.oldRoot.CrossSign(t, w.newSub).CertPEM(), added: []string{"New Sub"}},
		{name: "confirmed", data: fresh, confirm: []string{sum(w.newRoot), sum(w.newSub)}, added: []string{"New Root", "New Sub"}},
		{name: "what is there may be confirmed", data: append(fresh[:len(fresh):len(fresh)], w.oldSub.CertPEM()...), confirm: []string{sum(w.newRoot), sum(w.newSub), sum(w.oldSub)},
			added: []string{"New Root", "New Sub"}, already: []string{"Old Sub"}},
		{name: "one is not confirmed", data: fresh, confirm: []string{sum(w.newRoot)}, refused: "was not confirmed"},
		{name: "another is confirmed", data: fresh, confirm: []string{sum(w.newRoot), sum(w.newSub), sum(past)}, refused: "no certificate in the files has"},
		{name: "subCA alone", data: w.newSub.CertPEM(), refused: "neither in the environment nor among the files"},
		{name: "expired", data: past.CertPEM(), refused: "expired on"},
		{name: "a leaf", data: leaf.CertPEM(), refused: "is no CA"},
		{name: "may not sign", data: cannot.CertPEM(), refused: "may not sign certificates"},
		{name: "with a key", data: append(w.newRoot.CertPEM(), testpki.EncodeKey(w.newRoot.Key)...), refused: "private key"},
		{name: "a request", data: testpki.Request(t, leaf.Key, "pcs.nhs.uk"), refused: "no certificate in the files"},
		{name: "nothing", data: []byte("hello"), refused: "nothing in it is understood"},
	} {
		t.Run(test.name, func(t *testing.T) {
			v := View{Environment: "live", Bundle: bundle(t, "a.pem", w.oldRoot, w.oldSub), Now: now}
			certs, out, err := v.Judge(admin.TrustAddRequest{Environment: "live", Files: []admin.File{{Name: "g2.pem", Data: test.data}}, SHA256: test.confirm})
			if test.refused != "" {
				var refusal *admin.Error
				if !errors.As(err, &refusal) || refusal.Code != admin.CodeRefused || refusal.Hint == "" || !strings.Contains(err.Error(), test.refused) {
					t.Fatalf("error %v; want a refusal with a hint that says %q", err, test.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := subjects(out.Added); !slices.Equal(got, test.added) || len(certs) != len(test.added) {
				t.Errorf("added %q, %d certificates; want %q", got, len(certs), test.added)
			}
			if got := subjects(out.Already); !slices.Equal(got, test.already) {
				t.Errorf("already %q, want %q", got, test.already)
			}
			if len(out.Notes) != len(test.added) { // none of them is of the NHS
				t.Errorf("notes %q", out.Notes)
			}
		})
	}
}

// TestWorlds: the CAs of live and of path to live do not belong into one environment.
func TestWorlds(t *testing.T) {
	live, ptl := nhsCAs(t, "live-bundle.pem"), nhsCAs(t, "int-bundle.pem")
	now := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	private := testpki.NewRoot(t)
	view := func(certs ...*x509.Certificate) View {
		b, err := trust.ParseBundle(trust.Source{Name: "a.pem", Data: testpki.EncodeCerts(certs...)})
		if err != nil {
			t.Fatal(err)
		}
		return View{Environment: "live", Bundle: b, Now: now}
	}
	g2 := func(certs []*x509.Certificate) []*x509.Certificate {
		return slices.DeleteFunc(slices.Clone(certs), func(c *x509.Certificate) bool { return !strings.Contains(c.Subject.CommonName, "G2") })
	}
	if len(g2(live)) != 2 || len(g2(ptl)) != 2 {
		t.Fatalf("the published bundles hold %d and %d CAs of G2", len(g2(live)), len(g2(ptl)))
	}
	for _, test := range []struct {
		name string
		view View
		add  []*x509.Certificate
		want [][]string
	}{
		{"live to live", view(live...), nil, nil},
		{"G2 to G1", view(slices.DeleteFunc(slices.Clone(live), func(c *x509.Certificate) bool { return strings.Contains(c.Subject.CommonName, "G2") })...), g2(live), nil},
		{"path to live into live", view(live...), g2(ptl), [][]string{{"holds CAs of live, and these are of path to live"}}},
		{"live into path to live", view(ptl...), g2(live), [][]string{{"holds CAs of path to live, and these are of live"}}},
		{"both into a private one", view(private.Cert), slices.Concat(g2(live), g2(ptl)), [][]string{{"the files hold CAs of live and of path to live"}}},
		{"a private one into live", view(live...), []*x509.Certificate{private.Cert}, [][]string{{"none of the NHS CAs that the program knows"}}},
		{"a private one and path to live into live", view(live...), append(g2(ptl), private.Cert),
			[][]string{{"holds CAs of live, and these are of path to live"}, {"none of the NHS CAs"}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, _, notes, err := test.view.Addition(append(test.add, test.view.Bundle.Roots()[0]))
			if err != nil {
				t.Fatal(err)
			}
			wantParts(t, notes, test.want...)
		})
	}
	for _, ca := range view(ptl...).CAs(view(ptl...).Bundle) {
		if strings.Contains(ca.Subject, "NHS PTL Root Authority G2") && ca.Known != "NHS PTL Root Authority G2, NHS path to live, G2" {
			t.Errorf("known as %q", ca.Known)
		}
	}
}
