package set

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/spinecert/spinecert/internal/deliver/failure"
)

// Check returns nil if `current` points to a set and that is as it was written: the same
// files and no others, each regular, under one name, with its size, mode and owner, the
// directory without an access list, and, if full, each file with its content and without
// such a list; of a file that was given away, so that the daemon cannot read it, its ctime
// stands for both. The error is a *failure.Error: drift, which names the file and
// what is wrong with it; planted, where `current` is no link of ours; not_writable where it
// cannot be found out.
func (t *Target) Check(name string, entries []Entry, full bool) error {
	if err := t.leadsTo(name); err != nil {
		return err
	}
	_, err := t.intact(name, entries, full)
	return err
}

// Intact is a full Check of a set that `current` need not point to.
func (t *Target) Intact(name string, entries []Entry) error {
	_, err := t.intact(name, entries, true)
	return err
}

// Read returns the content of a file of a set, which is what Check holds to be intact: at most the
// entry's size is read, and its SHA-256 must be the entry's (drift).
func (t *Target) Read(name string, entry Entry) ([]byte, error) {
	dir, _, err := t.openSet(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = closeFD(dir) }()
	l := looking{t: t, set: name, dir: dir, full: true}
	var data bytes.Buffer
	if _, err := l.file(entry, &data); err != nil {
		return nil, err
	}
	if int64(data.Len()) != entry.Size { // it was given away
		return nil, classify("read file", t.path, l.path(entry.Name), unix.EACCES)
	}
	return data.Bytes(), nil
}

func (t *Target) leadsTo(name string) error {
	current, err := t.Current()
	switch {
	case err != nil || current == name:
		return err
	case current == "":
		return drifted(filepath.Join(t.path, Link), "it is not there")
	}
	return drifted(filepath.Join(t.path, Link), "it leads to %q, want %q", current, name)
}

// drifted says what is not as it was written.
func drifted(path, format string, args ...any) error {
	return failure.New(failure.Drift, "it is delivered anew by itself; find out who changes it", "look at %q: %s", path, fmt.Sprintf(format, args...))
}

// listed is for what others may get at, or may not, whatever its mode says.
func listed(path string) error { return drifted(path, "it has an access list (getfacl shows it)") }

// openSet opens a directory that Write made.
func (t *Target) openSet(name string) (int, unix.Stat_t, error) {
	if err := t.isSet(name); err != nil {
		if failure.ReasonOf(err, "") == failure.Planted {
			err = drifted(filepath.Join(t.path, name), "it is not the directory that was written")
		}
		return -1, unix.Stat_t{}, err
	}
	fd, err := openDir(t.fd, name)
	if err != nil {
		return -1, unix.Stat_t{}, t.changed(filepath.Join(t.path, name), err)
	}
	is, err := fstat(fd)
	if err != nil || !isOurs(is) {
		return -1, is, errors.Join(t.changed(filepath.Join(t.path, name), err), closeFD(fd))
	}
	return fd, is, nil
}

// changed tells what was changed from what the host is in the way of.
func (t *Target) changed(path string, err error) error {
	switch {
	case err == nil:
		return drifted(path, "it is somebody else's now")
	case missing(err):
		return drifted(path, "it is not there")
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ENXIO), errors.Is(err, unix.EIO):
		return drifted(path, "it cannot be read: %v", err)
	}
	return classify("look at", t.path, path, err)
}

// intact looks at a set and returns what Seen remembers.
func (t *Target) intact(name string, entries []Entry, full bool) (*Seen, error) {
	began := time.Now()
	dir, is, err := t.openSet(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = closeFD(dir) }()
	if hasList(dir, accessList) {
		return nil, listed(filepath.Join(t.path, name))
	}
	seen := t.newSeen(name, is, began)
	l := looking{t: t, set: name, dir: dir, full: full}
	if err := l.names(entries); err != nil {
		return nil, err
	}
	for _, e := range entries {
		is, err := l.file(e, nil)
		if err != nil {
			return nil, err
		}
		seen.file(e.Name, is)
	}
	return seen, nil
}

// looking is one look at a set.
type looking struct {
	t    *Target
	set  string
	dir  int
	full bool
}

func (l *looking) path(name string) string { return filepath.Join(l.t.path, l.set, name) }

// names wants the files of a set and no others.
func (l *looking) names(entries []Entry) error {
	names, err := namesIn(l.dir)
	if err != nil {
		return l.t.changed(filepath.Join(l.t.path, l.set), err)
	}
	for _, e := range entries {
		if !slices.Contains(names, e.Name) {
			return drifted(l.path(e.Name), "it is not there")
		}
	}
	for _, name := range names {
		if !slices.ContainsFunc(entries, func(e Entry) bool { return e.Name == name }) {
			return drifted(l.path(name), "it does not belong to the set")
		}
	}
	return nil
}

// file holds one file against its entry, and copies what it holds. A pipe is not
// waited for, a device not opened, a link not followed.
func (l *looking) file(e Entry, to io.Writer) (unix.Stat_t, error) {
	is, err := lstatAt(l.dir, e.Name)
	if err != nil {
		return is, l.t.changed(l.path(e.Name), err)
	}
	if err := l.fits(e, is); err != nil || !l.full {
		return is, err
	}
	fd, err := openAt(l.dir, e.Name, readFlags, 0)
	if errors.Is(err, unix.EACCES) && e.UID != os.Geteuid() {
		if is.Ctim.Nano() != e.Changed {
			return is, drifted(l.path(e.Name), "it was changed")
		}
		return is, nil // it was given away, for its owner alone
	}
	if err != nil {
		return is, l.t.changed(l.path(e.Name), err)
	}
	f := os.NewFile(uintptr(fd), e.Name)
	defer f.Close()
	opened, err := fstat(fd)
	if err == nil {
		err = l.fits(e, opened)
	}
	if err == nil && hasList(fd, accessList) {
		err = listed(l.path(e.Name))
	}
	if err != nil {
		return is, l.t.changedOr(l.path(e.Name), err)
	}
	h := sha256.New()
	if to == nil {
		to = io.Discard
	}
	n, err := io.Copy(io.MultiWriter(h, to), io.LimitReader(f, e.Size+1))
	if err != nil {
		return is, l.t.changed(l.path(e.Name), err)
	}
	if n != e.Size || hex.EncodeToString(h.Sum(nil)) != e.SHA256 {
		return is, drifted(l.path(e.Name), "its content was changed")
	}
	return opened, nil
}

func (t *Target) changedOr(path string, err error) error {
	if errors.As(err, new(*failure.Error)) {
		return err
	}
	return t.changed(path, err)
}

// fits holds what the kernel says of a file against its entry.
func (l *looking) fits(e Entry, is unix.Stat_t) error {
	path := l.path(e.Name)
	switch {
	case kindOf(is) != unix.S_IFREG:
		return drifted(path, "it is %s, want a file", kindName(is))
	case is.Nlink != 1:
		return drifted(path, "it has %d names", is.Nlink)
	case is.Mode&allModes != uint32(e.Mode):
		return drifted(path, "it has mode %04o, want %04o", is.Mode&allModes, uint32(e.Mode))
	case int(is.Uid) != e.UID || int(is.Gid) != e.GID:
		return drifted(path, "it belongs to user %d and group %d, want %d and %d", is.Uid, is.Gid, e.UID, e.GID)
	case is.Size != e.Size:
		return drifted(path, "it has %d bytes, want %d", is.Size, e.Size)
	}
	return nil
}
