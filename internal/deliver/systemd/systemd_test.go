package systemd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/spinecert/spinecert/internal/deliver/failure"
)

func wantReason(t *testing.T, err error, reason string) {
	t.Helper()
	if got := failure.ReasonOf(err, "none"); got != reason {
		t.Errorf("reason %q (%v), want %q", got, err, reason)
	}
}

// deafBus is a bus that accepts and never answers. It returns how many have called.
func deafBus(t *testing.T) *atomic.Int32 {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "bus")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var calls atomic.Int32
	var mu sync.Mutex
	var open []net.Conn
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			calls.Add(1)
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
		for _, c := range open {
			_ = c.Close()
		}
	})
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+socket)
	return &calls
}

// TestDeafBus: whoever calls is back when the context ends, and all share one dial.
func TestDeafBus(t *testing.T) {
	calls := deafBus(t)
	m := New()
	for _, tc := range []struct {
		name   string
		cancel bool
		reason string
	}{{"deadline", false, failure.BusAway}, {"cancelled", true, failure.Interrupted}} {
		t.Run(tc.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			if tc.cancel {
				ctx, cancel = context.WithCancel(t.Context())
				time.AfterFunc(100*time.Millisecond, cancel)
			}
			start := time.Now()
			var all sync.WaitGroup
			for i := range 8 {
				all.Go(func() { wantReason(t, m.Job(ctx, "x.service", "reload"), tc.reason) })
				all.Go(func() { wantReason(t, m.Hook(ctx, "x", "probe"), tc.reason) })
				all.Go(func() { wantReason(t, m.Check(ctx, fmt.Sprintf("x%d.service", i)), tc.reason) })
				all.Go(func() {
					_, err := m.Active(ctx, "x.service")
					wantReason(t, err, tc.reason)
				})
			}
			all.Wait()
			if took := time.Since(start); took > dialLimit/2 {
				t.Errorf("back after %s", took)
			}
		})
	}
	if n := calls.Load(); n != 1 {
		t.Errorf("dialled %d times, want 1", n)
	}
	start := time.Now()
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > dialLimit/2 {
		t.Errorf("closed after %s", took)
	}
	wantReason(t, m.Job(t.Context(), "x.service", "reload"), failure.BusAway)
}

// TestNoBus: there is no socket, a dead one, or one that closes; each call dials anew.
func TestNoBus(t *testing.T) {
	dead := filepath.Join(t.TempDir(), "dead")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
	closes := filepath.Join(t.TempDir(), "closes")
	l, err = net.ListenUnix("unix", &net.UnixAddr{Name: closes})
	if err != nil {
		t.Fatal(err)
	}
	var calls atomic.Int32
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			calls.Add(1)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close() })
	m := New()
	for _, address := range []string{"unix:path=/nonexistent/bus", "unix:path=" + dead, "nonsense", "unix:path=" + closes} {
		t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
		for range 2 {
			err := m.Job(t.Context(), "x.service", "reload")
			wantReason(t, err, failure.BusAway)
			if f, _ := errors.AsType[*failure.Error](err); f == nil || f.Advice == "" {
				t.Errorf("%s: %v: no hint", address, err)
			}
		}
	}
	if n := calls.Load(); n != 2 {
		t.Errorf("dialled %d times, want 2", n)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

// TestDialLimit: a bus that does not answer is given up also where the caller would wait.
func TestDialLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New()
		d := &dialling{done: make(chan struct{})}
		ctx, cancel := context.WithTimeout(t.Context(), dialLimit)
		d.cancel = cancel
		<-ctx.Done()
		m.dial = d
		m.run(ctx, d)
		wantReason(t, d.err, failure.BusAway)
		if m.dial != nil {
			t.Error("the next one does not dial")
		}
	})
}

// TestJobEndsBeforeAnybodyWaits drives the order of replies and signals that a connection cannot be made to show.
func TestJobEndsBeforeAnybodyWaits(t *testing.T) {
	b := &bus{ended: map[dbus.ObjectPath]string{}, waiting: map[dbus.ObjectPath][]chan string{}, owner: ":1.0"}
	removed := func(sender string, job dbus.ObjectPath, result string) {
		b.DeliverSignal(managerInterface, "JobRemoved", &dbus.Signal{Sender: sender, Path: systemdPath, Body: []any{uint32(1), job, "x.service", result}})
	}
	removed(":1.0", "/early", "done")
	if len(b.ended) != 0 {
		t.Error("what nobody asked for is kept")
	}
	b.open = 1
	removed(":1.0", "/early", "failed")
	removed(":1.7", "/early", "done")
	removed("", "/early", "done")
	if b.ended["/early"] != "failed" {
		t.Errorf("kept %q, want that of systemd", b.ended["/early"])
	}
	owner := func(sender, after string) {
		b.DeliverSignal(busName, "NameOwnerChanged", &dbus.Signal{Sender: sender, Body: []any{systemdName, ":1.0", after}})
	}
	owner(":1.7", ":1.7")
	owner(busName, "")
	removed("", "/other", "done")
	if _, kept := b.ended["/other"]; kept || b.owner != "" {
		t.Error("taken from somebody who is not systemd")
	}
	owner(busName, ":1.9")
	removed(":1.9", "/other", "done")
	if b.ended["/other"] != "done" {
		t.Error("systemd is not known under its new name")
	}
	// Several who wait for one job each get its result, and one who left nothing.
	waiters := []chan string{make(chan string, 1), make(chan string, 1), make(chan string, 1)}
	b.waiting["/shared"] = append([]chan string(nil), waiters...)
	b.leave("/shared", waiters[1])
	removed(":1.9", "/shared", "done")
	for i, want := range []int{1, 0, 1} {
		if len(waiters[i]) != want {
			t.Errorf("waiter %d has %d results, want %d", i, len(waiters[i]), want)
		}
	}
	b.waiting["/alone"] = []chan string{waiters[1]}
	b.leave("/alone", waiters[1])
	b.leave("/shared", waiters[0]) // it has ended
	if len(b.waiting) != 0 {
		t.Errorf("jobs nobody waits for are kept: %v", b.waiting)
	}
}

