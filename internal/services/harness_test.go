package services

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/daemon"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/internal/testprogram"
)

const (
	// patience is how long anything may take; each takes a fraction.
	patience = time.Minute

	ownName  = "pcs.thirdparty.nhs.uk"
	peerName = "proxy.national.ncrs.nhs.uk"
)

// TestMain lets the test binary be spinecertd too.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "spinecertd" {
		os.Exit(daemon.Main(context.Background(), "test", os.Args[1:], os.Stdout, os.Stderr))
	}
	if os.Getenv("GORACE") == "" { // a program with the race detector otherwise sleeps a second before it ends
		_ = os.Setenv("GORACE", "atexit_sleep_ms=0")
	}
	os.Exit(m.Run())
}

// turns are those of the tests that run at a time, whatever the machine has.
var turns = make(chan struct{}, 2)

// parallel is t.Parallel for a test that starts programs: it waits for its turn.
func parallel(t *testing.T) {
	t.Helper()
	t.Parallel()
	turns <- struct{}{}
	t.Cleanup(func() { <-turns }) // the first to be registered, so that everything else has ended
}

// host is a host with slot pcs of environment live: a directory, a PKI, programs.
type host struct {
	t   *testing.T
	dir string // of everything: the others may pass through it, and its path is short
	ip  string // a loopback address that no other test has

	keys      testpki.Option // the kind of all keys
	root, sub *testpki.Authority
	own       *testpki.Leaf // what the files of the slot hold
	peer      *testpki.Leaf // of whoever connects
	revoked   []testpki.CRLOption

	daemon *process
	config string // of the daemon, once there is one
}

// newHost makes a PKI and the files that slot pcs has in [host.configure]. kind is
// that of all keys, as in [testpki.NewKey].
func newHost(t *testing.T, kind string) *host {
	t.Helper()
	dir, err := os.MkdirTemp("", "svc") // t.TempDir is closed to other users, and too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	n := hosts.Add(1)
	h := &host{t: t, dir: dir, keys: testpki.KeyType(kind), ip: fmt.Sprintf("127.%d.%d.%d", 64+os.Getpid()%128, n/250, 1+n%250)}
	h.root = testpki.NewRoot(t, h.keys, testpki.Name("Test Root Authority"))
	h.sub = h.root.SubCA(t, h.keys, testpki.Name("Test Authentication"))
	h.peer = h.issue(peerName)
	h.write("trust.pem", h.sub.BundlePEM(), 0o644)
	h.write("root.crl", h.root.CRL(t), 0o644)
	h.writeCRL()
	h.rotate()
	return h
}

func (h *host) path(name string) string { return filepath.Join(h.dir, name) }

// write puts a file in place by rename.
func (h *host) write(name string, data []byte, mode os.FileMode) {
	h.t.Helper()
	tmp := h.path(name) + ".new"
	testpki.WriteFile(h.t, tmp, data, mode)
	if err := os.Rename(tmp, h.path(name)); err != nil {
		h.t.Fatal(err)
	}
}

// mkdir makes a directory that others may pass through, and nobody else may write.
func (h *host) mkdir(name string) {
	h.t.Helper()
	if err := os.MkdirAll(h.path(name), 0o755); err != nil {
		h.t.Fatal(err)
	}
}

// issue makes a certificate for a name.
func (h *host) issue(name string) *testpki.Leaf {
	h.t.Helper()
	return h.sub.Issue(h.t, h.keys, testpki.DNS(name))
}

// writeCRL makes the list of the subCA anew, with all that was revoked.
func (h *host) writeCRL() []byte {
	h.t.Helper()
	crl := h.sub.CRL(h.t, h.revoked...)
	h.write("sub.crl", crl, 0o644)
	return crl
}

// revoke puts a certificate on the list of the subCA, for good.
func (h *host) revoke(leaf *testpki.Leaf) {
	h.t.Helper()
	h.revoked = append(h.revoked, testpki.Revoke(leaf.Cert.SerialNumber))
	h.writeCRL()
}

// rotate puts a new certificate and key into the files of the slot.
func (h *host) rotate() *testpki.Leaf {
	h.t.Helper()
	return h.put(h.issue(ownName))
}

// put puts a certificate and its key into the files of the slot, each by rename.
func (h *host) put(leaf *testpki.Leaf) *testpki.Leaf {
	h.t.Helper()
	h.own = leaf
	h.write("pcs.key", leaf.KeyPEM(), 0o600)
	h.write("pcs.crt", leaf.FullChainPEM(), 0o644)
	return leaf
}

// hosts counts loopback addresses given away.
var hosts atomic.Int64

// freeAddress returns an address that nothing listens on, on the loopback address
// of the host: no connection from 127.0.0.1 gets the port meanwhile.
func (h *host) freeAddress() string {
	h.t.Helper()
	l, err := net.Listen("tcp", h.ip+":0")
	if err != nil {
		h.t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// exists reports whether there is something at a path, behind links.
func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// process is a program that runs.
type process struct {
	*testprogram.Output
	cmd    *exec.Cmd
	exited chan struct{} // closed when it has ended
}

// pid returns its process ID, which is also that of its group.
func (p *process) pid() int { return p.cmd.Process.Pid }

// ended reports whether it has.
func (p *process) ended() bool {
	select {
	case <-p.exited:
		return true
	default:
		return false
	}
}

// end ends a program with its children, and waits for it.
func (p *process) end() {
	_ = syscall.Kill(-p.pid(), syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(5 * time.Second):
	}
	_ = syscall.Kill(-p.pid(), syscall.SIGKILL)
	<-p.exited
}

// launch starts a program, which is ended with its children when the test ends.
func (h *host) launch(program string, args ...string) *process {
	h.t.Helper()
	return h.start(exec.Command(program, args...), program)
}

func (h *host) start(cmd *exec.Cmd, name string) *process {
	h.t.Helper()
	p := &process{Output: &testprogram.Output{}, cmd: cmd, exited: make(chan struct{})}
	cmd.Dir, cmd.Stdout, cmd.Stderr = h.dir, p.Output, p.Output
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	go func() { _ = cmd.Wait(); close(p.exited) }()
	h.t.Cleanup(func() {
		p.end()
		if h.t.Failed() {
			h.t.Logf("%s said:\n%s", name, p)
		}
	})
	return p
}

// run runs a program to its end and returns all that it said.
func (h *host) run(program string, args ...string) (string, error) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Env = h.dir, append(os.Environ(), "LC_ALL=C", "HOME="+h.dir)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// mustRun is run for what must succeed.
func (h *host) mustRun(program string, args ...string) {
	h.t.Helper()
	if out, err := h.run(program, args...); err != nil {
		h.t.Fatalf("%s %q: %v: %s", program, args, err, out)
	}
}

// dropped returns a user and a group that a server started by root may run its
// workers as; ok is false where the tests have no right to be another.
func (h *host) dropped() (name, group string, ok bool) {
	h.t.Helper()
	if os.Geteuid() != 0 {
		return "", "", false
	}
	u, err := user.Lookup("nobody")
	if err != nil {
		h.t.Fatal(err)
	}
	g, err := user.LookupGroupId(u.Gid)
	if err != nil {
		h.t.Fatal(err)
	}
	return u.Username, g.Name, true
}

// ids returns the user and the group of the tests.
func ids() (uid, gid string) { return strconv.Itoa(os.Getuid()), strconv.Itoa(os.Getgid()) }

// until waits for something to be so.
func (h *host) until(what string, ok func() bool) {
	h.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			h.t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// listening waits for a server.
func (h *host) listening(address string) {
	h.t.Helper()
	h.until(address+" listens", func() bool {
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}
