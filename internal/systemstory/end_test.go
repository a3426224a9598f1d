package systemstory

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"
)

// TestStop: what is open may finish, for as long as limits.drain says, and what is new is refused at once.
func TestStop(t *testing.T) {
	t.Parallel()
	h := installed(t)
	h.configure("drain: 5s", "drain: 40s")
	h.Run("systemctl", "start", unit)
	open := h.open()
	h.Run("systemctl", "stop", "--no-block", unit)
	h.closed()
	h.works(open)
	if got := h.show("ActiveState"); got != "deactivating" {
		t.Errorf("with an open connection it is %s", got)
	}
	_ = open.Close()
	begin := time.Now()
	h.property("ActiveState", "inactive")
	h.took("stop, after the last connection was closed", begin)
	if got := h.show("Result"); got != "success" || time.Since(begin) > 30*time.Second {
		t.Errorf("it ended with %s, after %s", got, time.Since(begin))
	}

	// Who does not finish is cut.
	h.configure("drain: 5s", "drain: 2s")
	h.Run("systemctl", "start", unit)
	open, begin = h.open(), time.Now()
	h.Run("systemctl", "stop", unit)
	h.took("stop, with a connection that stays open and drain: 2s", begin)
	if err := open.use(); err == nil {
		t.Error("it was not cut")
	}
	if got := h.show("Result"); got != "success" {
		t.Errorf("it ended with %s", got)
	}
	h.logged("event=stopped", "connections_cut=1")

	// The second signal of somebody who does not want to wait.
	h.configure("drain: 5s", "drain: 40s")
	h.Run("systemctl", "start", unit)
	open, begin = h.open(), time.Now()
	h.Run("systemctl", "stop", "--no-block", unit)
	h.closed()
	h.works(open)
	h.Run("systemctl", "kill", "--kill-whom=main", "--signal=TERM", unit)
	h.property("ActiveState", "inactive")
	if time.Since(begin) > 30*time.Second {
		t.Errorf("after the second signal it drained on, for %s", time.Since(begin))
	}
}

// TestStopAtAnyTime: also one that does not answer, or is not up yet, stops when it is told to.
func TestStopAtAnyTime(t *testing.T) {
	t.Parallel()
	h := started(t)
	// A reload that hangs: systemctl waits for it, and stops it for the stop.
	h.Run("systemctl", "kill", "--kill-whom=main", "--signal=STOP", unit)
	h.Run("systemctl", "reload", "--no-block", unit)
	h.property("ActiveState", "reloading")
	begin := time.Now()
	h.Run("systemctl", "stop", unit)
	h.took("stop, with a reload that hangs", begin)
	// The unit is failed if systemd had to end the reload, which is not the daemon's fault.
	if got := h.Run("systemctl", "show", "-p", "ActiveState", "-p", "MainPID", "-p", "ExecMainStatus", unit); got != "MainPID=0\nExecMainStatus=0\nActiveState=failed" && got != "MainPID=0\nExecMainStatus=0\nActiveState=inactive" {
		t.Errorf("it is %q", got)
	}
	_, _ = h.Exec(t.Context(), "systemctl", "reset-failed", unit)
	// A stop that comes while it starts, at different moments.
	for i := range 10 {
		h.Run("systemctl", "start", "--no-block", unit)
		time.Sleep(time.Duration(i) * 8 * time.Millisecond) // any moment will do
		h.Run("systemctl", "stop", unit)
		if got := h.Run("systemctl", "show", "--value", "-p", "ActiveState", "-p", "Result", unit); got != "success\ninactive" && got != "inactive\nsuccess" {
			t.Fatalf("stopped while it started: %q", got)
		}
	}
	// A reload by signal at any moment of a start ends nobody for good.
	for i := range 5 {
		h.Run("systemctl", "start", "--no-block", unit)
		time.Sleep(time.Duration(i) * 15 * time.Millisecond)
		_, _ = h.Exec(t.Context(), "systemctl", "kill", "--kill-whom=main", "--signal=HUP", unit)
		h.property("ActiveState", "active")
		h.soon(h.own)
		h.Run("systemctl", "stop", unit)
	}
}

