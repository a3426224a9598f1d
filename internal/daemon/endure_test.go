package daemon

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/state"
	"github.com/spinecert/spinecert/internal/testpki"
)

// endure_test.go: what goes wrong around the daemon neither ends it nor keeps it
// from ending.

// logTo starts the daemon with its log in w.
func (h *host) logTo(w *os.File) {
	h.t.Helper()
	h.cmd = exec.Command("/bin/sh", "-c", `exec "$0" "$@" 2>&3 3>&-`, os.Args[0], "--config", h.path("spinecert.yaml"))
	h.cmd.ExtraFiles = []*os.File{w}
	h.spawn()
	h.until("the daemon answers", func() bool {
		_, err := h.client.Status(context.Background())
		return err == nil
	})
}

// ends fails unless the daemon ends within a time that is shorter than its drain.
func (h *host) ends(within time.Duration) {
	h.t.Helper()
	select {
	case <-h.exited:
	case <-time.After(within):
		h.t.Errorf("the daemon has not ended after %s", within)
	}
}

// rewrite replaces text in the configuration of a daemon that does not run yet.
func (h *host) rewrite(old, now string) {
	h.t.Helper()
	data, err := os.ReadFile(h.path("spinecert.yaml"))
	if err != nil {
		h.t.Fatal(err)
	}
	h.write("spinecert.yaml", []byte(strings.ReplaceAll(string(data), old, now)), 0o600)
}

func (h *host) signal(sig os.Signal) {
	h.t.Helper()
	if err := h.cmd.Process.Signal(sig); err != nil {
		h.t.Fatal(err)
	}
}

func TestLogWhoseReaderIsGone(t *testing.T) {
	t.Parallel()
	h, _ := simpleHost(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	h.logTo(w)
	_, _ = r.Close(), w.Close()
	h.write("pcs.crt", []byte("garbage\n"), 0o644)
	h.until("the refusal is in status", func() bool { return h.slot("pcs").LastError != "" })
	h.serves("ssp-in", h.identity("pcs", providerName))
	h.signal(sigTerm)
	h.ends(patience)
}

func TestLogThatTakesNoMore(t *testing.T) {
	t.Parallel()
	h, _ := simpleHost(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	fd := int(w.Fd()) // makes it blocking, as a service manager hands it over
	if err := syscall.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	for err = nil; err == nil; _, err = syscall.Write(fd, make([]byte, 1)) {
	}
	if err := syscall.SetNonblock(fd, false); err != nil {
		t.Fatal(err)
	}
	h.logTo(w)
	_ = w.Close()
	h.reconfigure(`writers: ["`, `writers: ["nobody-of-this-name", "`)
	second := h.identity("pcs", providerName)
	h.serves("ssp-in", second)
	h.until("the audit file has the rotation", func() bool {
		data, err := os.ReadFile(h.path("state/audit.jsonl"))
		return err == nil && strings.Contains(string(data), `"to":2`)
	})
	h.signal(sigTerm)
	h.ends(2 * endPatience)
}

func TestStateDirectoryThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	h, first := simpleHost(t)
	if err := errors.Join(os.Mkdir(h.path("state"), 0o700), syscall.Mkfifo(h.path("state/audit.jsonl"), 0o600)); err != nil {
		t.Fatal(err)
	}
	h.start() // opening the file waits for a reader that never comes
	h.serves("ssp-in", first)
	h.serves("ssp-in", h.identity("pcs", providerName))
	if code, body := h.get("/metrics"); code != http.StatusOK {
		t.Errorf("metrics: %d %s", code, body)
	}
	h.logged("event=rotated", "generation=2")
	h.signal(sigTerm)
	h.ends(2 * endPatience)
}

func TestConfigurationThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	h, _ := simpleHost(t)
	h.start()
	if err := errors.Join(os.Remove(h.path("spinecert.yaml")), syscall.Mkfifo(h.path("spinecert.yaml"), 0o600)); err != nil {
		t.Fatal(err)
	}
	h.signal(syscall.SIGHUP)
	time.Sleep(300 * time.Millisecond)
	h.signal(sigTerm)
	h.ends(2 * endPatience)
}

// open opens a connection through a tunnel that stays open.
func (h *host) open(tunnel string) net.Conn {
	h.t.Helper()
	pair, err := tls.LoadX509KeyPair(h.path("peer.crt"), h.path("peer.key"))
	if err != nil {
		h.t.Fatal(err)
	}
	conn, err := tls.Dial("tcp", h.listen(tunnel), &tls.Config{Certificates: []tls.Certificate{pair}, InsecureSkipVerify: true})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = conn.Close() })
	h.until("the connection is counted", func() bool { return h.metric(`spinecert_tunnel_connections{tunnel="`+tunnel+`"}`) == "1" })
	return conn
}

// request sends a request over conn and fails unless it is answered.
func request(t *testing.T, conn net.Conn) {
	t.Helper()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 4096)); err != nil {
		t.Fatalf("the connection was cut: %v", err)
	}
}

func TestSignalsWhileDraining(t *testing.T) {
	t.Parallel()
	h, _ := simpleHost(t)
	h.rewrite("drain: 5s", "drain: 1h")
	h.start()
	conn := h.open("ssp-in")
	h.signal(sigTerm)
	h.logged("event=stopping")
	h.signal(syscall.SIGHUP) // by itself it would end the program
	time.Sleep(200 * time.Millisecond)
	request(t, conn)
	var e *admin.Error
	if _, err := h.client.Reload(context.Background()); !errors.As(err, &e) || e.Code != admin.CodeFailed {
		t.Errorf("a reload while it drains: %v", err)
	}
	h.signal(sigTerm) // a second one cuts it short
	h.ends(patience)
	h.logged("event=stopped", "connections_cut=1")
}

