package doctor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/spinecert/spinecert/internal/config"
)

// shipped is the unit as it is shipped, with a daemon that runs since noon.
func shipped() *UnitState {
	return &UnitState{Active: true, Since: noon, PID: 7, User: "nobody", Group: "nogroup", ProtectSystem: "strict", ProtectProc: "invisible",
		Write: []string{"/var/lib/spinecert", "/run/spinecert"}, Families: []string{"AF_INET", "AF_UNIX"}, Stop: 45 * time.Second, Files: 65536, Credentials: map[string]string{}}
}

// TestUnit: each thing that a configuration may need, without it and with it. TestBox of package unit sees the same in a real systemd.
func TestUnit(t *testing.T) {
	dir := t.TempDir()
	old, young := filepath.Join(dir, "old"), filepath.Join(dir, "young")
	for file, at := range map[string]time.Time{old: noon.Add(-time.Hour), young: noon.Add(time.Hour)} {
		if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Chtimes(file, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	const slots = "environments: {live: {profile: private, trust: [live.pem], revocation: \"off\"}}\nslots: {pcs: {files: {certificate: pcs.crt, key: pcs.key}}}\n"
	const service = slots + "services: {s: {slot: pcs, deliver: {directory: /etc/s, files: [{format: combined, name: a}]}, reload: none, probe: none}}\n"
	file := func(more string) string {
		return strings.Replace(service, "name: a}", "name: a, "+more+"}", 1)
	}
	reload := func(how string) string { return strings.Replace(service, "reload: none", "reload: "+how, 1) }
	const credential = "environments: {live: {profile: private, trust: [\"credential:live\"], revocation: \"off\"}}\n"
	const allow = slots + `tunnels: {o: {direction: outbound, listen: ["127.0.0.1:9000"], allow_users: [root], forward: "a.b:1", slot: pcs}}` + "\n"
	both := uint64(1<<unix.CAP_CHOWN | 1<<unix.CAP_KILL)
	for _, tc := range []struct {
		name   string
		config string
		change func(st *UnitState)
		want   string // "" is that all is well
	}{
		{"nothing is needed", slots, nil, ""},
		{"a directory", service, nil, `^fail UNIT spinecertd.service lacks ReadWritePaths= for /etc/s // spinecert config systemd prints the drop-in`},
		{"the directory", service, func(st *UnitState) { st.Write = append(st.Write, "/etc/s") }, ""},
		{"one above it", service, func(st *UnitState) { st.Write = append(st.Write, "/etc") }, ""},
		{"one with a longer name", service, func(st *UnitState) { st.Write = append(st.Write, "/etc/s2") }, `lacks ReadWritePaths=`},
		{"less protection, of /etc", service, func(st *UnitState) { st.ProtectSystem = "full" }, `lacks ReadWritePaths=`},
		{"less protection", service, func(st *UnitState) { st.ProtectSystem = "yes" }, ""},
		{"no protection", service, func(st *UnitState) { st.ProtectSystem = "no" }, ""},
		{"a group", file("group: daemon"), func(st *UnitState) { st.Write = append(st.Write, "/etc/s") }, `^fail UNIT spinecertd.service lacks SupplementaryGroups=daemon, and its user is no member // spinecert config systemd`},
		{"the group", file("group: daemon"), func(st *UnitState) { st.Write, st.Groups = append(st.Write, "/etc/s"), []string{"daemon"} }, ""},
		{"the group by its number", file("group: daemon"), func(st *UnitState) { st.Write, st.Groups = append(st.Write, "/etc/s"), []string{groupID("daemon")} }, ""},
		{"its own group", file("group: daemon"), func(st *UnitState) { st.Write, st.Group = append(st.Write, "/etc/s"), "daemon" }, ""},
		{"a member", file("group: daemon"), func(st *UnitState) { st.Write, st.User = append(st.Write, "/etc/s"), "daemon" }, ""},
		{"root", file("group: daemon, owner: nobody"), func(st *UnitState) { st.User, st.ProtectSystem, st.Bounding = "", "no", both }, ""},
		{"an owner", file("owner: nobody"), func(st *UnitState) { st.Write = append(st.Write, "/etc/s") }, `^fail UNIT spinecertd.service lacks CAP_CHOWN, in CapabilityBoundingSet= and AmbientCapabilities=`},
		{"bounded only", file("owner: nobody"), func(st *UnitState) { st.Write, st.Bounding = append(st.Write, "/etc/s"), both }, `lacks CAP_CHOWN`},
		{"the capability", file("owner: nobody"), func(st *UnitState) { st.Write, st.Bounding, st.Ambient = append(st.Write, "/etc/s"), both, both }, ""},
		{"a signal", reload("{signal: HUP, pid_file: /run/s.pid}"), func(st *UnitState) {
			st.Write, st.Bounding, st.Ambient = append(st.Write, "/etc/s"), both, both
		}, `^warn UNIT spinecertd.service has ProtectProc=invisible, and a PID file that is not root's is not believed then`},
		{"a signal, and it sees", reload("{signal: HUP, pid_file: /run/s.pid}"), func(st *UnitState) {
			st.Write, st.Bounding, st.Ambient, st.ProtectProc = append(st.Write, "/etc/s"), both, both, "default"
		}, ""},
		{"users of a tunnel", allow, nil, `^fail UNIT spinecertd.service lacks RestrictAddressFamilies=AF_NETLINK`},
		{"with netlink", allow, func(st *UnitState) { st.Families = append(st.Families, "AF_NETLINK") }, ""},
		{"all but some", allow, func(st *UnitState) { st.AllFamilies, st.Families = true, []string{"AF_PACKET"} }, ""},
		{"all but netlink", allow, func(st *UnitState) { st.AllFamilies, st.Families = true, []string{"AF_NETLINK"} }, `lacks RestrictAddressFamilies=`},
		{"a long drain", slots + "limits: {drain: 60s}\n", nil, `^warn UNIT spinecertd.service has TimeoutStopSec=45, and limits.drain takes longer`},
		{"time for it", slots + "limits: {drain: 60s}\n", func(st *UnitState) { st.Stop = 75 * time.Second }, ""},
		{"many connections", slots + "limits: {connections: 100000}\n", nil, `^warn UNIT spinecertd.service has LimitNOFILE=65536: not enough`},
		{"files for them", slots + "limits: {connections: 100000}\n", func(st *UnitState) { st.Files = 1 << 20 }, ""},
		{"a credential", credential, nil, `^fail UNIT spinecertd.service lacks LoadCredential= for live // spinecert config systemd`},
		{"the credential", credential, func(st *UnitState) { st.Credentials["live"] = old }, ""},
		{"one in the unit", credential, func(st *UnitState) { st.Credentials["live"] = "" }, ""},
		{"a new source", credential, func(st *UnitState) { st.Credentials["live"] = young }, `^warn UNIT the source ".*/young" of credential "live" \(the trust of environment live\) was changed at 2026-11-22T13:00:00Z, after the daemon was started: it is read at a restart only // systemctl restart spinecertd$`},
		{"a new source, and none runs", credential, func(st *UnitState) { st.Credentials["live"], st.Active = young, false }, ""},
		{"no source", credential, func(st *UnitState) { st.Credentials["live"] = filepath.Join(dir, "none") }, `^fail UNIT the source ".*/none" of credential "live" .* is missing // put it there`},
		{"files not read", slots, func(st *UnitState) { st.Reload, st.DropIns = true, []string{young} }, `^warn UNIT the files of spinecertd.service were changed since systemd read them // systemctl daemon-reload; systemctl restart spinecertd$`},
		{"a new drop-in", slots, func(st *UnitState) { st.DropIns = []string{old, young} }, `^warn UNIT the drop-in ".*/young" was changed at 2026-11-22T13:00:00Z, after the daemon was started at 2026-11-22T12:00:00Z`},
		{"polkit says no", reload("{unit: s.service}"), func(st *UnitState) {
			st.Write, st.Allows = append(st.Write, "/etc/s"), func(_ context.Context, unit, verb string) (bool, error) { return verb == "start", nil }
		}, `^fail UNIT polkit does not let the daemon reload unit "s.service" // spinecert config systemd prints the rule`},
		{"polkit says yes", reload("{unit: s.service}"), func(st *UnitState) {
			st.Write, st.Allows = append(st.Write, "/etc/s"), func(_ context.Context, unit, verb string) (bool, error) { return unit == "s.service", nil }
		}, ""},
		{"polkit is away", reload("{unit: s.service}"), func(st *UnitState) {
			st.Write, st.Allows = append(st.Write, "/etc/s"), func(context.Context, string, string) (bool, error) { return false, errors.New("no such name") }
		}, `^fail UNIT polkit does not answer: no such name`},
		{"polkit is not asked", reload("{unit: s.service}"), func(st *UnitState) { st.Write = append(st.Write, "/etc/s") }, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := config.Parse([]byte(tc.config), "/etc/spinecert/spinecert.yaml")
			if err != nil {
				t.Fatal(err)
			}
			checkUnit(t, c, tc.change, tc.want)
		})
	}
}

// TestUnitSockets: a name of a listener has a socket unit, which listens.
func TestUnitSockets(t *testing.T) {
	c, err := config.Parse([]byte("environments: {live: {profile: private, trust: [live.pem], revocation: \"off\"}}\nslots: {pcs: {files: {certificate: pcs.crt, key: pcs.key}}}\n"+
		`tunnels: {in: {direction: inbound, listen: ["systemd:web"], forward: "127.0.0.1:80", slot: pcs, peers: [a.b]}}`+"\n"), "/etc/spinecert/spinecert.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name    string
		sockets []UnitSocket
		want    string
	}{
		{"none", nil, `^fail UNIT tunnel in listens on systemd:web, and no socket unit of spinecertd.service has FileDescriptorName=web // spinecert config systemd prints one`},
		{"another", []UnitSocket{{"spinecertd-x.socket", "x", true}}, `no socket unit of`},
		{"down", []UnitSocket{{"a.socket", "web", true}, {"b.socket", "web", false}}, `^fail UNIT the socket unit b.socket of systemd:web does not listen // systemctl stop spinecertd; systemctl start b.socket spinecertd$`},
		{"up", []UnitSocket{{"a.socket", "web", true}, {"b.socket", "web", true}}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			checkUnit(t, c, func(st *UnitState) { st.Sockets = tc.sockets }, tc.want)
		})
	}
}

