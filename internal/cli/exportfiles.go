package cli

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/spinecert/spinecert/internal/durable"
	"github.com/spinecert/spinecert/internal/format"
)

// exportFile is one file to write.
type exportFile struct {
	path string
	data []byte
	mode fs.FileMode
}

// besideName is the name of a file that another one names.
func besideName(f format.Format) string {
	switch f.Name {
	case "trust-pem":
		return "trust.pem"
	default:
		return f.Name + ".pem"
	}
}

// encodeBeside makes a file that names others, and those, in the same directory.
func (s *exportSource) encodeBeside(f format.Format) ([]byte, error) {
	to, err := filepath.Abs(s.to)
	if err != nil {
		return nil, failed(codeFailed, err)
	}
	paths := map[string]string{}
	var others []format.Format
	for _, name := range f.Beside {
		other, _ := format.Find(name)
		path := filepath.Join(filepath.Dir(to), besideName(other))
		if path == to {
			return nil, usagef("call it "+f.Name, "--to %q: the file %s is written beside it", s.to, filepath.Base(path))
		}
		paths[name] = path
		others = append(others, other)
	}
	data, err := f.Encode(format.Source{Paths: paths})
	if err != nil {
		return nil, usagef("use another directory", "--to %q: %w", s.to, err)
	}
	for _, other := range others {
		s.wrote = nil // of all files the certificates of the identity are told
		data, err := s.encode(other)
		if err != nil {
			return nil, err
		}
		s.beside = append(s.beside, exportFile{paths[other.Name], data, exportMode(other)})
	}
	if _, err := s.identity(); err != nil { // the key is that of the certificate
		return nil, err
	}
	return data, nil
}

// writeExport writes all files or, as far as they are new, none. A file of a set
// that is there and has what would be written is left alone.
func writeExport(files []exportFile, force bool) error {
	if force {
		for _, f := range files {
			if err := durable.Replace(f.path, f.data, f.mode); err != nil {
				return unwritable(f.path, err)
			}
		}
		return nil
	}
	if len(files) > 1 {
		files = slices.DeleteFunc(files, func(f exportFile) bool { return f.written() })
	}
	return createAll(files)
}

// createAll writes new files, which are in one directory, or none: those that were
// written are removed from where they were written, whatever its path means by then.
func createAll(files []exportFile) error {
	if len(files) == 0 {
		return nil
	}
	dir, err := durable.OpenParent(files[0].path)
	if err != nil {
		return unwritable(files[0].path, err)
	}
	for _, f := range files {
		if err := dir.Create(filepath.Base(f.path), f.data, f.mode); err != nil {
			e := unwritable(f.path, errors.Join(err, dir.Discard()))
			if e.code == codeExists {
				e.hint = "nothing is overwritten without --force"
			}
			return e
		}
	}
	if err := dir.Close(); err != nil {
		return unwritable(files[0].path, err)
	}
	return nil
}

// written reports whether the file is there as it should be. The directory may be
// somebody else's: what is no regular file is not read, and nobody is waited for.
func (f exportFile) written() bool {
	there, err := os.OpenFile(f.path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer there.Close()
	info, err := there.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() != int64(len(f.data)) || info.Mode().Perm()&^f.mode != 0 {
		return false
	}
	data, err := io.ReadAll(io.LimitReader(there, int64(len(f.data))+1))
	return err == nil && bytes.Equal(data, f.data)
}
