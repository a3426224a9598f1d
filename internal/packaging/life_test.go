package packaging

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/spinecert/spinecert/internal/testprogram"
)

// Versions that the test goes between.
const (
	first  = "v0.1.0"
	second = "v0.2.0"
)

// kind is a kind of package, and how it gets into a host and out of it.
type kind struct {
	name          string
	install       []string // with the package after it
	downgrade     []string
	remove, purge []string
	again         string // how the script after an installation is run once more
}

var kinds = []kind{
	{
		name:    "deb",
		install: []string{"dpkg", "--no-triggers", "--install"}, downgrade: []string{"dpkg", "--no-triggers", "--install"},
		remove: []string{"dpkg", "--no-triggers", "--remove", "spinecert"}, purge: []string{"dpkg", "--no-triggers", "--purge", "spinecert"},
		again: "sh /var/lib/dpkg/info/spinecert.postinst configure 0.1.0-1",
	},
	{
		// On Debian, where rpm does not know what is installed, nor that it may.
		name:    "rpm",
		install: []string{"rpm", "--force-debian", "--nodeps", "-U"}, downgrade: []string{"rpm", "--force-debian", "--nodeps", "-U", "--oldpackage"},
		remove: []string{"rpm", "--force-debian", "-e", "spinecert"},
		again:  `rpm -q --qf '%{POSTIN}' spinecert >/root/post.sh && sh /root/post.sh 2`,
	},
}

// TestLife installs, upgrades, downgrades, removes and purges, in a systemd.
func TestLife(t *testing.T) {
	releases := map[string]map[string]string{first: makeOf(t, root(t), first, "release"), second: makeOf(t, root(t), second, "release")}
	t.Run("archive", func(t *testing.T) { archive(t, releases) })
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			testprogram.Need(t, k.install[0])
			h := newHost(t)
			h.Run("rm", "-f", "/usr/sbin/policy-rc.d")
			for version, name := range map[string]string{first: "/root/first", second: "/root/second"} {
				h.PushFile(name, releases[version]["."+k.name], 0o644)
			}
			for _, step := range []struct {
				name string
				run  func(*host, kind)
			}{
				{"fresh", fresh},
				{"serves", serves},
				{"upgrade", upgrade},
				{"repeated", repeated},
				{"refused", refused},
				{"remove", remove},
				{"purge", purge},
			} {
				if step.name == "purge" && k.purge == nil {
					continue
				}
				ok := t.Run(step.name, func(t *testing.T) {
					t.Cleanup(func() {
						if t.Failed() {
							out, _ := h.Exec(context.WithoutCancel(t.Context()), "journalctl", "--no-pager", "-n", "40")
							t.Logf("the journal ends with\n%s", out)
						}
					})
					step.run(h.part(t), k)
				})
				if !ok {
					return
				}
			}
		})
	}
}

// pack runs the package manager.
func (h *host) pack(args []string, more ...string) string {
	h.t.Helper()
	return h.Run(append(append([]string{}, args...), more...)...)
}

