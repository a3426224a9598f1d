package command

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/spinecert/spinecert/internal/deliver/failure"
)

const largestPIDFile = 32 // bytes

// Signal sends HUP, USR1, USR2, WINCH or TERM to the process that a PID file names. The file must belong to root, to
// the caller or to the owner of that process, and nobody else may write it: a service can have
// only itself signalled. A process that started more than a minute after the file was written is not the one that it
// means. The error is a *failure.Error: unit_inactive when there is no such process, not_permitted when the
// kernel says no or the file is not to be trusted, reload_failed else.
func Signal(pidFile, signal string) error {
	number := unix.SignalNum("SIG" + signal)
	if !slices.Contains([]string{"HUP", "USR1", "USR2", "WINCH", "TERM"}, signal) {
		return failure.New(failure.ReloadFailed, "choose HUP, USR1, USR2, WINCH or TERM", "send signal %q: not one that is sent", signal)
	}
	record, err := readPID(pidFile)
	if err != nil {
		return err
	}
	pid := record.pid
	// From here on the descriptor, not the number, is the process: a number may be given to another one.
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return notSignalled(pidFile, signal, pid, err)
	}
	defer func() { _ = unix.Close(fd) }()
	if exited(fd) {
		return notSignalled(pidFile, signal, pid, unix.ESRCH)
	}
	if err := mayName(pidFile, record.owner, pid); err != nil {
		return err
	}
	if err := record.oldEnough(pidFile); err != nil {
		return err
	}
	if err := unix.PidfdSendSignal(fd, number, nil, 0); err != nil {
		return notSignalled(pidFile, signal, pid, err)
	}
	return nil
}

// pidRecord is a PID file.
type pidRecord struct {
	pid       int
	owner     uint32
	written   time.Time
	forgotten bool // its file system does not outlive a boot
}

// readPID reads a PID file.
func readPID(pidFile string) (r pidRecord, err error) {
	fd, err := unix.Open(pidFile, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.ENOENT):
		return pidRecord{}, failure.New(failure.UnitInactive, "start the service, or correct pid_file", "read PID file %q: it is not there: the service does not run", pidFile)
	case errors.Is(err, unix.EACCES):
		return pidRecord{}, failure.New(failure.NotPermitted, "let the daemon's user read it, or reload through the unit", "read PID file %q: %w", pidFile, err)
	case errors.Is(err, unix.ELOOP):
		return pidRecord{}, failure.New(failure.ReloadFailed, "give the path of the file itself", "read PID file %q: it is a symbolic link", pidFile)
	case err != nil:
		return pidRecord{}, failure.New(failure.ReloadFailed, "", "read PID file %q: %w", pidFile, err)
	}
	file := os.NewFile(uintptr(fd), pidFile)
	defer func() { _ = file.Close() }()
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return pidRecord{}, failure.New(failure.ReloadFailed, "", "read PID file %q: %w", pidFile, err)
	}
	switch {
	case stat.Mode&unix.S_IFMT != unix.S_IFREG:
		return pidRecord{}, failure.New(failure.ReloadFailed, "name the file that the service writes its number into", "read PID file %q: it is no regular file", pidFile)
	case stat.Mode&0o022 != 0:
		return pidRecord{}, failure.New(failure.NotPermitted, fmt.Sprintf("chmod go-w %s", quoteShell(pidFile)), "read PID file %q: others than its owner may write it", pidFile)
	}
	data, err := io.ReadAll(io.LimitReader(file, largestPIDFile+1))
	if err != nil {
		return pidRecord{}, failure.New(failure.ReloadFailed, "", "read PID file %q: %w", pidFile, err)
	}
	number, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 22) // PID_MAX_LIMIT is 1<<22
	r = pidRecord{pid: int(number), owner: stat.Uid, written: time.Unix(stat.Mtim.Unix()), forgotten: forgotten(fd)}
	if err != nil || len(data) > largestPIDFile || r.pid <= 1 {
		return pidRecord{}, failure.New(failure.ReloadFailed, "it must hold one number above 1 and nothing else; else reload through the unit or a command", "read PID file %q: it does not hold one process number", pidFile)
	}
	if r.pid == os.Getpid() {
		return pidRecord{}, failure.New(failure.ReloadFailed, "correct pid_file", "read PID file %q: it names this daemon itself", pidFile)
	}
	return r, nil
}

// forgotten reports whether a file is in memory, as below /run.
func forgotten(fd int) bool {
	var in unix.Statfs_t
	err := unix.Fstatfs(fd, &in)
	return err == nil && (in.Type == unix.TMPFS_MAGIC || in.Type == unix.RAMFS_MAGIC)
}

// mayName returns an error when the owner of a PID file may not have that process signalled.
func mayName(pidFile string, owner uint32, pid int) error {
	if owner == 0 || int(owner) == os.Geteuid() {
		return nil
	}
	var process unix.Stat_t
	err := unix.Stat(fmt.Sprintf("/proc/%d", pid), &process) // the directory belongs to the effective user
	switch {
	case err == nil && process.Uid == owner:
		return nil
	case errors.Is(err, unix.ENOENT): // it was there just now
		return failure.New(failure.NotPermitted, "systemctl edit spinecertd, [Service] ProtectProc=default; or have root own the PID file, or reload through the unit",
			"signal process %d of %q: the file belongs to user %d, and whether the process does is hidden from the daemon", pid, pidFile, owner)
	}
	return failure.New(failure.NotPermitted, "the PID file must belong to root or to the user of the service", "signal process %d of %q: the file belongs to user %d and the process does not", pid, pidFile, owner)
}

// exited reports whether the process has ended, though perhaps nobody has asked for its status yet.
func exited(pidfd int) bool {
	poll := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	n, err := unix.Poll(poll, 0)
	return err == nil && n == 1
}

func notSignalled(pidFile, signal string, pid int, err error) error {
	switch {
	case errors.Is(err, unix.ESRCH), errors.Is(err, unix.ENOENT), errors.Is(err, unix.EINVAL): // EINVAL: a thread's number
		return failure.New(failure.UnitInactive, "start the service; if it runs, its PID file is stale", "send %s to process %d of %q: it does not run", signal, pid, pidFile)
	case errors.Is(err, unix.EPERM):
		return failure.New(failure.NotPermitted, "a signal needs the service's own user, or CAP_KILL in a drop-in; or reload through the unit or a command", "send %s to process %d of %q: %w", signal, pid, pidFile, err)
	}
	return failure.New(failure.ReloadFailed, "", "send %s to process %d of %q: %w", signal, pid, pidFile, err)
}
