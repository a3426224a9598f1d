package activation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/spinecert/spinecert/pki"
)

const childEnv = "SPINECERT_TEST_ACTIVATED"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(child())
	}
	os.Exit(m.Run())
}

// seen is what the process that was given sockets tells.
type seen struct {
	Addresses   map[string][]string
	Error, Hint string
	Left        []string // of the environment
	Open        []string // descriptors that a program started by it would have
}

func child() int {
	var s seen
	sockets, err := Sockets()
	if err != nil {
		s.Error, s.Hint = err.Error(), pki.Hint(err)
	}
	for name, files := range sockets {
		if s.Addresses == nil {
			s.Addresses = map[string][]string{}
		}
		for _, f := range files {
			ln, err := net.FileListener(f)
			if err != nil {
				s.Error += err.Error()
				continue
			}
			s.Addresses[name] = append(s.Addresses[name], ln.Addr().String())
			flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0)
			if err != nil || flags&unix.FD_CLOEXEC == 0 {
				s.Open = append(s.Open, f.Name())
			}
		}
	}
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "LISTEN_") {
			s.Left = append(s.Left, v)
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(s); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// given runs a process with files from descriptor 3 on. pid "" is its own.
func given(t *testing.T, pid, fds, names string, files ...*os.File) seen {
	t.Helper()
	if pid == "" {
		pid = "$$" // the shell's, which becomes the program
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "/bin/sh", "-c", `LISTEN_PID="`+pid+`" exec "$0"`, os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"=1", "LISTEN_FDS="+fds)
	if names != "" {
		cmd.Env = append(cmd.Env, "LISTEN_FDNAMES="+names)
	}
	cmd.ExtraFiles, cmd.Stderr = files, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var s seen
	if err := json.Unmarshal(out, &s); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if len(s.Left) > 0 {
		t.Errorf("left in the environment: %q", s.Left)
	}
	if len(s.Open) > 0 {
		t.Errorf("a program that it starts would have %q", s.Open)
	}
	return s
}

// listening makes a socket as systemd does.
func listening(t *testing.T, network, address string) (*os.File, string) {
	t.Helper()
	ln, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	f, err := ln.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f, ln.Addr().String()
}

// bare makes a socket that nobody listens on.
func bare(t *testing.T, family, kind, protocol int) *os.File {
	t.Helper()
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		t.Skipf("no such socket: %v", err)
	}
	f := os.NewFile(uintptr(fd), "bare")
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func TestSockets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	a, addressA := listening(t, "tcp4", "127.0.0.1:0")
	b, addressB := listening(t, "tcp4", "127.0.0.1:0")
	u, _ := listening(t, "unix", path)
	for name, test := range map[string]struct {
		pid, fds, names string
		files           []*os.File
		want            map[string][]string
	}{
		"named":          {"", "3", "web:mail:web", []*os.File{a, u, b}, map[string][]string{"web": {addressA, addressB}, "mail": {path}}},
		"no names":       {"", "2", "", []*os.File{a, b}, map[string][]string{"unknown": {addressA, addressB}}},
		"empty name":     {"", "2", "web:", []*os.File{a, b}, map[string][]string{"web": {addressA}, "unknown": {addressB}}},
		"another's":      {"1", "1", "web", []*os.File{a}, nil},
		"none":           {"", "0", "", nil, nil},
		"odd but a name": {"", "1", "a web/site", []*os.File{a}, map[string][]string{"a web/site": {addressA}}},
	} {
		t.Run(name, func(t *testing.T) {
			s := given(t, test.pid, test.fds, test.names, test.files...)
			if diff := cmp.Diff(test.want, s.Addresses); diff != "" || s.Error != "" {
				t.Errorf("%s\n(-want +got):\n%s", s.Error, diff)
			}
		})
	}
}

