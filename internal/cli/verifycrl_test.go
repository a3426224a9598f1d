package cli

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
)

// listWorld is a configuration whose CRLs are to be had from a server.
type listWorld struct {
	config  string
	good    string // files
	revoked string
	server  *httptest.Server
	asked   atomic.Int64
	answer  atomic.Pointer[http.HandlerFunc]

	rootList, subList, otherPartition []byte
}

// newListWorld serves the lists of a root and a subCA; answer may take their place.
func newListWorld(t *testing.T, hosts string) *listWorld {
	t.Helper()
	w := &listWorld{}
	lists := map[string][]byte{}
	w.server = httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
		w.asked.Add(1)
		if f := w.answer.Load(); f != nil {
			(*f)(out, in)
			return
		}
		_, _ = out.Write(lists[in.URL.Path])
	}))
	t.Cleanup(w.server.Close)
	dir := t.TempDir()
	root := testpki.NewRoot(t, testpki.Name("Fetch Root"))
	sub := root.SubCA(t, testpki.Name("Fetch Authentication"), testpki.CDP(w.server.URL+"/root.crl"))
	good, bad := sub.Issue(t, testpki.DNS("good.nhs.uk"), testpki.CDP(w.server.URL+"/sub.crl")), sub.Issue(t, testpki.DNS("bad.nhs.uk"), testpki.CDP(w.server.URL+"/sub.crl"))
	lists["/root.crl"], lists["/sub.crl"] = root.CRL(t), sub.CRL(t, testpki.Revoke(bad.Cert.SerialNumber))
	w.rootList, w.subList = lists["/root.crl"], lists["/sub.crl"]
	w.otherPartition = sub.CRL(t, testpki.IDP(w.server.URL+"/other.crl"), testpki.Revoke(good.Cert.SerialNumber))
	put := func(name string, data []byte) string {
		testpki.WriteFile(t, filepath.Join(dir, name), data, 0o600)
		return filepath.Join(dir, name)
	}
	put("trust.pem", sub.BundlePEM())
	put("stale/sub.crl", sub.CRL(t, testpki.ThisUpdate(time.Now().Add(-49*time.Hour)), testpki.NextUpdate(time.Now().Add(-48*time.Hour))))
	put("lists/root.crl", lists["/root.crl"])
	put("lists/sub.PEM", testpki.EncodeCRL(lists["/sub.crl"]))
	put("lists/note.txt", []byte("no list"))
	put("none/note.txt", []byte("no list"))
	w.good, w.revoked = put("good.pem", good.FullChainPEM()), put("bad.pem", bad.FullChainPEM())
	if hosts == "" {
		hosts = strings.TrimPrefix(w.server.URL, "http://")
	}
	w.config = put("spinecert.yaml", []byte(fmt.Sprintf("environments: {live: {profile: private, trust: [trust.pem], crl: {hosts: [%q], timeout: 5s}}}\nstate: {directory: state}\n", hosts)))
	return w
}

func (w *listWorld) beside(name string) string { return filepath.Join(filepath.Dir(w.config), name) }

// TestVerifyFetchesCRLs: what is missing is asked for, and it is said where from.
func TestVerifyFetchesCRLs(t *testing.T) {
	t.Parallel()
	w := newListWorld(t, "")
	exit, r, _ := verifyJSON(t, "--config", w.config, w.good)
	if exit != exitDone || r.Revocation != "good" || len(r.Notes) != 2 || !slices.Contains(r.Notes, "the CRL of Fetch Root was fetched from "+w.server.URL+"/root.crl") {
		t.Errorf("exit %d, %+v", exit, r)
	}
	if exit, r, _ := verifyJSON(t, "--config", w.config, w.revoked); exit != exitJudged || r.Reason != "revoked" {
		t.Errorf("exit %d, %+v", exit, r)
	}
	if exit, r, _ := verifyJSON(t, "--config", w.config, "--revocation", "prefer", w.revoked); exit != exitJudged || r.Reason != "revoked" {
		t.Errorf("prefer: exit %d, %+v", exit, r)
	}
	// A list that is too old is a list that is missing.
	if exit, r, _ := verifyJSON(t, "--config", w.config, "--crl", w.beside("stale/sub.crl"), w.good); exit != exitDone || len(r.Notes) != 2 {
		t.Errorf("stale: exit %d, %+v", exit, r)
	}
}

