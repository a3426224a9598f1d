package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/state"
	"github.com/spinecert/spinecert/internal/testprogram"
)

// startInstalled starts a copy of the program, in the place of which another can be put. What
// it and those that take over from it say goes to a file: a pipe would end with the first.
func (h *host) startInstalled() {
	h.t.Helper()
	program := h.path("spinecertd")
	h.install(h.self())
	log, err := os.Create(h.path("log"))
	if err != nil {
		h.t.Fatal(err)
	}
	h.cmd, h.output = exec.Command(program, "--config", h.path("spinecert.yaml")), &testprogram.Output{}
	h.cmd.Env = append(os.Environ(), "SPINECERTD_TEST_RUN=1")
	h.cmd.Stdout, h.cmd.Stderr = log, log
	if err := h.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	exited := make(chan error, 1)
	h.exited = exited
	cmd := h.cmd
	go func() { exited <- cmd.Wait() }()
	h.t.Cleanup(func() {
		h.t.Helper()
		if s, err := h.client.Status(context.Background()); err == nil {
			_ = syscall.Kill(s.PID, syscall.SIGKILL)
		}
		_ = cmd.Process.Kill()
		said := h.said()
		if h.t.Failed() || strings.Contains(said, "DATA RACE") || strings.Contains(said, "panic:") {
			h.t.Errorf("the daemons said:\n%s", said)
		}
		_ = log.Close()
	})
	h.until("the daemon answers", func() bool {
		s, err := h.client.Status(context.Background())
		return err == nil && s.Ready
	})
}

func (h *host) said() string {
	h.t.Helper()
	data, err := os.ReadFile(h.path("log"))
	if err != nil {
		h.t.Fatal(err)
	}
	return string(data)
}

func (h *host) self() []byte {
	h.t.Helper()
	self, err := os.ReadFile(os.Args[0])
	if err != nil {
		h.t.Fatal(err)
	}
	return self
}

// install puts a program in the place of the daemon's, as a package manager does.
func (h *host) install(program []byte) {
	h.t.Helper()
	fresh := h.path("spinecertd.new")
	if err := os.WriteFile(fresh, program, 0o755); err != nil {
		h.t.Fatal(err)
	}
	if err := os.Rename(fresh, h.path("spinecertd")); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) upgrade() admin.UpgradeResult {
	h.t.Helper()
	r, err := h.client.Upgrade(context.Background(), admin.UpgradeRequest{Unsupervised: true})
	if err != nil {
		h.t.Fatalf("upgrade: %v", err)
	}
	return r
}

// awaitEnd waits until a process that is no child has ended. A zombie has.
func (h *host) awaitEnd(pid int) {
	h.t.Helper()
	h.until(fmt.Sprintf("process %d has ended", pid), func() bool {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err != nil || strings.Contains(string(data), ") Z ")
	})
}

