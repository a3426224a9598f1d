package haproxy

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/spinecert/spinecert/internal/deliver/failure"
	"github.com/spinecert/spinecert/internal/testprogram"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// impostor listens on a socket and answers each command as told.
func impostor(t *testing.T, answer func(conn net.Conn, command string)) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hap")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				command, _ := bufio.NewReader(conn).ReadString('\n')
				answer(conn, strings.TrimSpace(command))
			}()
		}
	}()
	return socket
}

// loadedX answers the commands that come before the first set.
func loadedX(conn net.Conn, command string) bool {
	switch command {
	case "show ssl cert":
		_, _ = io.WriteString(conn, "# filename\n/x.pem\n\n")
	case "show ssl crl-file":
		_, _ = io.WriteString(conn, "# filename\n\n")
	case "show pools":
		_, _ = io.WriteString(conn, "  - Pool buffer (16384 bytes) : 2 allocated\n\n")
	default:
		return false
	}
	return true
}

// TestBadSockets: nothing that listens there, or does not, holds an update up or has us quote a key.
func TestBadSockets(t *testing.T) {
	a := newAuthority(t)
	pem := combined(a.leaf(), a)
	files := []File{{"/x.pem", Cert, pem}}
	lines := bytes.Split(bytes.TrimSpace(pem), []byte("\n"))
	line := lines[len(lines)-2]                                        // the last of the key, and a short one
	silent := func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) } // until the other side hangs up
	endless := func(conn net.Conn) {
		block := []byte(strings.Repeat("# filename\n/y.pem\n", 3000))
		for range 1 << 30 / len(block) {
			if _, err := conn.Write(block); err != nil {
				return
			}
		}
	}
	for _, c := range []struct {
		name   string
		reason string
		word   string
		answer func(conn net.Conn, command string)
	}{
		{"never answers", failure.Timeout, "no answer in time", func(conn net.Conn, _ string) { silent(conn) }},
		{"hangs mid-answer", failure.Timeout, "no answer in time", func(conn net.Conn, _ string) {
			_, _ = io.WriteString(conn, "# filename\n/x.p")
			silent(conn)
		}},
		{"hangs at the set", failure.Timeout, "no answer in time", func(conn net.Conn, command string) {
			if !loadedX(conn, command) {
				silent(conn)
			}
		}},
		{"a gigabyte", failure.ReloadFailed, "does not end", func(conn net.Conn, _ string) { endless(conn) }},
		{"hangs up at once", failure.ReloadFailed, "nothing", func(net.Conn, string) {}},
		{"hangs up at the set", failure.ReloadFailed, "tune.bufsize", func(conn net.Conn, command string) { loadedX(conn, command) }},
		{"no HAProxy", failure.ReloadFailed, "500 what", func(conn net.Conn, _ string) { _, _ = io.WriteString(conn, "500 what?\x1b[2J\n") }},
		{"echoes the payload", failure.ReloadFailed, "withheld", func(conn net.Conn, command string) {
			if !loadedX(conn, command) {
				_, _ = conn.Write(pem)
			}
		}},
		{"echoes a line of the payload", failure.ReloadFailed, "withheld", func(conn net.Conn, command string) {
			if !loadedX(conn, command) {
				_, _ = conn.Write(line)
			}
		}},
		{"takes it for another path", failure.ReloadFailed, `on "/other.pem", and had to be ended`, func(conn net.Conn, command string) {
			if !loadedX(conn, command) {
				_, _ = io.WriteString(conn, "Transaction updated for certificate /other.pem!\n\n")
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			socket := impostor(t, c.answer)
			ctx := ctxFor(t)
			if c.reason == failure.Timeout {
				short, stop := context.WithTimeout(ctx, 300*time.Millisecond)
				defer stop()
				ctx = short
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			err := Update(ctx, socket, files)
			runtime.ReadMemStats(&after)
			refused(t, err, c.reason, [][]byte{pem}, c.word)
			if strings.Contains(err.Error(), "\x1b") {
				t.Error("the error moves a terminal's cursor")
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > 64<<20 {
				t.Errorf("%d MiB allocated", used>>20)
			}
		})
	}
}

// TestAway: no socket, no listener, no permission, a file, a path that is too long.
func TestAway(t *testing.T) {
	a := newAuthority(t)
	files := []File{{"/x.pem", Cert, combined(a.leaf(), a)}}
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, socket := range []string{filepath.Join(dir, "missing"), file, dir, filepath.Join(dir, strings.Repeat("x", 200))} {
		refused(t, Update(ctxFor(t), socket, files), failure.SocketAway, nil, "stats socket")
	}
	for _, socket := range []string{"", "admin.sock", "@haproxy", "127.0.0.1:9999"} {
		refused(t, Update(ctxFor(t), socket, files), failure.ReloadFailed, nil, "absolute path")
	}
	refused(t, Update(ctxFor(t), file, nil), failure.ReloadFailed, nil, "no file")
	ctx, stop := context.WithCancel(t.Context())
	stop()
	refused(t, Update(ctx, file, files), failure.Interrupted, nil)
}

// TestLevel: level operator is not enough, and the error says so.
func TestLevel(t *testing.T) {
	a := newAuthority(t)
	s, first := newServer(t), a.leaf()
	low := s.path("operator.sock")
	crt := s.write("x.pem", combined(first, a))
	s.start("crt "+crt, "stats socket "+low+" mode 600 level operator", "")
	files := []File{{crt, Cert, combined(a.leaf(), a)}}
	refused(t, Update(ctxFor(t), low, files), failure.NotPermitted, [][]byte{files[0].Data}, "level admin", "operator is not enough")
	s.serves(first)
}

// TestTrustedUser: who may listen on a socket that gets a key.
func TestTrustedUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give directories away")
	}
	const service, stranger = 12345, 12346
	top, err := os.MkdirTemp("/var/lib", "hap") // not below /tmp: that everybody may write
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(top) })
	create := func(name string, owner int, mode os.FileMode) string {
		dir := filepath.Join(top, name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(dir, owner, owner); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, mode); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	if err := os.Chmod(top, 0o755); err != nil {
		t.Fatal(err)
	}
	own := create("own", service, 0o2775)
	roots := create("roots", 0, 0o755)
	shared := create("shared", 0, os.ModeSticky|0o777)
	open := create("open", service, 0o777)
	below := create("shared/below", service, 0o755)
	strangers := create("strangers", stranger, 0o755)
	belowStranger := create("strangers/below", service, 0o755)
	if err := os.Symlink(own, filepath.Join(top, "link")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		dir  string
		user uint32
		good bool
	}{
		{"root anywhere", shared, 0, true},
		{"its own directory", own, service, true},
		{"its own directory, by a link", filepath.Join(top, "link"), service, true},
		{"another user in it", own, stranger, false},
		{"root's directory", roots, service, false},
		{"a directory for all", shared, service, false},
		{"its own, which all may write", open, service, false},
		{"its own, in one for all", below, service, false},
		{"a stranger's", strangers, service, false},
		{"its own, in a stranger's", belowStranger, service, false},
		{"a directory that is not there", filepath.Join(top, "missing"), service, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := trustedUser(filepath.Join(c.dir, "s"), c.user); (err == nil) != c.good {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestUntrustedPeer: a listener of another user gets not one byte.
func TestUntrustedPeer(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can start a process of another user")
	}
	python := "/usr/bin/python3" // not one of a user's home, where others may not go
	testprogram.Need(t, python)
	dir, err := os.MkdirTemp("", "hap")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	cmd := exec.Command(python, "-c", `
import socket, sys
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(1)
print("ready", flush=True)
c, _ = s.accept()
print("read", len(c.recv(100000)), flush=True)`, socket)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 12345, Gid: 12345}}
	cmd.Dir = "/"
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	lines := bufio.NewScanner(output)
	if !lines.Scan() || lines.Text() != "ready" {
		t.Fatalf("the listener says %q", lines.Text())
	}
	a := newAuthority(t)
	pem := combined(a.leaf(), a)
	refused(t, Update(ctxFor(t), socket, []File{{"/x.pem", Cert, pem}}), failure.NotPermitted, [][]byte{pem}, "user 12345 listens there")
	if !lines.Scan() || lines.Text() != "read 0" {
		t.Errorf("the listener says %q, want that it read nothing", lines.Text())
	}
}
