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
)

func tcp(address string) Listen { return Listen{Network: "tcp", Address: address} }

func TestConfigErrors(t *testing.T) {
	good := Config{Direction: Inbound, Endpoint: &fakeEndpoint{}, Listen: []Listen{tcp("127.0.0.1:0")}, Forward: Forward{"tcp", "127.0.0.1:1"}}
	for name, test := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"direction":         {func(c *Config) { c.Direction = "up" }, "neither inbound nor outbound"},
		"no listener":       {func(c *Config) { c.Listen = nil }, "no address"},
		"no endpoint":       {func(c *Config) { c.Endpoint = nil }, "no endpoint"},
		"forward":           {func(c *Config) { c.Forward.Address = "host" }, "missing port"},
		"network":           {func(c *Config) { c.Forward.Network = "udp" }, "neither tcp nor unix"},
		"relative":          {func(c *Config) { c.Listen = []Listen{{Network: "unix", Address: "x"}} }, "absolute"},
		"twice":             {func(c *Config) { c.Listen = []Listen{tcp("127.0.0.1:81"), tcp("127.0.0.1:81")} }, "twice"},
		"outbound wide":     {func(c *Config) { c.Direction, c.Listen = Outbound, []Listen{tcp("0.0.0.0:81")} }, "loopback"},
		"outbound wildcard": {func(c *Config) { c.Direction, c.Listen = Outbound, []Listen{tcp(":81")} }, "loopback"},
		"outbound proxy":    {func(c *Config) { c.Direction, c.ProxyProtocol = Outbound, true }, "PROXY"},
		"group":             {func(c *Config) { c.Listen = []Listen{{Network: "unix", Address: "/x", Group: "no-such-group"}} }, "no-such-group"},
	} {
		t.Run(name, func(t *testing.T) {
			c := good
			test.change(&c)
			if _, err := c.check("x"); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want something of %q", err, test.want)
			}
		})
	}
	if _, err := good.check("x"); err != nil {
		t.Error(err)
	}
}

func TestUnixSocketMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "in.sock")
	b := newBackend(t, "tcp", nil, echo)
	config := Listen{Network: "unix", Address: path, Mode: 0o660, Group: "12345"}
	if os.Getuid() != 0 {
		config.Group = ""
	}
	s := start(t, Inbound, tls.VersionTLS12, b.Addr(), func(c *Config) { c.Listen = []Listen{config} })
	check := func(mode os.FileMode) {
		t.Helper()
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != mode {
			t.Errorf("mode %v, want %v", info.Mode().Perm(), mode)
		}
		if gid := info.Sys().(*syscall.Stat_t).Gid; config.Group != "" && gid != 12345 {
			t.Errorf("group %d", gid)
		}
	}
	check(0o660)
	exchange(t, s.secure(t, tls.VersionTLS12, nil), "hello")
	s.config.Listen[0].Mode = 0o600
	if err := s.Update(s.config); err != nil {
		t.Fatal(err)
	}
	check(0o600)
	s.Close()
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("socket file after Close: %v", err)
	}
}

// TestUnixModeOfBind shows that a socket file is never open to others, not even
// between bind and chmod.
func TestUnixModeOfBind(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	l := listen{Listen: Listen{Network: "unix", Address: filepath.Join(t.TempDir(), "in.sock")}}
	ln, err := l.bindUnix(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	info, err := os.Stat(l.Address)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want 0600", info.Mode().Perm())
	}
}

func TestUnixSocketInTheWay(t *testing.T) {
	directory := t.TempDir()
	open := func(path string) error {
		ln, err := listen{Listen: Listen{Network: "unix", Address: path, Mode: 0o600}, gid: -1}.open(t.Context(), "")
		if err == nil {
			_ = ln.Close()
		}
		return err
	}
	stale := filepath.Join(directory, "stale")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	if err := open(stale); err == nil || !strings.Contains(err.Error(), "listener taken") {
		t.Errorf("live socket: %v", err)
	}
	ln.SetUnlinkOnClose(false)
	_ = ln.Close()
	if err := open(stale); err != nil {
		t.Errorf("stale socket: %v", err)
	}
	busy := filepath.Join(directory, "busy")
	fillBacklog(t, busy)
	if err := open(busy); err == nil || !strings.Contains(err.Error(), "listener taken") {
		t.Errorf("live socket with a full backlog: %v", err)
	}
	file := filepath.Join(directory, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := open(file); err == nil {
		t.Error("a file was replaced")
	}
	if data, _ := os.ReadFile(file); string(data) != "precious" {
		t.Errorf("file is now %q", data)
	}
}

// fillBacklog listens on path and lets connections wait until no more fit.
func fillBacklog(t *testing.T, path string) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		c, err := net.Dial("unix", path)
		if errors.Is(err, syscall.EAGAIN) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	t.Fatal("the backlog has no end")
}

func TestForeignSocketFileStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "in.sock")
	b := newBackend(t, "tcp", nil, echo)
	s := start(t, Inbound, tls.VersionTLS12, b.Addr(), func(c *Config) { c.Listen = []Listen{{Network: "unix", Address: path}} })
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	other, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	s.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the other program's socket: %v", err)
	}
}

