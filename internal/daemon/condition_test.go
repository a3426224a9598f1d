package daemon

import (
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/condition"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/trust"
)

// condition returns the condition of a code and subject, waiting for it.
func (h *host) condition(code, subject string) admin.Condition {
	h.t.Helper()
	var found admin.Condition
	h.until("condition "+code+" of "+subject+" is there", func() bool {
		for _, c := range h.status().Conditions {
			if string(c.Code) == code && c.Subject == subject {
				found = c
				return true
			}
		}
		return false
	})
	if found.Message == "" || found.Hint == "" || found.Since.IsZero() {
		h.t.Errorf("a condition says too little: %+v", found)
	}
	return found
}

func TestOwnCertificateRevoked(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	own := h.identity("pcs", providerName)
	h.identity("peer", peerName)
	h.revocation()
	h.configure(requireCRLs, providerSlot, inbound(backend(t)))
	h.start()
	h.serves("ssp-in", own)
	for _, c := range h.status().Conditions {
		t.Errorf("a condition before anything is wrong: %+v", c)
	}
	h.revocation(own)
	if c := h.condition("own_certificate_revoked", "pcs"); c.Severity != "critical" || !strings.Contains(c.Message, "was revoked by") {
		t.Errorf("%+v", c)
	}
	h.serves("ssp-in", own) // it is told, and goes on
	h.identity("pcs", providerName)
	h.until("the condition ends", func() bool {
		for _, c := range h.status().Conditions {
			if c.Code == "own_certificate_revoked" {
				return false
			}
		}
		return true
	})
}

func TestTunnelConditions(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.identity("pcs", providerName)
	h.revocation()
	h.configure("revocation: prefer, crl: {files: [sub.crl, root.crl]}", providerSlot,
		strings.Replace(inbound(backend(t)), "slot: pcs", `slot: pcs, policy: audit, revocation: "off"`, 1))
	h.start()
	h.condition("policy_audit", "ssp-in")
	h.condition("revocation_off", "ssp-in")
	for _, tunnel := range h.status().Tunnels {
		if tunnel.Policy != policyAudit || tunnel.Revocation != "off" {
			t.Errorf("%+v", tunnel)
		}
	}
	// Whom it would refuse is let in, and told.
	stranger, _ := foreign(t, "stranger.nhs.uk")
	h.put("stranger", stranger)
	if err := h.dial(h.listen("ssp-in"), "stranger"); err != nil {
		t.Errorf("policy: audit refuses: %v", err)
	}
	h.counted("ssp-in", "audited", "unknown_issuer", 1)
	if r := h.refusal("audited", "unknown_issuer"); r.Name != "stranger.nhs.uk" || r.Hint == "" {
		t.Errorf("%+v", r)
	}
	h.logged("event=handshake_audited", "reason=unknown_issuer", "name=stranger.nhs.uk")
	h.audited(`"event":"peer_audited"`, `"reason":"unknown_issuer"`)
	h.until("it is counted", func() bool { return h.status().Tunnels[0].Audited == 1 })
}