// TestVerifyAsksNobody: not where the date is another one, revocation is off, nothing
// is missing, or the host is not permitted.
func TestVerifyAsksNobody(t *testing.T) {
	t.Parallel()
	w := newListWorld(t, "")
	lists := []string{"--crl", w.beside("lists")}
	for name, c := range map[string]struct {
		args   []string
		exit   int
		reason string
	}{
		"another date":   {[]string{"--config", w.config, "--at", time.Now().Add(time.Minute).UTC().Format(time.RFC3339)}, exitJudged, "crl_unavailable"},
		"off":            {[]string{"--config", w.config, "--revocation", "off"}, exitDone, ""},
		"at hand":        {append([]string{"--config", w.config}, lists...), exitDone, ""},
		"trust alone":    {[]string{"--trust", w.beside("trust.pem")}, exitDone, ""},
		"another host":   {[]string{"--trust", w.beside("trust.pem"), "--revocation", "require"}, exitJudged, "crl_unavailable"},
		"no list in dir": {[]string{"--config", w.config, "--crl", w.beside("none")}, exitFailed, ""},
	} {
		exit, r, fault := verifyJSON(t, append(c.args, w.good)...)
		if exit != c.exit || r.Reason != c.reason || (exit != exitDone) != (fault.Hint != "") {
			t.Errorf("%s: exit %d, %+v, %+v", name, exit, r, fault)
		}
		if name == "another host" && !strings.Contains(fault.Message, "fetch ") {
			t.Errorf("%s: %s", name, fault.Message)
		}
	}
	if n := w.asked.Load(); n != 0 {
		t.Errorf("%d requests", n)
	}
}

// TestVerifyCannotFetch: the reason stays, and the sentence says what became of asking.
func TestVerifyCannotFetch(t *testing.T) {
	t.Parallel()
	w := newListWorld(t, "")
	other := testpki.NewRoot(t).CRL(t)
	for name, answer := range map[string]http.HandlerFunc{
		"gone":           func(out http.ResponseWriter, _ *http.Request) { out.WriteHeader(http.StatusNotFound) },
		"noise":          func(out http.ResponseWriter, _ *http.Request) { _, _ = out.Write([]byte("<html>log in first</html>")) },
		"a foreign list": func(out http.ResponseWriter, _ *http.Request) { _, _ = out.Write(other) },
	} {
		w.answer.Store(&answer)
		exit, r, fault := verifyJSON(t, "--config", w.config, w.good)
		if exit != exitJudged || r.Reason != "crl_unavailable" || !strings.Contains(r.Detail, w.server.URL+"/sub.crl\": ") || fault.Hint == "" {
			t.Errorf("%s: exit %d, %+v, %+v", name, exit, r, fault)
		}
		exit, r, _ = verifyJSON(t, "--config", w.config, "--revocation", "prefer", w.good)
		if exit != exitDone || r.Unchecked != "crl_unavailable" || len(r.Notes) != 2 || !strings.Contains(r.Notes[0], w.server.URL) {
			t.Errorf("prefer, %s: exit %d, %+v", name, exit, r)
		}
	}
}

// TestVerifyWaitsForNoList: one that does not come takes --timeout, and no longer.
func TestVerifyWaitsForNoList(t *testing.T) {
	t.Parallel()
	w := newListWorld(t, "")
	var hang http.HandlerFunc = func(_ http.ResponseWriter, in *http.Request) { <-in.Context().Done() }
	w.answer.Store(&hang)
	if exit, r, _ := verifyJSON(t, "--config", w.config, "--timeout", "100ms", w.good); exit != exitJudged || r.Reason != "crl_unavailable" || !strings.Contains(r.Detail, "fetch ") {
		t.Errorf("exit %d, %+v", exit, r)
	}
}

// TestVerifyFetchesNotFromInside: a name in crl.hosts permits no private address.
func TestVerifyFetchesNotFromInside(t *testing.T) {
	t.Parallel()
	w := newListWorld(t, "crl.nhs.uk")
	exit, r, fault := verifyJSON(t, "--config", w.config, w.good)
	if exit != exitJudged || r.Reason != "crl_unavailable" || w.asked.Load() != 0 || !strings.Contains(fault.Hint, "crl.hosts") {
		t.Errorf("exit %d, %+v, %+v", exit, r, fault)
	}
}
