package tunnel

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// wires returns a wire and the raw other end of it.
func wires(t *testing.T) (*wire, *net.TCPConn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	near, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	w := &wire{}
	if err := w.attach(far.(stream)); err != nil {
		t.Fatal(err)
	}
	return w, near.(*net.TCPConn)
}

func TestWireWaits(t *testing.T) {
	w, far := wires(t)
	w.mode = nonBlocking
	buf := make([]byte, 100)
	if n, err := w.Read(buf); n != 0 || err != errAgain {
		t.Fatalf("empty: %d, %v", n, err)
	}
	for _, early := range []bool{true, false} {
		write := func() { _, _ = far.Write([]byte("hello")) }
		if early {
			write()
			time.Sleep(10 * time.Millisecond) // the event is there before wait
		} else {
			time.AfterFunc(10*time.Millisecond, write)
		}
		if err := w.wait(); err != nil {
			t.Fatal(err)
		}
		if n, err := w.Read(buf); n != 5 || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
		if n, err := w.Read(buf); n != 0 || err != errAgain {
			t.Fatalf("drained: %d, %v", n, err)
		}
	}
	_ = far.CloseWrite()
	if err := w.wait(); err != nil {
		t.Fatal(err)
	}
	if n, err := w.Read(buf); n != 0 || err != io.EOF {
		t.Fatalf("end: %d, %v", n, err)
	}
}

// TestWireTellsErrorTwice: a socket forgets an error once it was asked, and wait
// asks.
func TestWireTellsErrorTwice(t *testing.T) {
	w, far := wires(t)
	w.mode = nonBlocking
	_ = far.SetLinger(0)
	_ = far.Close()
	time.Sleep(10 * time.Millisecond)
	if err := w.wait(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := w.Read(make([]byte, 1)); err == nil || err == io.EOF {
			t.Fatalf("got %v, want a reset", err)
		}
	}
}

func TestWireDeadlineAndClose(t *testing.T) {
	w, _ := wires(t)
	_ = w.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if _, err := w.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read: %v", err)
	}
	if err := w.wait(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("wait: %v", err)
	}
	_ = w.SetReadDeadline(time.Time{})
	time.AfterFunc(10*time.Millisecond, func() { _ = w.Close() })
	if err := w.wait(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("wait: %v", err)
	}
}

func TestWireReadAllocatesNothing(t *testing.T) {
	w, far := wires(t)
	w.mode = nonBlocking
	buf, message := make([]byte, 100), []byte("hello")
	if n := testing.AllocsPerRun(100, func() {
		_, _ = far.Write(message)
		if w.wait() != nil {
			t.Fatal("wait")
		}
		_, _ = w.Read(buf)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestErrAgainIsNotRemembered guards what wire relies on in crypto/tls.
func TestErrAgainIsNotRemembered(t *testing.T) {
	if !errAgain.Temporary() { //nolint:staticcheck // crypto/tls asks
		t.Error("errAgain must be temporary")
	}
	s := newSpine(t)
	near, far := net.Pipe()
	source := &hiccups{Conn: far}
	server := tls.Server(source, s.serverConfig(tls.VersionTLS12))
	client := tls.Client(near, s.clientConfig(tls.VersionTLS12))
	go func() {
		_ = client.Handshake()
		_, _ = client.Write([]byte("hello"))
		_ = client.Close()
	}()
	if err := server.Handshake(); err != nil {
		t.Fatal(err)
	}
	source.on = true
	var got bytes.Buffer
	seen := 0
	for buf := make([]byte, 3); ; {
		n, err := server.Read(buf)
		got.Write(buf[:n])
		if err == errAgain {
			seen++
			continue
		}
		if err != nil {
			break
		}
	}
	if got.String() != "hello" || seen == 0 {
		t.Errorf("got %q after %d hiccups", &got, seen)
	}
}

// hiccups gives one byte, then errAgain, in turn.
type hiccups struct {
	net.Conn
	on, skip bool
}

func (h *hiccups) Read(p []byte) (int, error) {
	if !h.on {
		return h.Conn.Read(p)
	}
	if h.skip = !h.skip; h.skip {
		return 0, errAgain
	}
	return h.Conn.Read(p[:1])
}

func TestGather(t *testing.T) {
	w, far := wires(t)
	var lent buffers
	data := bytes.Repeat([]byte("0123456789"), 20000)
	done := make(chan []byte)
	go func() {
		got, _ := io.ReadAll(far)
		done <- got
	}()
	w.gather(&lent)
	for rest := data; len(rest) > 0; {
		n := min(len(rest), 17000)
		if len(rest) == len(data) {
			n = sealedSize + 1 // larger than the buffer
		}
		if m, err := w.Write(rest[:n]); m != n || err != nil {
			t.Fatal(m, err)
		}
		rest = rest[n:]
	}
	if err := w.flush(); err != nil || w.out != nil {
		t.Fatal(err, w.out)
	}
	_, _ = w.Write([]byte("!"))
	_ = w.Close()
	if got := <-done; string(got) != string(data)+"!" {
		t.Errorf("got %d bytes, want %d", len(got), len(data)+1)
	}
}

// FuzzRecords cuts a stream of records in two ways and expects that no piece
// crosses the end of a record.
func FuzzRecords(f *testing.F) {
	f.Add([]byte{23, 3, 3, 0, 2, 'a', 'b', 23, 3, 3, 0, 0, 23, 3, 3, 0, 1, 'c'}, byte(3))
	f.Fuzz(func(t *testing.T, data []byte, step byte) {
		ends := map[int]bool{} // offsets at which a record ends
		for at := 0; at+headerSize <= len(data); {
			at += headerSize + int(data[at+3])<<8 + int(data[at+4])
			ends[at] = true
		}
		var r records
		for at := 0; at < len(data); {
			window := data[at:min(len(data), at+1+int(step))]
			n := r.within(window)
			if n < 1 || n > len(window) {
				t.Fatalf("%d of %d bytes", n, len(window))
			}
			for i := at + 1; i < at+n; i++ {
				if ends[i] {
					t.Fatalf("piece %d..%d crosses the end at %d", at, at+n, i)
				}
			}
			if n < len(window) && !ends[at+n] {
				t.Fatalf("piece %d..%d stops short", at, at+n)
			}
			r.skip(window[:n])
			at += n
		}
		var whole records
		whole.skip(data)
		if whole.have != r.have || whole.left != r.left {
			t.Fatalf("in pieces %+v, at once %+v", r, whole)
		}
	})
}
