package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// What stands in the way of a directory or a file.
var (
	ErrNotDirectory = errors.New("is not a directory")
	ErrNotRegular   = errors.New("is not a regular file")
	ErrNotLink      = errors.New("is not a symbolic link")
)

// The modes of directories.
const (
	privateDir  fs.FileMode = 0o700
	entranceDir fs.FileMode = 0o710
)

// File is one file of a new directory.
type File struct {
	Name string // without a directory
	Data []byte
	Mode fs.FileMode
	// Make, if not nil, gives Data. It is called once the files before this one are
	// on disk.
	Make func() ([]byte, error)
}

// Dir is an open directory. Renaming it, or putting another in its place, does
// not change where it writes.
type Dir struct {
	disk   Disk
	parent *os.Root // nil where the directory has no name of its own, such as "."
	base   string
	root   *os.Root
	made   bool
	files  []string
}

// OpenDir opens a directory, and makes it with mode 0700 if it is not there; its
// parent must be. A directory that is there keeps its mode. A symbolic link is
// ErrNotDirectory.
func OpenDir(path string) (*Dir, error) { return Disk{}.OpenDir(path) }

// OpenDir is the function [OpenDir].
func (k Disk) OpenDir(path string) (*Dir, error) {
	path = filepath.Clean(path)
	base := filepath.Base(path)
	if base == "." || base == ".." || base == string(filepath.Separator) {
		root, err := os.OpenRoot(path)
		if err != nil {
			return nil, err
		}
		return &Dir{disk: k, base: base, root: root}, nil
	}
	parent, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	d := &Dir{disk: k, parent: parent, base: base}
	if err := d.open(); err != nil {
		return nil, errors.Join(err, d.Discard())
	}
	return d, nil
}

// OpenParent opens the directory that holds path, to write there; it must be there.
func OpenParent(path string) (*Dir, error) { return Disk{}.OpenParent(path) }

// OpenParent is the function [OpenParent].
func (k Disk) OpenParent(path string) (*Dir, error) {
	root, err := os.OpenRoot(filepath.Dir(filepath.Clean(path)))
	if err != nil {
		return nil, err
	}
	return &Dir{disk: k, base: ".", root: root}, nil
}

// open makes the directory or takes the one that is there.
func (d *Dir) open() error {
	err := d.disk.mkdir(d.parent, d.base)
	switch {
	case err == nil:
		d.made = true
		err = errors.Join(d.disk.chmodDir(d.parent, d.base, privateDir), d.disk.sync(d.parent, "."))
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
	if err := d.disk.create(d.root, name, data, mode); err != nil {
		return err
	}
	d.files = append(d.files, name)
	return d.disk.sync(d.root, ".")
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
		errs = append(errs, d.disk.remove(d.root, name))
	}
	if d.made {
		errs = append(errs, d.disk.remove(d.parent, d.base)) // fails where others wrote into it
	}
	return errors.Join(append(errs, d.Close())...)
}

// NewDirectory makes a directory with files in it, whole or not at all: it is
// written under another name beside its own, fsynced, and renamed. A directory
// that is there must be empty, and is replaced; anything else is fs.ErrExist.
func NewDirectory(path string, files ...File) error { return Disk{}.NewDirectory(path, files...) }

// NewDirectory is the function [NewDirectory].
func (k Disk) NewDirectory(path string, files ...File) error {
	parent, base, err := at(path)
	if err != nil {
		return err
	}
	defer parent.Close()
	if err := vacant(parent, base); err != nil {
		return err
	}
	temporary := temporaryName(base)
	if err := k.mkdir(parent, temporary); err != nil {
		return err
	}
	if err := k.fill(parent, temporary, files); err != nil {
		return errors.Join(err, k.removeAll(parent, temporary))
	}
	if err := k.renameDir(parent, temporary, base); err != nil {
		return errors.Join(err, k.removeAll(parent, temporary))
	}
	if err := k.sync(parent, "."); err != nil {
		if back := k.renameDir(parent, base, temporary); back != nil {
			return errors.Join(err, back) // it is whole, at least
		}
		return errors.Join(err, k.removeAll(parent, temporary))
	}
	return nil
}

// fill writes the files of a new directory.
func (k Disk) fill(parent *os.Root, name string, files []File) error {
	if err := k.chmodDir(parent, name, privateDir); err != nil {
		return err
	}
	root, err := parent.OpenRoot(name)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, f := range files {
		if f.Make != nil {
			if err := k.sync(root, "."); err != nil {
				return err
			}
			if f.Data, err = f.Make(); err != nil {
				return err
			}
		}
		if err := k.create(root, f.Name, f.Data, f.Mode); err != nil {
			return err
		}
	}
	return k.sync(root, ".")
}

// Vacant returns nil where NewDirectory could make the directory now.
func Vacant(path string) error {
	parent, base, err := at(path)
	if err != nil {
		return err
	}
	defer parent.Close()
	return vacant(parent, base)
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
