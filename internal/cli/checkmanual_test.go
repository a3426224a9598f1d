package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/internal/testprogram"
)

// manualBlock is the block of code in a page of the manual that has these words in it.
func manualBlock(t *testing.T, page, words string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("../../docs", page))
	if err != nil {
		t.Fatal(err)
	}
	for i, block := range strings.Split(string(data), "```") {
		if i%2 == 1 && strings.Contains(block, words) {
			_, block, _ = strings.Cut(block, "\n")
			return block
		}
	}
	t.Fatalf("docs/%s has no block with %q", page, words)
	return ""
}

// TestCheckManual: what other programs are told to run has only flags that there are.
func TestCheckManual(t *testing.T) {
	data, err := os.ReadFile("../../docs/monitoring.md")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, c := range Commands().Commands() {
		if c.Name() == "check" {
			for _, flag := range regexp.MustCompile(`--([a-z-]+)`).FindAllString(c.Flags().FlagUsages()+c.InheritedFlags().FlagUsages(), -1) {
				known[flag] = true
			}
		}
	}
	commands := regexp.MustCompile("spinecert check( [^`|\n]*)").FindAllStringSubmatch(string(data), -1)
	if len(commands) < 15 || len(known) < 12 {
		t.Fatalf("%d commands, %d flags", len(commands), len(known))
	}
	var flags []string
	for _, command := range append(commands, []string{"", manualBlock(t, "monitoring.md", "object CheckCommand")}) {
		flags = append(flags, regexp.MustCompile(`--[a-z-]+`).FindAllString(command[1], -1)...)
	}
	for _, flag := range flags {
		if !known[flag] {
			t.Errorf("docs/monitoring.md: check has no %s", flag)
		}
	}
}

// TestCheckRules: the alerts of the manual name our series, and a server takes them.
func TestCheckRules(t *testing.T) {
	rules := manualBlock(t, "monitoring.md", "groups:")
	for name := range metricHelp {
		if !strings.Contains(rules, name) {
			t.Errorf("no rule is about %s", name)
		}
	}
	for _, name := range regexp.MustCompile(`spinecert_[a-z_]+`).FindAllString(rules, -1) {
		if metricHelp[name] == "" {
			t.Errorf("there is no series %s", name)
		}
	}
	dir := t.TempDir()
	testpki.WriteFile(t, filepath.Join(dir, "rules.yml"), []byte(rules), 0o644)
	testpki.WriteFile(t, filepath.Join(dir, "tests.yml"), []byte(checkRulesTest), 0o644)
	promtool := testprogram.Need(t, "promtool")
	for _, args := range [][]string{{"check", "rules", "rules.yml"}, {"test", "rules", "tests.yml"}} {
		cmd := exec.CommandContext(t.Context(), promtool, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", args, err, out)
		}
	}
}

// checkRulesTest: a certificate of 20 days, a look that failed, and a timer that stopped.
const checkRulesTest = `rule_files: [rules.yml]
evaluation_interval: 15m
tests:
  - interval: 15m
    input_series:
      - {series: 'spinecert_check_not_after_timestamp_seconds{kind="file",name="a.pem",instance="h"}', values: 1728000x12}
      - {series: 'spinecert_check_not_after_timestamp_seconds{kind="file",name="b.pem",instance="h"}', values: 8640000x12}
      - {series: 'spinecert_check_status{kind="file",name="a.pem",instance="h"}', values: 3x12}
      - {series: 'spinecert_check_status{kind="slot",name="pcs",instance="h"}', values: 2x12}
      - {series: 'spinecert_check_condition_active{condition="crl_stale",severity="warning",subject="live",instance="h"}', values: 1x12}
      - {series: 'spinecert_check_last_run_timestamp_seconds{instance="h"}', values: 0x12}
      - {series: 'spinecert_check_result{instance="h"}', values: 2x12}
    alert_rule_test:
      - eval_time: 2h
        alertname: SpinecertCheckStopped
        exp_alerts: []
      - eval_time: 150m
        alertname: SpinecertCheckStopped
        exp_alerts:
          - exp_labels: {severity: warning, instance: h}
            exp_annotations: {summary: 'spinecert check on h does not run, or its file cannot be read'}
      - eval_time: 2h
        alertname: SpinecertEndsSoon
        exp_alerts:
          - exp_labels: {severity: warning, instance: h, kind: file, name: a.pem}
            exp_annotations: {summary: 'file a.pem on h ends in 19d 22h 0m 0s'}
      - eval_time: 2h
        alertname: SpinecertNotSeen
        exp_alerts:
          - exp_labels: {severity: warning, instance: h, kind: file, name: a.pem}
            exp_annotations: {summary: 'spinecert check on h could not look at file a.pem'}
      - eval_time: 2h
        alertname: SpinecertCritical
        exp_alerts:
          - exp_labels: {severity: critical, instance: h, kind: slot, name: pcs}
            exp_annotations: {summary: 'slot pcs on h: spinecert check says why'}
      - eval_time: 2h
        alertname: SpinecertCondition
        exp_alerts:
          - exp_labels: {severity: warning, instance: h, condition: crl_stale, subject: live}
            exp_annotations: {summary: 'live on h: crl_stale'}
`
