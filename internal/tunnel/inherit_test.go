package tunnel

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// another is a second process's tunnel of the same name, which was given the sockets of s.
func (s *setup) another(t *testing.T, change func([]Inherited)) *setup {
	t.Helper()
	sockets, err := s.gate.Listening()
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(sockets)
	}
	next := &setup{spine: s.spine, gate: NewGate(Limits{}), seen: newRecorder(), endpoint: s.endpoint, config: s.config}
	next.gate.Inherit(sockets)
	next.Tunnel = New(t.Context(), s.Name(), next.gate, next.seen.observer())
	t.Cleanup(func() { next.Close(); next.gate.CloseInherited() })
	return next
}

func TestInheritUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "in.sock")
	b := newBackend(t, "tcp", nil, echo)
	s := start(t, Inbound, tls.VersionTLS12, b.Addr(), func(c *Config) {
		c.Listen = []Listen{{Network: "unix", Address: path, Mode: 0o600}}
	})
	before, _ := identify(path)
	for _, known := range []bool{true, false} {
		next := s.another(t, func(in []Inherited) {
			if !known {
				in[0].Device, in[0].Inode = 0, 0
			}
		})
		next.config.Listen = []Listen{{Network: "unix", Address: path, Mode: 0o660}}
		if os.Getuid() == 0 {
			next.config.Listen[0].Group = "12345"
		}
		next.SetReady(true)
		if err := next.Update(next.config); err != nil {
			t.Fatal(err)
		}
		s.gate.Relinquish()
		s.Close()
		info, err := os.Stat(path)
		if err != nil {
			t.Fatalf("the process that ended took the file with it: %v", err)
		}
		if now, _ := identify(path); now != before || info.Mode().Perm() != 0o660 {
			t.Errorf("mode %v, want 0660; the same file: %v", info.Mode().Perm(), now == before)
		}
		if gid := info.Sys().(*syscall.Stat_t).Gid; os.Getuid() == 0 && gid != 12345 {
			t.Errorf("group %d", gid)
		}
		exchange(t, next.secure(t, tls.VersionTLS12, nil), "hello")
		s = next
	}
	s.Close()
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the last process left the file: %v", err)
	}
}

// TestInheritUnreachable: a socket whose file somebody removed or replaced is of no use.
func TestInheritUnreachable(t *testing.T) {
	b := newBackend(t, "tcp", nil, echo)
	for name, harm := range map[string]func(path string) error{
		"removed": os.Remove,
		"stale": func(path string) error {
			ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path + "2", Net: "unix"})
			if err != nil {
				return err
			}
			ln.SetUnlinkOnClose(false)
			return errors.Join(ln.Close(), os.Rename(path+"2", path))
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "in.sock")
			s := start(t, Inbound, tls.VersionTLS12, b.Addr(), func(c *Config) {
				c.Listen = []Listen{{Network: "unix", Address: path}}
			})
			next := s.another(t, nil)
			if err := harm(path); err != nil {
				t.Fatal(err)
			}
			next.SetReady(true)
			if err := next.Update(next.config); err != nil {
				t.Fatal(err)
			}
			s.Close()
			exchange(t, next.secure(t, tls.VersionTLS12, nil), "hello")
		})
	}
}

// TestInheritAnother: a key with the socket of another listener is a mistake, and no tunnel serves where it should not.
func TestInheritAnother(t *testing.T) {
	b := newBackend(t, "tcp", nil, echo)
	s := start(t, Inbound, tls.VersionTLS12, b.Addr(), func(c *Config) {
		c.Listen = append(c.Listen, Listen{Network: "tcp", Address: "127.0.0.1:0"})
	})
	next := s.another(t, func(in []Inherited) { in[0].File, in[1].File = in[1].File, in[0].File })
	next.SetReady(true)
	if err := next.Update(next.config); err == nil || !strings.Contains(err.Error(), s.Addrs()[0].String()) || !strings.Contains(err.Error(), s.Addrs()[1].String()) {
		t.Errorf("got %v", err)
	}
	for range 2 {
		exchange(t, s.secure(t, tls.VersionTLS12, nil), "hello")
	}
}

