package unit_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/box"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/internal/testprogram"
	"github.com/spinecert/spinecert/internal/unit"
)

const (
	patience = time.Minute // how long anything may take; each takes a fraction
	ownName  = "pcs.thirdparty.nhs.uk"
	listens  = "127.0.0.1:4430"
	sources  = "/etc/spinecert/credentials/"
)

// host is a box with the shipped unit in it.
type host struct {
	*box.Box
	t   *testing.T
	sub *testpki.Authority

	secrets *[]string // what no log may have
}

func (h *host) part(t *testing.T) *host {
	p := *h
	p.t, p.Box = t, h.For(t)
	return &p
}

func install(t *testing.T) *host {
	t.Helper()
	programs, built := t.TempDir(), make(chan error, 1)
	go func() { built <- build(t, programs) }() // as the box boots
	h := &host{Box: box.Start(t), t: t, secrets: &[]string{"PRIVATE KEY", "first secret", "second secret"}}
	h.sub = testpki.NewRoot(t, testpki.KeyType("ecdsa-p256"), testpki.Name("Test Root Authority")).SubCA(t, testpki.KeyType("ecdsa-p256"), testpki.Name("Test Authentication"))
	if err := <-built; err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"spinecertd", "spinecert"} {
		h.PushFile("/usr/bin/"+name, path.Join(programs, name), 0o755)
	}
	h.PushFile("/usr/lib/systemd/system/spinecertd.service", "../../systemd/spinecertd.service", 0o644)
	h.PushFile("/usr/lib/systemd/system/spinecert-hook@.service", "../../systemd/spinecert-hook@.service", 0o644)
	h.PushFile("/usr/lib/sysusers.d/spinecert.conf", "../../systemd/spinecert.sysusers", 0o644)
	h.PushFile("/usr/lib/tmpfiles.d/spinecert.conf", "../../systemd/spinecert.tmpfiles", 0o644)
	h.Push("/etc/spinecert/live.pem", h.sub.BundlePEM(), 0o644)
	h.Run("systemd-sysusers")
	h.Run("systemd-tmpfiles", "--create", "spinecert.conf")
	h.Run("systemctl", "daemon-reload")
	return h
}

func build(t *testing.T, directory string) error {
	cmd := exec.CommandContext(t.Context(), "go", "build", "-tags", "nethttpomithttp2", "-trimpath", "-o", directory, "github.com/spinecert/spinecert/cmd/spinecertd", "github.com/spinecert/spinecert/cmd/spinecert")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	return nil
}

// configure writes the configuration: the files of the slot, and what follows.
func (h *host) configure(files, rest string) {
	h.t.Helper()
	h.Push("/etc/spinecert/spinecert.yaml", []byte(`environments:
  live: {profile: private, trust: [live.pem], revocation: "off"}
slots:
  pcs: {fqdn: `+ownName+`, files: `+files+`, watch: {poll: 1s}}
`+rest), 0o644)
}

// answer is what a command of spinecert says in JSON.
type answer struct {
	Exit   int             `json:"exit"`
	Result json.RawMessage `json:"result"`
	Error  struct {
		Message string `json:"message"`
	} `json:"error"`
}

func (h *host) spinecert(args ...string) answer {
	h.t.Helper()
	out, err := h.Command(h.t.Context(), append([]string{"/usr/bin/spinecert", "--output", "json"}, args...)...).Output()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		h.t.Fatalf("spinecert %q: %v", args, err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	var a answer
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &a); err != nil {
		h.t.Fatalf("spinecert %q: %v: %s", args, err, out)
	}
	return a
}

// plan is what config systemd prints. It is also what its text has.
func (h *host) plan() unit.Plan {
	h.t.Helper()
	a := h.spinecert("config", "systemd")
	var p unit.Plan
	if err := json.Unmarshal(a.Result, &p); err != nil || a.Exit != 0 {
		h.t.Fatalf("config systemd: exit status %d: %v: %s", a.Exit, err, a.Error.Message)
	}
	text := h.Run("/usr/bin/spinecert", "config", "systemd")
	for _, f := range p.Files {
		if !strings.Contains(text+"\n", f.Content) {
			h.t.Errorf("%s is not in the text:\n%s", f.Path, text)
		}
	}
	return p
}

// copyFiles does with the plan what it says: what comes before, the files, systemctl.
func (h *host) copyFiles(p unit.Plan) {
	h.t.Helper()
	for _, c := range p.Commands {
		if !strings.HasPrefix(c, "systemctl ") {
			h.Run("sh", "-ec", c)
		}
	}
	for _, f := range p.Files {
		h.Push(f.Path, []byte(f.Content), 0o644)
	}
	for _, c := range p.Commands {
		if strings.HasPrefix(c, "systemctl ") {
			h.Run("sh", "-ec", c)
		}
	}
}

// slot is how the slot stands.
type slot struct {
	State  string `json:"state"`
	Source string `json:"source"`
	Error  string `json:"last_error"`
	Hint   string `json:"hint"`
}

func (h *host) slot() slot {
	h.t.Helper()
	var s struct{ Slots []slot }
	if err := json.Unmarshal(h.spinecert("status").Result, &s); err != nil || len(s.Slots) != 1 {
		return slot{}
	}
	return s.Slots[0]
}

