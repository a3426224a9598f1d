package tunnel

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
)

// flaky is a listener that fails every other time.
type flaky struct {
	net.Listener
	calls atomic.Int64
	end   chan struct{}
}

func (f *flaky) Accept() (net.Conn, error) {
	select {
	case <-f.end:
		return nil, net.ErrClosed
	default:
	}
	if f.calls.Add(1)%2 == 0 {
		return nil, errors.New("no descriptors")
	}
	c, _ := net.Pipe()
	return c, nil // neither TCP nor unix: it is closed
}

func (f *flaky) Addr() net.Addr { return &net.TCPAddr{} }

// A reload gives a socket new settings while its accept loop reports trouble; the
// race detector judges.
func TestReloadWhileAcceptFails(t *testing.T) {
	tun := New(context.Background(), "a", NewGate(Limits{}), Observer{Trouble: func(Trouble) {}})
	l, err := Listen{Network: "tcp", Address: "127.0.0.1:1"}.check("a", 0, Inbound)
	if err != nil {
		t.Fatal(err)
	}
	f := &flaky{end: make(chan struct{})}
	s := newSocket(l, f)
	s.runs = true
	s.owner.Store(tun)
	ended := make(chan struct{})
	go func() { s.accept(); close(ended) }()
	for f.calls.Load() < 10 {
		tun.gate.sockets.mu.Lock()
		err := s.giveLocked(tun, l)
		tun.gate.sockets.mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
	}
	close(f.end)
	<-ended
}