// TestInheritNotReady: what waits for a slot stays open until it is clear that nobody takes it.
func TestInheritNotReady(t *testing.T) {
	b := newBackend(t, "tcp", nil, echo)
	s := start(t, Inbound, tls.VersionTLS12, b.Addr(), nil)
	address := s.Addrs()[0].String()
	next := s.another(t, nil)
	if err := next.Update(next.config); err != nil {
		t.Fatal(err)
	}
	s.gate.Relinquish()
	s.Close()
	waiting, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer waiting.Close()
	_ = waiting.SetDeadline(time.Now().Add(patience))
	next.SetReady(true)
	exchange(t, tls.Client(waiting, s.spine.clientConfig(tls.VersionTLS12)), "waited")
	if got := next.Addrs()[0].String(); got != address {
		t.Errorf("listens on %s, want %s", got, address)
	}

	last := next.another(t, nil)
	if err := last.Update(last.config); err != nil {
		t.Fatal(err)
	}
	last.gate.CloseInherited()
	next.Close()
	if c, err := net.Dial("tcp", address); err == nil {
		_ = c.Close()
		t.Error("the socket that nobody took is open")
	}
	last.SetReady(true)
	exchange(t, last.secure(t, tls.VersionTLS12, nil), "bound anew")
}

// TestSharedNeverBlocks: whether a socket blocks is common to all who have it. Were it made to, by a process that is
// being started or one that takes over, closing it would wait for a connection.
func TestSharedNeverBlocks(t *testing.T) {
	b := newBackend(t, "tcp", nil, echo)
	path := filepath.Join(t.TempDir(), "in.sock")
	s := start(t, Inbound, tls.VersionTLS12, b.Addr(), func(c *Config) {
		c.Listen = append(c.Listen, Listen{Network: "unix", Address: path})
	})
	next := s.another(t, func(in []Inherited) {
		for _, i := range in {
			i.File.Fd() // os.StartProcess asks for it
			assertNonBlocking(t, s.gate)
		}
	})
	next.SetReady(true)
	if err := next.Update(next.config); err != nil {
		t.Fatal(err)
	}
	assertNonBlocking(t, s.gate)
	assertNonBlocking(t, next.gate)
	next.gate.Relinquish()
	next.Close()
	assertNonBlocking(t, s.gate)
	exchange(t, s.secure(t, tls.VersionTLS12, nil), "hello")
}

// tardy is a listener that has accepted a connection when it is closed.
type tardy struct {
	net.Listener
	conn   net.Conn
	closed chan struct{}
	wait   func()
	calls  atomic.Int64
}

func (l *tardy) Accept() (net.Conn, error) {
	<-l.closed
	if l.calls.Add(1) > 1 {
		return nil, net.ErrClosed
	}
	l.wait()
	return l.conn, nil
}

func (l *tardy) Close() error   { close(l.closed); return nil }
func (l *tardy) Addr() net.Addr { return l.conn.LocalAddr() }

// TestAcceptedAtTheLastMoment: a connection that was accepted just before the listeners were closed is served. Whoever
// has the socket now does not have it.
func TestAcceptedAtTheLastMoment(t *testing.T) {
	b := newBackend(t, "tcp", nil, echo)
	s := start(t, Inbound, tls.VersionTLS12, b.Addr(), nil)
	conns := make(chan net.Conn, 1)
	done := make(chan struct{})
	defer close(done)
	door := newBackend(t, "tcp", nil, hand(conns, done))
	raw, err := net.Dial("tcp", door.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(patience))
	ln := &tardy{conn: <-conns, closed: make(chan struct{}), wait: func() {
		for range 200 { // long enough for Drain to take nothing more, if it does not wait
			s.Tunnel.mu.Lock()
			refusing := s.refusing
			s.Tunnel.mu.Unlock()
			if refusing {
				return
			}
			time.Sleep(time.Millisecond)
		}
	}}
	c := s.config
	c.Listen = append(c.Listen[:1:1], tcp("127.0.0.1:1"))
	l, err := c.Listen[1].check(s.Name(), 1, Inbound)
	if err != nil {
		t.Fatal(err)
	}
	s.gate.sockets.mu.Lock()
	s.gate.sockets.byKey[l.key] = newSocket(l, ln)
	s.gate.sockets.mu.Unlock()
	if err := s.Update(c); err != nil {
		t.Fatal(err)
	}
	drained := make(chan int)
	go func() { drained <- s.Drain(t.Context()) }()
	secure := tls.Client(raw, s.spine.clientConfig(tls.VersionTLS12))
	exchange(t, secure, "served")
	_ = secure.Close()
	if cut := <-drained; cut != 0 {
		t.Errorf("%d connections were cut", cut)
	}
}
