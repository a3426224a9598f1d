package systemstory

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"

	"github.com/spinecert/spinecert/internal/hostbox"
)

// unwritable waits until the daemon says that it cannot write its state, and serves all the same, what is new as well.
func (h *host) unwritable() {
	h.t.Helper()
	h.soon(h.own)
	h.soon(h.rotate())
	h.Until("the condition state_unwritable", func() bool {
		c, ok := h.condition("state_unwritable")
		return ok && c.Hint != ""
	})
	if s := h.status(); !s.Ready || s.Slots[0].SHA256 != hostbox.Fingerprint(h.own) {
		h.t.Errorf("%+v", s.Slots[0])
	}
}

// writable waits until all that is served is on disk.
func (h *host) writable() {
	h.t.Helper()
	h.Until("the state directory is written again", func() bool {
		s := h.status()
		_, bad := h.condition("state_unwritable")
		return !bad && s.Slots[0].Unsaved == ""
	})
	if a := h.Ask("state", "verify"); a.Exit != 0 {
		h.t.Errorf("state verify: exit status %d, %s", a.Exit, a.Result)
	}
}

// TestState: whatever becomes of the state directory, what the files hold is served, the trouble is said, and it ends by itself.
func TestState(t *testing.T) {
	t.Parallel()
	h := started(t)
	h.writable()
	mode := func() string { return h.Run("stat", "-c", "%U %G %a", stateDir, stateDir+"/inbox") }
	const right = "spinecert spinecert 710\nspinecert spinecert 3770"
	if got := mode(); got != right {
		t.Errorf("state directory and inbox are %q", got)
	}
	t.Run("gone", func(t *testing.T) {
		p := h.part(t)
		p.Run("systemctl", "stop", unit)
		p.Run("rm", "-r", stateDir)
		p.Run("systemctl", "start", unit)
		p.serves(p.own)
		p.Run("systemd-tmpfiles", "--create", "/usr/lib/tmpfiles.d/spinecert.conf") // the inbox, which the unit may not make
		p.writable()
		if got := p.Run("stat", "-c", "%U %G %a", stateDir); got != "spinecert spinecert 710" {
			t.Errorf("the new one is %s", got)
		}
	})
	t.Run("of another user", func(t *testing.T) {
		// systemd gives it back as a whole.
		p := h.part(t)
		p.Run("systemctl", "stop", unit)
		p.Run("chown", "-R", "root:root", stateDir)
		p.Run("systemctl", "start", unit)
		p.serves(p.own)
		p.writable()
		if got := mode(); got != right {
			t.Errorf("state directory and inbox are %q", got)
		}
		// A part of it, which systemd does not look at.
		p.Run("chown", "-R", "root:root", stateDir+"/slots")
		p.Run("chmod", "-R", "go=", stateDir+"/slots")
		p.Run("systemctl", "restart", unit)
		p.unwritable()
		p.Run("chown", "-R", "spinecert:spinecert", stateDir+"/slots")
		p.writable()
	})
	t.Run("read-only", func(t *testing.T) {
		p := h.part(t)
		p.dropIn("readonly.conf", "StateDirectory=", "ReadOnlyPaths="+stateDir)
		p.Run("systemctl", "restart", unit)
		p.unwritable()
		if out, err := p.reload(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		p.dropIn("readonly.conf")
		p.Run("systemctl", "restart", unit)
		p.soon(p.own)
		p.writable()
	})
	t.Run("full", func(t *testing.T) {
		p := h.part(t)
		p.Run("systemctl", "stop", unit)
		p.Run("mount", "-t", "tmpfs", "-o", "size=256k,mode=0710", "tmpfs", stateDir)
		p.Run("systemd-tmpfiles", "--create", "/usr/lib/tmpfiles.d/spinecert.conf")
		p.Run("systemctl", "start", unit)
		p.serves(p.own)
		p.writable()
		open := p.open()
		fill := func() {
			out, err := p.Exec(t.Context(), "dd", "if=/dev/zero", "of="+stateDir+"/inbox/.fill", "bs=1k", "count=1000")
			if err == nil || !strings.Contains(out, "No space left") {
				t.Fatalf("the disk does not get full: %s", out)
			}
		}
		fill()
		p.unwritable()
		p.works(open)
		p.Run("rm", stateDir+"/inbox/.fill")
		p.writable()
		// Started while it is full.
		fill()
		p.Run("systemctl", "restart", unit)
		p.unwritable()
		p.Run("rm", stateDir+"/inbox/.fill")
		p.writable()
		p.serves(p.own)
		p.Run("systemctl", "stop", unit)
		p.Run("umount", stateDir)
		p.Run("systemctl", "start", unit)
		p.soon(p.own)
	})
	t.Run("nowhere", func(t *testing.T) {
		p := h.part(t)
		// Not even the lock can be had: then it does not start, says why, and comes up as soon as it can.
		p.Run("systemctl", "stop", unit)
		p.dropIn("nowhere.conf", "StateDirectory=")
		p.Run("mv", stateDir, stateDir+".away")
		if out, err := p.Exec(t.Context(), "systemctl", "start", unit); err == nil {
			t.Errorf("started without a state directory: %s", out)
		}
		p.logged("error: make state directory", stateDir, "read-only file system")
		p.logged("hint: ", "make it")
		if got := p.show("ExecMainStatus"); got != "1" {
			t.Errorf("exit status %s", got)
		}
		p.dropIn("nowhere.conf")
		p.Run("mv", stateDir+".away", stateDir)
		p.property("ActiveState", "active") // by itself
		p.serves(p.own)
	})
}

// TestTwoDaemons: the second one refuses, and the first does not notice.
func TestTwoDaemons(t *testing.T) {
	t.Parallel()
	h := started(t)
	h.writable()
	open, pid := h.open(), h.show("MainPID")
	h.Run("cp", "-r", "/etc/spinecert", "/etc/other")
	h.configure("127.0.0.1:4430", "127.0.0.1:4431", "127.0.0.1:9464", "127.0.0.1:9465", "admin: {", "admin: {socket: {path: /run/spinecert/other.sock}, ")
	h.Run("mv", confFile, "/etc/other/spinecert.yaml")
	h.configure()
	second := func(as string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), hostbox.Patience)
		defer cancel()
		out, err := h.Exec(ctx, "setpriv", "--reuid", as, "--regid", as, "--init-groups", "/usr/bin/spinecertd", "--config", "/etc/other/spinecert.yaml")
		var ended *exec.ExitError
		if !errors.As(err, &ended) || ended.ExitCode() != 1 || !strings.Contains(out, "held by process "+pid+": another daemon runs on it") || !strings.Contains(out, "hint: stop that one first") {
			t.Fatalf("as %s: %v\n%s", as, err, out)
		}
	}
	second("spinecert")
	second("root")
	h.serves(h.own)
	h.works(open)
	h.writable()
	h.soon(h.rotate())
	h.writable()
	// As a unit of its own it waits, and takes over when the first one is stopped.
	other := strings.NewReplacer("/etc/spinecert/spinecert.yaml", "/etc/other/spinecert.yaml", "RuntimeDirectory=spinecert\n", "RuntimeDirectory=spinecert\nRuntimeDirectoryPreserve=yes\n").Replace(h.Run("cat", "/usr/lib/systemd/system/"+unit))
	h.Push("/etc/systemd/system/other.service", []byte(other), 0o644)
	h.Run("systemctl", "daemon-reload")
	if out, err := h.Exec(t.Context(), "systemctl", "start", "other"); err == nil {
		t.Errorf("the second one runs: %s", out)
	}
	h.Until("it is tried again", func() bool { return h.Run("systemctl", "show", "--value", "-p", "NRestarts", "other") != "0" })
	h.serves(h.own)
	h.works(open)
	if now := h.show("MainPID"); now != pid {
		t.Errorf("process %s, and %s before", now, pid)
	}
	_ = open.Close()
	h.Run("systemctl", "stop", unit)
	h.Until("the second one runs", func() bool { return h.Run("systemctl", "show", "--value", "-p", "ActiveState", "other") == "active" })
}
