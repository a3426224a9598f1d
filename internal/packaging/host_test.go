package packaging

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/spinecert/spinecert/internal/box"
	"github.com/spinecert/spinecert/internal/hostbox"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
)

const (
	ownName  = "pcs.thirdparty.nhs.uk"
	meshName = "x26hc001.x26.api.mesh-client.nhs.uk"
	state    = "/var/lib/spinecert"
)

// host is a box that the package is installed in.
type host struct {
	hostbox.Host
	t   *testing.T
	sub *testpki.Authority
}

func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{Host: hostbox.New(t, box.Start(t), "/usr/bin/spinecert"), t: t}
	h.sub = testpki.NewRoot(t, testpki.KeyType("ecdsa-p256"), testpki.Name("Test Root Authority")).SubCA(t, testpki.KeyType("ecdsa-p256"), testpki.Name("Test Authentication"))
	return h
}

// part is the host for a part of the test.
func (h *host) part(t *testing.T) *host { return &host{Host: h.Host.For(t), t: t, sub: h.sub} }

// page returns the commands of a section of docs/install.md, its first block without a language.
func page(t *testing.T, section string) string {
	t.Helper()
	_, after, found := strings.Cut(text(t, "docs/install.md"), "\n## "+section+"\n")
	_, block, opened := strings.Cut(after, "\n```\n")
	commands, _, closed := strings.Cut(block, "\n```\n")
	if !found || !opened || !closed {
		t.Fatalf("docs/install.md has no commands in section %q", section)
	}
	return commands
}

// do runs the commands of a section of the page in the box.
func (h *host) do(section string) string {
	h.t.Helper()
	return h.Run("sh", "-ec", "cd /root\n"+page(h.t, section))
}

// example returns the configuration of the page, with a private PKI, on a port that needs no right, and with a managed slot more.
func (h *host) example() []byte {
	h.t.Helper()
	_, after, _ := strings.Cut(text(h.t, "docs/install.md"), "\n## 4. Configuration\n")
	_, block, _ := strings.Cut(after, "\n```yaml\n")
	config, _, ok := strings.Cut(block, "\n```\n")
	for _, edit := range [][2]string{
		{"trust: [trust/live.pem]", "trust: [trust/live.pem]\n    profile: private\n    revocation: \"off\""},
		{"tunnels:\n", "  mesh: {fqdn: " + meshName + ", managed: {key: ecdsa-p256}}\ntunnels:\n"},
	} {
		ok = ok && strings.Count(config, edit[0]) == 1
		config = strings.Replace(config, edit[0], edit[1], 1)
	}
	if !ok {
		h.t.Fatal("docs/install.md has no configuration that this test can change")
	}
	return []byte(config + "\n")
}

// serve makes the host one that serves, as the page says.
func (h *host) serve() {
	h.t.Helper()
	own := h.sub.Issue(h.t, testpki.KeyType("ecdsa-p256"), testpki.DNS(ownName))
	h.Push("/root/pcs.key", own.KeyPEM(), 0o600)
	h.Push("/root/pcs.crt", own.FullChainPEM(), 0o644)
	h.Push("/etc/spinecert/trust/live.pem", h.sub.BundlePEM(), 0o644)
	h.do("3. Certificate and key")
	h.Push("/etc/spinecert/spinecert.yaml", h.example(), 0o644)
	h.Run("setpriv", "--reuid", "spinecert", "--regid", "spinecert", "--init-groups", "spinecert", "config", "check")
	h.do("5. Start")
}

// answer has the managed slot ask for a certificate and drops one into the inbox, as a member of the group who is not root.
func (h *host) answer() {
	h.t.Helper()
	if said := h.Ask("csr", "new", "--slot", "mesh"); said.Exit != 0 {
		h.t.Fatalf("spinecert csr new: %+v", said)
	}
	key := h.Run("sh", "-c", "cat "+state+"/slots/mesh/requests/*/key.pem")
	parsed, err := pki.ParseKey([]byte(key))
	if err != nil {
		h.t.Fatal(err)
	}
	leaf := h.sub.Issue(h.t, testpki.Key(parsed), testpki.DNS(meshName))
	h.Push("/root/answer.pem", leaf.FullChainPEM(), 0o644)
	h.Run("useradd", "--no-create-home", "--groups", "spinecert", "clerk")
	h.Run("install", "-o", "clerk", "-m", "0644", "/root/answer.pem", "/tmp/answer.pem")
	h.Run("setpriv", "--reuid", "clerk", "--regid", "clerk", "--init-groups", "cp", "/tmp/answer.pem", state+"/inbox/answer.pem")
}

// active reports whether a unit runs.
func (h *host) active(unit string) bool {
	_, err := h.Exec(h.t.Context(), "systemctl", "--quiet", "is-active", unit)
	return err == nil
}

// ready reports whether the daemon answers, in this version, and all its slots serve.
func (h *host) ready(version string) bool {
	var status struct {
		Version string
		Slots   []struct{ State string }
	}
	if said := h.Ask("status"); said.Exit != 0 || json.Unmarshal(said.Result, &status) != nil {
		return false
	}
	for _, slot := range status.Slots {
		if slot.State != "ready" {
			return false
		}
	}
	return status.Version == version && len(status.Slots) == 2
}

// journal is what the daemon logged.
func (h *host) journal() string {
	return h.Run("journalctl", "--no-pager", "-u", "spinecertd")
}

// pid is the main process of the daemon.
func (h *host) pid() string {
	return strings.TrimSpace(h.Run("systemctl", "show", "--value", "-p", "MainPID", "spinecertd"))
}

// keys are the private keys of the host, by path, with their digests.
func (h *host) keys() string {
	return h.Run("sh", "-c", "find "+state+" /etc/spinecert -name '*key*' -type f -exec sha256sum {} + | sort")
}

// says fails unless a text has all the words.
func (h *host) says(what string, words ...string) {
	h.t.Helper()
	for _, word := range words {
		if !strings.Contains(what, word) {
			h.t.Errorf("it does not say %q:\n%s", word, what)
		}
	}
}
