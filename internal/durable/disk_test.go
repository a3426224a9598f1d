package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// change is one call that changes the directory it is given.
type change struct {
	before func(dir string) error
	do     func(k Disk, dir string) error
	trace  string // the system calls, without a fault
}

func changes() map[string]change {
	file := func(name string) func(string) error {
		return func(dir string) error { return os.WriteFile(filepath.Join(dir, name), []byte("old"), 0o600) }
	}
	return map[string]change{
		"Create": {do: func(k Disk, dir string) error { return k.Create(filepath.Join(dir, "a"), []byte("new"), 0o600) },
			trace: "open a, write a, chmod a, fsync a, close a, fsync ."},
		"Replace": {before: file("a"), do: func(k Disk, dir string) error { return k.Replace(filepath.Join(dir, "a"), []byte("new"), 0o600) },
			trace: "open .a, write .a, chmod .a, fsync .a, close .a, rename a, fsync ."},
		"ReplaceBelow": {before: func(dir string) error { return os.Mkdir(filepath.Join(dir, "d"), 0o700) },
			do:    func(k Disk, dir string) error { return k.ReplaceBelow(dir, "d/a", []byte("new"), 0o600) },
			trace: "open .a, write .a, chmod .a, fsync .a, close .a, rename a, fsync d"},
		"NewDirectory": {do: func(k Disk, dir string) error {
			return k.NewDirectory(filepath.Join(dir, "d"), File{Name: "a", Data: []byte("new"), Mode: 0o600},
				File{Name: "b", Mode: 0o600, Make: func() ([]byte, error) { return []byte("made"), nil }})
		}, trace: "mkdir .d, chmod .d, open a, write a, chmod a, fsync a, close a, fsync ., open b, write b, chmod b, fsync b, close b, fsync ., rename d, fsync ."},
		"Swap": {before: func(dir string) error { return os.Symlink("old", filepath.Join(dir, "l")) },
			do:    func(k Disk, dir string) error { return k.Swap(dir, "l", "new") },
			trace: "symlink l, rename l, fsync ."},
		"Swap first": {do: func(k Disk, dir string) error { return k.Swap(dir, "l", "new") }, trace: "symlink l, rename l, fsync ."},
		"Remove":     {before: file("a"), do: func(k Disk, dir string) error { return k.Remove(filepath.Join(dir, "a")) }, trace: "remove a, fsync ."},
		"RemoveDir": {before: func(dir string) error {
			return NewDirectory(filepath.Join(dir, "d"), File{Name: "a", Data: []byte("old"), Mode: 0o600})
		}, do: func(k Disk, dir string) error { return k.RemoveDir(filepath.Join(dir, "d")) },
			trace: "rename .d, fsync ., remove a, remove .d, fsync ."},
		"MakeDir": {do: func(k Disk, dir string) error { return k.MakeDir(filepath.Join(dir, "d")) }, trace: "mkdir d, chmod d, fsync ."},
		"MakeEntrance": {do: func(k Disk, dir string) error { return k.MakeEntrance(filepath.Join(dir, "d"), os.Getgid()) },
			trace: "mkdir d, chown d, chmod d, fsync ."},
		"MakeShared again": {before: func(dir string) error {
			d := filepath.Join(dir, "d")
			return errors.Join(os.Mkdir(d, 0o700), os.Chmod(d, fs.ModeSetgid|0o770))
		}, do: func(k Disk, dir string) error { return k.MakeShared(dir, "d", os.Getgid()) }, trace: "chmod d"},
		"MakeShared": {do: func(k Disk, dir string) error { return k.MakeShared(dir, "d", os.Getgid()) },
			trace: "mkdir .d, chown .d, chmod d, rename d, fsync ."},
		"OpenDir": {do: func(k Disk, dir string) error {
			d, err := k.OpenDir(filepath.Join(dir, "d"))
			if err != nil {
				return err
			}
			if err := d.Create("a", []byte("new"), 0o600); err != nil {
				return errors.Join(err, d.Discard())
			}
			return d.Close()
		}, trace: "mkdir d, chmod d, fsync ., open a, write a, chmod a, fsync a, close a, fsync ."},
	}
}

// shortName takes the random part off a temporary's name.
func shortName(name string) string {
	if rest, ok := strings.CutPrefix(name, "."); ok && rest != "" {
		return "." + strings.SplitN(rest, ".", 2)[0]
	}
	return name
}

// picture is what is in a directory, in words.
func picture(t *testing.T, dir string) string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		switch {
		case e.IsDir():
			out = append(out, name+"/")
		case e.Type() == fs.ModeSymlink:
			target, _ := os.Readlink(path)
			out = append(out, name+"->"+target)
		default:
			data, err := os.ReadFile(path)
			out = append(out, name+"="+string(data))
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(out, " ")
}

