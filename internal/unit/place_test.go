package unit_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/unit"
)

// owners is a host that has these files and directories, by their owner.
func owners(files map[string]int) unit.Host {
	owner := func(path string) (int, bool) { uid, ok := files[path]; return uid, ok }
	return unit.Host{Exists: func(path string) bool { _, ok := files[path]; return ok }, Owner: owner}
}

// TestBelowRun: what is below /run is gone after a boot, and one `install -d` does not last. What another program made stays that program's.
func TestBelowRun(t *testing.T) {
	const daemon = 990
	for _, tc := range []struct {
		name, socket string
		there        map[string]int
		want, not    string
	}{
		{"not there", "/run/pcs/sds.sock", map[string]int{}, "RuntimeDirectory=pcs\n", "install -d"},
		{"deeper", "/run/pcs/a b/sds.sock", map[string]int{}, `RuntimeDirectory="pcs/a b"` + "\n", "install -d"},
		{"its own", "/run/pcs/sds.sock", map[string]int{"/run/pcs": daemon, "/var/lib/spinecert": daemon}, "RuntimeDirectory=pcs\n", "install -d"},
		{"another's", "/run/pcs/sds.sock", map[string]int{"/run/pcs": 33, "/var/lib/spinecert": daemon}, "ReadWritePaths=-/run/pcs\n", "RuntimeDirectory="},
		{"of nobody known", "/run/pcs/sds.sock", map[string]int{"/run/pcs": 33}, "ReadWritePaths=-/run/pcs\n", "RuntimeDirectory="},
		{"elsewhere", "/srv/pcs/sds.sock", map[string]int{}, "install -d -o spinecert -g spinecert -m 0755 /srv/pcs\n", "RuntimeDirectory="},
		{"what RuntimeDirectory= cannot say", "/run/a:b/sds.sock", map[string]int{}, "install -d -o spinecert -g spinecert -m 0755 /run/a:b\n", "RuntimeDirectory="},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := parse(t, base+`tunnels: {out: {direction: outbound, listen: [{unix: "`+tc.socket+`", group: "0"}], forward: "a.b:80", slot: pcs}}`+"\n")
			if got := all(unit.Of(c, owners(tc.there)).Plan()); !strings.Contains(got, tc.want) || strings.Contains(got, tc.not) {
				t.Errorf("want %q, and not %q:\n%s", tc.want, tc.not, got)
			}
		})
	}
}

// TestStateDirectoryIsClosed: 0710, as docs/install.md has it.
func TestStateDirectoryIsClosed(t *testing.T) {
	for _, dir := range []string{"/srv/spinecert", "/run/pcs"} {
		c := parse(t, base+"state: {directory: "+dir+"}\n")
		got := all(unit.Of(c, unit.Host{Exists: func(string) bool { return false }}).Plan())
		if !strings.Contains(got, "install -d -o spinecert -g spinecert -m 0710 "+dir+"\n") || strings.Contains(got, "RuntimeDirectory=") {
			t.Errorf("%s:\n%s", dir, got)
		}
	}
}

// TestDirectoriesOfTheSystem: the sandbox is not opened for all of one, and somebody is told.
func TestDirectoriesOfTheSystem(t *testing.T) {
	for path, closed := range map[string]bool{
		"/sds.sock": true, "/run/sds.sock": true, "/run/x/../sds.sock": true, "/etc/sds.sock": true, "/usr/bin/sds.sock": true, "/usr/share/x/sds.sock": true, "/etc/systemd/system/sds.sock": true,
		"/var/lib/sds.sock": true, "/lib/sds.sock": true, "/run/systemd/x/sds.sock": true, "/usr/local/sds.sock": true,
		"/run/pcs/sds.sock": false, "/etc/pcs/sds.sock": false, "/usr/local/pcs/sds.sock": false, "/srv/pcs/sds.sock": false, "/library/sds.sock": false, "/var/lib/pcs/sds.sock": false,
	} {
		c := parse(t, base)
		c.Tunnels = []config.Tunnel{{Name: "out", Listen: []config.Listener{{Network: "unix", Address: path, Mode: 0o660}}}}
		n := unit.Of(c, unit.Host{Exists: func(string) bool { return true }})
		dir := filepath.Dir(path)
		if slices.Contains(n.Write, dir) == closed || n.Nothing() != closed {
			t.Errorf("%s: ReadWritePaths= for %q", path, n.Write)
		}
		want := "note: the socket of tunnel out needs a directory of its own: " + dir + " is the system's, and is not opened to the daemon\n"
		if got := all(n.Plan()); strings.Contains(got, want) != closed {
			t.Errorf("%s: want %q: %t\n%s", path, want, closed, got)
		}
	}
}

