package rotate

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	maxFile     = 64 << 20 // bytes of one file; a CRL may be large
	maxLinks    = 40       // symlinks in one path, as the kernel allows
	readRetries = 3
)

// place is one directory entry that a file depends on: if it changes, the file may be another one.
type place struct{ dir, name string }

// material is the content of all files of a source, read as one.
type material struct {
	data   map[string][]byte
	folded []string         // of the files, those that job.folders stands for
	failed map[string]error // of job.folders, what could not be read
	mode   map[string]fs.FileMode
	digest [sha256.Size]byte
	stat   string // what lstat said of each file; equal stats let the poll skip reading
}

// resolve follows path through all its symlinks and returns the real path and
// the directory entries on the way: each symlink, and the file itself. Of a path
// that does not exist, the first missing entry is the last place.
func resolve(path string) (string, []place, error) {
	var places []place
	rest := strings.Split(filepath.Clean(path), string(filepath.Separator))[1:]
	at, links := "/", 0
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		if name == "" || name == "." {
			continue
		}
		if name == ".." {
			at = filepath.Dir(at)
			continue
		}
		full := filepath.Join(at, name)
		info, err := os.Lstat(full)
		if err != nil {
			return full, append(places, place{at, name}), err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			if len(rest) == 0 {
				places = append(places, place{at, name})
			}
			at = full
			continue
		}
		places = append(places, place{at, name})
		if links++; links > maxLinks {
			return full, places, &fs.PathError{Op: "resolve", Path: path, Err: syscall.ELOOP}
		}
		target, err := os.Readlink(full)
		if err != nil {
			return full, places, err
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		rest = append(strings.Split(filepath.Clean(target), string(filepath.Separator)), rest...)
	}
	return at, places, nil
}

// resolveAll resolves every path and returns their places, also on error.
func resolveAll(paths []string) (map[string]string, []place, error) {
	resolved := make(map[string]string, len(paths))
	var places []place
	var first error
	for _, p := range paths {
		r, ps, err := resolve(p)
		places = append(places, ps...)
		if err != nil && first == nil {
			first = named(p, err)
		}
		resolved[p] = r
	}
	return resolved, places, first
}

// readAll reads all paths as one: if a path leads elsewhere afterwards, or a file
// was changed while it was read, it reads again. An error is a *Refusal that is pending.
func readAll(paths []string, limit int64) (*material, error) {
	var err error
	for range readRetries {
		var m *material
		var torn bool
		m, torn, err = readOnce(paths, limit)
		if err != nil {
			return nil, err
		}
		if !torn {
			return m, nil
		}
		err = pending(reasonIncoherent, errors.New("read source: its files change while they are read"))
	}
	return nil, err
}

func readOnce(paths []string, limit int64) (m *material, torn bool, err error) {
	before, _, err := resolveAll(paths)
	if err != nil {
		return nil, false, unreadable(err)
	}
	m = &material{data: map[string][]byte{}, mode: map[string]fs.FileMode{}}
	h := sha256.New()
	var stats strings.Builder
	for _, p := range paths {
		data, info, err := readFile(before[p], limit)
		if err != nil {
			return nil, false, err
		}
		if err := absent(p, data); err != nil {
			return nil, false, unreadable(err)
		}
		m.data[p], m.mode[p] = data, info.Mode()
		writeChunk(h, []byte(p))
		writeChunk(h, data)
		stats.WriteString(statLine(before[p], info))
	}
	h.Sum(m.digest[:0])
	m.stat = stats.String()
	return m, !unmoved(paths, m.stat), nil
}

// unmoved reports whether all paths are as stat said.
func unmoved(paths []string, stat string) bool {
	now, err := statAll(paths)
	return err == nil && now == stat
}

func writeChunk(w io.Writer, b []byte) {
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(b)))
	_, _ = w.Write(n[:]) // a hash never fails
	_, _ = w.Write(b)
}

// statAll describes where all paths lead and what is there, without reading.
func statAll(paths []string) (string, error) {
	resolved, _, err := resolveAll(paths)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, p := range paths {
		info, err := os.Lstat(resolved[p])
		if err != nil {
			return "", err
		}
		b.WriteString(statLine(resolved[p], info))
	}
	return b.String(), nil
}

func statLine(path string, info fs.FileInfo) string {
	var dev, ino uint64
	var ctime int64
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		dev, ino, ctime = st.Dev, st.Ino, st.Ctim.Nano()
	}
	return fmt.Sprintf("%s %d %d %d %d %d %o\n", path, dev, ino, info.Size(), info.ModTime().UnixNano(), ctime, info.Mode())
}

// readFile opens without blocking on a FIFO and reads regular files only.
func readFile(path string, limit int64) ([]byte, fs.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, nil, unreadable(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, unreadable(err)
	}
	if !info.Mode().IsRegular() {
		return nil, nil, &Refusal{Reason: reasonUnreadable, Err: fmt.Errorf("read %q: not a regular file", path)}
	}
	// In one piece: growing towards a list of a million entries copies it again and
	// again, and a copy of 35 MB is what everybody waits for when a collection begins.
	buffer := bytes.NewBuffer(make([]byte, 0, min(info.Size(), limit)+bytes.MinRead))
	if _, err := buffer.ReadFrom(io.LimitReader(f, limit+1)); err != nil {
		return nil, nil, unreadable(err)
	}
	data := buffer.Bytes()
	if int64(len(data)) > limit {
		return nil, nil, &Refusal{Reason: "too_large", Err: fmt.Errorf("read %q: more than %d bytes", path, limit)}
	}
	return data, info, nil
}

// unreadable is pending: files come, permissions are given back, disks are mounted.
func unreadable(err error) *Refusal {
	r := pending(reasonUnreadable, err)
	var pe *fs.PathError
	if errors.As(err, &pe) {
		r.Err = fmt.Errorf("read %q: %w", pe.Path, pe.Err)
		if name, ok := CredentialName(pe.Path); ok {
			r.Err = fmt.Errorf("read credential %q: %w", name, pe.Err)
			r.Advice = CredentialAdvice(name, pe.Err)
			return r
		}
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		r.Advice = "give the daemon's user read access to the file and search access to its directories"
	case errors.Is(err, fs.ErrNotExist):
		r.Advice = "put the file there; it is picked up by itself"
	}
	return r
}
