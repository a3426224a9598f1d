package set

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/spinecert/spinecert/internal/deliver/failure"
	"github.com/spinecert/spinecert/internal/durable"
)

func TestDelivery(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spine")
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	must(t, os.Mkdir(dir, 0), os.Chmod(dir, 0o755))
	target := mustOpen(t, dir, durable.Disk{})
	if current, err := target.Current(); current != "" || err != nil {
		t.Errorf("at first current is %q, %v", current, err)
	}
	first, entries := deliver(t, target, pair(1))
	if !strings.HasPrefix(first, "set-20261123T014000Z-") || len(entries) != 2 {
		t.Fatalf("made %q with %+v", first, entries)
	}
	wantMode(t, filepath.Join(dir, first), fs.ModeDir|0o755)
	for i, f := range pair(1) {
		path := filepath.Join(dir, Link, f.Name)
		if data, err := os.ReadFile(path); err != nil || string(data) != string(f.Data) {
			t.Errorf("%s: %q, %v", f.Name, data, err)
		}
		wantMode(t, path, f.Mode)
		if data, err := target.Read(first, entries[i]); err != nil || string(data) != string(f.Data) {
			t.Errorf("read %s: %q, %v", f.Name, data, err)
		}
	}
	wantReason(t, "check", target.Check(first, entries, true), "")
	wantReason(t, "check without reading", target.Check(first, entries, false), "")

	second, more := deliver(t, target, pair(2))
	wantReason(t, "check of the second", target.Check(second, more, true), "")
	wantReason(t, "check of the first", target.Check(first, entries, false), failure.Drift, Link, second)
	wantReason(t, "the first itself", target.Intact(first, entries), "")
	must(t, target.Switch(first))
	wantReason(t, "check after going back", target.Check(first, entries, true), "")
	must(t, target.Prune(first))
	wantNames(t, dir, first, Link)
	must(t, target.Switch(""), target.Switch(""))
	if current, err := target.Current(); current != "" || err != nil {
		t.Errorf("at last current is %q, %v", current, err)
	}
	must(t, target.Prune())
	wantNames(t, dir)
}

func TestNamesOfFiles(t *testing.T) {
	dir := t.TempDir()
	target := mustOpen(t, dir, durable.Disk{})
	for _, name := range []string{"", ".", "..", "/", "a/b", "../a", ".hidden", Link, "a\x00b", "a\nb", "-rf", strings.Repeat("a", 129), "set-20261123T014000Z-00000000"} {
		_, _, err := target.Write([]File{{Name: name, Mode: 0o600, UID: -1, GID: -1}}, now)
		wantReason(t, name, err, failure.NotWritable)
	}
	_, _, err := target.Write([]File{{Name: "a", Mode: 0o600, UID: -1, GID: -1}, {Name: "a", Mode: 0o600, UID: -1, GID: -1}}, now)
	wantReason(t, "twice", err, failure.NotWritable, "two of that name")
	_, _, err = target.Write([]File{{Name: "a", Mode: fs.ModeSetuid | 0o755, UID: -1, GID: -1}}, now)
	wantReason(t, "setuid", err, failure.NotWritable)
	wantNames(t, dir)
	for _, name := range []string{"../outside", "set-x", "/etc", "current", "set-20261123T014000Z-00000000/.."} {
		wantReason(t, "switch to "+name, target.Switch(name), failure.Planted)
		wantReason(t, "read of "+name, target.Intact(name, nil), failure.Drift)
	}
	wantReason(t, "switch to what is not there", target.Switch("set-20261123T014000Z-00000000"), failure.Drift)
	wantNames(t, dir)
}

