package tunnel

import (
	"bufio"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/spinecert/spinecert/internal/testpki"
)

const heirEnv = "SPINECERT_TEST_HEIR"

// will is what the process that takes over is told, on its standard input.
type will struct {
	Sockets []Inherited // their files are descriptors 3 and following
	Listen  []Listen
	Forward string
	Root    []byte
	Chain   [][]byte
	Key     []byte
}

// TestHandOver connects all the time, over TCP and a unix socket, while a second process
// takes the sockets over.
func TestHandOver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "in.sock")
	oldEnd, newEnd := newBackend(t, "tcp", nil, signed("old")), newBackend(t, "tcp", nil, signed("new"))
	s := start(t, Inbound, tls.VersionTLS12, oldEnd.Addr(), func(c *Config) {
		c.Listen = append(c.Listen, Listen{Network: "unix", Address: path, Mode: 0o660})
	})
	addresses := s.Addrs()
	before, _ := identify(path)
	established := s.secure(t, tls.VersionTLS12, nil)
	answers(t, established, "old")

	callers := newCallers(t, s.spine, addresses)
	callers.await(t, "old", 20)

	h := s.bequeath(t, newEnd.Addr().String(), func(w *will) { w.Listen[1].Mode = 0o600 })
	h.expect("staged")
	callers.await(t, "old", 20)
	if n := callers.sum("new"); n > 0 {
		t.Errorf("%d connections went to the new process before it was asked to serve", n)
	}
	h.say("serve")
	h.expect(fmt.Sprint("serves ", addresses))
	callers.await(t, "new", 5) // both accept
	callers.await(t, "old", 5)
	assertNonBlocking(t, s.gate)

	s.gate.Relinquish()
	drained := make(chan int)
	go func() { drained <- s.Drain(t.Context()) }()
	callers.await(t, "new", 50)
	answers(t, established, "old")
	_ = established.Close()
	if cut := <-drained; cut > 0 {
		t.Errorf("the old process cut %d connections", cut)
	}
	callers.await(t, "new", 50)
	callers.end()
	if now, _ := identify(path); now != before {
		t.Error("the file of the unix socket is another one")
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket file has not the mode of the new configuration: %v, %v", info, err)
	}
	h.say("end")
	h.expect("ended")
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the new process left its socket file: %v", err)
	}
	if c, err := net.Dial("tcp", addresses[0].String()); err == nil {
		_ = c.Close()
		t.Error("somebody still listens")
	}
}

// signed answers each connection with a word, and echoes.
func signed(word string) func(net.Conn) {
	return func(c net.Conn) {
		b := make([]byte, 1)
		for {
			if _, err := io.ReadFull(c, b); err != nil {
				return
			}
			if _, err := io.WriteString(c, word); err != nil {
				return
			}
		}
	}
}

// answers expects one of the two words.
func answers(t *testing.T, c net.Conn, want string) {
	t.Helper()
	if got, err := ask(c); err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

func ask(c net.Conn) (string, error) {
	got := make([]byte, 3)
	if _, err := c.Write([]byte("?")); err != nil {
		return "", err
	}
	_, err := io.ReadFull(c, got)
	return string(got), err
}

// callers connect all the time, and count who answered.
type callers struct {
	stop   chan struct{}
	wg     sync.WaitGroup
	counts sync.Map // word -> *atomic.Int64
}

func newCallers(t *testing.T, in *spine, addresses []net.Addr) *callers {
	c := &callers{stop: make(chan struct{})}
	config := in.clientConfig(tls.VersionTLS12)
	for _, address := range addresses {
		for range 3 {
			c.wg.Go(func() {
				for {
					select {
					case <-c.stop:
						return
					default:
					}
					word, err := call(address, config)
					if err != nil {
						t.Errorf("connect to %v: %v", address, err)
						return
					}
					c.count(word).Add(1)
				}
			})
		}
	}
	t.Cleanup(c.end)
	return c
}

func call(address net.Addr, config *tls.Config) (string, error) {
	raw, err := net.Dial(address.Network(), address.String())
	if err != nil {
		return "", err
	}
	_ = raw.SetDeadline(time.Now().Add(patience))
	c := tls.Client(raw, config)
	defer c.Close()
	return ask(c)
}

func (c *callers) count(word string) *atomic.Int64 {
	n, _ := c.counts.LoadOrStore(word, new(atomic.Int64))
	return n.(*atomic.Int64)
}

func (c *callers) sum(word string) int64 { return c.count(word).Load() }

// await waits for n more answers of this word.
func (c *callers) await(t *testing.T, word string, n int64) {
	t.Helper()
	from, end := c.sum(word), time.Now().Add(patience)
	for c.sum(word) < from+n {
		if t.Failed() || time.Now().After(end) {
			t.Fatalf("%d more answers of %q, want %d", c.sum(word)-from, word, n)
		}
		time.Sleep(time.Millisecond)
	}
}

func (c *callers) end() {
	select {
	case <-c.stop:
	default:
		close(c.stop)
	}
	c.wg.Wait()
}

// successor is the second process.
type successor struct {
	t   *testing.T
	in  io.WriteCloser
	out *bufio.Scanner
}

// bequeath starts a process with the sockets of s.
func (s *setup) bequeath(t *testing.T, forward string, change func(*will)) *successor {
	t.Helper()
	sockets, err := s.gate.Listening()
	if err != nil {
		t.Fatal(err)
	}
	defer closeFiles(sockets)
	w := &will{Sockets: sockets, Listen: s.config.Listen, Forward: forward, Root: s.spine.root.Cert.Raw, Chain: s.spine.server.TLS().Certificate}
	if w.Key, err = x509.MarshalPKCS8PrivateKey(s.spine.server.Key); err != nil {
		t.Fatal(err)
	}
	change(w)
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), os.Args[0]) // ends with its standard input
	cmd.Env, cmd.Stderr = append(os.Environ(), heirEnv+"=1"), os.Stderr
	for _, i := range sockets {
		cmd.ExtraFiles = append(cmd.ExtraFiles, i.File)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the second process: %v", err)
		}
	})
	assertNonBlocking(t, s.gate)
	h := &successor{t: t, in: in, out: bufio.NewScanner(out)}
	if err := json.NewEncoder(in).Encode(w); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *successor) say(word string) {
	h.t.Helper()
	if _, err := fmt.Fprintln(h.in, word); err != nil {
		h.t.Fatal(err)
	}
}

