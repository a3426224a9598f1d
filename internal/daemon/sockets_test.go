package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
)

// activate starts the daemon with sockets, as systemd does. names has one for each, with colons between.
func (h *host) activate(program, names string, files ...*os.File) {
	h.t.Helper()
	h.cmd = exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, program, "--config", h.path("spinecert.yaml"))
	h.cmd.ExtraFiles = files
	h.spawn("LISTEN_FDS="+strconv.Itoa(len(files)), "LISTEN_FDNAMES="+names)
}

// answers waits until the daemon does.
func (h *host) answers() {
	h.t.Helper()
	h.until("the daemon answers", func() bool {
		_, err := h.client.Status(context.Background())
		return err == nil
	})
}

// tunnelOn is a tunnel with such listeners, outbound with these more keys.
func tunnelOn(direction, listen, forward, more string) string {
	return fmt.Sprintf(`  a: {direction: %s, listen: [%s], forward: "%s", slot: pcs, peers: [%s]%s}`, direction, listen, forward, peerName, more)
}

func TestSystemdSockets(t *testing.T) {
	h, leaf := simpleHost(t)
	files, at := listeners(t, 3)
	target := backend(t)
	h.configure(`revocation: "off"`, providerSlot, tunnelOn("inbound", `"systemd:ssp", "127.0.0.1:0"`, target, ""))
	h.activate(os.Args[0], "ssp:spare:ssp", files...)
	h.answers()
	h.until("the tunnel listens", func() bool { return len(h.status().Tunnels[0].Listen) == 3 })
	shown := h.status().Tunnels[0].Listen
	for i, want := range []string{at[0] + " (systemd:ssp)", at[2] + " (systemd:ssp)"} {
		if shown[i] != want {
			t.Errorf("shown as %q, want %q", shown[i], want)
		}
	}
	for _, address := range []string{at[0], at[2], shown[2]} {
		if !h.leafAt(address, leaf) {
			t.Errorf("%s does not serve the slot", address)
		}
		if err := h.dial(address, "peer"); err != nil {
			t.Errorf("%s: %v", address, err)
		}
	}
	h.logged("event=socket_unused", "level=WARN", "address=systemd:spare")
	if _, err := h.client.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	h.until("the unused socket is told again", func() bool { return strings.Count(h.output.String(), "event=socket_unused") == 2 })

	// What systemd did not pass cannot be had by a reload.
	h.configure(`revocation: "off"`, providerSlot, tunnelOn("inbound", `"systemd:ssp2"`, target, ""))
	_, err := h.client.Reload(context.Background())
	var refused *admin.Error
	if !errors.As(err, &refused) || refused.Code != admin.CodeConfiguration {
		t.Fatalf("a reload without its socket: %v", err)
	}
	said := strings.Join(refused.Problems, " ") + refused.Hint
	for _, word := range []string{`tunnel "a"`, `socket "ssp2"`, `systemd passed "spare", "ssp"`, "Sockets=", "systemctl restart spinecertd", "FileDescriptorName=ssp2", "spinecert config systemd", "restart"} {
		if !strings.Contains(said, word) {
			t.Errorf("%s\ndoes not say %q", said, word)
		}
	}
	if err := h.dial(at[0], "peer"); err != nil {
		t.Errorf("after a reload that was refused: %v", err)
	}

	// What was unused can be used, and what was used need not be; then nobody is at its other side.
	h.configure(`revocation: "off"`, providerSlot, tunnelOn("inbound", `"systemd:spare"`, target, ""))
	if _, err := h.client.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := h.dial(at[1], "peer"); err != nil {
		t.Errorf("after a reload: %v", err)
	}
	h.logged("event=socket_unused", "address=systemd:ssp")
	if code := h.stop(sigTerm); code != 0 {
		t.Errorf("exit status %d", code)
	}

	// Between two daemons connections wait.
	waiting := make(chan error, 1)
	go func() { waiting <- h.dial(at[1], "peer") }()
	h.activate(os.Args[0], "ssp:spare:ssp", files...)
	if err := <-waiting; err != nil {
		t.Errorf("a connection between stop and start: %v", err)
	}
}

