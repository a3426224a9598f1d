package inbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// Who drops many files keeps others waiting for one of them only.
func TestOwnersTakeTurns(t *testing.T) {
	var files, want []candidate
	for i := range 1000 {
		files = append(files, candidate{name: fmt.Sprintf("a%03d", i), owner: 1})
	}
	files = append(files, candidate{name: "b1", owner: 2}, candidate{name: "b2", owner: 2}, candidate{name: "c1", owner: 3})
	want = append(want, files[0], files[1000], files[1002], files[1], files[1001])
	want = append(want, files[2:1000]...)
	if got := inTurn(slices.Clone(files)); !slices.EqualFunc(got, want, func(a, b candidate) bool { return a.name == b.name }) {
		t.Errorf("%d files, first %v", len(got), got[:6])
	}
}

// The same in a directory: root can give files to others.
func TestOwnersTakeTurnsOnDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to give files away")
	}
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		for _, name := range []string{"a1", "a2", "a3", "z1"} {
			b.drop(t, name, "good")
		}
		if err := os.Chown(filepath.Join(b.dir, "z1"), nobody, nobody); err != nil {
			t.Fatal(err)
		}
		b.Look(t.Context())
		b.took(t, "a1", "z1", "a2", "a3")
	})
}

// The end of the context is seen between files, and by a file that is not handed
// over yet. Nothing is told of those that are left.
func TestEndsBetweenFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		ctx, cancel := context.WithCancel(t.Context())
		b.between = func(point, name string) {
			if point == "reread" && name == "b" {
				cancel()
			}
		}
		for _, name := range []string{"a", "b", "c"} {
			b.drop(t, name, "good")
		}
		b.Look(ctx)
		b.took(t, "a")
		b.told(t, "accepted a")
		b.want(t, "", "b", "c")
		b.Look(t.Context())
		b.took(t, "b", "c")
	})
}

func TestSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		for name, size := range map[string]int64{"gigabyte": 1 << 30, "over": maxFile + 1, "most": maxFile, "text": maxText, "long": maxText + 1} {
			b.drop(t, name, map[string]string{"most": "\x30\x84"}[name])
			if err := os.Truncate(filepath.Join(b.dir, name), size); err != nil {
				t.Fatal(err)
			}
		}
		b.Look(t.Context())
		b.took(t, "most", "text")
		b.want(t, "done", "most", "text")
		b.want(t, "rejected", "gigabyte", "gigabyte.reason", "long", "long.reason", "over", "over.reason")
		if text := b.read(t, "rejected/long.reason"); !strings.Contains(text, "larger than 256 KiB and not DER") || !strings.Contains(text, "spinecert import") {
			t.Errorf("reason %q", text)
		}
	})
}

// What Take says of a certificate does not fill the disk or the log.
func TestReasonIsShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.answer = func(string, []byte) Verdict {
			return Verdict{Reason: strings.Repeat("\u00e4", 1<<20), Hint: strings.Repeat("h", 1<<20)}
		}
		b.drop(t, "a", "bad")
		b.Look(t.Context())
		if text := b.read(t, "rejected/a.reason"); len(text) > 2<<10 || !strings.HasPrefix(text, "\u00e4\u00e4") || !strings.HasSuffix(text, "h...\n") || strings.Contains(text, "\ufffd") {
			t.Errorf("a reason of %d bytes: %.40q", len(text), text)
		}
		for _, e := range b.events {
			if len(e.Reason)+len(e.Hint) > 2<<10 {
				t.Errorf("an event with %d and %d bytes", len(e.Reason), len(e.Hint))
			}
		}
	})
}

