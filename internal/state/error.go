package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// ErrReadOnly is matched by the error of every change to a Directory that [Open]
// returned.
var ErrReadOnly = errors.New("opened for reading only")

// failure is what went wrong with one path.
type failure struct {
	doing string // "read generation"
	path  string
	err   error
	hint  string
}

// fail makes a failure; nil stays nil.
func fail(doing, path string, err error) error {
	if err == nil {
		return nil
	}
	return &failure{doing: doing, path: path, err: err}
}

func failf(doing, path, hint, format string, args ...any) error {
	return &failure{doing: doing, path: path, err: fmt.Errorf(format, args...), hint: hint}
}

// Error returns `doing "path": cause`.
func (f *failure) Error() string { return fmt.Sprintf("%s %q: %v", f.doing, f.path, cause(f.err)) }

// Unwrap returns the cause.
func (f *failure) Unwrap() error { return f.err }

// Hint returns the next action, or "".
func (f *failure) Hint() string {
	switch {
	case f.hint != "":
		return f.hint
	case errors.Is(f.err, syscall.ENOSPC) || errors.Is(f.err, syscall.EDQUOT):
		dir := filepath.Dir(f.path) // what could not be made is not there to be asked about
		return fmt.Sprintf("make room: df -h %q; df -i %q", dir, dir)
	case errors.Is(f.err, syscall.EROFS):
		return "the file system is mounted read-only: mount it for writing, and look into the kernel's log for the reason"
	case errors.Is(f.err, syscall.EIO):
		return "the disk fails: look into the kernel's log"
	case errors.Is(f.err, fs.ErrPermission):
		return fmt.Sprintf("the state directory belongs to the user that the daemon runs as; look with: ls -ld %q", f.path)
	case errors.Is(f.err, ErrReadOnly):
		return "this command does not write the state directory"
	}
	return ""
}

// cause is what there is to say of an error whose path is told already: of several
// the first, as the others are from cleaning up after it.
func cause(err error) error {
	for {
		switch e := err.(type) {
		case *fs.PathError:
			err = e.Err
		case *os.LinkError:
			err = e.Err
		case *os.SyscallError:
			err = e.Err
		case interface{ Unwrap() []error }:
			all := e.Unwrap()
			if len(all) == 0 || errors.Join(all...).Error() != err.Error() {
				return err // it has words of its own
			}
			err = all[0]
		default:
			return err
		}
	}
}
