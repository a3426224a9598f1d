package tunnel

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"io"
	mathrand "math/rand/v2"
	"net"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// closeWriter is a connection that can end its half.
type closeWriter interface {
	net.Conn
	CloseWrite() error
}

// pair is both ends of one connection through a tunnel.
type pair struct {
	*setup
	near, far closeWriter // the connecting and the accepting program
}

// newPair connects two programs through a tunnel.
func newPair(t *testing.T, d Direction, version uint16, unix bool, change func(*Config)) *pair {
	t.Helper()
	accepted, done := make(chan net.Conn, 1), make(chan struct{})
	network, in := "tcp", newSpine(t)
	var config *tls.Config
	if d == Outbound {
		config = in.serverConfig(version)
	} else if unix {
		network = "unix"
	}
	b := newBackend(t, network, config, hand(accepted, done))
	t.Cleanup(func() { close(done) })
	s := startIn(t, in, d, version, b.Addr(), func(c *Config) {
		if d == Outbound && unix {
			c.Listen = []Listen{{Network: "unix", Address: filepath.Join(t.TempDir(), "in.sock")}}
		}
		if change != nil {
			change(c)
		}
	})
	p := &pair{setup: s}
	if d == Inbound {
		c := s.secure(t, version, nil)
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
		p.near = c
	} else {
		p.near = s.plain(t).(closeWriter)
	}
	p.far = (<-accepted).(closeWriter)
	_ = p.far.SetDeadline(time.Now().Add(patience))
	if c, ok := p.far.(*tls.Conn); ok {
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// everyWay runs test for each direction, version and kind of socket.
func everyWay(t *testing.T, test func(t *testing.T, d Direction, version uint16, unix bool)) {
	for _, d := range []Direction{Inbound, Outbound} {
		for name, version := range map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13} {
			for _, kind := range []string{"tcp", "unix"} {
				t.Run(string(d)+" "+name+" "+kind, func(t *testing.T) { test(t, d, version, kind == "unix") })
			}
		}
	}
}

func send(t *testing.T, c io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Error(err)
	}
}

