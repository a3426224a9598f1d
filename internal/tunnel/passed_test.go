package tunnel

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// passed is a listening socket as a service manager passes it.
func passed(t *testing.T, address string) (*os.File, string) {
	t.Helper()
	made, err := net.Listen("tcp", address)
	if err != nil {
		t.Skipf("no socket on %s: %v", address, err)
	}
	defer made.Close()
	file, err := duplicate(made.(*net.TCPListener), "passed")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	return file, made.Addr().String()
}

// turnedAway connects, and expects to be told at once that nobody serves.
func turnedAway(t *testing.T, address string) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a connection that nobody serves: %v", err)
	}
}

// TestPassedListener serves sockets that the service manager holds, two of them with one name. While the tunnel is
// not ready nobody waits.
func TestPassedListener(t *testing.T) {
	first, address := passed(t, "127.0.0.1:0")
	second, other := passed(t, "127.0.0.1:0")
	b := newBackend(t, "tcp", nil, echo)
	s := start(t, Inbound, tls.VersionTLS12, b.Addr(), func(c *Config) {
		c.Listen = []Listen{{Address: "systemd:web", File: first}, {Address: "systemd:web", File: second}}
	})
	if got, want := strings.Join(s.Shown(), " "), address+" (systemd:web) "+other+" (systemd:web)"; got != want {
		t.Errorf("shown as %q, want %q", got, want)
	}
	open := s.secure(t, tls.VersionTLS12, nil)
	exchange(t, open, "hello")

	s.SetReady(false)
	for i, at := range []string{address, other} {
		turnedAway(t, at)
		if h := s.seen.awaitHandshake(t, i+2); h.Result != Failed || h.Reason != NotReady || h.Remote == nil || h.Err == nil {
			t.Errorf("told %+v", h)
		}
	}
	if err := s.Update(s.config); err != nil { // a reload changes nothing about that
		t.Fatal(err)
	}
	turnedAway(t, address)
	if got := s.Shown(); len(got) != 0 {
		t.Errorf("shown as open: %q", got)
	}
	exchange(t, open, "unharmed")
	if n := s.gate.open; n != 1 {
		t.Errorf("%d connections are counted, want 1", n)
	}

	s.SetReady(true)
	exchange(t, s.secure(t, tls.VersionTLS12, nil), "hello")
	if shared, err := s.gate.Listening(); err != nil || len(shared) != 0 {
		t.Errorf("the service manager's sockets are handed over as ours: %v, %v", shared, err)
	}
	assertNonBlocking(t, s.gate)
	s.Close()
	waiting, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatalf("the socket was closed for the service manager, too: %v", err)
	}
	_ = waiting.Close()
}

// TestPassedBeforeReady: what connects before anybody has said whether the tunnel is ready
// waits, as another process may still serve the socket.
func TestPassedBeforeReady(t *testing.T) {
	file, address := passed(t, "127.0.0.1:0")
	b := newBackend(t, "tcp", nil, echo)
	in := newSpine(t)
	endpoint := &fakeEndpoint{}
	endpoint.config.Store(in.serverConfig(tls.VersionTLS12))
	s := New(t.Context(), "x", NewGate(Limits{}), Observer{})
	defer s.Close()
	c := Config{Direction: Inbound, Endpoint: endpoint, Listen: []Listen{{Address: "systemd:web", File: file}}, Forward: Forward{"tcp", b.Addr().String()}}
	if err := s.Update(c); err != nil {
		t.Fatal(err)
	}
	waiting, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer waiting.Close()
	if err := s.Update(c); err != nil {
		t.Fatal(err)
	}
	s.gate.sockets.mu.Lock()
	if n := len(s.gate.sockets.byKey); n != 0 {
		t.Errorf("%d sockets are accepted from", n)
	}
	s.gate.sockets.mu.Unlock()
	s.SetReady(true)
	_ = waiting.SetDeadline(time.Now().Add(patience))
	exchange(t, tls.Client(waiting, in.clientConfig(tls.VersionTLS12)), "hello")
}

// TestPassedFirstNotReady: a tunnel that was never ready turns away as well.
func TestPassedFirstNotReady(t *testing.T) {
	file, address := passed(t, "127.0.0.1:0")
	s := New(t.Context(), "x", NewGate(Limits{}), Observer{})
	defer s.Close()
	s.SetReady(false)
	if err := s.Update(Config{Direction: Inbound, Endpoint: &fakeEndpoint{}, Listen: []Listen{{Address: "systemd:web", File: file}}, Forward: Forward{"tcp", "127.0.0.1:1"}}); err != nil {
		t.Fatal(err)
	}
	turnedAway(t, address)
}

// TestPassedOutbound: whoever reaches the socket acts with our identity.
func TestPassedOutbound(t *testing.T) {
	wide, _ := passed(t, "0.0.0.0:0")
	near, _ := passed(t, "127.0.0.1:0")
	s := New(t.Context(), "x", NewGate(Limits{}), Observer{})
	defer s.Close()
	c := Config{Direction: Outbound, Endpoint: &fakeEndpoint{}, Listen: []Listen{{Address: "systemd:sds", File: wide}}, Forward: Forward{"tcp", "127.0.0.1:1"}}
	if err := s.Update(c); err == nil || !strings.Contains(err.Error(), "systemd:sds") || !strings.Contains(err.Error(), "not on loopback") {
		t.Errorf("a socket for everybody: %v", err)
	}
	c.Listen[0].File = near
	if err := s.Update(c); err != nil {
		t.Error(err)
	}
}
