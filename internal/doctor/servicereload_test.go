package doctor

import (
	"fmt"
	"net"
	"os"
	"testing"

	"github.com/spinecert/spinecert/internal/config"
)

func TestServicePrograms(t *testing.T) {
	t.Parallel()
	program := func(mode os.FileMode, owner int) func(b *bay) {
		return func(b *bay) {
			b.mkdir("bin")
			b.c.Validate.Exec = []string{b.write("bin/check", "#!/bin/sh\n", mode), "-t"}
			b.own("bin/check", owner)
		}
	}
	all := []odd{
		{"well", program(0o755, 0), `ok SERVICE service nginx: the 2 programs can be run`},
		{"it is not there", func(b *bay) { b.c.Reload = config.Reload{Kind: config.ReloadExec, Exec: []string{b.path("none")}} }, `fail SERVICE service nginx: reload: there is no program ".*/none" // install it, or correct reload`},
		{"a directory", func(b *bay) { b.c.ProbeExec.Exec = []string{b.dir} }, `fail SERVICE service nginx: probe: ".*" is no program`},
		{"nobody executes it", program(0o644, 0), `fail SERVICE service nginx: validate: ".*/check" has mode 0644: nobody may execute it // chmod \+x `},
		{"everybody writes it", program(0o777, 0), `fail SERVICE service nginx: validate: ".*/check" has mode 0777, and so others than root decide what ".*/check" does // chown root .*; chmod go-w `},
		{"a group writes it", program(0o775, 0), `fail SERVICE service nginx: validate: ".*/check" has mode 0775`},
		{"everybody writes its directory", func(b *bay) { program(0o755, 0)(b); b.chmod("bin", 0o777) }, `fail SERVICE service nginx: validate: ".*/bin" has mode 0777, and so others than root decide what ".*/check" does // chown root .*/bin; chmod go-w .*/bin$`},
		{"a link in a directory of everybody", func(b *bay) {
			program(0o755, 0)(b)
			b.mkdir("open")
			b.must(os.Symlink(b.path("bin/check"), b.path("open/check")))
			b.chmod("open", 0o777)
			b.c.Validate.Exec[0] = b.path("open/check")
		}, `fail SERVICE service nginx: validate: ".*/open" has mode 0777`},
	}
	if os.Geteuid() == 0 {
		all = append(all, odd{"the service's", program(0o755, serviceID), `fail SERVICE service nginx: validate: ".*/check" belongs to user 47211, and so others than root`},
			odd{"its directory is the service's", func(b *bay) { program(0o755, 0)(b); b.own("bin", serviceID) }, `fail SERVICE service nginx: validate: ".*/bin" belongs to user 47211`},
			odd{"the daemon may not execute it", program(0o744, 0), `fail SERVICE service nginx: validate: 47210 may not execute ".*/check": permission denied // namei -l`})
	}
	oddities(t, all)
}

// TestServiceHook: where systemd runs the daemon, commands need their unit, run as root,
// and must be root's.
func TestServiceHook(t *testing.T) {
	asRoot(t)
	t.Setenv("SYSTEMD_EXEC_PID", fmt.Sprint(os.Getpid()))
	b := newBay(t)
	b.own("spine", 0)
	b.in.UID, b.in.PID = 0, os.Getpid()
	if lines := b.examine(); len(matching(lines, `fail SERVICE there is no unit spinecert-hook@.service, in which the 1 command of services would run`)) != 1 {
		t.Error(text(lines))
	}
	b.write(hookName, "", 0o644)
	if lines := b.examine(); len(matching(lines, `ok SERVICE 1 command of services run in the unit .*/spinecert-hook@.service`)) != 1 || len(matching(lines, "fail")) > 0 {
		t.Error(text(lines))
	}
	b.c.ProbeExec.Exec = nil
	if lines := b.examine(); len(matching(lines, `.*hook`)) > 0 {
		t.Errorf("without commands:\n%s", text(lines))
	}
	for _, tc := range []struct {
		supervised string
		owner      int
		mode       os.FileMode
		want       string
	}{
		{fmt.Sprint(os.Getpid()), daemonID, 0o755, `fail SERVICE .* belongs to user 47210`},
		{"", daemonID, 0o755, ``},                        // the daemon runs its own
		{fmt.Sprint(os.Getpid()), 0, 0o744, ``},          // root runs it
		{"", 0, 0o744, `fail SERVICE .*may not execute`}, // the daemon cannot
	} {
		t.Setenv("SYSTEMD_EXEC_PID", tc.supervised)
		r := &report{code: Service}
		s := served{Inside: b.in, service: b.c, daemon: account{uid: daemonID, gid: daemonID}}
		program := b.write("program", "", tc.mode)
		b.own("program", tc.owner)
		s.program(t.Context(), "probe", program, r)
		if tc.want == "" && len(r.lines) > 0 || tc.want != "" && len(matching(r.lines, tc.want)) != 1 {
			t.Errorf("%+v:\n%s", tc, text(r.lines))
		}
	}
}