// TestSocketOfAnotherProgram: a file in /etc takes the place of the unit of that name.
func TestSocketOfAnotherProgram(t *testing.T) {
	c := parse(t, base+`
tunnels:
  in: {direction: inbound, listen: ["systemd:dbus.socket"], forward: "127.0.0.1:80", slot: pcs, peers: [a.b]}
  low: {direction: inbound, listen: ["0.0.0.0:443"], forward: "127.0.0.1:81", slot: pcs, peers: [a.b]}
`)
	for _, dir := range []string{"/etc/systemd/system/", "/run/systemd/system/", "/usr/lib/systemd/system/", "/lib/systemd/system/"} {
		h := unit.Host{Exists: func(p string) bool { return p == dir+"dbus.socket" || p == dir+"spinecertd-low.socket" }}
		p := unit.Of(c, h).Plan()
		if got := all(p); len(p.Files) != 2 || p.Files[1].Path != "/etc/systemd/system/spinecertd-dbus.socket.socket" || strings.Contains(got, "Sockets=dbus.socket") ||
			!strings.Contains(got, "FileDescriptorName=dbus.socket\n") || !strings.Contains(got, "note: spinecertd-low.socket is there, and not printed: see that it has ListenStream= for each of 0.0.0.0:443\n") {
			t.Errorf("%s:\n%s", dir, got)
		}
		h.Ours = func(p string) bool { return p == dir+"dbus.socket" }
		if got := all(unit.Of(c, h).Plan()); !strings.Contains(got, "Sockets=dbus.socket\n") || !strings.Contains(got, "note: dbus.socket is there, with the address that you gave it") {
			t.Errorf("%s, and the daemon's:\n%s", dir, got)
		}
	}
}

// TestThisHost: what is asked of the files of a host.
func TestThisHost(t *testing.T) {
	h, dir := unit.ThisHost(), t.TempDir()
	for name, want := range map[string]bool{
		"[Socket]\nService = spinecertd.service\n": true, "[Socket]\n#Service=spinecertd.service\n": false, "[Socket]\nService=dbus.service\n": false, "": false,
	} {
		file := filepath.Join(dir, "a.socket")
		if err := os.WriteFile(file, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
		if uid, ok := h.Owner(file); h.Ours(file) != want || !h.Exists(file) || !ok || uid != os.Getuid() {
			t.Errorf("%q: ours %t, want %t; owner %d", name, h.Ours(file), want, uid)
		}
	}
	none := filepath.Join(dir, "none")
	if _, ok := h.Owner(none); ok || h.Exists(none) || h.Ours(none) {
		t.Error("a file that is not there")
	}
}

// TestAddressWithAZone: % begins a specifier.
func TestAddressWithAZone(t *testing.T) {
	c := parse(t, base+`tunnels: {in: {direction: inbound, listen: ["[fe80::1%eth0]:443"], forward: "127.0.0.1:80", slot: pcs, peers: [a.b]}}`+"\n")
	if got := all(unit.Of(c, unit.Host{}).Plan()); !strings.Contains(got, "\nListenStream=[fe80::1%%eth0]:443\n") {
		t.Errorf("systemd takes %%e for a specifier:\n%s", got)
	}
}
