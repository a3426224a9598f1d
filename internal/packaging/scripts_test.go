package packaging

import (
	"context"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spinecert/spinecert/internal/testprogram"
)

// TestDeb: what the deb promises, each on a host of its own.
func TestDeb(t *testing.T) {
	testprogram.Need(t, "dpkg")
	deb := Deb(t)
	for _, part := range []struct {
		name string
		run  func(*testing.T, string)
	}{
		{"sandbox", testSandbox},
		{"purge keeps", testPurgeKeeps},
		{"installed again", testReinstall},
		{"upgrade asks nobody", testUpgradeAsksNobody},
		{"the installed program", testInstalledProgram},
		{"readers", testReaders},
		{"pages name files", testPagesNameFiles},
		{"queries show the daemon alone", testQueriesShowTheDaemonAlone},
	} {
		t.Run(part.name, func(t *testing.T) { part.run(t, deb) })
	}
}

// installed is a host with a deb in it, which is there as /root/first.
func installed(t *testing.T, deb string) *host {
	t.Helper()
	h := newHost(t)
	h.PushFile("/root/first", deb, 0o644)
	Install(t, h.Box, deb)
	return h
}

func (h *host) dpkg(args ...string) string {
	h.t.Helper()
	return h.Run(append([]string{"sh", "-c", `exec dpkg --no-triggers "$@" 2>&1`, "sh"}, args...)...)
}

// testPurgeKeeps: a purge deletes nothing of what anybody put into the state directory, wherever it is there, and says what it did.
func testPurgeKeeps(t *testing.T, deb string) {
	h := installed(t, deb)
	for _, file := range []string{"live/slots/pcs/generations/1/key.pem", "pcs/pcs.key", ".ssh/id", "inbox/x.pem", "trust.d/live/1.pem", "audit.jsonl", "live/.lock"} {
		t.Run(file, func(t *testing.T) {
			h := h.part(t)
			h.dpkg("--install", "/root/first")
			h.Run("install", "-D", "-o", "spinecert", "-m", "0600", "/etc/hostname", state+"/"+file)
			out := h.dpkg("--purge", "spinecert")
			h.says(out, "kept "+state, "rm -rf "+state)
			h.Run("test", "-s", state+"/"+file)
			h.Run("rm", "-r", state)
		})
	}
	t.Run("a mount", func(t *testing.T) {
		h := h.part(t)
		h.dpkg("--install", "/root/first")
		h.Run("mount", "-t", "tmpfs", "none", state)
		if out := h.dpkg("--purge", "spinecert"); strings.Contains(out, "removed "+state) {
			t.Errorf("it is there, and the package says\n%s", out)
		}
		h.Run("umount", state)
	})
}

// testReinstall: what was enabled and is removed, or was about to be, comes back with the package. Nothing of it runs meanwhile.
func testReinstall(t *testing.T, deb string) {
	h := installed(t, deb)
	h.serve()
	h.Push("/etc/systemd/system/spinecertd-web.socket", []byte("[Socket]\nService=spinecertd.service\nListenStream=127.0.0.1:4431\n[Install]\nWantedBy=sockets.target\n"), 0o644)
	h.Push("/etc/systemd/system/spinecert-hook@x:reload.service.d/x.conf", []byte("[Service]\nType=exec\nExecStart=\nExecStart=/usr/bin/sleep 300\n"), 0o644)
	h.Run("systemctl", "daemon-reload")
	h.Run("systemctl", "stop", "spinecertd")
	h.Run("systemctl", "enable", "--now", "spinecertd-web.socket", "spinecert-check.timer")
	units := []string{"spinecertd-web.socket", "spinecertd.service", "spinecert-check.timer"}
	for _, step := range [][2]string{
		{"dpkg --no-triggers --remove spinecert", "dpkg --no-triggers --install /root/first"},
		{"sh /var/lib/dpkg/info/spinecert.prerm remove", "sh /var/lib/dpkg/info/spinecert.postinst abort-remove"},
	} {
		t.Run(step[1], func(t *testing.T) {
			h := h.part(t)
			h.Run("systemctl", "start", "spinecertd", "spinecert-hook@x:reload.service")
			h.Run("sh", "-c", step[0])
			for _, unit := range append(units, "spinecert-hook@x:reload.service") {
				if h.active(unit) {
					t.Errorf("%s is active after the removal", unit)
				}
			}
			out := h.Run("sh", "-c", step[1])
			for _, unit := range units {
				h.says(out, "started "+unit)
				if !h.active(unit) {
					t.Errorf("%s is not active", unit)
				}
			}
		})
	}
	t.Run("broken", func(t *testing.T) {
		h := h.part(t)
		h.dpkg("--remove", "spinecert")
		h.Run("rm", "/etc/spinecert/spinecert.yaml")
		h.says(h.dpkg("--install", "/root/first"), "spinecertd.service is enabled and does not run")
	})
}