func receive(t *testing.T, c io.Reader, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

func receiveEnd(t *testing.T, c io.Reader) {
	t.Helper()
	if rest, err := io.ReadAll(c); err != nil || len(rest) > 0 {
		t.Errorf("got %q, %v, want the end", rest, err)
	}
}

func TestHalfClose(t *testing.T) {
	everyWay(t, func(t *testing.T, d Direction, version uint16, unix bool) {
		for _, first := range []string{"near", "far", "both"} {
			p := newPair(t, d, version, unix, nil)
			a, b := p.near, p.far
			if first == "far" {
				a, b = b, a
			}
			send(t, a, "question")
			receive(t, b, "question")
			if err := a.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if first == "both" {
				if err := b.CloseWrite(); err != nil {
					t.Fatal(err)
				}
				receiveEnd(t, b)
			} else {
				receiveEnd(t, b)
				send(t, b, "a late answer")
				receive(t, a, "a late answer")
				if err := b.CloseWrite(); err != nil {
					t.Fatal(err)
				}
			}
			receiveEnd(t, a)
			if end := p.seen.awaitClosed(t, 1); end.Cause != CauseEnd {
				t.Errorf("%s closes first: cause %q (%v), want %q", first, end.Cause, end.Err, CauseEnd)
			}
			p.Close()
		}
	})
}

// TestBulk moves 100 MB each way at once and compares digests.
func TestBulk(t *testing.T) {
	size := int64(100 << 20)
	if testing.Short() {
		size = 10 << 20
	}
	for _, d := range []Direction{Inbound, Outbound} {
		t.Run(string(d), func(t *testing.T) {
			p := newPair(t, d, tls.VersionTLS12, false, nil)
			deadline := time.Now().Add(5 * time.Minute)
			_, _ = p.near.SetDeadline(deadline), p.far.SetDeadline(deadline)
			type sum struct {
				from string
				sum  [sha256.Size]byte
				err  error
			}
			sums := make(chan sum, 4)
			write := func(c closeWriter, name string, seed byte) {
				h := sha256.New()
				_, err := io.CopyN(io.MultiWriter(c, h), mathrand.NewChaCha8([32]byte{seed}), size)
				err = errors.Join(err, c.CloseWrite())
				sums <- sum{name, [sha256.Size]byte(h.Sum(nil)), err}
			}
			read := func(c io.Reader, name string) {
				h := sha256.New()
				n, err := io.Copy(h, c)
				if n != size {
					t.Errorf("from %s: %d bytes, want %d", name, n, size)
				}
				sums <- sum{name, [sha256.Size]byte(h.Sum(nil)), err}
			}
			go write(p.near, "near", 1)
			go write(p.far, "far", 2)
			go read(p.near, "far")
			go read(p.far, "near")
			seen := make(map[string][sha256.Size]byte)
			for range 4 {
				s := <-sums
				if s.err != nil {
					t.Errorf("from %s: %v", s.from, s.err)
				}
				if before, ok := seen[s.from]; ok && before != s.sum {
					t.Errorf("from %s: digests differ", s.from)
				}
				seen[s.from] = s.sum
			}
			end := p.seen.awaitClosed(t, 1)
			if end.Received != size || end.Sent != size || end.Cause != CauseEnd {
				t.Errorf("closed %+v, want %d bytes each way", end, size)
			}
			if got := p.Stats(); got.Received != size || got.Sent != size {
				t.Errorf("stats %+v", got)
			}
		})
	}
}

// TestRecordSizes sends records of all sizes, cut into segments at random.
func TestRecordSizes(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		p := newPair(t, Inbound, version, false, nil)
		random := mathrand.New(mathrand.NewPCG(7, uint64(version)))
		data := make([]byte, 2<<20)
		_, _ = rand.Read(data)
		go func() {
			for rest := data; len(rest) > 0; {
				n := min(len(rest), 1+random.IntN(1<<random.IntN(18)))
				if _, err := p.near.Write(rest[:n]); err != nil {
					t.Error(err)
					return
				}
				rest = rest[n:]
				if random.IntN(20) == 0 {
					time.Sleep(time.Millisecond)
				}
			}
			_ = p.near.CloseWrite()
		}()
		got, err := io.ReadAll(p.far)
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%x: got %d bytes, %v, want %d unchanged", version, len(got), err, len(data))
		}
		p.Close()
	}
}

// TestOneByteSegments has each byte of the TLS stream arrive alone, so that
// every read of crypto/tls is interrupted by errAgain. If Go came to remember
// such errors, this would fail.
func TestOneByteSegments(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		b := newBackend(t, "tcp", nil, echo)
		s := start(t, Inbound, version, b.Addr(), nil)
		slow := &dribble{Conn: s.plain(t)}
		c := tls.Client(slow, s.spine.clientConfig(version))
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
		slow.on = true
		for range 5 {
			exchange(t, c, "a record in many segments")
		}
		s.Close()
	}
}

// dribble writes one byte at a time.
type dribble struct {
	net.Conn
	on bool
}

func (d *dribble) Write(p []byte) (int, error) {
	if !d.on {
		return d.Conn.Write(p)
	}
	for i := range p {
		if _, err := d.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
		time.Sleep(time.Millisecond)
	}
	return len(p), nil
}

func TestResetPassesOn(t *testing.T) {
	for _, d := range []Direction{Inbound, Outbound} {
		for _, who := range []string{"tls", "plain"} {
			p := newPair(t, d, tls.VersionTLS12, false, nil)
			send(t, p.near, "hello")
			receive(t, p.far, "hello")
			secure, plain := p.near, p.far
			if d == Outbound {
				secure, plain = plain, secure
			}
			feels, raw := secure, rawOf(plain)
			if who == "tls" {
				feels, raw = plain, rawOf(secure)
			}
			_ = raw.SetLinger(0)
			_ = raw.Close()
			_, err := io.ReadAll(feels)
			if err == nil && who == "tls" {
				t.Errorf("%s: %s side reset: the other side saw a clean end", d, who)
			}
			if who == "tls" && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("%s: plain side got %v, want a reset", d, err)
			}
			if end := p.seen.awaitClosed(t, 1); end.Cause != CauseError || end.Err == nil {
				t.Errorf("%s: %s side reset: closed %+v", d, who, end)
			}
			p.Close()
		}
	}
}

