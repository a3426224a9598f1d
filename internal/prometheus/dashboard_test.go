package prometheus

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

type source struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

type panel struct {
	ID          int    `json:"id"`
	Type        string `json:"type"`
	Title       string `json:"title"`
	Description string `json:"description"`
	Source      source `json:"datasource"`
	Place       struct {
		X, Y, W, H int
	} `json:"gridPos"`
	Targets []struct {
		Ref    string `json:"refId"`
		Expr   string `json:"expr"`
		Legend string `json:"legendFormat"`
		Source source `json:"datasource"`
	} `json:"targets"`
	Transformations []struct {
		ID      string `json:"id"`
		Options struct {
			Exclude map[string]bool   `json:"excludeByName"`
			Rename  map[string]string `json:"renameByName"`
		} `json:"options"`
	} `json:"transformations"`
}

type dashboard struct {
	UID        string  `json:"uid"`
	Title      string  `json:"title"`
	Schema     int     `json:"schemaVersion"`
	ID         *int    `json:"id"`
	Panels     []panel `json:"panels"`
	Templating struct {
		List []struct {
			Name   string `json:"name"`
			Type   string `json:"type"`
			Source source `json:"datasource"`
			Query  any    `json:"query"`
		} `json:"list"`
	} `json:"templating"`
}

func loadDashboard(t *testing.T) *dashboard {
	t.Helper()
	data := read(t, "prometheus/dashboard.json")
	d := &dashboard{}
	if err := json.Unmarshal(data, d); err != nil {
		t.Fatal(err)
	}
	var whole any
	_ = json.Unmarshal(data, &whole)
	var indented bytes.Buffer
	if err := json.Indent(&indented, data, "", "  "); err != nil || indented.String() != string(data) {
		t.Errorf("dashboard.json should be indented by two spaces, for a diff that can be read: %v", err)
	}
	return d
}

// exprs returns what the dashboard asks, with values for its variables, by panel and target.
func (d *dashboard) exprs() map[string]string {
	out := map[string]string{}
	values := strings.NewReplacer("$instance", ".*", "$slot", ".*", "$__rate_interval", "5m", "$__range", "1h")
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			out[fmt.Sprintf("panel %q, %s", p.Title, target.Ref)] = values.Replace(target.Expr)
		}
	}
	return out
}

var variable = regexp.MustCompile(`\$\{?([A-Za-z_]+)`)

func TestDashboard(t *testing.T) {
	d := loadDashboard(t)
	if d.UID != "spinecert" || d.Title != "Spinecert" || d.Schema != 42 || d.ID != nil {
		t.Errorf("uid %q, title %q, schema %d, id %v: it could not be imported as it is", d.UID, d.Title, d.Schema, d.ID)
	}
	ids, titles := map[int]bool{}, map[string]bool{}
	for i, p := range d.Panels {
		if p.ID == 0 || ids[p.ID] || titles[p.Title] || p.Title == "" {
			t.Errorf("panel %q, id %d: there are two of that id or title", p.Title, p.ID)
		}
		ids[p.ID], titles[p.Title] = true, true
		if p.Place.W < 1 || p.Place.H < 1 || p.Place.X < 0 || p.Place.X+p.Place.W > 24 {
			t.Errorf("panel %q does not fit: %+v", p.Title, p.Place)
		}
		for _, other := range d.Panels[:i] {
			a, b := p.Place, other.Place
			if a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H {
				t.Errorf("panels %q and %q overlap", p.Title, other.Title)
			}
		}
		d.checkPanel(t, &p)
	}
	if len(ids) < 30 {
		t.Errorf("only %d panels found", len(ids))
	}
}

var ours = source{"prometheus", "${datasource}"}

