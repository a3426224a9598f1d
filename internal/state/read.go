package state

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/spinecert/spinecert/internal/durable"
)

// maxFile bounds every file that is read.
const maxFile = 1 << 20

var errSymlink = errors.New("is a symbolic link")

// at calls f with the directory that holds name, open, and the last element. No
// symbolic link is followed on the way.
func (d *Directory) at(name string, f func(dir int, base string) error) error {
	conn, err := d.root.SyscallConn()
	if err != nil {
		return err
	}
	elements := strings.Split(name, "/")
	last := len(elements) - 1
	controlErr := conn.Control(func(root uintptr) {
		fd := int(root)
		defer func() { closeUnless(fd, int(root)) }()
		for _, e := range elements[:last] {
			var next int
			if next, err = openAt(fd, e, unix.O_DIRECTORY); err != nil {
				return
			}
			closeUnless(fd, int(root))
			fd = next
		}
		err = f(fd, elements[last])
	})
	return errors.Join(controlErr, err)
}

func closeUnless(fd, root int) {
	if fd != root {
		_ = unix.Close(fd) // read only
	}
}

func openAt(dir int, name string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC|flags, 0)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.ELOOP):
			err = errSymlink
		case errors.Is(err, syscall.ENOTDIR) && flags&unix.O_DIRECTORY != 0:
			err = durable.ErrNotDirectory
		}
		return fd, err
	}
}

// open opens a file or a directory below the state directory.
func (d *Directory) open(name string, flags int) (f *os.File, err error) {
	err = d.at(name, func(dir int, base string) error {
		fd, err := openAt(dir, base, flags)
		if err == nil {
			f = os.NewFile(uintptr(fd), base)
		}
		return err
	})
	return f, err
}

// readFile reads a regular file.
func (d *Directory) readFile(name string) ([]byte, error) {
	f, err := d.open(name, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, durable.ErrNotRegular
	}
	var data bytes.Buffer
	data.Grow(int(min(info.Size(), maxFile)) + bytes.MinRead)
	_, err = data.ReadFrom(io.LimitReader(f, maxFile+1))
	if err == nil && data.Len() > maxFile {
		err = fmt.Errorf("more than %d bytes", maxFile)
	}
	return data.Bytes(), err
}

// names lists a directory in the order of names. One that is not there is empty.
func (d *Directory) names(name string) ([]string, error) {
	f, err := d.open(name, unix.O_DIRECTORY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fail("read directory", d.abs(name), err)
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	slices.Sort(names)
	return names, fail("read directory", d.abs(name), err)
}

// lstat describes a file, and does not follow it.
func (d *Directory) lstat(name string) (st unix.Stat_t, err error) {
	err = d.at(name, func(dir int, base string) error {
		return unix.Fstatat(dir, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	})
	return st, err
}

func (d *Directory) exists(name string) bool {
	_, err := d.lstat(name)
	return !errors.Is(err, fs.ErrNotExist)
}

// isKind reports whether what is there is of this kind, such as unix.S_IFREG.
func isKind(st unix.Stat_t, kind uint32) bool { return st.Mode&unix.S_IFMT == kind }

// regular is nil for a regular file.
func (d *Directory) regular(name string) error {
	st, err := d.lstat(name)
	if err == nil && !isKind(st, unix.S_IFREG) {
		err = durable.ErrNotRegular
	}
	return err
}

// readlink returns where a symbolic link points to.
func (d *Directory) readlink(name string) (target string, err error) {
	err = d.at(name, func(dir int, base string) error {
		buf := make([]byte, 256)
		n, err := unix.Readlinkat(dir, base, buf)
		if errors.Is(err, syscall.EINVAL) {
			err = durable.ErrNotLink
		}
		target = string(buf[:max(n, 0)])
		return err
	})
	return target, err
}

// hidden tells temporaries.
func hidden(name string) bool { return strings.HasPrefix(name, ".") }

// join is path.Join for names below the state directory.
func join(elements ...string) string { return path.Join(elements...) }