// fresh: user and directories are there, nothing runs, and the next step is said.
func fresh(h *host, k kind) {
	out := h.pack(k.install, "/root/first")
	h.says(out, "systemctl enable --now spinecertd", "/usr/share/doc/spinecert/install.md")
	if h.active("spinecertd") || h.active("spinecert-check.timer") {
		h.t.Error("something runs")
	}
	got := h.Run("sh", "-c", "cd "+state+"; stat -c '%a %U:%G %n' . inbox inbox/done inbox/rejected /etc/spinecert /etc/spinecert/trust /etc/spinecert/spinecert.yaml.example; ls /etc/spinecert/*.yaml 2>/dev/null; getent passwd spinecert | cut -d: -f6-")
	want := "710 spinecert:spinecert .\n3770 spinecert:spinecert inbox\n3770 spinecert:spinecert inbox/done\n3770 spinecert:spinecert inbox/rejected\n" +
		"755 root:root /etc/spinecert\n755 root:root /etc/spinecert/trust\n644 root:root /etc/spinecert/spinecert.yaml.example\n/var/lib/spinecert:/usr/sbin/nologin"
	if diff := gocmp.Diff(want, strings.TrimSpace(got)); diff != "" {
		h.t.Errorf("the layout (-want +got):\n%s", diff)
	}
	units := h.Run("sh", "-c", "ls /usr/lib/systemd/system/spinecert*")
	shipped, err := filepath.Glob(filepath.Join(root(h.t), "systemd", "*.service"))
	if err != nil || len(strings.Fields(units)) < len(shipped) {
		h.t.Errorf("the units are\n%s", units)
	}
	if out := h.Run(append([]string{"systemd-analyze", "--man=yes", "verify"}, strings.Fields(units)...)...); out != "" {
		h.t.Errorf("systemd-analyze verify says\n%s", out)
	}
	h.says(h.Run("systemd-analyze", "security", "--no-pager", "spinecertd.service"), "Overall exposure level")
}

// serves: by the page, the daemon comes up in its sandbox, finds its state directory as it should be, and takes what
// a member of the group drops into the inbox.
func serves(h *host, _ kind) {
	h.serve()
	h.answer()
	h.Until("both slots serve", func() bool { return h.ready(first) })
	h.Until("the answer is put aside", func() bool {
		_, err := h.Exec(h.t.Context(), "test", "-s", state+"/inbox/done/answer.pem")
		return err == nil
	})
	if said := h.Ask("state", "verify"); said.Exit != 0 {
		h.t.Errorf("spinecert state verify: %s", said.Result)
	}
	if log := h.journal(); strings.Contains(log, "state_trouble") {
		h.t.Errorf("the state directory is not as it should be:\n%s", log)
	}
	// What ProcSubset=pid would take away.
	most := strings.TrimSpace(h.Run("cat", "/proc/sys/net/core/somaxconn"))
	if got := strings.Fields(h.Run("ss", "-Hltn", "sport = :4430")); len(got) < 3 || got[2] != most {
		h.t.Errorf("the listener is %q, want a queue of %s", got, most)
	}
	h.says(h.Run("curl", "-sS", "http://127.0.0.1:9464/metrics"), "process_start_time_seconds")
	// Nobody but root and the daemon reads keys.
	if out, err := h.Exec(h.t.Context(), "setpriv", "--reuid", "clerk", "--regid", "clerk", "--init-groups", "sh", "-c", "cat "+state+"/slots/*/current/key.pem || ls "+state); err == nil {
		h.t.Errorf("a member of the group reads the state directory: %s", out)
	}
	h.Run("systemctl", "reload", "spinecertd")
}

// upgrade: the daemon that runs becomes the new version, and back, without a restart of the unit.
func upgrade(h *host, k kind) {
	started := h.Run("systemctl", "show", "--value", "-p", "InvocationID", "spinecertd")
	keys, config := h.keys(), h.Run("cat", "/etc/spinecert/spinecert.yaml")
	for _, step := range []struct {
		args          []string
		file, version string
	}{{k.install, "/root/second", second}, {k.downgrade, "/root/first", first}, {k.install, "/root/second", second}} {
		before := h.pid()
		out := h.pack(step.args, step.file)
		h.says(out, "the daemon runs the installed version")
		if h.pid() == before {
			h.t.Errorf("the daemon is the same process:\n%s", out)
		}
		h.Until("it serves", func() bool { return h.ready(step.version) })
	}
	if now := h.Run("systemctl", "show", "--value", "-p", "InvocationID", "spinecertd"); now != started {
		h.t.Error("the unit was restarted")
	}
	if diff := gocmp.Diff(config, h.Run("cat", "/etc/spinecert/spinecert.yaml")); diff != "" {
		h.t.Errorf("the configuration was changed:\n%s", diff)
	}
	if diff := gocmp.Diff(keys, h.keys()); diff != "" {
		h.t.Errorf("the keys were changed:\n%s", diff)
	}
}

