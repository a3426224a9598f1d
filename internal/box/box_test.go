package box

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

func TestBox(t *testing.T) {
	b := Start(t)
	if state := b.Run("systemctl", "is-system-running"); state != "running" {
		t.Errorf("the box is %s", state)
	}
	// A unit that was pushed runs, and leaves its trace in the box alone.
	b.Push("/etc/systemd/system/pushed.service", []byte("[Service]\nType=oneshot\nExecStart=/opt/pushed\nPrivateTmp=yes\nProtectSystem=strict\nReadWritePaths=/srv\n"), 0o644)
	b.Push("/opt/pushed", []byte("#!/bin/sh\nid -u >/srv/spinecert-trace\n"), 0o755)
	b.Run("systemctl", "daemon-reload")
	b.Run("systemctl", "start", "pushed.service")
	if got := b.Run("cat", "/srv/spinecert-trace"); got != "0" {
		t.Errorf("the unit ran as user %s", got)
	}
	if _, err := os.Stat("/srv/spinecert-trace"); err == nil {
		t.Error("what the box writes is on the host")
	}
	if err := b.push("/var/run/through-a-link", nil, 0o600); err == nil {
		t.Error("pushed through a link that leads out of the box")
	}
	b.Push("/run/mode", nil, 0o4751)
	if got := b.Run("stat", "-c", "%a", "/run/mode"); got != "751" {
		t.Errorf("mode %s", got)
	}
	// D-Bus and polkit are there, and the loopback is its own.
	b.Run("busctl", "status", "org.freedesktop.systemd1")
	b.Run("systemctl", "start", "polkit.service")
	if links := b.Run("sh", "-c", "ls /sys/class/net"); links != "lo" {
		t.Errorf("network interfaces %q", links)
	}
	if out, err := b.Exec(t.Context(), "sh", "-c", "echo said; exit 3"); err == nil || !strings.Contains(err.Error(), "exit status 3") || out != "said\n" {
		t.Errorf("%q, %v", out, err)
	}
	// What the host has enabled does not run here.
	if running := b.Run("systemctl", "list-units", "--type=service", "--state=running", "--no-legend", "--plain", "--no-pager"); strings.Count(running, "\n") > 3 {
		t.Errorf("runs in the box:\n%s", running)
	}
}

// TestBeside: boxes do not know of each other.
func TestBeside(t *testing.T) {
	a, b := Start(t), Start(t)
	for i, box := range []*Box{a, b} {
		box.Push("/run/number", []byte(fmt.Sprint(i)), 0o644)
		box.Run("systemd-run", "--quiet", "--unit=same", "sleep", "infinity")
	}
	a.Run("systemctl", "stop", "same")
	if got := b.Run("cat", "/run/number") + b.Run("systemctl", "is-active", "same"); got != "1active" {
		t.Errorf("the other box has %s", got)
	}
	if a.Run("cat", "/etc/machine-id") == b.Run("cat", "/etc/machine-id") {
		t.Error("both are the same machine")
	}
}

// TestDown: the number of a box that has ended is not used again.
func TestDown(t *testing.T) {
	b := Start(t)
	_ = b.machine.leader.Kill()
	if !b.machine.hasEnded(time.Minute) {
		t.Fatal("the box does not end with its PID 1")
	}
	if out, err := b.Exec(t.Context(), "true"); !errors.Is(err, errDown) {
		t.Errorf("%q, %v", out, err)
	}
	if err := b.push("/run/x", nil, 0o600); err == nil {
		t.Error("pushed into a box that has ended")
	}
}
