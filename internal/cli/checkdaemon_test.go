package cli

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/condition"
)

// serveStatus is a daemon that stands as s says, and has these CAs. It returns its socket.
func serveStatus(t *testing.T, s admin.Status, environments ...admin.TrustEnvironment) string {
	t.Helper()
	backend := admin.Backend{Writers: func() []int { return nil }, Forbidden: func(admin.Caller, string) {}, Status: func(context.Context) admin.Status { return s }}
	backend.Trust = &admin.TrustBackend{List: func(context.Context) ([]admin.TrustEnvironment, error) { return environments, nil }}
	return serveSocket(t, admin.NewServer(backend))
}

func serveSocket(t *testing.T, server *http.Server) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sc") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	serveUnix(t, socket, server)
	return socket
}

// daemonOf are the options of a check of a daemon at checkNow.
func daemonOf(socket string, slots ...string) *checkOptions {
	o := checkOf()
	o.daemon, o.slots = daemonAddress{socket: socket}, slots
	return o
}

func in(d time.Duration) admin.Time { return admin.Time{Time: checkNow.Add(d)} }

// goodStatus has nothing wrong with it.
func goodStatus() admin.Status {
	return admin.Status{
		Slots: []admin.Slot{
			{Name: "pcs", Environment: "live", State: "ready", Generation: 3, NotAfter: in(200 * oneDay), Affects: admin.Affects{ODS: []string{"T99999"}, ASIDs: []string{"999999999999"}, Note: "GP Connect"}},
			{Name: "mesh", Environment: "int", State: "ready", Generation: 1, NotAfter: in(100 * oneDay)},
		},
		Tunnels:  []admin.Tunnel{{Name: "ssp-in", Slot: "pcs", State: "open"}},
		Services: []admin.Service{{Name: "nginx", Slot: "pcs", State: "in_sync"}, {Name: "java", Slot: "mesh", State: "in_sync"}},
	}
}

func exampleTrust(left time.Duration) admin.TrustEnvironment {
	return admin.TrustEnvironment{Name: "live", CAs: []admin.TrustCA{
		{Subject: "CN=Old Root,O=nhs", NotAfter: checkNow.Add(-oneDay), Expired: true, Root: true},
		{Subject: "CN=Old Root,O=nhs", NotAfter: checkNow.Add(5000 * oneDay), Root: true},
		{Subject: "O=nhs,CN=Authentication,C=GB", NotAfter: checkNow.Add(left), Slots: []string{"pcs"}, Peers: []admin.SeenPeer{{}, {}}},
	}}
}

// wrong is a condition as the daemon has it; slot is whom it concerns.
func wrong(code condition.Code, kind condition.Kind, subject, slot string, severity condition.Severity) admin.Condition {
	c := admin.Condition{Code: code, Kind: kind, Subject: subject, Slot: slot, Severity: severity, Message: "something is wrong\nin two lines", Hint: "mend it"}
	if slot == "pcs" {
		c.Affects = admin.Affects{ODS: []string{"T99999"}}
	}
	return c
}

