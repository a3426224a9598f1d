package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// lockState makes the state directory and takes its lock. Whoever holds the lock
// is the one writer of the directory. It is released when the process ends,
// however it ends.
func lockState(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, advised{fmt.Errorf("make state directory %q: %w", dir, errors.Unwrap(err)), "make it, mode 0700, and give it to the user that the daemon runs as"}
	}
	path := filepath.Join(dir, ".lock")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock %q: %w", path, errors.Unwrap(err))
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder := make([]byte, 32)
		n, _ := f.ReadAt(holder, 0) // the pid is a courtesy; the lock is what counts
		_ = f.Close()
		return nil, advised{fmt.Errorf("lock state directory %q: held by process %s: another daemon runs on it", dir, strings.TrimSpace(string(holder[:n]))),
			"stop that one first, or give this one a state.directory of its own"}
	}
	// A full disk must not keep the daemon from starting: the lock holds without the pid.
	if f.Truncate(0) == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return f, nil
}
