package inbox

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// A narrow umask does not keep people from reading the reason.
func TestUmask(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		b.answer = func(string, []byte) Verdict { return Verdict{Reason: "because"} }
		b.drop(t, "a.pem", "bad")
		b.Look(t.Context())
		wantMode(t, filepath.Join(b.dir, "rejected/a.pem.reason"), 0o640)
		wantMode(t, filepath.Join(b.dir, "rejected"), fs.ModeDir|0o770)
	})
}

const inChild = "INBOX_TEST_CHILD"

// child runs the calling test again in a process of its own, with a directory that
// setup has filled as root, and reports whether this is the parent.
func child(t *testing.T, attr *syscall.SysProcAttr, setup func(dir string) error) (dir string, parent bool) {
	t.Helper()
	if dir := os.Getenv(inChild); dir != "" {
		return dir, false
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root to set the scene")
	}
	dir = t.TempDir()
	for at := dir; at != "/" && at != os.TempDir(); at = filepath.Dir(at) {
		if err := os.Chmod(at, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := setup(dir); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), inChild+"="+dir)
	cmd.SysProcAttr = attr
	out, err := cmd.CombinedOutput()
	switch {
	case cmd.ProcessState == nil:
		t.Skipf("no such child process can be had: %v", err)
	case strings.Contains(string(out), "--- SKIP"):
		t.Skipf("in the child:\n%s", out)
	case err != nil:
		t.Fatalf("in the child: %v\n%s", err, out)
	}
	return dir, true
}

const nobody = 65534

// The daemon is not root: files of others that it may not read or change, and a
// directory that it may not write to.
func TestUnprivileged(t *testing.T) {
	dir, parent := child(t, nil, func(dir string) error {
		inbox := filepath.Join(dir, "inbox")
		return errors.Join(os.Mkdir(inbox, 0o770), os.Chown(inbox, nobody, nobody),
			os.WriteFile(filepath.Join(inbox, "closed.pem"), []byte("good"), 0o600),
			os.WriteFile(filepath.Join(inbox, "foreign.key"), []byte("-----BEGIN PRIVATE KEY-----\nMC4C\n-----END PRIVATE KEY-----\n"), 0o644),
			os.WriteFile(filepath.Join(inbox, "own.key"), []byte("-----BEGIN PRIVATE KEY-----\nMC4C\n-----END PRIVATE KEY-----\n"), 0o644),
			os.Chown(filepath.Join(inbox, "own.key"), nobody, nobody))
	})
	if parent {
		return
	}
	if err := errors.Join(syscall.Setgroups(nil), syscall.Setresgid(nobody, nobody, nobody), syscall.Setresuid(nobody, nobody, nobody)); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		b := boxAt(filepath.Join(dir, "inbox"))
		b.Look(t.Context())
		b.Look(t.Context())
		b.took(t)
		b.told(t, "waiting closed.pem", "rejected foreign.key", "rejected own.key")
		b.want(t, "", "closed.pem")
		wantMode(t, filepath.Join(b.dir, "rejected/own.key"), 0o600)
		if text := b.read(t, "rejected/own.key.reason"); !strings.Contains(text, "spinecert import") || !strings.Contains(text, "0600") {
			t.Errorf("reason %q", text)
		}
		wantMode(t, filepath.Join(b.dir, "rejected/foreign.key"), 0o644)
		if text := b.read(t, "rejected/foreign.key.reason"); !strings.Contains(text, "others may still read it") {
			t.Errorf("reason %q", text)
		}
		time.Sleep(b.patience)
		if err := os.Chmod(filepath.Join(b.dir, "rejected"), 0o500); err != nil {
			t.Fatal(err)
		}
		b.Look(t.Context())
		b.Look(t.Context())
		b.told(t, "stuck closed.pem")
		if err := os.Chmod(filepath.Join(b.dir, "rejected"), 0o700); err != nil {
			t.Fatal(err)
		}
		b.Look(t.Context())
		b.told(t, "rejected closed.pem")
		b.want(t, "")
		// The inbox itself may be closed for a while.
		if err := os.Chmod(b.dir, 0); err != nil {
			t.Fatal(err)
		}
		b.Look(t.Context())
		b.Look(t.Context())
		b.told(t, "unusable")
	})
}

// A file system that is really full.
func TestFullDisk(t *testing.T) {
	dir, parent := child(t, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}, func(string) error { return nil })
	if parent {
		return
	}
	if err := errors.Join(syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""), syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k")); err != nil {
		t.Skipf("nothing can be mounted here: %v", err)
	}
	synctest.Test(t, func(t *testing.T) {
		b := boxAt(filepath.Join(dir, "inbox"))
		b.answer = func(string, []byte) Verdict { return Verdict{Reason: "because"} }
		if err := os.Mkdir(b.dir, 0o770); err != nil {
			t.Fatal(err)
		}
		b.Look(t.Context())
		b.drop(t, "a.pem", "bad")
		filler := filepath.Join(dir, "filler")
		if err := os.WriteFile(filler, make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("the disk is not full: %v", err)
		}
		for range 3 {
			b.Look(t.Context())
		}
		b.took(t, "a.pem")
		b.want(t, "", "a.pem")
		b.want(t, "rejected")
		b.told(t, "stuck a.pem")
		if err := os.Remove(filler); err != nil {
			t.Fatal(err)
		}
		b.Look(t.Context())
		b.took(t)
		b.want(t, "rejected", "a.pem", "a.pem.reason")
		b.told(t, "rejected a.pem")
	})
}
