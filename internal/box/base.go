package box

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	prefix = "spinecert-box-"    // of the directory of a box, whose lock is held as long as its test runs
	making = "spinecert-newbox-" // of one that has no lock yet, or whose lock is not held yet
)

// newBase makes the directory of a box, and returns it with its lock, which is held.
func newBase() (string, *os.File, error) {
	for range 100 {
		fresh, err := os.MkdirTemp("", making)
		if err != nil {
			return "", nil, err
		}
		base, lock, err := lockBase(fresh)
		if err == nil {
			return base, lock, nil
		}
		_ = os.RemoveAll(fresh)
		// Another process swept it away before it was locked, or the name is taken.
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
			return "", nil, err
		}
	}
	return "", nil, fmt.Errorf("make a directory in %q: others remove it", os.TempDir())
}

// lockBase locks a fresh directory, and then gives it the name of one that is in use.
func lockBase(fresh string) (string, *os.File, error) {
	lock, err := os.OpenFile(filepath.Join(fresh, "lock"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", nil, err
	}
	base := filepath.Join(filepath.Dir(fresh), prefix+strings.TrimPrefix(filepath.Base(fresh), making))
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return "", nil, errors.Join(err, lock.Close())
	}
	// Who held the lock before was sweeping: then it is not there to be renamed.
	if err := os.Rename(fresh, base); err != nil {
		return "", nil, errors.Join(err, lock.Close())
	}
	return base, lock, nil
}

// removeBase removes the directory of a box. The lock goes last: without it nobody can tell a left directory from one that is being made.
func removeBase(base string) error {
	entries, err := os.ReadDir(base)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.Name() != "lock" {
			err = errors.Join(err, os.RemoveAll(filepath.Join(base, entry.Name())))
		}
	}
	if err != nil {
		return err
	}
	return os.RemoveAll(base)
}

// sweep removes what is left of boxes whose test was killed: nobody holds their lock.
func sweep(mounts []string) {
	for _, kind := range []string{making, prefix} {
		left, _ := filepath.Glob(filepath.Join(os.TempDir(), kind+"*"))
		for _, base := range left {
			sweepOne(base, mounts)
		}
	}
}

func sweepOne(base string, mounts []string) {
	lock, err := openLock(base)
	if errors.Is(err, errUnlocked) {
		_ = unix.Rmdir(base) // only when it is empty. Who is making it makes another one.
		return
	}
	if err != nil {
		return
	}
	defer func() { _ = lock.Close() }()
	if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		return
	}
	var groups []string
	for _, mount := range mounts {
		group := filepath.Join(mount, filepath.Base(base))
		groups = append(groups, group)
		// Its processes end with those of the test. One that was just started when the test was killed may have missed it.
		_ = os.WriteFile(filepath.Join(group, "cgroup.kill"), []byte("1"), 0)
	}
	var errs error
	for _, group := range groups {
		errs = errors.Join(errs, removeGroup(group))
	}
	if errs == nil { // else something still runs
		_ = removeBase(base)
	}
}

var (
	errUnlocked = errors.New("a directory without a lock")
	errForeign  = errors.New("not the directory of a box")
)

// openLock opens the lock of a box. Anybody may make anything of such a name where temporary files are, so that nothing is followed, waited for
// or removed that is not as newBase makes it.
func openLock(base string) (*os.File, error) {
	fd, err := unix.Open(base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return nil, err
	}
	if int(stat.Uid) != os.Geteuid() || stat.Mode&0o777 != 0o700 {
		return nil, errForeign
	}
	lock, err := unix.Openat(fd, "lock", unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil, errUnlocked
	}
	if err != nil {
		return nil, err
	}
	if err := unix.Fstat(lock, &stat); err != nil || stat.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, errors.Join(errForeign, err, unix.Close(lock))
	}
	return os.NewFile(uintptr(lock), filepath.Join(base, "lock")), nil
}
