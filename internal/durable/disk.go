package durable

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Disk makes the system calls. The zero value is ready for use.
type Disk struct {
	// Fault, if not nil, is asked before each system call that changes something:
	// mkdir, open (to make a file), write, chmod, chown, fsync, close (of a file that
	// was written), rename, remove and symlink, with the last element of the name.
	// Its error stands for that of the call, which is not made: but of a write the
	// first half, and the close. It may be called by several goroutines.
	Fault func(op, name string) error
}

// do makes one system call, unless it is to fail.
func (k Disk) do(op, name string, call func() error) error {
	if k.Fault != nil {
		if err := k.Fault(op, name); err != nil {
			return &fs.PathError{Op: op, Path: name, Err: err}
		}
	}
	return call()
}

func (k Disk) mkdir(root *os.Root, name string) error {
	return k.do("mkdir", name, func() error { return root.Mkdir(name, privateDir) })
}

func (k Disk) chmodDir(root *os.Root, name string, mode fs.FileMode) error {
	return k.do("chmod", name, func() error { return root.Chmod(name, mode) })
}

func (k Disk) remove(root *os.Root, name string) error {
	return k.do("remove", name, func() error { return root.Remove(name) })
}

// rename puts what is no directory in the place of what is no directory.
func (k Disk) rename(root *os.Root, from, to string) error {
	return k.do("rename", path.Base(to), func() error { return root.Rename(from, to) })
}

// renameDir is rename(2): it takes the place of nothing but an empty directory.
// Root.Rename refuses that one as well.
func (k Disk) renameDir(parent *os.Root, from, to string) error {
	dir, err := parent.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	fd := int(dir.Fd())
	return k.do("rename", to, func() error {
		if err := unix.Renameat(fd, from, fd, to); err != nil {
			return &fs.PathError{Op: "rename", Path: to, Err: err}
		}
		return nil
	})
}

// removeAll removes a file, or a directory with all that is in it.
func (k Disk) removeAll(root *os.Root, name string) error {
	info, err := root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && info.IsDir() {
		err = k.empty(root, name)
	}
	if err != nil {
		return err
	}
	return k.remove(root, name)
}

// empty removes what is in a directory. It goes on after an error: what holds a
// key should not stay because of something else.
func (k Disk) empty(root *os.Root, name string) error {
	sub, err := root.OpenRoot(name)
	if err != nil {
		return err
	}
	defer sub.Close()
	dir, err := sub.Open(".")
	if err != nil {
		return err
	}
	names, err := dir.Readdirnames(-1)
	errs := []error{err, dir.Close()}
	for _, n := range names {
		errs = append(errs, k.removeAll(sub, n))
	}
	return errors.Join(errs...)
}

// create writes and fsyncs one file, or leaves none.
func (k Disk) create(root *os.Root, name string, data []byte, mode fs.FileMode) error {
	return k.createWith(root, name, mode, func(f *os.File) error { return k.write(f, name, data) })
}

// createWith is create for what write puts into the file.
func (k Disk) createWith(root *os.Root, name string, mode fs.FileMode, write func(*os.File) error) error {
	var f *os.File
	err := k.do("open", name, func() (err error) {
		f, err = root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode&0o600)
		return err
	})
	if err != nil {
		return err
	}
	if err = write(f); err == nil {
		err = k.do("chmod", name, func() error { return f.Chmod(mode) }) // the umask may have taken bits away
	}
	if err == nil {
		err = k.do("fsync", name, f.Sync)
	}
	err = errors.Join(err, k.do("close", name, func() error { return nil }), f.Close())
	if err != nil {
		return errors.Join(err, k.remove(root, name))
	}
	return nil
}

// write leaves half of the data where it is to fail, as a full disk does.
func (k Disk) write(f *os.File, name string, data []byte) error {
	if k.Fault != nil {
		half := len(data) / 2
		if _, err := f.Write(data[:half]); err != nil {
			return err
		}
		data = data[half:]
	}
	return k.do("write", name, func() error {
		_, err := f.Write(data)
		return err
	})
}

// sync fsyncs a directory, so that the names in it outlive a crash.
func (k Disk) sync(root *os.Root, name string) error {
	dir, err := root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(k.do("fsync", path.Base(name), dir.Sync), dir.Close())
}

// temporaryName is hidden, beside the name it is for, and not to be guessed.
func temporaryName(base string) string {
	return fmt.Sprintf(".%.100s.%s", base, rand.Text())
}

// at opens the directory that holds path, for the name of path in it.
func at(path string) (parent *os.Root, base string, err error) {
	path = filepath.Clean(path)
	parent, err = os.OpenRoot(filepath.Dir(path))
	return parent, filepath.Base(path), err
}
