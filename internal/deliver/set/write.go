package set

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/spinecert/spinecert/internal/deliver/failure"
	"github.com/spinecert/spinecert/internal/durable"
)

// Write makes a set and puts it nowhere yet: Switch does. It is on disk when Write
// returns; on an error nothing is left of it, unless the disk refuses that too, and
// then Prune takes it away. It returns its name. The error is a *failure.Error:
// not_writable, disk_full, planted, and directory_missing or unsafe_directory where
// the target directory is not any more what was opened.
func (t *Target) Write(files []File, now time.Time) (name string, entries []Entry, err error) {
	if err := t.checkFiles(files); err != nil {
		return "", nil, err
	}
	if err := t.stillThere(); err != nil {
		return "", nil, err
	}
	w, err := t.newSet(now)
	if err != nil {
		return "", nil, err
	}
	defer func() { _ = closeFD(w.fd) }()
	for _, f := range files {
		var e Entry
		if e, err = w.file(f); err != nil {
			break
		}
		entries = append(entries, e)
	}
	if err == nil {
		err = w.finish()
	}
	if err != nil {
		return "", nil, errors.Join(err, w.discard())
	}
	return w.name, entries, nil
}

// checkFiles refuses names that mean something else to somebody.
func (t *Target) checkFiles(files []File) error {
	seen := map[string]bool{}
	for _, f := range files {
		switch {
		case !filePattern.MatchString(f.Name) || f.Name == Link || namePattern.MatchString(f.Name):
			return failure.New(failure.NotWritable, "letters, digits and . _ - + @, at most 128, and no dot first", "write file %q in %q: it is no name for a file", f.Name, t.path)
		case seen[f.Name]:
			return failure.New(failure.NotWritable, "give each file a name of its own", "write file %q in %q: there are two of that name", f.Name, t.path)
		case f.Mode&^fs.ModePerm != 0:
			return failure.New(failure.NotWritable, "give permissions alone, such as 0640", "write file %q in %q: its mode %v is none for a file", f.Name, t.path, f.Mode)
		}
		seen[f.Name] = true
	}
	return nil
}

// writing is a set that is being made.
type writing struct {
	t     *Target
	name  string
	fd    int
	is    unix.Stat_t
	files []string // that were made
}

const nameAttempts = 8

// newSet makes the directory, for its owner alone.
func (t *Target) newSet(now time.Time) (*writing, error) {
	var name string
	err := error(unix.EEXIST)
	for i := 0; i < nameAttempts && errors.Is(err, unix.EEXIST); i++ {
		name = newName(now, randomHex(4))
		err = do(t.disk, "mkdir", name, func() error { return unix.Mkdirat(t.fd, name, privateMode) })
	}
	path := filepath.Join(t.path, name)
	if err != nil {
		return nil, classify("make directory", t.path, path, err)
	}
	w := &writing{t: t, name: name}
	if w.fd, err = openDir(t.fd, name); err == nil {
		if w.is, err = fstat(w.fd); err == nil && !isOurs(w.is) {
			err = unix.EEXIST // somebody was faster
		}
		if err == nil {
			err = withoutLists(t.disk, w.fd, name, defaultList, accessList)
		}
		if err != nil {
			_ = closeFD(w.fd)
		}
	}
	if err != nil {
		return nil, errors.Join(classify("make directory", t.path, path, err), notThere(removeDir(t.disk, t.fd, name)))
	}
	return w, nil
}

