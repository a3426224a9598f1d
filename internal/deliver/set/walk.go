package set

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/spinecert/spinecert/internal/deliver/failure"
)

// maxLinks bounds the symbolic links on the way, as the kernel does.
const maxLinks = 40

// walk goes the way to a directory as the kernel would, element by element, and
// returns the directory, open for reading, and what fstat said of it. Every directory
// on the way must be safe, so that it stays as it was seen.
func walk(path string) (int, unix.Stat_t, error) {
	if !filepath.IsAbs(path) {
		return -1, unix.Stat_t{}, failure.New(failure.DirectoryMissing, "give the whole path, from /", "open directory %q: it is no absolute path", path)
	}
	fd, err := openAt(unix.AT_FDCWD, "/", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return -1, unix.Stat_t{}, failure.New(failure.NotWritable, "", "open directory %q: %w", path, err)
	}
	w := &walker{path: path, at: "/", fd: fd, rest: elements(path)}
	defer func() { _ = closeFD(w.fd) }()
	if w.is, err = fstat(fd); err == nil {
		err = w.safe()
	}
	for err == nil && len(w.rest) > 0 {
		err = w.step()
	}
	if err != nil {
		return -1, w.is, err
	}
	fd, err = w.enter()
	return fd, w.is, err
}

// walker is how far walk came.
type walker struct {
	path  string      // as it was given
	at    string      // without symbolic links
	fd    int         // of at, for nothing but going on
	is    unix.Stat_t // of fd
	rest  []string    // what comes after at
	links int
}

// elements are those of a path, without those that mean nothing.
func elements(path string) []string {
	var out []string
	for e := range strings.SplitSeq(path, "/") {
		if e != "" && e != "." {
			out = append(out, e)
		}
	}
	return out
}

// step goes to the next element. Of a symbolic link the kernel is asked through a
// descriptor of the link itself: what is looked at is what is followed.
func (w *walker) step() error {
	name := w.rest[0]
	path := filepath.Join(w.at, name)
	fd, err := openAt(w.fd, name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return w.gone(path, err)
	}
	is, err := fstat(fd)
	if err != nil {
		return errors.Join(w.gone(path, err), closeFD(fd))
	}
	w.rest = w.rest[1:]
	switch kindOf(is) {
	case unix.S_IFLNK:
		defer func() { _ = closeFD(fd) }()
		return w.follow(path, fd)
	case unix.S_IFDIR:
		_ = closeFD(w.fd)
		w.fd, w.is, w.at = fd, is, path
		return w.safe()
	}
	_ = closeFD(fd)
	return failure.New(failure.DirectoryMissing, "name a directory", "open directory %q: %q is %s", w.path, path, kindName(is))
}

// follow goes where a symbolic link leads. In a directory that others may write it
// may be anybody's, although it is sticky: links of root can be linked to.
func (w *walker) follow(path string, link int) error {
	if w.shared() {
		return w.unsafe(fmt.Sprintf("name the directory that %q leads to", path), "%q is a symbolic link in a directory that others may write", path)
	}
	target, err := readlinkAt(link, "")
	if w.links++; err == nil && w.links > maxLinks {
		err = unix.ELOOP
	}
	if err != nil {
		return w.gone(path, err)
	}
	w.rest = append(elements(target), w.rest...)
	if !filepath.IsAbs(target) {
		return nil
	}
	fd, err := openAt(unix.AT_FDCWD, "/", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return w.gone("/", err)
	}
	_ = closeFD(w.fd)
	w.fd, w.at = fd, "/"
	if w.is, err = fstat(fd); err != nil {
		return w.gone("/", err)
	}
	return nil // it is safe: walk began there
}

// shared reports whether others than the owner may put something into the directory.
func (w *walker) shared() bool {
	return w.is.Mode&0o002 != 0 || w.is.Mode&0o020 != 0 && w.is.Gid != 0
}

// safe is nil where nobody but root and this process may change what is in the
// directory that was come to. In a sticky one on the way others cannot take away what
// comes next, as that belongs to root or to us.
func (w *walker) safe() error {
	last := len(w.rest) == 0
	if w.is.Uid != 0 && !isOurs(w.is) {
		owner := "root"
		if last {
			owner = userName(uint32(os.Geteuid()))
		}
		return w.unsafe(fmt.Sprintf("chown %s %s", owner, shell(w.at)), "%q belongs to %s", w.at, userName(w.is.Uid))
	}
	if w.listed() && (last || w.is.Mode&unix.S_ISVTX == 0) {
		return w.unsafe("look with getfacl, then: setfacl -b "+shell(w.at), "an access list lets others write %q", w.at)
	}
	if !w.shared() || !last && w.is.Mode&unix.S_ISVTX != 0 {
		return nil
	}
	if w.is.Mode&0o002 != 0 {
		return w.unsafe("chmod go-w "+shell(w.at), "everybody may write %q", w.at)
	}
	return w.unsafe("chmod g-w "+shell(w.at), "group %s may write %q", groupName(w.is.Gid), w.at)
}

// listed reports whether others may write the directory although its group is root: the
// bits of the group are then those of an access list. Where it cannot be found out they may.
func (w *walker) listed() bool {
	if w.is.Mode&0o020 == 0 || w.is.Gid != 0 {
		return false
	}
	fd, err := openAt(w.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return true
	}
	defer func() { _ = closeFD(fd) }()
	return hasList(fd, accessList)
}

// unsafe names mode and owner of the directory that was come to, too.
func (w *walker) unsafe(advice, format string, args ...any) error {
	return failure.New(failure.UnsafeDirectory, advice, "open directory %q: %s (%q has mode %04o, owner %s, group %s)",
		w.path, fmt.Sprintf(format, args...), w.at, w.is.Mode&allModes, userName(w.is.Uid), groupName(w.is.Gid))
}

// gone says why an element cannot be come to.
func (w *walker) gone(path string, err error) error {
	switch {
	case missing(err):
		return failure.New(failure.DirectoryMissing, fmt.Sprintf("install -d -o %s -m 0755 %s", userName(uint32(os.Geteuid())), shell(w.path)),
			"open directory %q: %q is not there", w.path, path)
	case errors.Is(err, unix.EACCES):
		return failure.New(failure.NotWritable, fmt.Sprintf("chmod o+x %s; %s", shell(w.at), sandboxHint(w.path)), "open directory %q: look up %q: %w", w.path, path, err)
	case errors.Is(err, unix.ELOOP):
		return failure.New(failure.DirectoryMissing, "name the directory itself", "open directory %q: %q leads in a circle", w.path, path)
	}
	return failure.New(failure.NotWritable, "", "open directory %q: look up %q: %w", w.path, path, err)
}

// enter opens the directory that was come to for work, if this process may write it.
func (w *walker) enter() (int, error) {
	fd, err := openAt(w.fd, ".", unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err == nil {
		err = again(func() error { return unix.Faccessat(w.fd, ".", unix.R_OK|unix.W_OK|unix.X_OK, unix.AT_EACCESS) })
		if err == nil {
			return fd, nil
		}
		_ = closeFD(fd)
	}
	return -1, classify("open directory", w.path, w.path, err)
}

// userName is a user as people know him.
func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return id
}

func groupName(gid uint32) string {
	id := strconv.FormatUint(uint64(gid), 10)
	if g, err := user.LookupGroupId(id); err == nil {
		return g.Name
	}
	return id
}

// shell quotes a path for a command in a hint.
func shell(path string) string {
	if path != "" && !strings.ContainsFunc(path, func(r rune) bool {
		return !strings.ContainsRune("/._-+@%:,=", r) && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}) {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
