package prometheus

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/internal/testprogram"
)

const (
	endsSoon = "SpinecertCertificateEndsSoon/leaf"
	ends     = "SpinecertCertificateEnds/leaf"
	silent   = "SpinecertSilent"
)

// TestLife: a certificate with few days left is told, also when the daemon is dead, until there is another one.
func TestLife(t *testing.T) {
	t.Parallel()
	testprogram.Need(t, "promtool")
	h := newHost(t, "")
	end := h.renew(5 * day)
	h.startDaemon()
	rules, err := filepath.Abs(filepath.Join(docs, "prometheus", "rules.yml"))
	if err != nil {
		t.Fatal(err)
	}
	h.startPrometheus(block(t, "prometheus.md", "rule_files:"), "/etc/prometheus/spinecert.yml", rules, "127.0.0.1:9464", h.web,
		"scrape_interval: 30s", "scrape_interval: 1s", "evaluation_interval: 30s", "evaluation_interval: 1s")

	h.until("the alerts fire", func() bool { a := h.alerts(); return a[ends].State == "firing" && a[endsSoon].State == "firing" })
	for name, a := range h.alerts() {
		if name != ends && name != endsSoon {
			t.Errorf("%s is active: %v", name, a)
		}
		for what, text := range a.Annotations {
			if strings.Contains(text, "<") || strings.Contains(text, "{{") {
				t.Errorf("%s: %s is %q", name, what, text)
			}
		}
	}
	want := "pcs on pcs01: leaf ends on " + end.UTC().Format("2006-01-02 15:04:05 +0000 UTC")
	if got := h.alerts()[ends]; got.Annotations["summary"] != want || got.Labels["severity"] != "critical" || got.Labels["instance"] != "pcs01" {
		t.Errorf("%v, want %q", got, want)
	}
	h.checkScrape(end)
	h.checkAnswers()

	h.stopDaemon()
	h.until("the target is silent", func() bool { return len(h.series("instance:spinecert:silent")) == 1 })
	h.evaluated()
	if raw := h.series("spinecert_certificate_not_after_timestamp_seconds"); len(raw) != 0 {
		t.Fatalf("the daemon has ended, and its series have not: %v", raw)
	}
	if a := h.alerts(); a[ends].State != "firing" || a[endsSoon].State != "firing" || a[silent].State != "pending" {
		t.Errorf("while the daemon is dead there are %v", a)
	}

	h.renew(200 * day)
	h.startDaemon()
	h.until("nothing is wrong any more", func() bool { return len(h.series("up == 1")) == 1 && len(h.alerts()) == 0 })
}

