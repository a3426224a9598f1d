package command

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/deliver/failure"
)

func feedTo(t *testing.T, limit time.Duration, input []byte, argv []string) error {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), limit)
	defer stop()
	return RunInput(ctx, argv, nil, input, failure.ReloadFailed)
}

// Far more than a pipe holds, to what reads it late, and to its end.
func TestInputIsReadToItsEnd(t *testing.T) {
	input := bytes.Repeat([]byte("0123456789abcde\n"), 1<<16)
	out := filepath.Join(t.TempDir(), "out")
	if err := feedTo(t, patience, input, sh(`echo first; cat > "$1"`, out)); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, input) {
		t.Errorf("it read %d bytes, want %d", len(got), len(input))
	}
}

// No input is an end at once, and no terminal and no daemon's own.
func TestInputOfNothing(t *testing.T) {
	if err := feedTo(t, patience, nil, sh(`test -p /dev/stdin && test -z "$(cat)"`)); err != nil {
		t.Error(err)
	}
}

// Who does not read is not written to for ever, and has not failed.
func TestInputThatNobodyReads(t *testing.T) {
	input := make([]byte, 1<<20)
	if err := feedTo(t, patience, input, sh(`exit 0`)); err != nil {
		t.Error(err)
	}
	is(t, feedTo(t, patience, input, sh(`echo no such route; exit 3`)), failure.ReloadFailed, "exit status 3", "no such route")
	is(t, feedTo(t, 200*time.Millisecond, input, sh(`exec sleep 100`)), failure.Timeout, "no end within its time")
	is(t, feedTo(t, patience, input, []string{"/no/such/program"}), failure.CommandUnusable)
}

// What does not start leaves no descriptor behind.
func TestInputOfWhatDoesNotStart(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // which would close them
	open := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	before := open()
	for range 20 {
		is(t, feedTo(t, patience, []byte("x"), []string{"/no/such/program"}), failure.CommandUnusable)
	}
	if after := open(); after > before+10 {
		t.Errorf("%d descriptors, %d before", after, before)
	}
}

// A child that keeps the pipe open and never reads it.
func TestInputThatAChildKeeps(t *testing.T) {
	number := filepath.Join(t.TempDir(), "pid")
	// The shell gives a background command /dev/null, unless it is told otherwise.
	err := feedTo(t, patience, make([]byte, 1<<20), sh(`exec 3<&0; sleep 100 <&3 >/dev/null 2>&1 & echo $! > "$1"`, number))
	if err != nil {
		t.Error(err)
	}
	pid := pidIn(t, number)
	if !alive(pid) {
		t.Error("the child did not live on")
	}
	child, err := os.FindProcess(pid)
	if err == nil {
		_ = child.Kill()
	}
}
