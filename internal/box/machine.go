package box

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// setUp makes the root of a box and becomes systemd-nspawn. It runs in a mount and a PID namespace of its own, of which it is process 1: when it is
// killed, the kernel ends all processes of the box, and with them the mounts. Arguments: directory, machine name, control groups.
const setUp = `set -eu
base=$1 name=$2
shift 2
for group; do echo $$ >"$group/cgroup.procs"; done
mount -t tmpfs -o mode=0755 tmpfs "$base/fs"
mount -t tmpfs -o mode=0755 tmpfs /run # locks of systemd-nspawn
cd "$base/fs"
mkdir upper work root
mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work root
# What the host has enabled is not started here.
rm -rf root/etc/systemd/system/*.wants root/etc/systemd/system/*.requires root/etc/systemd/system/default.target
for unit in timers.target systemd-journal-flush.service systemd-resolved.service systemd-networkd.service systemd-networkd.socket \
	systemd-timesyncd.service systemd-logind.service console-getty.service swap.target cryptsetup.target e2scrub_reap.service \
	systemd-update-done.service systemd-firstboot.service systemd-pstore.service ldconfig.service keyboard-setup.service apparmor.service; do
	ln -sfn /dev/null "root/etc/systemd/system/$unit"
done
tr -d - </proc/sys/kernel/random/uuid >root/etc/machine-id
exec systemd-nspawn --quiet --register=no --keep-unit --machine="$name" --directory="$base/fs/root" --private-network --link-journal=no \
	--resolv-conf=off --timezone=off --notify-ready=yes --console=pipe --boot systemd.unit=basic.target
`

// machine is what stands behind a Box.
type machine struct {
	base   string   // its directory: fs, where the mounts are, lock, notify and console
	groups []string // its control groups
	lock   *os.File
	notify *net.UnixConn
	ended  chan struct{} // closed when systemd-nspawn has; nil before it was started
	parent *os.Process   // unshare, whose child is systemd-nspawn
	leader *os.Process   // PID 1 of the box
	err    error
}

// newMachine starts systemd-nspawn, and removes what is left of machines whose tests were killed.
func newMachine(ctx context.Context) (*machine, error) {
	mounts, err := groupMounts()
	if err != nil {
		return nil, err
	}
	sweep(mounts)
	base, lock, err := newBase()
	if err != nil {
		return nil, err
	}
	m := &machine{base: base, lock: lock}
	if err := m.start(ctx, mounts); err != nil {
		return nil, errors.Join(err, m.stop())
	}
	return m, nil
}

func (m *machine) start(ctx context.Context, mounts []string) error {
	if err := os.Mkdir(filepath.Join(m.base, "fs"), 0o700); err != nil {
		return err
	}
	for _, mount := range mounts {
		group := filepath.Join(mount, filepath.Base(m.base))
		if err := os.Mkdir(group, 0o755); err != nil {
			return err
		}
		m.groups = append(m.groups, group)
	}
	var err error
	socket := filepath.Join(m.base, "notify")
	if m.notify, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"}); err != nil {
		return err
	}
	console, err := os.Create(filepath.Join(m.base, "console"))
	if err != nil {
		return err
	}
	defer func() { _ = console.Close() }()
	args := append([]string{"--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc", "--", "sh", "-c", setUp, "sh", m.base, strings.TrimPrefix(filepath.Base(m.base), "spinecert-")}, m.groups...)
	// It ends when it is stopped, after the context of the test.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), "unshare", args...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C", "NOTIFY_SOCKET=" + socket}
	cmd.Stdout, cmd.Stderr = console, console
	// With the process of the test, however that ends, goes the box. Setsid: a Ctrl-C is for the test.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	m.ended = make(chan struct{})
	go func() {
		defer close(m.ended)
		// Pdeathsig counts the end of the thread that started it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			m.parent = cmd.Process
		}
		started <- err
		if err == nil {
			m.err = cmd.Wait()
		}
	}()
	return <-started
}

// boot waits until the box is up, and returns its PID 1.
func (m *machine) boot(limit time.Duration) (leader int, err error) {
	up := make(chan error, 1)
	go func() {
		up <- m.listen()
		// systemd-nspawn passes on all that systemd says, and stands still when nobody reads it. It ends with the socket.
		_, _ = io.Copy(io.Discard, m.notify)
	}()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case err = <-up:
	case <-m.ended:
		err = fmt.Errorf("systemd-nspawn ended: %w", m.err)
	case <-timer.C:
		err = fmt.Errorf("not up within %s", limit)
	}
	if err != nil {
		return 0, fmt.Errorf("boot systemd in a container: %w\n%s", err, m.console())
	}
	// What systemd-nspawn says is its number in another namespace.
	for _, group := range m.groups {
		for _, process := range processes(filepath.Join(group, "payload/init.scope/cgroup.procs")) {
			if isFirst(process) { // the others are about to become units
				m.leader = process
				return process.Pid, nil
			}
		}
	}
	return 0, errors.New("boot systemd in a container: its PID 1 is not in payload/init.scope")
}

// listen returns when systemd-nspawn has said that the box is up, or the socket is closed.
func (m *machine) listen() error {
	buffer := make([]byte, 4096)
	for {
		n, err := m.notify.Read(buffer)
		if err != nil {
			return err
		}
		if slices.Contains(strings.Split(string(buffer[:n]), "\n"), "READY=1") {
			return nil
		}
	}
}

// console returns the end of what was printed.
func (m *machine) console() string {
	data, _ := os.ReadFile(filepath.Join(m.base, "console"))
	return strings.TrimSpace(string(data[max(0, len(data)-2048):]))
}

// isUp reports whether PID 1 of the box lives. A number that was read before is then its own.
func (m *machine) isUp() bool { return m.leader.Signal(syscall.Signal(0)) == nil }

// stop ends all processes of the box, and removes what was made for it.
func (m *machine) stop() error {
	var err error
	if m.parent != nil {
		err = m.kill()
	}
	if m.notify != nil {
		_ = m.notify.Close()
	}
	for _, group := range m.groups {
		err = errors.Join(err, removeGroup(group))
	}
	if err == nil { // else a sweep tries again
		err = removeBase(m.base)
	}
	return errors.Join(err, m.lock.Close())
}

// kill ends PID 1 of the box, and the kernel all the others; then systemd-nspawn sees it and tidies up after itself. One that did not
// come so far is killed itself.
func (m *machine) kill() error {
	select {
	case <-m.ended:
		return nil
	default:
	}
	if m.leader != nil {
		_ = m.leader.Kill()
		if m.hasEnded(10 * time.Second) {
			return nil
		}
	}
	_ = m.parent.Kill()
	if !m.hasEnded(10 * time.Second) {
		return fmt.Errorf("process %d does not end", m.parent.Pid)
	}
	return nil
}

func (m *machine) hasEnded(within time.Duration) bool {
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-m.ended:
		return true
	case <-timer.C:
		return false
	}
}
