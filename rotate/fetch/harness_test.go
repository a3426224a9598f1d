package fetch

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// nobody is where the environment's proxies point. net/http reads them once and for
// all, so it must be there before the first request.
const nobody = "http://127.0.0.1:1"

func TestMain(m *testing.M) {
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"} {
		os.Setenv(name, nobody)
		os.Setenv(strings.ToLower(name), nobody)
	}
	os.Unsetenv("NO_PROXY")
	os.Unsetenv("no_proxy")
	goleak.VerifyTestMain(m)
}

// client returns one that takes crl.example to be at addresses, the first ones for
// the first lookup and so on; the last ones stay.
func client(t *testing.T, c Config, lookups ...[]string) *Client {
	t.Helper()
	client, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	if lookups != nil {
		client.resolver = resolver(lookups)
	}
	return client
}

// here is a lookup that finds this host.
var here = []string{"127.0.0.1"}

// server starts an HTTP server and returns its port.
func server(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return portOf(t, s.URL)
}

// portOf returns the port of an address.
func portOf(t *testing.T, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u.Port()
}

// raw starts a TCP server that has talk speak with each connection, after it read a
// request, and returns its port. The test ends when every talk has.
func raw(t *testing.T, talk func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_ = conn.SetDeadline(time.Now().Add(patience))
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				talk(conn)
			}
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// says is a talk of raw: it sends text and closes.
func says(text string) func(net.Conn) {
	return func(conn net.Conn) { _, _ = io.WriteString(conn, text) }
}

// get asks for address with patience.
func get(t *testing.T, c *Client, address string, known Known) (Answer, string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var body bytes.Buffer
	answer, err := c.Get(ctx, address, known, &body)
	return answer, body.String(), err
}

// refused checks that err is an Error of a reason, which says each of texts in its
// text, or, behind "hint: ", in its hint.
func refused(t *testing.T, err error, reason string, texts ...string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an Error: %s", err, reason)
	}
	if e.Reason != reason {
		t.Errorf("reason %s, want %s: %v", e.Reason, reason, err)
	}
	if e.Detail == "" || e.Advice == "" {
		t.Errorf("%v: no detail or no hint (%q)", err, e.Advice)
	}
	for _, text := range texts {
		in := e.Error()
		if hint, ok := strings.CutPrefix(text, "hint: "); ok {
			text, in = hint, e.Hint()
		}
		if !strings.Contains(in, text) {
			t.Errorf("%q does not say %q", in, text)
		}
	}
}

// resolver returns one that asks a DNS server of the test's own, over TCP on a pipe.
func resolver(lookups [][]string) *net.Resolver {
	turns := make(chan []string, len(lookups))
	for _, l := range lookups {
		turns <- l
	}
	last := lookups[len(lookups)-1]
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			defer theirs.Close()
			answerDNS(theirs, func() []string {
				select {
				case l := <-turns:
					return l
				default:
					return last
				}
			})
		}()
		return ours, nil
	}}
}

// answerDNS answers one question for A; there is no AAAA.
func answerDNS(conn net.Conn, addresses func() []string) {
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return
	}
	query := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(conn, query); err != nil || len(query) < 17 {
		return
	}
	end := 12 + bytes.IndexByte(query[12:], 0) + 5 // header, name, type and class
	reply := append([]byte{query[0], query[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, query[12:end]...)
	if binary.BigEndian.Uint16(query[end-4:]) == 1 {
		for _, a := range addresses() {
			ip := netip.MustParseAddr(a).As4()
			reply = append(reply, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
			reply = append(reply, ip[:]...)
			reply[7]++
		}
	}
	_, _ = conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...))
}
