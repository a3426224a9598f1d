package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

func wantMode(t *testing.T, path string, mode fs.FileMode) {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != mode {
		t.Errorf("%s has mode %v, want %v", filepath.Base(path), info.Mode(), mode)
	}
}

func wantNames(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if !slices.Equal(got, want) {
		t.Errorf("%s holds %q, want %q", dir, got, want)
	}
}

// TestUmask: neither a wide nor a narrow umask changes what is made. The umask is
// the process's, so that nothing here is parallel.
func TestUmask(t *testing.T) {
	for _, mask := range []int{0, 0o777} {
		base := t.TempDir()
		old := syscall.Umask(mask)
		d, err := OpenDir(filepath.Join(base, "new"))
		if err == nil {
			err = errors.Join(d.Create("key", []byte("k"), 0o600), d.Create("csr", []byte("c"), 0o644), d.Close())
		}
		err = errors.Join(err, NewDirectory(filepath.Join(base, "whole"), File{Name: "key", Data: []byte("k"), Mode: 0o600}, File{Name: "cert", Mode: 0o644}))
		err = errors.Join(err, Replace(filepath.Join(base, "one"), nil, 0o644))
		syscall.Umask(old)
		if err != nil {
			t.Fatal(err)
		}
		wantMode(t, filepath.Join(base, "new"), fs.ModeDir|0o700)
		wantMode(t, filepath.Join(base, "new", "key"), 0o600)
		wantMode(t, filepath.Join(base, "new", "csr"), 0o644)
		wantMode(t, filepath.Join(base, "whole"), fs.ModeDir|0o700)
		wantMode(t, filepath.Join(base, "whole", "key"), 0o600)
		wantMode(t, filepath.Join(base, "whole", "cert"), 0o644)
		wantMode(t, filepath.Join(base, "one"), 0o644)
		wantNames(t, base, "new", "one", "whole")
	}
}

func TestNothingIsOverwritten(t *testing.T) {
	dir := t.TempDir()
	other := filepath.Join(t.TempDir(), "other")
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "file"), []byte("old"), 0o640),
		os.WriteFile(other, []byte("old"), 0o640),
		os.Symlink(other, filepath.Join(dir, "link")),
		os.Symlink(other+"-missing", filepath.Join(dir, "dangling")),
		os.Mkdir(filepath.Join(dir, "directory"), 0o755)); err != nil {
		t.Fatal(err)
	}
	d, err := OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"file", "link", "dangling", "directory"} {
		if there, err := d.Exists(name); !there || err != nil {
			t.Errorf("%s: exists %v, %v", name, there, err)
		}
		if err := d.Create(name, []byte("new"), 0o600); !errors.Is(err, fs.ErrExist) {
			t.Errorf("create %s: %v", name, err)
		}
		if err := Create(filepath.Join(dir, name), []byte("new"), 0o600); !errors.Is(err, fs.ErrExist) {
			t.Errorf("create %s alone: %v", name, err)
		}
		if name == "file" {
			continue
		}
		if err := Replace(filepath.Join(dir, name), []byte("new"), 0o600); !errors.Is(err, ErrNotRegular) {
			t.Errorf("replace %s: %v", name, err)
		}
	}
	if err := d.Discard(); err != nil {
		t.Error(err)
	}
	wantNames(t, dir, "dangling", "directory", "file", "link")
	if data, _ := os.ReadFile(other); string(data) != "old" {
		t.Errorf("the target of the link holds %q", data)
	}
	if _, err := os.Lstat(other + "-missing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the dangling link was followed: %v", err)
	}
}

func TestDiscard(t *testing.T) {
	base := t.TempDir()
	d, err := OpenDir(filepath.Join(base, "new"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.Create("key", []byte("k"), 0o600), d.Discard()); err != nil {
		t.Fatal(err)
	}
	wantNames(t, base)
	// A directory that was there stays, with what others put into it.
	if err := os.WriteFile(filepath.Join(base, "mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if d, err = OpenDir(base); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.Create("key", []byte("k"), 0o600), d.Discard()); err != nil {
		t.Fatal(err)
	}
	wantNames(t, base, "mine")
}

func TestOpenDirRefuses(t *testing.T) {
	base := t.TempDir()
	target := filepath.Join(base, "real")
	if err := errors.Join(os.Mkdir(target, 0o755), os.Symlink("real", filepath.Join(base, "link")),
		os.Symlink("missing", filepath.Join(base, "dangling")), os.WriteFile(filepath.Join(base, "file"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"link", "link/", "dangling", "file"} {
		if d, err := OpenDir(base + "/" + name); !errors.Is(err, ErrNotDirectory) {
			t.Errorf("%s: %v, %v", name, d, err)
		}
	}
	if _, err := OpenDir(filepath.Join(base, "missing", "new")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("below what is missing: %v", err)
	}
	wantNames(t, base, "dangling", "file", "link", "real")
	wantNames(t, target)
	wantMode(t, target, fs.ModeDir|0o755)
}

func TestNewDirectory(t *testing.T) {
	base := t.TempDir()
	full, empty := filepath.Join(base, "full"), filepath.Join(base, "empty")
	if err := errors.Join(os.Mkdir(full, 0o755), os.WriteFile(filepath.Join(full, "mine"), nil, 0o600), os.Mkdir(empty, 0o755),
		os.Symlink("empty", filepath.Join(base, "link")), os.WriteFile(filepath.Join(base, "file"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]error{"full": fs.ErrExist, "link": ErrNotDirectory, "file": ErrNotDirectory, ".": fs.ErrExist, "missing/new": fs.ErrNotExist} {
		path := base + "/" + name
		if err := NewDirectory(path, File{Name: "key", Mode: 0o600}); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
		if err := Vacant(path); !errors.Is(err, want) {
			t.Errorf("vacant %s: %v, want %v", name, err, want)
		}
	}
	for _, name := range []string{"empty", "new"} {
		path := filepath.Join(base, name)
		if err := errors.Join(Vacant(path), NewDirectory(path, File{Name: "key", Data: []byte("k"), Mode: 0o600})); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		wantNames(t, path, "key")
		wantMode(t, path, fs.ModeDir|0o700)
	}
	// What fails half-way leaves nothing: two files of one name.
	if err := NewDirectory(filepath.Join(base, "twice"), File{Name: "a", Mode: 0o600}, File{Name: "a", Mode: 0o600}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("two files of one name: %v", err)
	}
	wantNames(t, base, "empty", "file", "full", "link", "new")
	wantNames(t, full, "mine")
}

func TestReplace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for _, content := range []string{"first", "second"} {
		if err := Replace(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if data, _ := os.ReadFile(path); string(data) != content {
			t.Errorf("holds %q, want %q", data, content)
		}
		wantMode(t, path, 0o600)
	}
	wantNames(t, dir, "file")
}
