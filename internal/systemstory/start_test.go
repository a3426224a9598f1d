package systemstory

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/hostbox"
)

// TestStart: `systemctl start` returns when every slot has been staged, and what systemd shows is what there is.
func TestStart(t *testing.T) {
	t.Parallel()
	h := installed(t)
	const slots = 10
	names := ""
	for i := range slots - 1 {
		leaf := h.issue(fmt.Sprintf("slot%d.thirdparty.nhs.uk", i))
		h.Push(fmt.Sprintf("/etc/spinecert/pcs/s%d.crt", i), leaf.FullChainPEM(), 0o644)
		h.Push(fmt.Sprintf("/etc/spinecert/pcs/s%d.key", i), leaf.KeyPEM(), 0o640)
		names += fmt.Sprintf("  s%[1]d: {fqdn: slot%[1]d.thirdparty.nhs.uk, files: {certificate: pcs/s%[1]d.crt, key: pcs/s%[1]d.key}}\n", i)
	}
	h.Run("sh", "-ec", "chown root:spinecert /etc/spinecert/pcs/*.key")
	h.configure("tunnels:\n", names+"tunnels:\n")
	for i := range 3 {
		h.Run("systemctl", "restart", unit)
		h.serves(h.own) // at once: READY comes after that
		if text := h.show("StatusText"); !strings.HasPrefix(text, fmt.Sprintf("%d of %d slots ready; next expiry 20", slots, slots)) {
			t.Errorf("STATUS is %q", text)
		}
		h.t.Logf("start %d: %s from the process to READY with %d slots", i+1, h.between("ExecMainStartTimestampMonotonic", "ActiveEnterTimestampMonotonic"), slots)
	}
	if out := h.Run("systemctl", "status", "--no-pager", unit); !strings.Contains(out, "active (running)") || !strings.Contains(out, "slots ready") {
		t.Errorf("systemctl status says\n%s", out)
	}
	if pid := strconv.Itoa(h.status().PID); h.show("MainPID") != pid {
		t.Errorf("the main process is %s, and the daemon says %s", h.show("MainPID"), pid)
	}
	if got := h.Run("stat", "-c", "%U %G %a", stateDir); got != "spinecert spinecert 710" {
		t.Errorf("the state directory is %s", got)
	}
	// Each is staged and said, also what is not good: that is no reason not to be READY.
	h.Push("/etc/spinecert/pcs/s0.crt", []byte("no certificate\n"), 0o644)
	h.Run("rm", "-r", stateDir+"/slots/s0")
	h.Run("systemctl", "restart", unit)
	h.serves(h.own)
	if text := h.show("StatusText"); !strings.HasPrefix(text, fmt.Sprintf("%d of %d slots ready; not ready: s0; next expiry 20", slots-1, slots)) {
		t.Errorf("STATUS is %q", text)
	}
	// However many are not ready, systemd takes the message: it has a limit.
	const missing = 300
	for i := range missing {
		names += fmt.Sprintf("  a-slot-of-a-host-with-many-organisations-%[1]d: {fqdn: slot%[1]d.thirdparty.nhs.uk, files: {certificate: nowhere/%[1]d.crt, key: nowhere/%[1]d.key}}\n", i)
	}
	h.configure("tunnels:\n", names+"tunnels:\n")
	h.Run("systemctl", "restart", unit)
	h.serves(h.own)
	if text := h.show("StatusText"); !strings.HasPrefix(text, fmt.Sprintf("%d of %d slots ready; not ready: ", slots-1, slots+missing)) || !strings.Contains(text, fmt.Sprintf(" and %d more; next expiry 20", missing+1-10)) {
		t.Errorf("STATUS is %q", text)
	}
	h.sandboxed()
}

