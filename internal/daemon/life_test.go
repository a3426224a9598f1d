package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/testpki"
)

const sigTerm = syscall.SIGTERM

// inbound is the usual tunnel of these tests.
func inbound(target string) string {
	return fmt.Sprintf(`  ssp-in: {direction: inbound, listen: ["127.0.0.1:0"], forward: "%s", slot: pcs, peers: [%s]}`, target, peerName)
}

func simpleHost(t *testing.T) (*host, *testpki.Leaf) {
	h := newHost(t)
	leaf := h.identity("pcs", providerName)
	h.identity("peer", peerName)
	h.configure(`revocation: "off"`, providerSlot, inbound(backend(t)))
	return h, leaf
}

func TestKillAndRestart(t *testing.T) {
	h, first := simpleHost(t)
	h.start()
	h.serves("ssp-in", first)
	h.stop(syscall.SIGKILL)

	// What was put there while nobody looked is served at once; socket file and
	// lock of the killed process are in nobody's way.
	second := h.identity("pcs", providerName)
	h.start()
	h.serves("ssp-in", second)
	if code := h.stop(sigTerm); code != 0 {
		t.Errorf("exit status %d after SIGTERM", code)
	}
	if _, err := os.Lstat(h.path("admin.sock")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the admin socket is still there: %v", err)
	}
}

func TestSecondDaemonIsRefused(t *testing.T) {
	h, _ := simpleHost(t)
	h.start()
	second := exec.Command(os.Args[0], "--config", h.path("spinecert.yaml"))
	second.Env = append(os.Environ(), "SPINECERTD_TEST_RUN=1")
	out, err := second.CombinedOutput()
	if second.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), fmt.Sprintf("held by process %d", h.cmd.Process.Pid)) {
		t.Fatalf("second daemon: %v\n%s", err, out)
	}
	if !h.status().Ready {
		t.Error("the first daemon suffers")
	}
}