// TestUnitPIDFileOfRoot: config systemd gives no ProtectProc= for a PID file of root's, and none is missed.
func TestUnitPIDFileOfRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make a file of root's")
	}
	pid := filepath.Join(t.TempDir(), "s.pid")
	if err := os.WriteFile(pid, []byte("1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c, err := config.Parse([]byte("environments: {live: {profile: private, trust: [live.pem], revocation: \"off\"}}\nslots: {pcs: {files: {certificate: pcs.crt, key: pcs.key}}}\n"+
		"services: {s: {slot: pcs, deliver: {directory: /etc/s, files: [{format: combined, name: a}]}, reload: {signal: HUP, pid_file: "+pid+"}, probe: none}}\n"), "spinecert.yaml")
	if err != nil {
		t.Fatal(err)
	}
	given := func(st *UnitState) {
		st.Write, st.Bounding, st.Ambient = append(st.Write, "/etc/s"), 1<<unix.CAP_KILL, 1<<unix.CAP_KILL
	}
	checkUnit(t, c, given, "")
	if err := os.Chown(pid, 65534, -1); err != nil {
		t.Fatal(err)
	}
	checkUnit(t, c, given, "ProtectProc=invisible")
}

// TestUnitSocketOfTheSystem: a directory that config systemd does not open is not asked for.
func TestUnitSocketOfTheSystem(t *testing.T) {
	c, err := config.Parse([]byte("environments: {live: {profile: private, trust: [live.pem], revocation: \"off\"}}\nslots: {pcs: {files: {certificate: pcs.crt, key: pcs.key}}}\n"+
		`tunnels: {o: {direction: outbound, listen: ["unix:/run/sds.sock"], forward: "a.b:1", slot: pcs}}`+"\n"), "spinecert.yaml")
	if err != nil {
		t.Fatal(err)
	}
	checkUnit(t, c, nil, "")
}

// TestUnitSilent: without the unit, or without a configuration, nothing is said.
func TestUnitSilent(t *testing.T) {
	o := healthy()
	if got := ofUnit(o.Examine(t.Context())); len(got) > 0 {
		t.Errorf("no unit: %v", got)
	}
	o.Unit, o.Config, o.ConfigErr = func(context.Context) (*UnitState, error) { return shipped(), nil }, nil, errors.New("wrong")
	if got := ofUnit(o.Examine(t.Context())); len(got) > 0 {
		t.Errorf("no configuration: %v", got)
	}
	o = healthy()
	o.Unit = func(context.Context) (*UnitState, error) { return nil, errors.New("away") }
	if got := ofUnit(o.Examine(t.Context())); len(got) != 1 || !strings.HasPrefix(got[0], "warn UNIT systemd does not say how spinecertd.service is set up: away // ") {
		t.Errorf("systemd is away: %v", got)
	}
}

// checkUnit wants one line, or the one that says that all is well.
func checkUnit(t *testing.T, c *config.Config, change func(*UnitState), want string) {
	t.Helper()
	st := shipped()
	if change != nil {
		change(st)
	}
	o := healthy()
	o.Config, o.Unit = c, func(context.Context) (*UnitState, error) { return st, nil }
	lines := ofUnit(o.Examine(t.Context()))
	if want == "" {
		want = `^ok UNIT spinecertd.service gives the daemon what the configuration needs`
	}
	if len(lines) != 1 || !regexp.MustCompile(want).MatchString(lines[0]) {
		t.Errorf("want one line %q:\n%s", want, strings.Join(lines, "\n"))
	}
}

// ofUnit returns the lines with the code UNIT, with their hints.
func ofUnit(lines []Line) []string {
	var out []string
	for _, l := range lines {
		if l.Code == Unit {
			out = append(out, strings.TrimSuffix(l.String()+" // "+l.Hint, " // "))
		}
	}
	return out
}
