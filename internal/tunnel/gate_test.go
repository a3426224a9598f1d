package tunnel

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"
)

// TestSlowLoris has many peers stall in the handshake while one token is all
// there is; a good peer must pass.
func TestSlowLoris(t *testing.T) {
	b := newBackend(t, "tcp", nil, echo)
	s := start(t, Inbound, tls.VersionTLS12, b.Addr(), nil)
	s.gate.SetLimits(Limits{Handshakes: 1, PerSource: 1000})
	for i := range 200 {
		c := s.plain(t)
		switch i % 3 {
		case 1: // some bytes of a hello
			_, _ = c.Write([]byte{22, 3, 1, 1, 0, 1})
		case 2: // a whole hello, and silence after the server's flight
			go func() { _ = tls.Client(&mute{Conn: c}, s.spine.clientConfig(tls.VersionTLS12)).Handshake() }()
		}
	}
	s.seen.await(t, "the stalled peers", func() bool { return s.Stats().Connections == 200 })
	for range 5 {
		exchange(t, s.secure(t, tls.VersionTLS12, nil), "hello")
	}
}

// mute sends its first write and swallows the others.
type mute struct {
	net.Conn
	once sync.Once
}

func (m *mute) Write(p []byte) (int, error) {
	m.once.Do(func() { _, _ = m.Conn.Write(p) })
	return len(p), nil
}

// TestFlood has many peers shake hands at once with one token; all get through.
func TestFlood(t *testing.T) {
	b := newBackend(t, "tcp", nil, echo)
	s := start(t, Inbound, tls.VersionTLS12, b.Addr(), nil)
	s.gate.SetLimits(Limits{Handshakes: 1, PerSource: 1000})
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			c, err := tls.Dial("tcp", s.Addrs()[0].String(), s.spine.clientConfig(tls.VersionTLS12))
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			exchange(t, c, "hello")
		})
	}
	wg.Wait()
}

func TestPerSource(t *testing.T) {
	b := newBackend(t, "tcp", nil, echo)
	s := start(t, Inbound, tls.VersionTLS12, b.Addr(), nil)
	s.gate.SetLimits(Limits{PerSource: 3})
	// Established connections do not count.
	for range 10 {
		exchange(t, s.secure(t, tls.VersionTLS12, nil), "hello")
	}
	var stalled []net.Conn
	for range 3 {
		stalled = append(stalled, s.plain(t))
	}
	if _, err := s.plain(t).Read(make([]byte, 1)); err == nil {
		t.Error("one too many is still open")
	}
	s.seen.await(t, "the refusal", func() bool { return s.seen.handshakes[len(s.seen.handshakes)-1].Reason == LimitPerSource })
	_ = stalled[0].Close()
	s.seen.await(t, "the place", func() bool { return s.Stats().Connections == 12 })
	exchange(t, s.secure(t, tls.VersionTLS12, nil), "hello")
}

func TestConnectionLimits(t *testing.T) {
	b := newBackend(t, "tcp", nil, echo)
	for name, set := range map[string]func(*setup){
		"tunnel": func(s *setup) {
			s.config.Connections = 2
			if err := s.Update(s.config); err != nil {
				t.Fatal(err)
			}
		},
		"daemon": func(s *setup) { s.gate.SetLimits(Limits{Connections: 2}) },
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, Inbound, tls.VersionTLS12, b.Addr(), nil)
			set(s)
			first := s.secure(t, tls.VersionTLS12, nil)
			exchange(t, first, "hello")
			exchange(t, s.secure(t, tls.VersionTLS12, nil), "hello")
			if err := s.secure(t, tls.VersionTLS12, nil).Handshake(); err == nil {
				t.Error("a third connection was served")
			}
			if h := s.seen.awaitHandshake(t, 3); h.Result != Limited || h.Reason != LimitConnections {
				t.Errorf("%+v", h)
			}
			_ = first.Close()
			s.seen.await(t, "the place", func() bool { return s.Stats().Connections == 1 })
			exchange(t, s.secure(t, tls.VersionTLS12, nil), "hello")
		})
	}
}

