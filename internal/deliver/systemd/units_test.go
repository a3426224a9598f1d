package systemd

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/box"
	"github.com/spinecert/spinecert/internal/deliver/failure"
	"github.com/spinecert/spinecert/internal/testprogram"
)

// units of the box, beside Debian's nginx.service.
var units = map[string]string{
	"test-noreload.service": "ExecStart=/bin/sleep infinity",
	"test-hang.service":     "ExecStart=/bin/sleep infinity\nExecReload=/bin/sleep infinity",
	"test-late.service":     "ExecStart=/bin/sleep infinity\nExecReload=/bin/sleep infinity\nTimeoutStartSec=1s",
	"test-fail.service":     "ExecStart=/bin/sleep infinity\nExecReload=/bin/false",
	"test-exits.service":    "ExecStart=/bin/sleep infinity\nExecReload=/bin/kill $MAINPID",
	"test-crash.service":    "ExecStart=/bin/sleep infinity\nExecReload=/bin/kill -SEGV $MAINPID",
	"test-down.service":     "ExecStart=/bin/sleep infinity\nExecReload=/bin/true",
	"test-nostart.service":  "ExecStart=/bin/false\nType=oneshot",
	"test-broken.service":   "ExecReload=/bin/true",
	"test-many@.service":    "Type=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\nExecReload=/bin/true",
	"other.service":         "ExecStart=/bin/sleep infinity\nExecReload=/bin/true",
}

// allTestUnits lets the client have its way with the units of this test.
const allTestUnits = `polkit.addRule(function (action, subject) {
	if (action.id === "org.freedesktop.systemd1.manage-units" && subject.user === "spinecert" && /^test-/.test(action.lookup("unit"))) {
		return polkit.Result.YES;
	}
	return polkit.Result.NOT_HANDLED;
});
`

func nginxConf(word string) []byte {
	return []byte("events {}\npid /run/nginx.pid;\nerror_log stderr;\nhttp { access_log off; server { listen 127.0.0.1:8080; return 200 " + word + "; } }\n")
}

// TestSystemd is one test with parts in order: they share a box.
func TestSystemd(t *testing.T) {
	testprogram.Need(t, "/usr/sbin/nginx")
	b := box.Start(t)
	b.PushSelf("/opt/test/client")
	b.PushSelf("/usr/bin/spinecert")
	b.Push("/etc/nginx/nginx.conf", nginxConf("one"), 0o644)
	b.Run("useradd", "--system", "spinecert")
	for name, text := range units {
		b.Push("/etc/systemd/system/"+name, []byte("[Unit]\nStartLimitIntervalSec=0\n[Service]\n"+text+"\n"), 0o644)
	}
	b.PushFile("/etc/systemd/system/spinecert-hook@.service", "../../../systemd/spinecert-hook@.service", 0o644)
	// The race detector sleeps for a second before a program ends well.
	b.Push("/etc/systemd/system/spinecert-hook@.service.d/race.conf", []byte("[Service]\nEnvironment=GORACE=atexit_sleep_ms=0\n"), 0o644)
	b.Push("/etc/polkit-1/rules.d/60-test.rules", []byte(allTestUnits), 0o644)
	b.Run("systemctl", "daemon-reload")
	b.Run("systemctl", "mask", "--quiet", "test-masked.service")
	b.Run("systemctl", "start", "nginx", "other", "test-noreload", "test-hang", "test-late", "test-fail", "test-exits", "test-crash", "polkit")
	u := newUser(t, b, "spinecert", "spinecert")

	for _, part := range []struct {
		name string
		run  func(*testing.T, *box.Box, *peer)
	}{
		{"polkit", testPolkit},
		{"reload", testReload},
		{"bad units", testBadUnits},
		{"shared reload", testSharedReload},
		{"start limit", testStartLimit},
		{"check", testCheck},
		{"ourselves", testOurselves},
		{"many", testMany},
		{"reexec", testReexec},
		{"forged", testForged},
		{"hooks", testHooks},
		{"bus", testBus},
	} {
		t.Run(part.name, func(t *testing.T) {
			start := time.Now()
			u.t = t
			part.run(t, b.For(t), u)
			t.Logf("took %s", time.Since(start).Round(time.Millisecond))
		})
	}
}

