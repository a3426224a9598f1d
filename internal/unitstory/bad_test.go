package unitstory

import (
	"fmt"
	"strings"
	"testing"
)

// plain is a service without a probe.
func plain(name, directory, reload, key string) string {
	return fmt.Sprintf(`  %s:
    slot: pcs
    deliver:
      directory: %s
      files:
        - {format: fullchain, name: server.crt}
        - {format: key, name: server.key%s}
    reload: %s
    probe: none
`, name, directory, key, reload)
}

// directories makes directories of the daemon that its unit may write to.
func (h *host) directories(names ...string) {
	h.t.Helper()
	for _, name := range names {
		h.Run("install", "-d", "-o", "spinecert", "-g", "spinecert", "-m", "0755", name)
	}
	h.Push(dropIns+"test.conf", []byte("[Service]\nReadWritePaths="+strings.Join(names, " ")+"\n"), 0o644)
	h.restart()
}

// testRules lets the daemon have its way with the units of testBadUnits.
const testRules = `polkit.addRule(function (action, subject) {
	if (action.id === "org.freedesktop.systemd1.manage-units" && subject.user === "spinecert" && /^test-/.test(action.lookup("unit"))) {
		return polkit.Result.YES;
	}
	return polkit.Result.NOT_HANDLED;
});
`

// testBadUnits: each ends in a state of its own, and nginx does not notice.
func testBadUnits(h *host) {
	h.Push("/etc/polkit-1/rules.d/60-test.rules", []byte(testRules), 0o644)
	h.Run("systemctl", "restart", "polkit")
	// Each does what it should not the next time that there is a file of its name.
	h.Push("/etc/systemd/system/test-exits.service", []byte("[Service]\nExecStart=/bin/sleep infinity\nExecReload=/bin/sh -c 'rm /run/exits 2>/dev/null || exit 0; kill $MAINPID; while kill -0 $MAINPID 2>/dev/null; do sleep 0.05; done'\n"), 0o644)
	h.Push("/etc/systemd/system/test-hangs.service", []byte("[Service]\nTimeoutStartSec=5s\nExecStart=/bin/sleep infinity\nExecReload=/bin/sh -c 'rm /run/hangs 2>/dev/null && sleep infinity; true'\n"), 0o644)
	h.directories("/srv/missing", "/srv/wrong", "/srv/exits", "/srv/hangs")
	h.Run("systemctl", "start", "test-exits", "test-hangs")
	h.configure("missing", plain("missing", "/srv/missing", "{unit: test-none.service}", ""))
	h.configure("wrong", plain("wrong", "/srv/wrong", "{unit: ngnix.service}", "")) // polkit does not know it, either
	h.configure("exits", plain("exits", "/srv/exits", "{unit: test-exits.service}", ""))
	h.configure("hangs", plain("hangs", "/srv/hangs", "{unit: test-hangs.service, timeout: 2s}", ""))
	h.says(h.state("missing", "failed", "reload", "unit_missing"), "test-none.service")
	h.says(h.state("wrong", "failed", "reload", "unit_missing"), "ngnix.service", "is the name right?")
	h.settled("exits")
	h.settled("hangs")

	old := h.own
	started := h.Run("systemctl", "show", "--value", "-p", "ExecMainStartTimestampMonotonic", "test-exits")
	h.Push("/run/exits", nil, 0o644)
	h.Push("/run/hangs", nil, 0o644)
	h.rotate()
	h.settled("nginx")
	h.says(h.state("exits", "held", "reload", "unit_inactive"), "test-exits.service", "journalctl -u test-exits.service")
	h.holds("/srv/exits/current/server.crt", old)
	if now := h.Run("systemctl", "show", "--value", "-p", "ExecMainStartTimestampMonotonic", "test-exits"); now == started || h.Run("systemctl", "is-active", "test-exits") != "active" {
		h.t.Error("the unit that ended over its reload was not started again")
	}
	// systemd waits for the reload command that hangs, and goes back only then.
	h.says(h.state("hangs", "held", "reload", "timeout"), "test-hangs.service", "longer timeout")
	h.holds("/srv/hangs/current/server.crt", old)
	h.deliver(0, "exits", "--now")
	h.deliver(0, "hangs", "--now")
	h.settled("exits")
	h.settled("hangs")
	if jobs := h.Run("systemctl", "list-jobs", "--no-pager"); !strings.Contains(jobs, "No jobs") {
		h.t.Errorf("jobs are left:\n%s", jobs)
	}
	for _, name := range []string{"missing", "wrong", "exits", "hangs"} {
		h.configure(name, "")
	}

	// The unit for commands is not installed.
	const hook = "/etc/systemd/system/spinecert-hook@.service"
	old = h.own
	h.Run("mv", hook, "/run/hook.away")
	h.Run("systemctl", "daemon-reload")
	h.rotate()
	h.says(h.state("nginx", "failed", "validate", "unit_missing"), "install spinecert-hook@.service", "systemctl daemon-reload")
	h.serves(nginxSite, old)
	h.Run("mv", "/run/hook.away", hook)
	h.Run("systemctl", "daemon-reload")
	h.settled("nginx") // by itself
	h.soon(nginxSite, h.own)
}