func TestReload(t *testing.T) {
	h, first := simpleHost(t)
	h.start()
	h.serves("ssp-in", first)
	good, err := os.ReadFile(h.path("spinecert.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	before := h.listen("ssp-in")

	t.Run("broken configuration changes nothing", func(t *testing.T) {
		for name, bad := range map[string]string{
			"unknown key":     string(good) + "nonsense: 1\n",
			"second document": string(good) + "---\nslots: {}\n",
			"no such slot":    strings.Replace(string(good), "slot: pcs,", "slot: nope,", 1),
			"no peers":        strings.Replace(string(good), "peers: ["+peerName+"]", "peers: []", 1),
			"taken listener":  strings.Replace(string(good), "tunnels:\n", "tunnels:\n"+strings.Replace(strings.Replace(inbound("127.0.0.1:1"), "ssp-in", "other", 1), "127.0.0.1:0", h.web, 1)+"\n", 1),
		} {
			h.write("spinecert.yaml", []byte(bad), 0o600)
			_, err := h.client.Reload(context.Background())
			var e *admin.Error
			if !errors.As(err, &e) || e.Code != admin.CodeConfiguration || len(e.Problems) == 0 {
				t.Errorf("%s: reload said %v", name, err)
			}
			if got := h.metric("spinecert_config_last_reload_successful"); got != "0" {
				t.Errorf("%s: config_last_reload_successful is %q", name, got)
			}
			if got := h.listen("ssp-in"); got != before {
				t.Errorf("%s: listener moved from %s to %s", name, before, got)
			}
			h.serves("ssp-in", first)
		}
	})
	t.Run("good configuration is taken, by signal too", func(t *testing.T) {
		second := "  two: {direction: inbound, listen: [\"127.0.0.1:0\"], forward: \"127.0.0.1:9\", slot: pcs, peers: [" + peerName + "]}\n"
		h.write("spinecert.yaml", []byte(strings.Replace(string(good), "state:", second[:0]+"state:", 1)), 0o600)
		if _, err := h.client.Reload(context.Background()); err != nil {
			t.Fatal(err)
		}
		h.write("spinecert.yaml", []byte(strings.Replace(string(good), "tunnels:\n", "tunnels:\n"+second, 1)), 0o600)
		if err := h.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		h.serves("two", first)
		if got := h.listen("ssp-in"); got != before {
			t.Errorf("an unchanged listener moved from %s to %s", before, got)
		}
		if got := h.metric("spinecert_config_last_reload_successful"); got != "1" {
			t.Errorf("config_last_reload_successful is %q", got)
		}
	})
	t.Run("a removed tunnel goes away", func(t *testing.T) {
		h.write("spinecert.yaml", good, 0o600)
		if _, err := h.client.Reload(context.Background()); err != nil {
			t.Fatal(err)
		}
		if n := len(h.status().Tunnels); n != 1 {
			t.Errorf("%d tunnels", n)
		}
	})
	t.Run("broken material is said, and what was served goes on", func(t *testing.T) {
		h.write("pcs.crt", []byte("-----BEGIN CERTIFICATE-----\nAAAA"), 0o644)
		res, err := h.client.Reload(context.Background())
		var e *admin.Error
		if !errors.As(err, &e) || e.Code != admin.CodeRefused || len(res.Refused) != 1 {
			t.Errorf("reload said %v, %v", res, err)
		}
		h.serves("ssp-in", first)
	})
}

func TestRemovedPeerIsRefusedOnReload(t *testing.T) {
	h, _ := simpleHost(t)
	h.start()
	address := h.listen("ssp-in")
	if err := h.dial(address, "peer"); err != nil {
		t.Fatalf("listed peer: %v", err)
	}
	data, err := os.ReadFile(h.path("spinecert.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	h.write("spinecert.yaml", []byte(strings.Replace(string(data), "peers: ["+peerName+"]", "peers: [another.nhs.uk]", 1)), 0o600)
	if _, err := h.client.Reload(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := h.dial(address, "peer"); err == nil {
		t.Error("a peer that was removed is still accepted")
	}
}

func TestSlotWithoutMaterialKeepsItsTunnelClosed(t *testing.T) {
	h := newHost(t)
	h.identity("peer", peerName)
	h.configure(`revocation: "off"`, providerSlot, inbound(backend(t)))
	h.start()
	if s := h.slot("pcs"); s.State != "empty" || s.Generation != 0 {
		t.Errorf("slot is %+v", s)
	}
	if code, _ := h.get("/readyz"); code != http.StatusServiceUnavailable {
		t.Errorf("readyz says %d", code)
	}
	if code, _ := h.get("/healthz"); code != http.StatusOK {
		t.Errorf("healthz says %d", code)
	}
	if l := h.status().Tunnels[0].Listen; len(l) != 0 {
		t.Errorf("the tunnel listens on %v", l)
	}
	leaf := h.identity("pcs", providerName)
	h.serves("ssp-in", leaf)
	if code, _ := h.get("/readyz"); code != http.StatusOK {
		t.Errorf("readyz says %d", code)
	}
}

func TestDiskFullOnStateDirectory(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to mount a small tmpfs")
	}
	h, first := simpleHost(t)
	if err := os.Mkdir(h.path("state"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", h.path("state"), "tmpfs", 0, "size=1m,mode=0700"); err != nil {
		t.Skipf("cannot mount a tmpfs: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(h.path("state"), syscall.MNT_DETACH) })
	h.start()
	h.serves("ssp-in", first)
	fill := h.path("state/fill")
	if err := os.WriteFile(fill, make([]byte, 2<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk does not get full: %v", err)
	}
	// The page that the audit file has already is used up first.
	for i := 0; i < 100 && h.metric("spinecert_state_writable") != "0"; i++ {
		h.serves("ssp-in", h.identity("pcs", providerName))
	}
	if got := h.metric("spinecert_state_writable"); got != "0" {
		t.Fatalf("state_writable is %q on a full disk", got)
	}
	last := h.identity("pcs", providerName)
	h.serves("ssp-in", last) // rotation goes on
	if err := os.Remove(fill); err != nil {
		t.Fatal(err)
	}
	h.until("the audit lines are written", func() bool {
		data, err := os.ReadFile(h.path("state/audit.jsonl"))
		want := fmt.Sprintf(`"to":%d,`, h.slot("pcs").Generation)
		return err == nil && strings.Contains(string(data), want)
	})
	h.until("the last generation is on disk", func() bool { return h.metric("spinecert_state_writable") == "1" })
	for _, c := range h.status().Conditions {
		if c.Code == "state_unwritable" {
			t.Errorf("with room again: %+v", c)
		}
	}
}

func TestOutOfFileDescriptors(t *testing.T) {
	h, first := simpleHost(t)
	h.cmd = exec.Command("/bin/sh", "-c", `ulimit -n 64; exec "$0" "$@"`, os.Args[0], "--config", h.path("spinecert.yaml"))
	h.spawn()
	h.until("the daemon answers", func() bool { _, err := h.client.Status(context.Background()); return err == nil })
	address := h.listen("ssp-in")
	var idle []net.Conn
	for range 200 {
		c, err := net.DialTimeout("tcp", address, 5*time.Second)
		if err != nil {
			break
		}
		idle = append(idle, c)
	}
	// With every descriptor taken it neither ends nor spins; when they come back, so does it.
	for _, c := range idle {
		_ = c.Close()
	}
	h.serves("ssp-in", first)
	second := h.identity("pcs", providerName)
	h.serves("ssp-in", second)
}

func TestNotifiesSystemd(t *testing.T) {
	h, _ := simpleHost(t)
	socket := h.path("notify.sock")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	messages := make(chan string, 100)
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := l.Read(buf)
			if err != nil {
				return
			}
			messages <- string(buf[:n])
		}
	}()
	next := func(want string) string {
		t.Helper()
		for {
			select {
			case m := <-messages:
				if strings.Contains(m, want) {
					return m
				}
				if strings.Contains(m, "READY=1") || strings.Contains(m, "RELOADING=1") || strings.Contains(m, "STOPPING=1") {
					t.Fatalf("told %q before %q", m, want)
				}
			case <-time.After(patience):
				t.Fatalf("never told %q", want)
			}
		}
	}
	h.start("NOTIFY_SOCKET=" + socket)
	next("READY=1")
	h.write("spinecert.yaml", []byte("nonsense: 1\n"), 0o600)
	if _, err := h.client.Reload(context.Background()); err == nil {
		t.Error("a broken configuration was taken")
	}
	if m := next("RELOADING=1"); !strings.Contains(m, "MONOTONIC_USEC=") {
		t.Errorf("told %q", m)
	}
	if m := next("READY=1"); !strings.Contains(m, "STATUS=reload refused") {
		t.Errorf("told %q", m)
	}
	h.stop(sigTerm)
	next("STOPPING=1")
}

func TestCheckPublishesNothing(t *testing.T) {
	h, _ := simpleHost(t)
	run := func() (int, string) {
		cmd := exec.Command(os.Args[0], "--check", "--config", h.path("spinecert.yaml"))
		cmd.Env = append(os.Environ(), "SPINECERTD_TEST_RUN=1")
		out, _ := cmd.CombinedOutput()
		return cmd.ProcessState.ExitCode(), string(out)
	}
	if code, out := run(); code != 0 {
		t.Errorf("good: %d %s", code, out)
	}
	if _, err := os.Lstat(h.path("state")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("--check made the state directory: %v", err)
	}
	h.write("pcs.key", h.identity("other", providerName).KeyPEM(), 0o600)
	if code, out := run(); code != 3 || !strings.Contains(out, "slot pcs: not ready") {
		t.Errorf("foreign key: %d %s", code, out)
	}
	h.write("spinecert.yaml", []byte("slots: {}\nnonsense: 1\n"), 0o600)
	if code, out := run(); code != 2 || !strings.Contains(out, "spinecert.yaml:2:1") {
		t.Errorf("bad configuration: %d %s", code, out)
	}
}