// testPolkit: without the rule that is shipped nothing goes, with it what it names.
func testPolkit(t *testing.T, b *box.Box, u *peer) {
	reload := request{Do: "job", Unit: "nginx.service", Action: "reload"}
	u.want(reload, failure.NotPermitted, `user "spinecert"`, `unit "nginx.service"`, `verb "reload"`, "50-spinecert.rules")
	u.want(request{Do: "hook", Service: "good", Step: "probe"}, failure.NotPermitted, `unit "spinecert-hook@good:probe.service"`, `verb "restart"`)
	b.PushFile("/etc/polkit-1/rules.d/50-spinecert.rules", "../../../systemd/50-spinecert.rules.example", 0o644)
	until(t, "polkitd reads the rule", func() bool { return u.get(u.ask(reload)).Reason == "" })
	u.want(request{Do: "job", Unit: "nginx.service", Action: "restart"}, failure.NotPermitted, `verb "restart"`)
	u.want(request{Do: "job", Unit: "other.service", Action: "reload"}, failure.NotPermitted, `unit "other.service"`)
	u.want(request{Do: "job", Unit: "toString", Action: "reload"}, failure.UnitMissing)
	// A wrong name is no matter of polkit, though that is asked first.
	u.want(request{Do: "job", Unit: "ngnix.service", Action: "reload"}, failure.UnitMissing, "is the name right?")
	u.want(request{Do: "job", Unit: "spinecert-hook@good:other.service", Action: "restart"}, failure.NotPermitted)
	u.want(request{Do: "job", Unit: "spinecert-hook@good:probe.service", Action: "restart"}, "")
	// The rule is for one user.
	nobody := newUser(t, b, "nobody", "nogroup")
	nobody.want(reload, failure.NotPermitted, `user "nobody"`)
	nobody.want(request{Do: "hook", Service: "good", Step: "probe"}, failure.NotPermitted)
	if a := nobody.want(request{Do: "active", Unit: "nginx.service"}, ""); !a.Active {
		t.Error("nginx is not active")
	}
	// A polkitd that does not start is not the fault of the unit.
	b.Run("systemctl", "mask", "--runtime", "--now", "--quiet", "polkit")
	u.want(reload, failure.NotPermitted, "polkit cannot be asked", "systemctl status polkit.service")
	u.want(request{Do: "hook", Service: "good", Step: "probe"}, failure.NotPermitted, "systemctl status polkit.service")
	b.Run("systemctl", "unmask", "--runtime", "--quiet", "polkit")
	b.Run("systemctl", "start", "polkit")
	u.want(reload, "")
}

// testReload: nginx serves what it was told to read.
func testReload(t *testing.T, b *box.Box, u *peer) {
	serves := func(word string) func() bool {
		return func() bool {
			out, err := b.Exec(t.Context(), "curl", "-s", "http://127.0.0.1:8080/")
			return err == nil && out == word
		}
	}
	until(t, "nginx answers", serves("one"))
	b.Push("/etc/nginx/nginx.conf", nginxConf("two"), 0o644)
	u.want(request{Do: "job", Unit: "nginx.service", Action: "reload"}, "")
	until(t, "nginx has reloaded", serves("two"))
	b.Push("/etc/nginx/nginx.conf", []byte("broken"), 0o644)
	u.want(request{Do: "job", Unit: "nginx.service", Action: "reload"}, failure.ReloadFailed, `reload unit "nginx.service"`, `"failed"`, "active (running)", "exit-code", "journalctl -u nginx.service")
	if a := u.want(request{Do: "active", Unit: "nginx.service"}, ""); !a.Active {
		t.Error("nginx does not go on with what it had")
	}
	until(t, "nginx goes on with what it had", serves("two")) // its first worker may have answered again
	b.Push("/etc/nginx/nginx.conf", nginxConf("three"), 0o644)
	u.want(request{Do: "job", Unit: "nginx.service", Action: "reload"}, "")
	until(t, "nginx has reloaded", serves("three"))
}

