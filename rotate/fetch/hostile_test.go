package fetch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// limit is MaxBytes of the tests of this file.
const limit = 1000

const ok = "HTTP/1.1 200 OK\r\n"

// TestBody has servers lie about what they send.
func TestBody(t *testing.T) {
	fits, over := strings.Repeat("x", limit), strings.Repeat("x", limit+1)
	chunked := func(body string) string {
		return fmt.Sprintf("%sTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", ok, len(body), body)
	}
	tests := map[string]struct {
		answer string
		want   string // the body
		reason string
	}{
		"as long as can be":          {ok + "Content-Length: 1000\r\n\r\n" + fits, fits, ""},
		"chunked":                    {chunked(fits), fits, ""},
		"until it is closed":         {ok + "\r\n" + fits, fits, ""},
		"HTTP/1.0":                   {"HTTP/1.0 200 OK\r\n\r\n" + fits, fits, ""},
		"more than its length":       {ok + "Content-Length: 4\r\n\r\nbodyHTTP/1.1 200 OK\r\n\r\n", "body", ""},
		"hints first":                {"HTTP/1.1 103 Early Hints\r\n\r\n" + ok + "\r\nbody", "body", ""},
		"over":                       {ok + "Content-Length: 1001\r\n\r\n" + over, "", TooLarge},
		"over, chunked":              {chunked(over), "", TooLarge},
		"over, without length":       {ok + "\r\n" + over, "", TooLarge},
		"10 GB":                      {ok + "Content-Length: 10737418240\r\n\r\nx", "", TooLarge},
		"short":                      {ok + "Content-Length: 100\r\n\r\nbody", "", Truncated},
		"short, chunked":             {ok + "Transfer-Encoding: chunked\r\n\r\n64\r\nbody", "", Truncated},
		"without last chunk":         {ok + "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n", "", Truncated},
		"empty":                      {ok + "Content-Length: 0\r\n\r\n", "", Empty},
		"empty, chunked":             {ok + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "", Empty},
		"empty, without length":      {ok + "\r\n", "", Empty},
		"two lengths":                {ok + "Content-Length: 4\r\nContent-Length: 5\r\n\r\nbody", "", Protocol},
		"negative length":            {ok + "Content-Length: -4\r\n\r\nbody", "", Protocol},
		"length beyond 64 bits":      {ok + "Content-Length: 99999999999999999999\r\n\r\nbody", "", Protocol},
		"chunk of no size":           {ok + "Transfer-Encoding: chunked\r\n\r\nxyz\r\nbody", "", Protocol},
		"chunk of 2^64":              {ok + "Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\nbody", "", Protocol},
		"gzip on the way":            {ok + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "", Protocol},
		"no answer":                  {"", "", Truncated},
		"half a header":              {ok + "Content-Le", "", Protocol},
		"no HTTP":                    {"220 mail.example ESMTP\r\n", "", Protocol},
		"HTTP/2":                     {"HTTP/2.0 200 OK\r\n\r\nbody", "", Protocol},
		"HTTP/0.9":                   {"body", "", Protocol},
		"header over 16 KiB":         {ok + "A: " + strings.Repeat("a", maxHeader+1000) + "\r\n\r\nbody", "", Protocol},
		"many headers":               {ok + strings.Repeat("A: a\r\n", maxHeader/5) + "\r\nbody", "", Protocol},
		"hints without end":          {strings.Repeat("HTTP/1.1 103 Early Hints\r\nA: a\r\n\r\n", maxHeader/10), "", Protocol},
		"another protocol from here": {"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nbody", "", Status},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			port := raw(t, says(test.answer))
			c := client(t, Config{Hosts: []string{"127.0.0.1:" + port}, MaxBytes: limit})
			answer, body, err := get(t, c, "http://127.0.0.1:"+port+"/", Known{})
			if len(body) > limit {
				t.Errorf("wrote %d bytes", len(body))
			}
			if test.reason != "" {
				refused(t, err, test.reason)
				return
			}
			if err != nil || body != test.want || answer.Bytes != int64(len(body)) {
				t.Errorf("%+v, %d bytes, %v", answer, len(body), err)
			}
		})
	}
}

