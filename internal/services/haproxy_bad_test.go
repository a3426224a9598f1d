package services

import (
	"fmt"
	"strings"
	"testing"

	"github.com/spinecert/spinecert/internal/testpki"
)

// TestHAProxyBuffer has trust that grows beyond what one command of the socket may hold. HAProxy
// says no; with the larger buffer of the page it takes it.
func TestHAProxyBuffer(t *testing.T) {
	parallel(t)
	p := newHAProxy(t, "ecdsa-p256")
	h := p.h
	large := p.page.block("What one command may hold", "haproxy")
	s := p.bySocketAlone("within: 30s", shortProof)
	address, server := s.serve(h)
	before, files := h.service("haproxy"), h.set(target)
	bundle := h.grownTrust(30)
	refused := h.state("haproxy", "held", "reload", "reload_failed")
	t.Logf("%s\nhint: %s", refused.LastError, refused.Hint)
	if refused.Delivered.Digest != before.Delivered.Digest || refused.Desired.Digest == before.Desired.Digest || len(bundle) < 16384 {
		t.Errorf("after trust of %d bytes: %+v", len(bundle), refused)
	}
	if now := h.set(target); now["trust.pem"] != files["trust.pem"] {
		t.Error("the files are not back")
	}
	h.serves(address, ownName, h.own)

	p.page.text = replaced(t, p.page.text, "global\n", large)
	h.write("spine.cfg", []byte(p.configuration(h.path(target), address)), 0o600)
	p.anew(server)
	if exit, code := h.deliver("haproxy"); exit != 0 {
		t.Errorf("spinecert deliver haproxy --now: exit status %d, %s", exit, code)
	}
	h.until("in sync", func() bool {
		s := h.service("haproxy")
		return s.State == "in_sync" && s.Proved.Digest == s.Desired.Digest && s.Proved.Digest != before.Proved.Digest
	})
	h.serves(address, ownName, h.own)
}

// TestHAProxyBufferAndReload is the same with a reload beside the socket: it takes what the socket
// does not.
func TestHAProxyBufferAndReload(t *testing.T) {
	parallel(t)
	p := newHAProxy(t, "ecdsa-p256")
	h := p.h
	s := p.bySocket()
	address, server := s.serve(h)
	reloads := func() int { return strings.Count(server.String(), "Reloading HAProxy") }
	before := reloads() // the first delivery was one
	bundle := h.grownTrust(30)
	h.until("the large bundle is delivered", func() bool {
		s := h.service("haproxy")
		return s.State == "in_sync" && s.Proved.Digest == s.Desired.Digest && h.set(target)["trust.pem"] != sum(h.sub.BundlePEM())
	})
	if n := reloads() - before; n != 1 || len(bundle) < 16384 {
		t.Errorf("HAProxy reloaded %d times for trust of %d bytes, want 1", n, len(bundle))
	}
	p.rested(h, h.path(target))
	h.rotate()
	h.settled("haproxy", address)
}

// TestHAProxyOtherFile has HAProxy read a file that is not the delivered one.
func TestHAProxyOtherFile(t *testing.T) {
	parallel(t)
	p := newHAProxy(t, "ecdsa-p256")
	h := p.h
	s := p.bySocketAlone("within: 30s", shortProof)
	address, server := s.serve(h)
	h.write("elsewhere.pem", contents["combined"](h), 0o600)
	good := p.configuration(h.path(target), address)
	change := func(to string) {
		h.write(target+".cfg", []byte(to), 0o600)
		p.anew(server)
	}
	h.goesBack(s, address, "reload", "reload_failed",
		func() { change(replaced(t, good, h.path(target)+"/current/pcs.pem", h.path("elsewhere.pem"))) },
		func() { change(good) })
}

// grownTrust adds CAs to the trust of the environment and returns the bundle.
func (h *host) grownTrust(n int) []byte {
	h.t.Helper()
	bundle := h.sub.BundlePEM()
	for i := range n {
		bundle = append(bundle, testpki.NewRoot(h.t, testpki.Name(fmt.Sprintf("Root %d", i))).CertPEM()...)
	}
	h.write("trust.pem", bundle, 0o644)
	return bundle
}