// TestWhatIsPlantedStays: nothing that is not ours is replaced, followed or removed.
func TestWhatIsPlantedStays(t *testing.T) {
	outside := t.TempDir()
	for name, plant := range map[string]func(link string) error{
		"file":              func(l string) error { return os.WriteFile(l, []byte("mine"), 0o600) },
		"directory":         func(l string) error { return os.Mkdir(l, 0o755) },
		"pipe":              func(l string) error { return syscall.Mkfifo(l, 0o600) },
		"link elsewhere":    func(l string) error { return os.Symlink(outside, l) },
		"link to a file":    func(l string) error { return os.Symlink("key.pem", l) },
		"link below a set":  func(l string) error { return os.Symlink("set-20261123T014000Z-00000000/key.pem", l) },
		"link to a set":     func(l string) error { return os.Symlink(outside+"/set-20261123T014000Z-00000000", l) },
		"link to a circle":  func(l string) error { return os.Symlink(Link, l) },
		"link to the empty": func(l string) error { return os.Symlink(".", l) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			target := mustOpen(t, dir, durable.Disk{})
			set, entries, err := target.Write(pair(1), now)
			must(t, err, plant(filepath.Join(dir, Link)))
			before, err := os.Lstat(filepath.Join(dir, Link))
			must(t, err)
			wantReason(t, "switch", target.Switch(set), failure.Planted, Link)
			wantReason(t, "switch off", target.Switch(""), failure.Planted)
			wantReason(t, "check", target.Check(set, entries, false), failure.Planted)
			_, err = target.Current()
			wantReason(t, "current", err, failure.Planted)
			must(t, target.Prune(set))
			after, err := os.Lstat(filepath.Join(dir, Link))
			if err != nil || !os.SameFile(before, after) {
				t.Errorf("what was planted is gone: %v", err)
			}
			wantNames(t, dir, set, Link)
			wantNames(t, outside)
		})
	}
}

func TestDrift(t *testing.T) {
	for name, c := range map[string]struct {
		change func(dir string) error
		read   bool // only who reads finds it
		words  string
	}{
		"content":         {change: func(d string) error { return rewrite(d + "/fullchain.pem") }, read: true, words: "content"},
		"longer":          {change: func(d string) error { return os.WriteFile(d+"/fullchain.pem", make([]byte, 2001), 0o644) }, words: "2001 bytes"},
		"mode":            {change: func(d string) error { return os.Chmod(d+"/key.pem", 0o604) }, words: "0604"},
		"mode of the set": {change: func(d string) error { return os.Chmod(d, 0o775) }, words: "0775"},
		"removed":         {change: func(d string) error { return os.Remove(d + "/key.pem") }, words: "key.pem"},
		"extra":           {change: func(d string) error { return os.WriteFile(d+"/key.pem.bak", nil, 0o600) }, words: "key.pem.bak"},
		"extra, hidden":   {change: func(d string) error { return os.Mkdir(d+"/.git", 0o700) }, words: ".git"},
		"second name":     {change: func(d string) error { return os.Link(d+"/key.pem", d+"/../key.pem") }, words: "2 names"},
		"link": {change: func(d string) error {
			return instead(d, func(p string) error { return os.Symlink("fullchain.pem", p) })
		}, words: "symbolic link"},
		"pipe":             {change: func(d string) error { return instead(d, func(p string) error { return syscall.Mkfifo(p, 0o600) }) }, words: "pipe"},
		"directory":        {change: func(d string) error { return instead(d, func(p string) error { return os.Mkdir(p, 0o600) }) }, words: "directory"},
		"set is gone":      {change: os.RemoveAll, words: "not there"},
		"set is a link":    {change: func(d string) error { return errors.Join(os.Rename(d, d+"x"), os.Symlink(d+"x", d)) }, words: "not the directory"},
		"set is a pipe":    {change: func(d string) error { return errors.Join(os.RemoveAll(d), syscall.Mkfifo(d, 0o755)) }, words: "not the directory"},
		"link is gone":     {change: func(d string) error { return os.Remove(d + "/../current") }, words: "current"},
		"link is another":  {change: relink, words: "00000000"},
		"content and time": {change: func(d string) error { return rewrite(d + "/key.pem") }, read: true, words: "key.pem"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			target := mustOpen(t, dir, durable.Disk{})
			set, entries := deliver(t, target, pair(1))
			target.unsettled = 0
			seen, err := target.See(set, entries)
			if err != nil || !seen.Unchanged() {
				t.Fatalf("before: %v, unchanged %v", err, seen.Unchanged())
			}
			tick(t, filepath.Join(dir, set))
			must(t, c.change(filepath.Join(dir, set)))
			if seen.Unchanged() {
				t.Error("not seen without reading")
			}
			wantReason(t, "full", target.Check(set, entries, true), failure.Drift, c.words)
			if !c.read {
				wantReason(t, "not full", target.Check(set, entries, false), failure.Drift, c.words)
			}
			if _, err := target.See(set, entries); failure.ReasonOf(err, "") != failure.Drift {
				t.Errorf("see: %v", err)
			}
		})
	}
}