func TestBadSockets(t *testing.T) {
	good, address := listening(t, "tcp4", "127.0.0.1:0")
	connection, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	connected, err := connection.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer connected.Close()
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	one := func(f *os.File) []*os.File { return []*os.File{good, f} }
	for name, test := range map[string]struct {
		pid, fds, names string
		files           []*os.File
		want, hint      string
	}{
		"process":       {"x", "1", "", one(nil)[:1], `LISTEN_PID="x"`, ""},
		"process 0":     {"0", "1", "", one(nil)[:1], `LISTEN_PID="0"`, ""},
		"negative":      {"-1", "1", "", one(nil)[:1], `LISTEN_PID="-1"`, ""},
		"number":        {"", "many", "", one(nil)[:1], `LISTEN_FDS="many"`, ""},
		"minus":         {"", "-1", "", one(nil)[:1], `LISTEN_FDS="-1"`, ""},
		"no number":     {"", "", "", one(nil)[:1], `LISTEN_FDS=""`, ""},
		"flood":         {"", "2000000000", "", one(nil)[:1], `LISTEN_FDS="2000000000"`, ""},
		"few names":     {"", "2", "web", one(good), "1 names, and LISTEN_FDS says 2", ""},
		"many names":    {"", "1", "web:mail", one(nil)[:1], "2 names, and LISTEN_FDS says 1", ""},
		"not open":      {"", "40", "", one(nil)[:1], "descriptor 40): it is not open", "nothing but ListenStream="},
		"file":          {"", "2", "web:log", one(file), `take socket "log" from systemd (descriptor 4): it is not a socket`, "nothing but ListenStream="},
		"connection":    {"", "2", "web:conn", one(connected), `take socket "conn" from systemd (descriptor 4): it is one connection`, "Accept=no"},
		"datagram":      {"", "2", "web:dns", one(bare(t, unix.AF_INET, unix.SOCK_DGRAM, 0)), `"dns" from systemd (descriptor 4): it is not a stream socket`, "ListenStream="},
		"sequential":    {"", "2", "web:seq", one(bare(t, unix.AF_UNIX, unix.SOCK_SEQPACKET, 0)), `"seq" from systemd (descriptor 4): it is not a stream socket`, "ListenStream="},
		"not listening": {"", "2", "web:shy", one(bare(t, unix.AF_INET, unix.SOCK_STREAM, 0)), "nobody has called listen", "ListenStream="},
		"netlink":       {"", "2", "web:nl", one(bare(t, unix.AF_NETLINK, unix.SOCK_RAW, 0)), "address family 16", "ListenStream="},
	} {
		t.Run(name, func(t *testing.T) {
			s := given(t, test.pid, test.fds, test.names, test.files...)
			if !strings.Contains(s.Error, test.want) || !strings.Contains(s.Hint, test.hint) || s.Addresses != nil {
				t.Errorf("got %q (%s) and %v, want %q (%s)", s.Error, s.Hint, s.Addresses, test.want, test.hint)
			}
		})
	}
}

// TestBadTogether: all that is wrong is told at once.
func TestBadTogether(t *testing.T) {
	s := given(t, "", "2", "a:b", bare(t, unix.AF_INET, unix.SOCK_STREAM, 0), bare(t, unix.AF_INET, unix.SOCK_DGRAM, 0))
	if !strings.Contains(s.Error, `"a"`) || !strings.Contains(s.Error, `"b"`) {
		t.Errorf("got %q", s.Error)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("7", "2", "a:b")
	f.Add("7", "1", "")
	f.Add("", "", "")
	f.Add("07", "+1", ":")
	f.Fuzz(func(t *testing.T, pid, fds, names string) {
		named, err := parse(pid, fds, names, 7)
		if err != nil {
			if named != nil {
				t.Error("names and an error")
			}
			return
		}
		n, number := strconv.Atoi(fds)
		if len(named) > 0 && (number != nil || n != len(named) || n > mostSockets) {
			t.Errorf("%d names for LISTEN_FDS=%q", len(named), fds)
		}
		for _, name := range named {
			if name == "" || strings.Contains(name, ":") {
				t.Errorf("name %q", name)
			}
		}
	})
}

// TestHints: the hint of several comes from the first.
func TestHints(t *testing.T) {
	err := errors.Join(&socketError{3, "a", errConnection}, &socketError{4, "b", errors.New("x")})
	if hint := pki.Hint(err); !strings.Contains(hint, `"a"`) {
		t.Errorf("hint %q", hint)
	}
}
