package durable

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// What stands in the way of a directory or a file.
var (
	ErrNotDirectory = errors.New("is not a directory")
	ErrNotRegular   = errors.New("is not a regular file")
)

const privateDir fs.FileMode = 0o700

// File is one file of a new directory.
type File struct {
	Name string // without a directory
	Data []byte
	Mode fs.FileMode
}

// Dir is an open directory. Renaming it, or putting another in its place, does
// not change where it writes.
type Dir struct {
	parent *os.Root // nil where the directory has no name of its own, such as "."
	base   string
	root   *os.Root
	made   bool
	files  []string
}

// OpenDir opens a directory, and makes it with mode 0700 if it is not there; its
// parent must be. A directory that is there keeps its mode. A symbolic link is
// ErrNotDirectory.
func OpenDir(path string) (*Dir, error) {
	path = filepath.Clean(path)
	base := filepath.Base(path)
	if base == "." || base == ".." || base == string(filepath.Separator) {
		root, err := os.OpenRoot(path)
		if err != nil {
			return nil, err
		}
		return &Dir{base: base, root: root}, nil
	}
	parent, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	d := &Dir{parent: parent, base: base}
	if err := d.open(); err != nil {
		return nil, errors.Join(err, d.Discard())
	}
	return d, nil
}

// open makes the directory or takes the one that is there.
func (d *Dir) open() error {
	err := d.parent.Mkdir(d.base, privateDir)
	switch {
	case err == nil:
		d.made = true
		err = errors.Join(d.parent.Chmod(d.base, privateDir), syncDir(d.parent))
	case errors.Is(err, fs.ErrExist):
		err = nil
	}
	if err != nil {
		return err
	}
	info, err := d.parent.Lstat(d.base)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return ErrNotDirectory
	}
	if d.root, err = d.parent.OpenRoot(d.base); err != nil {
		return err
	}
	opened, err := d.root.Stat(".")
	if err == nil && !os.SameFile(info, opened) { // somebody was faster
		err = ErrNotDirectory
	}
	return err
}

// Exists reports whether the directory has something of this name, be it a
// dangling symbolic link.
func (d *Dir) Exists(name string) (bool, error) {
	_, err := d.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Create writes a new file with exactly this mode. When it returns nil, file and
// directory are on disk. fs.ErrExist matches where there is something of that name.
func (d *Dir) Create(name string, data []byte, mode fs.FileMode) error {
	if err := create(d.root, name, data, mode); err != nil {
		return err
	}
	d.files = append(d.files, name)
	return syncDir(d.root)
}

// Close ends the use of d and leaves what was written.
func (d *Dir) Close() error {
	var errs []error
	for _, root := range []*os.Root{d.root, d.parent} {
		if root != nil {
			errs = append(errs, root.Close())
		}
	}
	return errors.Join(errs...)
}

// Discard takes away the files that Create made, and the directory if OpenDir
// made it, and closes d.
func (d *Dir) Discard() error {
	var errs []error
	for _, name := range d.files {
		errs = append(errs, d.root.Remove(name))
	}
	if d.made {
		errs = append(errs, d.parent.Remove(d.base)) // fails where others wrote into it
	}
	return errors.Join(append(errs, d.Close())...)
}

// NewDirectory makes a directory with files in it, whole or not at all: it is
// written under another name beside its own, fsynced, and renamed. A directory
// that is there must be empty, and is replaced; anything else is fs.ErrExist.
func NewDirectory(path string, files ...File) error {
	path = filepath.Clean(path)
	parent, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer parent.Close()
	base := filepath.Base(path)
	if err := vacant(parent, base); err != nil {
		return err
	}
	temporary := temporaryName(base)
	if err := parent.Mkdir(temporary, privateDir); err != nil {
		return err
	}
	if err := fill(parent, temporary, files); err != nil {
		return errors.Join(err, parent.RemoveAll(temporary))
	}
	if err := renameDir(parent, temporary, base); err != nil {
		return errors.Join(err, parent.RemoveAll(temporary))
	}
	return syncDir(parent)
}

// renameDir is rename(2): it takes the place of nothing but an empty directory.
// Root.Rename refuses that one as well.
func renameDir(parent *os.Root, from, to string) error {
	dir, err := parent.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	fd := int(dir.Fd())
	if err := unix.Renameat(fd, from, fd, to); err != nil {
		return &fs.PathError{Op: "rename", Path: to, Err: err}
	}
	return nil
}

// Vacant returns nil where NewDirectory could make the directory now.
func Vacant(path string) error {
	path = filepath.Clean(path)
	parent, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer parent.Close()
	return vacant(parent, filepath.Base(path))
}

func vacant(parent *os.Root, base string) error {
	if base == "." || base == ".." || base == string(filepath.Separator) {
		return &fs.PathError{Op: "mkdir", Path: base, Err: fs.ErrExist}
	}
	info, err := parent.Lstat(base)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return ErrNotDirectory
	}
	dir, err := parent.Open(base)
	if err != nil {
		return err
	}
	defer dir.Close()
	if names, _ := dir.Readdirnames(1); len(names) > 0 {
		return &fs.PathError{Op: "mkdir", Path: base, Err: fs.ErrExist}
	}
	return nil
}

func fill(parent *os.Root, name string, files []File) error {
	if err := parent.Chmod(name, privateDir); err != nil {
		return err
	}
	root, err := parent.OpenRoot(name)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, f := range files {
		if err := create(root, f.Name, f.Data, f.Mode); err != nil {
			return err
		}
	}
	return syncDir(root)
}

// Create writes one new file with exactly this mode; see [Dir.Create].
func Create(path string, data []byte, mode fs.FileMode) error {
	parent, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer parent.Close()
	if err := create(parent, filepath.Base(path), data, mode); err != nil {
		return err
	}
	return syncDir(parent)
}

// Replace writes a file with exactly this mode and puts it in the place of the
// one that is there, if any, by a rename: readers see the old or the new. What is
// no regular file stays, and is ErrNotRegular.
func Replace(path string, data []byte, mode fs.FileMode) error {
	parent, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer parent.Close()
	base := filepath.Base(path)
	info, err := parent.Lstat(base)
	if err == nil && !info.Mode().IsRegular() {
		return ErrNotRegular
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	temporary := temporaryName(base)
	if err := create(parent, temporary, data, mode); err != nil {
		return err
	}
	if err := parent.Rename(temporary, base); err != nil {
		return errors.Join(err, parent.Remove(temporary))
	}
	return syncDir(parent)
}

// temporaryName is hidden, beside the name it is for, and not to be guessed.
func temporaryName(base string) string {
	return fmt.Sprintf(".%.100s.%s", base, rand.Text())
}

// create writes and fsyncs one file, or leaves none.
func create(root *os.Root, name string, data []byte, mode fs.FileMode) error {
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode&0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(mode) // the umask may have taken bits away
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, root.Remove(name))
	}
	return nil
}

// syncDir fsyncs a directory, so that the names in it outlive a crash.
func syncDir(root *os.Root) error {
	dir, err := root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