// tick waits until the clock of the file system has moved since a set was written.
func tick(t *testing.T, set string) {
	t.Helper()
	was, err := os.Stat(set)
	must(t, err)
	for probe := filepath.Join(t.TempDir(), "probe"); ; {
		must(t, os.WriteFile(probe, []byte("x"), 0o600))
		if is, err := os.Stat(probe); err != nil || is.ModTime().After(was.ModTime().Add(10*time.Millisecond)) {
			must(t, err)
			return
		}
	}
}

// rewrite changes content and puts size, mode and mtime back.
func rewrite(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(path, make([]byte, info.Size()), 0o600), os.Chtimes(path, info.ModTime(), info.ModTime()))
}

// instead puts something in the place of the key.
func instead(dir string, plant func(path string) error) error {
	return errors.Join(os.Remove(dir+"/key.pem"), plant(dir+"/key.pem"))
}

func relink(dir string) error {
	link := filepath.Join(filepath.Dir(dir), Link)
	return errors.Join(os.Remove(link), os.Symlink("set-20261123T014000Z-00000000", link))
}

// TestSeenIsCareful: right after a change another may follow in the same tick.
func TestSeenIsCareful(t *testing.T) {
	target := mustOpen(t, t.TempDir(), durable.Disk{})
	set, entries := deliver(t, target, pair(1))
	seen, err := target.See(set, entries)
	must(t, err)
	if seen.Unchanged() {
		t.Error("a set is believed that was written just now")
	}
	if (*Seen)(nil).Unchanged() {
		t.Error("nothing is unchanged")
	}
}

func TestSeenSeesTheTarget(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spine")
	must(t, os.Mkdir(dir, 0o755))
	target := mustOpen(t, dir, durable.Disk{})
	set, entries := deliver(t, target, pair(1))
	target.unsettled = 0
	seen, err := target.See(set, entries)
	must(t, err)
	other, _, err := target.Write(pair(2), now)
	must(t, err)
	if !seen.Unchanged() {
		t.Error("another set beside it is taken for a change")
	}
	must(t, target.Prune(set), os.Chmod(dir, 0o757))
	if seen.Unchanged() {
		t.Error("others may write the directory, and it is not seen")
	}
	must(t, os.Chmod(dir, 0o755))
	if !seen.Unchanged() {
		t.Error("nothing has changed after all")
	}
	if _, err := os.Lstat(filepath.Join(dir, other)); !errors.Is(err, fs.ErrNotExist) {
		t.Error("it was not pruned")
	}
}

func TestPruneLeavesWhatIsNotOurs(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	target := mustOpen(t, dir, durable.Disk{})
	kept, _ := deliver(t, target, pair(1))
	old, _, err := target.Write(pair(2), now)
	must(t, err)
	nested, _, err := target.Write(pair(3), now)
	must(t, err)
	links := "set-20261123T014000Z-0000000a"
	must(t,
		os.WriteFile(outside+"/precious", nil, 0o600),
		os.Symlink(outside, filepath.Join(dir, links)),
		os.Symlink(outside, filepath.Join(dir, old, "link")),
		os.Mkdir(filepath.Join(dir, nested, "mine"), 0o755),
		os.WriteFile(filepath.Join(dir, nested, "mine", "file"), nil, 0o600),
		os.WriteFile(filepath.Join(dir, "set-20261123T014000Z-0000000b"), nil, 0o600),
		os.Mkdir(filepath.Join(dir, "set-of-mine"), 0o755),
		os.WriteFile(filepath.Join(dir, ".current.swp"), nil, 0o600),
		os.WriteFile(filepath.Join(dir, ".current.AAAAAAAAAAAAAAAAAAAAAAAAAA"), nil, 0o600),
		os.Symlink(old, filepath.Join(dir, ".current.BBBBBBBBBBBBBBBBBBBBBBBBBB")))
	err = target.Prune() // the one in place stays, although it is not named
	wantReason(t, "prune", err, failure.Planted, nested)
	wantNames(t, dir, kept, nested, links, Link, "set-20261123T014000Z-0000000b", "set-of-mine", ".current.swp", ".current.AAAAAAAAAAAAAAAAAAAAAAAAAA")
	wantNames(t, outside, "precious")
	wantNames(t, filepath.Join(dir, nested), "mine") // without a key
	wantNames(t, filepath.Join(dir, nested, "mine"), "file")
}