// repeated: what was cut short is run again; and where systemd does not run, as in the image of a container.
func repeated(h *host, k kind) {
	h.Run("chmod", "0755", state, state+"/inbox")
	h.Run("sh", "-c", k.again)
	h.Run("sh", "-c", k.again)
	if got := h.Run("stat", "-c", "%a", state, state+"/inbox"); strings.Join(strings.Fields(got), " ") != "710 3770" {
		h.t.Errorf("modes are %q", got)
	}
	out := h.Run("unshare", "--mount", "sh", "-ec", "mount -t tmpfs none /run/systemd; "+k.again)
	if strings.Contains(out, "the daemon") {
		h.t.Errorf("without systemd it says\n%s", out)
	}
	h.Until("it serves", func() bool { return h.ready(second) })
}

// refused: a daemon that does not hand over goes on, and the package is installed all the same.
func refused(h *host, k kind) {
	before := h.pid()
	for what, edit := range map[string]string{
		"it does not take the configuration": "cp -a /etc/spinecert/spinecert.yaml /root/good; echo 'nonsense: 1' >>/etc/spinecert/spinecert.yaml",
		"it knows no such command":           "mv /usr/bin/spinecert /usr/bin/spinecert.real; printf '#!/bin/sh\\nexit 2\\n' >/usr/bin/spinecert; chmod 755 /usr/bin/spinecert",
	} {
		h.Run("sh", "-ec", edit)
		h.says(h.Run("sh", "-c", k.again+" 2>&1"), "the version that ran before goes on serving", "spinecert upgrade")
		h.Run("sh", "-c", "if test -e /root/good; then mv /root/good /etc/spinecert/spinecert.yaml; fi; if test -e /usr/bin/spinecert.real; then mv /usr/bin/spinecert.real /usr/bin/spinecert; fi")
		if h.pid() != before || !h.ready(second) {
			h.t.Errorf("%s: the daemon that ran is gone", what)
		}
	}
}

// remove: the daemon stops, programs and units go, and nothing that somebody made.
func remove(h *host, k kind) {
	keys := h.keys()
	h.pack(k.remove)
	if h.active("spinecertd") {
		h.t.Error("the daemon runs")
	}
	left := h.Run("sh", "-c", "ls -d /usr/bin/spinecert* /usr/lib/systemd/system/spinecert* /usr/share/doc/spinecert /run/spinecert 2>/dev/null || true")
	if left != "" {
		h.t.Errorf("left:\n%s", left)
	}
	h.Run("test", "-s", "/etc/spinecert/spinecert.yaml")
	if diff := gocmp.Diff(keys, h.keys()); diff != "" {
		h.t.Errorf("the keys were changed:\n%s", diff)
	}
	h.Run("id", "spinecert")
}

// purge: keys stay, and are named; without any, the state directory goes.
func purge(h *host, k kind) {
	keys := h.keys()
	h.says(h.pack(k.purge), "kept /var/lib/spinecert", "rm -rf /var/lib/spinecert", "kept /etc/spinecert", "removed /etc/systemd/system/multi-user.target.wants/spinecertd.service")
	if diff := gocmp.Diff(keys, h.keys()); diff != "" {
		h.t.Errorf("the keys were changed:\n%s", diff)
	}
	h.Run("sh", "-ec", "test ! -e /etc/spinecert/spinecert.yaml.example; test -s /etc/spinecert/spinecert.yaml; test -s /etc/spinecert/trust/live.pem")
	h.Run("rm", "-rf", state, "/etc/spinecert")
	h.pack(k.install, "/root/first")
	h.Run("install", "-o", "spinecert", "/dev/null", state+"/.lock")
	h.says(h.pack(k.purge), "removed /var/lib/spinecert, which held nothing")
	h.Run("sh", "-ec", "test ! -e "+state+"; test ! -e /etc/spinecert; test ! -e /run/spinecert; id spinecert")
}