func testBadUnits(t *testing.T, b *box.Box, u *peer) {
	for _, tc := range []struct {
		unit, action, reason string
		within               time.Duration
		words                []string
		active               bool
		lookReason           string
	}{
		{unit: "test-none.service", action: "reload", reason: failure.UnitMissing, lookReason: failure.UnitMissing, words: []string{"not found", "systemctl status test-none.service"}},
		{unit: "test-none.service", action: "restart", reason: failure.UnitMissing, lookReason: failure.UnitMissing},
		{unit: "test-masked.service", action: "restart", reason: failure.UnitMissing, lookReason: failure.UnitMissing, words: []string{"masked"}},
		{unit: "test-broken.service", action: "restart", reason: failure.UnitMissing, lookReason: failure.UnitMissing},
		{unit: "no name", action: "reload", reason: failure.UnitMissing, lookReason: failure.UnitMissing},
		{unit: "test-noreload.service", action: "reload", reason: failure.ReloadFailed, active: true, words: []string{"use action: restart"}},
		{unit: "test-noreload.service", action: "restart", active: true},
		{unit: "test-noreload.service", action: "try-restart", active: true},
		{unit: "test-noreload.service", action: "halt", reason: failure.ReloadFailed, active: true, words: []string{"no such action"}},
		{unit: "test-hang.service", action: "reload", reason: failure.Timeout, within: 2 * time.Second, active: true, words: []string{"no end within its time", "longer timeout"}},
		{unit: "test-late.service", action: "reload", reason: failure.Timeout, active: true, words: []string{"gave up", "timeout"}},
		{unit: "test-fail.service", action: "reload", reason: failure.ReloadFailed, active: true, words: []string{"exit-code", "journalctl -u test-fail.service -n 20"}},
		{unit: "test-nostart.service", action: "start", reason: failure.ReloadFailed, words: []string{"failed"}},
		{unit: "test-down.service", action: "reload", reason: failure.UnitInactive, words: []string{"does not run", "systemctl start test-down.service"}},
		{unit: "test-down.service", action: "try-restart"},
		{unit: "test-down.service", action: "start", active: true},
	} {
		t.Run(tc.unit+" "+tc.action, func(t *testing.T) {
			u.t = t
			u.want(request{Do: "job", Unit: tc.unit, Action: tc.action, Within: tc.within}, tc.reason, tc.words...)
			if a := u.want(request{Do: "active", Unit: tc.unit}, tc.lookReason); a.Active != tc.active {
				t.Errorf("%s is active: %t, want %t", tc.unit, a.Active, tc.active)
			}
		})
	}
	u.t = t
	// Whether the job of a unit that ends over its reload is done or failed is systemd's matter: the unit is what counts.
	for _, unit := range []string{"test-exits.service", "test-crash.service"} {
		a := u.get(u.ask(request{Do: "job", Unit: unit, Action: "reload"}))
		t.Logf("%s: %q %s", unit, a.Reason, a.Error)
		until(t, unit+" is not active any more", func() bool {
			a := u.get(u.ask(request{Do: "active", Unit: unit}))
			return a.Reason == "" && !a.Active
		})
		u.want(request{Do: "job", Unit: unit, Action: "reload"}, failure.UnitInactive)
	}
	// The reload that was given up is not ours to end: it may be somebody else's too.
	if jobs := b.Run("systemctl", "list-jobs", "--no-legend", "--no-pager"); !strings.Contains(jobs, "test-hang.service") {
		t.Errorf("the jobs are %q", jobs)
	}
	b.Run("systemctl", "kill", "--signal=KILL", "test-hang.service")
	until(t, "no job is left", func() bool {
		return b.Run("systemctl", "list-jobs", "--no-legend", "--no-pager") == "" || strings.Contains(b.Run("systemctl", "list-jobs", "--no-pager"), "No jobs")
	})
}

