package set

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/spinecert/spinecert/internal/deliver/failure"
	"github.com/spinecert/spinecert/internal/durable"
)

// quickDir is in memory, if there is such a place: fsyncs are counted here, and nobody
// waits for a disk.
func quickDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "spinecert-set-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// faulty fails the call with this number, and if lasts all that come after it, as when
// the process is killed or the disk is gone.
type faulty struct {
	at    int
	lasts bool
	err   error
	calls []string
}

func (f *faulty) disk() durable.Disk {
	return durable.Disk{Fault: func(op, name string) error {
		f.calls = append(f.calls, op+" "+name)
		if n := len(f.calls) - 1; n == f.at || f.lasts && n > f.at && f.at >= 0 {
			return f.err
		}
		return nil
	}}
}

// story delivers a second set into a directory with a first one. How far it came is
// told by which error is not nil.
type story struct {
	dir           string
	first, second string
	entries       map[string][]Entry
	write, swap   error
	prune         error
}

func tell(t *testing.T, f *faulty) *story {
	t.Helper()
	s := &story{dir: quickDir(t), entries: map[string][]Entry{}}
	clean := mustOpen(t, s.dir, durable.Disk{})
	var e []Entry
	s.first, e = deliver(t, clean, pair(1))
	s.entries[s.first] = e
	target := mustOpen(t, s.dir, f.disk())
	if s.second, e, s.write = target.Write(pair(2), now); s.write != nil {
		return s
	}
	s.entries[s.second] = e
	if s.swap = target.Switch(s.second); s.swap == nil {
		s.prune = target.Prune(s.second)
	}
	return s
}

// TestFaults lets every system call fail, alone and with all that come after it: what
// is in place is the old set or the new one, whole, and of what failed nothing is left.
func TestFaults(t *testing.T) {
	count := &faulty{at: -1}
	if s := tell(t, count); errors.Join(s.write, s.swap, s.prune) != nil {
		t.Fatal(s.write, s.swap, s.prune)
	}
	want := "mkdir, open fullchain.pem, write, chmod, fsync, close, open key.pem, write, chmod, fsync, close, chmod, fsync, fsync ., symlink, rename, fsync ., remove, remove, remove, fsync ."
	if got := shorten(count.calls); got != want {
		t.Errorf("the calls are\n%s, want\n%s", got, want)
	}
	for _, lasts := range []bool{false, true} {
		for at := range count.calls {
			for _, errno := range []unix.Errno{unix.ENOSPC, unix.EIO, unix.EACCES} {
				f := &faulty{at: at, lasts: lasts, err: errno}
				s := tell(t, f)
				what := fmt.Sprintf("%v at %d (%s), lasts %v", errno, at, f.calls[at], lasts)
				if !s.judge(t, lasts, errno) {
					t.Fatal(what)
				}
			}
		}
	}
}

// shorten leaves most names out.
func shorten(calls []string) string {
	var out []string
	for _, c := range calls {
		op, name, _ := strings.Cut(c, " ")
		if op == "open" || name == "." {
			op += " " + name
		}
		out = append(out, op)
	}
	return strings.Join(out, ", ")
}

func (s *story) judge(t *testing.T, lasts bool, errno unix.Errno) bool {
	t.Helper()
	target := mustOpen(t, s.dir, durable.Disk{})
	defer target.Close()
	current, err := target.Current()
	if err == nil {
		err = target.Check(current, s.entries[current], true)
	}
	failed := errors.Join(s.write, s.swap, s.prune)
	reason := map[unix.Errno]string{unix.ENOSPC: failure.DiskFull}[errno]
	if reason == "" {
		reason = failure.NotWritable
	}
	left := namesOf(t, s.dir)
	ok := true
	wrong := func(format string, args ...any) { ok = false; t.Errorf(format, args...) }
	switch {
	case err != nil:
		wrong("what is in place: %v", err)
	case failed == nil:
		wrong("the fault is no error")
	case failure.ReasonOf(failed, "") != reason || !errors.Is(failed, errno):
		wrong("%v, reason %q, want %q", failed, failure.ReasonOf(failed, ""), reason)
	case s.write != nil && (current != s.first || !lasts && !slices.Equal(left, []string{Link, s.first})):
		wrong("write failed: current is %s, left %q", current, left)
	case s.swap != nil && !lasts && current != s.first:
		wrong("switch failed: current is %s", current)
	case s.write == nil && s.swap == nil && current != s.second:
		wrong("switch did not fail: current is %s", current)
	}
	if err := s.secret(); err != nil {
		wrong("%v", err)
	}
	if err := target.Prune(); err != nil {
		wrong("prune: %v", err)
	}
	if left := namesOf(t, s.dir); !slices.Equal(left, []string{Link, current}) {
		wrong("after prune there is %q", left)
	}
	return ok
}

// secret looks whether a key is somewhere where others might read it.
func (s *story) secret() error {
	keys, err := filepath.Glob(s.dir + "/*/*")
	for _, key := range keys {
		info, statErr := os.Lstat(key)
		if statErr != nil || filepath.Base(key) == "key.pem" && info.Mode() != 0o600 {
			err = errors.Join(err, statErr, fmt.Errorf("%s has mode %v", key, info.Mode()))
		}
	}
	return err
}

// TestFirstSwitchFails: where there was no link there is none.
func TestFirstSwitchFails(t *testing.T) {
	for _, op := range []string{"symlink", "rename", "fsync"} {
		dir := t.TempDir()
		set, _, err := mustOpen(t, dir, durable.Disk{}).Write(pair(1), now)
		must(t, err)
		target := mustOpen(t, dir, durable.Disk{Fault: func(o, _ string) error {
			if o == op {
				return unix.EIO
			}
			return nil
		}})
		wantReason(t, op, target.Switch(set), failure.NotWritable)
		wantNames(t, dir, set)
	}
}

// TestLinkStaysWhenItCannotGo: so does the one that was to be taken away.
func TestLinkStaysWhenItCannotGo(t *testing.T) {
	for _, op := range []string{"remove", "fsync"} {
		dir := t.TempDir()
		set, entries := deliver(t, mustOpen(t, dir, durable.Disk{}), pair(1))
		target := mustOpen(t, dir, durable.Disk{Fault: func(o, _ string) error {
			if o == op {
				return unix.EIO
			}
			return nil
		}})
		wantReason(t, op, target.Switch(""), failure.NotWritable)
		wantReason(t, op, target.Check(set, entries, true), "")
	}
}

// TestKeyIsNeverOpenToOthers looks at a set while it is made: until it is whole nobody
// else gets into its directory, and no file is wider than it is to be.
func TestKeyIsNeverOpenToOthers(t *testing.T) {
	dir := t.TempDir()
	looked, opened := 0, false
	target := mustOpen(t, dir, durable.Disk{Fault: func(op, name string) error {
		sets, _ := filepath.Glob(dir + "/set-*")
		for _, set := range sets {
			looked++
			wantMode(t, set, map[bool]os.FileMode{false: os.ModeDir | 0o700, true: os.ModeDir | 0o755}[opened])
			if op == "write" {
				wantMode(t, set+"/"+name, 0o600)
			}
		}
		if op == "chmod" && strings.HasPrefix(name, "set-") {
			opened = true // by the call that comes now
		}
		return nil
	}})
	files := pair(1)
	files[1].Mode = 0o640
	if _, _, err := target.Write(files, now); err != nil || looked < 10 || !opened {
		t.Errorf("%v, looked %d times, opened %v", err, looked, opened)
	}
}
