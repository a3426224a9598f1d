package rotate

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestResolveSaysWhatItDependsOn(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"real/deep", "..one"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{
		"abs": dir + "/real/deep", "rel": "real/../real/deep/", "..data": "..one", "tls.crt": "..data/tls.crt",
		"dangling": "nowhere/at/all", "loop": "loop",
	} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"real/deep/f", "..one/tls.crt"} {
		if err := os.WriteFile(filepath.Join(dir, f), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{ // the places, below dir
		"real/deep/f":   "real/deep/f",
		"abs/f":         "abs real/deep/f",
		"rel/f":         "rel real/deep/f",
		"tls.crt":       "tls.crt ..data ..one/tls.crt",
		"dangling":      "dangling nowhere",
		"real/no/f":     "real/no",
		"real/deep/f/g": "real/deep/f/g",
	} {
		_, places, _ := resolve(filepath.Join(dir, path))
		var got []string
		for _, p := range places {
			got = append(got, strings.TrimPrefix(filepath.Join(p.dir, p.name), dir+"/"))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s depends on %q, want %q", path, got, want)
		}
	}
	if _, _, err := resolve(filepath.Join(dir, "loop")); !strings.Contains(err.Error(), syscall.ELOOP.Error()) {
		t.Errorf("a loop: %v", err)
	}
}

// FuzzResolve holds resolve against filepath.EvalSymlinks in a directory of links
// that point anywhere.
func FuzzResolve(f *testing.F) {
	f.Add("a/b", "b/../c", "c", "a")
	f.Add("a/a/a", "..", "b/.", "./c/")
	f.Add("c/x", "/", "a/b/c", "b")
	f.Add("a//./b", "a", "", "../a")
	f.Fuzz(func(t *testing.T, path, a, b, c string) {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, "d/e"), 0o755); err != nil {
			t.Fatal(err)
		}
		for name, target := range map[string]string{"a": a, "b": b, "d/c": c} {
			// Not out of dir, where other programs change things meanwhile.
			if strings.Contains(target, "..") || strings.HasPrefix(target, "/") {
				target = "d/" + strings.ReplaceAll(strings.ReplaceAll(target, "..", "e"), "/", "")
			}
			_ = os.Symlink(target, filepath.Join(dir, name)) // not every string is a path
		}
		if strings.ContainsRune(path, 0) {
			return
		}
		full := filepath.Join(dir, filepath.Clean("/"+path))
		got, places, err := resolve(full)
		want, wantErr := filepath.EvalSymlinks(full)
		if (err != nil) != (wantErr != nil) {
			t.Fatalf("resolve %q: %v, EvalSymlinks: %v", full, err, wantErr)
		}
		if err == nil && got != want {
			t.Fatalf("resolve %q: %q, want %q", full, got, want)
		}
		if len(places) == 0 {
			t.Fatalf("%q depends on nothing", full)
		}
	})
}