// rawOf returns the TCP connection below c.
func rawOf(c net.Conn) *net.TCPConn {
	if secure, ok := c.(*tls.Conn); ok {
		c = secure.NetConn()
	}
	return c.(*net.TCPConn)
}

func TestTruncation(t *testing.T) {
	t.Run("between records", func(t *testing.T) {
		p := newPair(t, Inbound, tls.VersionTLS12, false, nil)
		send(t, p.near, "hello")
		receive(t, p.far, "hello")
		_ = p.near.(*tls.Conn).NetConn().Close()
		receiveEnd(t, p.far)
		_ = p.far.CloseWrite()
		if end := p.seen.awaitClosed(t, 1); end.Cause != CauseTruncated {
			t.Errorf("cause %q, want %q", end.Cause, CauseTruncated)
		}
	})
	t.Run("within a record", func(t *testing.T) {
		p := newPair(t, Inbound, tls.VersionTLS12, false, nil)
		raw := p.near.(*tls.Conn).NetConn().(*net.TCPConn)
		_, _ = raw.Write([]byte{23, 3, 3, 0, 100, 1, 2, 3})
		_ = raw.CloseWrite()
		if _, err := io.ReadAll(p.far); err == nil {
			t.Error("the plain side saw a clean end")
		}
		if end := p.seen.awaitClosed(t, 1); end.Cause != CauseTruncated {
			t.Errorf("cause %q, want %q", end.Cause, CauseTruncated)
		}
	})
}

func TestIdle(t *testing.T) {
	everyWay(t, func(t *testing.T, d Direction, version uint16, unix bool) {
		p := newPair(t, d, version, unix, func(c *Config) { c.Idle = 200 * time.Millisecond })
		send(t, p.near, "hello")
		receive(t, p.far, "hello")
		receiveEnd(t, p.near)
		receiveEnd(t, p.far)
		if end := p.seen.awaitClosed(t, 1); end.Cause != CauseIdle {
			t.Errorf("cause %q, want %q", end.Cause, CauseIdle)
		}
	})
}

func TestIdleSparesTheBusy(t *testing.T) {
	p := newPair(t, Inbound, tls.VersionTLS12, false, func(c *Config) { c.Idle = 2 * time.Second })
	for range 30 {
		send(t, p.far, "one way only")
		receive(t, p.near, "one way only")
		time.Sleep(100 * time.Millisecond)
	}
	p.seen.mu.Lock()
	defer p.seen.mu.Unlock()
	if len(p.seen.closings) > 0 {
		t.Errorf("closed %+v", p.seen.closings)
	}
}

func TestCut(t *testing.T) {
	p := newPair(t, Inbound, tls.VersionTLS12, false, nil)
	send(t, p.near, "hello")
	receive(t, p.far, "hello")
	open := p.Connections()
	if len(open) != 1 || len(open[0].Chain()) != 2 || open[0].Verdict().Name != "proxy" {
		t.Fatalf("open connections %+v", open)
	}
	if !open[0].Cut("revoked") || open[0].Cut("expired") {
		t.Error("the first cut counts, and no other")
	}
	if _, err := io.ReadAll(p.far); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("plain side got %v, want a reset", err)
	}
	_, _ = io.ReadAll(p.near) // ends; crypto/tls takes FIN for an end
	if end := p.seen.awaitClosed(t, 1); end.Cause != "revoked" {
		t.Errorf("cause %q", end.Cause)
	}
}

// TestNothingLeft shows that a connection takes its traces with it; goleak in
// TestMain looks for goroutines.
func TestNothingLeft(t *testing.T) {
	p := newPair(t, Inbound, tls.VersionTLS12, false, nil)
	_ = p.near.Close()
	_ = p.far.Close()
	p.seen.awaitClosed(t, 1)
	p.seen.await(t, "an empty tunnel", func() bool { return p.Stats().Connections == 0 })
	p.gate.mu.Lock()
	open, sources := p.gate.open, len(p.gate.sources)
	p.gate.mu.Unlock()
	if open != 0 || sources != 0 {
		t.Errorf("gate counts %d open, %d sources", open, sources)
	}
	if used := p.gate.tokens.used; used != 0 {
		t.Errorf("%d tokens in use", used)
	}
}
