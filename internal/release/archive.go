package release

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// archived says where what is staged stands in the archive: what is not here is of
// packages alone.
var archived = map[string]string{
	"bin": "bin", "units": "systemd", "sysusers.conf": "systemd/spinecert.sysusers", "tmpfiles.conf": "systemd/spinecert.tmpfiles",
	"spinecert.yaml": "systemd/spinecert.yaml", "man": "man", "completions": "completions", "doc": "doc", "LICENSE": "LICENSE",
}

// Archive writes the programs and all that belongs to them, for hosts without
// packages, and returns its path, below out.
func (b *Build) Archive(out string) (string, error) {
	top := "spinecert_" + b.version + "_linux_" + b.Arch
	var data bytes.Buffer
	compressor, err := gzip.NewWriterLevel(&data, gzip.BestCompression)
	if err != nil {
		return "", err
	}
	archive := tar.NewWriter(compressor)
	err = fs.WalkDir(os.DirFS(b.stage), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		first, rest, _ := strings.Cut(name, "/")
		to, ok := archived[first]
		if !ok {
			return nil
		}
		return b.archive(archive, name, path.Join(top, to, rest))
	})
	if err = errors.Join(err, archive.Close(), compressor.Close()); err != nil {
		return "", err
	}
	to := filepath.Join(out, top+".tar.gz")
	return to, write(to, data.Bytes())
}

// archive appends one file. Whose it is, is for who unpacks it.
func (b *Build) archive(archive *tar.Writer, name, to string) error {
	data, err := os.ReadFile(filepath.Join(b.stage, name))
	if err != nil {
		return err
	}
	mode := int64(0o644)
	if strings.HasPrefix(name, "bin/") {
		mode = 0o755
	}
	header := &tar.Header{Typeflag: tar.TypeReg, Name: to, Size: int64(len(data)), Mode: mode, ModTime: b.At, Format: tar.FormatPAX, Uname: "root", Gname: "root"}
	if err := archive.WriteHeader(header); err != nil {
		return err
	}
	_, err = archive.Write(data)
	return err
}

// Sums writes SHA256SUMS of files that are all in out, as sha256sum --check reads it.
func Sums(out string, files []string) error {
	var text strings.Builder
	files = slices.Sorted(slices.Values(files))
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(data)
		fmt.Fprintf(&text, "%s  %s\n", hex.EncodeToString(sum[:]), filepath.Base(file))
	}
	return write(filepath.Join(out, "SHA256SUMS"), []byte(text.String()))
}

func write(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}