// testUpgradeAsksNobody: a version with another example goes over a host whose configuration is the operator's, with nobody there to answer.
func testUpgradeAsksNobody(t *testing.T, deb string) {
	h := installed(t, deb)
	h.serve()
	second := filepath.Join(t.TempDir(), "second.deb")
	script := `dpkg-deb -R "$1" "$2"
sed -i 's/^Version: .*/Version: 0.2.0-1/' "$2/DEBIAN/control"
echo "# a new key" >>"$2$(cat "$2/DEBIAN/conffiles")"
dpkg-deb --root-owner-group -Zgzip -z1 -b "$2" "$3"`
	if out, err := exec.CommandContext(t.Context(), "sh", "-ec", script, "sh", deb, filepath.Join(t.TempDir(), "x"), second).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	h.PushFile("/root/second", second, 0o644)
	before, config := h.pid(), h.Run("cat", "/etc/spinecert/spinecert.yaml")
	h.dpkg("--install", "/root/second")
	if h.pid() == before {
		t.Error("the daemon is still the old process")
	}
	if h.Run("cat", "/etc/spinecert/spinecert.yaml") != config {
		t.Error("the configuration was changed")
	}
	h.says(h.Run("cat", "/etc/spinecert/spinecert.yaml.example"), "# a new key")
}

// testInstalledProgram: root runs the program of the package, not one of the same name that is earlier in the PATH.
func testInstalledProgram(t *testing.T, deb string) {
	h := installed(t, deb)
	h.serve()
	h.Push("/usr/local/bin/spinecert", []byte("#!/bin/sh\necho $* >>/root/local; exit 1\n"), 0o755)
	h.says(h.Run("sh", "-c", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin dpkg --no-triggers --install /root/first 2>&1"), "the daemon runs the installed version")
	_, _ = h.Exec(t.Context(), "systemctl", "start", "spinecert-hook@x:reload.service")
	if out := h.Run("sh", "-c", "cat /root/local 2>/dev/null || true"); out != "" {
		t.Errorf("/usr/local/bin/spinecert ran, with %q", out)
	}
	if post := text(t, "packaging/rpm/post.sh"); regexp.MustCompile(`(?m)^[^"#]*[^/"]\bspinecert upgrade`).MatchString(post) {
		t.Error("the script of the rpm looks for spinecert in the PATH")
	}
}

// testReaders: who may ask the daemon, as docs/check.md has it, reads no key and puts nothing into the inbox; nor does the check by itself.
func testReaders(t *testing.T, deb string) {
	h := installed(t, deb)
	h.serve()
	h.Run("useradd", "--system", "nagios2")
	commands := block(t, "docs/check.md", "Whoever asks the daemon")
	h.Run("sh", "-ec", "printf '  socket: {group: spinecert-status}\\n' >>/etc/spinecert/spinecert.yaml\n"+strings.ReplaceAll(commands, "nagios", "nagios2"))
	as := func(args ...string) (string, error) {
		return h.Exec(context.WithoutCancel(t.Context()), append([]string{"setpriv", "--reuid", "nagios2", "--regid", "nagios2", "--init-groups"}, args...)...)
	}
	if out, err := as("cat", "/etc/spinecert/pcs/pcs.key"); err == nil || strings.Contains(out, "PRIVATE KEY") {
		t.Error("the user of the monitoring reads the private key")
	}
	if _, err := as("cp", "/etc/hostname", state+"/inbox/x.pem"); err == nil {
		t.Error("it writes into the inbox")
	}
	if out, err := as("spinecert", "check", "--slot", "pcs"); !strings.Contains(out, "pcs expires in ") {
		t.Errorf("the daemon does not answer it: %v\n%s", err, out)
	}
	h.Push("/etc/systemd/system/spinecert-check.service.d/x.conf", []byte("[Service]\nExecStart=\nExecStart=/usr/bin/spinecert status\n"), 0o644)
	h.Run("systemctl", "daemon-reload")
	h.Run("systemctl", "start", "spinecert-check.service")
	h.Push("/etc/systemd/system/spinecert-check.service.d/x.conf", []byte("[Service]\nExecStart=\nExecStart=/usr/bin/spinecert inspect /etc/spinecert/pcs/pcs.key\n"), 0o644)
	h.Run("systemctl", "daemon-reload")
	if out, err := h.Exec(t.Context(), "systemctl", "start", "spinecert-check.service"); err == nil {
		t.Errorf("spinecert-check.service reads the private key %s", out)
	}
}

// testPagesNameFiles: what pages have the operator copy is in the package, and not elsewhere.
func testPagesNameFiles(t *testing.T, deb string) {
	h := installed(t, deb)
	pages, err := filepath.Glob(filepath.Join(root(t), "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob(filepath.Join(root(t), "docs", "services", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile(`/usr/share/doc/spinecert/[\w@./-]*\w|/etc/spinecert/spinecert\.yaml\.example`)
	found := 0
	for _, page := range slices.Concat(pages, more) {
		name, err := filepath.Rel(root(t), page)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range named.FindAllString(text(t, name), -1) {
			found++
			if _, err := h.Exec(t.Context(), "test", "-e", path); err != nil {
				t.Errorf("%s names %s, which the package has not", name, path)
			}
		}
	}
	if found < 3 {
		t.Errorf("pages name %d files of the package", found)
	}
}

// block returns the commands that follow some words of a page, without their prompts.
func block(t *testing.T, page, words string) string {
	t.Helper()
	_, after, found := strings.Cut(text(t, page), words)
	_, block, opened := strings.Cut(after, "\n```\n")
	commands, _, closed := strings.Cut(block, "\n```\n")
	if !found || !opened || !closed {
		t.Fatalf("%s has no commands after %q", page, words)
	}
	return regexp.MustCompile(`(?m)^\$ `).ReplaceAllString(commands, "")
}
