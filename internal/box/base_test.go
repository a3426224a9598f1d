package box

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestSweep: what is in use is left alone, also before anything runs in it.
func TestSweep(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	base, lock, err := newBase()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(base, "console"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	sweep(nil)
	if _, err := os.Stat(filepath.Join(base, "console")); err != nil {
		t.Errorf("swept away: %v", err)
	}
	_ = lock.Close()
	sweep(nil)
	if _, err := os.Stat(base); err == nil {
		t.Error("what nobody uses is left")
	}
}

// TestSweepMaking: a test may be killed at any moment of the making, and what it leaves does not differ from what another is making just then.
// That other one sees that it is gone, and makes another.
func TestSweepMaking(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	for _, files := range [][]string{nil, {"lock"}} {
		fresh, err := os.MkdirTemp("", making)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			if err := os.WriteFile(filepath.Join(fresh, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		sweep(nil)
		if _, err := os.Stat(fresh); err == nil {
			t.Errorf("left with %q in it", files)
		}
		if base, _, err := lockBase(fresh); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("made %q of what is not there: %v", base, err)
		}
	}
	// Many are made, while others sweep without a pause.
	stop := make(chan struct{})
	var sweepers sync.WaitGroup
	for range 2 {
		sweepers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					sweep(nil)
				}
			}
		})
	}
	for range 300 {
		base, lock, err := newBase()
		if err != nil {
			t.Fatal(err)
		}
		held, err := lock.Stat()
		if err != nil {
			t.Fatal(err)
		}
		if there, err := os.Stat(filepath.Join(base, "lock")); err != nil || !os.SameFile(there, held) {
			t.Fatalf("the lock is not that of %q: %v", base, err)
		}
		if err := removeBase(base); err != nil {
			t.Fatal(err)
		}
		_ = lock.Close()
	}
	close(stop)
	sweepers.Wait()
	if left, _ := os.ReadDir(temp); len(left) > 0 {
		t.Errorf("%v is left", left)
	}
}

// TestSweepKills: a process that missed the end of its test ends with the sweep.
func TestSweepKills(t *testing.T) {
	Start(t).Run("true") // else this is skipped
	t.Setenv("TMPDIR", t.TempDir())
	mounts, err := groupMounts()
	if err != nil {
		t.Fatal(err)
	}
	base, lock, err := newBase()
	if err != nil {
		t.Fatal(err)
	}
	missed, killable := sleeper(t), false
	for _, mount := range mounts {
		group := filepath.Join(mount, filepath.Base(base), "below")
		if err := os.MkdirAll(group, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = missed.Process.Kill()
			_, _ = missed.Process.Wait()
			_ = removeGroup(filepath.Dir(group))
		})
		if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(missed.Process.Pid)), 0); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(group, "cgroup.kill")); err == nil {
			killable = true
		}
	}
	if !killable {
		without(t, "the kernel kills no control groups")
	}
	sweep(mounts)
	if stateOf(t, missed.Process.Pid) == "Z" {
		t.Fatal("killed in a box that is in use")
	}
	_ = syscall.Kill(missed.Process.Pid, syscall.SIGCONT)
	_ = lock.Close()
	sweep(mounts)
	if stateOf(t, missed.Process.Pid) != "Z" {
		t.Error("it lives on")
	}
	if _, err := os.Stat(base); err == nil {
		t.Error("the directory is left")
	}
}

// TestRemoveLater: what cannot be removed now stays as it is for the next sweep.
func TestRemoveLater(t *testing.T) {
	Start(t).Run("true") // else this is skipped
	cmd := childCommand("busy", t.TempDir(), "unshare", "--mount", "--propagation", "private", "--")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "PASS: TestChild") {
		t.Errorf("%v\n%s", err, out)
	}
}