// testBrokenInclude: what nginx refuses is taken back, and held until somebody says so.
func testBrokenInclude(h *host) {
	old := h.own
	h.Push("/etc/nginx/extra.conf", []byte("no such directive;\n"), 0o644)
	h.rotate()
	h.says(h.state("nginx", "held", "validate", "validate_failed"), "exit status 1", "spinecert-hook@nginx:validate.service")
	h.holds(nginxFile, old)
	h.serves(nginxSite, old)
	h.deliver(3, "nginx")
	h.Run("rm", "/etc/nginx/extra.conf")
	h.deliver(3, "nginx") // it is held
	h.serves(nginxSite, old)
	h.deliver(0, "nginx", "--now")
	h.settled("nginx")
	h.soon(nginxSite, h.own)
}

// testStopped: a service that is down gets its files, and has them when it comes back.
func testStopped(h *host) {
	h.Run("systemctl", "stop", "nginx")
	h.deliver(3, "nginx")
	h.says(h.state("nginx", "failed", "prove", "unreachable"), nginxSite)
	h.rotate()
	h.says(h.state("nginx", "failed", "reload", "unit_inactive"), "systemctl start nginx.service")
	h.holds(nginxFile, h.own)
	h.Run("systemctl", "start", "nginx")
	h.settled("nginx") // by itself
	h.soon(nginxSite, h.own)
}

