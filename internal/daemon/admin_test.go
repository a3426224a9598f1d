package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/internal/testprogram"
)

// socketClient talks to the admin socket without the client package.
func (h *host) socketClient() *http.Client { return through(h.t, h.path("admin.sock")) }

// auditLines returns the lines of audit.jsonl of one event.
func (h *host) auditLines(event string) []auditLine {
	h.t.Helper()
	data, err := os.ReadFile(h.path("state/audit.jsonl"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		h.t.Fatal(err)
	}
	var out []auditLine
	for line := range bytes.Lines(data) {
		var l auditLine
		if err := json.Unmarshal(line, &l); err != nil {
			h.t.Fatalf("audit line %q: %v", line, err)
		}
		if l.Event == event {
			out = append(out, l)
		}
	}
	return out
}

const nobody = 65534

// TestAdminPeerCredentials asks as another user, who is let in by the mode of the
// socket or not, and whose uid the kernel tells the daemon.
func TestAdminPeerCredentials(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("needs root to become another user")
	}
	curl := testprogram.Need(t, "curl")
	h, _ := simpleHost(t)
	data := mustRead(t, h.path("spinecert.yaml"))
	h.write("spinecert.yaml", bytes.Replace(data, []byte(`group: "0"`), fmt.Appendf(nil, `group: "%d"`, nobody), 1), 0o600)
	if err := os.Chmod(h.dir, 0o711); err != nil {
		t.Fatal(err)
	}
	h.start()
	as := func(uid, gid uint32, args ...string) (string, int) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, curl, append([]string{"-sS", "--unix-socket", h.path("admin.sock")}, args...)...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: gid}}
		cmd.Dir = "/"
		out, _ := cmd.CombinedOutput()
		return string(out), cmd.ProcessState.ExitCode()
	}
	if out, code := as(nobody, nobody, "http://d/v1/status"); code != 0 || !strings.Contains(out, `"slots":[`) {
		t.Errorf("the group of the socket may not read: %d %s", code, out)
	}
	if out, code := as(nobody, 12345, "http://d/v1/status"); code != 7 { // could not connect
		t.Errorf("a stranger may read: %d %s", code, out)
	}
	for path, body := range map[string]string{"rotate": `{"slot":"pcs"}`, "reload": `{}`} {
		out, _ := as(nobody, nobody, "-w", "%{http_code}", "-d", body, "http://d/v1/"+path)
		if !strings.HasSuffix(out, "403") || !strings.Contains(out, `"code":"forbidden"`) || !strings.Contains(out, `"hint":`) {
			t.Errorf("%s as another user: %s", path, out)
		}
		h.until("the attempt is audited", func() bool {
			return slices.ContainsFunc(h.auditLines("forbidden"), func(l auditLine) bool {
				return l.Reason == path && l.Actor.UID == nobody && l.Actor.PID > 1 && l.Actor.Via == "socket"
			})
		})
	}
	h.logged("event=forbidden", "action=reload", fmt.Sprint("uid=", nobody))
	if n := len(h.auditLines("rotate")) + len(h.auditLines("reload")); n != 0 {
		t.Errorf("%d changes were made all the same", n)
	}
	// A writer is a writer by its uid, whatever group it comes with.
	h.reconfigure(`writers: ["0"]`, fmt.Sprintf(`writers: ["0", "%d"]`, nobody))
	if out, _ := as(nobody, nobody, "-w", "%{http_code}", "-d", "{}", "http://d/v1/reload"); !strings.HasSuffix(out, "200") {
		t.Errorf("reload by a writer: %s", out)
	}
	h.until("who reloaded is audited", func() bool {
		return slices.ContainsFunc(h.auditLines("reload"), func(l auditLine) bool { return l.Actor.UID == nobody })
	})
}

func TestAdminRequests(t *testing.T) {
	t.Parallel()
	h, _ := simpleHost(t)
	h.start()
	h.until("all is ready", func() bool { return h.status().Ready })
	c := h.socketClient()
	for _, tc := range []struct {
		name, method, path, body string
		status                   int
		code                     string
	}{
		{"unknown endpoint", "GET", "/v1/nonsense", "", 400, admin.CodeUsage},
		{"root", "GET", "/", "", 400, admin.CodeUsage},
		{"status with POST", "POST", "/v1/status", "{}", 400, admin.CodeUsage},
		{"rotate with GET", "GET", "/v1/rotate", "", 400, admin.CodeUsage},
		{"unknown slot", "POST", "/v1/rotate", `{"slot":"nope"}`, 404, admin.CodeUnknown},
		{"no slot", "POST", "/v1/rotate", `{}`, 404, admin.CodeUnknown},
		{"unknown rule", "POST", "/v1/rotate", `{"slot":"pcs","allow":["everything"]}`, 400, admin.CodeUsage},
		{"unknown field", "POST", "/v1/rotate", `{"slot":"pcs","force":true}`, 400, admin.CodeUsage},
		{"no JSON", "POST", "/v1/rotate", `slot=pcs`, 400, admin.CodeUsage},
		{"no body", "POST", "/v1/reload", "", 400, admin.CodeUsage},
		{"oversized body", "POST", "/v1/rotate", `{"slot":"` + strings.Repeat("a", 2<<20) + `"}`, 400, admin.CodeUsage},
		{"good", "POST", "/v1/rotate", `{"slot":"pcs"}`, 200, ""},
	} {
		req, err := http.NewRequest(tc.method, "http://d"+tc.path, strings.NewReader(tc.body))
		if err != nil {
			t.Fatal(err)
		}
		res, err := c.Do(req)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		var answer struct{ Error admin.Error }
		err = json.NewDecoder(res.Body).Decode(&answer)
		_ = res.Body.Close()
		if err != nil || res.StatusCode != tc.status || answer.Error.Code != tc.code || len(answer.Error.Message) > 300 {
			t.Errorf("%s: %d %+v, %v; want %d %q", tc.name, res.StatusCode, answer.Error, err, tc.status, tc.code)
		}
	}
	if !h.status().Ready {
		t.Error("the daemon suffers")
	}
}

