package box

import (
	"io"
	"net"
	"testing"
)

// TestNetwork: what is opened in the box is reached there, and not on the host.
func TestNetwork(t *testing.T) {
	b := Start(t)
	l, err := b.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, "in the box")
			_ = conn.Close()
		}
	}()
	conn, err := b.Dial(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got, err := io.ReadAll(conn); string(got) != "in the box" {
		t.Errorf("read %q, %v", got, err)
	}
	if outside, err := net.Dial("tcp", l.Addr().String()); err == nil {
		_ = outside.Close()
		t.Error("the host has a listener of the box")
	}
	// Threads that were in the box serve nobody else.
	for range 50 {
		outside, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if inside, err := b.Dial(t.Context(), "tcp", outside.Addr().String()); err == nil {
			_ = inside.Close()
			t.Fatal("a listener of the host is in the box")
		}
		_ = outside.Close()
	}
	if unix, err := b.Dial(t.Context(), "unix", "/run/dbus/system_bus_socket"); err != nil {
		t.Error(err)
	} else {
		_ = unix.Close()
	}
}
