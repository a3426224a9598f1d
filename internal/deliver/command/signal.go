package command

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/spinecert/spinecert/internal/deliver/failure"
)

const largestPIDFile = 32 // bytes

// Signal sends HUP, USR1, USR2, WINCH or TERM to the process that a PID file names. The file must belong to root, to
// the caller or to the owner of that process, and nobody else may write it: a service can have
// only itself signalled. The error is a *failure.Error: unit_inactive when there is no such process, not_permitted
// when the kernel says no or the file is not to be trusted, reload_failed else.
func Signal(pidFile, signal string) error {
	number := unix.SignalNum("SIG" + signal)
	if !slices.Contains([]string{"HUP", "USR1", "USR2", "WINCH", "TERM"}, signal) {
		return failure.New(failure.ReloadFailed, "choose HUP, USR1, USR2, WINCH or TERM", "send signal %q: not one that is sent", signal)
	}
	pid, owner, err := readPID(pidFile)
	if err != nil {
		return err
	}
	// From here on the descriptor, not the number, is the process: a number may be given to another one.
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return notSignalled(pidFile, signal, pid, err)
	}
	defer func() { _ = unix.Close(fd) }()
	if exited(fd) {
		return notSignalled(pidFile, signal, pid, unix.ESRCH)
	}
	if err := mayName(pidFile, owner, pid); err != nil {
		return err
	}
	if err := unix.PidfdSendSignal(fd, number, nil, 0); err != nil {
		return notSignalled(pidFile, signal, pid, err)
	}
	return nil
}

// readPID returns the number in a PID file and the file's owner.
func readPID(pidFile string) (pid int, owner uint32, err error) {
	fd, err := unix.Open(pidFile, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.ENOENT):
		return 0, 0, failure.New(failure.UnitInactive, "start the service, or correct pid_file", "read PID file %q: it is not there: the service does not run", pidFile)
	case errors.Is(err, unix.EACCES):
		return 0, 0, failure.New(failure.NotPermitted, "let the daemon's user read it, or reload through the unit", "read PID file %q: %w", pidFile, err)
	case errors.Is(err, unix.ELOOP):
		return 0, 0, failure.New(failure.ReloadFailed, "give the path of the file itself", "read PID file %q: it is a symbolic link", pidFile)
	case err != nil:
		return 0, 0, failure.New(failure.ReloadFailed, "", "read PID file %q: %w", pidFile, err)
	}
	file := os.NewFile(uintptr(fd), pidFile)
	defer func() { _ = file.Close() }()
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return 0, 0, failure.New(failure.ReloadFailed, "", "read PID file %q: %w", pidFile, err)
	}
	switch {
	case stat.Mode&unix.S_IFMT != unix.S_IFREG:
		return 0, 0, failure.New(failure.ReloadFailed, "name the file that the service writes its number into", "read PID file %q: it is no regular file", pidFile)
	case stat.Mode&0o022 != 0:
		return 0, 0, failure.New(failure.NotPermitted, fmt.Sprintf("chmod go-w %s", quoteShell(pidFile)), "read PID file %q: others than its owner may write it", pidFile)
	}
	data, err := io.ReadAll(io.LimitReader(file, largestPIDFile+1))
	if err != nil {
		return 0, 0, failure.New(failure.ReloadFailed, "", "read PID file %q: %w", pidFile, err)
	}
	number, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 22) // PID_MAX_LIMIT is 1<<22
	pid = int(number)
	if err != nil || len(data) > largestPIDFile || pid <= 1 {
		return 0, 0, failure.New(failure.ReloadFailed, "it must hold one number above 1 and nothing else; else reload through the unit or a command", "read PID file %q: it does not hold one process number", pidFile)
	}
	if pid == os.Getpid() {
		return 0, 0, failure.New(failure.ReloadFailed, "correct pid_file", "read PID file %q: it names this daemon itself", pidFile)
	}
	return pid, stat.Uid, nil
}

// mayName returns an error when the owner of a PID file may not have that process signalled.
func mayName(pidFile string, owner uint32, pid int) error {
	if owner == 0 || int(owner) == os.Geteuid() {
		return nil
	}
	var process unix.Stat_t
	err := unix.Stat(fmt.Sprintf("/proc/%d", pid), &process) // the directory belongs to the effective user
	if err == nil && process.Uid == owner {
		return nil
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
