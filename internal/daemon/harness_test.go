package daemon

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/internal/testprogram"
)

// TestMain lets the test binary be spinecertd, so that tests start, signal and
// kill the real program, with the race detector in it.
func TestMain(m *testing.M) {
	if path := os.Getenv("SPINECERTD_TEST_CLOCK"); path != "" { // with clocks that a test sets
		os.Exit(report(Run(context.Background(), Options{ConfigFile: os.Args[2], Version: "test", Log: os.Stderr, Clock: testClock(path)}), os.Stderr))
	}
	if os.Getenv("SPINECERTD_TEST_RUN") == "1" {
		os.Exit(Main(context.Background(), "test", os.Args[1:], os.Stdout, os.Stderr))
	}
	if os.Getenv("GORACE") == "" { // a program with the race detector otherwise sleeps a second before it ends
		_ = os.Setenv("GORACE", "atexit_sleep_ms=0")
	}
	os.Exit(m.Run())
}

const (
	providerName = "pcs.thirdparty.nhs.uk"
	peerName     = "proxy.national.ncrs.nhs.uk"
	patience     = 30 * time.Second
)

// host is a directory with a PKI, a configuration and, once started, a daemon.
type host struct {
	t      *testing.T
	dir    string
	root   *testpki.Authority
	sub    *testpki.Authority
	cmd    *exec.Cmd
	output *testprogram.Output
	exited chan error
	client *admin.Client
	web    string
}

func newHost(t *testing.T) *host {
	t.Helper()
	dir, err := os.MkdirTemp("", "spinecertd") // short: a unix socket path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	h := &host{t: t, dir: dir, root: testpki.NewRoot(t, testpki.KeyType("rsa-2048"))}
	h.sub = h.root.SubCA(t, testpki.KeyType("rsa-2048"))
	h.write("trust.pem", h.sub.BundlePEM(), 0o644)
	h.client = admin.NewClient(h.path("admin.sock"))
	h.web = freeAddress(t)
	return h
}

func (h *host) path(name string) string { return filepath.Join(h.dir, name) }

func (h *host) write(name string, data []byte, mode os.FileMode) string {
	h.t.Helper()
	tmp := h.path(name) + ".new"
	testpki.WriteFile(h.t, tmp, data, mode)
	if err := os.Rename(tmp, h.path(name)); err != nil {
		h.t.Fatal(err)
	}
	return h.path(name)
}

// identity issues a leaf and writes name.crt and name.key.
func (h *host) identity(name, fqdn string, opts ...testpki.Option) *testpki.Leaf {
	h.t.Helper()
	leaf := h.sub.Issue(h.t, append([]testpki.Option{testpki.Name(fqdn), testpki.DNS(fqdn), testpki.KeyType("rsa-2048")}, opts...)...)
	h.put(name, leaf)
	return leaf
}

func (h *host) put(name string, leaf *testpki.Leaf) {
	h.t.Helper()
	h.write(name+".key", leaf.KeyPEM(), 0o600)
	h.write(name+".crt", leaf.FullChainPEM(), 0o644)
}

// configure writes the configuration: environment t, what is given, and the rest.
func (h *host) configure(environment, slots, tunnels string) {
	h.t.Helper()
	h.write("spinecert.yaml", []byte(fmt.Sprintf(`default_environment: t
environments:
  t: {profile: private, trust: [trust.pem], %s}
slots:
%s
tunnels:
%s
admin: {socket: {path: admin.sock, group: "%d"}, http: {listen: "%s"}, writers: ["%d"]}
state: {directory: state}
limits: {drain: 5s}
`, environment, slots, tunnels, os.Getgid(), h.web, os.Getuid())), 0o600)
}

const providerSlot = `  pcs: {fqdn: pcs.thirdparty.nhs.uk, files: {certificate: pcs.crt, key: pcs.key}}`

// start starts the daemon and waits until it answers; env adds variables.
func (h *host) start(env ...string) {
	h.t.Helper()
	h.cmd = exec.Command(os.Args[0], "--config", h.path("spinecert.yaml"))
	h.spawn(env...)
	h.until("the daemon answers", func() bool {
		_, err := h.client.Status(context.Background())
		return err == nil
	})
}

func (h *host) spawn(env ...string) {
	h.t.Helper()
	h.output = &testprogram.Output{}
	h.cmd.Env = append(append(os.Environ(), "SPINECERTD_TEST_RUN=1"), env...)
	h.cmd.Stdout, h.cmd.Stderr = h.output, h.output
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := h.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	exited := make(chan error, 1)
	h.exited = exited
	cmd := h.cmd
	go func() { exited <- cmd.Wait() }()
	h.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		heldToNames(h.t, h.output.String())
		if h.t.Failed() {
			h.t.Logf("the daemon said:\n%s", h.output)
		}
	})
}

// stop sends a signal and returns the exit status.
func (h *host) stop(sig os.Signal) int {
	h.t.Helper()
	if err := h.cmd.Process.Signal(sig); err != nil {
		h.t.Fatal(err)
	}
	return h.wait()
}

func (h *host) wait() int {
	h.t.Helper()
	select {
	case <-h.exited:
		if out := h.output.String(); strings.Contains(out, "DATA RACE") || strings.Contains(out, "panic:") {
			h.t.Errorf("the daemon said:\n%s", out)
		}
		return h.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		h.t.Fatalf("the daemon does not end:\n%s", h.output)
		return -1
	}
}

func (h *host) until(what string, ok func() bool) {
	h.t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			h.t.Fatalf("waited in vain until %s; the daemon said:\n%s", what, h.output)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (h *host) status() admin.Status {
	h.t.Helper()
	s, err := h.client.Status(context.Background())
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

func (h *host) slot(name string) admin.Slot {
	h.t.Helper()
	for _, s := range h.status().Slots {
		if s.Name == name {
			return s
		}
	}
	h.t.Fatalf("no slot %q in status", name)
	return admin.Slot{}
}

// listen returns the address of a tunnel.
func (h *host) listen(name string) string {
	h.t.Helper()
	var address string
	h.until("tunnel "+name+" listens", func() bool {
		for _, t := range h.status().Tunnels {
			if t.Name == name && len(t.Listen) > 0 {
				address = t.Listen[0]
				return true
			}
		}
		return false
	})
	return address
}

func (h *host) get(path string) (int, string) {
	h.t.Helper()
	res, err := http.Get("http://" + h.web + path)
	if err != nil {
		h.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// metric returns the value of the series whose line starts with name{labels}.
func (h *host) metric(series string) string {
	h.t.Helper()
	_, body := h.get("/metrics")
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(series) + ` (\S+)$`).FindStringSubmatch(body)
	if m == nil {
		return ""
	}
	return m[1]
}

// freeAddress returns an address that nothing listens on. Each call uses a
// loopback address of its own, so that no connection from 127.0.0.1 gets the port
// before the daemon does.
func freeAddress(t *testing.T) string {
	t.Helper()
	n := hosts.Add(1)
	l, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.%d:0", 64+os.Getpid()%128, n/250, 1+n%250))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// backend is a local service: it answers every HTTP request with its name.
func backend(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "backend here") }), ReadHeaderTimeout: time.Minute}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	return l.Addr().String()
}