func TestUpgrade(t *testing.T) {
	h, first := simpleHost(t)
	h.startInstalled()
	h.serves("ssp-in", first)
	address := h.listen("ssp-in")
	conn := h.open("ssp-in")
	before := h.status().PID

	h.install(h.self()) // another file: the old one is gone from the disk
	r := h.upgrade()
	if r.PID == 0 || r.PID == before || r.From != "test" || r.To != "test" || r.Connections != 1 || !strings.Contains(r.Summary, "1 of 1 slots ready") {
		t.Errorf("upgrade says %+v", r)
	}
	if s := h.status(); s.PID != r.PID || !s.Ready {
		t.Errorf("process %d answers, ready %v, want %d", s.PID, s.Ready, r.PID)
	}
	if holder := state.Holder(h.path("state")); holder != r.PID {
		t.Errorf("the state directory is held by %d", holder)
	}
	if now := h.listen("ssp-in"); now != address {
		t.Errorf("it listens on %s, and did on %s", now, address)
	}
	request(t, conn) // the old process still serves it
	if code, _ := h.get("/readyz"); code != 200 {
		t.Errorf("/readyz says %d", code)
	}

	// The new one rotates, and writes what it serves.
	second := h.identity("pcs", providerName)
	h.serves("ssp-in", second)
	h.until("generation 2 is on disk", func() bool {
		target, err := os.Readlink(h.path("state/slots/pcs/current"))
		return err == nil && strings.HasSuffix(target, "/2")
	})
	request(t, conn)
	_ = conn.Close()
	if code := h.wait(); code != 0 {
		t.Errorf("the old process ended with %d", code)
	}
	if s := h.status(); s.PID != r.PID {
		t.Errorf("process %d answers after the old one ended", s.PID)
	}

	// And again, from the one that took over.
	again := h.upgrade()
	h.awaitEnd(r.PID)
	h.serves("ssp-in", second)
	if _, err := h.client.Reload(context.Background()); err != nil {
		t.Errorf("reload: %v", err)
	}
	if err := syscall.Kill(again.PID, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	h.awaitEnd(again.PID)
	if _, err := os.Lstat(h.path("admin.sock")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the admin socket is still there: %v", err)
	}
	if n := strings.Count(h.said(), "event=rotated"); n > 3 { // the old one may tell it, too, while it drains
		t.Errorf("%d rotations were told", n)
	}
}

// TestUpgradeUnderTraffic: connections are made all the time, and none fails.
func TestUpgradeUnderTraffic(t *testing.T) {
	h, leaf := simpleHost(t)
	h.startInstalled()
	h.serves("ssp-in", leaf)
	address := h.listen("ssp-in")
	ctx, stop := context.WithCancel(context.Background())
	var clients sync.WaitGroup
	var done atomic.Int64
	for range 4 {
		clients.Go(func() {
			for ctx.Err() == nil {
				if err := h.dial(address, "peer"); err != nil {
					t.Errorf("connection %d: %v", done.Load(), err)
					return
				}
				done.Add(1)
			}
		})
	}
	last := h.status().PID
	for i := range 5 {
		at := done.Load()
		r := h.upgrade()
		if r.PID == last {
			t.Fatalf("upgrade %d: still process %d", i, last)
		}
		last = r.PID
		h.until("connections are made after the upgrade", func() bool { return done.Load() > at+20 || t.Failed() })
	}
	stop()
	clients.Wait()
	t.Logf("%d connections over 5 upgrades", done.Load())
}

// TestUpgradeRefused: what is installed is no good, and the old daemon goes on with everything.
func TestUpgradeRefused(t *testing.T) {
	h, _ := simpleHost(t)
	h.configure(`revocation: "off"`, providerSlot, inbound(backend(t))+"\nservices:\n"+h.plainService("web", ""))
	h.startInstalled()
	pid := h.status().PID
	for name, c := range map[string]struct {
		program string
		mode    os.FileMode
		limit   time.Duration
		want    string
	}{
		"not executable": {program: "#!/bin/sh\n", mode: 0o644, want: "permission denied"},
		"no program":     {program: "garbage", mode: 0o755, want: "exec format error"},
		"ends":           {program: "#!/bin/sh\nexit 0\n", mode: 0o755, want: "ended without a word"},
		"hangs":          {program: "#!/bin/sh\nexec sleep 60\n", mode: 0o755, limit: time.Second, want: "not get ready in time"},
		"talks nonsense": {program: "#!/bin/sh\necho hello >&3\nexec sleep 60\n", mode: 0o755, want: "understand what it says"},
		"jumps ahead":    {program: "#!/bin/sh\necho '{\"step\":\"ready\"}' >&3\nexec sleep 60\n", mode: 0o755, want: `says "ready"`},
		"ends staging":   {program: "#!/bin/sh\necho '{\"step\":\"hello\",\"version\":\"2\"}' >&3\nexec <&3\nread offer\nread stage\necho staging\n", mode: 0o755, want: "ended without a word"},
		"hangs staging":  {program: "#!/bin/sh\necho '{\"step\":\"hello\",\"version\":\"2\"}' >&3\nexec sleep 60\n", mode: 0o755, limit: time.Second, want: "not get ready in time"},
		"refuses":        {program: "#!/bin/sh\necho '{\"step\":\"refuse\",\"refusal\":{\"message\":\"the moon is full\"}}' >&3\nexec sleep 60\n", mode: 0o755, want: "the moon is full"},
	} {
		t.Run(name, func(t *testing.T) {
			h.install([]byte(c.program))
			if err := os.Chmod(h.path("spinecertd"), c.mode); err != nil {
				t.Fatal(err)
			}
			_, err := h.client.Upgrade(context.Background(), admin.UpgradeRequest{TimeoutMS: c.limit.Milliseconds(), Unsupervised: true})
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "the running daemon goes on") {
				t.Errorf("upgrade says %v, want %q", err, c.want)
			}
			next := h.identity("pcs", providerName) // it rotates and writes
			h.serves("ssp-in", next)
			h.until("it is on disk", func() bool {
				data, err := os.ReadFile(h.path("state/slots/pcs/current/cert.pem"))
				return err == nil && strings.Contains(string(next.CertPEM()), strings.TrimSpace(string(data)))
			})
			h.synced("web", next) // and goes on with what it does by itself
			if now := h.status().PID; now != pid {
				t.Fatalf("process %d answers, and %d did", now, pid)
			}
		})
	}
	h.install(h.self())
	good, err := os.ReadFile(h.path("spinecert.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	h.write("spinecert.yaml", append(good, "nonsense: true\n"...), 0o600)
	_, err = h.client.Upgrade(context.Background(), admin.UpgradeRequest{Unsupervised: true})
	var refusal *admin.Error
	if !errors.As(err, &refusal) || refusal.Code != admin.CodeConfiguration || len(refusal.Problems) != 1 || !strings.Contains(refusal.Problems[0], "nonsense") {
		t.Errorf("with a wrong configuration: %+v", err)
	}
	if got := h.metric("spinecert_config_last_reload_successful"); got != "0" || h.status().Config.Error == "" {
		t.Errorf("the refused configuration is not told: %s, %q", got, h.status().Config.Error)
	}
	h.write("spinecert.yaml", []byte(strings.Replace(string(good), "state: {directory: state}", "state: {directory: elsewhere}", 1)), 0o600)
	if _, err = h.client.Upgrade(context.Background(), admin.UpgradeRequest{Unsupervised: true}); !errors.As(err, &refusal) || !strings.Contains(fmt.Sprint(refusal.Problems), "state.directory") {
		t.Errorf("with another state directory: %+v", err)
	}
	h.write("spinecert.yaml", good, 0o600)
	if r := h.upgrade(); r.PID == pid {
		t.Errorf("process %d is still there", pid)
	}
}

// TestUpgradeFollowed: systemd is told who the main process is before that one says anything.
func TestUpgradeFollowed(t *testing.T) {
	h, _ := simpleHost(t)
	h.identity("pcs", providerName)
	path := h.path("notify.sock")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	notify := os.NewFile(uintptr(fd), path)
	defer notify.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "1000000")
	h.startInstalled()
	var mu sync.Mutex
	var heard []string
	go func() {
		buffer, oob := make([]byte, 4096), make([]byte, 256)
		for {
			n, m, _, _, err := unix.Recvmsg(fd, buffer, oob, 0)
			if err != nil {
				return
			}
			if rights, err := unix.ParseSocketControlMessage(oob[:m]); err == nil && m > 0 {
				for _, r := range rights {
					fds, _ := unix.ParseUnixRights(&r)
					for _, barrier := range fds {
						_ = unix.Close(barrier)
					}
				}
			}
			mu.Lock()
			heard = append(heard, string(buffer[:n]))
			mu.Unlock()
		}
	}()
	r := h.upgrade()
	all := func() string {
		mu.Lock()
		defer mu.Unlock()
		return strings.Join(heard, "\n")
	}
	h.until("the new process pings", func() bool {
		_, after, _ := strings.Cut(all(), fmt.Sprintf("MAINPID=%d", r.PID))
		_, ready, ok := strings.Cut(after, "READY=1")
		return ok && strings.Contains(ready, "WATCHDOG=1")
	})
	if code := h.wait(); code != 0 {
		t.Errorf("the old process ended with %d", code)
	}
	before, after, _ := strings.Cut(all(), fmt.Sprintf("MAINPID=%d", r.PID))
	if strings.Count(before, "READY=1") != 1 || strings.Contains(after, "STOPPING=1") || !strings.Contains(after, "BARRIER=1") {
		t.Errorf("systemd heard:\n%s", all())
	}
}

// TestUpgradeCrash: the process that took over is killed while the old one drains, and the old one ends, so
// that another can start. One that is asked to stop leaves the old one its time.
func TestUpgradeCrash(t *testing.T) {
	for name, sig := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "stopped": syscall.SIGTERM, "upgraded": 0} {
		t.Run(name, func(t *testing.T) {
			h, leaf := simpleHost(t)
			h.startInstalled()
			h.serves("ssp-in", leaf)
			conn := h.open("ssp-in")
			next := h.upgrade()
			if sig == 0 {
				h.upgrade() // the one in between waits for the oldest
			} else if err := syscall.Kill(next.PID, sig); err != nil {
				t.Fatal(err)
			} else {
				h.awaitEnd(next.PID)
			}
			if sig != syscall.SIGKILL {
				request(t, conn)
				_ = conn.Close()
			}
			if sig == 0 {
				defer h.awaitEnd(next.PID)
			}
			if code := h.wait(); (code != 0) != (sig == syscall.SIGKILL) {
				t.Errorf("the old process ended with %d", code)
			}
			if sig != 0 {
				h.startInstalled()
				h.serves("ssp-in", leaf)
			}
		})
	}
}
