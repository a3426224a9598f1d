package set

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/spinecert/spinecert/internal/durable"
)

// sys.go: system calls relative to an open directory. Those that change something
// ask disk first, by the words of durable.Disk.

const readFlags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_CLOEXEC

// do makes one system call, unless it is to fail.
func do(disk durable.Disk, op, name string, call func() error) error {
	if disk.Fault != nil {
		if err := disk.Fault(op, name); err != nil {
			return err
		}
	}
	return again(call)
}

// again repeats what a signal interrupted.
func again(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func openAt(dir int, name string, flags int, mode uint32) (fd int, err error) {
	err = again(func() error {
		fd, err = unix.Openat(dir, name, flags|unix.O_CLOEXEC, mode)
		return err
	})
	return fd, err
}

// openDir opens a directory to work in it, and never follows a link to one.
func openDir(dir int, name string) (int, error) {
	return openAt(dir, name, readFlags|unix.O_DIRECTORY, 0)
}

// closeFD is not repeated: after EINTR it is closed.
func closeFD(fd int) error {
	if err := unix.Close(fd); err != nil && !errors.Is(err, unix.EINTR) {
		return err
	}
	return nil
}

func fstat(fd int) (st unix.Stat_t, err error) {
	err = again(func() error { return unix.Fstat(fd, &st) })
	return st, err
}

func lstatAt(dir int, name string) (st unix.Stat_t, err error) {
	err = again(func() error { return unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) })
	return st, err
}

func readlinkAt(dir int, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, name, buf)
	return string(buf[:max(n, 0)]), err
}

func syncFD(disk durable.Disk, fd int, name string) error {
	return do(disk, "fsync", name, func() error { return unix.Fsync(fd) })
}

func remove(disk durable.Disk, dir int, name string) error {
	return do(disk, "remove", name, func() error { return unix.Unlinkat(dir, name, 0) })
}

func removeDir(disk durable.Disk, dir int, name string) error {
	return do(disk, "remove", name, func() error { return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR) })
}

// namesIn lists a directory in the order of names. It opens it anew, so that nobody
// shares the place it has come to.
func namesIn(dir int) ([]string, error) {
	fd, err := openDir(dir, ".")
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), ".")
	defer f.Close()
	names, err := f.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

func kindOf(st unix.Stat_t) uint32   { return st.Mode & unix.S_IFMT }
func isDir(st unix.Stat_t) bool      { return kindOf(st) == unix.S_IFDIR }
func sameFile(a, b unix.Stat_t) bool { return a.Dev == b.Dev && a.Ino == b.Ino }
func isOurs(st unix.Stat_t) bool     { return int(st.Uid) == os.Geteuid() }
func missing(err error) bool         { return errors.Is(err, fs.ErrNotExist) }

// kindName is what something is called that is not what it should be.
func kindName(st unix.Stat_t) string {
	switch kindOf(st) {
	case unix.S_IFREG:
		return "a file"
	case unix.S_IFDIR:
		return "a directory"
	case unix.S_IFLNK:
		return "a symbolic link"
	case unix.S_IFIFO:
		return "a pipe"
	}
	return "a device or a socket"
}

// randomHex returns n random bytes in lower-case hex.
func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
