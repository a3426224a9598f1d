package daemon

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/internal/testprogram"
)

// hosts counts loopback addresses given away.
var hosts atomic.Int64

// child is a program on the other side of a tunnel.
type child struct {
	cmd    *exec.Cmd
	output *testprogram.Output
}

// launch starts a program with open files as descriptors 3 and up. It is killed
// when the test ends.
func launch(t *testing.T, files []*os.File, program string, args ...string) *child {
	t.Helper()
	c := &child{cmd: exec.Command(program, args...), output: &testprogram.Output{}}
	c.cmd.ExtraFiles = files
	c.cmd.Stdout, c.cmd.Stderr = c.output, c.output
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", program, c.output)
		}
	})
	return c
}

// listeners returns n listening sockets for a child to inherit, and their
// addresses: the kernel chooses the ports, and nobody else can take them meanwhile.
func listeners(t *testing.T, n int) (files []*os.File, addresses []string) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		addresses = append(addresses, l.Addr().String())
		_ = l.Close()
		t.Cleanup(func() { _ = f.Close() })
		files = append(files, f)
	}
	return files, addresses
}

// run runs a program to its end, within patience, and returns what it said.
func run(t *testing.T, input, program string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// runDaemon runs the daemon where it is expected to end by itself, and returns its
// exit status and what it said.
func (h *host) runDaemon(args ...string) (int, string) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], append(args, "--config", h.path("spinecert.yaml"))...)
	cmd.Env = append(os.Environ(), "SPINECERTD_TEST_RUN=1")
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		h.t.Fatalf("the daemon does not end: %v\n%s", err, out)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// ask sends an HTTP request through a listener and returns all of the answer.
func ask(network, address string) (string, error) {
	conn, err := net.DialTimeout(network, address, 10*time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, "GET / HTTP/1.0\r\nHost: peer\r\n\r\n"); err != nil {
		return "", err
	}
	data, err := io.ReadAll(conn)
	return string(data), err
}

// through returns an HTTP client whose connections all go to one unix socket.
func through(t *testing.T, socket string) *http.Client {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

// fetch returns status, headers and body of a page.
func fetch(c *http.Client, url string) (int, http.Header, string, error) {
	res, err := c.Get(url)
	if err != nil {
		return 0, nil, "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res.StatusCode, res.Header, string(body), err
}

// counted waits until a tunnel has counted n handshakes of a result and reason.
func (h *host) counted(tunnel, result, reason string, n int) {
	h.t.Helper()
	series := fmt.Sprintf(`spinecert_tunnel_handshakes_total{reason="%s",result="%s",tunnel="%s"}`, reason, result, tunnel)
	h.until(fmt.Sprintf("%s is %d", series, n), func() bool { return h.metric(series) == fmt.Sprint(n) })
}

// logged waits for a line of the daemon's log that has all the words.
func (h *host) logged(words ...string) {
	h.t.Helper()
	h.until("the log has a line with "+strings.Join(words, " "), func() bool {
	line:
		for _, l := range strings.Split(h.output.String(), "\n") {
			for _, w := range words {
				if !strings.Contains(l, w) {
					continue line
				}
			}
			return true
		}
		return false
	})
}

// foreign is a leaf of a PKI that the host does not trust, and its root.
func foreign(t *testing.T, name string) (*testpki.Leaf, *testpki.Authority) {
	t.Helper()
	root := testpki.NewRoot(t, testpki.Name("Foreign Root"))
	return root.SubCA(t, testpki.Name("Foreign SubCA")).Issue(t, testpki.Name(name), testpki.DNS(name)), root
}

// revocation writes CRLs of both CAs; serials are those of the issuing one.
func (h *host) revocation(leaves ...*testpki.Leaf) {
	h.t.Helper()
	var opts []testpki.CRLOption
	for _, l := range leaves {
		opts = append(opts, testpki.Revoke(l.Cert.SerialNumber))
	}
	h.write("sub.crl", h.sub.CRL(h.t, opts...), 0o644)
	if _, err := os.Stat(h.path("root.crl")); err != nil {
		h.write("root.crl", h.root.CRL(h.t), 0o644)
	}
}

const requireCRLs = "revocation: require, crl: {files: [sub.crl, root.crl]}"

// reconfigure replaces text in the configuration and reloads it.
func (h *host) reconfigure(old, now string) {
	h.t.Helper()
	data, err := os.ReadFile(h.path("spinecert.yaml"))
	if err != nil {
		h.t.Fatal(err)
	}
	if !strings.Contains(string(data), old) {
		h.t.Fatalf("the configuration has no %q", old)
	}
	h.write("spinecert.yaml", []byte(strings.ReplaceAll(string(data), old, now)), 0o600)
	if _, err := h.client.Reload(context.Background()); err != nil {
		h.t.Fatal(err)
	}
}