func TestSupervised(t *testing.T) {
	for _, tc := range []struct {
		value string
		want  bool
	}{{"", false}, {"1", false}, {fmt.Sprint(os.Getpid()), true}, {fmt.Sprint(os.Getppid()), false}} {
		t.Setenv("SYSTEMD_EXEC_PID", tc.value)
		if got := Supervised(); got != tc.want {
			t.Errorf("SYSTEMD_EXEC_PID=%q: %t, want %t", tc.value, got, tc.want)
		}
	}
}

// TestHookStatus: what the program of a hook says is read back, and every user may know it.
func TestHookStatus(t *testing.T) {
	exit := exec.CommandContext(t.Context(), "/bin/sh", "-c", "exit 7").Run()
	killed := exec.CommandContext(t.Context(), "/bin/sh", "-c", "kill -SEGV $$").Run()
	for _, tc := range []struct {
		err    error
		status int32
		want   string // of the status text
		reason string
		says   string
	}{
		{failure.New(failure.ValidateFailed, "", "run: %w: password is hunter2", exit), 3, "STATUS=validate_failed: exit status 7", failure.ValidateFailed, "the command said no: exit status 7"},
		{failure.New(failure.ValidateFailed, "", "run: %w", killed), 3, "STATUS=validate_failed: signal: segmentation fault", failure.ValidateFailed, "the command said no: signal: segmentation fault"},
		{failure.New(failure.Timeout, "", "run %q: late, hunter2", "/x"), 1, "STATUS=timeout", failure.Timeout, "exit status 1: the command had no end within its time"},
		{failure.New(failure.NotPermitted, "", "hunter2"), 1, "STATUS=not_permitted", failure.NotPermitted, "exit status 1: not_permitted"},
		{failure.New(failure.CommandUnusable, "", "hunter2"), 1, "STATUS=command_unusable", failure.CommandUnusable, "exit status 1: the command was not run"},
		{errors.New("hunter2\nREADY=1"), 2, "STATUS=command_unusable", failure.CommandUnusable, "exit status 2: the command was not run"},
	} {
		got := HookStatus(tc.err)
		got, _, _ = strings.Cut(got, " (core dumped)")
		if got != tc.want {
			t.Errorf("%q, want %q", got, tc.want)
		}
		reason, says := verdict(tc.status, strings.TrimPrefix(got, "STATUS="), failure.ValidateFailed)
		if reason != tc.reason || says != tc.says {
			t.Errorf("%q: %s, %q, want %s, %q", got, reason, says, tc.reason, tc.says)
		}
	}
	// What else there may be is no verdict.
	for said, status := range map[string]int32{
		"": 3, "validate_failed": 1, "validate_failed: exit status 7": 2, "probe_failed: exit status 7": 3, "validate_failed: hunter2": 3, "validate_failed: exit status 1": 203, "timeout": 3, "bus_away": 1,
	} {
		if reason, says := verdict(status, said, failure.ValidateFailed); reason != failure.CommandUnusable || strings.Contains(says, "hunter2") {
			t.Errorf("%d %q: %s, %q", status, said, reason, says)
		}
	}
}

// stuck is a connection on which nothing is read: who sends waits until it is closed.
type stuck struct {
	closed chan struct{}
	once   sync.Once
}

func (s *stuck) Read([]byte) (int, error)  { <-s.closed; return 0, io.EOF }
func (s *stuck) Write([]byte) (int, error) { <-s.closed; return 0, io.ErrClosedPipe }
func (s *stuck) Close() error              { s.once.Do(func() { close(s.closed) }); return nil }

// TestStuckBus: calls that ended leave no more behind than there may be under way.
func TestStuckBus(t *testing.T) {
	s := &stuck{closed: make(chan struct{})}
	conn, err := dbus.NewConn(s)
	if err != nil {
		t.Fatal(err)
	}
	b := &bus{conn: conn, calls: make(chan struct{}, maxCalls)}
	before := runtime.NumGoroutine()
	for range 4 * maxCalls {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		if _, err := b.call(ctx, b.object(systemdPath), managerInterface+".ListUnits"); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		cancel()
	}
	if n := runtime.NumGoroutine() - before; n > 2*maxCalls {
		t.Errorf("%d goroutines are left of %d calls that ended", n, 4*maxCalls)
	}
	if err := b.close(); err == nil {
		t.Error("closed, with calls that are stuck")
	}
	_ = s.Close()
	for len(b.calls) > 0 {
		time.Sleep(time.Millisecond) // given back
	}
}

// TestCheckWaitsForAnother: what waits for the unit of another Check is nobody's verdict.
func TestCheckWaitsForAnother(t *testing.T) {
	deafBus(t)
	m := New()
	leave, err := m.alone(t.Context(), work{unit: "x.service"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	wantReason(t, m.Check(ctx, "x.service"), failure.CommandUnusable)
	wantReason(t, m.Check(ctx, "other.service"), failure.BusAway)
	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	wantReason(t, m.Check(ctx, "x.service"), failure.Interrupted)
	leave()
	if leave, err = m.alone(t.Context(), work{unit: "x.service"}); err != nil {
		t.Fatal(err)
	}
	leave()
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}
