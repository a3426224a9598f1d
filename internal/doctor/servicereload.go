package doctor

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/deliver/failure"
	"github.com/spinecert/spinecert/internal/deliver/systemd"
)

// units asks systemd about units, as long as it answers.
type units struct {
	manager *systemd.Manager

	mu   sync.Mutex
	away error // why it is not asked any more
}

// unitWait is how long systemd is waited for.
const unitWait = 5 * time.Second

func newUnits() *units { return &units{manager: systemd.New()} }

func (u *units) close() { _ = u.manager.Close() } // nothing was written over it

// active reports whether a unit runs. A bus that does not answer is not waited for by
// every service.
func (u *units) active(ctx context.Context, unit string) (bool, error) {
	u.mu.Lock()
	away := u.away
	u.mu.Unlock()
	if away != nil {
		return false, away
	}
	ctx, cancel := context.WithTimeout(ctx, unitWait)
	defer cancel()
	active, err := u.manager.Active(ctx, unit)
	if reason := failure.ReasonOf(err, ""); reason == failure.BusAway || reason == failure.Timeout {
		u.mu.Lock()
		u.away = err
		u.mu.Unlock()
	}
	return active, err
}

// serviceReload: what tells the service is there, and listens to the daemon.
func serviceReload(ctx context.Context, s served, r *report) {
	if unit := s.service.Validate.Unit; unit != "" {
		if _, err := s.units.active(ctx, unit); err != nil { // it is started to validate, and need not run
			r.fail(s.service.Name, hintOr(err, "systemctl status "+unit), "service %s: validate: %v", s.service.Name, err)
		}
	}
	for _, kind := range []string{s.service.Reload.Kind, s.service.Reload.Otherwise()} {
		switch kind {
		case config.ReloadUnit:
			s.unit(ctx, r)
		case config.ReloadHAProxy:
			s.runtimeSocket(ctx, r)
		case config.ReloadSignal:
			s.pidFile(ctx, r)
		}
	}
}

// unit: the unit is there, and runs. Whether polkit lets the daemon manage it nobody
// can ask without doing it: the line of the service has the rule once it did not.
func (s served) unit(ctx context.Context, r *report) {
	name, reload := s.service.Name, s.service.Reload
	active, err := s.units.active(ctx, reload.Unit)
	switch {
	case err != nil:
		r.fail(name, hintOr(err, "systemctl status "+reload.Unit), "service %s: %v", name, err)
	case active:
		r.ok(name, "service %s: unit %s runs", name, reload.Unit)
	case reload.Action == "try-restart":
		r.warn(name, "systemctl start "+reload.Unit+", if it should run", "service %s: unit %s does not run, and try-restart leaves it so", name, reload.Unit)
	default:
		r.fail(name, "systemctl start "+reload.Unit+"; journalctl -u "+reload.Unit+" -n 20", "service %s: unit %s does not run", name, reload.Unit)
	}
}

// runtimeSocket: HAProxy takes connections of the daemon. Nothing is said to it.
func (s served) runtimeSocket(ctx context.Context, r *report) {
	name, path := s.service.Name, s.service.Reload.Socket
	refused, err := as(ctx, s.daemon, func() error { return connects(path) })
	if err != nil {
		r.warn(name, asHint(err), "service %s: the runtime socket %q cannot be tried: %v", name, path, err)
		return
	}
	give := "stats socket " + path + " mode 660 group GROUP level admin, with a group of " + s.daemon.name()
	switch {
	case refused == nil:
		r.ok(name, "service %s: %s may connect to %q; whether it has level admin shows at the first delivery", name, s.daemon.name(), path)
	case errors.Is(refused, fs.ErrPermission):
		r.fail(name, "give it to the daemon in haproxy.cfg: "+give, "service %s: %s may not connect to the runtime socket %q: %v", name, s.daemon.name(), path, refused)
	default:
		r.fail(name, "start HAProxy, and have it in haproxy.cfg: "+give, "service %s: nothing takes a connection at the runtime socket %q: %v", name, path, refused)
	}
}