func TestServiceRuntimeSocket(t *testing.T) {
	t.Parallel()
	asRoot(t)
	socket := func(mode os.FileMode, after func(b *bay, l *net.UnixListener)) func(b *bay) {
		return func(b *bay) {
			b.c.Reload = config.Reload{Kind: config.ReloadHAProxy, Socket: b.path("admin.sock")}
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: b.c.Reload.Socket})
			b.must(err)
			b.t.Cleanup(func() { _ = l.Close() })
			b.chmod("admin.sock", mode)
			after(b, l)
		}
	}
	oddities(t, []odd{
		{"well", socket(0o666, func(*bay, *net.UnixListener) {}), `ok SERVICE service nginx: 47210 may connect to ".*/admin.sock"; whether it has level admin shows at the first delivery`},
		{"of the daemon's group", socket(0o660, func(b *bay, _ *net.UnixListener) {
			b.must(os.Chown(b.path("admin.sock"), 0, sharedID))
			b.runs(sharedID)
		}), `ok SERVICE service nginx: 47210 may connect`},
		{"of another group", socket(0o660, func(b *bay, _ *net.UnixListener) {
			b.must(os.Chown(b.path("admin.sock"), 0, sharedID))
			b.runs()
		}), `fail SERVICE service nginx: 47210 may not connect to the runtime socket ".*": permission denied // give it to the daemon in haproxy.cfg: stats socket .*/admin.sock mode 660 group GROUP level admin`},
		{"it is not there", socket(0o666, func(b *bay, _ *net.UnixListener) { b.must(os.Remove(b.path("admin.sock"))) }), `fail SERVICE service nginx: nothing takes a connection at the runtime socket ".*": no such file`},
		{"nobody listens", socket(0o666, func(_ *bay, l *net.UnixListener) { l.SetUnlinkOnClose(false); _ = l.Close() }), `fail SERVICE service nginx: nothing takes a connection .*: connection refused`},
		{"a file", socket(0o666, func(b *bay, _ *net.UnixListener) {
			b.must(os.Remove(b.path("admin.sock")))
			b.write("admin.sock", "", 0o666)
		}), `fail SERVICE service nginx: nothing takes a connection`},
	})
}

func TestServicePIDFile(t *testing.T) {
	t.Parallel()
	asRoot(t)
	file := func(text string, mode os.FileMode) func(b *bay) {
		return func(b *bay) {
			b.c.Reload = config.Reload{Kind: config.ReloadSignal, Signal: "HUP", PIDFile: b.path("pid")}
			b.write("pid", text, mode)
		}
	}
	oddities(t, []odd{
		{"well", func(b *bay) { file(fmt.Sprintf("%d\n", b.process(daemonID)), 0o644)(b) }, `ok SERVICE service nginx: process \d+ of ".*/pid" runs`},
		{"it is not there", func(b *bay) { file("1", 0o644)(b); b.must(os.Remove(b.path("pid"))) }, `warn SERVICE service nginx: there is no PID file ".*": it does not run // start the service`},
		{"of another user", func(b *bay) { file(fmt.Sprint(b.process(serviceID)), 0o644)(b) }, `fail SERVICE service nginx: 47210 may not send a signal to process \d+ .* // .*CAP_KILL`},
		{"it does not run", file("4194304", 0o644), `warn SERVICE service nginx: process 4194304 of ".*" does not run`},
		{"no number", file("nginx", 0o644), `fail SERVICE service nginx: the PID file ".*" does not hold one process number`},
		{"init", file("1", 0o644), `fail SERVICE service nginx: the PID file ".*" does not hold one process number`},
		{"everybody writes it", func(b *bay) { file(fmt.Sprint(b.process(daemonID)), 0o666)(b) }, `fail SERVICE service nginx: the PID file ".*" has mode 0666: others than its owner may write it // chmod go-w `},
		{"closed", file("2", 0o600), `fail SERVICE service nginx: open ".*/pid": permission denied|fail SERVICE service nginx: open .*/pid: permission denied`},
		{"a link", func(b *bay) {
			file("2", 0o644)(b)
			b.must(os.Rename(b.path("pid"), b.path("number")))
			b.must(os.Symlink("number", b.path("pid")))
		}, `fail SERVICE service nginx: the PID file ".*" is a symbolic link`},
		{"a directory", func(b *bay) { file("2", 0o644)(b); b.must(os.Remove(b.path("pid"))); b.mkdir("pid") }, `fail SERVICE service nginx: the PID file ".*" is no file`},
	})
}