// Only the newest stay, each with its reason. Directories and what else is there
// stay as well.
func TestPrune(t *testing.T) {
	b := newBox(t)
	b.config.Settle = time.Millisecond
	b.keep = 3
	b.answer = func(_ string, data []byte) Verdict {
		return Verdict{Accepted: bytes.HasPrefix(data, []byte("good")), Reason: "because"}
	}
	b.Look(t.Context())
	for _, dir := range []string{"done", "rejected"} {
		if err := os.Mkdir(filepath.Join(b.dir, dir, "a directory"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	day := time.Now()
	drop := func(name, content string) {
		t.Helper()
		b.drop(t, name, content)
		// What comes later seems to be older: only when it came counts
		if err := os.Chtimes(filepath.Join(b.dir, name), time.Time{}, day.AddDate(0, 0, -len(b.taken))); err != nil {
			t.Fatal(err)
		}
		b.Look(t.Context())
		time.Sleep(20 * time.Millisecond) // the clock of a file system has a coarse step
	}
	for _, name := range []string{"9", "3", "8", "5", "1"} {
		drop(name+".pem", "good")
		drop(name+".bad", "bad")
	}
	b.want(t, "done", "1.pem", "5.pem", "8.pem", "a directory")
	b.want(t, "rejected", "1.bad", "1.bad.reason", "5.bad", "5.bad.reason", "8.bad", "8.bad.reason", "a directory")
	// A reason whose file was taken away counts by itself.
	if err := os.Remove(filepath.Join(b.dir, "rejected", "8.bad")); err != nil {
		t.Fatal(err)
	}
	drop("2.bad", "bad")
	b.want(t, "rejected", "1.bad", "1.bad.reason", "2.bad", "2.bad.reason", "5.bad", "5.bad.reason", "a directory")
	b.events = nil
	// What cannot be removed is told once.
	b.fault = func(op, _ string) error {
		if op == "unlink" {
			return syscall.EROFS
		}
		return nil
	}
	drop("4.pem", "good")
	drop("6.pem", "good")
	b.told(t, "accepted 4.pem", "stuck", "accepted 6.pem")
	b.want(t, "done", "1.pem", "4.pem", "5.pem", "6.pem", "8.pem", "a directory")
	b.fault = func(string, string) error { return nil }
	drop("7.pem", "good")
	b.want(t, "done", "4.pem", "6.pem", "7.pem", "a directory")
}

// More files than are read at a time, left by an older version: memory holds no
// more than some of them, and the newest stay.
func TestPruneMany(t *testing.T) {
	b := newBox(t)
	b.config.Settle = time.Millisecond
	b.keep = 100
	done := filepath.Join(b.dir, "done")
	if err := os.Mkdir(done, 0o770); err != nil {
		t.Fatal(err)
	}
	const all = 5000
	for i := range all {
		if i == all-50 {
			time.Sleep(20 * time.Millisecond)
		}
		if err := os.WriteFile(filepath.Join(done, fmt.Sprint((i*7919)%all)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b.Look(t.Context())
	names := b.names(t, "done")
	if len(names) != b.keep {
		t.Errorf("%d files stay", len(names))
	}
	for i := all - 50; i < all; i++ {
		if name := fmt.Sprint((i * 7919) % all); !slices.Contains(names, name) {
			t.Errorf("%s is gone", name)
		}
	}
}

// The inbox is sticky, as members of the group must not touch each other's files.
// The daemon, who is not root, owns it: it moves and removes all the same, and what
// it makes anew is sticky as well.
func TestSticky(t *testing.T) {
	const member, other = 12345, 12346
	dir, parent := child(t, nil, func(dir string) error {
		inbox := filepath.Join(dir, "inbox")
		err := errors.Join(os.Mkdir(inbox, 0o770), os.Chown(inbox, nobody, nobody), os.Chmod(inbox, fs.ModeSetgid|fs.ModeSticky|0o770))
		for name, uid := range map[string]int{"a.pem": member, "b.pem": other, "c.pem": member, "d.bad": other, "e.bad": member} {
			path := filepath.Join(inbox, name)
			err = errors.Join(err, os.WriteFile(path, []byte(name[2:]), 0o640), os.Chown(path, uid, nobody))
		}
		return err
	})
	if parent {
		return
	}
	if err := errors.Join(syscall.Setgroups(nil), syscall.Setresgid(nobody, nobody, nobody), syscall.Setresuid(nobody, nobody, nobody)); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		b := boxAt(filepath.Join(dir, "inbox"))
		b.keep = 1
		b.answer = func(_ string, data []byte) Verdict {
			return Verdict{Accepted: string(data) == "pem", Reason: "because"}
		}
		b.Look(t.Context())
		b.took(t, "a.pem", "b.pem", "c.pem", "d.bad", "e.bad")
		b.told(t, "accepted a.pem", "accepted b.pem", "accepted c.pem", "rejected d.bad", "rejected e.bad")
		if left := [][]string{b.names(t, ""), b.names(t, "done"), b.names(t, "rejected")}; len(left[0]) != 0 || len(left[1]) != 1 || len(left[2]) != 2 {
			t.Errorf("left are %q", left)
		}
		for _, sub := range []string{"done", "rejected"} {
			wantMode(t, filepath.Join(b.dir, sub), fs.ModeDir|fs.ModeSetgid|fs.ModeSticky|0o770)
		}
	})
}
