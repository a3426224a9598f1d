package socketstory

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/box"
	"github.com/spinecert/spinecert/internal/hostbox"
	"github.com/spinecert/spinecert/internal/testpki"
)

const (
	ownName  = "pcs.thirdparty.nhs.uk"
	peerName = "proxy.national.ncrs.nhs.uk"
	unit     = "spinecertd.service"
	socket   = "spinecertd-ssp.socket"
	units    = "/etc/systemd/system/"
	behind   = "127.0.0.1:8080"
)

// host is a box with the daemon in the unit of the package, and a peer.
type host struct {
	hostbox.Host
	t     *testing.T
	peers *tls.Config
}

func (h *host) part(t *testing.T) *host {
	p := *h
	p.t, p.Host = t, h.Host.For(t)
	return &p
}

// newHost boots a box with all in place, and nothing started.
func newHost(t *testing.T) *host {
	t.Helper()
	b := box.Start(t)
	h := &host{Host: hostbox.New(t, b, "/usr/bin/spinecert"), t: t}
	programs := t.TempDir()
	if err := hostbox.Build(t.Context(), programs); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"spinecertd", "spinecert"} {
		h.PushFile("/usr/bin/"+name, filepath.Join(programs, name), 0o755)
	}
	for name, to := range map[string]string{unit: "systemd/system/" + unit, "spinecert.sysusers": "sysusers.d/spinecert.conf", "spinecert.tmpfiles": "tmpfiles.d/spinecert.conf"} {
		h.PushFile("/usr/lib/"+to, "../../systemd/"+name, 0o644)
	}
	h.Run("systemd-sysusers")
	h.Run("systemd-tmpfiles", "--create", "/usr/lib/tmpfiles.d/spinecert.conf")

	sub := testpki.NewRoot(t, testpki.KeyType("ecdsa-p256")).SubCA(t, testpki.KeyType("ecdsa-p256"))
	own := sub.Issue(t, testpki.KeyType("ecdsa-p256"), testpki.DNS(ownName))
	who := sub.Issue(t, testpki.KeyType("ecdsa-p256"), testpki.DNS(peerName))
	roots := x509.NewCertPool()
	roots.AddCert(sub.Root().Cert)
	h.peers = &tls.Config{RootCAs: roots, ServerName: ownName, Certificates: []tls.Certificate{who.TLS()}, MinVersion: tls.VersionTLS12}
	h.Push("/etc/spinecert/live.pem", sub.BundlePEM(), 0o644)
	h.Push("/etc/spinecert/pcs.crt", own.FullChainPEM(), 0o644)
	h.Push("/etc/spinecert/pcs.key", own.KeyPEM(), 0o640)
	h.Run("chgrp", "spinecert", "/etc/spinecert/pcs.key")
	h.backend()
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := h.Exec(context.WithoutCancel(t.Context()), "journalctl", "--no-pager", "-n", "150")
			t.Logf("the journal ends with\n%s", out)
		}
	})
	return h
}

// configure writes the configuration, with one tunnel that listens so.
func (h *host) configure(listen string) {
	h.t.Helper()
	h.Push("/etc/spinecert/spinecert.yaml", fmt.Appendf(nil, `environments:
  live: {profile: private, trust: [live.pem], revocation: "off"}
slots:
  pcs: {fqdn: %s, files: {certificate: pcs.crt, key: pcs.key}}
tunnels:
  ssp-in: {direction: inbound, listen: [%s], forward: "%s", slot: pcs, peers: [%s]}
limits: {drain: 5s}
`, ownName, listen, behind, peerName), 0o644)
}

var fileBlock = regexp.MustCompile("(?s)```ini\n# (/\\S+)\n(.*?)```")

// page puts the units of the page into the box.
func (h *host) page() {
	h.t.Helper()
	text, err := os.ReadFile("../../docs/sockets.md")
	if err != nil {
		h.t.Fatal(err)
	}
	found := fileBlock.FindAllStringSubmatch(string(text), -1)
	if len(found) != 3 {
		h.t.Fatalf("the page has %d units, want 3", len(found))
	}
	for _, f := range found {
		h.Push(f[1], []byte(f[2]), 0o644)
	}
	h.Run("systemctl", "daemon-reload")
}

// backend is the service behind the tunnel: it sends back what it gets.
func (h *host) backend() {
	h.t.Helper()
	l, err := h.Listen(h.t.Context(), "tcp", behind)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			}()
		}
	}()
}

// use connects through the tunnel, and wants a line back.
func (h *host) use(ctx context.Context, address string) error {
	bounded, cancel := context.WithTimeout(ctx, hostbox.Patience)
	defer cancel()
	raw, err := h.Dial(bounded, "tcp", address)
	if err != nil {
		return err
	}
	c := tls.Client(raw, h.peers)
	defer c.Close()
	deadline, _ := bounded.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return err
	}
	if _, err := io.WriteString(c, "line"); err != nil {
		return err
	}
	_, err = io.ReadFull(c, make([]byte, 4))
	return err
}

// works is use that must succeed.
func (h *host) works(address string) {
	h.t.Helper()
	if err := h.use(h.t.Context(), address); err != nil {
		h.t.Errorf("use %s: %v", address, err)
	}
}

// traffic makes new connections all the time, until the function that it returns is called. That one wants none to have failed.
func (h *host) traffic(address string) (served *atomic.Int64, end func()) {
	h.t.Helper()
	served = new(atomic.Int64)
	ctx, cancel := context.WithCancel(h.t.Context())
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := h.use(context.WithoutCancel(ctx), address); err != nil {
					failed.Store(&err)
					return
				}
				served.Add(1)
				select {
				case <-ctx.Done():
				case <-time.After(2 * time.Millisecond):
				}
			}
		})
	}
	ended := false
	end = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		wg.Wait()
		if err := failed.Load(); err != nil {
			h.t.Errorf("after %d connections one failed: %v", served.Load(), *err)
		}
		h.t.Logf("%d connections", served.Load())
	}
	h.t.Cleanup(end)
	return served, end
}

// show returns a property of the daemon's unit.
func (h *host) show(property string) string {
	h.t.Helper()
	return h.Run("systemctl", "show", "--value", "-p", property, unit)
}

// logged waits for a line of the daemon's log with all words.
func (h *host) logged(words ...string) {
	h.t.Helper()
	h.Until(fmt.Sprintf("the daemon has said %q", words), func() bool {
	line:
		for line := range strings.Lines(h.Run("journalctl", "--no-pager", "-o", "verbose", "-t", "spinecertd")) {
			for _, word := range words {
				if !strings.Contains(line, word) {
					continue line
				}
			}
			return true
		}
		return false
	})
}

// refused reports whether nobody listens.
func (h *host) refused(address string) bool {
	c, err := h.Dial(h.t.Context(), "tcp", address)
	if err == nil {
		_ = c.Close()
	}
	var op *net.OpError
	return errors.As(err, &op)
}
