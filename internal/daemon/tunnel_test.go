package daemon

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
)

// clientConfig is that of a peer of an inbound tunnel.
func (h *host) clientConfig(name string) *tls.Config {
	h.t.Helper()
	pair, err := tls.LoadX509KeyPair(h.path(name+".crt"), h.path(name+".key"))
	if err != nil {
		h.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(h.root.Cert)
	return &tls.Config{RootCAs: roots, ServerName: providerName, Certificates: []tls.Certificate{pair}}
}

// connect opens a connection through an inbound tunnel as peer.
func (h *host) connect(address string) *tls.Conn {
	h.t.Helper()
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", address, h.clientConfig("peer"))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

// serving starts an HTTP backend on l.
func serving(t *testing.T, l net.Listener, handler http.HandlerFunc) {
	t.Helper()
	s := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
}

func listenTCP(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func TestProxyProtocol(t *testing.T) {
	t.Parallel()
	l := listenTCP(t)
	serving(t, &proxyproto.Listener{Listener: l, ConnPolicy: func(proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) { return proxyproto.REQUIRE, nil }},
		func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.RemoteAddr) })
	h, _ := simpleHost(t)
	h.configure(`revocation: "off"`, providerSlot, strings.Replace(inbound(l.Addr().String()), "slot: pcs", "slot: pcs, proxy_protocol: v2", 1))
	h.start()
	c := h.connect(h.listen("ssp-in"))
	if _, err := io.WriteString(c, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(c)
	if err != nil || !strings.HasSuffix(string(data), "\r\n\r\n"+c.LocalAddr().String()) {
		t.Errorf("the backend saw %q, %v; the client is %s", data, err, c.LocalAddr())
	}
}

func TestUnixListener(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.identity("pcs", providerName)
	far := newFarServer(t, tls.VersionTLS12, h.identity("far", serverName))
	group := os.Getgid()
	if os.Getuid() == 0 {
		group = nobody
	}
	common := fmt.Sprintf(`direction: outbound, forward: "%s", slot: pcs, peers: [%[2]s], server_name: %[2]s`, far.address, serverName)
	h.configure(`revocation: "off"`, providerSlot, fmt.Sprintf(`  closed: {%[1]s, listen: [{unix: closed.sock, group: "%[2]d", mode: "0660"}]}
  open: {%[1]s, listen: [{unix: open.sock, mode: "0666"}, "127.0.0.1:0"], allow_users: ["*"]}`, common, group))
	h.start()
	for name, mode := range map[string]fs.FileMode{"closed": 0o660, "open": 0o666} {
		h.listen(name)
		info, err := os.Lstat(h.path(name + ".sock"))
		if err != nil || info.Mode() != fs.ModeSocket|mode {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		} else if gid := info.Sys().(*syscall.Stat_t).Gid; name == "closed" && gid != uint32(group) {
			t.Errorf("%s: group %d", name, gid)
		}
		if body, err := ask("unix", h.path(name+".sock")); err != nil || !strings.HasSuffix(body, "far here") {
			t.Errorf("%s: %q %v", name, body, err)
		}
	}
	for _, tunnel := range h.status().Tunnels {
		if tunnel.Name == "open" {
			if body, err := ask("tcp", tunnel.Listen[1]); err != nil || !strings.HasSuffix(body, "far here") {
				t.Errorf("TCP: %q %v", body, err)
			}
		}
	}
	if code := h.stop(sigTerm); code != 0 {
		t.Errorf("exit status %d", code)
	}
	for _, name := range []string{"closed.sock", "open.sock"} {
		if _, err := os.Lstat(h.path(name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left behind: %v", name, err)
		}
	}
	data := string(mustRead(t, h.path("spinecert.yaml")))
	h.write("spinecert.yaml", []byte(strings.Replace(data, `allow_users: ["*"]`, "allow_users: [root]", 1)), 0o600)
	if code, out := h.runDaemon(); code != exitUsage || !strings.Contains(out, "every local user may connect to the socket") {
		t.Errorf("named users do not guard a socket that all may open: %d %s", code, out)
	}
}

// A peer that has said all it wants to say still gets the whole answer.
func TestHalfClose(t *testing.T) {
	t.Parallel()
	l := listenTCP(t)
	go func() { // counts what comes until the end, then answers
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				n, _ := io.Copy(io.Discard, c)
				fmt.Fprintf(c, "%d bytes, then the end", n)
			}()
		}
	}()
	h, _ := simpleHost(t)
	// Out of one tunnel and into the other: the end passes through both, as TLS and as TCP.
	in := strings.Replace(inbound(l.Addr().String()), "127.0.0.1:0", freeAddress(t), 1)
	_, rest, _ := strings.Cut(in, `["`)
	address, _, _ := strings.Cut(rest, `"`)
	in = strings.Replace(in, peerName, peerName+", "+providerName, 1)
	h.configure(`revocation: "off"`, providerSlot, in+fmt.Sprintf("\n  out: {direction: outbound, listen: [{unix: out.sock}], forward: \"%s\", slot: pcs, peers: [%s]}", address, providerName))
	h.start()
	h.listen("ssp-in")
	h.listen("out")
	plain, err := net.Dial("unix", h.path("out.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	_ = plain.SetDeadline(time.Now().Add(patience))
	for name, c := range map[string]interface {
		io.ReadWriter
		CloseWrite() error
	}{"inbound": h.connect(address), "both": plain.(*net.UnixConn)} {
		const size = 300_000
		if _, err := c.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(c)
		if err != nil || string(answer) != fmt.Sprintf("%d bytes, then the end", size) {
			t.Errorf("%s: %q %v", name, answer, err)
		}
	}
}

// On SIGTERM what is on its way may finish, and what is idle is cut at limits.drain.
func TestDrain(t *testing.T) {
	t.Parallel()
	arrived, release := make(chan bool), make(chan bool)
	l := listenTCP(t)
	serving(t, l, func(w http.ResponseWriter, _ *http.Request) {
		arrived <- true
		<-release
		_, _ = io.WriteString(w, strings.Repeat("long", 50_000))
	})
	h, _ := simpleHost(t)
	h.configure(`revocation: "off"`, providerSlot, inbound(l.Addr().String()))
	h.start()
	address := h.listen("ssp-in")
	idle, long := h.connect(address), h.connect(address)
	if _, err := io.WriteString(long, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-arrived
	if err := h.cmd.Process.Signal(sigTerm); err != nil {
		t.Fatal(err)
	}
	h.logged("event=stopping")
	h.until("nothing new is accepted", func() bool {
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	close(release)
	res, err := http.ReadResponse(bufio.NewReader(long), nil)
	if err != nil {
		t.Fatalf("the long request: %v", err)
	}
	if body, err := io.ReadAll(res.Body); err != nil || len(body) != 200_000 {
		t.Errorf("the long request: %d bytes, %v", len(body), err)
	}
	_ = long.Close()
	if n, err := idle.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the idle connection: %d, %v", n, err)
	}
	if code := h.wait(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	h.logged("event=stopped", "connections_cut=1")
}

// A hundred peers that begin a handshake and stall keep nobody else out.
func TestSlowLoris(t *testing.T) {
	t.Parallel()
	const stalled = 100
	h, _ := simpleHost(t)
	data := string(mustRead(t, h.path("spinecert.yaml")))
	data = strings.Replace(data, "slot: pcs,", "slot: pcs, timeouts: {handshake: 8s},", 1)
	h.write("spinecert.yaml", []byte(strings.Replace(data, "drain: 5s", "drain: 1s, per_source: 200, handshakes: 2", 1)), 0o600)
	h.start()
	address := h.listen("ssp-in")
	var slow []net.Conn
	for i := range stalled {
		c, err := net.DialTimeout("tcp", address, patience)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		slow = append(slow, c)
		// The beginning of a record of 512 bytes, of which no more comes.
		if _, err := c.Write([]byte{22, 3, 1, 2, 0, 1, 0, 1, 0xfc}[:i%10]); err != nil {
			t.Fatal(err)
		}
	}
	h.until("they are all in", func() bool { return h.metric(`spinecert_tunnel_connections{tunnel="ssp-in"}`) == fmt.Sprint(stalled) })
	for range 10 {
		if err := h.dial(address, "peer"); err != nil {
			t.Errorf("a good client: %v", err)
		}
	}
	for _, c := range slow {
		_ = c.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("a stalled connection is never given up")
		}
	}
	h.counted("ssp-in", "failed", "protocol", stalled)
	h.counted("ssp-in", "accepted", "", 10)
}

// flow is one way of using a tunnel, again and again.
type flow struct {
	name        string
	client      *http.Client
	connections atomic.Int64
	resumed     atomic.Int64
	requests    atomic.Int64
}

func newFlow(name, address string, config *tls.Config, keepAlive bool) *flow {
	f := &flow{name: name}
	transport := &http.Transport{DisableKeepAlives: !keepAlive, DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		d := tls.Dialer{Config: config}
		c, err := d.DialContext(ctx, "tcp", address)
		if err != nil {
			return nil, err
		}
		f.connections.Add(1)
		if c.(*tls.Conn).ConnectionState().DidResume {
			f.resumed.Add(1)
		}
		return c, nil
	}}
	f.client = &http.Client{Transport: transport, Timeout: patience}
	return f
}

func (f *flow) run(ctx context.Context, t *testing.T) {
	defer f.client.CloseIdleConnections()
	for ctx.Err() == nil {
		code, _, body, err := fetch(f.client, "https://"+providerName+"/")
		if err != nil || code != http.StatusOK || body != "backend here\n" {
			t.Errorf("%s, request %d: %d %q %v", f.name, f.requests.Load(), code, body, err)
			return
		}
		f.requests.Add(1)
	}
}

// TestNothingIsLost has requests on their way through 50 rotations and 50 reloads,
// every other of which changes the policy of the tunnel.
func TestNothingIsLost(t *testing.T) {
	t.Parallel()
	h, _ := simpleHost(t)
	h.start()
	address := h.listen("ssp-in")
	resuming := h.clientConfig("peer")
	resuming.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	flows := []*flow{
		newFlow("keep-alive", address, h.clientConfig("peer"), true),
		newFlow("new", address, h.clientConfig("peer"), false),
		newFlow("resumed", address, resuming, false),
	}
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	for _, f := range flows {
		group.Go(func() { f.run(ctx, t) })
	}
	policies := []string{"peers: [" + peerName + "]", "peers: [" + peerName + ", another.nhs.uk]"}
	for i := range 50 {
		before := []int64{flows[0].requests.Load(), flows[1].requests.Load(), flows[2].requests.Load()}
		h.until("all flows go on", func() bool {
			for j, f := range flows {
				if f.requests.Load() < before[j]+2 && !t.Failed() {
					return false
				}
			}
			return true
		})
		h.identity("pcs", providerName)
		h.until("the rotation is done", func() bool { return h.slot("pcs").Generation == uint64(i)+2 })
		if i%2 == 0 {
			h.reconfigure(policies[i/2%2], policies[1-i/2%2])
		} else if _, err := h.client.Reload(context.Background()); err != nil {
			t.Fatal(err)
		}
		if t.Failed() {
			break
		}
	}
	cancel()
	group.Wait()
	for _, f := range flows {
		t.Logf("%s: %d requests, %d connections, %d resumed", f.name, f.requests.Load(), f.connections.Load(), f.resumed.Load())
	}
	if n := flows[0].connections.Load(); n != 1 {
		t.Errorf("keep-alive needed %d connections: somebody cut one", n)
	}
	if flows[1].resumed.Load() != 0 || flows[2].resumed.Load() == 0 {
		t.Errorf("resumed: %d of the new ones, %d of the others", flows[1].resumed.Load(), flows[2].resumed.Load())
	}
}
