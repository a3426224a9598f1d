package unit_test

import (
	"regexp"
	"strings"

	"github.com/spinecert/spinecert/internal/unit"
)

// page is what a sink runs: a shell that starts other programs. It says what it sees from inside of the sandbox.
const page = `#!/bin/sh
set -e
cat >/dev/null
cp /usr/bin/true /var/lib/spinecert/own
for own in /var/lib/spinecert/own "/usr/local/bin/sub dir%/other"; do
	if "$own" 2>/dev/null; then echo "ran $own"; else echo "refused $own"; fi
done
id -un
awk '$5 ~ "^/usr" {print "mount", $5, $6}' /proc/self/mountinfo
`

// testPrograms: what a sink runs is executed in the daemon's sandbox with the drop-in that is printed, and not without. Nothing can be written by it.
func testPrograms(h *host) {
	h.Push("/usr/local/bin/page", []byte("#!/bin/sh\nexec '/usr/local/bin/sub dir%/page' \"$@\" >/var/lib/spinecert/page.out\n"), 0o755)
	h.Push("/usr/local/bin/sub dir%/page", []byte(page), 0o755)
	h.Push("/usr/local/bin/sub dir%/other", []byte("#!/bin/sh\nexit 0\n"), 0o755)
	h.configure("{certificate: pcs.crt, key: pcs.key}", "alerts: {sinks: {page: {type: exec, command: [/usr/local/bin/page]}}}\n")
	p := h.plan()
	if len(p.Files) != 1 || p.Files[0].Path != unit.DropIn || len(p.Notes) > 0 {
		h.t.Fatalf("%+v", p)
	}
	// The same sandbox, around the program in place of the daemon.
	around := h.Run("cat", "/usr/lib/systemd/system/spinecertd.service")
	for _, change := range []struct{ line, to string }{
		{`ExecStart=.*`, "ExecStart=/usr/local/bin/page"}, {`ExecReload=.*`, ""}, {`Type=.*`, "Type=oneshot"}, {`Restart=.*`, ""}, {`WatchdogSec=.*`, ""}, {`NotifyAccess=.*`, ""},
	} {
		around = regexp.MustCompile("(?m)^"+change.line+"$").ReplaceAllString(around, change.to)
	}
	h.Push("/etc/systemd/system/around.service", []byte(around), 0o644)
	h.Run("systemctl", "daemon-reload")
	if out, err := h.Exec(h.t.Context(), "systemctl", "start", "around"); err == nil {
		h.t.Errorf("the shipped unit executes it: %s", out)
	}
	h.Push("/etc/systemd/system/around.service.d/50-spinecert.conf", []byte(p.Files[0].Content), 0o644)
	h.Run("systemctl", "daemon-reload")
	if out, err := h.Exec(h.t.Context(), "systemctl", "start", "around"); err != nil {
		h.t.Fatalf("%s\n%s", out, h.Run("journalctl", "--no-pager", "-o", "cat", "-n", "5", "-u", "around"))
	}
	got := h.Run("cat", "/var/lib/spinecert/page.out")
	for _, want := range []string{"refused /var/lib/spinecert/own\n", "ran /usr/local/bin/sub dir%/other\n", "\nspinecert\n", "\nmount /usr/lib ", "\nmount /usr/local/bin "} {
		if !strings.Contains(got+"\n", want) {
			h.t.Errorf("%q is missing", want)
		}
	}
	for line := range strings.Lines(got) {
		if strings.HasPrefix(line, "mount ") && !strings.Contains(line, " ro,") {
			h.t.Errorf("not read-only: %s", line)
		}
	}
	if h.t.Failed() {
		h.t.Log(got)
	}
	// The daemon itself starts with it, and nothing is missing any more.
	h.copyFiles(p)
	h.finds()
	h.Run("systemctl", "stop", "spinecertd")
	h.Run("rm", "-r", "/etc/systemd/system/spinecertd.service.d", "/etc/systemd/system/around.service.d", "/etc/systemd/system/around.service")
	h.Run("systemctl", "daemon-reload")
}