func prepare(t *testing.T, c change) string {
	t.Helper()
	dir := t.TempDir()
	if c.before != nil {
		if err := c.before(dir); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestOrder: what is named is on disk before it has its name, and the name before
// the call returns.
func TestOrder(t *testing.T) {
	for name, c := range changes() {
		dir := prepare(t, c)
		var trace []string
		k := Disk{Fault: func(op, name string) error {
			trace = append(trace, op+" "+shortName(name))
			return nil
		}}
		if err := c.do(k, dir); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := strings.Join(trace, ", "); got != c.trace {
			t.Errorf("%s:\n got %s\nwant %s", name, got, c.trace)
		}
		if got := picture(t, dir); strings.Contains(got, ".") {
			t.Errorf("%s leaves %s", name, got)
		}
	}
}

// TestFaults lets every system call of every change fail, alone and with all after
// it. Alone nothing is left behind, and with all after it nothing is half there.
func TestFaults(t *testing.T) {
	after := func(name string) bool { return name == "Replace" || name == "ReplaceBelow" || name == "Remove" }
	for name, c := range changes() {
		calls := len(strings.Split(c.trace, ", "))
		clean := prepare(t, c)
		before := picture(t, clean)
		if err := c.do(Disk{}, clean); err != nil {
			t.Fatal(err)
		}
		done := picture(t, clean)
		for n := 1; n <= calls; n++ {
			for _, lasts := range []bool{false, true} {
				dir := prepare(t, c)
				at, ops := 0, []string{}
				err := c.do(Disk{Fault: func(op, _ string) error {
					at++
					if at == n || lasts && at > n {
						ops = append(ops, op)
						return syscall.ENOSPC
					}
					return nil
				}}, dir)
				got := picture(t, dir)
				if len(ops) == 0 {
					t.Fatalf("%s: call %d was not reached", name, n)
				}
				if strings.HasPrefix(name, "Make") && ops[0] == "chown" && !lasts {
					if err != nil || got != done {
						t.Errorf("%s without chown: %v, %s", name, err, got)
					}
					continue
				}
				if !errors.Is(err, syscall.ENOSPC) {
					t.Errorf("%s, call %d, %s: %v", name, n, ops[0], err)
				}
				if !lasts {
					last := n == calls && ops[0] == "fsync"
					gone := name == "RemoveDir" && n > 2
					if got != before && !(last && after(name)) && !gone {
						t.Errorf("%s, call %d, %s: left %q, want %q", name, n, ops[0], got, before)
					}
				}
				for _, part := range strings.Fields(got) {
					if !strings.HasPrefix(part, ".") && !slices.Contains(strings.Fields(before+" "+done), part) && name != "Create" && name != "OpenDir" { // those have no name to hide under
						t.Errorf("%s, call %d and all after: %q is neither old nor new (%s)", name, n, part, got)
					}
				}
			}
		}
	}
}

func TestFaultOfWriteLeavesHalf(t *testing.T) {
	dir := t.TempDir()
	k := Disk{Fault: func(op, _ string) error {
		if op == "write" || op == "remove" {
			return syscall.ENOSPC
		}
		return nil
	}}
	if err := k.Create(filepath.Join(dir, "a"), []byte("12345678"), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if got := picture(t, dir); got != "a=1234" {
		t.Errorf("left %q", got)
	}
}

func TestMakeComesAfterWhatIsBefore(t *testing.T) {
	dir := t.TempDir()
	broken := errors.New("broken")
	err := NewDirectory(filepath.Join(dir, "d"), File{Name: "key", Data: []byte("k"), Mode: 0o600},
		File{Name: "csr", Mode: 0o600, Make: func() ([]byte, error) {
			if got := picture(t, dir); !strings.Contains(got, "key=k") {
				t.Errorf("no key yet: %q", got)
			}
			return nil, broken
		}})
	if !errors.Is(err, broken) {
		t.Error(err)
	}
	wantNames(t, dir)
}

func TestWhatIsInTheWay(t *testing.T) {
	dir := t.TempDir()
	outside := t.TempDir()
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "file"), []byte("old"), 0o600), os.Mkdir(filepath.Join(dir, "dir"), 0o755),
		os.Symlink(outside, filepath.Join(dir, "link")), os.WriteFile(filepath.Join(outside, "kept"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	path := func(name string) string { return filepath.Join(dir, name) }
	for _, c := range []struct {
		what string
		err  error
		want error
	}{
		{"swap a file", Disk{}.Swap(dir, "file", "x"), ErrNotLink},
		{"swap a directory", Disk{}.Swap(dir, "dir", "x"), ErrNotLink},
		{"remove a file as a directory", Disk{}.RemoveDir(path("file")), ErrNotDirectory},
		{"remove a link as a directory", Disk{}.RemoveDir(path("link")), ErrNotDirectory},
		{"remove nothing", Disk{}.RemoveDir(path("missing")), fs.ErrNotExist},
		{"make a directory over a file", Disk{}.MakeDir(path("file")), ErrNotDirectory},
		{"make a directory over a link", Disk{}.MakeDir(path("link")), ErrNotDirectory},
		{"share a directory over a link", Disk{}.MakeShared(dir, "link", -1), ErrNotDirectory},
		{"make a directory that is there", Disk{}.MakeDir(path("dir")), nil},
		{"share a directory that is there", Disk{}.MakeShared(dir, "dir", -1), nil},
		{"replace below a link", Disk{}.ReplaceBelow(dir, "link/kept", nil, 0o600), errors.New("any")},
	} {
		if c.want != nil && c.want.Error() == "any" {
			if c.err == nil {
				t.Errorf("%s: no error", c.what)
			}
		} else if !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v, want %v", c.what, c.err, c.want)
		}
	}
	wantMode(t, path("dir"), fs.ModeDir|0o755)
	// What is removed with a directory is a link, and not what it points to.
	if err := errors.Join(os.Symlink(outside, path("dir/link")), Disk{}.RemoveDir(path("dir"))); err != nil {
		t.Error(err)
	}
	wantNames(t, dir, "file", "link")
	wantNames(t, outside, "kept")
}

func TestMakeSharedMode(t *testing.T) {
	dir := t.TempDir()
	old := syscall.Umask(0o077)
	err := errors.Join(Disk{}.MakeShared(dir, "inbox", -1), Disk{}.MakeShared(dir, "inbox/done", os.Getgid()))
	syscall.Umask(old)
	if err != nil {
		t.Fatal(err)
	}
	wantMode(t, filepath.Join(dir, "inbox"), fs.ModeDir|fs.ModeSetgid|fs.ModeSticky|0o770)
	wantMode(t, filepath.Join(dir, "inbox", "done"), fs.ModeDir|fs.ModeSetgid|fs.ModeSticky|0o770)
	wantNames(t, dir, "inbox")
}

// TestMakeSharedOfEarlierVersions: what they made becomes sticky, and nothing else
// is changed.
func TestMakeSharedOfEarlierVersions(t *testing.T) {
	for _, c := range []struct{ was, want fs.FileMode }{
		{fs.ModeSetgid | 0o770, fs.ModeSetgid | fs.ModeSticky | 0o770},
		{0o770, 0o770},
		{fs.ModeSetgid | 0o750, fs.ModeSetgid | 0o750},
		{0o700, 0o700},
	} {
		dir := filepath.Join(t.TempDir(), "inbox")
		err := errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, c.was), Disk{}.MakeShared(filepath.Dir(dir), "inbox", -1))
		if err != nil {
			t.Error(err)
		}
		wantMode(t, dir, fs.ModeDir|c.want)
	}
	if os.Geteuid() != 0 {
		return
	}
	dir := filepath.Join(t.TempDir(), "inbox") // somebody else's is left alone
	err := errors.Join(os.Mkdir(dir, 0o700), os.Chown(dir, 4711, -1), os.Chmod(dir, fs.ModeSetgid|0o770), Disk{}.MakeShared(filepath.Dir(dir), "inbox", -1))
	if err != nil {
		t.Error(err)
	}
	wantMode(t, dir, fs.ModeDir|fs.ModeSetgid|0o770)
}