// testPermissions: what the unit does not give fails, and the hint names what does.
func testPermissions(h *host) {
	h.Run("groupadd", "--system", "others")
	h.directories("/srv/group", "/srv/owner")
	h.Run("install", "-d", "-o", "spinecert", "-g", "spinecert", "-m", "0755", "/srv/outside")
	h.configure("outside", plain("outside", "/srv/outside", "none", ""))
	h.configure("group", plain("group", "/srv/group", "none", ", group: others"))
	h.configure("owner", plain("owner", "/srv/owner", "none", ", owner: postgres"))
	h.says(h.state("outside", "failed", "deliver", "not_writable"), "read-only file system", "ReadWritePaths=/srv/outside")
	h.says(h.state("group", "failed", "deliver", "not_writable"), "to group others", "SupplementaryGroups=others")
	h.says(h.state("owner", "failed", "deliver", "not_writable"), "to user postgres", "AmbientCapabilities=CAP_CHOWN", "CapabilityBoundingSet=CAP_CHOWN")
	for _, dir := range []string{"/srv/outside", "/srv/group", "/srv/owner"} {
		if left := h.Run("ls", "-A", dir); left != "" {
			h.t.Errorf("in %s is left: %s", dir, left)
		}
	}
	// spinecert doctor says the same of each.
	out, _ := h.Exec(h.t.Context(), "/usr/bin/spinecert", "doctor")
	for _, word := range []string{"ReadWritePaths=/srv/outside", "SupplementaryGroups=others", "CapabilityBoundingSet=CAP_CHOWN"} {
		if !strings.Contains(out, word) {
			h.t.Errorf("doctor does not say %q:\n%s", word, out)
		}
	}
	// What is not there keeps the daemon from starting, unless it may be missing.
	for _, bad := range []struct{ text, status string }{{"ReadWritePaths=/srv/nowhere", "226"}, {"SupplementaryGroups=nowhere", "216"}, {"ReadWritePaths=-/srv/nowhere", "0"}} {
		h.Push(dropIns+"hint.conf", []byte("[Service]\n"+bad.text+"\n"), 0o644)
		h.Run("systemctl", "daemon-reload")
		_, _ = h.Exec(h.t.Context(), "systemctl", "restart", "spinecertd")
		if got := h.Run("systemctl", "show", "--value", "-p", "ExecMainStatus", "spinecertd"); got != bad.status {
			h.t.Errorf("with %s the daemon has status %s, want %s", bad.text, got, bad.status)
		}
	}
	// What the hints say.
	h.Push(dropIns+"hint.conf", []byte("[Service]\nReadWritePaths=/srv/outside\nSupplementaryGroups=others\nCapabilityBoundingSet=CAP_CHOWN\nAmbientCapabilities=CAP_CHOWN\n"), 0o644)
	h.restart()
	for _, name := range []string{"outside", "group", "owner"} {
		h.settled(name)
	}
	for _, name := range []string{"outside", "group", "owner"} {
		h.configure(name, "")
	}
	h.Run("rm", dropIns+"hint.conf")
	h.restart()
	h.settled("nginx")
}

// testRestart: a delivery that waits in a command goes on in the next daemon, and the
// command does not run twice at once.
func testRestart(h *host) {
	const log, gate = "/run/slow.log", "/run/slow.gate"
	h.Push("/usr/local/sbin/slow", []byte("#!/bin/sh\nexec 9>/run/slow.lock\nflock -n 9 || echo twice >>"+log+"\necho began >>"+log+"\nuntil test -e "+gate+"; do sleep 0.05; done\necho ended >>"+log+"\n"), 0o755)
	h.Push(gate, nil, 0o644)
	h.directories("/srv/slow")
	h.configure("slow", plain("slow", "/srv/slow", "{exec: [/usr/local/sbin/slow]}", ""))
	h.settled("slow")
	for _, how := range []string{"restart", "kill"} {
		h.t.Run(how, func(t *testing.T) {
			p := h.part(t)
			h.Run("rm", "-f", gate, log)
			h.own = p.rotate()
			p.own = h.own
			p.Until("the command runs", func() bool { return p.log(log) == "began" })
			run := p.Run("systemctl", "show", "--value", "-p", "InvocationID", "spinecert-hook@slow:reload")
			if how == "restart" {
				p.Run("systemctl", "restart", "spinecertd")
			} else {
				p.Run("systemctl", "kill", "--kill-who=main", "--signal=KILL", "spinecertd")
			}
			p.Until("the next daemon runs it anew", func() bool { return p.log(log) == "began began" })
			if now := p.Run("systemctl", "show", "--value", "-p", "InvocationID", "spinecert-hook@slow:reload"); now == run {
				t.Error("it is the same run of the unit")
			}
			if s, _ := p.service("slow"); s.State != "delivering" {
				t.Errorf("while the command runs the service is %+v", s)
			}
			p.Push(gate, nil, 0o644)
			p.settled("slow")
			p.settled("nginx")
			p.soon(nginxSite, p.own)
			if got := p.log(log); got != "began began ended" {
				t.Errorf("the command %s", got)
			}
			if got := p.Run("ls", "/srv/slow"); len(strings.Fields(got)) != 2 {
				t.Errorf("sets are left: %s", got)
			}
		})
	}
	h.configure("slow", "")
}

