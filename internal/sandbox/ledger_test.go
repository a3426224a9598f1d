package sandbox

import (
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestLedger(t *testing.T) {
	certificate := func(name string) *x509.Certificate { return &x509.Certificate{Raw: []byte(name)} }
	first, second, bad := certificate("first"), certificate("second"), certificate("bad")
	at := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		name  string
		slot  string
		leaf  *x509.Certificate
		begun time.Time
		want  books
	}{
		{"current", "a", second, at.Add(time.Minute), books{Connections: 1, Resumed: 1}},
		{"old, begun before", "a", first, at.Add(-time.Second), books{Connections: 1, Resumed: 1}},
		{"old, begun later", "a", first, at.Add(2 * time.Second), books{Connections: 1, Resumed: 1, Failed: 1}},
		{"broken", "a", bad, at, books{Connections: 1, Resumed: 1, BrokenServed: 1}},
		{"of another slot", "b", second, at, books{Connections: 1, Resumed: 1, Failed: 1}},
		{"unknown", "a", certificate("stranger"), at, books{Connections: 1, Resumed: 1, Failed: 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := newLedger()
			l.expect(first, entry{slot: "a", number: 1})
			l.expect(second, entry{slot: "a", number: 2})
			l.expect(bad, entry{slot: "a", broken: expired})
			l.confirm("a", 2, at)
			l.saw(test.slot, test.leaf, true, test.begun)
			if got, _ := l.totals(); got != test.want {
				t.Error(cmp.Diff(test.want, got))
			}
		})
	}
}

func TestCausesAreBounded(t *testing.T) {
	l := newLedger()
	for i := range 10 * maxCauses {
		l.request("new", errors.New(strings.Repeat("x", i)))
	}
	total, causes := l.totals()
	if len(causes) != maxCauses+1 || total.Failed != 10*maxCauses || causes[0].Cause != "other causes" {
		t.Errorf("%d causes, %d failed, first %q", len(causes), total.Failed, causes[0].Cause)
	}
}

func TestDistribution(t *testing.T) {
	var samples []time.Duration
	for i := 200; i > 0; i-- {
		samples = append(samples, time.Duration(i)*time.Millisecond)
	}
	if got, want := distribution(samples), (Latency{P50: 100, P99: 198, Max: 200, Samples: 200}); got != want {
		t.Errorf("distribution %+v, want %+v", got, want)
	}
	if got, want := distribution(samples[:1]), (Latency{200, 200, 200, 1}); got != want {
		t.Errorf("distribution %+v, want %+v", got, want)
	}
	if got := distribution(nil); got != (Latency{}) {
		t.Errorf("distribution of nothing %+v", got)
	}
}

func TestJudge(t *testing.T) {
	good := Result{Requests: 100, Rotations: 10, RefusedRotations: 1, Revocations: 3, RevokedCut: 3, ResumptionsRefused: 1, CRLFaults: 1}
	want := wanted{rotations: 10, broken: 1, revocations: 3, faults: 1, proved: 3}
	if p := good.judge(want); len(p) != 0 {
		t.Errorf("problems %q of a good run", p)
	}
	if p := (Result{Requests: 1}).judge(wanted{}); len(p) != 0 {
		t.Errorf("problems %q where nobody was revoked", p)
	}
	for name, change := range map[string]func(*Result, *wanted){
		"failed":               func(r *Result, _ *wanted) { r.Failed = 1 },
		"silent":               func(r *Result, _ *wanted) { r.Requests = 0 },
		"broken served":        func(r *Result, _ *wanted) { r.BrokenServed = 1 },
		"too few":              func(r *Result, _ *wanted) { r.Rotations = 9 },
		"broken unheard":       func(r *Result, _ *wanted) { r.RefusedRotations = 0 },
		"wrongly cut":          func(r *Result, _ *wanted) { r.WronglyCut = 1 },
		"revoked served":       func(r *Result, _ *wanted) { r.RevokedServed = 1 },
		"too few revoked":      func(r *Result, _ *wanted) { r.Revocations = 2 },
		"not to the end":       func(_ *Result, w *wanted) { w.proved = 2 },
		"too few cut":          func(r *Result, _ *wanted) { r.RevokedCut = 2 },
		"no ticket refused":    func(r *Result, _ *wanted) { r.ResumptionsRefused = 0 },
		"not asked after that": func(r *Result, _ *wanted) { r.CRLFaults = 0 },
	} {
		r, w := good, want
		change(&r, &w)
		if p := r.judge(w); len(p) != 1 {
			t.Errorf("%s: problems %q, want one", name, p)
		}
	}
	for name, change := range map[string]func(*Summary){
		"failed":         func(s *Summary) { s.Failed = 1 },
		"broken served":  func(s *Summary) { s.BrokenServed = 1 },
		"revoked served": func(s *Summary) { s.RevokedServed = 1 },
		"wrongly cut":    func(s *Summary) { s.WronglyCut = 1 },
	} {
		var s Summary
		if change(&s); s.Passed() {
			t.Errorf("%s: passed", name)
		}
	}
}

func TestStatus(t *testing.T) {
	bare := `{"ready":true,"slots":[{"name":"provider","state":"refused","generation":3,"last_error":"x"}],"tunnels":[{"name":"provider-in","listen":["unix:/a","127.0.0.1:4430"]},{"name":"consumer-out","listen":["127.0.0.1:0"]}]}`
	for _, text := range []string{bare, `{"schema":1,"result":` + bare + `}`} {
		s, err := parseStatus([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if s.tcp(providerTunnel) != "127.0.0.1:4430" || s.tcp(consumerTunnel) != "" || s.slot(providerSlot).Generation != 3 {
			t.Errorf("status %+v", s)
		}
	}
	for _, test := range []struct {
		state, last string
		defect      defect
		want        bool
	}{
		{"refused", `"why"`, expired, true},
		{"refused", `{"reason":"expired"}`, otherCA, true},
		{"pending", `"why"`, expired, false},
		{"pending", `"why"`, tornPair, true},
		{"ready", `"why"`, tornPair, false},
		{"refused", `""`, expired, false},
		{"refused", `null`, expired, false},
		{"pending", ``, foreignKey, false},
	} {
		if got := rejected(slotStatus{State: test.state, LastError: []byte(test.last)}, test.defect); got != test.want {
			t.Errorf("%+v: %t", test, got)
		}
	}
	if _, err := parseStatus([]byte("nonsense")); err == nil {
		t.Error("nonsense is a status")
	}
}