func (d *dashboard) checkPanel(t *testing.T, p *panel) {
	t.Helper()
	if p.Type == "row" {
		return
	}
	if p.Source != ours || p.Description == "" || len(p.Targets) == 0 {
		t.Errorf("panel %q: data source %v, description %q, %d targets", p.Title, p.Source, p.Description, len(p.Targets))
	}
	refs := map[string]bool{}
	for _, target := range p.Targets {
		if target.Source != ours || target.Expr == "" || target.Ref == "" || refs[target.Ref] {
			t.Errorf("panel %q: target %+v", p.Title, target)
		}
		refs[target.Ref] = true
		if !strings.Contains(target.Expr, `instance=~"$instance"`) {
			t.Errorf("panel %q: %q does not look at the chosen hosts alone", p.Title, target.Expr)
		}
		for _, m := range variable.FindAllStringSubmatch(target.Expr, -1) {
			if !slices.Contains([]string{"instance", "slot", "__rate_interval"}, m[1]) {
				t.Errorf("panel %q: there is no variable %q", p.Title, m[1])
			}
		}
	}
}

// TestDashboardNamesWhatThereIs: series, labels, legends and columns; and every series is on it.
func TestDashboardNamesWhatThereIs(t *testing.T) {
	v, d := newVocabulary(t), loadDashboard(t)
	shown := map[string]bool{}
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			where := fmt.Sprintf("panel %q", p.Title)
			labels := v.check(t, where, target.Expr)
			for _, name := range seriesIn(target.Expr) {
				shown[histogram.ReplaceAllString(name, "")] = true
				if strings.Contains(name, ":") {
					t.Errorf("%s: %s is recorded by the rules, and the dashboard should work without", where, name)
				}
			}
			for _, m := range legend.FindAllStringSubmatch(target.Legend, -1) {
				if !slices.Contains(labels, m[1]) {
					t.Errorf("%s: the legend names %s, and the labels are %q", where, m[1], labels)
				}
			}
			for _, tr := range p.Transformations {
				for label := range tr.Options.Rename {
					if label != "Value" && !slices.Contains(labels, label) {
						t.Errorf("%s: a column is %s, and the labels are %q", where, label, labels)
					}
				}
				for _, label := range labels {
					if tr.Options.Rename[label] == "" && !tr.Options.Exclude[label] {
						t.Errorf("%s: the label %s has no title", where, label)
					}
				}
			}
		}
	}
	for name := range documented(t) {
		if !shown[name] {
			t.Errorf("no panel shows %s", name)
		}
	}
}

func TestVariables(t *testing.T) {
	v, d := newVocabulary(t), loadDashboard(t)
	values := regexp.MustCompile(`^label_values\(([a-z_]+)(\{.*\})?, ([a-z]+)\)$`)
	var names []string
	for _, x := range d.Templating.List {
		names = append(names, x.Name)
		if x.Type == "datasource" {
			if x.Query != "prometheus" {
				t.Errorf("variable %s: %v", x.Name, x.Query)
			}
			continue
		}
		query, _ := x.Query.(map[string]any)
		text, _ := query["query"].(string)
		m := values.FindStringSubmatch(text)
		if x.Source != ours || m == nil {
			t.Errorf("variable %s: data source %v, query %v", x.Name, x.Source, x.Query)
			continue
		}
		if labels := v.check(t, "variable "+x.Name, m[1]+m[2]); !slices.Contains(labels, m[3]) {
			t.Errorf("variable %s: %s has no label %s", x.Name, m[1], m[3])
		}
	}
	if !slices.Equal(names, []string{"datasource", "instance", "slot"}) {
		t.Errorf("the variables are %q", names)
	}
}

// TestDashboardParses: promtool reads every expression.
func TestDashboardParses(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("groups:\n  - name: dashboard\n    rules:\n")
	exprs := loadDashboard(t).exprs()
	n := 0
	for where, expr := range exprs {
		n++
		fmt.Fprintf(&b, "      # %s\n      - record: dashboard:%d\n        expr: %q\n", where, n, expr)
	}
	path := filepath.Join(t.TempDir(), "dashboard.yml")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", path)
}