func TestMakeEntrance(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	old := syscall.Umask(0o077)
	err := errors.Join(Disk{}.MakeEntrance(path("ours"), os.Getgid()), Disk{}.MakeEntrance(path("none"), -1), os.Mkdir(path("there"), 0o700),
		Disk{}.MakeEntrance(path("there"), os.Getgid()),
		Disk{Fault: func(op, _ string) error {
			if op == "chown" {
				return syscall.EPERM
			}
			return nil
		}}.MakeEntrance(path("foreign"), os.Getgid()))
	syscall.Umask(old)
	if err != nil {
		t.Fatal(err)
	}
	wantMode(t, path("ours"), fs.ModeDir|0o710)
	for _, name := range []string{"none", "there", "foreign"} {
		wantMode(t, path(name), fs.ModeDir|0o700)
	}
}

// TestOpenParent: what was written is taken back from where it was written, wherever
// the path leads by then.
func TestOpenParent(t *testing.T) {
	base := t.TempDir()
	dir, moved, victim := filepath.Join(base, "dir"), filepath.Join(base, "moved"), filepath.Join(base, "victim")
	if _, err := OpenParent(filepath.Join(dir, "a")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	if err := errors.Join(os.Mkdir(dir, 0o755), os.Mkdir(victim, 0o755), os.WriteFile(filepath.Join(victim, "a"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	d, err := OpenParent(filepath.Join(dir, "a"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(d.Create("a", nil, 0o600), os.Rename(dir, moved), os.Symlink(victim, dir), d.Discard()); err != nil {
		t.Error(err)
	}
	wantNames(t, victim, "a")
	wantNames(t, moved)
}
