package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"unicode"

	"github.com/spinecert/spinecert/internal/durable"
)

// exportFile is one file to write.
type exportFile struct {
	path string
	data []byte
	mode fs.FileMode
}

// ldaprc is the configuration of OpenLDAP's client (ldap.conf(5)): three lines
// that name files beside it by absolute path, as relative ones count from where the
// client was started. TLS_CACERT is one file, subCAs first (SPINE.md, 5). TLS_CERT
// has the chain too: a client that is linked with GnuTLS sends what is in the file.
func (s *exportSource) ldaprc() ([]byte, error) {
	to, err := filepath.Abs(s.to)
	if err != nil {
		return nil, failed(codeFailed, err)
	}
	var lines strings.Builder
	for _, f := range []struct {
		option, name string
		mode         fs.FileMode
		encode       func() ([]byte, error)
	}{
		{"TLS_CACERT", "trust.pem", 0o644, s.trustPEM},
		{"TLS_KEY", "key.pem", 0o600, s.keyOnly},
		{"TLS_CERT", "fullchain.pem", 0o644, s.fullChain},
	} {
		path := filepath.Join(filepath.Dir(to), f.name)
		switch {
		case path == to:
			return nil, usagef("call it ldaprc", "--to %q: the file %s is written beside it", s.to, f.name)
		case strings.ContainsFunc(path, unicode.IsControl):
			return nil, usagef("use another directory", "--to %q: OpenLDAP reads no path with control characters", s.to)
		}
		s.wrote = nil // of all files the certificates of the identity are told
		data, err := f.encode()
		if err != nil {
			return nil, err
		}
		s.beside = append(s.beside, exportFile{path, data, f.mode})
		fmt.Fprintf(&lines, "%s %s\n", f.option, path)
	}
	if _, err := s.identity(); err != nil {
		return nil, err
	}
	return []byte(lines.String()), nil
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
