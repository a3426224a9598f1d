package durable

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// ReplaceFrom is Replace for what need not be in memory: the next size bytes of
// from. If it has fewer, the error is io.ErrUnexpectedEOF, and nothing is replaced.
func (k Disk) ReplaceFrom(path string, from io.Reader, size int64, mode fs.FileMode) error {
	return k.replace(filepath.Dir(path), filepath.Base(path), func(root *os.Root, temporary string) error {
		return k.createWith(root, temporary, mode, func(f *os.File) error { return k.copy(f, temporary, from, size) })
	})
}

// copy leaves half of the data where it is to fail, as write does.
func (k Disk) copy(f *os.File, name string, from io.Reader, size int64) error {
	half := size / 2
	if err := copyExactly(f, from, half); err != nil {
		return err
	}
	return k.do("write", name, func() error { return copyExactly(f, from, size-half) })
}

func copyExactly(to io.Writer, from io.Reader, n int64) error {
	_, err := io.CopyN(to, from, n)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// Spool returns an empty file in dir, for reading and writing by its owner alone. It
// has no name, so that it is gone when it is closed, or when the process ends. Where
// the file system cannot do that, it has one for a moment, which begins with ".".
func (k Disk) Spool(dir string) (*os.File, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	var f *os.File
	err = k.do("open", "spool", func() (err error) {
		f, err = root.OpenFile(".", os.O_RDWR|unix.O_TMPFILE|os.O_EXCL, 0o600)
		return err
	})
	if errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.EISDIR) || errors.Is(err, syscall.EINVAL) {
		return k.spoolNamed(root)
	}
	return f, err
}

func (k Disk) spoolNamed(root *os.Root) (*os.File, error) {
	name := temporaryName("spool")
	var f *os.File
	err := k.do("open", name, func() (err error) {
		f, err = root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := k.remove(root, name); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
