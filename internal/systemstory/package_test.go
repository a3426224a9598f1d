package systemstory

import (
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/hostbox"
	"github.com/spinecert/spinecert/internal/packaging"
)

// keys lists the files with a private key in the state directory, with their digests.
func (h *host) keys() string {
	h.t.Helper()
	return h.Run("sh", "-c", "find "+stateDir+" -name key.pem -exec sha256sum {} + | sort -k2")
}

// TestPackage: what removal and purge leave, that a new installation finds it, and that older and newer versions follow each other.
func TestPackage(t *testing.T) {
	t.Parallel()
	h := installed(t)
	h.Run("systemctl", "enable", "--now", unit)
	h.soon(h.rotate())
	h.writable()
	keys, own := h.keys(), h.own
	if strings.Count(keys, "\n") != 1 {
		t.Fatalf("two generations have the keys\n%s", keys)
	}
	open := h.open()

	t.Run("again", func(t *testing.T) {
		p := h.part(t)
		packaging.Install(t, p.Box, deb(t, packaging.Version))
		p.serves(own)
		p.works(open)
	})
	t.Run("remove", func(t *testing.T) {
		p := h.part(t)
		_ = open.Close()
		p.Run("dpkg", "--no-triggers", "--remove", "spinecert")
		p.closed()
		if got := p.Run("sh", "-c", "systemctl is-active "+unit+" || true; ls /usr/bin/spinecert* /usr/lib/systemd/system/spinecert* 2>/dev/null || true"); got != "inactive" {
			t.Errorf("after the removal: %s", got)
		}
		p.Run("test", "-e", confFile)
		if got := p.keys(); got != keys {
			t.Errorf("keys before\n%s\nand after the removal\n%s", keys, got)
		}
	})
	t.Run("install again", func(t *testing.T) {
		p := h.part(t)
		packaging.Install(t, p.Box, deb(t, packaging.Version))
		// The files of the slot are gone meanwhile: it finds its state.
		p.Run("rm", "/etc/spinecert/pcs/pcs.key")
		p.Run("systemctl", "start", unit)
		p.serves(own)
		if s := p.status().Slots[0]; s.Generation != 2 || s.SHA256 != hostbox.Fingerprint(own) {
			t.Errorf("%+v", s)
		}
		if got := p.keys(); got != keys {
			t.Errorf("keys before\n%s\nand now\n%s", keys, got)
		}
	})
	t.Run("purge", func(t *testing.T) {
		p := h.part(t)
		out := p.Run("dpkg", "--no-triggers", "--purge", "spinecert")
		p.closed()
		if got := p.keys(); got != keys {
			t.Errorf("keys before\n%s\nand after the purge\n%s", keys, got)
		}
		for _, words := range [][]string{{"kept " + stateDir, "private keys"}, {"rm -rf " + stateDir}, {"kept /etc/spinecert"}} {
			if !hasLine(out, words...) {
				t.Errorf("the purge does not say %q:\n%s", words, out)
			}
		}
		if got := p.Run("sh", "-c", "ls "+confFile+" /etc/spinecert/trust/live.pem"); strings.Count(got, "\n") != 1 {
			t.Errorf("of what the operator wrote is left: %s", got)
		}
	})
	t.Run("and again", func(t *testing.T) {
		p := h.part(t)
		packaging.Install(t, p.Box, deb(t, packaging.Version))
		p.configure()
		p.Run("systemctl", "start", unit)
		p.serves(own)
		p.soon(p.rotate())
		p.writable()
		if got := p.status().Slots[0].Generation; got != 3 {
			t.Errorf("generation %d", got)
		}
	})
	t.Run("with nothing in it", func(t *testing.T) {
		p := h.part(t)
		p.Run("systemctl", "stop", unit)
		p.Run("find", stateDir, "!", "-type", "d", "-delete")
		out := p.Run("dpkg", "--no-triggers", "--purge", "spinecert")
		if !hasLine(out, "removed "+stateDir, "held nothing") {
			t.Errorf("the purge says\n%s", out)
		}
		if _, err := p.Exec(t.Context(), "test", "-e", stateDir); err == nil {
			t.Error("a state directory without anything in it is kept")
		}
	})
}

// TestVersions: a newer package, and the older one again, while peers are connected.
func TestVersions(t *testing.T) {
	t.Parallel()
	long(t)
	h := started(t)
	h.writable()
	newer := deb(t, "v0.2.0")
	for _, step := range []struct{ deb, version string }{{newer, "v0.2.0"}, {deb(t, packaging.Version), packaging.Version}, {newer, "v0.2.0"}} {
		open, begin := h.open(), time.Now()
		out := packaging.Install(t, h.Box, step.deb)
		h.took("dpkg --install of "+step.version, begin)
		h.soon(h.own)
		h.Until("the daemon is "+step.version, func() bool { s, ok := h.ask(); return ok && s.Version == step.version })
		h.works(open)
		h.writable()
		if h.show("ActiveState") != "active" {
			t.Errorf("the unit is %s\n%s", h.show("ActiveState"), out)
		}
		h.soon(h.rotate())
		_ = open.Close()
	}
}
