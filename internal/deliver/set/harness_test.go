package set

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/deliver/failure"
	"github.com/spinecert/spinecert/internal/durable"
)

// TestMain is the child of the tests that need another user, too.
func TestMain(m *testing.M) {
	if what := os.Getenv(envChild); what != "" {
		os.Exit(child(what))
	}
	os.Exit(m.Run())
}

// now is when every set of a test is made: names differ by what is random in them.
var now = time.Date(2026, 11, 23, 1, 40, 0, 0, time.UTC)

// pair are files as a service has them.
func pair(n int) []File {
	return []File{
		{Name: "fullchain.pem", Data: bytes.Repeat([]byte{'c', byte('0' + n)}, 1000), Mode: 0o644, UID: -1, GID: -1},
		{Name: "key.pem", Data: bytes.Repeat([]byte{'k', byte('0' + n)}, 500), Mode: 0o600, UID: -1, GID: -1},
	}
}

func mustOpen(t testing.TB, path string, disk durable.Disk) *Target {
	t.Helper()
	target, err := Open(path, disk)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = target.Close() })
	return target
}

// deliver writes files and puts them in place.
func deliver(t testing.TB, target *Target, files []File) (string, []Entry) {
	t.Helper()
	name, entries, err := target.Write(files, now)
	if err == nil {
		err = target.Switch(name)
	}
	if err != nil {
		t.Fatal(err)
	}
	return name, entries
}

// wantReason wants a *failure.Error for this reason, with words in its text or its
// hint; "" wants no error.
func wantReason(t testing.TB, what string, err error, reason string, words ...string) {
	t.Helper()
	if got := failure.ReasonOf(err, ""); got != reason || reason == "" && err != nil {
		t.Errorf("%s: %v, reason %q, want %q", what, err, got, reason)
		return
	}
	var f *failure.Error
	if !errors.As(err, &f) {
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error()+"\n"+f.Hint(), w) {
			t.Errorf("%s: %q is neither in %q nor in the hint %q", what, w, err, f.Hint())
		}
	}
}

func namesOf(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func wantNames(t testing.TB, dir string, want ...string) {
	t.Helper()
	slices.Sort(want)
	if got := namesOf(t, dir); !slices.Equal(got, want) {
		t.Errorf("%s holds %q, want %q", dir, got, want)
	}
}

func wantMode(t testing.TB, path string, mode fs.FileMode) {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Error(err)
	} else if info.Mode() != mode {
		t.Errorf("%s has mode %v, want %v", filepath.Base(path), info.Mode(), mode)
	}
}

// needRoot skips where the test could not make what it needs.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can make files of others")
	}
}

// openDirectory is a directory like t.TempDir that other users get to.
func openDirectory(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "spinecert-set-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}
