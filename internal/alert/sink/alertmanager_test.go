package sink

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/alert"
	"github.com/spinecert/spinecert/internal/condition"
	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/testprogram"
)

func amAt(address string) config.Sink {
	return config.Sink{Name: "am", Type: config.SinkAlertmanager, URL: address}
}

func resolve(n alert.Notice, at time.Time) alert.Notice {
	n.Event, n.Resolved, n.At = alert.Resolved, condition.Moment{Time: at}, at
	return n
}

// shown is an alert as Alertmanager's API has it.
type shown struct {
	Labels, Annotations map[string]string
	StartsAt, EndsAt    time.Time
	Status              struct{ State string }
}

var listening = regexp.MustCompile(`Listening on" address=(127\.0\.0\.1:\d+)`)

// startAlertmanager starts Debian's Alertmanager, which tells its alerts to a webhook, under a path.
func startAlertmanager(t *testing.T, told string) string {
	t.Helper()
	program := testprogram.Need(t, "prometheus-alertmanager")
	dir := t.TempDir()
	file := write(t, "am.yml", "route: {receiver: hook, group_by: ['...'], group_wait: 0s, group_interval: 1s}\nreceivers: [{name: hook, webhook_configs: [{url: '"+told+"'}]}]\n")
	_, said := testprogram.Start(t, nil, dir, program, "--config.file="+file, "--storage.path="+dir, "--web.listen-address=127.0.0.1:0", "--cluster.listen-address=", "--web.route-prefix=/am")
	base := ""
	until(t, "Alertmanager is ready", func() bool {
		address := listening.FindStringSubmatch(said.String())
		if address == nil {
			return false
		}
		base = "http://" + address[1] + "/am"
		r, err := http.Get(base + "/-/ready")
		if err != nil {
			return false
		}
		_ = r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	return base
}

func alertsOf(t *testing.T, base string) []shown {
	t.Helper()
	r, err := http.Get(base + "/api/v2/alerts")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	var list []shown
	if err := json.NewDecoder(r.Body).Decode(&list); err != nil {
		t.Fatal(err)
	}
	return list
}

func TestAlertmanager(t *testing.T) {
	told := startHook(t, nil, nil)
	base := startAlertmanager(t, told.URL)
	s := make1(t, amAt(base+"/"))
	show := func(active, resolved []alert.Notice) {
		t.Helper()
		if err := s.Mirror.Show(t.Context(), active, resolved); err != nil {
			t.Fatal(err)
		}
	}
	// Alertmanager tells others, after a while: what it has not told yet when it is over, it never tells.
	passedOn := func(status, severity string) {
		t.Helper()
		until(t, "Alertmanager tells that "+severity+" is "+status, func() bool {
			told.mu.Lock()
			defer told.mu.Unlock()
			return slices.ContainsFunc(told.bodies, func(b string) bool {
				return strings.Contains(b, `"status":"`+status+`"`) && strings.Contains(b, `"severity":"`+severity+`"`) && strings.Contains(b, "SpinecertExpiring")
			})
		})
	}
	now := time.Now()
	warning := expiring("pcs", now.Add(20*24*time.Hour))
	warning.Opened, warning.Condition.Severity = now.Add(-time.Hour), condition.Warning
	show([]alert.Notice{warning}, nil)
	show([]alert.Notice{warning}, nil) // again, as each minute
	list := alertsOf(t, base)
	if len(list) != 1 {
		t.Fatalf("%d alerts: %+v", len(list), list)
	}
	wantLabels := map[string]string{"alertname": "SpinecertExpiring", "code": "expiring", "kind": "slot", "subject": "pcs", "slot": "pcs", "severity": "warning", "instance": "gateway1", "id": "expiring/slot/pcs"}
	for key, want := range wantLabels {
		if got := list[0].Labels[key]; got != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
	if len(list[0].Labels) != len(wantLabels) {
		t.Errorf("labels: %v", list[0].Labels)
	}
	for key, want := range map[string]string{"summary": "pcs: certificate ends in 1", "command": "spinecert csr new --slot pcs", "affects": "ODS A99999", "stops": "tunnel ssp-in", "runbook": "docs/runbook/expiring.md", "ends": "20", "description": "its certificate ends on", "action": "ask for"} {
		if got := list[0].Annotations[key]; !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q, want %q...", key, got, want)
		}
	}
	if left := list[0].EndsAt.Sub(now); left < 4*time.Minute || left > 6*time.Minute || !list[0].StartsAt.Equal(warning.Opened.Truncate(time.Millisecond)) {
		t.Errorf("from %s to %s", list[0].StartsAt, list[0].EndsAt)
	}

	passedOn("firing", "warning")

	// It grows worse: the one with the old severity ends. Somebody sees to it: it stays the same alert.
	critical := warning
	critical.Condition.Severity, critical.Ack = condition.Critical, &alert.Ack{By: "jane", Until: now.Add(time.Hour)}
	show([]alert.Notice{critical}, []alert.Notice{resolve(warning, time.Now())})
	until(t, "one critical alert", func() bool {
		list := alertsOf(t, base)
		return len(list) == 1 && list[0].Labels["severity"] == "critical" && strings.HasPrefix(list[0].Annotations["acknowledged"], "by jane until")
	})
	passedOn("firing", "critical")
	passedOn("resolved", "warning")
	show(nil, []alert.Notice{resolve(critical, time.Now())})
	until(t, "no alert", func() bool { return len(alertsOf(t, base)) == 0 })
	passedOn("resolved", "critical")
}

// 10,000 at once, the nastiest names, clocks that went back: Alertmanager takes all.
func TestAlertmanagerTakesWhatThereIs(t *testing.T) {
	told := startHook(t, nil, nil)
	base := startAlertmanager(t, told.URL)
	s := make1(t, amAt(base))
	now := time.Now()
	back := expiring("clock-back", now)
	back.Opened = now.Add(24 * time.Hour)
	none := alert.Notice{Event: alert.Opened, Condition: condition.Condition{Code: condition.TunnelDown, ID: "x"}}
	evil := wicked().Notices[0]
	test := alert.Notice{Event: alert.Test, Condition: condition.Condition{Code: "test", Kind: condition.Sink, Subject: "am", Message: "a test"}, Opened: now}
	if err := s.Mirror.Show(t.Context(), []alert.Notice{back, none, evil, test}, []alert.Notice{resolve(back, now), resolve(none, time.Time{})}); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, a := range alertsOf(t, base) {
		names = append(names, a.Labels["alertname"])
		for _, text := range a.Labels {
			harmless(t, "a label", text)
		}
		for _, text := range a.Annotations {
			harmless(t, "an annotation", text)
		}
	}
	slices.Sort(names)
	if want := []string{"SpinecertExpiring", "SpinecertExpiring", "SpinecertTest", "SpinecertTunnelDown"}; !slices.Equal(names, want) {
		t.Errorf("%q, want %q", names, want)
	}
}

func TestAlertmanagerBatches(t *testing.T) {
	h := startHook(t, nil, nil)
	s := make1(t, amAt(h.URL+"/prefix/"))
	var active, resolved []alert.Notice
	for i := range 1200 {
		active = append(active, expiring(fmt.Sprint("pcs-", i), at))
		if i%2 == 0 {
			resolved = append(resolved, resolve(expiring(fmt.Sprint("old-", i), at), at))
		}
	}
	if err := s.Mirror.Show(t.Context(), active, resolved); err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, body := range h.bodies {
		var list []posted
		if err := json.Unmarshal([]byte(body), &list); err != nil || len(list) > batch {
			t.Fatalf("%d alerts, %v", len(list), err)
		}
		for _, a := range list {
			seen[a.Labels["subject"]]++
		}
	}
	if len(seen) != 1800 || len(h.bodies) != 4 {
		t.Errorf("%d alerts in %d requests", len(seen), len(h.bodies))
	}
	if err := s.Mirror.Show(t.Context(), nil, nil); err != nil || h.count() != 4 {
		t.Errorf("nothing is not said: %v", err)
	}
}

// What one batch has wrong does not keep the others away; a server that is gone ends the attempt.
func TestAlertmanagerErrors(t *testing.T) {
	var active []alert.Notice
	for i := range 1200 {
		active = append(active, expiring(fmt.Sprint("pcs-", i), at))
	}
	for code, requests := range map[int]int{400: 3, 500: 1, 302: 1} {
		h := startHook(t, nil, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(code)
			_, _ = io.WriteString(w, `"start time must be before end time; `+strings.Repeat("x", 1<<16))
		})
		err := make1(t, amAt(h.URL+"/secret-prefix")).Mirror.Show(t.Context(), active, nil)
		says(t, err, fmt.Sprint("answered ", code))
		without(t, err, "secret-prefix", strings.Repeat("x", 200))
		if h.count() != requests {
			t.Errorf("%d: %d requests, want %d", code, h.count(), requests)
		}
		if code == 400 {
			says(t, err, "start time must be", "and 2 other requests")
		}
	}
}

// What is over is shown as over since it was, and in an order that Alertmanager takes.
func TestEndsOfAlerts(t *testing.T) {
	a := &alertmanager{host: "gateway1", now: time.Now}
	hour, day := at.Add(-time.Hour), at.Add(-24*time.Hour)
	for name, c := range map[string]struct{ opened, resolved, told, wantStart, wantEnd time.Time }{
		"resolved":         {day, hour, at, day, hour},
		"another severity": {day, time.Time{}, hour, day, hour},
		"no time":          {day, time.Time{}, time.Time{}, day, at},
		"in the future":    {day, at.Add(time.Hour), at, day, at},
		"ends before":      {hour, day, at, day, day},
		"never opened":     {time.Time{}, hour, at, hour, hour},
	} {
		n := one().Notices[0]
		n.Event, n.Opened, n.Resolved, n.At = alert.Resolved, c.opened, condition.Moment{Time: c.resolved}, c.told
		if got := a.ended(&n, at); !got.StartsAt.Equal(c.wantStart) || !got.EndsAt.Equal(c.wantEnd) {
			t.Errorf("%s: from %s to %s, want %s to %s", name, got.StartsAt, got.EndsAt, c.wantStart, c.wantEnd)
		}
	}
}

func TestAlertNames(t *testing.T) {
	for code, want := range map[condition.Code]string{condition.Expiring: "SpinecertExpiring", condition.CAExpiring: "SpinecertCAExpiring", condition.CRLStale: "SpinecertCRLStale", condition.G1Chain: "SpinecertG1Chain", condition.OwnCertificateRevoked: "SpinecertOwnCertificateRevoked", "": "Spinecert", "__": "Spinecert"} {
		if got := alertName(code); got != want {
			t.Errorf("%s: %s, want %s", code, got, want)
		}
	}
}
