package systemstory

import (
	"strings"
	"testing"
)

// TestCredential: the key comes from a credential. One that is missing keeps nothing else from working, is told, and the next start finds it.
func TestCredential(t *testing.T) {
	t.Parallel()
	h := installed(t)
	const source = "/etc/spinecert/credentials/pcs.key"
	h.Run("systemctl", "start", unit)
	h.serves(h.own)
	h.writable()
	h.configure("key: pcs/pcs.key", `key: "credential:pcs.key"`)

	// The unit names none: what is kept is served.
	h.Run("systemctl", "restart", unit)
	h.serves(h.own)
	told := func(state string) {
		t.Helper()
		s := h.status().Slots[0]
		if s.State != state || !strings.Contains(s.LastError, `read credential "pcs.key"`) || !strings.Contains(s.Hint, "LoadCredential=pcs.key:") || !strings.Contains(s.Hint, "systemctl restart spinecertd") {
			t.Errorf("the slot is %+v, want %s", s, state)
		}
	}
	told("pending")

	// The unit names it as `spinecert config systemd` has it, and its source is missing: the same.
	h.plan()
	h.serves(h.own)
	told("pending")
	h.Run("systemctl", "stop", unit)
	h.Run("rm", "-r", stateDir+"/slots/pcs") // and nothing is kept
	h.Run("systemctl", "start", unit)
	h.closed()
	told("empty")
	if text := h.show("StatusText"); text != "0 of 1 slots ready; not ready: pcs" {
		t.Errorf("STATUS is %q", text)
	}

	// It is there: the next start takes it, and the file of root's stays root's.
	h.Run("install", "-m", "0600", "/etc/spinecert/pcs/pcs.key", source)
	h.Run("systemctl", "restart", unit)
	h.serves(h.own)
	h.sandboxed()
	h.writable()

	// LoadCredential= alone lets systemd refuse the start. That is tried again, and ends when the file is there.
	h.Run("systemctl", "stop", unit)
	h.Run("mv", source, source+".away")
	h.dropIn("strict.conf", "SetCredential=", "LoadCredential=pcs.key:"+source)
	if out, err := h.Exec(t.Context(), "systemctl", "start", unit); err == nil {
		t.Errorf("started without its credential: %s", out)
	}
	if got := h.show("ExecMainStatus"); got != "243" {
		t.Errorf("exit status %s, want 243/CREDENTIALS", got)
	}
	h.Run("mv", source+".away", source)
	h.property("ActiveState", "active")
	h.serves(h.own)
}

// TestSockets: a tunnel whose socket is missing, and a socket that no tunnel uses. Package socketstory has the rest of the sockets.
func TestSockets(t *testing.T) {
	t.Parallel()
	h := started(t)
	open := h.open()
	h.configure(`["127.0.0.1:4430"]`, `["127.0.0.1:4430", "systemd:extra"]`)
	if out, err := h.reload(); err == nil {
		t.Errorf("a reload took a socket that is not there: %s", out)
	}
	h.serves(h.own)
	h.works(open)
	_ = open.Close()
	if out, err := h.Exec(t.Context(), "systemctl", "restart", unit); err == nil {
		t.Errorf("started without its socket: %s", out)
	}
	h.logged("error: open tunnel", `find socket "extra"`)
	h.logged("hint: write a socket unit with FileDescriptorName=extra")
	// The socket is there: the next try begins with it.
	h.Push("/etc/systemd/system/extra.socket", []byte("[Socket]\nListenStream=127.0.0.1:4431\nFileDescriptorName=extra\nService="+unit+"\n"), 0o644)
	h.Run("systemctl", "daemon-reload")
	h.Run("systemctl", "stop", unit)
	h.Run("systemctl", "start", "extra.socket", unit)
	h.serves(h.own)
	// Nobody uses it any more.
	h.configure()
	h.Run("systemctl", "restart", unit)
	h.serves(h.own)
	h.logged("event=socket_unused", "systemd:extra", "hint=")
}
