package unit_test

import (
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/unit"
)

var update = flag.Bool("update", false, "write golden files anew")

const base = `
environments: {live: {profile: private, trust: [live.pem], revocation: "off"}}
slots: {pcs: {fqdn: pcs.thirdparty.nhs.uk, files: {certificate: pcs.crt, key: pcs.key}}}
`

func parse(t *testing.T, text string) *config.Config {
	t.Helper()
	c, err := config.Parse([]byte(text), "/etc/spinecert/spinecert.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func all(p unit.Plan) string {
	var b strings.Builder
	for _, f := range p.Files {
		b.WriteString(f.Content + "\n")
	}
	for _, note := range p.Notes {
		b.WriteString("note: " + note + "\n")
	}
	for _, c := range p.Commands {
		b.WriteString("# " + c + "\n")
	}
	return b.String()
}

// TestNothing: what the shipped unit does needs no file and no command.
func TestNothing(t *testing.T) {
	c := parse(t, base+`
tunnels:
  in: {direction: inbound, listen: ["0.0.0.0:4430", "unix:/run/spinecert/in.sock"], forward: "127.0.0.1:80", slot: pcs, peers: [a.b]}
  out: {direction: outbound, listen: [{unix: /var/lib/spinecert/out.sock, group: spinecert}], forward: "a.b:80", slot: pcs}
`)
	n := unit.Of(c, unit.Host{})
	p := n.Plan()
	if !n.Nothing() || len(p.Files)+len(p.Commands)+len(p.Notes) > 0 {
		t.Errorf("%+v", p)
	}
	if p.Files == nil || p.Commands == nil || p.Notes == nil {
		t.Error("a list is null in JSON")
	}
}

// TestGolden is all of it at once, as it is printed.
func TestGolden(t *testing.T) {
	text, err := os.ReadFile("testdata/all.yaml")
	if err != nil {
		t.Fatal(err)
	}
	n := unit.Of(parse(t, string(text)), unit.Host{Exists: func(string) bool { return false }, Group: func(name string) bool { return name == "haproxy" }})
	got := all(n.Plan())
	if *update {
		if err := os.WriteFile("testdata/all.golden", []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/all.golden")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("go test -update accepts it (-want +got):\n%s", diff)
	}
}

// TestOf: each key of the configuration, and what it needs.
func TestOf(t *testing.T) {
	const service = "services: {s: {slot: pcs, deliver: {directory: /etc/s/spine, files: [{format: combined, name: a.pem%s}]}, %s, probe: none}}\n"
	with := func(file, rest string) string {
		return base + strings.Replace(strings.Replace(service, "%s", file, 1), "%s", rest, 1)
	}
	sink := func(program string) string {
		return base + "alerts: {sinks: {p: {type: exec, command: [\"" + program + "\", x]}}}\n"
	}
	for _, tc := range []struct {
		name, config string
		host         unit.Host
		want, not    []string
	}{
		{"a directory", with("", "reload: none"), unit.Host{}, []string{"ReadWritePaths=-/etc/s/spine\n"}, []string{"SupplementaryGroups", "Capabil", "polkit", "ProtectProc"}},
		{"a group", with(", group: tls", "reload: none"), unit.Host{}, []string{"SupplementaryGroups=tls\n"}, []string{"CAP_", "groupadd"}},
		{"a group that is missing", with(", group: tls", "reload: none"), unit.Host{Group: func(string) bool { return false }}, []string{"# groupadd --system tls\n"}, nil},
		{"its own group", with(", group: spinecert", "reload: none"), unit.Host{}, nil, []string{"SupplementaryGroups"}},
		{"an owner", with(", owner: postgres", "reload: none"), unit.Host{}, []string{"CapabilityBoundingSet=CAP_CHOWN\nAmbientCapabilities=CAP_CHOWN\n"}, []string{"CAP_KILL,"}},
		{"itself as owner", with(", owner: spinecert", "reload: none"), unit.Host{}, nil, []string{"CAP_"}},
		{"a signal", with("", "reload: {signal: HUP, pid_file: /run/s.pid}"), unit.Host{}, []string{"AmbientCapabilities=CAP_KILL\n", "ProtectProc=default\n"}, []string{"CAP_CHOWN CAP"}},
		{"a signal by a PID file of root's", with("", "reload: {signal: HUP, pid_file: /run/s.pid}"), unit.Host{Owner: func(string) (int, bool) { return 0, true }}, []string{"=CAP_KILL\n"}, []string{"ProtectProc"}},
		{"a unit", with("", "reload: {unit: s.service, action: try-restart}"), unit.Host{}, []string{"\t\t\"s.service\": [\"start\", \"try-restart\"],\n"}, []string{"spinecert-hook"}},
		{"a unit that validates", with("", "validate: {unit: v.service}, reload: none"), unit.Host{}, []string{"\t\t\"v.service\": [\"restart\", \"stop\"],\n"}, nil},
		{"one unit for both", with("", "validate: {unit: s.service}, reload: {unit: s.service}"), unit.Host{}, []string{"\"s.service\": [\"reload\", \"restart\", \"start\", \"stop\"]"}, nil},
		{"commands", with("", "reload: {exec: [/bin/true]}"), unit.Host{}, []string{"\"spinecert-hook@s:reload.service\": [\"restart\", \"stop\"]"}, []string{"s:probe", "s:validate"}},
		{"a unit to be quoted", with("", `reload: {unit: "a\\x2db@c.service"}`), unit.Host{}, []string{`"a\\x2db@c.service": ["reload"`}, nil},
		{"HAProxy", with("", "reload: {haproxy: /run/haproxy/admin.sock, unit: haproxy.service}"), unit.Host{}, []string{"note: service s: the daemon connects to", `"haproxy.service": ["reload", "start"]`}, nil},
		{"the group of a socket", base + `tunnels: {out: {direction: outbound, listen: [{unix: /run/spinecert/o.sock, group: pcs}, {unix: /run/pcs/o.sock, group: "1000"}], forward: "a.b:80", slot: pcs}}` + "\n", unit.Host{}, []string{"SupplementaryGroups=1000 pcs\n", "ReadWritePaths=-/run/pcs\n"}, nil},
		{"a state directory elsewhere", base + "state: {directory: /srv/spinecert}\n", unit.Host{}, []string{"ReadWritePaths=-/srv/spinecert\n"}, nil},
		{"an admin socket elsewhere", base + "admin: {socket: {path: /run/other/a.sock, group: ops}}\n", unit.Host{}, []string{"ReadWritePaths=-/run/other\n", "SupplementaryGroups=ops\n"}, nil},
		{"a long drain", base + "limits: {drain: 60s}\n", unit.Host{}, []string{"TimeoutStopSec=75s\n"}, nil},
		{"a drain that fits", base + "limits: {drain: 30s}\n", unit.Host{}, nil, []string{"TimeoutStopSec"}},
		{"many connections", base + "limits: {connections: 100000}\n", unit.Host{}, []string{"LimitNOFILE=204096\n"}, nil},
		{"users of a tunnel", base + `tunnels: {out: {direction: outbound, listen: ["127.0.0.1:9000"], allow_users: [root], forward: "a.b:80", slot: pcs}}` + "\n", unit.Host{}, []string{"RestrictAddressFamilies=AF_NETLINK\n"}, nil},
		{"everybody", base + `tunnels: {out: {direction: outbound, listen: ["127.0.0.1:9000"], allow_users: ["*"], forward: "a.b:80", slot: pcs}}` + "\n", unit.Host{}, nil, []string{"NETLINK"}},
		{"in a home", base + strings.ReplaceAll("slots2", "slots2", "state: {directory: /home/x}\n"), unit.Host{}, []string{`note: the state directory, "/home/x", lies where the daemon does not look (ProtectHome=)`}, nil},
		{"low ports", base + `tunnels: {in: {direction: inbound, listen: [":443", "10.0.0.1:444", "0.0.0.0:4430"], forward: "127.0.0.1:80", slot: pcs, peers: [a.b]}}` + "\n", unit.Host{},
			[]string{"FileDescriptorName=in\n", "ListenStream=443\nListenStream=10.0.0.1:444\n", "FreeBind=yes\n", "Sockets=spinecertd-in.socket\n", `listen: ["systemd:in", "0.0.0.0:4430"]`, "# systemctl enable spinecertd-in.socket\n"}, []string{"NET_BIND", unit.Unknown}},
		{"a low port on a wildcard", base + `tunnels: {in: {direction: inbound, listen: ["0.0.0.0:443"], forward: "127.0.0.1:80", slot: pcs, peers: [a.b]}}` + "\n", unit.Host{}, []string{"ListenStream=0.0.0.0:443\n"}, []string{"FreeBind"}},
		{"where no port is low", base + `tunnels: {in: {direction: inbound, listen: [":443"], forward: "127.0.0.1:80", slot: pcs, peers: [a.b]}}` + "\n", unit.Host{FirstPort: 1}, nil, []string{"Sockets"}},
		{"a relay and a webhook", base + "alerts: {sinks: {m: {type: email, to: [a@b.c], from: a@b.c, smtp: 'a.b:25', ca: /etc/ssl/a.pem}, w: {type: webhook, url_file: /etc/spinecert/w.url}, j: {type: journal}}}\n", unit.Host{}, nil, []string{"Paths", "note"}},
		{"files of a sink in a home", base + "alerts: {sinks: {m: {type: email, to: [a@b.c], from: a@b.c, smtp: 'a.b:25', username: u, password_file: /root/p, ca: /home/c}, w: {type: webhook, url_file: /tmp/u, template: /var/tmp/t}}}\n", unit.Host{},
			[]string{`note: a file of sink m, "/root/p", lies`, `note: a file of sink m, "/home/c", lies`, `note: a file of sink w, "/tmp/u", lies`, `note: a file of sink w, "/var/tmp/t", lies`}, []string{"Paths"}},
		{"a program", sink("/usr/local/bin/page"), unit.Host{}, []string{"\nExecPaths=-/usr/lib\nExecPaths=-/usr/lib64\nExecPaths=-/usr/local/bin\n", "\nBindReadOnlyPaths=-/usr/lib\nBindReadOnlyPaths=-/usr/lib64\nBindReadOnlyPaths=-/usr/local/bin\n", "# systemctl restart spinecertd.service\n"}, []string{"note", "hook", "ReadWrite"}},
		{"a program that needs libraries only", sink("/bin/sh"), unit.Host{}, []string{"ExecPaths=-/usr/lib\nExecPaths=-/usr/lib64\n#"}, []string{"/usr/bin", "=-/bin", "note"}},
		{"a program of root's", sink("/sbin/page"), unit.Host{}, []string{"ExecPaths=-/usr/sbin\n"}, []string{"=-/sbin", "note"}},
		{"a program to be quoted", sink("/opt/a b%/page"), unit.Host{}, []string{`ExecPaths="-/opt/a b%%"` + "\n", `BindReadOnlyPaths="-/opt/a b%%"` + "\n"}, nil},
		{"a program in a home", sink("/home/x/page"), unit.Host{}, []string{`note: sink p runs "/home/x/page", which lies where the daemon may write, or does not look`}, []string{"Paths"}},
		{"a program in the state directory", "state: {directory: /srv/s}\n" + sink("/srv/s/bin/page"), unit.Host{}, []string{`note: sink p runs "/srv/s/bin/page", which lies where the daemon may write`}, []string{"\nExecPaths=", "BindRead"}},
		{"a program above a directory that is written", "state: {directory: /srv/s/state}\n" + sink("/srv/s/page"), unit.Host{}, []string{`note: sink p runs "/srv/s/page"`}, []string{"\nExecPaths=", "=-/srv/s\n"}},
		{"a program in a directory of the system", sink("/etc/page"), unit.Host{}, []string{`note: sink p runs "/etc/page", which needs a directory of its own`}, []string{"Paths"}},
		{"a program that is gone after a boot", sink("/run/x/page"), unit.Host{}, []string{`note: sink p runs "/run/x/page", which needs a directory of its own`}, []string{"Paths"}},
		{"pages on a low port", base + "admin: {http: {listen: '127.0.0.1:80'}}\n", unit.Host{}, []string{"note: admin.http listens on a port below 1024, which needs root"}, []string{"Sockets"}},
		{"pages where no port is low", base + "admin: {http: {listen: '127.0.0.1:80'}}\n", unit.Host{FirstPort: 80}, nil, []string{"note"}},
		{"pages", base + "admin: {http: {listen: '0.0.0.0:9443', slot: pcs, peers: [a.b]}}\n", unit.Host{}, nil, []string{"note"}},
		{"another file", "", unit.Host{}, []string{`note: the unit reads /etc/spinecert/spinecert.yaml, and this is "/opt/s.yaml"`}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := parse(t, tc.config+strings.Repeat(base, max(0, 1-len(tc.config))))
			if tc.config == "" {
				c.File = "/opt/s.yaml"
			}
			got := all(unit.Of(c, tc.host).Plan())
			for _, want := range tc.want {
				if !strings.Contains(got, want) {
					t.Errorf("%q is missing in\n%s", want, got)
				}
			}
			for _, not := range tc.not {
				if strings.Contains(got, not) {
					t.Errorf("%q is in\n%s", not, got)
				}
			}
		})
	}
}

// TestNamed: a socket of systemd has a unit, once, whose address is left to the operator.
func TestNamed(t *testing.T) {
	c := parse(t, base+`
tunnels:
  a: {direction: inbound, listen: ["0.0.0.0:1"], forward: "127.0.0.1:80", slot: pcs, peers: [a.b]}
  b: {direction: inbound, listen: ["0.0.0.0:2"], forward: "127.0.0.1:80", slot: pcs, peers: [a.b]}
`)
	c.Tunnels[0].Listen = []config.Listener{{Network: "systemd", Address: "spine"}, {Network: "systemd", Address: "a b%"}}
	c.Tunnels[1].Listen = []config.Listener{{Network: "systemd", Address: "spine"}}
	p := unit.Of(c, unit.Host{}).Plan()
	got := all(p)
	for _, want := range []string{"FileDescriptorName=spine\n", "Description=Spinecert: listener of tunnel a, b\n", "FileDescriptorName=a b%%\n", `Sockets="spinecertd-a\\x20b\\x25.socket"`, unit.Unknown, "note: the address of systemd:spine stands in no configuration"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
	if strings.Contains(got, "\nListenStream=") {
		t.Errorf("an address was made up:\n%s", got)
	}
	paths := []string{unit.DropIn, `/etc/systemd/system/spinecertd-a\x20b\x25.socket`, "/etc/systemd/system/spinecertd-spine.socket"}
	if !slices.EqualFunc(p.Files, paths, func(f unit.File, path string) bool { return f.Path == path }) {
		t.Errorf("files %+v", p.Files)
	}
}

// TestUnder: one directory below another needs no line of its own.
func TestUnder(t *testing.T) {
	c := parse(t, base)
	c.Services = []config.Service{{Name: "a", Directory: "/etc/a"}, {Name: "b", Directory: "/etc/a/b"}, {Name: "c", Directory: "/etc/ab"}}
	if diff := cmp.Diff([]string{"/etc/a", "/etc/ab"}, unit.Of(c, unit.Host{}).Write); diff != "" {
		t.Error(diff)
	}
}

// TestNames: what would have one name has two, and a name that is one of our units is not made longer.
func TestNames(t *testing.T) {
	c := parse(t, `
environments: {live: {profile: private, trust: ["credential:a b", "credential:a%b"], revocation: "off"}}
slots: {pcs: {fqdn: pcs.thirdparty.nhs.uk, files: {certificate: pcs.crt, key: pcs.key}}}
tunnels:
  in: {direction: inbound, listen: ["systemd:in", "0.0.0.0:443", "unix:/run/spinecert/a", {unix: /run/spinecert/b, group: pcs, mode: "0600"}], forward: "127.0.0.1:80", slot: pcs, peers: [a.b]}
  more: {direction: inbound, listen: ["systemd:web.socket", "systemd:spinecertd-own.socket"], forward: "127.0.0.1:80", slot: pcs, peers: [a.b]}
`)
	p := unit.Of(c, unit.Host{}).Plan()
	got := all(p)
	for _, want := range []string{
		"LoadCredential=a b:/etc/spinecert/credentials/a_b\n", "LoadCredential=a%%b:/etc/spinecert/credentials/a_b~2\n",
		"FileDescriptorName=in-low\nService=spinecertd.service\nListenStream=0.0.0.0:443\n", `in tunnels.in write listen: ["systemd:in-low", "systemd:in", "unix:/run/spinecert/a", {unix: "/run/spinecert/b", group: "pcs", mode: "0600"}]`,
		"Sockets=spinecertd-web.socket.socket\n", "FileDescriptorName=web.socket\n", "# systemctl enable spinecertd-web.socket.socket\n", "Sockets=spinecertd-own.socket\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
	there := unit.Of(c, unit.Host{Exists: func(path string) bool { return path == "/etc/systemd/system/spinecertd-in.socket" }}).Plan()
	if len(there.Files) != len(p.Files)-1 || !strings.Contains(all(there), "note: spinecertd-in.socket is there, with the address that you gave it: it is not printed\n") {
		t.Errorf("a socket unit that is there:\n%s", all(there))
	}
}