// connects opens a connection to a socket and closes it. One whose queue is full does
// take them.
func connects(path string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); !errors.Is(err, unix.EAGAIN) {
		return err
	}
	return nil
}

// pidLook is what the daemon finds of a PID file.
type pidLook struct {
	info os.FileInfo
	pid  int
	err  error // of the file
	kill error // what a signal would meet
}

// pidFile: it names a process that the daemon may signal, and the service alone writes it.
func (s served) pidFile(ctx context.Context, r *report) {
	name, path := s.service.Name, s.service.Reload.PIDFile
	found, err := as(ctx, s.daemon, func() pidLook { return lookPID(path) })
	switch {
	case err != nil:
		r.warn(name, asHint(err), "service %s: the PID file %q cannot be looked at: %v", name, path, err)
	case errors.Is(found.err, fs.ErrNotExist):
		r.warn(name, "start the service, or correct pid_file", "service %s: there is no PID file %q: it does not run", name, path)
	case errors.Is(found.err, unix.ELOOP):
		r.fail(name, "give the path of the file itself", "service %s: the PID file %q is a symbolic link", name, path)
	case found.err != nil:
		r.fail(name, "let "+s.daemon.name()+" read it, or reload through the unit", "service %s: %v", name, found.err)
	case !found.info.Mode().IsRegular():
		r.fail(name, "name the file that the service writes its number into", "service %s: the PID file %q is no file", name, path)
	case found.info.Mode().Perm()&0o022 != 0:
		r.fail(name, "chmod go-w "+shell(path), "service %s: the PID file %q has mode %04o: others than its owner may write it", name, path, found.info.Mode().Perm())
	case found.pid <= 1:
		r.fail(name, "it must hold one number above 1 and nothing else; else reload through the unit or a command", "service %s: the PID file %q does not hold one process number", name, path)
	case errors.Is(found.kill, unix.ESRCH):
		r.warn(name, "start the service; if it runs, its PID file is stale", "service %s: process %d of %q does not run", name, found.pid, path)
	case errors.Is(found.kill, unix.EPERM) && !s.daemon.may(unix.CAP_KILL):
		r.fail(name, "reload through the unit or a command; or, as it needs the service's own user: systemctl edit spinecertd, [Service] AmbientCapabilities=CAP_KILL CapabilityBoundingSet=CAP_KILL, on a line each",
			"service %s: %s may not send a signal to process %d of %q", name, s.daemon.name(), found.pid, path)
	default:
		r.ok(name, "service %s: process %d of %q runs", name, found.pid, path)
	}
}

// longestPID is more than a number and a line break have.
const longestPID = 32

func lookPID(path string) (l pidLook) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return pidLook{err: err}
	}
	defer f.Close()
	if l.info, l.err = f.Stat(); l.err != nil || !l.info.Mode().IsRegular() {
		return l
	}
	data, err := io.ReadAll(io.LimitReader(f, longestPID+1))
	if err != nil {
		l.err = err
		return l
	}
	if pid, err := strconv.Atoi(string(bytes.TrimSpace(data))); err == nil && pid > 1 && len(data) <= longestPID {
		l.pid, l.kill = pid, unix.Kill(pid, 0) // signal 0 only asks
	}
	return l
}

// command is a program of the configuration.
type command struct {
	step string
	argv []string
}

func commands(c config.Service) []command {
	var out []command
	for _, w := range []command{{"validate", c.Validate.Exec}, {"reload", c.Reload.Exec}, {"probe", c.ProbeExec.Exec}} {
		if len(w.argv) > 0 {
			out = append(out, w)
		}
	}
	return out
}

// servicePrograms: they are there, and root's. Those that run in a unit of their own
// run as root, and are refused when somebody else could have written them.
func servicePrograms(ctx context.Context, s served, r *report) {
	before, all := len(r.lines), commands(s.service)
	for _, w := range all {
		s.program(ctx, w.step, w.argv[0], r)
	}
	if len(r.lines) == before && len(all) > 0 {
		r.ok(s.service.Name, "service %s: the %s can be run, and others than root cannot write what is run", s.service.Name, plural(len(all), "program"))
	}
}