// TestSetOfAnother: what has the name of a set and belongs to somebody else is none.
func TestSetOfAnother(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	target := mustOpen(t, dir, durable.Disk{})
	kept, _ := deliver(t, target, pair(1))
	other, entries, err := target.Write(pair(2), now)
	must(t, err, os.Lchown(filepath.Join(dir, other), serviceID, -1))
	link := ".current.BBBBBBBBBBBBBBBBBBBBBBBBBB"
	must(t, os.Symlink(other, filepath.Join(dir, link)), os.Lchown(filepath.Join(dir, link), serviceID, -1))
	wantReason(t, "switch", target.Switch(other), failure.Planted, "47111")
	wantReason(t, "intact", target.Intact(other, entries), failure.Drift)
	must(t, target.Prune())
	wantNames(t, dir, kept, other, Link, link)
	wantNames(t, filepath.Join(dir, other), "fullchain.pem", "key.pem")
	// A file of it, too.
	must(t, os.Lchown(filepath.Join(dir, other), 0, -1), os.Lchown(filepath.Join(dir, other, "key.pem"), serviceID, -1))
	wantReason(t, "owner of a file", target.Intact(other, entries), failure.Drift, "47111")
}

// TestDirectoryIsReplaced: what was opened is not the directory that is there.
func TestDirectoryIsReplaced(t *testing.T) {
	base := t.TempDir()
	dir := filepath.Join(base, "spine")
	must(t, os.Mkdir(dir, 0o755))
	target := mustOpen(t, dir, durable.Disk{})
	set, _ := deliver(t, target, pair(1))
	must(t, os.Rename(dir, filepath.Join(base, "away")))
	_, _, err := target.Write(pair(2), now)
	wantReason(t, "write after it was renamed", err, failure.DirectoryMissing)
	wantReason(t, "switch after it was renamed", target.Switch(set), failure.DirectoryMissing)
	must(t, os.Mkdir(dir, 0o755))
	_, _, err = target.Write(pair(2), now)
	wantReason(t, "write after it was replaced", err, failure.DirectoryMissing, "replaced")
	wantReason(t, "switch after it was replaced", target.Switch(""), failure.DirectoryMissing, "replaced")
	wantNames(t, dir)
	wantNames(t, filepath.Join(base, "away"), set, Link)
	must(t, os.Chmod(dir, 0o777))
	_, _, err = target.Write(pair(2), now)
	wantReason(t, "write after it was opened", err, failure.UnsafeDirectory)
}

// TestClosed: after Close nothing is written through a number that somebody else has got.
func TestClosed(t *testing.T) {
	dir := t.TempDir()
	target := mustOpen(t, dir, durable.Disk{})
	must(t, target.Close())
	if _, _, err := target.Write(pair(1), now); !errors.Is(err, unix.EBADF) {
		t.Errorf("write: %v", err)
	}
	wantNames(t, dir)
}

func BenchmarkUnchanged(b *testing.B) {
	target := mustOpen(b, b.TempDir(), durable.Disk{})
	target.unsettled = 0
	set, entries := deliver(b, target, pair(1))
	seen, err := target.See(set, entries)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if !seen.Unchanged() {
			b.Fatal("changed")
		}
	}
}

func BenchmarkCheckInFull(b *testing.B) {
	dir := b.TempDir()
	set, entries := deliver(b, mustOpen(b, dir, durable.Disk{}), pair(1))
	for b.Loop() {
		target, err := Open(dir, durable.Disk{})
		if err != nil {
			b.Fatal(err)
		}
		if err := target.Check(set, entries, true); err != nil {
			b.Fatal(err)
		}
		_ = target.Close()
	}
}
