package activation

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The variables of sd_listen_fds(3).
const (
	variablePID   = "LISTEN_PID"
	variableFDs   = "LISTEN_FDS"
	variableNames = "LISTEN_FDNAMES"
)

const (
	first       = 3    // descriptor that is passed, see sd_listen_fds(3)
	mostSockets = 4096 // more are a mistake
	unnamed     = "unknown"
)

// Sockets returns the listening sockets that systemd passed, by name and in the order of their descriptors; none if it
// passed none, or not to this process. They are closed when a program is started, and the variables are gone from the
// environment, with an error too.
func Sockets() (map[string][]*os.File, error) {
	pid, fds, names := os.Getenv(variablePID), os.Getenv(variableFDs), os.Getenv(variableNames)
	for _, v := range []string{variablePID, variableFDs, variableNames} {
		if err := os.Unsetenv(v); err != nil {
			return nil, err
		}
	}
	named, err := parse(pid, fds, names, os.Getpid())
	if err != nil {
		return nil, fmt.Errorf("take sockets from systemd: %w", err)
	}
	sockets := make(map[string][]*os.File)
	var problems []error
	for i, name := range named {
		fd := first + i
		if err := examine(fd); err != nil {
			problems = append(problems, &socketError{fd: fd, name: name, err: err})
			continue
		}
		unix.CloseOnExec(fd)
		sockets[name] = append(sockets[name], os.NewFile(uintptr(fd), name))
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	return sockets, nil
}

// parse returns the names of the descriptors for the process with the number self.
func parse(pid, fds, names string, self int) ([]string, error) {
	if pid == "" && fds == "" {
		return nil, nil
	}
	who, err := strconv.ParseUint(pid, 10, 31)
	if err != nil || who == 0 {
		return nil, fmt.Errorf("%s=%q is no process", variablePID, pid)
	}
	if who != uint64(self) {
		return nil, nil // meant for the process that started this one
	}
	n, err := strconv.ParseUint(fds, 10, 31)
	if err != nil || n > mostSockets {
		return nil, fmt.Errorf("%s=%q is no number from 0 to %d", variableFDs, fds, mostSockets)
	}
	if names == "" || n == 0 {
		return without(int(n)), nil
	}
	named := strings.Split(names, ":")
	if len(named) != int(n) {
		return nil, fmt.Errorf("%s has %d names, and %s says %d", variableNames, len(named), variableFDs, n)
	}
	for i, name := range named {
		if name == "" {
			named[i] = unnamed
		}
	}
	return named, nil
}

func without(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = unnamed
	}
	return names
}
