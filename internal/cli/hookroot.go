package cli

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// maxLinks is how many symbolic links a path may go through; the kernel allows as many.
const maxLinks = 40

// rootsPath returns the file that a path names, by a path without links, or an error when others than root may change which one that is, or the
// file: the file, each directory above it, and those of each link on the way, must be root's and writable by root alone. A directory with the sticky
// bit, such as /tmp, is fine above them: others cannot take away there what is root's.
//
// It goes through the elements as the kernel does: ".." is the directory above what a link names, and not above the link.
func rootsPath(path string) (string, error) {
	if !filepath.IsAbs(path) {
		from, err := os.Getwd()
		if err != nil {
			return "", err
		}
		path = from + "/" + path
	}
	at, rest := "/", strings.Split(path, "/")
	shared, err := rootsOwn(at) // others may put files into at
	for links := 0; err == nil && len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		if name == "" || name == "." {
			continue
		}
		if name == ".." {
			at = filepath.Dir(at)
			shared, err = rootsOwn(at)
			continue
		}
		next := filepath.Join(at, name)
		info, lookErr := os.Lstat(next)
		link := lookErr == nil && info.Mode()&fs.ModeSymlink != 0
		switch {
		case shared && (lookErr != nil || !info.IsDir()):
			return "", fmt.Errorf("the directory %q may be written by others than root", at)
		case lookErr != nil:
			return "", lookErr
		case !link && !info.IsDir() && len(rest) > 0:
			return "", &fs.PathError{Op: "look at", Path: next, Err: syscall.ENOTDIR}
		case !link:
			at = next
			shared, err = rootsOwn(at)
			continue
		}
		target, readErr := os.Readlink(next)
		if readErr != nil {
			return "", readErr
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("read link %q: %w", next, syscall.ELOOP)
		}
		if filepath.IsAbs(target) {
			at = "/"
			if shared, err = rootsOwn(at); err != nil {
				return "", err
			}
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	if err != nil {
		return "", err
	}
	return at, nil
}

// rootsOwn looks at one file or directory. A sticky directory that others may write is shared.
func rootsOwn(path string) (shared bool, err error) {
	info, err := os.Lstat(path)
	if err != nil {
		return false, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok:
		return false, fmt.Errorf("the owner of %q cannot be found out", path)
	case stat.Uid != 0:
		return false, fmt.Errorf("%q belongs to user %d, not to root", path, stat.Uid)
	case info.Mode().Perm()&0o022 == 0:
		return false, nil
	case info.IsDir() && info.Mode()&fs.ModeSticky != 0:
		return true, nil
	}
	return false, fmt.Errorf("%q may be written by others than root (mode %#o)", path, info.Mode().Perm())
}
