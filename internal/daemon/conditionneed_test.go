package daemon

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/trust"
)

const (
	subAddress  = "http://crl.example/sub.crl"
	rootAddress = "http://crl.example/root.crl"
)

// withAddresses gives both CAs of a host an address of their lists, and both sides a
// certificate.
func (h *host) withAddresses(sub, root string) {
	h.t.Helper()
	h.sub = h.root.SubCA(h.t, testpki.KeyType("rsa-2048"), testpki.Name("Sub A"), testpki.CDP(root))
	h.write("trust.pem", h.sub.BundlePEM(), 0o644)
	h.identity("pcs", providerName, testpki.CDP(sub))
	h.identity("peer", peerName, testpki.CDP(sub))
}

// stale returns the conditions of lists, with as much as is compared.
func (h *host) stale() []string {
	h.t.Helper()
	out := []string{}
	for _, c := range h.status().Conditions {
		if c.Code == "crl_stale" {
			text, _, _ := strings.Cut(c.Message, "; it is asked")
			out = append(out, string(c.Severity)+" "+text)
		}
	}
	slices.Sort(out)
	return out
}

func (h *host) staleIs(what string, want ...string) {
	h.t.Helper()
	want = append([]string{}, want...)
	var got []string
	end := time.Now().Add(patience)
	for time.Now().Before(end) {
		if got = h.stale(); cmp.Equal(got, want) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	h.t.Errorf("%s: conditions (-want +got):\n%s", what, cmp.Diff(want, got))
}

// A list that peers need, that is not there and that nobody fetches, is told before the
// first of them is refused; and nothing is told of a CA that is in the bundle alone.
func TestListsThatNobodyFetches(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.withAddresses(subAddress, rootAddress)
	unused := h.root.SubCA(t, testpki.KeyType("rsa-2048"), testpki.Name("Sub B"), testpki.CDP(rootAddress))
	h.write("trust.pem", append(h.sub.BundlePEM(), unused.CertPEM()...), 0o644)
	h.revocation()
	h.configure("revocation: require, crl: {hosts: [], files: [root.crl]}", providerSlot, inbound(backend(t)))
	const ofSub = `no current CRL of "Sub A" covers what it issued: peers that need it are refused; nothing fetches ` + subAddress + `: crl.hosts is empty`
	code, out := h.runDaemon("--check")
	if want := `environment t: no current CRL of "Sub A", and crl.hosts is empty: peers will be refused`; code != 0 || !strings.Contains(out, want) || strings.Count(out, "no current CRL") != 1 {
		t.Errorf("--check: %d\n%s", code, out)
	}
	h.start()
	h.staleIs("at the start", "critical "+ofSub)
	if c := h.condition("crl_stale", "t"); !strings.Contains(c.Hint, "crl.hosts") || !strings.Contains(c.Hint, "spinecert trust crl FILE") {
		t.Errorf("hint %q", c.Hint)
	}
	if err := h.dial(h.listen("ssp-in"), "peer"); err == nil {
		t.Error("a peer gets in without a list")
	}
	h.counted("ssp-in", "refused", "crl_unavailable", 1)
	h.staleIs("once a peer was refused", "critical "+ofSub)

	h.reconfigure("revocation: require", "revocation: prefer")
	h.staleIs("with prefer", "warning "+strings.Replace(ofSub, "are refused", "are accepted unchecked", 1))
	h.reconfigure("files: [root.crl]", "files: [root.crl, sub.crl]")
	h.reconfigure("revocation: prefer", "revocation: require")
	h.staleIs("with all lists")
	if _, out := h.runDaemon("--check"); strings.Contains(out, "no current CRL") {
		t.Errorf("--check with all lists:\n%s", out)
	}
	// A peer of the other CA: its list is missing once somebody was refused for it.
	other := unused.Issue(t, testpki.Name(peerName), testpki.DNS(peerName), testpki.KeyType("rsa-2048"), testpki.CDP("http://crl.example/b.crl"))
	h.put("other", other)
	if err := h.dial(h.listen("ssp-in"), "other"); err == nil {
		t.Error("a peer of the other CA gets in without a list")
	}
	h.staleIs("once a peer of the other CA was refused", strings.NewReplacer("Sub A", "Sub B", subAddress, "http://crl.example/b.crl").Replace("critical "+ofSub))
	h.write("b.crl", unused.CRL(t), 0o644)
	h.reconfigure("files: [root.crl, sub.crl]", "files: [root.crl, sub.crl, b.crl]")
	h.staleIs("with the list of the other CA")
	h.reconfigure("files: [root.crl, sub.crl, b.crl]", "files: [sub.crl, b.crl]")
	h.staleIs("without the list of the root",
		`critical no current CRL of "`+h.root.Cert.Subject.CommonName+`" covers CA "Sub A": peers that need it are refused; nothing fetches `+rootAddress+`: crl.hosts is empty`,
		`critical no current CRL of "`+h.root.Cert.Subject.CommonName+`" covers CA "Sub B": peers that need it are refused; nothing fetches `+rootAddress+`: crl.hosts is empty`)
}

// How bad a list that is not had is follows from who is refused, not from who names it,
// and a list that comes ends it.
func TestListsThatAreNotHad(t *testing.T) {
	t.Parallel()
	var up atomic.Bool
	lists := map[string][]byte{}
	l := listenTCP(t)
	serving(t, l, func(w http.ResponseWriter, r *http.Request) {
		if up.Load() {
			_, _ = w.Write(lists[r.URL.Path])
			return
		}
		http.Error(w, "gone", http.StatusServiceUnavailable)
	})
	h := newHost(t)
	at := "http://" + l.Addr().String()
	h.withAddresses(at+"/sub.crl", at+"/root.crl")
	lists["/sub.crl"], lists["/root.crl"] = h.sub.CRL(t), h.root.CRL(t)
	h.configure(`revocation: require, crl: {refresh: 1s, hosts: ["`+l.Addr().String()+`"]}`, providerSlot, inbound(backend(t)))
	code, out := h.runDaemon("--check")
	if code != 0 || !strings.Contains(out, `environment t: no current CRL of "Sub A": peers will be refused until it is fetched`) || strings.Count(out, "no current CRL") != 2 {
		t.Errorf("--check: %d\n%s", code, out)
	}
	h.start()
	h.until("both are told", func() bool { return len(h.stale()) == 2 })
	for _, line := range h.stale() {
		if !strings.HasPrefix(line, "critical CRL from "+at) || !strings.Contains(line, "was never had; peers that need it are refused") {
			t.Errorf("%s", line)
		}
	}
	h.logged("event=crl_fetch", "level=ERROR", "/sub.crl", "none is in force in its place; peers that need it are refused")
	h.logged("event=crl_fetch", "/root.crl") // an error where it is known already that peers need it
	if strings.Contains(h.output.String(), "what is in force stays") {
		t.Errorf("the log says that something is in force:\n%s", h.output.String())
	}
	up.Store(true)
	h.staleIs("once the server answers")
}

// Who goes from files to fetching, and has no route, is told how bad it is: the list of
// the root is then one that our own chain names.
func TestListsAfterAReload(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	server := freeAddress(t)
	h.withAddresses("http://"+server+"/sub.crl", "http://"+server+"/root.crl")
	h.revocation()
	h.configure("revocation: require, crl: {files: [root.crl, sub.crl]}", providerSlot, inbound(backend(t)))
	h.start()
	h.staleIs("with files")
	h.reconfigure("files: [root.crl, sub.crl]", `refresh: 1s, hosts: ["`+server+`"]`)
	h.until("both are critical", func() bool {
		got := h.stale()
		return len(got) == 2 && strings.HasPrefix(got[0], "critical CRL from") && strings.HasPrefix(got[1], "critical CRL from")
	})
}

// A CA that names no list is refused whatever is fetched.
func TestListsThatHaveNoAddress(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.identity("pcs", providerName)
	h.revocation()
	h.configure(`revocation: require, crl: {hosts: [crl.example], files: [sub.crl]}`, providerSlot, inbound(backend(t)))
	h.start()
	h.staleIs("without the list of the root", `critical no current CRL of "`+h.root.Cert.Subject.CommonName+`" covers CA "`+h.sub.Cert.Subject.CommonName+`": peers that need it are refused; no address of it is known`)
	if _, out := h.runDaemon("--check"); !strings.Contains(out, "and no address of it is known: peers will be refused") {
		t.Errorf("--check:\n%s", out)
	}
	h.reconfigure(`hosts: [crl.example], files: [sub.crl]`, `hosts: [crl.example], files: [root.crl]`)
	h.staleIs("before a peer shows whether it names a list")
	h.identity("peer", peerName)
	if err := h.dial(h.listen("ssp-in"), "peer"); err == nil {
		t.Error("a peer gets in without a list")
	}
	h.staleIs("once it named none", `critical no current CRL of "`+h.sub.Cert.Subject.CommonName+`" covers what it issued: peers that need it are refused; no address of it is known`)
}

// Lists that were never asked for are not missing yet.
func TestLackingLists(t *testing.T) {
	t.Parallel()
	root := testpki.NewRoot(t)
	sub := root.SubCA(t, testpki.Name("Sub A"), testpki.CDP(rootAddress))
	leaf := sub.Issue(t, testpki.Name(providerName), testpki.CDP(subAddress)).Cert
	bundle, err := trust.ParseBundle(trust.Source{Name: "trust.pem", Data: sub.BundlePEM()})
	if err != nil {
		t.Fatal(err)
	}
	state, err := trust.NewState(trust.StateConfig{Environment: "t", Profile: trust.Private, Bundle: bundle, Revocation: trust.Require})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	need := &crlNeed{mode: trust.Require}
	need.use(chainOf(bundle, leaf, nil), leaf)
	both := func(s rotate.CRLStatus) map[string]*rotate.CRLStatus {
		return map[string]*rotate.CRLStatus{subAddress: &s, rootAddress: &s}
	}
	refusal := func(message string) *crlNeed {
		return &crlNeed{mode: trust.Require, refused: []admin.Refusal{{Issuer: "Sub A", Message: message, Time: now}}}
	}
	no := errors.New("not permitted")
	for name, tc := range map[string]struct {
		need     *crlNeed
		asked    map[string]*rotate.CRLStatus
		fetching bool
		want     int
	}{
		"nobody fetches":           {need, nil, false, 2},
		"not known yet":            {need, nil, true, 0},
		"not asked yet":            {need, both(rotate.CRLStatus{}), true, 0},
		"asked in vain":            {need, both(rotate.CRLStatus{Failures: 1, Err: no, Tried: now}), true, 0}, // missingCRL tells
		"may not be asked":         {need, both(rotate.CRLStatus{Err: no}), true, 2},
		"no tunnel looks":          {&crlNeed{cas: need.cas}, nil, false, 0},
		"of a refused peer":        {refusal(`no CRL at hand covers "x" of issuer "Sub A" (http://crl.example/p2.crl)`), nil, true, 1},
		"twice":                    {refusal(`no CRL at hand covers "x" of issuer "Sub A" (http://crl.example/p2.crl, http://crl.example/p2.crl)`), nil, false, 1},
		"clipped":                  {refusal(`no CRL at hand covers "x" of issuer "Sub A" (http://crl.exam...)`), nil, false, 0},
		"of a peer, not asked yet": {refusal(`no CRL at hand covers "x" of issuer "Sub A" (` + subAddress + `)`), both(rotate.CRLStatus{}), true, 0},
	} {
		if got := tc.need.lacking(state, tc.asked, tc.fetching, now); len(got) != tc.want {
			t.Errorf("%s: %+v, want %d", name, got, tc.want)
		}
	}
	way := ruleWay(&rotate.Refusal{Rule: rotate.RuleOlder, Err: no, Advice: "spinecert rotate pcs --allow older"})
	if way != " (spinecert rotate pcs --allow older)" || ruleWay(&rotate.Refusal{Err: no, Advice: "mend it"}) != "" {
		t.Errorf("the way past a rule: %q", way)
	}
	if !need.names(state, subAddress) || !need.names(state, rootAddress) || need.names(state, "http://crl.example/other.crl") {
		t.Error("what peers need is not what the chain names")
	}
}
