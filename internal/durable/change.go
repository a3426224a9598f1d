package durable

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"syscall"
)

// Create writes one new file with exactly this mode; see [Dir.Create].
func Create(path string, data []byte, mode fs.FileMode) error {
	return Disk{}.Create(path, data, mode)
}

// Create is the function [Create].
func (k Disk) Create(path string, data []byte, mode fs.FileMode) error {
	parent, base, err := at(path)
	if err != nil {
		return err
	}
	defer parent.Close()
	if err := k.create(parent, base, data, mode); err != nil {
		return err
	}
	if err := k.sync(parent, "."); err != nil {
		return errors.Join(err, k.remove(parent, base))
	}
	return nil
}

// Replace writes a file with exactly this mode and puts it in the place of the
// one that is there, if any, by a rename: readers see the old or the new. What is
// no regular file stays, and is ErrNotRegular.
func Replace(path string, data []byte, mode fs.FileMode) error {
	return Disk{}.Replace(path, data, mode)
}

// Replace is the function [Replace].
func (k Disk) Replace(path string, data []byte, mode fs.FileMode) error {
	return k.ReplaceBelow(filepath.Dir(path), filepath.Base(path), data, mode)
}

// ReplaceBelow is Replace for name, a path below dir, with its temporary file in
// dir itself: nobody has to look for one elsewhere.
func (k Disk) ReplaceBelow(dir, name string, data []byte, mode fs.FileMode) error {
	return k.replace(dir, name, func(root *os.Root, temporary string) error { return k.create(root, temporary, data, mode) })
}

// replace puts what create makes in the place of name, a path below dir.
func (k Disk) replace(dir, name string, create func(root *os.Root, temporary string) error) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	info, err := root.Lstat(name)
	if err == nil && !info.Mode().IsRegular() {
		return ErrNotRegular
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	temporary := temporaryName(path.Base(name))
	if err := create(root, temporary); err != nil {
		return err
	}
	if err := k.rename(root, temporary, name); err != nil {
		return errors.Join(err, k.remove(root, temporary))
	}
	return k.sync(root, path.Dir(name))
}

// Swap makes the symbolic link name in dir point to target, by a rename: readers
// see the old or the new. What is no symbolic link stays, and is ErrNotLink. On an
// error the link is what it was, as far as the disk allows.
func (k Disk) Swap(dir, name, target string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	old, err := root.Readlink(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		if _, there := root.Lstat(name); there == nil {
			err = ErrNotLink
		}
		return err
	}
	if err := k.link(root, name, target); err != nil {
		return err
	}
	err = k.sync(root, ".")
	switch {
	case err == nil:
		return nil
	case old == "":
		return errors.Join(err, k.remove(root, name))
	default:
		return errors.Join(err, k.link(root, name, old))
	}
}

// link swaps, and fsyncs nothing.
func (k Disk) link(root *os.Root, name, target string) error {
	temporary := temporaryName(name)
	if err := k.do("symlink", name, func() error { return root.Symlink(target, temporary) }); err != nil {
		return err
	}
	if err := k.rename(root, temporary, name); err != nil {
		return errors.Join(err, k.remove(root, temporary))
	}
	return nil
}

// Remove removes one file, or a symbolic link itself.
func (k Disk) Remove(path string) error {
	parent, base, err := at(path)
	if err != nil {
		return err
	}
	defer parent.Close()
	if err := k.remove(parent, base); err != nil {
		return err
	}
	return k.sync(parent, ".")
}

// RemoveDir removes a directory with all that is in it, so that it is there whole
// or not at all: it is renamed first, to a name that begins with ".". On an error
// that came later it may be left under that name. A directory that is under such a
// name already is not renamed again.
func (k Disk) RemoveDir(path string) error {
	parent, base, err := at(path)
	if err != nil {
		return err
	}
	defer parent.Close()
	info, err := parent.Lstat(base)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return ErrNotDirectory
	}
	if base[0] != '.' {
		temporary := temporaryName(base)
		if err := k.renameDir(parent, base, temporary); err != nil {
			return err
		}
		if err := k.sync(parent, "."); err != nil {
			return errors.Join(err, k.renameDir(parent, temporary, base))
		}
		base = temporary
	}
	if err := k.removeAll(parent, base); err != nil {
		return err
	}
	return k.sync(parent, ".")
}