func TestSystemdSocketMissing(t *testing.T) {
	h, _ := simpleHost(t)
	files, _ := listeners(t, 1)
	h.configure(`revocation: "off"`, providerSlot, tunnelOn("inbound", `"systemd:ssp"`, backend(t), ""))
	h.activate(os.Args[0], "other.socket", files...)
	if code := h.wait(); code == 0 {
		t.Error("it ended with 0")
	}
	for _, word := range []string{`tunnel "a"`, `find socket "ssp": systemd passed "other.socket"`, "FileDescriptorName=ssp"} {
		if !strings.Contains(h.output.String(), word) {
			t.Errorf("it does not say %q:\n%s", word, h.output)
		}
	}
	h.cmd = exec.Command(os.Args[0], "--config", h.path("spinecert.yaml"))
	h.spawn()
	if code := h.wait(); code == 0 || !strings.Contains(h.output.String(), "systemd passed no sockets") {
		t.Errorf("exit status %d without systemd", code)
	}
	h.activate(os.Args[0], "ssp:ssp", files[0])
	if code := h.wait(); code == 0 || !strings.Contains(h.output.String(), "LISTEN_FDNAMES") {
		t.Errorf("exit status %d with more names than sockets", code)
	}
}

// TestSystemdSocketNotReady: while a slot serves nothing nobody is kept waiting, and the socket stays the same one.
func TestSystemdSocketNotReady(t *testing.T) {
	h := newHost(t)
	h.identity("peer", peerName)
	files, at := listeners(t, 1)
	h.configure(`revocation: "off"`, providerSlot, tunnelOn("inbound", `"systemd:ssp"`, backend(t), ""))
	h.activate(os.Args[0], "ssp", files...)
	h.answers()
	c, err := net.Dial("tcp", at[0])
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a connection that nobody can serve: %v", err)
	}
	h.until("it is counted", func() bool {
		return h.metric(`spinecert_tunnel_handshakes_total{reason="not_ready",result="failed",tunnel="a"}`) == "1"
	})
	h.logged("event=handshake_failed", "reason=not_ready", "tunnel=a")
	if s := h.status().Tunnels[0]; s.State != "closed" || len(s.Listen) != 0 {
		t.Errorf("the tunnel is shown as %+v", s)
	}
	leaf := h.identity("pcs", providerName)
	h.until("the tunnel is open", func() bool { return h.status().Tunnels[0].State == "open" })
	h.until("it serves the slot", func() bool { return h.leafAt(at[0], leaf) }) // its status follows the slot, and its listener a moment later
}

// TestSystemdSocketOutbound: whoever connects acts with our identity.
func TestSystemdSocketOutbound(t *testing.T) {
	h, _ := simpleHost(t)
	unix := func(name string, mode os.FileMode) *os.File {
		ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: h.path(name), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ln.Close() })
		if err := os.Chmod(h.path(name), mode); err != nil {
			t.Fatal(err)
		}
		f, err := ln.File()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		return f
	}
	wide, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer wide.Close()
	everywhere, err := wide.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer everywhere.Close()
	near, _ := listeners(t, 1)
	for name, test := range map[string]struct {
		file       *os.File
		more, want string
	}{
		"everywhere":      {everywhere, `, allow_users: ["*"]`, "is not on loopback"},
		"nobody named":    {near[0], "", "allow_users: [pcs]"},
		"somebody named":  {near[0], ", allow_users: [root]", ""},
		"open file":       {unix("open", 0o666), "", "SocketMode=0660"},
		"open and wanted": {unix("open2", 0o666), `, allow_users: ["*"]`, ""},
		"closed file":     {unix("closed", 0o660), "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			part := *h
			part.t = t
			part.configure(`revocation: "off"`, providerSlot, tunnelOn("outbound", `"systemd:sds"`, "127.0.0.1:9", test.more))
			part.activate(os.Args[0], "sds", test.file)
			if test.want == "" {
				part.answers()
				if code := part.stop(sigTerm); code != 0 {
					t.Errorf("exit status %d", code)
				}
				return
			}
			if code := part.wait(); code == 0 || !strings.Contains(part.output.String(), test.want) {
				t.Errorf("exit status %d, and it does not say %q:\n%s", code, test.want, part.output)
			}
		})
	}
}

// TestSystemdSocketUpgrade: the process that takes over has the sockets from the one before, and the next again.
func TestSystemdSocketUpgrade(t *testing.T) {
	h, leaf := simpleHost(t)
	files, at := listeners(t, 2)
	h.configure(`revocation: "off"`, providerSlot, tunnelOn("inbound", `"systemd:ssp"`, backend(t), ""))
	h.install(h.self())
	h.activate(h.path("spinecertd"), "ssp:ssp", files...)
	h.answers()
	t.Cleanup(func() {
		if s, err := h.client.Status(context.Background()); err == nil {
			_ = syscall.Kill(s.PID, syscall.SIGKILL)
		}
	})
	for range 2 {
		before := h.status().PID
		h.upgrade()
		h.until("the new process answers", func() bool {
			s, err := h.client.Status(context.Background())
			return err == nil && s.PID != before && s.Ready
		})
		h.awaitEnd(before)
		for _, address := range at {
			if !h.leafAt(address, leaf) {
				t.Errorf("%s does not serve the slot", address)
			}
		}
	}
}
