package daemon

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/rotate"
)

// list finds a list of the status by where it came from.
func (h *host) list(origin string) admin.CRL {
	h.t.Helper()
	for _, c := range h.status().Environments[0].CRLs {
		if c.Origin == origin {
			return c
		}
	}
	return admin.CRL{}
}

// TestStatusOfCRLs: of each list it is said where from, until when, and what became
// of asking; and --check asks nobody.
func TestStatusOfCRLs(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	var asked atomic.Int64
	var down atomic.Bool
	lists := map[string][]byte{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if data := lists[r.URL.Path]; data != nil && !down.Load() {
			_, _ = w.Write(data)
			return
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	t.Cleanup(server.Close)
	lists["/sub.crl"] = h.sub.CRL(t, testpki.Number(7))
	h.write("root.crl", h.root.CRL(t), 0o644)
	h.identity("pcs", providerName, testpki.CDP(server.URL+"/sub.crl"))
	h.configure(`revocation: require, crl: {refresh: 1s, files: [root.crl], hosts: ["`+strings.TrimPrefix(server.URL, "http://")+`"]}`, providerSlot, inbound(backend(t)))
	h.start()
	own := server.URL + "/sub.crl"
	h.until("our own list is in force", func() bool { return h.list(own).InForce })
	if c := h.list(own); c.Source != admin.CRLOfOwn || c.Address != own || c.Number != "7" || c.Fetched.IsZero() || c.Tried.IsZero() || !c.Next.After(c.Tried.Time) || c.NextUpdate.IsZero() || c.SHA256 == "" {
		t.Errorf("%+v", c)
	}
	if c := h.list(h.path("root.crl")); c.Source != admin.CRLOfFile || !c.InForce || c.Address != "" || c.Covers == nil || !c.Next.IsZero() {
		t.Errorf("%+v", c)
	}
	down.Store(true)
	h.until("it is said that the server fails", func() bool { return h.list(own).Failures > 0 })
	if c := h.list(own); !c.InForce || !strings.Contains(c.Error, "503") || c.Hint == "" {
		t.Errorf("%+v", c)
	}
	h.stop(sigTerm)

	kept, err := filepath.Glob(h.path("state/crl/t/*.crl"))
	if err != nil || len(kept) != 1 {
		t.Fatalf("%q, %v", kept, err)
	}
	before, file := asked.Load(), kept[0]
	was, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if report, ready, err := Check(context.Background(), Options{ConfigFile: h.path("spinecert.yaml")}); err != nil || !ready {
		t.Errorf("check: %s, %v", report, err)
	}
	if n := asked.Load() - before; n != 0 {
		t.Errorf("--check asked %d times", n)
	}
	if is, err := os.Stat(file); err != nil || !os.SameFile(was, is) {
		t.Errorf("--check changed the list: %v", err)
	}
	// What is kept is in force at once, although nobody answers.
	h.start()
	h.until("the kept list is in force", func() bool { return h.list(own).InForce })
}

// TestCarriedCRLNeedsAName: and an environment that is there.
func TestCarriedCRLNeedsAName(t *testing.T) {
	t.Parallel()
	h, _ := simpleHost(t)
	h.start()
	ctx := context.Background()
	data := h.root.CRL(t)
	for name, c := range map[string]struct {
		r    admin.CarryRequest
		code string
	}{
		"no environment": {admin.CarryRequest{Environment: "other", Name: "a.crl", Data: data}, admin.CodeUnknown},
		"no name":        {admin.CarryRequest{Environment: "t", Data: data}, admin.CodeUsage},
		"no list":        {admin.CarryRequest{Environment: "t", Name: "a.crl"}, admin.CodeRefused},
		"a path":         {admin.CarryRequest{Environment: "t", Name: "../../etc/a.crl", Data: data}, ""},
	} {
		out, err := h.client.CarryCRL(ctx, c.r)
		e, ok := errors.AsType[*admin.Error](err)
		if (err == nil) != (c.code == "") || err != nil && (!ok || e.Code != c.code) {
			t.Errorf("%s: %+v, %v", name, out, err)
		}
		if err == nil && strings.Contains(out.CRL.Origin, "..") {
			t.Errorf("%s: %+v", name, out)
		}
	}
}

// TestCheckIsAlone: a check may be over before anybody was asked, which proves nothing.
func TestCheckIsAlone(t *testing.T) {
	t.Parallel()
	plan := alone(rotate.Plan{Environments: []rotate.EnvironmentConfig{{Name: "a", Fetch: rotate.CRLFetch{Hosts: []string{"crl.nhs.uk"}}}, {Name: "b"}}})
	for _, e := range plan.Environments {
		if len(e.Fetch.Hosts) > 0 {
			t.Errorf("%s asks %q", e.Name, e.Fetch.Hosts)
		}
	}
}