// TestEndless has servers that send for as long as somebody reads. They end when the
// client hangs up, not before.
func TestEndless(t *testing.T) {
	for name, test := range map[string]struct{ start, again, reason string }{
		"10 GB without length": {ok + "\r\n", strings.Repeat("x", 4096), TooLarge},
		"chunks":               {ok + "Transfer-Encoding: chunked\r\n\r\n", "4\r\nbody\r\n", TooLarge},
		"chunk of one byte":    {ok + "Transfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n", ""},
		"header":               {ok, "A: a\r\n", Protocol},
		"one header":           {ok + "A: ", "aaaaaaaaa", Protocol},
		"hints":                {"", "HTTP/1.1 103 Early Hints\r\n\r\n", Protocol},
	} {
		t.Run(name, func(t *testing.T) {
			hungUp := make(chan error, 1)
			port := raw(t, func(conn net.Conn) {
				_, err := io.WriteString(conn, test.start)
				for err == nil {
					_, err = io.WriteString(conn, test.again)
				}
				hungUp <- err
			})
			c := client(t, Config{Hosts: []string{"127.0.0.1:" + port}, MaxBytes: limit})
			_, body, err := get(t, c, "http://127.0.0.1:"+port+"/", Known{})
			if test.reason == "" { // too much overhead, or too large: what comes first
				var e *Error
				if !errors.As(err, &e) || e.Reason != TooLarge && e.Reason != Protocol {
					t.Errorf("got %v", err)
				}
			} else {
				refused(t, err, test.reason)
			}
			if len(body) > limit {
				t.Errorf("wrote %d bytes", len(body))
			}
			if err := <-hungUp; errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the client did not hang up")
			}
		})
	}
}

// arrivals is a writer that tells how much came.
type arrivals chan int

func (a arrivals) Write(p []byte) (int, error) {
	a <- len(p)
	return len(p), nil
}

// ending is a context whose end the test chooses, also that of a deadline.
type ending struct {
	context.Context
	done chan struct{}
	err  atomic.Value
}

func (e *ending) Done() <-chan struct{} { return e.done }

func (e *ending) Err() error {
	err, _ := e.err.Load().(ended)
	return err.error
}

type ended struct{ error }

func (e *ending) end(err error) {
	e.err.Store(ended{err})
	close(e.done)
}

// TestStuck has servers that stop at each stage. Get ends with its context, says
// which end it was, and hangs up.
func TestStuck(t *testing.T) {
	for name, test := range map[string]struct{ start, text string }{
		"never answers":      {"", "no answer"},
		"within the header":  {ok + "Content-", "no answer"},
		"after the header":   {ok + "Content-Length: 9\r\n\r\n", ""},
		"within the body":    {ok + "Content-Length: 9\r\n\r\nbody", "after 4 bytes"},
		"within a chunk":     {ok + "Transfer-Encoding: chunked\r\n\r\n9\r\nbody", ""},
		"between chunks":     {ok + "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n", "after 4 bytes"},
		"before the end":     {ok + "\r\nbody", "after 4 bytes"},
		"after an early one": {"HTTP/1.1 103 Early Hints\r\n\r\n", "no answer"},
	} {
		for _, canceled := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, canceled %v", name, canceled), func(t *testing.T) {
				sent, hungUp := make(chan struct{}), make(chan error, 1)
				port := raw(t, func(conn net.Conn) {
					_, _ = io.WriteString(conn, test.start)
					close(sent)
					_, err := conn.Read(make([]byte, 1))
					hungUp <- err
				})
				c := client(t, Config{Hosts: []string{"127.0.0.1:" + port}})
				ctx := &ending{Context: t.Context(), done: make(chan struct{})}
				came := make(chan int, 9)
				go func() {
					<-sent
					for left := strings.Count(test.text, "4") * 4; left > 0; {
						left -= <-came // what was sent is read before the end
					}
					if canceled {
						ctx.end(context.Canceled)
					} else {
						ctx.end(context.DeadlineExceeded)
					}
				}()
				_, err := c.Get(ctx, "http://127.0.0.1:"+port+"/", Known{}, arrivals(came))
				reason, cause := Timeout, context.DeadlineExceeded
				if canceled {
					reason, cause = Canceled, context.Canceled
				}
				refused(t, err, reason, test.text)
				if !errors.Is(err, cause) {
					t.Errorf("%v does not unwrap to %v", err, cause)
				}
				if err := <-hungUp; errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error("the client did not hang up")
				}
			})
		}
	}
}

// TestSlow has a server that sends a byte now and then, which must not prolong it.
func TestSlow(t *testing.T) {
	port := raw(t, func(conn net.Conn) {
		_, err := io.WriteString(conn, ok+"Content-Length: 1000000000\r\n\r\n")
		for err == nil {
			_, err = io.WriteString(conn, "x")
		}
	})
	c := client(t, Config{Hosts: []string{"127.0.0.1:" + port}, MaxBytes: 2e9})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := c.Get(ctx, "http://127.0.0.1:"+port+"/", Known{}, io.Discard)
	refused(t, err, Timeout, "hint: crl.timeout")
}
