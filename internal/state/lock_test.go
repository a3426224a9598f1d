package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
)

func TestLockMakesTheLayout(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lib", "state")
	old := syscall.Umask(0)
	d := mustLock(t, dir)
	syscall.Umask(old)
	if err := checkModes(dir); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"slots", "trust.d", "inbox", "inbox/done", "inbox/rejected", ".lock"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode()&^0o010 != fs.ModeDir|0o700 { // for the group spinecert, if there is one
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if d.Path() != dir || d.InboxPath() != filepath.Join(dir, "inbox") || d.TrustPath("live") != filepath.Join(dir, "trust.d", "live") || d.TrustPath("../x") != "" {
		t.Errorf("paths: %q %q %q", d.Path(), d.InboxPath(), d.TrustPath("live"))
	}
	wantClean(t, d)
}

func TestLockTwice(t *testing.T) {
	dir := t.TempDir()
	first := mustLock(t, dir)
	_, err := Lock(dir, Options{})
	var held *HeldError
	if !errors.As(err, &held) || held.PID != os.Getpid() || held.Dir != dir || pki.Hint(err) == "" {
		t.Fatalf("%v", err)
	}
	if want := fmt.Sprintf("held by process %d", os.Getpid()); !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
	// Reading goes on; the lock of one who died is free; a pid that is none is not told.
	if r, err := Open(dir); err != nil {
		t.Error(err)
	} else {
		_ = r.Close()
	}
	testpki.WriteFile(t, filepath.Join(dir, ".lock"), []byte("x"), 0o600)
	if _, err := Lock(dir, Options{}); !errors.As(err, &held) || held.PID != 0 || !strings.Contains(err.Error(), "another process") {
		t.Errorf("%v", err)
	}
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	mustLock(t, dir)
}

// TestLockIsFreeWhileAChildStarts: a child has the lock file until its exec.
func TestLockIsFreeWhileAChildStarts(t *testing.T) {
	dir := t.TempDir()
	d, err := Lock(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), "sleep", "60")
	child.ExtraFiles = []*os.File{d.lock}
	if err := child.Start(); err != nil {
		t.Skip(err)
	}
	defer func() { _ = child.Process.Kill(); _ = child.Wait() }()
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	mustLock(t, dir)
}

func TestLockRefuses(t *testing.T) {
	for name, plant := range map[string]func(dir string) error{
		"writable by the group": func(dir string) error { return os.Chmod(dir, 0o770) },
		"writable by all":       func(dir string) error { return os.Chmod(dir, 0o702) },
		"link as lock":          func(dir string) error { return os.Symlink("elsewhere", filepath.Join(dir, ".lock")) },
		"pipe as lock":          func(dir string) error { return syscall.Mkfifo(filepath.Join(dir, ".lock"), 0o600) },
		"a file as directory":   func(dir string) error { return errors.Join(os.Remove(dir), os.WriteFile(dir, nil, 0o600)) },
	} {
		dir := filepath.Join(t.TempDir(), "state")
		if err := errors.Join(os.Mkdir(dir, 0o700), plant(dir)); err != nil {
			t.Fatal(err)
		}
		if d, err := Lock(dir, Options{}); err == nil {
			t.Errorf("%s: locked", name)
			_ = d.Close()
		} else if strings.Contains(name, "writable") && pki.Hint(err) == "" {
			t.Errorf("%s: no hint: %v", name, err)
		}
		if _, err := os.Lstat(filepath.Join(dir, "slots")); err == nil {
			t.Errorf("%s: something was made", name)
		}
		if _, err := os.Lstat(filepath.Join(dir, "elsewhere")); err == nil {
			t.Errorf("%s: the link was followed", name)
		}
	}
}

func TestLockOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	d := mustLock(t, dir)
	id := newIdentity(t)
	mustCommit(t, d, 1, id, 1)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	var o Options
	for _, errno := range []syscall.Errno{syscall.ENOSPC, syscall.EROFS} {
		o.Disk.Fault = func(op, _ string) error {
			if op == "open" && errno == syscall.ENOSPC {
				return nil // the lock file is there
			}
			return errno
		}
		d, err := Lock(dir, o)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Trouble(); err != nil {
			t.Errorf("%v: %v", errno, err) // everything is there
		}
		if r, err := d.Current(testSlot); r.Number != 1 || err != nil {
			t.Errorf("%v: %v, %v", errno, r, err)
		}
		err = d.Commit(testSlot, recordOf(id, 2), id, 1)
		if !errors.Is(err, errno) || pki.Hint(err) == "" {
			t.Errorf("%v: %v", errno, err)
		}
		if r, err := d.Current(testSlot); r.Number != 1 || err != nil {
			t.Errorf("%v: after a commit that failed: %v, %v", errno, r, err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	// Where the layout is missing the lock holds all the same, and says so.
	if err := os.RemoveAll(filepath.Join(dir, "inbox")); err != nil {
		t.Fatal(err)
	}
	d, err := Lock(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.Trouble(); !errors.Is(err, syscall.EROFS) || !strings.Contains(err.Error(), "inbox") {
		t.Errorf("trouble: %v", err)
	}
}

func TestLockSweeps(t *testing.T) {
	dir := t.TempDir()
	d := mustLock(t, dir)
	mustCommit(t, d, 1, newIdentity(t), 1)
	r, _ := mustRequest(t, d)
	if _, err := d.AddTrust("live", testpki.NewRoot(t).Cert); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	base := filepath.Join(dir, "slots", testSlot)
	for _, name := range []string{base + "/.current.ABCDEFGHIJKLMNOPQRSTUVWX27", base + "/generations/.2.ABCDEFGHIJKLMNOPQRSTUVWX27", base + "/requests/.ab.ABCDEFGHIJKLMNOPQRSTUVWX27", dir + "/trust.d/live/.ca.ABCDEFGHIJKLMNOPQRSTUVWX27", dir + "/.inbox.ABCDEFGHIJKLMNOPQRSTUVWX27", dir + "/slots/.pcs.ABCDEFGHIJKLMNOPQRSTUVWX27"} {
		testpki.WriteFile(t, filepath.Join(name, "key.pem"), nil, 0o600)
	}
	if err := os.Symlink(base+"/generations/1", base+"/.current.ABCDEFGHIJKLMNOPQRSTUVWXYZ"); err != nil {
		t.Fatal(err)
	}
	// Those of others stay: the directory may be a home, and the inbox is shared.
	kept := []string{dir + "/.bash_history", dir + "/inbox/.answer.swp"}
	aside := []string{dir + "/slots/.pcs-before-the-restore", base + "/generations/.1.kept-aside"} // by a person, with a key perhaps
	kept = append(kept, aside...)
	for _, name := range kept {
		testpki.WriteFile(t, name, nil, 0o600)
	}
	d = mustLock(t, dir)
	for _, name := range kept {
		if err := os.Remove(name); err != nil {
			t.Error(err)
		}
	}
	if err := checkModes(dir); err != nil {
		t.Error(err)
	}
	wantClean(t, d)
	if _, err := d.RequestKey(testSlot, r.ID); err != nil {
		t.Error(err)
	}
	if _, err := d.Load(testSlot, 1); err != nil {
		t.Error(err)
	}
}

func TestOpenIsReadOnly(t *testing.T) {
	if _, err := Open(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	dir := t.TempDir()
	locked := mustLock(t, dir)
	id := newIdentity(t)
	mustCommit(t, locked, 1, id, 1)
	request, key := mustRequest(t, locked)
	d, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	_, newErr := d.NewRequest(newRequest(1), key, nil)
	_, addErr := d.AddTrust("live", id.Leaf())
	for what, err := range map[string]error{
		"Commit": d.Commit(testSlot, recordOf(id, 2), id, 1), "NewRequest": newErr, "KeepAnswer": d.KeepAnswer(testSlot, request.ID, nil),
		"DropAnswer": d.DropAnswer(testSlot, request.ID), "EndRequest": d.EndRequest(testSlot, request.ID), "AddTrust": addErr,
		"DropTrust": d.DropTrust("live", pki.Fingerprint(id.Leaf())),
	} {
		if !errors.Is(err, ErrReadOnly) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if r, err := d.Current(testSlot); r.Number != 1 || err != nil {
		t.Errorf("%v, %v", r, err)
	}
	if all, err := d.Requests(testSlot); len(all) != 1 || err != nil {
		t.Errorf("%v, %v", all, err)
	}
	wantClean(t, d)
}

// TestMovedAway: the lock is on the directory that was opened, and not on what was
// put in its place.
func TestMovedAway(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	d := mustLock(t, dir)
	if err := errors.Join(os.Rename(dir, dir+".old"), os.Mkdir(dir, 0o700)); err != nil {
		t.Fatal(err)
	}
	id := newIdentity(t)
	if err := d.Commit(testSlot, recordOf(id, 1), id, 1); err == nil || pki.Hint(err) == "" {
		t.Errorf("%v", err)
	}
	if names, _ := os.ReadDir(dir); len(names) > 0 {
		t.Errorf("written: %v", names)
	}
}

func TestClosed(t *testing.T) {
	d, err := Lock(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	id := newIdentity(t)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.Commit(testSlot, recordOf(id, 1), id, 1); err == nil {
		t.Error("committed")
	}
	if _, err := d.Current(testSlot); err == nil {
		t.Error("read")
	}
}