// until waits for something to be so.
func (h *host) until(what string, ok func() bool) {
	h.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			h.t.Fatalf("not within %s: %s; the slot: %+v", patience, what, h.slot())
		}
	}
}

// served is the serial number of what the tunnel serves.
func (h *host) served() string {
	out, err := h.Exec(h.t.Context(), "sh", "-c", "openssl s_client -connect "+listens+" </dev/null 2>/dev/null | openssl x509 -noout -serial")
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(out)
}

func serial(l *testpki.Leaf) string { return fmt.Sprintf("serial=%X", l.Cert.SerialNumber.Bytes()) }

func (h *host) issue() *testpki.Leaf {
	own := h.sub.Issue(h.t, testpki.KeyType("ecdsa-p256"), testpki.DNS(ownName))
	*h.secrets = append(*h.secrets, strings.Split(string(own.KeyPEM()), "\n")[1])
	return own
}

// pid is the number of the daemon's main process.
func (h *host) pid() string {
	h.t.Helper()
	return h.Run("systemctl", "show", "--value", "-p", "MainPID", "spinecertd")
}

// doctor returns the lines with the code UNIT that are not ok, with their hints.
func (h *host) doctor() []string {
	h.t.Helper()
	var r struct {
		Lines []struct{ Level, Code, Message, Hint string }
	}
	if err := json.Unmarshal(h.spinecert("doctor").Result, &r); err != nil {
		h.t.Fatal(err)
	}
	var out []string
	seen := false
	for _, l := range r.Lines {
		if strings.Contains(l.Message, "/run/credentials") {
			h.t.Errorf("doctor: %s %s %s", l.Level, l.Code, l.Message)
		}
		if l.Code == "UNIT" {
			seen = true
			if l.Level != "ok" {
				out = append(out, l.Level+" "+l.Message+" // "+l.Hint)
			}
		}
	}
	if !seen {
		h.t.Error("doctor says nothing of the unit")
	}
	return out
}

// finds wants each word in a line of its own, and no other line.
func (h *host) finds(words ...string) {
	h.t.Helper()
	lines := h.doctor()
	for _, word := range words {
		if !strings.Contains(strings.Join(lines, "\n"), word) {
			h.t.Errorf("doctor does not say %q", word)
		}
	}
	if len(lines) != len(words) {
		h.t.Errorf("doctor says %d lines, want %d:\n%s", len(lines), len(words), strings.Join(lines, "\n"))
	}
}

// TestBox plays with the shipped unit in a real systemd. Its parts share a box, in order.
func TestBox(t *testing.T) {
	testprogram.Need(t, "openssl")
	h := install(t)
	for _, part := range []struct {
		name string
		run  func(*host)
	}{
		{"nothing", testNothing},
		{"credentials", testCredentials},
		{"kinds of credentials", testKinds},
		{"quoting", testQuoting},
		{"rights", testRights},
		{"below /run", testRun},
		{"programs", testPrograms},
		{"polkit", testPolkit},
		{"sockets", testSockets},
	} {
		ok := t.Run(part.name, func(t *testing.T) {
			start := time.Now()
			t.Cleanup(func() {
				if t.Failed() {
					out, _ := h.Exec(context.WithoutCancel(t.Context()), "journalctl", "--no-pager", "-o", "cat", "-n", "60")
					t.Logf("the journal ends with\n%s", out)
				}
			})
			part.run(h.part(t))
			t.Logf("took %s", time.Since(start).Round(time.Millisecond))
		})
		if !ok {
			return // the others begin where this one should have ended
		}
	}
	journal := h.Run("journalctl", "--no-pager") + h.Run("cat", "/var/lib/spinecert/audit.jsonl")
	for i, secret := range append(*h.secrets, "panic:") {
		if strings.Contains(journal, secret) {
			t.Errorf("the journal, or the audit file, has secret %d of %d, or a panic", i, len(*h.secrets))
		}
	}
}

// testNothing: files and a high port need nothing beyond the shipped unit.
func testNothing(h *host) {
	own := h.issue()
	h.Push("/etc/spinecert/pcs.crt", own.FullChainPEM(), 0o644)
	h.Push("/etc/spinecert/pcs.key", own.KeyPEM(), 0o640)
	h.Run("chgrp", "spinecert", "/etc/spinecert/pcs.key")
	h.configure("{certificate: pcs.crt, key: pcs.key}", tunnel)
	if p := h.plan(); len(p.Files)+len(p.Commands)+len(p.Notes) > 0 {
		h.t.Errorf("%+v", p)
	}
	if text := h.Run("/usr/bin/spinecert", "config", "systemd"); text != "# nothing is needed beyond the shipped unit" {
		h.t.Errorf("text %q", text)
	}
	h.Run("systemctl", "start", "spinecertd")
	h.until("the tunnel serves", func() bool { return h.served() == serial(own) })
	h.finds()
	h.Run("systemctl", "stop", "spinecertd")
}

const tunnel = `tunnels:
  in: {direction: inbound, listen: ["` + listens + `"], forward: "127.0.0.1:80", slot: pcs, peers: [a.b]}
`
