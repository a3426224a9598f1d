package box

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// bootLimit is generous: a box is up within two seconds on an idle machine.
const bootLimit = 2 * time.Minute

var errDown = errors.New("the box has ended")

// Box is a systemd that runs.
type Box struct {
	// Root is the root directory of the box, as a path of this machine. Absolute symbolic links below it lead out of it.
	Root string

	t       testing.TB
	machine *machine
	leader  int // its PID 1
}

// Start boots a box, which is stopped when the test ends. It skips a test that cannot have one, and fails it in CI.
func Start(t testing.TB) *Box {
	t.Helper()
	for _, program := range []string{"systemd-nspawn", "dbus-daemon", "nsenter", "unshare"} {
		if _, err := exec.LookPath(program); err != nil {
			without(t, program+" is not installed")
		}
	}
	if os.Geteuid() != 0 {
		without(t, "only root may mount and start containers")
	}
	m, err := newMachine(t.Context())
	if err != nil {
		without(t, err.Error())
	}
	t.Cleanup(func() {
		if err := m.stop(); err != nil {
			t.Errorf("stop the box: %v", err)
		}
	})
	leader, err := m.boot(bootLimit)
	if err != nil {
		without(t, err.Error())
	}
	b := &Box{Root: fmt.Sprintf("/proc/%d/root", leader), t: t, machine: m, leader: leader}
	b.Run("systemctl", "start", "dbus.service")
	b.AwaitBus()
	return b
}

// AwaitBus waits until systemd is on the bus: it comes a moment after dbus.service was started.
func (b *Box) AwaitBus() {
	b.t.Helper()
	for end := time.Now().Add(bootLimit); ; time.Sleep(20 * time.Millisecond) {
		out, err := b.Exec(b.t.Context(), "busctl", "status", "org.freedesktop.systemd1")
		if err == nil {
			return
		}
		if time.Now().After(end) {
			b.t.Fatalf("systemd is not on the bus: %v\n%s", err, out)
		}
	}
}

// without ends a test that cannot have a box.
func without(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("no systemd box, and CI must have one: %s", reason)
	}
	t.Skipf("no systemd box: %s", reason)
}

// For returns the box for a part of the test: what fails there ends that part.
func (b *Box) For(t testing.TB) *Box {
	part := *b
	part.t = t
	return &part
}

// Command returns a command that runs in the box as root, with a clean environment. It is not started. When ctx ends it is killed,
// though not what it started; that ends with the box. After that it cannot be started.
func (b *Box) Command(ctx context.Context, args ...string) *exec.Cmd {
	enter := []string{"--target", strconv.Itoa(b.leader), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--"}
	cmd := exec.CommandContext(ctx, "nsenter", append(enter, args...)...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "SYSTEMD_PAGER=", "HOME=/root"}
	// nsenter waits for the command as its child. Killed itself it would leave that to process 1 of the host, and no box ends before all who
	// were in it are waited for.
	cmd.Cancel = func() error {
		pid := cmd.Process.Pid
		children := processes(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
		if len(children) == 0 {
			return cmd.Process.Kill()
		}
		if err := cmd.Process.Signal(syscall.Signal(0)); err != nil {
			return err // it has ended, and they may be children of another
		}
		for _, child := range children {
			_ = child.Kill()
		}
		return nil
	}
	cmd.WaitDelay = 10 * time.Second
	if !b.machine.isUp() {
		cmd.Err = errDown // the number of its PID 1 may be that of a process of the host by now
	}
	return cmd
}

// Exec runs a command in the box as root, and returns what it printed on both outputs.
func (b *Box) Exec(ctx context.Context, args ...string) (string, error) {
	out, err := b.Command(ctx, args...).CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("run %q in the box: %w", strings.Join(args, " "), err)
	}
	return string(out), nil
}

// Run is Exec for a command that must succeed: else the test ends. It returns what was printed without space at its ends.
func (b *Box) Run(args ...string) string {
	b.t.Helper()
	out, err := b.Exec(b.t.Context(), args...)
	if err != nil {
		b.t.Fatalf("%v\n%s", err, out)
	}
	return strings.TrimSpace(out)
}

// Push writes a file of the box, with the directories above it, none of which may be an absolute link. What runs of an old file goes on with it.
func (b *Box) Push(name string, data []byte, mode fs.FileMode) {
	b.t.Helper()
	if err := b.push(name, data, mode); err != nil {
		b.t.Fatalf("push %q into the box: %v", name, err)
	}
}

func (b *Box) push(name string, data []byte, mode fs.FileMode) error {
	// An absolute link, such as /var/run, would lead into the file system of the host: a root refuses it.
	root, err := os.OpenRoot(b.Root)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	if !b.machine.isUp() {
		return errDown // see Command
	}
	name = strings.TrimPrefix(path.Clean(name), "/")
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	// A new file in the place of the old one: a program that runs cannot be written.
	fresh := name + ".pushed"
	if err := root.WriteFile(fresh, data, 0o600); err != nil {
		return err
	}
	if err := root.Chmod(fresh, mode); err != nil {
		return err
	}
	return root.Rename(fresh, name)
}

// PushFile is Push with what a file of this machine holds, such as a program from Build.
func (b *Box) PushFile(name, from string, mode fs.FileMode) {
	b.t.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		b.t.Fatalf("push %q into the box: %v", name, err)
	}
	b.Push(name, data, mode)
}

// PushSelf puts the program of this test into the box. A TestMain that looks at the name, os.Args[0], makes of it any
// program that a unit is to start.
func (b *Box) PushSelf(name string) {
	b.t.Helper()
	self, err := os.Executable()
	if err != nil {
		b.t.Fatal(err)
	}
	b.PushFile(name, self, 0o755)
}

// Build builds a main package of this module, as it is shipped, and returns the path of the program, which is there until the test ends.
func Build(t testing.TB, pkg string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), path.Base(pkg))
	cmd := exec.CommandContext(t.Context(), "go", "build", "-tags", "nethttpomithttp2", "-trimpath", "-o", program, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, out)
	}
	return program
}
