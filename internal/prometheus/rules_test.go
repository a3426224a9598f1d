package prometheus

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/spinecert/spinecert/internal/condition"
	"github.com/spinecert/spinecert/internal/testprogram"
)

const (
	docs = "../../docs"
	home = "https://github.com/spinecert/spinecert/blob/main/"
)

// rule is one of rules.yml: of a recorded series, or of an alert.
type rule struct {
	Record        string            `yaml:"record"`
	Alert         string            `yaml:"alert"`
	Expr          string            `yaml:"expr"`
	For           string            `yaml:"for"`
	KeepFiringFor string            `yaml:"keep_firing_for"`
	Labels        map[string]string `yaml:"labels"`
	Annotations   map[string]string `yaml:"annotations"`
}

func (r *rule) name() string { return r.Record + r.Alert }

// group is a group of rules.
type group struct {
	Name  string `yaml:"name"`
	Rules []rule `yaml:"rules"`
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(docs, path))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// groups returns what rules.yml has.
func groups(t *testing.T) []group {
	t.Helper()
	var file struct {
		Groups []group `yaml:"groups"`
	}
	if err := yaml.UnmarshalWithOptions(read(t, "prometheus/rules.yml"), &file, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	return file.Groups
}

// rules returns the rules of all groups.
func rules(t *testing.T) []rule {
	t.Helper()
	var out []rule
	for _, g := range groups(t) {
		out = append(out, g.Rules...)
	}
	if len(out) < 50 {
		t.Fatalf("only %d rules found", len(out))
	}
	return out
}

// alerts returns the rules that are alerts.
func alerts(t *testing.T) []rule {
	t.Helper()
	return slices.DeleteFunc(rules(t), func(r rule) bool { return r.Alert == "" })
}

const theirSeverity = "{{ $labels.severity }}"

// conditionIn finds the condition that an expression asks for, and whether only with one severity.
var conditionIn = regexp.MustCompile(`instance:spinecert_condition_active:known\{condition="([a-z0-9_]+)"(, severity="[a-z]+")?\}`)

func TestAlerts(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range rules(t) {
		if seen[r.name()] {
			t.Errorf("%s is there twice", r.name())
		}
		seen[r.name()] = true
	}
	for _, r := range alerts(t) {
		if !regexp.MustCompile(`^Spinecert[A-Z][A-Za-z0-9]+$`).MatchString(r.Alert) {
			t.Errorf("%s: the name should begin with Spinecert", r.Alert)
		}
		switch severity := r.Labels["severity"]; severity {
		case "warning", "critical":
		case theirSeverity:
			if !strings.HasPrefix(r.Expr, "instance:spinecert_condition_active:known{condition") || strings.Contains(r.Expr, "severity=") {
				t.Errorf("%s: the severity is that of a series which has none, or one alone", r.Alert)
			}
		default:
			t.Errorf("%s: severity %q", r.Alert, severity)
		}
		for _, name := range []string{"summary", "description", "runbook_url"} {
			if text := r.Annotations[name]; text == "" || strings.TrimSpace(text) != text || strings.Contains(text, "\n") {
				t.Errorf("%s: %s should be one line, and is %q", r.Alert, name, text)
			}
		}
		if len(r.Annotations) != 3 {
			t.Errorf("%s: annotations are summary, description and runbook_url alone", r.Alert)
		}
		// A warning that grows critical is another alert, which waits for its own time: meanwhile the old one goes on.
		if r.Labels["severity"] == theirSeverity && mayGrow(conditionOf(r)) && r.KeepFiringFor == "" && minutes(r.For) < 60 && r.Alert != "SpinecertEnvironmentMixture" {
			t.Errorf("%s: without keep_firing_for nothing fires for %s when it grows worse", r.Alert, r.For)
		}
	}
}

// mayGrow reports whether a condition has two severities.
func mayGrow(code condition.Code) bool {
	critical := code.Definition().Critical
	return critical != "" && critical != "always"
}

func minutes(d string) int {
	n, unit := 0, ""
	_, _ = fmt.Sscanf(d, "%d%s", &n, &unit)
	return n * map[string]int{"m": 1, "h": 60, "d": 1440}[unit]
}

// conditionOf is the condition that an alert is about, "" for none.
func conditionOf(r rule) condition.Code {
	if m := conditionIn.FindStringSubmatch(r.Expr); m != nil {
		return condition.Code(m[1])
	}
	return condition.Code(r.Labels["condition"])
}

// TestRunbooks: each alert names the page of its condition, or a section of the manual that is there.
func TestRunbooks(t *testing.T) {
	for _, r := range alerts(t) {
		path, ok := strings.CutPrefix(r.Annotations["runbook_url"], home)
		switch code := conditionOf(r); {
		case !ok:
			t.Errorf("%s: runbook_url does not begin with %s", r.Alert, home)
		case code != "" && path != code.Runbook():
			t.Errorf("%s: runbook_url is %s, and the page of %s is %s", r.Alert, path, code, code.Runbook())
		case code != "":
			read(t, strings.TrimPrefix(path, "docs/"))
		case r.Alert == "SpinecertCondition":
			if want := condition.Code("{{ $labels.condition }}").Runbook(); path != want {
				t.Errorf("%s: runbook_url is %s, want %s", r.Alert, path, want)
			}
		default:
			page, anchor, _ := strings.Cut(strings.TrimPrefix(path, "docs/"), "#")
			heading := regexp.MustCompile(`(?mi)^#+ ` + strings.ReplaceAll(regexp.QuoteMeta(anchor), "-", "[ -]") + `$`)
			if anchor == "" || !heading.MatchString(strings.NewReplacer(",", "", "`", "").Replace(string(read(t, page)))) {
				t.Errorf("%s: %s has no heading for %q", r.Alert, page, anchor)
			}
		}
	}
}

// TestConditions: each condition has an alert, in the words of the table.
func TestConditions(t *testing.T) {
	told, known := map[condition.Code]bool{}, map[condition.Code]bool{}
	var all []string
	for _, d := range condition.Definitions() {
		known[d.Code] = true
		all = append(all, string(d.Code))
	}
	if len(all) < 21 {
		t.Fatalf("only %d conditions found", len(all))
	}
	for _, r := range alerts(t) {
		code := conditionOf(r)
		told[code] = true
		if code != "" && !known[code] {
			t.Errorf("%s: there is no condition %q", r.Alert, code)
		}
		// Of a rule for the condition as such; others say more.
		if m := conditionIn.FindStringSubmatch(r.Expr); m != nil && m[2] == "" && !strings.HasSuffix(r.Annotations["summary"], ": "+code.Definition().Title) {
			t.Errorf("%s: summary %q should end with the title of the condition, %q", r.Alert, r.Annotations["summary"], code.Definition().Title)
		}
		if r.Alert == "SpinecertCondition" {
			m := regexp.MustCompile(`condition!~"([^"]*)"`).FindStringSubmatch(r.Expr)
			if m == nil || m[1] != strings.Join(all, "|") {
				t.Errorf("%s should leave out all that have a rule: %s", r.Alert, strings.Join(all, "|"))
			}
		}
	}
	for code := range known {
		if !told[code] {
			t.Errorf("no alert is about %s", code)
		}
	}
}

// TestNothingResolvesByDying: a gauge that an alert looks at is kept while its target is silent.
func TestNothingResolvesByDying(t *testing.T) {
	documented := documented(t)
	for _, r := range rules(t) {
		if metric, ok := strings.CutSuffix(strings.TrimPrefix(r.Record, "instance:"), ":known"); ok {
			want := fmt.Sprintf("%s or %s and on (job, instance) instance:spinecert:silent", metric, r.Record)
			if r.Expr != want {
				t.Errorf("%s is %q, want %q", r.Record, r.Expr, want)
			}
			continue
		}
		for _, name := range seriesIn(r.Expr) {
			if r.Alert != "" && documented[name].kind == "gauge" {
				t.Errorf("%s: %s ends with its target: use instance:%s:known", r.Alert, name, name)
			}
		}
	}
}

// scenario is a test of promtool.
type scenario struct {
	Tests []struct {
		Exprs []struct {
			Expr    string `yaml:"expr"`
			Time    string `yaml:"eval_time"`
			Samples []struct {
				Labels string `yaml:"labels"`
			} `yaml:"exp_samples"`
		} `yaml:"promql_expr_test"`
	} `yaml:"tests"`
}

var (
	alertLabel = regexp.MustCompile(`([a-z]+)="([^"]*)"`)
	testFiles  = []string{"rules_test.yml", "rules_day_test.yml"}
)

// TestEveryAlertIsTried: in some scenario it fires at one time and does not at another. The labels it then has are those that its text may name.
func TestEveryAlertIsTried(t *testing.T) {
	tried, labels := map[string]bool{}, map[string]map[string]bool{}
	for _, file := range testFiles {
		var s scenario
		if err := yaml.Unmarshal(read(t, "prometheus/"+file), &s); err != nil {
			t.Fatal(err)
		}
		for _, test := range s.Tests {
			times := map[string]int{}
			for _, e := range test.Exprs {
				if e.Expr != `sum without (job, instance, alertstate) (ALERTS{alertstate="firing"})` {
					t.Errorf("%s: %q at %s does not ask for all that fires", file, e.Expr, e.Time)
				}
				now := map[string]bool{}
				for _, sample := range e.Samples {
					name := ""
					for _, l := range alertLabel.FindAllStringSubmatch(sample.Labels, -1) {
						if l[1] == "alertname" {
							name = l[2]
							now[name] = true
							labels[name] = map[string]bool{"instance": true, "job": true}
						} else {
							labels[name][l[1]] = true
						}
					}
				}
				for name := range now {
					times[name]++
				}
			}
			for name, n := range times {
				if n < len(test.Exprs) {
					tried[name] = true
				}
			}
		}
	}
	template := regexp.MustCompile(`\{\{ (?:\$labels\.([a-z]+)|\$value(?: \| humanize(?:Timestamp|Duration))?) \}\}`)
	for _, r := range alerts(t) {
		if !tried[r.Alert] {
			t.Errorf("no scenario has %s firing at one time and not at another", r.Alert)
		}
		for _, text := range r.Annotations {
			if strings.Count(text, "{{") != len(template.FindAllString(text, -1)) {
				t.Errorf("%s: %q has something else in braces than labels and the value", r.Alert, text)
			}
			for _, m := range template.FindAllStringSubmatch(text, -1) {
				if m[1] != "" && !labels[r.Alert][m[1]] {
					t.Errorf("%s: %q names the label %s, which the alert does not have", r.Alert, text, m[1])
				}
			}
		}
	}
}

// promtool runs promtool on files beside the rules.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), testprogram.Need(t, "promtool"), args...)
	cmd.Dir = filepath.Join(docs, "prometheus")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func TestPromtool(t *testing.T) {
	t.Parallel()
	promtool(t, "check", "rules", "rules.yml")
	for _, file := range testFiles {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			promtool(t, "test", "rules", file)
		})
	}
}
