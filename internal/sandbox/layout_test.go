package sandbox

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/spinecert/spinecert/internal/config"
)

func TestConfigIsAccepted(t *testing.T) {
	for _, profile := range []string{ProfileG1, ProfileG2} {
		// A directory that YAML and shells would trip over.
		l, err := newLayout(filepath.Join(t.TempDir(), `a: "b" #c`))
		if err != nil {
			t.Fatal(err)
		}
		who := parties{provider: "127.0.0.1:8080", proxy: "127.0.0.1:4430", far: "127.0.0.1:4431", crl: "127.0.0.1:8081", peers: []string{peerName(1), peerName(2)}}
		places := map[string]*place{}
		for _, slot := range []string{providerSlot, consumerSlot, serviceSlot} {
			if places[slot], err = newPlace(l.slot(slot), numbered(1), 0); err != nil {
				t.Fatal(err)
			}
		}
		for i, p := range programs() {
			v := &service{installed: installed{p, "/usr/sbin/" + p.name}, dir: "/srv/" + p.name, socket: "/srv/haproxy.sock", address: fmt.Sprintf("127.0.0.1:%d", 9000+i)}
			if err := v.describe(i == 1); err != nil {
				t.Fatal(err)
			}
			who.services = append(who.services, v.configured)
		}
		if err := l.writeConfig(profile, places, who); err != nil {
			t.Fatal(err)
		}
		c, err := config.Load(l.config())
		if err != nil {
			text, _ := os.ReadFile(l.config())
			t.Fatalf("%s: %v\n%s", profile, err, text)
		}
		if s, ok := c.Service("haproxy"); !ok || s.Slot != serviceSlot || s.Directory != "/srv/haproxy/spine" || s.Reload.Socket != "/srv/haproxy.sock" || !s.KeepBad {
			t.Errorf("%s: haproxy is %+v", profile, s)
		}
	}
}

func TestLayoutIsPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "box")
	l, err := newLayout(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, l.path("state"), l.path("trust"), l.revoke()} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, mode %v", path, err, info.Mode())
		}
	}
	if err := l.remove(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); err != nil {
		t.Errorf("a directory that the user named is gone: %v", err)
	}
}

func TestShellQuote(t *testing.T) {
	for text, want := range map[string]string{
		"/tmp/a-b_c.d":  "/tmp/a-b_c.d",
		"":              "''",
		"a b":           "'a b'",
		"it's":          `'it'\''s'`,
		"$(reboot)":     "'$(reboot)'",
		"/tmp/x;reboot": "'/tmp/x;reboot'",
	} {
		if got := shellQuote(text); got != want {
			t.Errorf("shellQuote(%q) = %s, want %s", text, got, want)
		}
	}
}
