package services

import (
	"syscall"
	"testing"
)

// TestNginxOldWorker has the master of nginx asleep when it is told: its worker answers on
// with the old certificate. The proof waits, and is not deceived.
func TestNginxOldWorker(t *testing.T) {
	parallel(t)
	n := newNginx(t, "ecdsa-p256")
	address, server := n.program("By signal").serve(n.h)
	old := n.h.own
	signal(t, server, syscall.SIGSTOP)
	n.h.rotate()
	n.h.until("nginx is told", func() bool {
		s := n.h.service("nginx")
		return s.State == "delivering" && s.Delivered.Leaf == fingerprint(n.h.own) && s.Proved.Leaf == fingerprint(old)
	})
	for range 5 {
		n.h.serves(address, ownName, old)
		if s := n.h.service("nginx"); s.State != "delivering" {
			t.Errorf("an old worker serves, and the service says %+v", s)
		}
	}
	signal(t, server, syscall.SIGCONT)
	n.h.settled("nginx", address)
}

func signal(t *testing.T, p *process, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(p.pid(), sig); err != nil {
		t.Fatal(err)
	}
}

// TestNginxIsDown rotates while nothing runs. That is no fault of the set: it stays, for
// nginx to start with.
func TestNginxIsDown(t *testing.T) {
	parallel(t)
	n := newNginx(t, "ecdsa-p256")
	directory := n.h.path(target)
	address, server := n.program("Without systemd", "within: 30s", shortProof).serve(n.h)
	server.end()
	n.h.rotate()
	n.h.until("the service has failed", func() bool {
		s := n.h.service("nginx")
		return s.State == "failed" && s.Step == "reload" && s.Delivered.Leaf == fingerprint(n.h.own)
	})
	n.start(directory, address)
	n.h.settled("nginx", address) // by itself
}

// TestNginxOtherName has a second name with a certificate of its own, which a rotation
// forgets, as the page says: each name that is to have the certificate is probed.
func TestNginxOtherName(t *testing.T) {
	const otherName = "other.thirdparty.nhs.uk"
	parallel(t)
	n := newNginx(t, "ecdsa-p256")
	h := n.h
	h.write("pinned.pem", h.own.FullChainPEM(), 0o600)
	h.write("pinned.key", h.own.KeyPEM(), 0o600)
	directory := h.path(target)
	probe := "    probe: {address: \"127.0.0.1:443\", server_name: pcs.thirdparty.nhs.uk, stable: 3, within: 30s}\n"
	p := n.program("Without systemd")
	p.services = func(_ *host, directory, address string) string {
		text := n.page.block("Several names", "yaml", "127.0.0.1:443", address, "within: 30s", shortProof)
		return replaced(t, n.services(directory, address, "Without systemd"), replaced(t, probe, "127.0.0.1:443", address), text)
	}
	other := func(address string, files ...string) {
		text := n.page.block("Several names", "nginx", "listen 443", "listen "+address, "/etc/nginx/spine", directory)
		n.h.write("extra/other.conf", []byte(replaced(t, text, files...)), 0o600)
	}
	p.start = func(_ *host, directory, address string) *process {
		other(address, directory+"/current/fullchain.pem", h.path("pinned.pem"), directory+"/current/key.pem", h.path("pinned.key"))
		return n.start(directory, address)
	}
	address, _ := p.serve(h)
	h.goesBack(p, address, "prove", "wrong_certificate", func() {}, func() { other(address) })
	h.serves(address, otherName, h.own)
}