func (s served) program(ctx context.Context, step, path string, r *report) {
	name := s.service.Name
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r.fail(name, "install it, or correct "+step, "service %s: %s: there is no program %q", name, step, path)
		return
	case err != nil:
		r.warn(name, "run as root, or as the user of the daemon", "service %s: %s: the program cannot be looked at: %v", name, step, err)
		return
	case !info.Mode().IsRegular():
		r.fail(name, "name a program", "service %s: %s: %q is no program", name, step, path)
		return
	case info.Mode()&0o111 == 0:
		r.fail(name, "chmod +x "+shell(path), "service %s: %s: %q has mode %04o: nobody may execute it", name, step, path, info.Mode().Perm())
		return
	}
	if at, what := s.strange(path); at != "" {
		r.fail(name, fmt.Sprintf("chown root %[1]s; chmod go-w %[1]s", shell(at)), "service %s: %s: %q %s, and so others than root decide what %q does", name, step, at, what, path)
		return
	}
	if s.supervised() {
		return // root runs it
	}
	no, err := as(ctx, s.daemon, func() error { return unix.Faccessat(unix.AT_FDCWD, path, unix.X_OK, unix.AT_EACCESS) })
	if err == nil && no != nil {
		r.fail(name, "namei -l "+shell(path), "service %s: %s: %s may not execute %q: %v", name, step, s.daemon.name(), path, no)
	}
}

// strange returns what somebody else than root may write of a program and the
// directories above it, and who. A sticky directory, such as /tmp, is fine above them.
// Without systemd the daemon runs it as itself, and may own it.
func (s served) strange(path string) (at, what string) {
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return path, err.Error()
	}
	for _, from := range []string{resolved, filepath.Dir(path)} { // where the name stands decides, too
		for at := from; ; at = filepath.Dir(at) {
			info, err := os.Stat(at)
			switch {
			case err != nil:
				return at, err.Error()
			case uid(info) != 0 && (s.supervised() || uid(info) != s.daemon.uid):
				return at, fmt.Sprintf("belongs to user %d", uid(info))
			case info.Mode().Perm()&0o022 != 0 && !(info.IsDir() && info.Mode()&fs.ModeSticky != 0):
				return at, fmt.Sprintf("has mode %04o", info.Mode().Perm())
			}
			if at == filepath.Dir(at) {
				break
			}
		}
	}
	return "", ""
}

// supervised reports whether systemd runs the daemon, and so each command in a unit.
// Of one that does not run nobody knows; where there is systemd it will.
func (in Inside) supervised() bool {
	if in.PID == os.Getpid() {
		return systemd.Supervised()
	}
	_, err := os.Stat(cmp.Or(in.booted, systemdBooted))
	return err == nil
}

// systemdBooted is there where systemd runs the host, sd_booted(3).
const systemdBooted = "/run/systemd/system"

// unitDirectories are where systemd looks for units, systemd.unit(5).
func unitDirectories() []string {
	return []string{"/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"}
}

// hookName is the unit that commands run in.
const hookName = "spinecert-hook@.service"

// hookUnit: commands of services have a unit to run in, where systemd runs the daemon.
func hookUnit(_ context.Context, in Inside, r *report) {
	n := 0
	for _, c := range in.Config.Services {
		n += len(commands(c))
	}
	if n == 0 || !in.supervised() {
		return
	}
	dirs := in.hooks
	if dirs == nil {
		dirs = unitDirectories()
	}
	for _, dir := range dirs {
		if _, err := os.Stat(filepath.Join(dir, hookName)); err == nil {
			r.ok(hookName, "%s of services run in the unit %s", plural(n, "command"), filepath.Join(dir, hookName))
			return
		}
	}
	r.fail(hookName, "the package installs it: install that again; from the source: install -m 0644 systemd/spinecert-hook@.service /etc/systemd/system/ && systemctl daemon-reload", "there is no unit %s, in which the %s of services would run", hookName, plural(n, "command"))
}
