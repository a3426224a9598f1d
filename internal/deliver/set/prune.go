package set

import (
	"errors"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// Prune removes every set but those that are named and the one that `current` points to,
// and what a crash left behind. What is not ours stays, and is no error.
func (t *Target) Prune(keep ...string) error {
	if current, err := t.Current(); err == nil {
		keep = append(slices.Clone(keep), current)
	}
	names, err := namesIn(t.fd)
	if err != nil {
		return classify("read directory", t.path, t.path, err)
	}
	var errs []error
	for _, name := range names {
		if slices.Contains(keep, name) {
			continue
		}
		switch {
		case namePattern.MatchString(name):
			err = t.removeSet(name)
		case temporaryPattern.MatchString(name):
			err = t.removeLink(name)
		default:
			continue
		}
		errs = append(errs, classify("remove", t.path, filepath.Join(t.path, name), notThere(err)))
	}
	if len(errs) > 0 {
		errs = append(errs, classify("write directory", t.path, t.path, syncFD(t.disk, t.fd, ".")))
	}
	return errors.Join(errs...)
}

// removeSet removes a directory of ours and the files in it. It does not go into what
// is in there besides: that may be somebody else's, mounted or moved there.
func (t *Target) removeSet(name string) error {
	fd, err := openDir(t.fd, name)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = closeFD(fd) }()
	is, err := fstat(fd)
	if err != nil || !isOurs(is) {
		return err
	}
	names, err := namesIn(fd)
	errs := []error{err}
	for _, n := range names { // each: it may be a key
		errs = append(errs, notThere(remove(t.disk, fd, n)))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return removeDir(t.disk, t.fd, name)
}

// removeLink removes a link that never came to its place.
func (t *Target) removeLink(name string) error {
	is, err := lstatAt(t.fd, name)
	if err != nil || kindOf(is) != unix.S_IFLNK || !isOurs(is) {
		return err
	}
	return remove(t.disk, t.fd, name)
}
