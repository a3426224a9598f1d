package peercred

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// clientEnv makes this program a client of the address that it holds.
const clientEnv = "SPINECERT_TEST_PEERCRED"

// nobody is a user that is not the one of the test, where that is root. It is not
// 65534: the test may run in a user namespace.
const nobody = 65533

const patience = 20 * time.Second

func TestMain(m *testing.M) {
	if way := os.Getenv(clientEnv); way != "" {
		os.Exit(client(way))
	}
	if os.Getenv(serverEnv) != "" {
		os.Exit(server())
	}
	os.Exit(m.Run())
}

// client connects, says so, and holds the connection until its input ends.
func client(way string) int {
	network, address, _ := strings.Cut(way, " ")
	c, err := connect(network, address)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("connected")
	_, _ = io.Copy(io.Discard, os.Stdin)
	_ = c.Close()
	return 0
}

// connect dials; network mapped is IPv4 by a socket of IPv6.
func connect(network, address string) (io.Closer, error) {
	if network != "mapped" {
		return new(net.Dialer).DialContext(context.Background(), network, address)
	}
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "mapped")
	return f, unix.Connect(fd, &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()})
}

// ways are how a client and a listener on loopback find each other.
var ways = map[string]struct{ listen, at, network, to string }{
	"IPv4":                       {"tcp4", "127.0.0.1:0", "tcp4", "127.0.0.1"},
	"IPv6":                       {"tcp6", "[::1]:0", "tcp6", "::1"},
	"IPv4 of an IPv6 socket":     {"tcp4", "127.0.0.1:0", "mapped", "127.0.0.1"},
	"IPv4 to a listener of both": {"tcp", "[::]:0", "tcp4", "127.0.0.1"},
}

func listen(t *testing.T, network, at string) *net.TCPListener {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), network, at)
	if err != nil {
		t.Skipf("this host has no %s: %v", network, err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln.(*net.TCPListener)
}

func accept(t *testing.T, ln *net.TCPListener) *net.TCPConn {
	t.Helper()
	_ = ln.SetDeadline(time.Now().Add(patience))
	c, err := ln.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestUser(t *testing.T) {
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			ln := listen(t, way.listen, way.at)
			to := net.JoinHostPort(way.to, strconv.Itoa(ln.Addr().(*net.TCPAddr).Port))
			t.Run("this process", func(t *testing.T) {
				c, err := connect(way.network, to)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				if uid, err := User(accept(t, ln)); err != nil || int(uid) != os.Getuid() {
					t.Errorf("User = %d, %v, want %d", uid, err, os.Getuid())
				}
			})
			t.Run("a process of another user", func(t *testing.T) {
				startAs(t, nobody, way.network+" "+to)
				if uid, err := User(accept(t, ln)); err != nil || uid != nobody {
					t.Errorf("User = %d, %v, want %d", uid, err, nobody)
				}
			})
		})
	}
}

// startAs runs client as another user until the test ends.
func startAs(t *testing.T, uid uint32, way string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can start a process of another user")
	}
	// By its link: the directory of the test's binary is for its owner only.
	command := exec.CommandContext(t.Context(), "/proc/self/exe")
	command.Env, command.Dir = []string{clientEnv + "=" + way}, "/"
	command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	in, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = command.Wait()
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "connected\n" {
		t.Fatalf("client said %q, %v", line, err)
	}
}

// pair connects this process with itself.
func pair(t *testing.T, at string) (near, far *net.TCPConn) {
	t.Helper()
	ln := listen(t, "tcp", at)
	return dialFrom(t, ln, nil), accept(t, ln)
}

func dialFrom(t *testing.T, ln *net.TCPListener, local net.Addr) *net.TCPConn {
	t.Helper()
	c, err := tryFrom(t, ln, local)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func tryFrom(t *testing.T, ln *net.TCPListener, local net.Addr) (*net.TCPConn, error) {
	t.Helper()
	d := net.Dialer{LocalAddr: local, Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		return errors.Join(raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) }), err)
	}}
	c, err := d.DialContext(t.Context(), "tcp", ln.Addr().String())
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.(*net.TCPConn), nil
}