// TestRestart: how long a restart refuses connections, without a socket unit.
func TestRestart(t *testing.T) {
	t.Parallel()
	h := started(t)
	for range 3 {
		ctx, stop := context.WithCancel(t.Context())
		longest := make(chan time.Duration)
		go func() {
			var gap, most time.Duration
			for good := time.Now(); ctx.Err() == nil; {
				conn, err := h.Dial(ctx, "tcp", address)
				if err == nil {
					_ = conn.Close()
					good = time.Now()
				}
				gap = time.Since(good)
				most = max(most, gap)
			}
			longest <- most
		}()
		begin := time.Now()
		h.Run("systemctl", "restart", unit)
		h.serves(h.own)
		h.took("restart", begin)
		stop()
		t.Logf("connections were refused for %s", (<-longest).Round(time.Millisecond))
	}
}

// TestKilled: what ends without being asked is started again, and serves. A configuration that is wrong is not tried again.
func TestKilled(t *testing.T) {
	t.Parallel()
	h := started(t)
	h.Until("the generation is kept", func() bool { return h.status().Slots[0].Unsaved == "" })
	for _, signal := range []string{"KILL", "SEGV", "ABRT"} {
		pid, begin := h.show("MainPID"), time.Now()
		h.Run("systemctl", "kill", "--kill-whom=main", "--signal="+signal, unit)
		h.restarted(pid)
		h.soon(h.own)
		h.took("served again after SIG"+signal, begin)
		if s := h.status().Slots[0]; s.Generation != 1 {
			t.Errorf("after SIG%s: %+v", signal, s)
		}
	}
	h.outOfMemory()

	// A configuration that is wrong: one try, and the reason.
	h.Run("systemctl", "reset-failed", unit)
	h.configure("slot: pcs", "slot: nope")
	if out, err := h.Exec(t.Context(), "systemctl", "restart", unit); err == nil {
		t.Errorf("started with a wrong configuration: %s", out)
	}
	h.property("ActiveState", "failed")
	if got := h.Run("systemctl", "show", "-p", "ExecMainStatus", "-p", "NRestarts", "-p", "Result", unit); got != "Result=exit-code\nNRestarts=0\nExecMainStatus=2" {
		t.Errorf("the unit says %q", got)
	}
	if out := h.journal(); !hasLine(out, "error: "+confFile+":6:", `no slot called "nope"`) || !hasLine(out, "hint: ") {
		t.Errorf("the journal says\n%s", out)
	}
	h.configure()
	h.Run("systemctl", "start", unit)
	h.serves(h.own)
	h.Run("systemctl", "stop", unit)

	// An address that is taken is tried until it is free.
	l, err := h.Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := h.Exec(t.Context(), "systemctl", "start", unit); err == nil {
		t.Errorf("started without its address: %s", out)
	}
	tries := "2"
	if isLong() {
		tries = "7" // more often than the default limit of systemd lets it
	}
	h.property("NRestarts", tries)
	h.logged("error: open tunnel", address, "listener taken")
	_ = l.Close()
	h.soon(h.own)
	h.property("ActiveState", "active")
}

// outOfMemory has the kernel kill the daemon, where systemd can limit its memory.
func (h *host) outOfMemory() {
	h.t.Helper()
	if _, err := os.Stat(h.Root + "/sys/fs/cgroup/cgroup.controllers"); err != nil || strings.Contains(h.show("MemoryCurrent"), "not set") {
		h.t.Log("systemd has no memory controller here: SIGKILL, which is what the kernel sends, was all that could be tried")
		return
	}
	pid := h.show("MainPID")
	h.Run("systemctl", "set-property", "--runtime", unit, "MemoryMax=4M", "MemorySwapMax=0")
	h.Until("the kernel has killed it", func() bool {
		_, _ = h.look()
		return h.show("MainPID") != pid
	})
	h.Run("systemctl", "set-property", "--runtime", unit, "MemoryMax=infinity")
	h.soon(h.own)
	h.logged("oom-kill")
}