func TestCheckDaemon(t *testing.T) {
	tests := []struct {
		name    string
		change  func(*admin.Status)
		slots   []string
		want    pluginStatus
		says    string
		below   string
		without string
	}{
		{"good", func(*admin.Status) {}, nil, pluginOK,
			"SPINECERT OK - mesh expires in 100d (2027-03-08T00:00:00Z); and 4 others OK | 'mesh'=8640000s;2592000:;604800: 'pcs'=17280000s;2592000:;604800: 'live/Authentication'=77760000s;2592000:;604800: 'live/Old Root'=432000000s;2592000:;604800:", "OK pcs expires in 200d (2027-06-16T00:00:00Z), affects T99999\n", ""},
		{"one slot", func(*admin.Status) {}, []string{"pcs"}, pluginOK,
			"SPINECERT OK - pcs expires in 200d (2027-06-16T00:00:00Z), affects T99999 | 'pcs'=17280000s;2592000:;604800:", "", "mesh"},
		{"the example of the contract", func(s *admin.Status) { s.Slots[0].NotAfter = in(3 * oneDay) }, []string{"pcs"}, pluginCritical,
			"SPINECERT CRITICAL - pcs expires in 3d (2026-12-01T00:00:00Z), affects T99999 | 'pcs'=259200s;2592000:;604800:", "hint: ask for the next certificate", ""},
		{"its conditions of dates are ours to judge", func(s *admin.Status) {
			s.Conditions = []admin.Condition{wrong(condition.Expiring, condition.Slot, "pcs", "pcs", condition.Critical), wrong(condition.CAExpiring, condition.Environment, "live", "", condition.Warning), wrong(condition.Expired, condition.Slot, "mesh", "mesh", condition.Critical)}
		}, nil, pluginOK, "SPINECERT OK - ", "", "wrong"},
		{"another slot", func(s *admin.Status) { s.Slots[0].NotAfter = in(-oneDay) }, []string{"mesh"}, pluginOK, "SPINECERT OK - mesh expires in 100d", "", "pcs"},
		{"two slots", func(s *admin.Status) { s.Slots[0].NotAfter = in(-oneDay) }, []string{"mesh", "pcs", "pcs"}, pluginCritical, "CRITICAL - pcs expired 1d ago (2026-11-27T00:00:00Z), affects T99999 | ", "OK mesh", ""},
		{"no such slot", func(*admin.Status) {}, []string{"pcs", "psc"}, pluginUnknown, `SPINECERT UNKNOWN - there is no slot "psc" | 'pcs'=`, "hint: see spinecert status", ""},
		{"condition of the slot", func(s *admin.Status) {
			s.Conditions = []admin.Condition{wrong(condition.RotationRefused, condition.Slot, "pcs", "pcs", condition.Warning)}
		}, []string{"pcs"}, pluginWarning,
			"SPINECERT WARNING - pcs: rotation_refused: something is wrong; in two lines, affects T99999 | 'pcs'=17280000s", "hint: mend it", ""},
		{"condition of its service", func(s *admin.Status) {
			s.Conditions = []admin.Condition{wrong(condition.ServiceFailed, condition.Service, "nginx", "pcs", condition.Critical)}
		}, []string{"pcs"}, pluginCritical,
			"nginx: service_failed: something is wrong; in two lines, affects T99999", "", ""},
		{"condition of its tunnel", func(s *admin.Status) {
			s.Conditions = []admin.Condition{wrong(condition.TunnelDown, condition.Tunnel, "ssp-in", "pcs", condition.Critical)}
		}, []string{"pcs"}, pluginCritical, "ssp-in: tunnel_down: ", "", ""},
		{"condition of its environment", func(s *admin.Status) {
			s.Conditions = []admin.Condition{wrong(condition.CRLStale, condition.Environment, "live", "", condition.Warning)}
		}, []string{"pcs"}, pluginWarning, "live: crl_stale: ", "", ""},
		{"condition of the host", func(s *admin.Status) {
			s.Conditions = []admin.Condition{wrong(condition.ClockSuspect, condition.Host, "clock", "", condition.Critical)}
		}, []string{"pcs"}, pluginCritical, "clock: clock_suspect: ", "", ""},
		{"condition of another service", func(s *admin.Status) {
			s.Conditions = []admin.Condition{wrong(condition.ServiceFailed, condition.Service, "java", "mesh", condition.Critical), wrong(condition.CRLStale, condition.Environment, "int", "", condition.Critical), wrong(condition.RotationRefused, condition.Slot, "mesh", "mesh", condition.Critical)}
		}, []string{"pcs"}, pluginOK, "SPINECERT OK - pcs ", "", "wrong"},
		{"of a service that has the name of the slot, and is another's", func(s *admin.Status) {
			s.Conditions = []admin.Condition{wrong(condition.ServiceFailed, condition.Service, "pcs", "mesh", condition.Critical), wrong(condition.CRLStale, condition.Environment, "pcs", "", condition.Critical)}
		}, []string{"pcs"}, pluginOK, "SPINECERT OK - pcs ", "", "wrong"},
		{"of a sink", func(s *admin.Status) {
			s.Conditions = []admin.Condition{wrong(condition.SinkFailing, condition.Sink, "mail", "", condition.Warning)}
		}, nil, pluginWarning, "SPINECERT WARNING - mail: sink_failing: ", "", ""},
		{"of a sink, one slot", func(s *admin.Status) {
			s.Conditions = []admin.Condition{wrong(condition.SinkFailing, condition.Sink, "mail", "", condition.Warning)}
		}, []string{"pcs"}, pluginOK, "SPINECERT OK - pcs ", "", "wrong"},
		{"all conditions", func(s *admin.Status) {
			s.Conditions = []admin.Condition{wrong(condition.ServiceFailed, condition.Service, "java", "mesh", condition.Warning), wrong(condition.RequestPending, condition.Slot, "mesh", "mesh", condition.Critical)}
		}, nil, pluginCritical, "SPINECERT CRITICAL - mesh: request_pending: something is wrong; in two lines; java: service_failed: ", "", ""},
		{"empty, used by a tunnel", func(s *admin.Status) { s.Slots[0].NotAfter, s.Slots[0].State = admin.Time{}, "empty" }, nil, pluginCritical, "pcs has nothing to serve: empty, affects T99999", "", ""},
		{"refused, used by a service", func(s *admin.Status) { s.Slots[1].NotAfter, s.Slots[1].LastError = admin.Time{}, "expired: it is over" }, nil, pluginCritical, "mesh has nothing to serve: expired: it is over", "", ""},
		{"empty, used by nobody", func(s *admin.Status) {
			s.Slots = append(s.Slots, admin.Slot{Name: "new", State: "empty", Hint: "ask for its certificate: spinecert csr new --slot new"})
		}, nil, pluginWarning, "SPINECERT WARNING - new has nothing to serve: empty", "hint: ask for its certificate: spinecert csr new --slot new", ""},
		{"configuration", func(s *admin.Status) {
			s.Config = admin.ConfigStatus{File: "/etc/s.yaml", Error: "s.yaml:1:1: a\ns.yaml:2:1: b"}
		}, nil, pluginWarning,
			"WARNING - the configuration on disk is not in force: s.yaml:1:1: a; s.yaml:2:1: b", "", ""},
		{"configuration, one slot", func(s *admin.Status) { s.Config.Error = "x" }, []string{"pcs"}, pluginOK, "OK - pcs", "", ""},
		{"nothing at all", func(s *admin.Status) { *s = admin.Status{} }, nil, pluginOK, "SPINECERT OK - CA live/Authentication expires in 900d ", "OK CA live/Old Root expired 1d ago", ""},
		{"many are hit", func(s *admin.Status) { s.Slots[0].Affects.ODS = strings.Fields("A B C D E F G") }, []string{"pcs"}, pluginOK, "affects A B C D E and 2 more | ", "", ""},
		{"only a note", func(s *admin.Status) { s.Slots[0].Affects = admin.Affects{Note: "a | b"} }, []string{"pcs"}, pluginOK, "affects a / b | ", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := goodStatus()
			tt.change(&s)
			r := mustCheck(t, daemonOf(serveStatus(t, s, exampleTrust(900*oneDay)), tt.slots...))
			line, out := firstLine(r), text(r)
			if r.Status != tt.want || !strings.Contains(line, tt.says) {
				t.Errorf("status %s, want %s with %q\n%s", r.Status, tt.want, tt.says, out)
			}
			if !strings.Contains(out, tt.below) || tt.without != "" && strings.Contains(out, tt.without) {
				t.Errorf("want %q, and not %q:\n%s", tt.below, tt.without, out)
			}
		})
	}
}