func TestMixture(t *testing.T) {
	t.Parallel()
	certs := map[string][]*x509.Certificate{}
	for _, name := range []string{"live", "int", "dep"} {
		data, err := os.ReadFile(filepath.Join("..", "..", "..", "shared", "spine", "ca", name+"-bundle.pem"))
		if errors.Is(err, os.ErrNotExist) {
			t.Skip("the published NHS certificates are not beside the repository")
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := trust.ParseBundle(trust.Source{Name: name, Data: data})
		if err != nil {
			t.Fatal(err)
		}
		certs[name] = b.Certificates()
	}
	private := testpki.NewRoot(t).Cert
	for _, tc := range []struct{ of, want, severity string }{
		{"live", "", ""}, {"int", "", ""}, {"dep", "", ""}, {"live private", "", ""}, {"private", "", ""},
		{"int live", "LIVE", "critical"}, {"dep live", "LIVE", "critical"},
	} {
		var all []*x509.Certificate
		for _, name := range strings.Fields(tc.of) {
			all = append(all, certs[name]...)
			if name == "private" {
				all = append(all, private)
			}
		}
		severity, text := mixture(all)
		if string(severity) != tc.severity || !strings.Contains(text, tc.want) {
			t.Errorf("%s: %q, %q", tc.of, severity, text)
		}
	}
	var intG1, depG1 []*x509.Certificate
	for _, c := range certs["dep"] {
		switch k, _ := trust.Known(c); {
		case k.Environment == "int" && k.Generation == "G1":
			intG1 = append(intG1, c)
		case k.Environment == "dep":
			depG1 = append(depG1, c)
		}
	}
	for _, c := range certs["int"] {
		if k, _ := trust.Known(c); k.Environment == "int" && k.Generation == "G1" {
			intG1 = append(intG1, c)
		}
	}
	if severity, text := mixture(append(intG1, depG1...)); severity != "warning" || !strings.Contains(text, "DEP") || !strings.Contains(text, "INT") {
		t.Errorf("INT and DEP: %q, %q", severity, text)
	}
	if g1 := firstGeneration(depG1[0]); g1 != "NHS DEP Level 1C" {
		t.Errorf("G1: %q", g1)
	}
	if g1 := firstGeneration(private); g1 != "" {
		t.Errorf("a private CA is of G1: %q", g1)
	}
}

func TestWeakness(t *testing.T) {
	t.Parallel()
	root := testpki.NewRoot(t)
	usual := strength{2048, 256, nil}
	for name, tc := range map[string]struct {
		options []testpki.Option
		asked   strength
		want    string
	}{
		"good":               {nil, usual, ""},
		"small key":          {[]testpki.Option{testpki.KeyType("rsa-1024")}, usual, "RSA key of 1024 bits, less than 2048"},
		"smaller than asked": {[]testpki.Option{testpki.KeyType("rsa-2048")}, strength{4096, 256, nil}, "less than 4096"},
		"small curve":        {[]testpki.Option{testpki.KeyType("ecdsa-p256")}, strength{2048, 384, nil}, "curve of 256 bits"},
		"SHA-1":              {[]testpki.Option{testpki.SHA1()}, usual, "is signed with"},
		"not in the list":    {nil, strength{2048, 256, []x509.SignatureAlgorithm{x509.PureEd25519}}, "signature_algorithms"},
	} {
		if got := weakness(root.Issue(t, append([]testpki.Option{testpki.DNS("a.nhs.uk")}, tc.options...)...).Cert, tc.asked); !strings.Contains(got, tc.want) || (got == "") != (tc.want == "") {
			t.Errorf("%s: %q, want %q", name, got, tc.want)
		}
	}
}

// What is said of a list before, in and after its grace.
func TestStaleCRL(t *testing.T) {
	t.Parallel()
	root := testpki.NewRoot(t, testpki.Name("Example Root"))
	issued := time.Now().Add(-time.Hour).Truncate(time.Second)
	next := issued.Add(40 * time.Hour)
	crl, err := trust.ReadCRL(root.CRL(t, testpki.ThisUpdate(issued), testpki.NextUpdate(next)), "http://crl.example/1.crl", []*x509.Certificate{root.Cert})
	if err != nil {
		t.Fatal(err)
	}
	const grace = 24 * time.Hour
	failing := &rotate.CRLStatus{Address: "http://crl.example/1.crl", Failures: 3, Err: errors.New("no route"), Next: next}
	for _, tc := range []struct {
		name     string
		after    time.Duration // nextUpdate
		asked    *rotate.CRLStatus
		mode     trust.Mode
		severity condition.Severity // "" is no condition
		says     string
	}{
		{"current", -time.Hour, nil, trust.Require, "", ""},
		{"current, and fetched well", -time.Hour, &rotate.CRLStatus{}, trust.Require, "", ""},
		{"not had, time enough", -30 * time.Hour, failing, trust.Require, "", ""},
		{"not had, ends soon", -9 * time.Hour, failing, trust.Require, "warning", "could not be had again"},
		{"past", time.Second, nil, trust.Require, "warning", "are refused from"},
		{"grace nearly over", 19 * time.Hour, nil, trust.Require, "critical", "are refused from"},
		{"grace nearly over, prefer", 19 * time.Hour, nil, trust.Prefer, "warning", "accepted unchecked from"},
		{"grace over", 25 * time.Hour, failing, trust.Require, "critical", "are refused since"},
		{"grace over, prefer", 25 * time.Hour, nil, trust.Prefer, "warning", "accepted unchecked since"},
	} {
		s, ok := staleCRL(crl, tc.asked, tc.mode, grace, next.Add(tc.after))
		if ok != (tc.severity != "") || ok && (s.severity != tc.severity || !strings.Contains(s.text, tc.says) || !strings.Contains(s.text, crl.Origin()) || s.hint == "") {
			t.Errorf("%s: %t, %+v", tc.name, ok, s)
		}
		if tc.asked == failing && ok && (!strings.Contains(s.text, "no route") || !strings.Contains(s.text, "asked for again at")) {
			t.Errorf("%s: %q does not say what became of asking", tc.name, s.text)
		}
	}
	const own, bundle, peer = rotate.CRLOfOwn, rotate.CRLOfBundle, rotate.CRLOfPeer
	broken := errors.New("no route")
	for _, tc := range []struct {
		l        rotate.CRLStatus
		mode     trust.Mode
		needed   bool
		severity condition.Severity
		says     string
	}{
		{rotate.CRLStatus{Address: "a"}, trust.Require, true, "", ""},
		{rotate.CRLStatus{Address: "a", Failures: 1, CRL: crl}, trust.Require, true, "", ""},
		{rotate.CRLStatus{Address: "a", Failures: 1, Origin: bundle, Err: broken}, trust.Require, true, "critical", "are refused"},
		{rotate.CRLStatus{Address: "a", Failures: 1, Origin: own, Err: broken}, trust.Require, true, "critical", "are refused"},
		{rotate.CRLStatus{Address: "a", Failures: 1, Origin: peer, Err: broken}, trust.Require, true, "critical", "are refused"},
		{rotate.CRLStatus{Address: "a", Failures: 1, Origin: bundle, Err: broken}, trust.Prefer, true, "warning", "accepted without"},
		{rotate.CRLStatus{Address: "a", Failures: 1, Origin: own, Err: broken}, trust.Prefer, true, "warning", "accepted without"},
		{rotate.CRLStatus{Address: "a", Failures: 1, Origin: own, Err: broken}, trust.Require, false, "warning", "whether our own"},
		{rotate.CRLStatus{Address: "a", Failures: 1, Origin: bundle, Err: broken}, trust.Require, false, "warning", "would be refused"},
		{rotate.CRLStatus{Address: "a", Failures: 1, Origin: peer, Err: broken}, trust.Require, false, "warning", "would be refused"},
	} {
		if s, ok := missingCRL(&tc.l, tc.mode, tc.needed); ok != (tc.severity != "") || ok && (s.severity != tc.severity || !strings.Contains(s.text, tc.says)) {
			t.Errorf("%+v with %s, needed %t: %t %+v", tc.l, tc.mode, tc.needed, ok, s)
		}
	}
}
