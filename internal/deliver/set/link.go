package set

import (
	"crypto/rand"
	"errors"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/spinecert/spinecert/internal/deliver/failure"
)

// Switch has `current` point to a set, or be away for "", by one rename. On an error it
// is what it was, as far as the disk allows. What is no link of ours stays: planted.
func (t *Target) Switch(name string) error {
	if err := t.stillThere(); err != nil {
		return err
	}
	old, err := t.Current()
	if err != nil || name == "" && old == "" {
		return err
	}
	if name == "" {
		err = remove(t.disk, t.fd, Link)
	} else {
		if err := t.isSet(name); err != nil {
			return err
		}
		err = t.link(name)
	}
	if err != nil {
		return t.linkFailed(err)
	}
	if err = syncFD(t.disk, t.fd, "."); err == nil {
		return nil
	}
	if old == "" {
		return t.linkFailed(errors.Join(err, remove(t.disk, t.fd, Link)))
	}
	return t.linkFailed(errors.Join(err, t.link(old)))
}

func (t *Target) linkFailed(err error) error {
	return classify("swap link", t.path, filepath.Join(t.path, Link), err)
}

// link puts a link in the place of what is there, by one rename.
func (t *Target) link(name string) error {
	temporary := "." + Link + "." + rand.Text()
	if err := do(t.disk, "symlink", Link, func() error { return unix.Symlinkat(name, t.fd, temporary) }); err != nil {
		return err
	}
	err := do(t.disk, "rename", Link, func() error { return unix.Renameat(t.fd, temporary, t.fd, Link) })
	if err != nil {
		return errors.Join(err, remove(t.disk, t.fd, temporary))
	}
	return nil
}

// isSet is nil for a directory that Write made.
func (t *Target) isSet(name string) error {
	path := filepath.Join(t.path, name)
	if !namePattern.MatchString(name) {
		return failure.New(failure.Planted, "", "open set %q: that is no name of a set", path)
	}
	is, err := lstatAt(t.fd, name)
	switch {
	case missing(err):
		return failure.New(failure.Drift, "it is written anew by itself", "open set %q: it is not there", path)
	case err != nil:
		return classify("open set", t.path, path, err)
	case !isDir(is) || !isOurs(is):
		return failure.New(failure.Planted, "look what it is, and remove it: ls -lan "+shell(t.path), "open set %q: it is %s of user %s", path, kindName(is), userName(is.Uid))
	case is.Mode&allModes != setMode:
		return failure.New(failure.Drift, "it is written anew by itself", "open set %q: it has mode %04o, want %04o", path, is.Mode&allModes, setMode)
	}
	return nil
}

// Current returns the set that `current` points to, or "" where there is no link. What
// is no link of ours is `planted`. Whether the set is there, Check says.
func (t *Target) Current() (string, error) {
	path := filepath.Join(t.path, Link)
	is, err := lstatAt(t.fd, Link)
	switch {
	case missing(err):
		return "", nil
	case err != nil:
		return "", classify("read link", t.path, path, err)
	case kindOf(is) != unix.S_IFLNK:
		return "", failure.New(failure.Planted, "it is not the daemon's: look what it is, and move it away", "read link %q: it is %s, and must be a link to a set or not be there", path, kindName(is))
	}
	target, err := readlinkAt(t.fd, Link)
	if err != nil {
		return "", classify("read link", t.path, path, err)
	}
	if !namePattern.MatchString(target) {
		return "", failure.New(failure.Planted, "it is not the daemon's: look at it with ls -l, and remove it: rm "+shell(path), "read link %q: it leads to %q, and no set has that name", path, target)
	}
	return target, nil
}