// TestCheckCA: CAs are judged by the thresholds, too; what is over matters only where something stood under it.
func TestCheckCA(t *testing.T) {
	for _, tt := range []struct {
		left time.Duration
		want pluginStatus
		says string
	}{
		{31 * oneDay, pluginOK, "live/Authentication expires in 31d (2026-12-29T00:00:00Z), above 1 slot and 2 peers"},
		{30 * oneDay, pluginWarning, "WARNING - CA live/Authentication expires in 30d "},
		{7 * oneDay, pluginCritical, "CRITICAL - CA live/Authentication expires in 7d "},
		{-oneDay, pluginCritical, "CRITICAL - CA live/Authentication expired 1d ago (2026-11-27T00:00:00Z), above 1 slot and 2 peers | 'live/Authentication'=-86400s"},
	} {
		r := mustCheck(t, daemonOf(serveStatus(t, goodStatus(), exampleTrust(tt.left))))
		if out := text(r); r.Status != tt.want || !strings.Contains(out, tt.says) {
			t.Errorf("%s: status %s, want %s with %q\n%s", tt.left, r.Status, tt.want, tt.says, out)
		}
		if r := mustCheck(t, daemonOf(serveStatus(t, goodStatus(), exampleTrust(tt.left)), "pcs")); r.Status != pluginOK {
			t.Errorf("%s: the slot alone: %s, its chain is in its own date", tt.left, r.Status)
		}
	}
}