// MakeDir makes a directory with mode 0700 in one that is there. If there is a
// directory of that name already, it stays as it is, and the error is nil; anything
// else is ErrNotDirectory.
func (k Disk) MakeDir(path string) error { return k.MakeEntrance(path, -1) }

// MakeEntrance is MakeDir for a directory that the group with this number gets
// through and sees nothing of: mode 0710. Where the group may not be given, or is
// -1, the mode is 0700.
func (k Disk) MakeEntrance(path string, gid int) error {
	parent, base, err := at(path)
	if err != nil {
		return err
	}
	defer parent.Close()
	if there, err := isDir(parent, base); there || err != nil {
		return err
	}
	if err := k.mkdir(parent, base); err != nil {
		if there, _ := isDir(parent, base); there { // somebody was faster
			return nil
		}
		return err
	}
	mode := privateDir
	if gid >= 0 && k.do("chown", base, func() error { return parent.Lchown(base, -1, gid) }) == nil {
		mode = entranceDir
	}
	if err := errors.Join(k.chmodDir(parent, base, mode), k.sync(parent, ".")); err != nil {
		return errors.Join(err, k.remove(parent, base)) // the next one fsyncs it
	}
	return nil
}

// isDir reports whether there is a directory. What is something else is an error.
func isDir(root *os.Root, name string) (bool, error) {
	info, err := root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err == nil && !info.IsDir():
		return false, ErrNotDirectory
	}
	return err == nil, err
}

// SyncDir fsyncs a directory, so that the names in it outlive a crash.
func (k Disk) SyncDir(path string) error {
	root, err := os.OpenRoot(path)
	if err != nil {
		return err
	}
	defer root.Close()
	return k.sync(root, ".")
}

// sharedDir is the mode of a directory that a group writes to: sticky, so that its
// members cannot take each other's files, or what is in the directory, away.
const sharedDir = fs.ModeSetgid | fs.ModeSticky | 0o770

// MakeShared makes the directory name, a path below dir, with mode 3770, for the
// group with this number, or the process's own if it is -1 or may not be given. If
// there is a directory already, it stays as it is, and the error is nil; anything
// else is ErrNotDirectory. But one that is our own and has mode 2770, as earlier
// versions made it, becomes sticky.
func (k Disk) MakeShared(dir, name string, gid int) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if there, err := isDir(root, name); err != nil {
		return err
	} else if there {
		return k.makeSticky(root, name)
	}
	temporary := temporaryName(path.Base(name))
	if err := k.mkdir(root, temporary); err != nil {
		return err
	}
	if gid >= 0 {
		_ = k.do("chown", temporary, func() error { return root.Chown(temporary, -1, gid) })
	}
	// After the group: changing that takes the bit away.
	err = k.do("chmod", name, func() error { return root.Chmod(temporary, sharedDir) })
	if err == nil {
		err = k.do("rename", path.Base(name), func() error { return root.Rename(temporary, name) })
	}
	if err != nil {
		return errors.Join(err, k.remove(root, temporary))
	}
	if err := k.sync(root, path.Dir(name)); err != nil {
		return errors.Join(err, k.remove(root, name))
	}
	return nil
}

// makeSticky changes a shared directory of an earlier version. Members of the group
// may rename it meanwhile: it is changed through what was opened and looked at.
func (k Disk) makeSticky(root *os.Root, name string) error {
	was, err := root.Lstat(name)
	if err != nil || was.Mode() != fs.ModeDir|fs.ModeSetgid|0o770 || !ownedByUs(was) {
		return err
	}
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if is, err := f.Stat(); err != nil || !os.SameFile(was, is) {
		return cmp.Or(err, ErrNotDirectory)
	}
	return k.do("chmod", name, func() error { return f.Chmod(sharedDir) })
}

// ownedByUs reports whether we may change the mode of a directory and keep its
// setgid bit: the kernel takes that from who is not in the group.
func ownedByUs(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(st.Uid) != os.Geteuid() {
		return false
	}
	groups, _ := os.Getgroups()
	return st.Uid == 0 || int(st.Gid) == os.Getegid() || slices.Contains(groups, int(st.Gid))
}