func (h *successor) expect(line string) {
	h.t.Helper()
	if !h.out.Scan() || h.out.Text() != line {
		h.t.Fatalf("the second process says %q, %v, want %q", h.out.Text(), h.out.Err(), line)
	}
}

// heir is the second process.
func heir() int {
	tb := &mainTB{}
	in := json.NewDecoder(os.Stdin)
	var w will
	if err := in.Decode(&w); err != nil {
		tb.Fatal(err)
	}
	key, err := x509.ParsePKCS8PrivateKey(w.Key)
	if err != nil {
		tb.Fatal(err)
	}
	root, err := x509.ParseCertificate(w.Root)
	if err != nil {
		tb.Fatal(err)
	}
	known := &spine{root: &testpki.Authority{Cert: root}, server: &testpki.Leaf{Key: key.(crypto.Signer)}}
	for _, der := range w.Chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			tb.Fatal(err)
		}
		known.server.Chain = append(known.server.Chain, c)
	}
	known.server.Cert, known.server.Chain = known.server.Chain[0], known.server.Chain[1:]
	endpoint := &fakeEndpoint{}
	endpoint.config.Store(known.serverConfig(tls.VersionTLS12))

	gate := NewGate(Limits{})
	for i := range w.Sockets {
		w.Sockets[i].File = os.NewFile(uintptr(3+i), w.Sockets[i].Address)
	}
	gate.Inherit(w.Sockets)
	s := New(tb.Context(), "under-test", gate, Observer{})
	if err := s.Update(Config{Direction: Inbound, Endpoint: endpoint, Listen: w.Listen, Forward: Forward{"tcp", w.Forward}}); err != nil {
		tb.Fatal(err)
	}
	lines := bufio.NewScanner(io.MultiReader(in.Buffered(), os.Stdin))
	fmt.Println("staged")
	for lines.Scan() {
		switch lines.Text() {
		case "serve":
			s.SetReady(true)
			gate.CloseInherited()
			fmt.Println("serves", s.Addrs())
		case "end":
			s.Close()
			fmt.Println("ended")
		}
	}
	return 0
}

// assertNonBlocking fails if somebody has made a socket one that blocks: for all
// who have it, and accepting would then hold up closing.
func assertNonBlocking(t *testing.T, g *Gate) {
	t.Helper()
	g.sockets.mu.Lock()
	defer g.sockets.mu.Unlock()
	for key, s := range g.sockets.byKey {
		err := control(s.ln.(syscall.Conn), func(fd int) error {
			flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
			if err == nil && flags&unix.O_NONBLOCK == 0 {
				err = errors.Join(errors.New("it blocks"), unix.SetNonblock(fd, true)) // or the test would not end
			}
			return err
		})
		if err != nil {
			t.Errorf("socket %q: %v", key, err)
		}
	}
}