// TestManySlots: a start with 10,000 slots is measured, from nothing and from what is kept, with nothing beside it.
func TestManySlots(t *testing.T) {
	long(t)
	h := installed(t)
	const slots = 10_000
	var names strings.Builder
	for i := range slots - 1 {
		leaf := h.issue(fmt.Sprintf("s%d.nhs.uk", i))
		h.Push(fmt.Sprintf("/etc/spinecert/m/%d.crt", i), leaf.FullChainPEM(), 0o644)
		h.Push(fmt.Sprintf("/etc/spinecert/m/%d.key", i), leaf.KeyPEM(), 0o640)
		fmt.Fprintf(&names, "  s%[1]d: {fqdn: s%[1]d.nhs.uk, files: {certificate: m/%[1]d.crt, key: m/%[1]d.key}}\n", i)
	}
	h.Run("chgrp", "-R", "spinecert", "/etc/spinecert/m")
	h.configure("tunnels:\n", names.String()+"tunnels:\n")
	for _, how := range []string{"new", "kept"} {
		h.Run("systemctl", "restart", unit)
		stat := strings.Fields(h.Run("cat", "/proc/"+h.show("MainPID")+"/stat"))
		t.Logf("%s from the process to READY with %d slots, all %s: %s; in hundredths of a second of the processor: %s of its own, %s in the kernel",
			h.between("ExecMainStartTimestampMonotonic", "ActiveEnterTimestampMonotonic"), slots, how, h.show("StatusText"), stat[13], stat[14])
		h.Until("all are ready", func() bool {
			return strings.HasPrefix(h.show("StatusText"), fmt.Sprintf("%[1]d of %[1]d slots ready; next expiry 20", slots))
		})
		h.serves(h.own)
		h.Until("all are kept", func() bool {
			s, ok := h.ask()
			return ok && len(s.Slots) == slots && !slices.ContainsFunc(s.Slots, func(s admin.Slot) bool { return s.Unsaved != "" })
		})
	}
}

// between is the time between two moments that systemd notes, in microseconds.
func (h *host) between(from, to string) time.Duration {
	h.t.Helper()
	var at [2]int
	for i, name := range []string{from, to} {
		at[i], _ = strconv.Atoi(h.show(name))
	}
	return time.Duration(at[1]-at[0]) * time.Microsecond
}

// sandboxed wants the process to have no right that the unit does not name.
func (h *host) sandboxed() {
	h.t.Helper()
	status := h.Run("cat", "/proc/"+h.show("MainPID")+"/status")
	uid, gid := h.Run("id", "-u", "spinecert"), h.Run("id", "-g", "spinecert")
	for _, line := range []string{
		"Uid:\t" + strings.Join([]string{uid, uid, uid, uid}, "\t"), "Gid:\t" + strings.Join([]string{gid, gid, gid, gid}, "\t"),
		"CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "CapInh:\t0000000000000000", "CapBnd:\t0000000000000000", "CapAmb:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2",
	} {
		if !strings.Contains(status, line+"\n") {
			h.t.Errorf("the daemon has not %q:\n%s", line, status)
		}
	}
}

// TestRotate: whoever delivers, what is open stays open, and no request fails.
func TestRotate(t *testing.T) {
	t.Parallel()
	h := started(t)
	open := h.open()
	tr := h.traffic(2)
	pid := h.show("MainPID")
	h.deployer()
	for range 3 {
		h.soon(h.rotate())
	}
	h.Run("cp", "-p", "/etc/spinecert/pcs/pcs.crt", "/etc/spinecert/pcs/pcs.key", "/srv/delivered/")
	h.configure("certificate: pcs/pcs.crt, key: pcs/pcs.key", "certificate: /srv/delivered/pcs.crt, key: /srv/delivered/pcs.key")
	h.Run("systemctl", "reload", unit)
	for range 3 {
		h.deliver()
		h.soon(h.own)
	}
	h.works(open)
	tr.end(t)
	if open.leaf() == hostbox.Fingerprint(h.own) {
		t.Error("nothing was rotated")
	}
	s := h.status()
	if now := h.show("MainPID"); now != pid || len(s.Slots) != 1 || s.Slots[0].Generation != 7 {
		t.Errorf("process %s, and %s before; %+v", now, pid, s.Slots)
	}
	// What cannot be read, or is half there, changes nothing.
	h.Run("chmod", "0600", "/srv/delivered/pcs.key")
	h.Run("touch", "/srv/delivered/pcs.key")
	h.Until("the daemon says that it may not read the key", func() bool {
		s := h.status()
		return strings.Contains(s.Slots[0].LastError, "permission denied") && s.Slots[0].Hint != ""
	})
	h.serves(h.own)
	h.works(open)
	h.Run("chmod", "0640", "/srv/delivered/pcs.key")
	h.Until("it is well again", func() bool { return h.status().Slots[0].State == "ready" })
}
