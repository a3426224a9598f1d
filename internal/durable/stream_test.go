package durable

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestReplaceFrom(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for _, content := range []string{"first", "", "the second is longer"} {
		if err := (Disk{}).ReplaceFrom(path, strings.NewReader(content+" and more"), int64(len(content)), 0o600); err != nil {
			t.Fatal(err)
		}
		if data, _ := os.ReadFile(path); string(data) != content {
			t.Errorf("holds %q, want %q", data, content)
		}
		wantMode(t, path, 0o600)
	}
	// A source that ends early, or a disk that does, leaves what was there.
	if err := (Disk{}).ReplaceFrom(path, strings.NewReader("short"), 6, 0o600); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("too short: %v", err)
	}
	for _, op := range []string{"open", "write", "chmod", "fsync", "close", "rename"} {
		full := Disk{Fault: func(o, _ string) error {
			if o == op {
				return syscall.ENOSPC
			}
			return nil
		}}
		if err := full.ReplaceFrom(path, strings.NewReader("other"), 5, 0o600); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("%s: %v", op, err)
		}
		if data, _ := os.ReadFile(path); string(data) != "the second is longer" && op != "fsync" { // of the directory, too: then the new one is there
			t.Errorf("%s: holds %q", op, data)
		}
	}
	wantNames(t, dir, "file")
}

func TestSpool(t *testing.T) {
	for name, disk := range map[string]Disk{
		"without a name": {},
		"on a file system that wants one": {Fault: func(op, name string) error {
			if op == "open" && name == "spool" {
				return syscall.EOPNOTSUPP
			}
			return nil
		}},
	} {
		dir := t.TempDir()
		f, err := disk.Spool(dir)
		if err != nil {
			t.Fatal(err)
		}
		data := make([]byte, 3)
		_, writeErr := f.WriteString("abc")
		_, readErr := f.ReadAt(data, 0)
		if err := errors.Join(writeErr, readErr); err != nil || string(data) != "abc" {
			t.Errorf("%s: %q, %v", name, data, err)
		}
		if info, err := f.Stat(); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: mode %v, %v", name, info.Mode(), err)
		}
		wantNames(t, dir)
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	if f, err := (Disk{Fault: func(string, string) error { return syscall.ENOSPC }}).Spool(t.TempDir()); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("%v, %v", f, err)
	}
}