// file writes one file and hands it over.
func (w *writing) file(f File) (Entry, error) {
	disk, path := w.t.disk, filepath.Join(w.t.path, w.name, f.Name)
	var fd int
	err := do(disk, "open", f.Name, func() (err error) {
		fd, err = openAt(w.fd, f.Name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, uint32(f.Mode)&0o600)
		return err
	})
	if err != nil {
		return Entry{}, classify("write file", w.t.path, path, err)
	}
	w.files = append(w.files, f.Name)
	err = withoutLists(disk, fd, f.Name, accessList)
	if err == nil {
		err = writeAll(disk, fd, f.Name, f.Data)
	}
	if err == nil {
		err = hand(disk, fd, f, path)
	}
	if err == nil {
		err = syncFD(disk, fd, f.Name)
	}
	is, statErr := fstat(fd)
	err = errors.Join(err, statErr, do(disk, "close", f.Name, func() error { return nil }), closeFD(fd))
	if err != nil {
		return Entry{}, classify("write file", w.t.path, path, err)
	}
	sum := sha256.Sum256(f.Data)
	return Entry{Name: f.Name, SHA256: hex.EncodeToString(sum[:]), Size: is.Size, Mode: fs.FileMode(is.Mode & allModes),
		UID: int(is.Uid), GID: int(is.Gid), Changed: is.Ctim.Nano()}, nil
}

// writeAll leaves half of the data where it is to fail, as a full disk does.
func writeAll(disk durable.Disk, fd int, name string, data []byte) error {
	if disk.Fault != nil {
		half := len(data) / 2
		if err := writeFD(fd, data[:half]); err != nil {
			return err
		}
		data = data[half:]
	}
	return do(disk, "write", name, func() error { return writeFD(fd, data) })
}

func writeFD(fd int, data []byte) error {
	for len(data) > 0 {
		n, err := unix.Write(fd, data)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		data = data[max(n, 0):]
	}
	return nil
}

// hand sets mode, owner and group, through the descriptor. The mode first: who may
// give a file away need not be allowed to change what he gave. Until the set is whole
// nobody else gets to it.
func hand(disk durable.Disk, fd int, f File, path string) error {
	if err := do(disk, "chmod", f.Name, func() error { return unix.Fchmod(fd, uint32(f.Mode)) }); err != nil {
		return err
	}
	uid, gid := f.UID, f.GID
	if uid < 0 {
		uid = os.Geteuid()
	}
	if gid < 0 {
		gid = os.Getegid() // in a setgid directory it has another
	}
	is, err := fstat(fd)
	if err == nil && (int(is.Uid) != uid || int(is.Gid) != gid) {
		err = do(disk, "chown", f.Name, func() error { return unix.Fchown(fd, uid, gid) })
		if refused := notGiven(path, uid, gid, err); refused != nil {
			return refused
		}
		if err == nil {
			is, err = fstat(fd)
		}
	}
	switch {
	case err != nil:
		return err
	case int(is.Uid) != uid || int(is.Gid) != gid || is.Mode&allModes != uint32(f.Mode):
		return failure.New(failure.NotWritable, "deliver to a file system that knows owners and modes", "write file %q: it has mode %04o, user %d and group %d, want %04o, %d and %d",
			path, is.Mode&allModes, is.Uid, is.Gid, uint32(f.Mode), uid, gid)
	}
	return nil
}

// finish opens the set to others, and has it outlive a crash. Who put another directory
// in its place is found out.
func (w *writing) finish() error {
	disk := w.t.disk
	err := do(disk, "chmod", w.name, func() error { return unix.Fchmod(w.fd, setMode) })
	if err == nil {
		err = syncFD(disk, w.fd, w.name)
	}
	if err == nil {
		err = syncFD(disk, w.t.fd, ".")
	}
	if err == nil {
		var there unix.Stat_t
		if there, err = lstatAt(w.t.fd, w.name); err == nil && !sameFile(there, w.is) {
			err = unix.EEXIST
		}
	}
	return classify("write set", w.t.path, filepath.Join(w.t.path, w.name), err)
}

// discard takes away what was made, each file though another stays.
func (w *writing) discard() error {
	var errs []error
	for _, name := range w.files {
		errs = append(errs, notThere(remove(w.t.disk, w.fd, name)))
	}
	if there, err := lstatAt(w.t.fd, w.name); err == nil && sameFile(there, w.is) {
		errs = append(errs, notThere(removeDir(w.t.disk, w.t.fd, w.name)))
	}
	return classify("remove set", w.t.path, filepath.Join(w.t.path, w.name), errors.Join(errs...))
}

// notThere is err, but nil for what is gone already.
func notThere(err error) error {
	if missing(err) {
		return nil
	}
	return err
}
