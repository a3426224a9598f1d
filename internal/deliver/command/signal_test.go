package command

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/spinecert/spinecert/internal/deliver/failure"
)

// process is one that says which signals it gets.
type process struct {
	pid   int
	lines *bufio.Scanner
}

func start1(t *testing.T, uid uint32) *process {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", `for s in HUP USR1 USR2 WINCH TERM; do trap "echo $s" $s; done; echo ready; while :; do sleep 0.02; done`)
	cmd.Dir = "/"
	if uid != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	p := &process{pid: cmd.Process.Pid, lines: bufio.NewScanner(out)}
	p.says(t, "ready")
	return p
}

func (p *process) says(t *testing.T, want string) {
	t.Helper()
	if !p.lines.Scan() || p.lines.Text() != want {
		t.Fatalf("the process says %q, want %q", p.lines.Text(), want)
	}
}

func pidFile(t *testing.T, content string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.pid")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSignal(t *testing.T) {
	p := start1(t, 0)
	for _, content := range []string{"%d", "%d\n", "  %d \n\n"} {
		path := pidFile(t, fmt.Sprintf(content, p.pid), 0o644)
		for _, name := range []string{"HUP", "USR1", "USR2", "WINCH", "TERM"} {
			if err := Signal(path, name); err != nil {
				t.Fatal(err)
			}
			p.says(t, name)
		}
	}
	path := pidFile(t, strconv.Itoa(p.pid), 0o644)
	for _, name := range []string{"KILL", "STOP", "SIGHUP", "hup", "1", ""} {
		is(t, Signal(path, name), failure.ReloadFailed, "HUP, USR1")
	}
}

func TestBadPIDFiles(t *testing.T) {
	p := start1(t, 0)
	good := pidFile(t, strconv.Itoa(p.pid), 0o644)
	dir := t.TempDir()
	link, hard, fifo := filepath.Join(dir, "link"), filepath.Join(dir, "dir"), filepath.Join(dir, "fifo")
	if err := os.Symlink(good, link); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(hard, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(fifo, 0o644); err != nil {
		t.Fatal(err)
	}
	ended := exec.Command("/bin/true")
	if err := ended.Run(); err != nil {
		t.Fatal(err)
	}
	zombie := exec.Command("/bin/true")
	if err := zombie.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = zombie.Wait() }()
	until(t, "a zombie", func() bool { return !alive(zombie.Process.Pid) })
	for _, c := range []struct {
		name   string
		path   string
		reason string
		word   string
	}{
		{"missing", filepath.Join(dir, "missing"), failure.UnitInactive, "does not run"},
		{"missing directory", filepath.Join(dir, "a", "b"), failure.UnitInactive, "does not run"},
		{"a link", link, failure.ReloadFailed, "symbolic link"},
		{"a directory", hard, failure.ReloadFailed, "regular file"},
		{"a pipe", fifo, failure.ReloadFailed, "regular file"},
		{"a device", "/dev/null", failure.ReloadFailed, "regular file"},
		{"others may write", pidFile(t, strconv.Itoa(p.pid), 0o666), failure.NotPermitted, "chmod go-w"},
		{"the group may write", pidFile(t, strconv.Itoa(p.pid), 0o664), failure.NotPermitted, "chmod go-w"},
		{"empty", pidFile(t, "", 0o644), failure.ReloadFailed, "one process number"},
		{"words", pidFile(t, "nginx", 0o644), failure.ReloadFailed, "one process number"},
		{"two numbers", pidFile(t, fmt.Sprintf("%d\n%d\n", p.pid, p.pid), 0o644), failure.ReloadFailed, "one process number"},
		{"the group of all", pidFile(t, "-1", 0o644), failure.ReloadFailed, "one process number"},
		{"a group", pidFile(t, strconv.Itoa(-p.pid), 0o644), failure.ReloadFailed, "one process number"},
		{"our group", pidFile(t, "0", 0o644), failure.ReloadFailed, "one process number"},
		{"init", pidFile(t, "1", 0o644), failure.ReloadFailed, "one process number"},
		{"a sign", pidFile(t, "+"+strconv.Itoa(p.pid), 0o644), failure.ReloadFailed, "one process number"},
		{"too long", pidFile(t, strconv.Itoa(p.pid)+strings.Repeat(" ", 40), 0o644), failure.ReloadFailed, "one process number"},
		{"too large", pidFile(t, "99999999999999999999", 0o644), failure.ReloadFailed, "one process number"},
		{"ourselves", pidFile(t, strconv.Itoa(os.Getpid()), 0o644), failure.ReloadFailed, "this daemon itself"},
		{"no such process", pidFile(t, "4194304", 0o644), failure.ReloadFailed, "one process number"},
		{"highest number", pidFile(t, "4194303", 0o644), failure.UnitInactive, "does not run"},
		{"an ended one", pidFile(t, strconv.Itoa(ended.Process.Pid), 0o644), failure.UnitInactive, "stale"},
		{"a zombie", pidFile(t, strconv.Itoa(zombie.Process.Pid), 0o644), failure.UnitInactive, "stale"},
	} {
		t.Run(c.name, func(t *testing.T) { is(t, Signal(c.path, "HUP"), c.reason, c.word) })
	}
	if err := Signal(good, "USR1"); err != nil {
		t.Fatal(err)
	}
	p.says(t, "USR1") // and not one of the HUPs before
}