func TestRemovedTunnelDrainsWhenTheDaemonStops(t *testing.T) {
	t.Parallel()
	h, _ := simpleHost(t)
	h.rewrite("drain: 5s", "drain: 1h")
	h.start()
	conn := h.open("ssp-in")
	h.reconfigure("  ssp-in:", "  other:")
	h.signal(sigTerm)
	h.logged("event=stopping")
	time.Sleep(200 * time.Millisecond)
	request(t, conn)
	_ = conn.Close()
	h.ends(patience)
}

func TestTunnelThatComesBackKeepsItsSeries(t *testing.T) {
	t.Parallel()
	h, leaf := simpleHost(t)
	h.start()
	conn := h.open("ssp-in")
	h.reconfigure("  ssp-in:", "  other:")
	h.reconfigure("  other:", "  ssp-in:")
	h.serves("ssp-in", leaf)
	const series = `spinecert_tunnel_handshakes_total{reason="",result="accepted",tunnel="ssp-in"}`
	before := h.metric(series)
	_ = conn.Close() // the end of the first tunnel of this name
	time.Sleep(500 * time.Millisecond)
	if after := h.metric(series); before == "" || after != before {
		t.Errorf("handshakes %q, after the old tunnel has drained %q", before, after)
	}
}

func TestTwoConditionsOfAKind(t *testing.T) {
	t.Parallel()
	h, _ := simpleHost(t)
	soon := testpki.Validity(time.Now().Add(-time.Hour), time.Now().Add(60*24*time.Hour))
	bundle := h.sub.BundlePEM()
	for range 2 {
		bundle = append(bundle, h.root.SubCA(t, soon).CertPEM()...)
	}
	h.write("trust.pem", bundle, 0o644)
	h.start()
	if code, body := h.get("/metrics"); code != http.StatusOK {
		t.Fatalf("metrics: %d %s", code, body)
	}
	if got := h.metric(`spinecert_condition_active{condition="ca_expiring",severity="warning",subject="t"}`); got != "1" {
		t.Errorf("condition_active is %q", got)
	}
	if n := len(h.status().Conditions); n < 2 {
		t.Errorf("%d conditions in status", n)
	}
}

func TestReadyCarriesTheStatus(t *testing.T) {
	t.Parallel()
	h, _ := simpleHost(t)
	h.write("pcs.crt", []byte("garbage\n"), 0o644)
	socket := h.path("notify.sock")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	h.start("NOTIFY_SOCKET=" + socket)
	_ = l.SetDeadline(time.Now().Add(patience))
	buf := make([]byte, 4096)
	n, err := l.Read(buf)
	if want := "READY=1\nSTATUS=0 of 1 slots ready; not ready: pcs"; err != nil || string(buf[:n]) != want {
		t.Errorf("told %q, %v; want %q", buf[:n], err, want)
	}
}

func TestForwardThatIsDownDoesNotFillTheLog(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.identity("pcs", providerName)
	h.configure(`revocation: "off"`, providerSlot, fmt.Sprintf(
		`  out: {direction: outbound, listen: [{unix: out.sock}], forward: "%s", slot: pcs, peers: [%s]}`, freeAddress(t), peerName))
	h.start()
	for range 200 {
		conn, err := net.Dial("unix", h.path("out.sock"))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, conn)
		_ = conn.Close()
	}
	h.stop(sigTerm)
	if n := strings.Count(h.output.String(), "event=tunnel_forward_failed"); n == 0 || n > 3*logLines {
		t.Errorf("%d lines for 200 connections", n)
	}
}

// A start or reload that ran out of time left a tunnel without its slot: the next
// reload that finds the slot must bind it.
func TestTunnelIsBoundOnceItsSlotIsThere(t *testing.T) {
	t.Parallel()
	h, _ := simpleHost(t)
	c, err := config.Load(h.path("spinecert.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	dir, err := state.Lock(c.State.Directory, state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	d := newDaemon(Options{Log: io.Discard}, c, dir, nil)
	prepared, err := d.prepareTunnels(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.commit(c, prepared, nil); err != nil { // nothing was staged
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.keeper.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	for range 2 {
		if prepared, err = d.prepareTunnels(c); err != nil {
			t.Fatal(err)
		}
		d.stage(ctx, c)
		if err := d.commit(c, prepared, nil); err != nil {
			t.Fatal(err)
		}
		if d.tunnels[0].binding.slot() != nil {
			break
		}
	}
	defer d.tunnels[0].tunnel.Close()
	if prepared[0].live.binding.slot() == nil || !prepared[0].fresh {
		t.Error("the tunnel has a slot that serves, and no endpoint")
	}
}

func TestAuditKeepsABurst(t *testing.T) {
	t.Parallel()
	a := newAudit(t.TempDir(), 1<<30)
	for i := range 2 * flushEvery {
		if err := a.add(auditLine{Event: "rotated", To: uint64(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.flush(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(a.path)
	if n := strings.Count(string(data), "\n"); err != nil || n != 2*flushEvery {
		t.Errorf("%d lines, %v", n, err)
	}
	lost := 0
	gone := newAudit(filepath.Join(t.TempDir(), "nowhere"), 1<<30)
	gone.lost = func() { lost++ }
	for range maxUnwritten + 5 {
		_ = gone.add(auditLine{Event: "rotated"})
	}
	if lost != 5 || gone.failing() == nil {
		t.Errorf("%d lines counted as lost, %v", lost, gone.failing())
	}
}