// TestCheckEndedCA: who was accepted under a CA is forgotten when the daemon starts again; that the CA has ended is not.
func TestCheckEndedCA(t *testing.T) {
	old := admin.TrustCA{Subject: "CN=Authentication,O=nhs", NotAfter: checkNow.Add(-oneDay), Expired: true}
	seen, next, other, ended := old, old, old, old
	seen.Peers = []admin.SeenPeer{{}, {}}
	next.NotAfter, next.Expired = checkNow.Add(900*oneDay), false
	other.Subject, other.NotAfter, other.Expired = "CN=Another,O=nhs", next.NotAfter, false
	ended.NotAfter = checkNow.Add(-400 * oneDay)
	for _, tt := range []struct {
		name, environment string
		cas               []admin.TrustCA
		want              pluginStatus
	}{
		{"peers were seen", "live", []admin.TrustCA{seen}, pluginCritical},
		{"after a restart", "live", []admin.TrustCA{old}, pluginWarning},
		{"beside another", "live", []admin.TrustCA{old, other}, pluginWarning},
		{"beside one that ended too", "live", []admin.TrustCA{old, ended}, pluginWarning},
		{"beside its successor", "live", []admin.TrustCA{old, next}, pluginOK},
		{"in an environment that nobody uses", "training", []admin.TrustCA{old}, pluginOK},
	} {
		r := mustCheck(t, daemonOf(serveStatus(t, goodStatus(), admin.TrustEnvironment{Name: tt.environment, CAs: tt.cas})))
		if out := text(r); r.Status != tt.want || (tt.want == pluginWarning) != strings.Contains(out, "live/Authentication expired 1d ago (2026-11-27T00:00:00Z), and the trust files have no successor of its name") {
			t.Errorf("%s: %s, want %s\n%s", tt.name, r.Status, tt.want, out)
		}
	}
}

// TestCheckHeldSlot: one that was rolled back takes nothing until it is released, which is forgotten unless somebody is told.
func TestCheckHeldSlot(t *testing.T) {
	for _, tt := range []struct {
		left time.Duration
		want pluginStatus
	}{{200 * oneDay, pluginWarning}, {3 * oneDay, pluginCritical}} {
		s := goodStatus()
		s.Slots[0].State, s.Slots[0].Held, s.Slots[0].Of, s.Slots[0].NotAfter = "held", true, 2, in(tt.left)
		for _, slots := range [][]string{nil, {"pcs"}} {
			r := mustCheck(t, daemonOf(serveStatus(t, s, exampleTrust(900*oneDay)), slots...))
			if out := text(r); r.Status != tt.want || !strings.Contains(out, "; it was rolled back to generation 2, and takes no new certificate, affects T99999") || !strings.Contains(out, "spinecert rotate pcs --release\n") {
				t.Errorf("%q: %s, want %s\n%s", slots, r.Status, tt.want, out)
			}
		}
	}
}