// testMany: a job may end before anybody listens for it, and one job may answer several requests.
func testMany(t *testing.T, b *box.Box, u *peer) {
	const count = 20
	names := make([]string, 0, count)
	for i := range count {
		names = append(names, fmt.Sprintf("test-many@%d.service", i+1))
	}
	b.Run(append([]string{"systemctl", "start"}, names...)...)
	a := u.want(request{Do: "many", Unit: "test-many@%d.service", Action: "reload", Units: count, Jobs: 10}, "")
	t.Logf("200 jobs at once: %s", a.Took.Round(time.Millisecond))
	a = u.want(request{Do: "many", Unit: "test-many@%d.service", Action: "reload", Units: count, Jobs: 10, OneByOne: true}, "")
	t.Logf("200 jobs one by one: %s", a.Took.Round(time.Millisecond))
	a = u.want(request{Do: "many", Unit: "test-many@%d.service", Action: "restart", Units: count, Jobs: 3}, "")
	t.Logf("60 restarts at once: %s", a.Took.Round(time.Millisecond))
}

// testReexec: the job outlives a systemd that starts itself again, under another name on the bus.
func testReexec(t *testing.T, b *box.Box, u *peer) {
	b.Push("/etc/systemd/system/test-gate.service", []byte("[Service]\nExecStart=/bin/sleep infinity\nExecReload=/bin/sh -c 'until test -e /run/open; do sleep 0.1; done'\n"), 0o644)
	b.Run("systemctl", "daemon-reload")
	b.Run("systemctl", "start", "test-gate")
	reload := request{Do: "job", Unit: "test-gate.service", Action: "reload"}
	first := u.ask(reload)
	second := u.ask(reload)
	until(t, "the reload runs", func() bool {
		return b.Run("systemctl", "show", "--value", "-p", "ActiveState", "test-gate") == "reloading"
	})
	b.Run("systemctl", "daemon-reexec")
	if a := u.want(request{Do: "active", Unit: "test-gate.service"}, ""); !a.Active {
		t.Error("a unit that reloads is not active")
	}
	// One of two that wait for a job gives up: the job is the other's.
	u.want(request{Do: "job", Unit: "test-gate.service", Action: "reload", Within: 500 * time.Millisecond}, failure.Timeout)
	b.Push("/run/open", nil, 0o644)
	u.check(reload, u.get(first), "")
	u.check(reload, u.get(second), "")
	b.Run("rm", "/run/open")
}

// testForged: any user may send a signal to a connection.
func testForged(t *testing.T, b *box.Box, u *peer) {
	reload := request{Do: "job", Unit: "test-gate.service", Action: "reload"}
	waiting := u.ask(reload)
	var job string
	until(t, "the reload runs", func() bool {
		fields := strings.Fields(b.Run("systemctl", "list-jobs", "--no-legend", "--no-pager"))
		if len(fields) > 1 && fields[1] == "test-gate.service" {
			job = fields[0]
		}
		return job != ""
	})
	forged := 0
	for line := range strings.Lines(b.Run("busctl", "list", "--no-legend", "--no-pager", "--unique")) {
		if fields := strings.Fields(line); len(fields) > 2 && fields[2] == "client" {
			b.Run("setpriv", "--reuid", "nobody", "--clear-groups", "dbus-send", "--system", "--type=signal", "--dest="+fields[0], "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager.JobRemoved",
				"uint32:"+job, "objpath:/org/freedesktop/systemd1/job/"+job, "string:test-gate.service", "string:done")
			forged++
		}
	}
	if forged == 0 {
		t.Fatal("the connection of the client is not found")
	}
	u.want(request{Do: "active", Unit: "test-gate.service"}, "") // its reply comes after the signal
	b.Run("systemctl", "stop", "test-gate.service")
	u.check(reload, u.get(waiting), failure.ReloadFailed, "canceled")
}

