package consumers

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/cli"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/internal/testprogram"
)

const (
	// patience is how long a program may take for anything; each takes a fraction.
	patience = time.Minute

	ownName  = "pcs.thirdparty.nhs.uk"
	peerName = "proxy.national.ncrs.nhs.uk"
	password = "change-this" // as in the manual
)

// host is a host with a slot, and the manual's idea of where things are.
type host struct {
	t       *testing.T
	dir     string // of everything; the others may pass through it
	ip      string // a loopback address that no other test has
	section string
	config  string

	root, sub *testpki.Authority
	own       *testpki.Leaf
}

// newHost makes an identity for slot pcs, and peers: good, revoked, foreign.
func newHost(t *testing.T, section string) *host {
	t.Helper()
	dir, err := os.MkdirTemp("", "consumers") // t.TempDir is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	n := hosts.Add(1)
	h := &host{t: t, dir: dir, ip: fmt.Sprintf("127.%d.%d.%d", 64+os.Getpid()%128, n/250, 1+n%250), section: section}
	rsa := testpki.KeyType("rsa-2048")
	h.root = testpki.NewRoot(t, rsa, testpki.Name("Test Root Authority"))
	h.sub = h.root.SubCA(t, rsa, testpki.Name("Test Authentication"), testpki.PathLen(1))
	h.own = h.sub.Issue(t, rsa, testpki.DNS(ownName), testpki.IP(net.ParseIP(h.ip)))
	revoked := h.sub.Issue(t, rsa, testpki.DNS("revoked.thirdparty.nhs.uk"))
	h.peer("good", h.sub.Issue(t, rsa, testpki.DNS(peerName)))
	h.peer("revoked", revoked)
	foreign := testpki.NewRoot(t, rsa, testpki.Name("Foreign Root"))
	h.peer("foreign", foreign.SubCA(t, rsa, testpki.Name("Foreign Authentication")).Issue(t, rsa, testpki.DNS(peerName)))
	h.write("root.pem", h.root.CertPEM(), 0o644)
	h.write("foreign-root.pem", foreign.CertPEM(), 0o644)
	if err := os.MkdirAll(h.path("spine"), 0o711); err != nil {
		t.Fatal(err)
	}
	h.write("spine/password", []byte(password+"\n"), 0o600)
	h.slot(h.sub.CRL(t, testpki.Revoke(revoked.Cert.SerialNumber)))
	return h
}

func (h *host) path(name string) string { return filepath.Join(h.dir, name) }

func (h *host) write(name string, data []byte, mode os.FileMode) {
	h.t.Helper()
	testpki.WriteFile(h.t, h.path(name), data, mode)
}

// peer writes what the other side has: name.crt with its chain, name.key.
func (h *host) peer(name string, leaf *testpki.Leaf) {
	h.t.Helper()
	h.write(name+".crt", leaf.FullChainPEM(), 0o644)
	h.write(name+".key", leaf.KeyPEM(), 0o644)
}

// spinecert runs a command with the configuration of the host.
func (h *host) spinecert(args ...string) {
	h.t.Helper()
	var out, errs bytes.Buffer
	exit := cli.Main(context.Background(), "test", append(args, "--config", h.config), strings.NewReader(""), &out, &errs)
	if exit != 0 {
		h.t.Fatalf("spinecert %s: exit status %d: %s", strings.Join(args, " "), exit, errs.String())
	}
	if strings.Contains(out.String(), "note:") {
		h.t.Errorf("spinecert %s has something to say: %s", strings.Join(args, " "), out.String())
	}
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

// launch starts a program, which is ended with its children when the test ends.
func (h *host) launch(as testprogram.Account, program string, args ...string) *testprogram.Output {
	h.t.Helper()
	_, out := testprogram.Start(h.t, as, h.dir, program, args...)
	return out
}

// run runs a program to its end and returns all that it said.
func (h *host) run(as testprogram.Account, env []string, program string, args ...string) (string, error) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Env = h.dir, append(append(os.Environ(), "LC_ALL=C", "HOME="+h.dir), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// until waits for something to be so.
func (h *host) until(what string, ok func() bool) {
	h.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(20 * time.Millisecond) {
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