// TestCheckNextAction: the command is in the hint, once.
func TestCheckNextAction(t *testing.T) {
	for _, tt := range []struct{ hint, command, want string }{
		{"", "", ""}, {"mend it", "", "mend it"}, {"", "spinecert reload", "spinecert reload"}, {"mend it", "spinecert reload", "mend it; then: spinecert reload"},
		{"mend it (spinecert reload)", "spinecert reload", "mend it (spinecert reload)"},
	} {
		if got := nextAction(&admin.Condition{Hint: tt.hint, Command: tt.command}); got != tt.want {
			t.Errorf("%q, %q: %q, want %q", tt.hint, tt.command, got, tt.want)
		}
	}
}

func TestCommonName(t *testing.T) {
	for subject, want := range map[string]string{"CN=a b,O=x": "a b", "O=x,CN=a": "a", "O=x": "O=x", "": "", `CN=a\,b`: "a", "OU=1CN=x,CN=y": "y"} {
		if got := commonName(subject); got != want {
			t.Errorf("%q: %q, want %q", subject, got, want)
		}
	}
}

// TestCheckNoDaemon: 2 where it does not answer, 3 where we may not ask.
func TestCheckNoDaemon(t *testing.T) {
	slow := make(chan struct{})
	hangs := serveSocket(t, &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-slow })})
	t.Cleanup(func() { close(slow) })
	noise := serveSocket(t, &http.Server{Handler: http.NotFoundHandler()})
	old := serveSocket(t, admin.NewServer(admin.Backend{Writers: func() []int { return nil }, Status: func(context.Context) admin.Status { return goodStatus() }}))
	for _, tt := range []struct {
		socket string
		slots  []string
		want   pluginStatus
		says   string
	}{
		{"/nonexistent/admin.sock", nil, pluginCritical, "on a host without a daemon name what to check: --file, --endpoint"},
		{"/nonexistent/admin.sock", []string{"pcs"}, pluginCritical, "is spinecertd running?"},
		{hangs, nil, pluginCritical, "deadline exceeded"},
		{noise, nil, pluginCritical, "read answer of"},
		{old, nil, pluginUnknown, "the daemon does not say which CAs it has"},
		{old, []string{"pcs"}, pluginOK, "pcs expires in"},
	} {
		o := daemonOf(tt.socket, tt.slots...)
		o.limit = 300 * time.Millisecond
		if tt.socket != hangs {
			o.limit = 20 * time.Second
		}
		r := mustCheck(t, o)
		if out := text(r); r.Status != tt.want || !strings.Contains(out, tt.says) {
			t.Errorf("%s %q: status %s, want %s with %q\n%s", tt.socket, tt.slots, r.Status, tt.want, tt.says, out)
		}
	}
	if got := daemonOf("/s").silent(&admin.Unreachable{Socket: "/s", Err: os.ErrPermission}); got.Status != pluginUnknown || !strings.Contains(got.Hint, "group") {
		t.Errorf("%+v", got)
	}
}

// TestCheckManySlots: 10,000 over the socket, and one file that is worse than all of them.
func TestCheckManySlots(t *testing.T) {
	s := goodStatus()
	for i := range 10000 {
		s.Slots = append(s.Slots, admin.Slot{Name: fmt.Sprintf("slot-%05d", i), NotAfter: in(time.Duration(29+i%2) * oneDay)})
	}
	o := daemonOf(serveStatus(t, s))
	o.slots, o.files = []string{}, nil
	r := mustCheck(t, o)
	if line := firstLine(r); r.Status != pluginWarning || !strings.Contains(line, "; and 9,997 more | ") || len(line) > 2048 {
		t.Errorf("%s: %s", r.Status, line)
	}
}
