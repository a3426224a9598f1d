package unitstory

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/hostbox"
	"github.com/spinecert/spinecert/internal/testpki"
)

const ownName = "pcs.thirdparty.nhs.uk"

// host is a box with spinecertd in it, and the PKI of its slot.
type host struct {
	hostbox.Host
	t   *testing.T
	sub *testpki.Authority
	own *testpki.Leaf // what the files of the slot hold

	services map[string]string // what the configuration has, by name
	order    []string
}

// part is the host for a part of the test.
func (h *host) part(t *testing.T) *host {
	p := *h
	p.t, p.Host = t, h.Host.For(t)
	return &p
}

// rotate puts a new certificate and key into the files of the slot, each by rename.
func (h *host) rotate() *testpki.Leaf {
	h.t.Helper()
	h.own = h.sub.Issue(h.t, testpki.KeyType("ecdsa-p256"), testpki.DNS(ownName))
	h.Push("/etc/spinecert/pcs/pcs.key.new", h.own.KeyPEM(), 0o640)
	h.Push("/etc/spinecert/pcs/pcs.crt.new", h.own.FullChainPEM(), 0o644)
	h.Run("sh", "-ec", "cd /etc/spinecert/pcs; chown root:spinecert pcs.key.new; mv pcs.key.new pcs.key; mv pcs.crt.new pcs.crt")
	return h.own
}

// configure writes the configuration with a service in it, or without it if text is
// "", and has a daemon that runs read it.
func (h *host) configure(name, text string) {
	h.t.Helper()
	if h.services[name] == "" {
		h.order = append(h.order, name)
	}
	h.services[name] = text
	config := fmt.Sprintf(`environments:
  live: {profile: private, trust: [trust/live.pem], revocation: "off"}
slots:
  pcs: {fqdn: %s, files: {certificate: pcs/pcs.crt, key: pcs/pcs.key}, watch: {poll: 1s}}
services:
`, ownName)
	for _, name := range h.order {
		config += h.services[name]
	}
	h.Push("/etc/spinecert/spinecert.yaml", []byte(config), 0o644)
	if _, err := h.Exec(h.t.Context(), "systemctl", "--quiet", "is-active", "spinecertd"); err == nil {
		h.Run("systemctl", "reload", "spinecertd")
	}
}

// restart starts the daemon anew, with the drop-ins that are there now.
func (h *host) restart() {
	h.t.Helper()
	h.Run("systemctl", "daemon-reload")
	h.Run("systemctl", "restart", "spinecertd")
}

// service returns what `spinecert services` says of one, and whether it is there.
func (h *host) service(name string) (admin.Service, bool) {
	h.t.Helper()
	var all struct {
		Services []admin.Service `json:"services"`
	}
	_ = json.Unmarshal(h.Ask("services").Result, &all) // none: the daemon does not answer
	for _, s := range all.Services {
		if s.Name == name {
			return s, true
		}
	}
	return admin.Service{}, false
}

// state waits until a service stands as wanted: state, step and reason.
func (h *host) state(name, state, step, reason string) admin.Service {
	h.t.Helper()
	for end := time.Now().Add(hostbox.Patience); ; time.Sleep(50 * time.Millisecond) {
		s, ok := h.service(name)
		if ok && s.State == state && s.Step == step && s.Reason == reason {
			return s
		}
		if time.Now().After(end) {
			h.t.Fatalf("%s is not %s at step %q because of %q, but: %+v", name, state, step, reason, s)
		}
	}
}

// settled waits until a service is in sync with what the files of the slot hold.
func (h *host) settled(name string) admin.Service {
	h.t.Helper()
	var s admin.Service
	h.Until(name+" is in sync with the files of the slot", func() bool {
		s, _ = h.service(name)
		return s.State == "in_sync" && s.Proved.Leaf == hostbox.Fingerprint(h.own)
	})
	d, p := s.Delivered, s.Proved
	if d.Digest != p.Digest || d.Generation != p.Generation || d.Leaf != p.Leaf || s.Desired.Digest != p.Digest {
		h.t.Errorf("%s is in sync, and was delivered something else: %+v", name, s)
	}
	return s
}

// deliver is `spinecert deliver`, with a wanted exit status.
func (h *host) deliver(want int, args ...string) {
	h.t.Helper()
	if a := h.Ask(append([]string{"deliver"}, args...)...); a.Exit != want {
		h.t.Errorf("spinecert deliver %q: exit status %d, want %d; code %q, %s", args, a.Exit, want, a.Error.Code, a.Result)
	}
}

// serves wants a leaf at an address of the box, as a program sees it that knows
// nothing of the daemon.
func (h *host) serves(address string, want *testpki.Leaf) {
	h.t.Helper()
	if got, err := h.look(address); err != nil || got != hostbox.Fingerprint(want) {
		h.t.Errorf("%s serves %q, %v; want %s", address, got, err, hostbox.Fingerprint(want))
	}
}

// soon is serves for what was delivered just now. A worker of before that has not heard
// of the reload yet may take a connection after the handshakes of the proof.
func (h *host) soon(address string, want *testpki.Leaf) {
	h.t.Helper()
	h.Until(address+" serves what was delivered", func() bool {
		got, err := h.look(address)
		return err == nil && got == hostbox.Fingerprint(want)
	})
}

// look returns the fingerprint of what is served.
func (h *host) look(address string) (string, error) {
	out, err := h.Exec(h.t.Context(), "sh", "-c", "openssl s_client -connect "+address+" -servername "+ownName+" </dev/null 2>/dev/null | openssl x509 -noout -fingerprint -sha256")
	_, hexes, _ := strings.Cut(strings.TrimSpace(out), "=")
	return strings.ToLower(strings.ReplaceAll(hexes, ":", "")), err
}

// holds wants a leaf in the file that a service reads.
func (h *host) holds(file string, want *testpki.Leaf) {
	h.t.Helper()
	if got := h.Run("openssl", "x509", "-in", file, "-noout", "-serial"); got != fmt.Sprintf("serial=%X", want.Cert.SerialNumber.Bytes()) {
		h.t.Errorf("%s holds %s, want %X", file, got, want.Cert.SerialNumber.Bytes())
	}
}

// says wants words in the error or the hint of a service.
func (h *host) says(s admin.Service, words ...string) {
	h.t.Helper()
	for _, word := range words {
		if !strings.Contains(s.LastError+"\n"+s.Hint, word) {
			h.t.Errorf("%s: %q, hint %q: does not say %q", s.Name, s.LastError, s.Hint, word)
		}
	}
}