func busy(t *testing.T) {
	base, lock, err := newBase()
	if err != nil {
		t.Fatal(err)
	}
	place := filepath.Join(base, "fs")
	if err := os.Mkdir(place, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", place, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	if err := removeBase(base); err == nil {
		t.Error("removed below a mount")
	}
	if _, err := os.Stat(filepath.Join(base, "lock")); err != nil {
		t.Errorf("without its lock no sweep knows it: %v", err)
	}
	if err := unix.Unmount(place, 0); err != nil {
		t.Fatal(err)
	}
	_ = lock.Close()
	sweep(nil)
	if _, err := os.Stat(base); err == nil {
		t.Error("the directory is left")
	}
}

// TestSweepForeign: anybody may make a directory of this name where temporary files are. A test of root's neither hangs on what is in it nor removes it.
func TestSweepForeign(t *testing.T) {
	cases := []struct {
		name string
		mode fs.FileMode
		uid  int // 0: that of the test
		lock func(name string) error
	}{
		{"bad_fifo", 0o700, 0, func(name string) error { return syscall.Mkfifo(name, 0o600) }},
		{"bad_fifo_readable", 0o755, 0, func(name string) error { return syscall.Mkfifo(name, 0o644) }},
		{"bad_link", 0o700, 0, func(name string) error {
			if err := os.WriteFile(name+"ed", nil, 0o600); err != nil {
				return err
			}
			return os.Symlink("locked", name)
		}},
		{"bad_directory", 0o700, 0, func(name string) error { return os.Mkdir(name, 0o700) }},
		{"bad_mode", 0o755, 0, func(name string) error { return os.WriteFile(name, nil, 0o600) }},
		{"bad_owner", 0o700, 65534, func(name string) error { return os.WriteFile(name, nil, 0o600) }},
		{"bad_owner_empty", 0o700, 65534, func(string) error { return nil }},
	}
	for _, kind := range []string{making, prefix} {
		for _, tc := range cases {
			t.Run(kind+tc.name, func(t *testing.T) {
				if tc.uid != 0 && os.Geteuid() != 0 {
					t.Skip("only root gives away a directory")
				}
				temp := t.TempDir()
				t.Setenv("TMPDIR", temp)
				base := filepath.Join(temp, kind+"planted")
				if err := os.Mkdir(base, tc.mode); err != nil {
					t.Fatal(err)
				}
				if err := tc.lock(filepath.Join(base, "lock")); err != nil {
					t.Fatal(err)
				}
				if tc.uid != 0 {
					if err := os.Chown(base, tc.uid, tc.uid); err != nil {
						t.Fatal(err)
					}
				}
				awaitSweep(t, filepath.Join(base, "lock"))
				if _, err := os.Stat(base); err != nil {
					t.Errorf("swept away: %v", err)
				}
			})
		}
		t.Run(kind+"bad_base", func(t *testing.T) {
			temp := t.TempDir()
			t.Setenv("TMPDIR", temp)
			if err := os.Mkdir(filepath.Join(temp, "other"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(temp, "other/lock"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("other", filepath.Join(temp, kind+"link")); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Mkfifo(filepath.Join(temp, kind+"fifo"), 0o600); err != nil {
				t.Fatal(err)
			}
			awaitSweep(t, filepath.Join(temp, kind+"fifo"))
			if left, _ := os.ReadDir(temp); len(left) != 3 {
				t.Errorf("only %v is left", left)
			}
			if _, err := os.Stat(filepath.Join(temp, "other/lock")); err != nil {
				t.Errorf("swept through a link: %v", err)
			}
		})
	}
}

// awaitSweep fails the test when sweep hangs in opening fifo.
func awaitSweep(t *testing.T, fifo string) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		sweep(nil)
	}()
	select {
	case <-done:
		return
	case <-time.After(20 * time.Second):
		t.Error("sweep hangs")
	}
	if writer, err := os.OpenFile(fifo, os.O_WRONLY|syscall.O_NONBLOCK, 0); err == nil { // lets it go on
		_ = writer.Close()
	}
	<-done
}
