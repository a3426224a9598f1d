package state

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/spinecert/spinecert/internal/durable"
)

// share returns the lock file of d as another process has it.
func share(t *testing.T, d *Directory) *os.File {
	t.Helper()
	fd, err := syscall.Dup(int(d.LockFile().Fd()))
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), "lock")
}

func TestHandOver(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	old, err := Lock(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	record := func(d *Directory, text string) error { return d.WriteService("web", []byte(`{"by":"`+text+`"}`)) }
	if err := record(old, "old"); err != nil {
		t.Fatal(err)
	}
	if err := old.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	next, err := Inherit(dir, share(t, old), Options{})
	if err != nil {
		t.Fatal(err)
	}
	early, late := make(chan error, 1), make(chan error, 1)
	go func() { early <- record(next, "next") }()
	go func() { late <- record(old, "late") }()
	if data, err := next.ReadService("web"); err != nil || !strings.Contains(string(data), "old") {
		t.Errorf("while both wait: %q, %v", data, err)
	}
	select {
	case err := <-early:
		t.Fatalf("it changed something before it took over: %v", err)
	case err := <-late:
		t.Fatalf("it changed something in the pause: %v", err)
	default:
	}
	old.HandOver()
	next.TakeOver()
	if err := <-early; err != nil {
		t.Errorf("after it took over: %v", err)
	}
	if err := <-late; !errors.Is(err, ErrHandedOver) {
		t.Errorf("after it handed over: %v", err)
	}
	if f, err := old.SpoolCRL(); err != nil {
		t.Errorf("a download of the one that handed over: %v", err)
	} else {
		_ = f.Close()
	}
	// The old one ends, and takes no lock with it.
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	if other, err := Lock(dir, Options{}); !errors.As(err, new(*HeldError)) {
		_ = other.Close()
		t.Errorf("a third one gets the lock: %v", err)
	}
	if holder := Holder(dir); holder != os.Getpid() {
		t.Errorf("process %d says that it has the lock", holder)
	}
	if data, err := next.ReadService("web"); err != nil || !strings.Contains(string(data), "next") {
		t.Errorf("in the end: %q, %v", data, err)
	}
	if err := next.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Lock(dir, Options{})
	if err != nil {
		t.Fatalf("after both have ended: %v", err)
	}
	_ = again.Close()
}

// TestNotTakenOver: the new one ends, and the old one goes on as before.
func TestNotTakenOver(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	old, err := Lock(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := old.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	next, err := Inherit(dir, share(t, old), Options{})
	if err != nil {
		t.Fatal(err)
	}
	waits := make(chan error, 1)
	go func() { waits <- old.WriteService("web", []byte("{}")) }()
	if err := next.Close(); err != nil {
		t.Fatal(err)
	}
	if other, err := Lock(dir, Options{}); !errors.As(err, new(*HeldError)) {
		_ = other.Close()
		t.Errorf("the lock went with the one that did not take over: %v", err)
	}
	old.Resume()
	if err := <-waits; err != nil {
		t.Errorf("what waited: %v", err)
	}
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Lock(dir, Options{})
	if err != nil {
		t.Fatalf("after it has ended: %v", err)
	}
	_ = again.Close()
}

// TestPauseWaits: a change that is under way is made first; one that hangs is waited for as
// long as it may be.
func TestPauseWaits(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	reached, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	hang := func(op, name string) error {
		if strings.Contains(name, "web") {
			once.Do(func() { close(reached); <-release })
		}
		return nil
	}
	d, err := Lock(dir, Options{Disk: durable.Disk{Fault: hang}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	done := make(chan error, 1)
	go func() { done <- d.WriteService("web", []byte("{}")) }()
	<-reached
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Pause(over); !errors.Is(err, context.Canceled) {
		t.Errorf("with a change under way: %v", err)
	}
	if err := d.WriteService("other", []byte("{}")); err != nil {
		t.Errorf("after a pause that came to nothing: %v", err)
	}
	paused := make(chan error, 1)
	go func() { paused <- d.Pause(context.WithoutCancel(t.Context())) }()
	select {
	case err := <-paused:
		t.Fatalf("paused while a change is under way: %v", err)
	default:
	}
	close(release)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := <-paused; err != nil {
		t.Error(err)
	}
	d.Resume()
}

func TestInheritRefuses(t *testing.T) {
	one, two := filepath.Join(t.TempDir(), "one"), filepath.Join(t.TempDir(), "two")
	d, err := Lock(one, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	other, err := Lock(two, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := Inherit(one, share(t, other), Options{}); err == nil || !strings.Contains(err.Error(), "lock of another one") {
		t.Errorf("with the lock of another directory: %v", err)
	}
	f, err := os.OpenFile(filepath.Join(one, lockName), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := Inherit(one, f, Options{}); err == nil || !strings.Contains(err.Error(), "held by process "+strconv.Itoa(os.Getpid())) {
		t.Errorf("with a lock file that is not locked: %v", err)
	}
}
