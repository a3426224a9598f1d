package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// long is when a test gives up.
const long = 30 * time.Second

// ends starts a server on a socket, and tells of each connection that has ended.
func ends(t *testing.T, s *http.Server) (path string, ended <-chan struct{}) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "admin.sock"))
	if err != nil {
		t.Fatal(err)
	}
	tell, was := make(chan struct{}, 1000), s.ConnState
	s.ConnState = func(c net.Conn, state http.ConnState) {
		was(c, state)
		if state == http.StateClosed {
			tell <- struct{}{}
		}
	}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	return l.Addr().String(), tell
}

func wait(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(long):
		t.Fatalf("waited in vain: %s", what)
	}
}

func dial(t *testing.T, path string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(long))
	return c
}

// TestReaderThatDoesNotRead: an answer that is not read is given up long before the
// time for the slowest request is over.
func TestReaderThatDoesNotRead(t *testing.T) {
	s := newServer(Backend{Status: func(context.Context) Status { return Status{Version: strings.Repeat("x", 4<<20)} }}, 100*time.Millisecond)
	if s.WriteTimeout != writeTimeout {
		t.Fatalf("a request may take %s", s.WriteTimeout)
	}
	path, ended := ends(t, s)
	c := dial(t, path)
	if _, err := io.WriteString(c, "GET /v1/status HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	wait(t, "the server gives up", ended)
	if n, err := io.Copy(io.Discard, c); err != nil || n > 3<<20 {
		t.Errorf("%d bytes, %v: the answer still waited", n, err)
	}
}

// A slow request has time for its answer all the same.
func TestSlowRequestIsAnswered(t *testing.T) {
	within := 50 * time.Millisecond
	s := newServer(Backend{Status: func(context.Context) Status { time.Sleep(3 * within); return Status{Version: "slow"} }}, within)
	path, _ := ends(t, s)
	if st, err := NewClient(path).Status(t.Context()); err != nil || st.Version != "slow" {
		t.Errorf("%q, %v", st.Version, err)
	}
}

func TestConnections(t *testing.T) {
	const writer, reader = 4711, 5000
	o := newConnections(func() []int { return []int{writer} })
	var all []net.Conn
	fill := func(uid int) (n int) {
		for {
			c, _ := net.Pipe()
			if !o.enter(c, uid) {
				o.leave(c) // the server tells of its end, too
				return n
			}
			all = append(all, c)
			n++
		}
	}
	for i := range maxOfReaders / maxOfOneReader {
		if n := fill(reader + i); n != maxOfOneReader {
			t.Errorf("reader %d: %d", i, n)
		}
	}
	if n := fill(reader + 100); n != 0 {
		t.Errorf("one reader too many: %d", n)
	}
	if n := fill(writer); n != maxOfOthers-maxOfReaders {
		t.Errorf("a writer, beside as many readers as there may be: %d", n)
	}
	if n := fill(0); n != maxOpen-maxOfOthers {
		t.Errorf("root, beside all: %d", n)
	}
	leave := func() {
		for _, c := range all {
			o.leave(c)
			o.leave(c)
		}
		if all = nil; len(o.open) != 0 || o.readers != 0 || o.writers != 0 || len(o.of) != 0 {
			t.Errorf("when all are gone: %+v", o)
		}
	}
	leave()

	// Those who may change something leave room for those who only read.
	if n := fill(writer); n != maxOfWriters {
		t.Errorf("a writer alone: %d", n)
	}
	if n := fill(reader); n != maxOfOneReader {
		t.Errorf("a reader, beside as many writers as there may be: %d", n)
	}
	leave()
}

// TestTooManyConnections: what is too many is ended at once, and there is room again
// when one has gone.
func TestTooManyConnections(t *testing.T) {
	path, ended := ends(t, NewServer(Backend{Status: func(context.Context) Status { return Status{} }}))
	var open []net.Conn
	most := 0
	for most = range 2 * maxOpen { // by whoever runs the test: root, or a reader
		c := dial(t, path)
		if _, err := io.WriteString(c, "GET /v1/status HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
			break
		}
		if _, err := io.ReadFull(c, make([]byte, 12)); err != nil {
			break
		}
		open = append(open, c)
	}
	if most != maxOpen && most != maxOfOneReader {
		t.Fatalf("%d connections", most)
	}
	wait(t, "the one too many has ended", ended)
	_, err := NewClient(path).Status(t.Context())
	if u, ok := err.(*Unreachable); !ok || !strings.Contains(u.Hint(), "too many connections") {
		t.Errorf("%v", err)
	}
	wait(t, "and that one, too", ended)
	_ = open[0].Close()
	wait(t, "one goes", ended)
	if _, err := NewClient(path).Status(t.Context()); err != nil {
		t.Error(err)
	}
}

// pieces counts how large a part of an answer is made at once.
type pieces struct {
	*httptest.ResponseRecorder
	largest int
}

func (p *pieces) Write(b []byte) (int, error) {
	p.largest = max(p.largest, len(b))
	return p.ResponseRecorder.Write(b)
}

func TestListIsMadeInPieces(t *testing.T) {
	for _, n := range []int{0, 1, 1000} {
		mux := http.NewServeMux()
		list := []Refusal{}
		for i := range n {
			list = append(list, Refusal{Name: fmt.Sprint(i), Message: strings.Repeat("m", 1000)})
		}
		refusalRoutes(mux, Backend{Refusals: func(context.Context) []Refusal { return list }})
		p := &pieces{ResponseRecorder: httptest.NewRecorder()}
		mux.ServeHTTP(p, httptest.NewRequest(http.MethodGet, "/v1/refusals", nil))
		var got struct{ Result []Refusal }
		if err := json.Unmarshal(p.Body.Bytes(), &got); err != nil || len(got.Result) != n || n > 0 && got.Result[n-1] != list[n-1] {
			t.Errorf("%d: %d elements, %v", n, len(got.Result), err)
		}
		if p.Code != http.StatusOK || p.largest > 4<<10 {
			t.Errorf("%d: status %d, %d bytes at once", n, p.Code, p.largest)
		}
	}
}