// TestHalfClosedClient is one that has asked and waits for its answer: it still has
// its socket.
func TestHalfClosedClient(t *testing.T) {
	for _, at := range []string{"127.0.0.1:0", "[::1]:0"} {
		near, far := pair(t, at)
		if err := near.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		awaitEnd(t, far, io.EOF)
		if uid, err := User(far); err != nil || int(uid) != os.Getuid() {
			t.Errorf("%s: User = %d, %v", at, uid, err)
		}
	}
}

func awaitEnd(t *testing.T, c net.Conn, want error) {
	t.Helper()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, want) {
		t.Fatalf("read: %v, want %v", err, want)
	}
}

// TestClientThatLeft must not count as root, which is what the kernel says of a
// socket without an owner.
func TestClientThatLeft(t *testing.T) {
	for _, at := range []string{"127.0.0.1:0", "[::1]:0"} {
		near, far := pair(t, at)
		_ = near.Close()
		awaitEnd(t, far, io.EOF)
		uid, err := User(far)
		if e, ok := errors.AsType[*Error](err); !ok || e.Client != near.LocalAddr().(*net.TCPAddr).AddrPort() {
			t.Errorf("%s, closed: User = %d, %v", at, uid, err)
		}
		near, far = pair(t, at)
		_ = near.SetLinger(0)
		_ = near.Close()
		awaitEnd(t, far, unix.ECONNRESET)
		if uid, err := User(far); err == nil {
			t.Errorf("%s, reset: User = %d", at, uid)
		}
	}
}

// TestAddressesOfAnother has a client send, break off, and somebody else come from
// its port: what it sent is not his.
func TestAddressesOfAnother(t *testing.T) {
	ln := listen(t, "tcp", "127.0.0.1:0")
	for range 50 { // a third program may take the port meanwhile
		first := dialFrom(t, ln, nil)
		mine := accept(t, ln)
		if _, err := first.Write([]byte("request")); err != nil {
			t.Fatal(err)
		}
		_ = first.SetLinger(0)
		_ = first.Close()
		second, err := tryFrom(t, ln, first.LocalAddr())
		if err != nil {
			t.Log(err)
			continue
		}
		other := accept(t, ln)
		if second.LocalAddr().String() != first.LocalAddr().String() {
			t.Fatalf("the port is another: %v, %v", second.LocalAddr(), first.LocalAddr())
		}
		if uid, err := User(mine); err == nil {
			t.Errorf("User of the connection that was broken off = %d", uid)
		}
		if _, err := User(other); err != nil {
			t.Errorf("User of the second one: %v", err)
		}
		return
	}
	t.Error("the port was never free")
}

// TestListenerIsNoClient: where there is no such connection the kernel looks for a
// listener, which belongs to whoever wants to be taken for a client.
func TestListenerIsNoClient(t *testing.T) {
	for _, at := range []string{"127.0.0.1:0", "[::1]:0"} {
		a, b := listen(t, "tcp", at).Addr(), listen(t, "tcp", at).Addr()
		if uid, err := ask(addrPort(a), addrPort(b)); err == nil {
			t.Errorf("%s: user %d", at, uid)
		}
	}
	nobodyThere := netip.MustParseAddrPort("127.0.0.1:1")
	_, err := ask(nobodyThere, netip.MustParseAddrPort("127.0.0.1:2"))
	if e := (&Error{nobodyThere, err}); !errors.Is(e, unix.ENOENT) || e.Hint() == "" {
		t.Errorf("no connection: %v", err)
	}
	if _, err := User(new(net.TCPConn)); err == nil {
		t.Error("User of no connection")
	}
}