func TestTokens(t *testing.T) {
	var k tokens
	k.resize(1, 2)
	soon := time.Now().Add(patience)
	if err := k.acquire(false, soon); err != nil {
		t.Fatal(err)
	}
	order := make(chan string, 3)
	var wg sync.WaitGroup
	wait := func(name string, begun bool, waiting func() int) {
		before := waiting()
		wg.Go(func() {
			if err := k.acquire(begun, soon); err != nil {
				t.Error(err)
			}
			order <- name
			k.release()
		})
		for {
			k.mu.Lock()
			n := waiting()
			k.mu.Unlock()
			if n > before {
				return
			}
			time.Sleep(time.Millisecond)
		}
	}
	wait("fresh 1", false, k.fresh.Len)
	wait("fresh 2", false, k.fresh.Len)
	if err := k.acquire(false, soon); !errors.Is(err, errBusy) {
		t.Errorf("third in line: %v, want errBusy", err)
	}
	wait("begun", true, k.begun.Len)
	if err := k.acquire(true, time.Now()); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("at the deadline: %v", err)
	}
	k.release()
	wg.Wait()
	if a, b, c := <-order, <-order, <-order; a != "begun" || b != "fresh 1" || c != "fresh 2" {
		t.Errorf("order %q %q %q", a, b, c)
	}
	if k.used != 0 || k.begun.Len()+k.fresh.Len() != 0 {
		t.Errorf("%d in use, %d and %d wait", k.used, k.begun.Len(), k.fresh.Len())
	}
}

func TestTokensResize(t *testing.T) {
	var k tokens
	k.resize(2, 10)
	soon := time.Now().Add(patience)
	for range 2 {
		if err := k.acquire(false, soon); err != nil {
			t.Fatal(err)
		}
	}
	got := make(chan error, 1)
	go func() { got <- k.acquire(false, soon) }()
	k.resize(3, 10)
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	k.resize(1, 10)
	k.release()
	k.release()
	if k.used != 1 {
		t.Errorf("%d in use, want 1", k.used)
	}
	if err := k.acquire(true, time.Now().Add(10*time.Millisecond)); err == nil {
		t.Error("a second token where one is all there is")
	}
}

func TestSourceOf(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.7:1":             "192.0.2.7",
		"[::ffff:192.0.2.7]:1":    "192.0.2.7",
		"[2001:db8:1:2:3::4]:1":   "2001:db8:1:2::",
		"[fe80::1:2:3:4%lo]:4430": "fe80::",
	} {
		if got := sourceOf(addrOf(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(in)))); got.String() != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
	if sourceOf(addrOf(&net.UnixAddr{Name: "x", Net: "unix"})).IsValid() {
		t.Error("a unix socket has a source")
	}
}

func TestDrain(t *testing.T) {
	b := newBackend(t, "tcp", nil, echo)
	s := start(t, Inbound, tls.VersionTLS12, b.Addr(), nil)
	var open []*tls.Conn
	for range 20 {
		c := s.secure(t, tls.VersionTLS12, nil)
		exchange(t, c, "hello")
		open = append(open, c)
	}
	address := s.Addrs()[0].String()
	ctx, cancel := context.WithCancel(t.Context())
	cut := make(chan int)
	go func() { cut <- s.Drain(ctx) }()
	for {
		c, err := net.Dial("tcp", address)
		if err != nil {
			break
		}
		_ = c.Close()
		time.Sleep(time.Millisecond)
	}
	for i, c := range open {
		exchange(t, c, "still served")
		if i < 15 {
			_ = c.Close()
		}
	}
	s.seen.await(t, "15 ends", func() bool { return s.Stats().Connections == 5 })
	cancel()
	if n := <-cut; n != 5 {
		t.Errorf("cut %d, want 5", n)
	}
	if _, err := open[19].Read(make([]byte, 1)); err == nil {
		t.Error("still open")
	}
	if end := s.seen.awaitClosed(t, 20); end.Cause != CauseDrain {
		t.Errorf("cause %q", end.Cause)
	}
	if s.Close() != 0 {
		t.Error("closing twice cut something")
	}
}

// TestDrainUnderLoad drains while clients work: a request that was begun is
// answered.
func TestDrainUnderLoad(t *testing.T) {
	b := newBackend(t, "tcp", nil, echo)
	s := start(t, Inbound, tls.VersionTLS12, b.Addr(), nil)
	s.gate.SetLimits(Limits{PerSource: 1000})
	address := s.Addrs()[0].String()
	var wg sync.WaitGroup
	var served sync.WaitGroup
	served.Add(8)
	for range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				c, err := net.Dial("tcp", address)
				if err != nil {
					return // closed listener
				}
				secure := tls.Client(c, s.spine.clientConfig(tls.VersionTLS12))
				if err := secure.Handshake(); err != nil {
					_ = c.Close()
					return // was in the backlog when the listener closed
				}
				exchange(t, secure, "hello")
				_ = secure.Close()
				if i == 3 {
					served.Done()
				}
			}
		})
	}
	served.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if n := s.Drain(ctx); n != 0 {
		t.Errorf("cut %d", n)
	}
	wg.Wait()
}