// checkScrape holds what Prometheus has against what is.
func (h *host) checkScrape(end time.Time) {
	t := h.t
	t.Helper()
	if health, problem := h.target(); health != "up" || problem != "" {
		t.Errorf("the target is %s, %s", health, problem)
	}
	found := h.series("spinecert_certificate_not_after_timestamp_seconds", "slot", "position")
	if len(found) != 3 || found["pcs/leaf"] != float64(end.Unix()) {
		t.Errorf("ends of the certificates: %v, want 3, and the leaf's at %d", found, end.Unix())
	}
	if lists := h.series("spinecert_crl_next_update_timestamp_seconds", "environment", "issuer"); len(lists) != 2 {
		t.Errorf("CRLs: %v", lists)
	}
	if up := h.series(`spinecert_build_info{version="v0.0.0-test"}`); len(up) != 1 {
		t.Errorf("what runs: %v", up)
	}
	status, body := get(t, "http://"+h.web+"/metrics")
	if status != http.StatusOK || len(body) < 1000 {
		t.Fatalf("/metrics: status %d, %d bytes", status, len(body))
	}
	cmd := exec.CommandContext(t.Context(), testprogram.Need(t, "promtool"), "check", "metrics")
	cmd.Stdin = strings.NewReader(string(body))
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

// target returns how the one target is, and why.
func (h *host) target() (health, problem string) {
	h.t.Helper()
	var targets struct {
		ActiveTargets []struct{ Health, LastError string }
	}
	h.ask("targets", nil, &targets)
	if len(targets.ActiveTargets) != 1 {
		return "", ""
	}
	return targets.ActiveTargets[0].Health, targets.ActiveTargets[0].LastError
}

// TestScrapeFromElsewhere: with slot and peers, who is named may scrape, and nobody else.
func TestScrapeFromElsewhere(t *testing.T) {
	t.Parallel()
	testprogram.Need(t, "promtool")
	h := newHost(t, ", slot: pcs, peers: [prometheus.example.nhs.uk]")
	h.renew(200 * day)
	h.become("stranger.example.nhs.uk")
	h.startDaemon()
	h.startPrometheus("global: {scrape_interval: 1s}\n"+block(t, "prometheus.md", "tls_config:"), "/etc/prometheus/spine/trust.pem", h.dir+"/trust.pem",
		"/etc/prometheus/spine/", h.dir+"/prometheus-", "192.0.2.10:9464", h.web)
	h.until("a stranger is refused", func() bool {
		health, _ := h.target()
		if health == "up" {
			t.Fatal("a stranger may scrape")
		}
		return health == "down" && strings.Contains(h.said.String(), "reason=not_listed")
	})
	h.become("prometheus.example.nhs.uk")
	h.until("who is named may scrape", func() bool { health, _ := h.target(); return health == "up" })
	if ready := h.series("spinecert_slot_ready", "instance", "slot"); ready["pcs01/pcs"] != 1 {
		t.Errorf("slots: %v", ready)
	}
}

// become gives Prometheus a certificate of a name.
func (h *host) become(name string) {
	h.t.Helper()
	leaf := h.sub.Issue(h.t, testpki.DNS(name))
	h.write("prometheus-key.pem", leaf.KeyPEM())
	h.write("prometheus-fullchain.pem", leaf.FullChainPEM())
}

// checkAnswers: no rule failed, and Prometheus answers all that the dashboard asks; what a host like this has is there.
func (h *host) checkAnswers() {
	t := h.t
	t.Helper()
	evaluated := 0
	for _, g := range h.groups() {
		for _, r := range g.Rules {
			evaluated++
			if r.Health != "ok" || r.LastError != "" {
				t.Errorf("rule %s: %s, %s", r.Name, r.Health, r.LastError)
			}
		}
	}
	if want := len(rules(t)); evaluated != want {
		t.Errorf("%d rules were evaluated, want %d", evaluated, want)
	}
	answered := 0
	for where, expr := range loadDashboard(t).exprs() {
		if got := h.series(expr); len(got) > 0 {
			answered++
		} else if strings.Contains(where, "Days left") {
			t.Errorf("%s: nothing", where)
		}
	}
	if answered < 20 {
		t.Errorf("only %d questions of the dashboard have an answer", answered)
	}
}

type evaluation struct {
	Name  string
	Last  time.Time `json:"lastEvaluation"`
	Rules []struct{ Name, Health, LastError string }
}

func (h *host) groups() []evaluation {
	h.t.Helper()
	var data struct{ Groups []evaluation }
	h.ask("rules", nil, &data)
	return data.Groups
}

// evaluated waits until every group was evaluated after what is known now, twice: one group reads what another records.
func (h *host) evaluated() {
	h.t.Helper()
	for range 2 {
		from := time.Now()
		h.until("all rules are evaluated", func() bool {
			for _, g := range h.groups() {
				if !g.Last.After(from) {
					return false
				}
			}
			return true
		})
	}
}

// TestConfigurations: promtool and amtool take the other blocks of the page.
func TestConfigurations(t *testing.T) {
	t.Parallel()
	amtool := testprogram.Need(t, "amtool")
	dir := t.TempDir()
	for name, text := range map[string]string{
		"scrape.yml":       block(t, "prometheus.md", "tls_config:"),
		"alertmanager.yml": block(t, "prometheus.md", "inhibit_rules:"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	promtool(t, "check", "config", "--syntax-only", filepath.Join(dir, "scrape.yml"))
	if out, err := exec.CommandContext(t.Context(), amtool, "check-config", filepath.Join(dir, "alertmanager.yml")).CombinedOutput(); err != nil {
		t.Errorf("amtool: %v\n%s", err, out)
	}
}
