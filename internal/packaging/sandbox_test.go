package packaging

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/spinecert/spinecert/internal/box"
)

// probe runs package probe in the place of a unit's program and returns what can be done there, by verb.
func (h *host) probe(unit string) map[string][]string {
	h.t.Helper()
	name := "probe-" + filepath.Base(h.t.Name())
	h.Push("/etc/systemd/system/"+unit+".d/90-probe.conf", []byte("[Service]\nType=oneshot\nRestart=no\nWatchdogSec=0\nSyslogIdentifier="+name+"\nExecStart=\nExecStart=/usr/bin/probe\n"), 0o644)
	h.Run("systemctl", "daemon-reload")
	h.Run("systemctl", "restart", unit)
	h.Run("journalctl", "--sync")
	can := map[string][]string{}
	for line := range strings.Lines(h.Run("journalctl", "--no-pager", "--output=cat", "--identifier="+name)) {
		if verb, path, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			can[verb] = append(can[verb], path)
		}
	}
	if can["done"] == nil {
		h.t.Fatalf("the probe did not end: %v", can)
	}
	return can
}

// testSandbox: what docs/hardening.md says of writing and executing is so, for every mount of the sandbox.
func testSandbox(t *testing.T, deb string) {
	h := installed(t, deb)
	h.PushFile("/usr/bin/probe", box.Build(t, "github.com/spinecert/spinecert/internal/packaging/probe"), 0o755)
	h.Run("sh", "-ec", "install -d -o spinecert /etc/nginx/spine /srv/spinecert")
	own := []string{"/run/spinecert", "/tmp", "/var/lib/spinecert", "/var/tmp"}
	check := func(t *testing.T, unit string, writes []string) {
		can := h.part(t).probe(unit)
		t.Log(can)
		for verb, want := range map[string][]string{"write": writes, "exec": nil} {
			got := slices.Compact(slices.Sorted(slices.Values(can[verb])))
			if diff := gocmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", verb, diff)
			}
		}
		for _, path := range can["executable"] {
			if slices.Contains(can["rw"], path) {
				t.Errorf("%s is mounted writable and executable", path)
			}
		}
		for _, verb := range []string{"rw", "chown"} {
			for _, path := range can[verb] {
				// /run/host is that of the box, below another mount of the same.
				if !slices.Contains(writes, path) && path != "/proc" && !strings.HasPrefix(path, "/run/host/") {
					t.Errorf("%s: %s", verb, path)
				}
			}
		}
	}
	t.Run("shipped", func(t *testing.T) { check(t, "spinecertd.service", own) })
	t.Run("check", func(t *testing.T) { check(t, "spinecert-check.service", []string{"/tmp", "/var/tmp"}) })
	t.Run("drop-ins", func(t *testing.T) {
		h := h.part(t)
		h.Push("/etc/spinecert/spinecert.yaml", []byte(`environments: {live: {profile: private, trust: [live.pem], revocation: "off"}}
slots: {pcs: {files: {certificate: a, key: b}}}
state: {directory: /srv/spinecert}
services:
  nginx: {slot: pcs, deliver: {directory: /etc/nginx/spine, files: [{format: combined, name: both.pem, owner: www-data}]}, reload: none, probe: none}
`), 0o644)
		dropIn := h.Run("spinecert", "config", "systemd")
		h.says(dropIn, "CAP_CHOWN", "ReadWritePaths=-/etc/nginx/spine", "ReadWritePaths=-/srv/spinecert")
		_, dropIn, _ = strings.Cut(dropIn, "\n[Service]\n")
		dropIn, _, _ = strings.Cut(dropIn, "\n\n")
		h.Push("/etc/systemd/system/spinecertd.service.d/50-spinecert.conf", []byte("[Service]\n"+dropIn+"\n"), 0o644)
		check(t, "spinecertd.service", slices.Sorted(slices.Values(append([]string{"/etc/nginx/spine", "/srv/spinecert"}, own...))))
	})
}
