package fetch

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
)

// counted starts a server that counts its connections.
func counted(t *testing.T, h http.HandlerFunc) (string, *atomic.Int32) {
	t.Helper()
	var asked atomic.Int32
	return server(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if h != nil {
			h(w, r)
			return
		}
		_, _ = io.WriteString(w, "inside")
	}), &asked
}

// TestNamePointsInward has a listed name lead to addresses that are not.
func TestNamePointsInward(t *testing.T) {
	port, asked := counted(t, nil)
	for _, a := range []string{"127.0.0.1", "127.0.0.2", "0.0.0.0", "10.1.2.3", "169.254.169.254", "192.168.1.1", "100.64.0.1", "224.0.0.1", "255.255.255.255"} {
		c := client(t, Config{Hosts: []string{"crl.example:" + port, "127.0.0.1:1", "172.16.0.0/12"}}, []string{a})
		_, _, err := get(t, c, "http://crl.example:"+port+"/", Known{})
		refused(t, err, PrivateAddress, a, "hint: "+a, "hint: CIDR", "hint: crl.hosts")
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("the server was asked %d times", n)
	}
}

func TestNamePointsWhereListed(t *testing.T) {
	port, _ := counted(t, nil)
	for _, entry := range []string{"127.0.0.1", "127.0.0.1:" + port, "127.0.0.0/8", "::ffff:127.0.0.1"} {
		c := client(t, Config{Hosts: []string{"crl.example:" + port, entry}}, here)
		if _, body, err := get(t, c, "http://crl.example:"+port+"/", Known{}); err != nil || body != "inside" {
			t.Errorf("%s: %q, %v", entry, body, err)
		}
	}
	// The address may be asked by its name only, as it is listed without this port.
	c := client(t, Config{Hosts: []string{"crl.example:" + port, "127.0.0.1"}}, here)
	_, _, err := get(t, c, "http://127.0.0.1:"+port+"/", Known{})
	refused(t, err, NotPermitted)
	// One of two addresses is: that one is used.
	c = client(t, Config{Hosts: []string{"crl.example:" + port, "127.0.0.1"}}, []string{"127.0.0.2", "127.0.0.1"})
	if _, body, err := get(t, c, "http://crl.example:"+port+"/", Known{}); err != nil || body != "inside" {
		t.Errorf("the second address: %q, %v", body, err)
	}
}

// TestRebinding has the name point elsewhere at the next look.
func TestRebinding(t *testing.T) {
	port, asked := counted(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			_, _ = io.WriteString(w, "first")
			return
		}
		http.Redirect(w, r, "/", http.StatusFound) // the same host, looked up again
	})
	config := Config{Hosts: []string{"crl.example:" + port, "127.0.0.1"}}
	c := client(t, config, here, []string{"127.0.0.2"})
	if _, _, err := get(t, c, "http://crl.example:"+port+"/", Known{}); err != nil {
		t.Fatal(err)
	}
	_, _, err := get(t, c, "http://crl.example:"+port+"/", Known{})
	refused(t, err, PrivateAddress, "127.0.0.2")
	c = client(t, config, here, []string{"127.0.0.2"})
	_, _, err = get(t, c, "http://crl.example:"+port+"/redirect", Known{})
	refused(t, err, PrivateAddress, "127.0.0.2")
	if n := asked.Load(); n != 2 {
		t.Errorf("asked %d times", n)
	}
}

func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().String()
	_, port, _ := net.SplitHostPort(closed)
	_ = l.Close()
	c := client(t, Config{Hosts: []string{closed, "crl.example:" + port}}, []string{})
	_, _, err = get(t, c, "http://"+closed+"/", Known{})
	refused(t, err, Unreachable, "connection refused", "hint: crl.proxy")
	_, _, err = get(t, c, "http://crl.example:"+port+"/", Known{})
	refused(t, err, Unreachable, "no such host", "hint: DNS")
	// What the operator can mend is said, whichever address failed first.
	for _, addresses := range [][]string{{"127.0.0.2", "127.0.0.1"}, {"127.0.0.1", "127.0.0.2"}} {
		c = client(t, Config{Hosts: []string{closed, "crl.example:" + port}}, addresses)
		_, _, err = get(t, c, "http://crl.example:"+port+"/", Known{})
		refused(t, err, PrivateAddress, "127.0.0.2")
	}
}

// TestFailed has the end of the context come before what failed because of it.
func TestFailed(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	cause := errors.New("lookup: operation was canceled")
	a := &attempt{client: client(t, Config{}), dialed: cause}
	refused(t, a.failed(ctx, cause), Canceled)
	refused(t, a.failed(t.Context(), cause), Unreachable, "operation was canceled")
	a = &attempt{client: a.client, reached: true}
	refused(t, a.failed(t.Context(), errors.New("\x1b[31m\u202e")), Protocol, "?[31m?")
}

// TestLookupHangs has a DNS server that never answers end with the context.
func TestLookupHangs(t *testing.T) {
	asked := make(chan struct{}, 8)
	c := client(t, Config{Hosts: []string{"crl.example"}})
	c.resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		asked <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-asked
		cancel()
	}()
	_, err := c.Get(ctx, "http://crl.example/", Known{}, io.Discard)
	refused(t, err, Canceled, "no connection")
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v does not unwrap to what ended it", err)
	}
}