func testHooks(t *testing.T, b *box.Box, u *peer) {
	for _, tc := range []struct {
		service, step, reason string
		words                 []string
	}{
		{"good", "validate", "", nil},
		{"bad", "validate", failure.ValidateFailed, []string{"said no: exit status 7", "journalctl -u spinecert-hook@bad:validate.service -n 20", "spinecert hook bad validate"}},
		{"bad", "reload", failure.ReloadFailed, []string{"exit status 7"}},
		{"bad", "probe", failure.ProbeFailed, []string{"exit status 7"}},
		{"late", "reload", failure.Timeout, []string{"exit status 1", "no end within its time"}},
		{"mute", "probe", failure.CommandUnusable, []string{"exit status 2", "was not run"}},
		{"loud", "probe", failure.CommandUnusable, []string{"exit status 3"}}, // without a word it is no verdict
	} {
		a := u.want(request{Do: "hook", Service: tc.service, Step: tc.step}, tc.reason, tc.words...)
		t.Logf("%s %s: %s", tc.service, tc.step, a.Took.Round(time.Millisecond))
	}
	u.want(request{Do: "hook", Service: "good", Step: "other"}, failure.CommandUnusable, "no such step")
	// A probe is tried many times: nothing limits how often a hook starts. The default limit is 5 in 10 s.
	for range 8 {
		u.want(request{Do: "hook", Service: "bad", Step: "probe"}, failure.ProbeFailed, "exit status 7")
	}

	// One that never ends is stopped.
	never := request{Do: "hook", Service: "never", Step: "reload", Within: 2 * time.Second}
	u.want(never, failure.Timeout)
	unit := "spinecert-hook@never:reload.service"
	until(t, unit+" is stopped", func() bool {
		state := b.Run("systemctl", "show", "--value", "-p", "ActiveState", unit)
		return state == "inactive" || state == "failed"
	})
	// One that is left from before is ended first, and its waiter learns it.
	never.Within = limit
	pid := filepath.Join(b.Root, "run/hook-never")
	_ = os.Remove(pid)
	first := u.ask(never)
	until(t, "the hook runs", func() bool { data, _ := os.ReadFile(pid); return len(data) > 0 })
	old, _ := os.ReadFile(pid)
	second := u.ask(never)
	until(t, "another one runs in its place", func() bool {
		data, _ := os.ReadFile(pid)
		return len(data) > 0 && string(data) != string(old)
	})
	b.Run("systemctl", "stop", unit)
	for _, waiting := range []<-chan answer{first, second} {
		if a := u.get(waiting); a.Reason != failure.CommandUnusable {
			t.Errorf("a hook that was stopped: %q (%s)", a.Reason, a.Error)
		}
	}
}

// testBus: the bus goes away, with and without somebody waiting, and comes back.
func testBus(t *testing.T, b *box.Box, u *peer) {
	b.Run("systemctl", "start", "test-gate")
	reload := request{Do: "job", Unit: "test-gate.service", Action: "reload"}
	waiting := u.ask(reload)
	until(t, "the reload runs", func() bool {
		return b.Run("systemctl", "show", "--value", "-p", "ActiveState", "test-gate") == "reloading"
	})
	b.Run("systemctl", "stop", "dbus.socket", "dbus.service")
	a := u.get(waiting)
	u.check(reload, a, failure.BusAway, "lost", "systemctl status dbus.service")
	if a.Took > limit/2 {
		t.Errorf("learnt of it after %s", a.Took)
	}
	down := request{Do: "job", Unit: "test-down.service", Action: "reload"}
	u.want(down, failure.BusAway, "system_bus_socket")
	u.want(request{Do: "hook", Service: "good", Step: "reload"}, failure.BusAway)
	u.want(request{Do: "active", Unit: "test-down.service"}, failure.BusAway)
	b.Run("systemctl", "start", "dbus.socket", "dbus.service")
	until(t, "systemd is on the bus again", func() bool { return u.get(u.ask(down)).Reason == "" })
	u.want(request{Do: "hook", Service: "good", Step: "reload"}, "")

	// A bus that does not answer any more costs no more than the time there is.
	pid := b.Run("systemctl", "show", "--value", "-p", "MainPID", "dbus.service")
	b.Run("kill", "-STOP", pid)
	down.Within = 2 * time.Second
	u.want(down, failure.BusAway, "did not answer the request", "systemctl status dbus.service")
	b.Run("kill", "-CONT", pid)
	down.Within = 0
	u.want(down, "")
}
