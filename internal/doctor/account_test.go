package doctor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestAccounts: who the daemon is, or will be.
func TestAccounts(t *testing.T) {
	own, err := processAccount(os.Getpid())
	if err != nil || own.uid != os.Geteuid() || own.gid != os.Getegid() || !own.running {
		t.Errorf("%+v, %v", own, err)
	}
	if _, err := processAccount(1 << 22); err == nil {
		t.Error("a process that is not there")
	}
	for _, tc := range []struct {
		in      Inside
		uid     int
		running bool
	}{
		{Inside{UID: daemonID}, daemonID, false},
		{Inside{UID: os.Geteuid(), PID: os.Getpid()}, os.Geteuid(), true},
		{Inside{UID: -1, PID: os.Getpid()}, os.Geteuid(), true},
		{Inside{UID: daemonID, PID: os.Getpid()}, daemonID, false},
	} {
		if a := tc.in.daemon(); a.uid != tc.uid || a.running != tc.running {
			t.Errorf("%+v: %+v", tc.in, a)
		}
	}
	if os.Geteuid() == 0 {
		return
	}
	if _, err := as(t.Context(), account{uid: daemonID}, func() bool { t.Error("it is done as another user"); return true }); err == nil {
		t.Error("only root can be somebody else")
	}
}

// TestAsLeavesNothing: it is one thread alone that becomes another user.
func TestAsLeavesNothing(t *testing.T) {
	asRoot(t)
	const many = 50
	a := account{uid: daemonID, gid: serviceID, groups: []int{sharedID, 47213}}
	for range many {
		got, err := as(t.Context(), a, func() string {
			groups, err := unix.Getgroups()
			return fmt.Sprint(os.Geteuid(), os.Getegid(), groups, err)
		})
		if want := "47210 47211 [47212 47213] <nil>"; err != nil || got != want {
			t.Fatalf("%q, %v; want %q", got, err, want)
		}
		if os.Geteuid() != 0 {
			t.Fatal("the test became another user")
		}
	}
	if own, err := processAccount(os.Getpid()); err != nil || own.uid != 0 {
		t.Errorf("for others the test is another user: %+v, %v", own, err)
	}
	for end := time.Now().Add(long); ; time.Sleep(time.Millisecond) { // they end a moment later
		left := ""
		tasks, _ := filepath.Glob("/proc/self/task/*/status")
		for _, task := range tasks {
			if data, err := os.ReadFile(task); err == nil && strings.Contains(string(data), fmt.Sprint("Uid:\t", daemonID)) {
				left = string(data)
			}
		}
		if left == "" {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("a thread stays another user:\n%s", left)
		}
	}
}

// TestAsIsBounded: a file system that hangs holds up nobody for longer than there is.
func TestAsIsBounded(t *testing.T) {
	ctx, cancel := contextEnded(t)
	defer cancel()
	hang := make(chan struct{})
	defer close(hang)
	if _, err := as(ctx, account{uid: os.Geteuid()}, func() bool { <-hang; return true }); !errors.Is(err, errLate) {
		t.Error(err)
	}
}
