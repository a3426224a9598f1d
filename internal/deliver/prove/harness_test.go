package prove

import (
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

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/deliver/failure"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/internal/testprogram"
	"github.com/spinecert/spinecert/pki"
)

const (
	// patience is how long anything may take; all takes a fraction.
	patience = 20 * time.Second

	ownName   = "pcs.thirdparty.nhs.uk"
	otherName = "other.thirdparty.nhs.uk"
)

// hosts counts loopback addresses given away: no connection from 127.0.0.1 gets a port
// of one of them meanwhile.
var hosts atomic.Int64

// ownIP returns a loopback address that nobody else has.
func ownIP() string {
	n := hosts.Add(1)
	return fmt.Sprintf("127.%d.%d.%d", 64+os.Getpid()%128, 100+n/250, 1+n%250)
}

// host is a host with a service, whose files the tests write and replace.
type host struct {
	t         testing.TB
	dir       string // the other users may pass through it
	ip        string
	root, sub *testpki.Authority
	own, next *testpki.Leaf // of the same name
	stranger  *testpki.Leaf // of another root
}

func newHost(t testing.TB) *host {
	t.Helper()
	dir, err := os.MkdirTemp("", "prove") // t.TempDir is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	h := &host{t: t, dir: dir, ip: ownIP()}
	rsa := testpki.KeyType("rsa-2048")
	h.root = testpki.NewRoot(t, rsa, testpki.Name("Test Root Authority"))
	h.sub = h.root.SubCA(t, rsa, testpki.Name("Test Authentication"))
	h.own = h.sub.Issue(t, rsa, testpki.DNS(ownName))
	h.next = h.sub.Issue(t, rsa, testpki.DNS(ownName))
	foreign := testpki.NewRoot(t, rsa, testpki.Name("Foreign Root"))
	h.stranger = foreign.SubCA(t, rsa, testpki.Name("Foreign Authentication")).Issue(t, rsa, testpki.DNS(otherName))
	for name, leaf := range map[string]*testpki.Leaf{"own": h.own, "next": h.next, "other": h.stranger} {
		h.write(name+".pem", leaf.FullChainPEM(), 0o644)
		h.write(name+".key", leaf.KeyPEM(), 0o644)
	}
	h.write("chain.pem", h.own.ChainPEM(), 0o644)
	h.write("leaf.pem", h.own.CertPEM(), 0o644)
	h.write("root.pem", h.root.CertPEM(), 0o644)
	h.write("foreign.pem", foreign.CertPEM(), 0o644)
	return h
}

// identity is a leaf as a slot has it.
func identity(t testing.TB, leaf *testpki.Leaf) *pki.Identity {
	t.Helper()
	id, err := pki.NewIdentity(append(leaf.Chain, leaf.Cert), leaf.Key)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func wants(t testing.TB, leaf *testpki.Leaf) Want {
	t.Helper()
	id := identity(t, leaf)
	return Want{Chain: id.Certificates(), Identity: id}
}

func (h *host) want(leaf *testpki.Leaf) Want {
	h.t.Helper()
	return wants(h.t, leaf)
}

func (h *host) path(name string) string { return filepath.Join(h.dir, name) }

func (h *host) write(name string, data []byte, mode os.FileMode) {
	h.t.Helper()
	testpki.WriteFile(h.t, h.path(name), data, mode)
}

// freeAddress returns an address that nothing listens on.
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
func (h *host) launch(as testprogram.Account, program string, args ...string) (*exec.Cmd, *testprogram.Output) {
	h.t.Helper()
	return testprogram.Start(h.t, as, h.dir, program, args...)
}

// run runs a program to its end.
func (h *host) run(as testprogram.Account, program string, args ...string) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Env = h.dir, append(os.Environ(), "LC_ALL=C", "HOME="+h.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	cmd.WaitDelay = time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		h.t.Fatalf("%s: %v: %s", program, err, out)
	}
}

// until waits for something to be so.
func (h *host) until(what string, ok func() bool) {
	h.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			h.t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// listening waits for a server at host:port or unix:/path.
func (h *host) listening(address string) {
	h.t.Helper()
	h.until(address+" listens", func() bool {
		c, err := dial(h.t.Context(), address)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

// probe is one of three handshakes, with more time than any takes.
func probe(address, protocol string) config.Probe {
	return config.Probe{Address: address, Protocol: protocol, Stable: 3, Within: patience}
}

// proves fails the test unless the service serves the leaf.
func (h *host) proves(p config.Probe, leaf *testpki.Leaf) {
	h.t.Helper()
	seen, err := Prove(h.t.Context(), p, h.want(leaf))
	if err != nil || len(seen.Chain) == 0 || !seen.Chain[0].Equal(leaf.Cert) {
		h.t.Errorf("prove %s: %v, seen %d certificates", place(p), err, len(seen.Chain))
	}
}

// refuses fails the test unless Look ends with the reason, and a text in its error.
func (h *host) refuses(p config.Probe, leaf *testpki.Leaf, reason, text string) Seen {
	h.t.Helper()
	seen, err := Look(h.t.Context(), p, identity(h.t, leaf))
	if err == nil {
		err = Match(seen, h.want(leaf))
	}
	is(h.t, err, reason, text)
	return seen
}

// refusesLate is for a server that refuses us after the handshake, which a busy host
// may be too slow for now and then.
func (h *host) refusesLate(p config.Probe, leaf *testpki.Leaf) (seen Seen) {
	h.t.Helper()
	var err error
	for range 20 {
		if seen, err = Look(h.t.Context(), p, identity(h.t, leaf)); err != nil {
			break
		}
	}
	is(h.t, err, failure.RefusedUs, "certificate")
	return seen
}

// is fails the test unless an error has the reason, the text and a hint.
func is(t testing.TB, err error, reason, text string) {
	t.Helper()
	if failure.ReasonOf(err, "") != reason || !strings.Contains(fmt.Sprint(err), text) {
		t.Errorf("%s (%v), want %s with %q", failure.ReasonOf(err, "no reason"), err, reason, text)
	}
	if pki.Hint(err) == "" && reason != failure.Interrupted {
		t.Errorf("no hint for %v", err)
	}
}