// TestUpdateKeepsListener connects all the time while the tunnel is configured
// anew 1,000 times, each time with another second listener.
func TestUpdateKeepsListener(t *testing.T) {
	b := newBackend(t, "tcp", nil, echo)
	s := start(t, Inbound, tls.VersionTLS12, b.Addr(), nil)
	address := s.Addrs()[0].String()
	established := s.secure(t, tls.VersionTLS12, nil)
	exchange(t, established, "hello")
	var dialled atomic.Int64
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
			}
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Error(err)
				return
			}
			secure := tls.Client(c, s.spine.clientConfig(tls.VersionTLS12))
			exchange(t, secure, "hello")
			_ = secure.Close()
			dialled.Add(1)
		}
	}()
	directory := t.TempDir()
	for i := range 1000 {
		c := s.config
		if i%2 == 0 {
			c.Listen = append(c.Listen[:1:1], Listen{Network: "unix", Address: filepath.Join(directory, "second")})
		}
		if err := s.Update(c); err != nil {
			t.Fatal(err)
		}
		if want := 1 + (i+1)%2; len(s.Addrs()) != want {
			t.Fatalf("%d listeners, want %d", len(s.Addrs()), want)
		}
	}
	close(stop)
	<-stopped
	if dialled.Load() == 0 {
		t.Error("nothing connected meanwhile")
	}
	exchange(t, established, "still the same")
}

// TestUpdateAllOrNothing has the second of two new listeners fail.
func TestUpdateAllOrNothing(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	b := newBackend(t, "tcp", nil, echo)
	s := start(t, Inbound, tls.VersionTLS12, b.Addr(), nil)
	before := s.Addrs()
	path := filepath.Join(t.TempDir(), "new")
	c := s.config
	c.Listen = []Listen{{Network: "unix", Address: path}, tcp(taken.Addr().String())}
	if err := s.Update(c); err == nil || !strings.Contains(err.Error(), "listener taken") {
		t.Fatalf("got %v", err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the first listener stayed: %v", err)
	}
	if after := s.Addrs(); len(after) != 1 || after[0].String() != before[0].String() {
		t.Errorf("listens on %v, want %v", after, before)
	}
	exchange(t, s.secure(t, tls.VersionTLS12, nil), "hello")

	p, err := s.Prepare(Config{Direction: Inbound, Endpoint: s.endpoint, Forward: c.Forward, Listen: c.Listen[:1]})
	if err != nil {
		t.Fatal(err)
	}
	p.Abort()
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the listener of an aborted configuration stayed: %v", err)
	}
	exchange(t, s.secure(t, tls.VersionTLS12, nil), "hello")
}

// TestListenerMoves renames a tunnel: its address goes to another one and is
// never closed.
func TestListenerMoves(t *testing.T) {
	b := newBackend(t, "tcp", nil, echo)
	s := start(t, Inbound, tls.VersionTLS12, b.Addr(), func(c *Config) {
		c.Listen = []Listen{tcp(freeAddress(t))}
	})
	address := s.Addrs()[0].String()
	other := New(t.Context(), "renamed", s.gate, Observer{})
	other.SetReady(true)
	defer other.Close()
	open := s.secure(t, tls.VersionTLS12, nil)
	exchange(t, open, "hello")

	p, err := other.Prepare(s.config)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Prepare(s.config); err == nil || !strings.Contains(err.Error(), `taken by tunnel "renamed"`) {
		t.Errorf("two tunnels with one address: %v", err)
	}
	p.Commit()
	if got := other.Addrs(); len(got) != 1 || got[0].String() != address {
		t.Errorf("listens on %v, want %v", got, address)
	}
	if got := s.Addrs(); len(got) != 0 {
		t.Errorf("the old tunnel listens on %v", got)
	}
	c, err := tls.Dial("tcp", address, s.spine.clientConfig(tls.VersionTLS12))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	exchange(t, c, "hello")
	exchange(t, open, "hello")
	if n := other.Stats().Connections; n != 1 {
		t.Errorf("the new tunnel has %d connections, want 1", n)
	}
	if n := s.Close(); n != 1 {
		t.Errorf("the old tunnel cut %d connections, want 1", n)
	}
	exchange(t, c, "goes on")
}

func freeAddress(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func TestReady(t *testing.T) {
	b := newBackend(t, "tcp", nil, echo)
	s := start(t, Inbound, tls.VersionTLS12, b.Addr(), nil)
	address := s.Addrs()[0].String()
	open := s.secure(t, tls.VersionTLS12, nil)
	exchange(t, open, "hello")

	s.SetReady(false)
	if c, err := net.Dial("tcp", address); err == nil {
		_ = c.Close()
		t.Error("a listener is open")
	}
	exchange(t, open, "unharmed")
	if err := s.Update(s.config); err != nil { // a reload changes nothing about that
		t.Fatal(err)
	}
	if len(s.Addrs()) != 0 {
		t.Errorf("listens on %v", s.Addrs())
	}

	// Somebody takes the port meanwhile: told once, and tried again.
	thief, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s.SetReady(true)
	s.seen.await(t, "the trouble", func() bool { return len(s.seen.troubles) == 1 })
	if e := s.seen.troubles[0]; e.Kind != TroubleListen || !errors.Is(e.Err, syscall.EADDRINUSE) {
		t.Errorf("trouble %+v", e)
	}
	_ = thief.Close()
	s.seen.await(t, "the recovery", func() bool { return len(s.seen.troubles) == 2 && s.seen.troubles[1].Err == nil })
	if got := s.Addrs(); len(got) != 1 || got[0].String() != address {
		t.Errorf("listens on %v, want %v again", got, address)
	}
	exchange(t, s.secure(t, tls.VersionTLS12, nil), "hello")
}

func TestUnreadyStillChecksListeners(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	s := New(t.Context(), "x", NewGate(Limits{}), Observer{})
	defer s.Close()
	c := Config{Direction: Inbound, Endpoint: &fakeEndpoint{}, Listen: []Listen{tcp(taken.Addr().String())}, Forward: Forward{"tcp", "127.0.0.1:1"}}
	if err := s.Update(c); err == nil {
		t.Error("no error")
	}
}