// log returns the words of a file; none where it is not there.
func (h *host) log(name string) string {
	out, _ := h.Exec(h.t.Context(), "cat", name)
	if strings.Contains(out, "No such file") {
		return ""
	}
	return strings.Join(strings.Fields(out), " ")
}

// testOwner: a file that is PostgreSQL's own, and a command that runs as its user.
func testOwner(h *host) {
	h.commands(only(h.t, blocksOf(h.t, "services/systemd.md"), "A file that must belong to another user", ""))
	h.Push("/run/postgres.log", nil, 0o666)
	h.Run("chmod", "0666", "/run/postgres.log")
	// It reads the key as its owner, and says who it is.
	h.Push("/usr/local/sbin/pg_ctl", []byte("#!/bin/sh\nset -e\ngrep -q PRIVATE \"$SPINECERT_DIRECTORY/current/key.pem\"\nid -un >>/run/postgres.log\n"), 0o755)
	h.Push(ownerPath, []byte(files(h.t, blocksOf(h.t, "services/systemd.md"))[ownerPath]), 0o644)
	h.restart()
	h.configure("postgresql", h.example("A file that must belong to another user", "/usr/lib/postgresql/15/bin/pg_ctl", "/usr/local/sbin/pg_ctl"))
	h.settled("postgresql")
	const key = "/etc/spine/postgresql/current/key.pem"
	is := func() {
		h.t.Helper()
		if got := h.Run("stat", "-L", "-c", "%U %a", key); got != "postgres 600" {
			h.t.Errorf("the key is %s", got)
		}
	}
	is()
	caps := h.Run("sh", "-c", `grep -E '^(CapEff|CapBnd):' /proc/$(systemctl show --value -p MainPID spinecertd)/status`)
	if caps != "CapEff:\t0000000000000001\nCapBnd:\t0000000000000001" {
		h.t.Errorf("the daemon has %q", caps)
	}
	if out, err := h.Exec(h.t.Context(), "setpriv", "--reuid", "spinecert", "--regid", "spinecert", "--init-groups", "cat", key); err == nil {
		h.t.Errorf("the user of the daemon reads the key: %d bytes", len(out))
	}
	h.rotate()
	h.settled("postgresql")
	is()
	if got := h.log("/run/postgres.log"); got != "postgres postgres" {
		h.t.Errorf("the command ran as %q", got)
	}
	// Somebody changes it, and leaves size, mode and time as they were.
	set := h.Run("readlink", "/etc/spine/postgresql/current")
	h.deliver(0, "postgresql")
	if now := h.Run("readlink", "/etc/spine/postgresql/current"); now != set {
		h.t.Error("what nobody changed was delivered anew")
	}
	h.Run("sh", "-ec", "cd /etc/spine/postgresql/current; touch -r key.pem /run/then; printf x | dd of=key.pem bs=1 seek=100 conv=notrunc status=none; touch -r /run/then key.pem")
	h.deliver(0, "postgresql")
	s := h.settled("postgresql")
	if now := h.Run("readlink", "/etc/spine/postgresql/current"); now == set {
		h.t.Errorf("what was changed is still there: %+v", s)
	}
	is()
	if out := h.Run("journalctl", "--no-pager", "-u", "spinecertd"); !strings.Contains(out, key[:len("/etc/spine/postgresql/")]) || !strings.Contains(out, "it was changed") {
		h.t.Error("the log does not say what was changed")
	}
	// Without the capability what is there stays, and nothing new comes.
	h.Run("rm", ownerPath)
	h.Push(dropIns+"test.conf", []byte("[Service]\nReadWritePaths=/etc/spine/postgresql\n"), 0o644)
	h.restart()
	old := h.own
	h.rotate()
	h.says(h.state("postgresql", "failed", "deliver", "not_writable"), "to user postgres", "CAP_CHOWN")
	h.holds("/etc/spine/postgresql/current/fullchain.pem", old)
	h.settled("nginx")
}
