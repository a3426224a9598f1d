package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// ActAsOwner makes a process of root act as the owner of a state directory from
// then on: user, group, and no other groups. What it writes then belongs to whom
// the daemon runs as. There is no way back. It does nothing for others than root,
// and where everything on the way to the directory, and the directory itself as far
// as it is there, is root's.
//
// Who owns a directory or a symbolic link on the way decides where the way leads:
// the process then acts as the first of them that is not root, as root would write
// to wherever that one likes. The error says where nobody can tell whose the way is.
func ActAsOwner(dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	owner, err := firstOwner(dir)
	if err != nil || owner == nil {
		return err
	}
	uid, gid := int(owner.Uid), int(owner.Gid)
	// The user last: nobody else may set the groups.
	if err := syscall.Setgroups(nil); err != nil {
		return fail("act as the owner of", dir, err)
	}
	if err := syscall.Setresgid(gid, gid, gid); err != nil {
		return fail("act as the owner of", dir, err)
	}
	return fail("act as the owner of", dir, syscall.Setresuid(uid, uid, uid))
}

// firstOwner goes the way to a directory as the kernel would, and returns the first
// directory or symbolic link on it that is not root's; nil if there is none. What it
// goes through is root's and nobody else may change, so that it stays as it was seen.
func firstOwner(dir string) (*unix.Stat_t, error) {
	path, err := filepath.Abs(dir)
	if err != nil {
		return nil, fail("open state directory", dir, err)
	}
	w := &way{dir: dir, at: "/", rest: elements(path)}
	for name := ""; ; name, w.rest = w.rest[0], w.rest[1:] {
		var st unix.Stat_t
		err := unix.Lstat(filepath.Join(w.at, name), &st)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, w.missing(name)
		case err != nil:
			return nil, fail("open state directory", dir, err)
		case st.Uid != 0:
			return &st, nil
		case isKind(st, unix.S_IFLNK):
			err = w.follow(name)
		case len(w.rest) > 0 && isKind(st, unix.S_IFDIR):
			err = w.enter(name, st)
		default:
			return nil, nil // whether the directory itself will do, Lock says
		}
		if err != nil || len(w.rest) == 0 {
			return nil, err
		}
	}
}

// way is how far somebody came on the way to a directory.
type way struct {
	dir    string   // as it was given
	at     string   // without symbolic links
	rest   []string // what comes after the next element
	links  int
	shared string // at, if others may put something there
}

// maxLinks bounds the symbolic links on the way, as the kernel does.
const maxLinks = 40

// follow goes where a symbolic link leads.
func (w *way) follow(name string) error {
	target, err := os.Readlink(filepath.Join(w.at, name))
	if w.links++; w.links > maxLinks {
		err = syscall.ELOOP
	}
	if err != nil {
		return fail("open state directory", w.dir, err)
	}
	if filepath.IsAbs(target) {
		w.at, w.shared = "/", ""
	}
	w.rest = append(elements(target), w.rest...)
	return nil
}

// enter goes into a directory of root. In a sticky one others may put something, but
// not take away what is there and theirs is not.
func (w *way) enter(name string, st unix.Stat_t) error {
	w.at, w.shared = filepath.Join(w.at, name), ""
	if st.Mode&othersMayWrite == 0 {
		return nil
	}
	w.shared = w.at
	if st.Mode&unix.S_ISVTX == 0 {
		return failf("open state directory", w.dir, fmt.Sprintf("chmod go-w %q, or run the command as the user that the daemon runs as", w.at),
			"others may write %q above it, and put another in its place", w.at)
	}
	return nil
}

// missing is for what is not there: who makes it is root, unless others may be faster.
func (w *way) missing(name string) error {
	if w.shared == "" {
		return nil
	}
	return failf("open state directory", w.dir, fmt.Sprintf("make it for the user that the daemon runs as: mkdir -m 0700 %q", filepath.Join(w.at, name)),
		"it is not there, and in %q others may put something in its place", w.shared)
}

// elements are those of a path, without those that mean nothing.
func elements(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}