// TestOwners: a service may have only itself signalled.
func TestOwners(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can start processes of other users")
	}
	const service, other = 12345, 12346
	s, o, root := start1(t, service), start1(t, other), start1(t, 0)
	for _, c := range []struct {
		name  string
		owner int
		p     *process
		good  bool
	}{
		{"a file of root's", 0, s, true},
		{"a file of its own", service, s, true},
		{"another user's file", other, s, false},
		{"a service names another", service, o, false},
		{"a service names root's", service, root, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := pidFile(t, strconv.Itoa(c.p.pid), 0o644)
			if err := os.Chown(path, c.owner, c.owner); err != nil {
				t.Fatal(err)
			}
			err := Signal(path, "HUP")
			if !c.good {
				is(t, err, failure.NotPermitted, fmt.Sprintf("belongs to user %d", c.owner))
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			c.p.says(t, "HUP")
		})
	}
	for _, p := range []*process{o, root} {
		if err := unix.Kill(p.pid, unix.SIGUSR2); err != nil {
			t.Fatal(err)
		}
		p.says(t, "USR2") // and no HUP before
	}
}

// TestSignalNotPermitted: without CAP_KILL the kernel says no, and the error says what helps. The test runs itself as another user.
func TestSignalNotPermitted(t *testing.T) {
	if path := os.Getenv("SIGNAL_TEST_PID_FILE"); path != "" {
		is(t, Signal(path, "HUP"), failure.NotPermitted, "operation not permitted", "CAP_KILL")
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can start processes of other users")
	}
	path, self := forOthers(t, start1(t, 0).pid)
	cmd := exec.Command(self, "-test.run=^TestSignalNotPermitted$", "-test.v")
	cmd.Dir = "/"
	cmd.Env = []string{"SIGNAL_TEST_PID_FILE=" + path}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 12345, Gid: 12345}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// forOthers makes a PID file and a copy of this test that other users get to.
func forOthers(t *testing.T, pid int) (path, self string) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "signal")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path, self = filepath.Join(dir, "x.pid"), filepath.Join(dir, "test")
	if err := os.WriteFile(path, []byte(strconv.Itoa(pid)), 0o644); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(self, data, 0o755); err != nil {
		t.Fatal(err)
	}
	return path, self
}

// TestHiddenProcess: below ProtectProc=invisible nobody can say whose process it is, and the error says what helps.
func TestHiddenProcess(t *testing.T) {
	if path := os.Getenv("HIDDEN_TEST_PID_FILE"); path != "" {
		is(t, Signal(path, "HUP"), failure.NotPermitted, "is hidden", "ProtectProc=default")
		if err := unix.Unlink(path); !errors.Is(err, unix.EACCES) {
			t.Errorf("the test does not run as another user: %v", err)
		}
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can start processes of other users")
	}
	const service, daemon = 12345, "12346"
	hide := []string{"unshare", "--mount", "sh", "-c", `mount -t proc -o hidepid=2 proc /proc && exec "$@"`, "sh"}
	if out, err := exec.Command(hide[0], append(hide[1:], "setpriv", "--reuid="+daemon, "true")...).CombinedOutput(); err != nil {
		t.Skipf("processes cannot be hidden here: %v: %s", err, out)
	}
	path, self := forOthers(t, start1(t, service).pid)
	if err := os.Chown(path, service, service); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(hide[0], append(hide[1:], "setpriv", "--reuid="+daemon, "--regid="+daemon, "--clear-groups", self, "-test.run=^TestHiddenProcess$", "-test.v")...)
	cmd.Dir = "/"
	cmd.Env = []string{"HIDDEN_TEST_PID_FILE=" + path, "PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
