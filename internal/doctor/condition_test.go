package doctor

import (
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/condition"
	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/deliver"
	"github.com/spinecert/spinecert/internal/testpki"
)

// TestEveryConditionHasALine: whatever is active is told once, as bad as it is, and with
// the next action.
func TestEveryConditionHasALine(t *testing.T) {
	for _, d := range condition.Definitions() {
		for _, kind := range d.Kinds {
			for severity, want := range map[condition.Severity]Level{condition.Warning: Warn, condition.Critical: Fail} {
				c := condition.Condition{Code: d.Code, Kind: kind, Subject: "that", Severity: severity, Since: noon, Message: "it is so"}
				c.Complete("")
				lines := WithConditions([]Line{{Level: OK, Code: Config}, {Level: OK, Code: Tunnel, Condition: c.ID}}, []condition.Condition{c})
				found := matching(lines, `.*it is so \(`+string(d.Code)+`, since 2026-11-22T12:00:00Z\)$`)
				if len(lines) != 3 || len(found) != 1 || found[0].Level != want || found[0].Hint == "" || found[0].Condition != c.ID {
					t.Errorf("%s of a %s, %s:\n%s", d.Code, kind, severity, text(lines))
				}
			}
		}
	}
}

// TestConditionCommand: the command of a condition stands in the hint, once.
func TestConditionCommand(t *testing.T) {
	for hint, want := range map[string]string{
		"":                            "read the error, correct the sink, and try it; then: spinecert alerts test ops",
		"mend it":                     "mend it; then: spinecert alerts test ops",
		"spinecert alerts test ops!!": "spinecert alerts test ops!!",
	} {
		c := condition.Condition{Code: condition.SinkFailing, Kind: condition.Sink, Subject: "ops", Hint: hint}
		c.Complete("")
		if got := conditionLine(&c); got.Hint != want || got.Code != Daemon {
			t.Errorf("%+v, want %q", got, want)
		}
	}
}

// TestToldOnce: a line of a check stands for its condition, and is as bad as that; of
// several of one subject it stands for the one that it names.
func TestToldOnce(t *testing.T) {
	list := func(address string) condition.Condition {
		c := condition.Condition{Code: condition.CRLStale, Kind: condition.Environment, Subject: "live", Severity: condition.Critical, Message: "CRL from " + address + " was never had"}
		c.Complete(address[len(address)-4:])
		return c
	}
	lines := WithConditions([]Line{
		{Level: Warn, Code: CRL, Subject: "http://a/1", Condition: "crl_stale/environment/live", Message: "asked"},
		{Level: Warn, Code: Slot, Subject: "pcs", Message: "of nothing"},
	}, []condition.Condition{list("http://a/1"), list("http://b/2")})
	if len(matching(lines, "fail CRL asked")) != 1 || len(matching(lines, "fail CRL .*http://b/2")) != 1 || len(matching(lines, "warn SLOT of nothing")) != 1 || len(lines) != 3 {
		t.Error("\n" + text(lines))
	}
}

// TestChecksTell: what a check finds carries the ID of the condition that says the same.
func TestChecksTell(t *testing.T) {
	for _, tc := range []struct {
		name  string
		spoil func(w *ward)
		want  string // ID
	}{
		{"ends", func(w *ward) { w.serve(w.issue(fqdn, testpki.Validity(w.now.Add(-day), w.now.Add(80*day)))) }, "expiring/slot/pcs"},
		{"ended", ended, "expiring/slot/pcs"},
		{"CA", func(w *ward) {
			old := w.root.SubCA(w.t, testpki.Name("Old SubCA"), testpki.Validity(w.now.Add(-day), w.now.Add(300*day)))
			w.write("trust.pem", append(w.sub.BundlePEM(), old.CertPEM()...), 0o644)
		}, "ca_expiring/environment/t/"},
		{"no trust", func(w *ward) { w.write("trust.pem", w.leaf.CertPEM(), 0o644) }, "rotation_refused/environment/t"},
		{"half a pair", func(w *ward) { w.write("pcs.key", w.issue("b.nhs.uk").KeyPEM(), 0o600) }, "source_incoherent/slot/pcs"},
		{"a readable key", func(w *ward) { chmod(w, "pcs.key", 0o644) }, "key_readable/slot/pcs"},
		{"off", func(w *ward) { w.environment = `revocation: "off"` }, "revocation_off/environment/t"},
		{"no list", func(w *ward) { w.server.put("/sub.crl", nil) }, "crl_stale/environment/t"},
		{"audit", func(w *ward) { w.inbound += ", policy: audit" }, "policy_audit/tunnel/ssp-in"},
		{"weaker", func(w *ward) { w.inbound += `, revocation: "off"` }, "revocation_off/tunnel/ssp-in"},
		{"closed", func(w *ward) { w.state = "failed" }, "tunnel_down/tunnel/ssp-in"},
		{"asked", func(w *ward) {
			later(w, func(in *Inside) { in.Requests = []admin.Request{{ID: "aa", Slot: "pcs", Created: w.now}} })
		}, "request_pending/slot/pcs/aa"},
		{"service", func(w *ward) {
			later(w, func(in *Inside) {
				in.Services = []deliver.Status{{Config: config.Service{Name: "web", Slot: "pcs", Directory: w.path("web")}, State: deliver.Failed, Since: w.now}}
			})
		}, "service_failed/service/web"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWard(t)
			tc.spoil(w)
			lines := w.examine()
			for _, l := range lines {
				if l.Level == OK && l.Condition != "" {
					t.Errorf("all is well, and is %s: %s", l.Condition, l)
				}
				if l.Level != OK && strings.HasPrefix(l.Condition, tc.want) {
					return
				}
			}
			t.Errorf("no line is %s:\n%s", tc.want, text(lines))
		})
	}
}

// ended has the slot come back with what has ended since.
func ended(w *ward) {
	w.serve(w.issue(fqdn, testpki.Validity(w.now.Add(-day), w.now.Add(time.Hour))))
	w.now = w.now.Add(2 * time.Hour)
}

// TestLifeLevel: the levels are those of alerts.expiry.leaf, and critical is a week.
func TestLifeLevel(t *testing.T) {
	w := newWard(t)
	w.extra = "alerts: {expiry: {leaf: [20d, 3d]}}\n"
	var in Inside
	w.in = func(i *Inside) { in = *i }
	w.examine()
	for left, want := range map[time.Duration]Level{21 * day: OK, 20 * day: Warn, 8 * day: Warn, 7 * day: Fail, -day: Fail} {
		if got := in.lifeLevel(left); got != want {
			t.Errorf("%s: %s, want %s", left, got, want)
		}
	}
}