// An override is for one candidate, once.
func TestAdminRotateAllowsOnce(t *testing.T) {
	t.Parallel()
	h, first := simpleHost(t)
	h.start()
	h.serves("ssp-in", first)
	ctx := context.Background()
	older := func(days int) *testpki.Leaf {
		return h.identity("pcs", providerName, testpki.Validity(time.Now().AddDate(0, 0, -days), time.Now().AddDate(1, 0, -days)))
	}
	refused := func(generation uint64) {
		t.Helper()
		res, err := h.client.Rotate(ctx, admin.RotateRequest{Slot: "pcs"})
		var e *admin.Error
		if !errors.As(err, &e) || e.Code != admin.CodeRefused || e.Hint == "" || res.Rotated || res.Slot.Generation != generation {
			t.Fatalf("an older certificate: %+v, %v", res, err)
		}
	}
	leaf := older(10)
	refused(1)
	res, err := h.client.Rotate(ctx, admin.RotateRequest{Slot: "pcs", Allow: []string{"older"}})
	if err != nil || !res.Rotated || res.Slot.Generation != 2 || res.Slot.State != "ready" {
		t.Fatalf("allowed: %+v, %v", res, err)
	}
	h.serves("ssp-in", leaf)
	for range 2 { // published once: what is there already is no news
		if res, err = h.client.Rotate(ctx, admin.RotateRequest{Slot: "pcs", Allow: []string{"older"}}); err != nil || res.Rotated || res.Slot.Generation != 2 {
			t.Fatalf("again: %+v, %v", res, err)
		}
	}
	older(20)
	refused(2)
	lines := h.auditLines("rotate")
	if i := slices.IndexFunc(lines, func(l auditLine) bool { return l.Reason == "older" && l.From == 1 && l.To == 2 }); i < 0 || lines[i].Actor.UID != os.Getuid() || lines[i].Digest == "" {
		t.Errorf("audit: %+v", lines)
	}
}

// The keys of CONTRACT.md, section 3, are all there when there is something to say.
func TestStatusKeys(t *testing.T) {
	t.Parallel()
	h, first := simpleHost(t)
	h.configure(`revocation: "off"`, `  pcs: {fqdn: pcs.thirdparty.nhs.uk, files: {certificate: pcs.crt, key: pcs.key}, affects: {ods: [T99999], asids: ["999999999999"], note: GP Connect}}`, inbound(backend(t)))
	h.start()
	h.serves("ssp-in", first)
	h.write("pcs.crt", []byte("nonsense"), 0o644)
	h.until("the slot says why", func() bool { return h.slot("pcs").LastError != "" })
	h.write("spinecert.yaml", []byte("nonsense: 1\n"), 0o600)
	if _, err := h.client.Reload(context.Background()); err == nil {
		t.Fatal("nonsense was taken")
	}
	_, _, body, err := fetch(h.socketClient(), "http://d/v1/status")
	if err != nil {
		t.Fatal(err)
	}
	var answer struct{ Result map[string]any }
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Fatal(err)
	}
	first1 := func(key string) any {
		list, _ := answer.Result[key].([]any)
		if len(list) == 0 {
			t.Fatalf("%s is empty in %s", key, body)
		}
		return list[0]
	}
	for name, tc := range map[string]struct {
		object any
		keys   string
	}{
		"status":     {answer.Result, "version pid started ready config environments slots tunnels services requests conditions"},
		"config":     {answer.Result["config"], "file loaded error"},
		"slots":      {first1("slots"), "name environment state generation fqdn not_after serial sha256 source pending_since last_error affects"},
		"conditions": {first1("conditions"), "code subject severity since message hint"},
	} {
		object, _ := tc.object.(map[string]any)
		for _, key := range strings.Fields(tc.keys) {
			if v, ok := object[key]; !ok || v == nil {
				t.Errorf("%s has no %s: %v", name, key, object)
			}
		}
	}
	for _, key := range []string{"services", "requests"} {
		if _, ok := answer.Result[key].([]any); !ok {
			t.Errorf("%s is not a list", key)
		}
	}
}
