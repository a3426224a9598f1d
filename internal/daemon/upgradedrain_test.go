package daemon

import (
	"context"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/testpki"
)

// isCut waits until the other side has closed a connection.
func (o *open) isCut() bool {
	_ = o.SetReadDeadline(time.Now().Add(patience))
	_, err := o.Read(make([]byte, 1))
	return err != nil && !strings.Contains(err.Error(), "timeout")
}

// TestDrainFollowsReload: a peer that is permitted no longer is cut by the process that drains, and also by one that drains
// behind another; one that is permitted stays.
func TestDrainFollowsReload(t *testing.T) {
	for _, how := range []string{"reloaded after the upgrade", "changed before the upgrade", "reloaded after two upgrades"} {
		t.Run(how, func(t *testing.T) {
			h := newHost(t)
			for name, fqdn := range map[string]string{"pcs": providerName, "peer": peerName, "other": "other.nhs.uk"} {
				h.identity(name, fqdn)
			}
			h.configure(`revocation: "off"`, providerSlot, strings.Replace(inbound(backend(t)), peerName, peerName+", other.nhs.uk", 1))
			h.rewrite("drain: 5s", "drain: 1h")
			h.startInstalled()
			removed, stays := h.keepOpen(h.listen("ssp-in"), "other"), h.keepOpen(h.listen("ssp-in"), "peer")
			if strings.HasPrefix(how, "changed") {
				h.rewrite(peerName+", other.nhs.uk", peerName)
			}
			h.upgrade()
			if strings.HasSuffix(how, "two upgrades") {
				h.upgrade()
			}
			if strings.HasPrefix(how, "reloaded") {
				h.reconfigure(peerName+", other.nhs.uk", peerName)
			}
			if !removed.isCut() {
				t.Error("a peer that was removed is still served by the process that drains")
			}
			if err := stays.use(); err != nil {
				t.Errorf("a peer that is permitted was cut: %v", err)
			}
		})
	}
}

// TestDrainFollowsList: a list that is carried to the new process cuts in the old one.
func TestDrainFollowsList(t *testing.T) {
	h := newHost(t)
	peer := h.identity("peer", peerName)
	h.identity("pcs", providerName)
	h.configure("revocation: prefer", providerSlot, inbound(backend(t)))
	h.rewrite("drain: 5s", "drain: 1h")
	h.startInstalled()
	old := h.keepOpen(h.listen("ssp-in"), "peer")
	h.upgrade()
	fresh := h.keepOpen(h.listen("ssp-in"), "peer")
	if out, err := h.client.CarryCRL(context.Background(), admin.CarryRequest{Environment: "t", Name: "a.crl", Data: h.sub.CRL(t, testpki.Revoke(peer.Cert.SerialNumber))}); err != nil {
		t.Fatalf("%+v, %v", out, err)
	}
	if !fresh.isCut() {
		t.Error("the new process does not cut it")
	}
	if !old.isCut() {
		t.Error("the process that drains keeps a revoked peer")
	}
}

// TestDrainIsQuiet: what happens in both processes is told by the new one alone.
func TestDrainIsQuiet(t *testing.T) {
	h, leaf := simpleHost(t)
	h.rewrite("drain: 5s", "drain: 1h")
	h.startInstalled()
	h.serves("ssp-in", leaf)
	conn := h.open("ssp-in")
	h.upgrade()
	h.serves("ssp-in", h.identity("pcs", providerName))
	h.until("the rotation is on record", func() bool { return len(h.auditLines("rotated")) >= 2 })
	h.upgrade() // the process in between has had time to say something
	request(t, conn)
	if said := h.said(); strings.Contains(said, "event=generation_unsaved") || strings.Contains(said, "level=ERROR") {
		t.Error("it says that the state directory does not take the generation")
	}
	if lines := h.auditLines("rotated"); len(lines) != 2 {
		t.Errorf("%d rotations are on record, and there were 2", len(lines))
	}
}

// TestCrashBehindDrain: the third process is killed while the first still drains, and another can start at once.
func TestCrashBehindDrain(t *testing.T) {
	h, leaf := simpleHost(t)
	h.rewrite("drain: 5s", "drain: 1h")
	h.startInstalled()
	h.serves("ssp-in", leaf)
	conn := h.open("ssp-in")
	second, third := h.upgrade(), h.upgrade()
	request(t, conn)
	if err := syscall.Kill(third.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	h.awaitEnd(second.PID)
	if code := h.wait(); code == 0 {
		t.Error("the first process ended as if nothing had been")
	}
	h.startInstalled()
	h.serves("ssp-in", leaf)
}

// TestHangupMeanwhile: SIGHUP while the new process stages is for that one.
func TestHangupMeanwhile(t *testing.T) {
	h, leaf := simpleHost(t)
	h.startInstalled()
	h.serves("ssp-in", leaf)
	h.install([]byte("#!/bin/sh\ntouch " + h.path("there") + "\nwhile [ ! -e " + h.path("go") + " ]; do sleep 0.01; done\nexec " + h.path("real") + " \"$@\"\n"))
	h.write("real", h.self(), 0o755)
	pid := h.status().PID
	done := make(chan error, 1)
	go func() {
		_, err := h.client.Upgrade(context.Background(), admin.UpgradeRequest{Unsupervised: true})
		done <- err
	}()
	h.until("the new process is there", func() bool { _, err := os.Lstat(h.path("there")); return err == nil })
	if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	h.write("go", nil, 0o644)
	if err := <-done; err != nil {
		t.Fatalf("upgrade: %v", err)
	}
	h.until("the new process has reloaded", func() bool { return strings.Contains(h.said(), "event=reload ") })
}

// TestDrainFollowsTrust: a CA that goes on word in the new process goes in the old one, which would wait for a word of its own.
func TestDrainFollowsTrust(t *testing.T) {
	h, leaf := simpleHost(t)
	h.rewrite("drain: 5s", "drain: 1h")
	other := testpki.NewRoot(t, testpki.Name("Other Root")).SubCA(t, testpki.Name("Other Sub"))
	h.write("trust.pem", slices.Concat(h.sub.BundlePEM(), other.BundlePEM()), 0o644)
	h.startInstalled()
	h.serves("ssp-in", leaf)
	stays := h.keepOpen(h.listen("ssp-in"), "peer")
	h.put("peer", other.Issue(t, testpki.Name(peerName), testpki.DNS(peerName)))
	goes := h.keepOpen(h.listen("ssp-in"), "peer")
	h.upgrade()
	h.write("trust.pem", h.sub.BundlePEM(), 0o644)
	h.until("the change waits", func() bool { return h.hasCondition("trust_changed") })
	if err := goes.use(); err != nil {
		t.Fatalf("without word: %v", err)
	}
	if _, err := h.client.TrustAccept(context.Background(), admin.TrustAcceptRequest{Environment: "t", Digest: h.trust().Proposed.Digest}); err != nil {
		t.Fatal(err)
	}
	if !goes.isCut() {
		t.Error("a peer whose CA is gone is still served by the process that drains")
	}
	if err := stays.use(); err != nil {
		t.Errorf("another one was cut: %v", err)
	}
}
