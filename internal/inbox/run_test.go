package inbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

// A drop is found by the watch, in a directory that comes later, and in another
// one that takes its place.
func TestRun(t *testing.T) {
	b := boxAt(filepath.Join(t.TempDir(), "inbox"))
	b.config.Poll, b.config.Settle = 20*time.Millisecond, time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- b.Run(ctx) }()
	until := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("never: %s", what)
			}
		}
	}
	arrived := func(name string) func() bool {
		return func() bool { _, err := os.Stat(filepath.Join(b.dir, "done", name)); return err == nil }
	}
	for _, name := range []string{"first", "second", "third"} {
		if err := os.Mkdir(b.dir, 0o770); err != nil {
			t.Fatal(err)
		}
		b.drop(t, name, "good")
		until(name, arrived(name))
		if name == "second" {
			if err := os.Rename(b.dir, b.dir+".old"); err != nil {
				t.Fatal(err)
			}
			continue
		}
		until("removed", func() bool { return os.RemoveAll(b.dir) == nil })
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	if b.Look(t.Context()) {
		t.Error("there is more in a directory that is not there")
	}
}

// Without the poll: events alone, also after the directory was replaced by one that
// has the same inode number.
func TestWatch(t *testing.T) {
	b := newBox(t)
	b.config.Poll, b.config.Settle = time.Hour, time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- b.Run(ctx) }()
	for i := range 20 {
		name := fmt.Sprintf("%d.pem", i)
		b.drop(t, ".new", "good")
		if err := os.Rename(filepath.Join(b.dir, ".new"), filepath.Join(b.dir, name)); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(time.Minute); !slices.Contains(b.names(t, "done"), name); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s was not noticed", name)
			}
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
}

// The watch is renewed when the directory is another one, and when the kernel ended it.
func TestWatcherFollows(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "inbox")
	if err := os.Mkdir(dir, 0o770); err != nil {
		t.Fatal(err)
	}
	wake := make(chan struct{}, 1)
	w, err := newWatcher(dir, wake)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	same := id{1, 1} // as a file system gives the number of a directory to the next one
	woken := func(what string) {
		t.Helper()
		select {
		case <-wake:
		case <-time.After(time.Minute):
			t.Fatalf("not woken by %s", what)
		}
	}
	for range 3 {
		if err := w.follow(same, dir); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "a"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		woken("a file")
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		for !w.lost.Load() {
			woken("the end of the directory")
		}
		if err := os.Mkdir(dir, 0o770); err != nil {
			t.Fatal(err)
		}
		for len(wake) > 0 {
			<-wake
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := w.follow(id{2, 2}, dir); err != nil {
		t.Errorf("follow what is gone: %v", err)
	}
}

// Writers, a loop and those who call Look at once.
func TestConcurrency(t *testing.T) {
	b := newBox(t)
	b.config.Poll, b.config.Settle = time.Millisecond, time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() { _ = b.Run(ctx) })
	var writers sync.WaitGroup
	for i := range 4 {
		writers.Go(func() {
			for j := range 50 {
				name := filepath.Join(b.dir, fmt.Sprintf("%d-%d.pem", i, j))
				_ = errors.Join(os.WriteFile(name+".tmp", bytes.Repeat([]byte("x"), j+1), 0o640), os.Rename(name+".tmp", name))
				if j%10 == 0 {
					b.Look(ctx)
				}
			}
		})
	}
	writers.Wait()
	for len(b.names(t, "")) > 0 {
		b.Look(ctx)
	}
	cancel()
	group.Wait()
	if got := len(b.names(t, "done")); got != 200 || len(b.taken) != 200 {
		t.Errorf("%d files done, %d taken, want 200", got, len(b.taken))
	}
}
