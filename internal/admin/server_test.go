package admin

import (
	"context"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestReaderThatDoesNotRead(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "admin.sock"))
	if err != nil {
		t.Fatal(err)
	}
	s := NewServer(Backend{Status: func(context.Context) Status { return Status{Version: strings.Repeat("x", 4<<20)} }})
	if s.WriteTimeout != writeTimeout {
		t.Fatalf("an answer may take %s", s.WriteTimeout)
	}
	s.WriteTimeout = 200 * time.Millisecond
	go func() { _ = s.Serve(l) }()
	defer s.Close()
	c, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET /v1/status HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if n, err := io.Copy(io.Discard, c); err != nil || n > 3<<20 {
		t.Errorf("%d bytes, %v: the answer still waited", n, err)
	}
}
