package testprogram

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// verdict is a test that keeps how it ended.
type verdict struct {
	testing.TB
	ended string
}

func (v *verdict) Helper() {}

func (v *verdict) Fatalf(format string, args ...any) { v.end("fatal: "+format, args...) }

func (v *verdict) Skipf(format string, args ...any) { v.end("skip: "+format, args...) }

func (v *verdict) end(format string, args ...any) {
	v.ended = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// verdictOn runs a test to its end, and returns how it ended.
func verdictOn(t *testing.T, test func(testing.TB)) string {
	v, done := &verdict{TB: t}, make(chan struct{})
	go func() { defer close(done); test(v) }()
	<-done
	return v.ended
}

func TestNeed(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	for name, mode := range map[string]os.FileMode{"there": 0o755, "plain": 0o644} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	if got := Need(t, "there"); got != filepath.Join(dir, "there") {
		t.Errorf("it is in %q", got)
	}
	for _, c := range []struct{ ci, want string }{
		{"", "skip: plain is not installed"},
		{"true", "fatal: plain is not installed, and CI must have it"},
	} {
		t.Setenv("CI", c.ci)
		if got := verdictOn(t, func(t testing.TB) { Need(t, "plain") }); got != c.want {
			t.Errorf("with CI=%q: %q, want %q", c.ci, got, c.want)
		}
	}
}

func TestStart(t *testing.T) {
	shell := Need(t, "sh")
	dir, child := t.TempDir(), 0
	t.Run("program", func(t *testing.T) {
		_, said := Start(t, nil, dir, shell, "-c", "pwd; sleep 600 & echo $!; wait")
		within(t, "it says two lines", func() bool { return strings.Count(said.String(), "\n") == 2 })
		where := ""
		if _, err := fmt.Sscan(said.String(), &where, &child); err != nil || where != dir || !runs(child) {
			t.Errorf("it says %q, %v", said, err)
		}
	})
	within(t, "the child has ended", func() bool { return !runs(child) })
}

// runs reports whether there is a process that has not ended.
func runs(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !bytes.Contains(stat, []byte(") Z "))
}

func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}
