package condition_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/spinecert/spinecert/internal/condition"
)

var update = flag.Bool("update", false, "write the generated parts of the manual anew")

// part is what stands between two lines of a page.
type part struct{ begin, end, text string }

// hold compares a generated part of a page of the manual with what it is made of.
func hold(t *testing.T, page string, p part) {
	t.Helper()
	file := filepath.Join("..", "..", "docs", page)
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(data), p.begin)
	have, after, ended := strings.Cut(rest, p.end)
	if !found || !ended {
		t.Fatalf("%s has no place for %s", page, p.begin)
	}
	if have == p.text {
		return
	}
	if !*update {
		t.Errorf("docs/%s (-) differs from the table (+); -update writes it anew:\n%s", page, cmp.Diff(have, p.text))
		return
	}
	if err := os.WriteFile(file, []byte(before+p.begin+p.text+p.end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestMetricsPage(t *testing.T) {
	var b strings.Builder
	b.WriteString("| condition | subject | what it says | critical |\n|---|---|---|---|\n")
	for _, d := range condition.Definitions() {
		fmt.Fprintf(&b, "| [`%s`](runbook/%s.md) | %s | %s | %s |\n", d.Code, d.Code, subjects(d.Kinds), d.Meaning, orNever(d.Critical))
	}
	hold(t, "metrics.md", part{"<!-- conditions: made from internal/condition/table.go by go test ./internal/condition -update -->\n", "<!-- end of conditions -->\n", b.String()})
}

func TestRunbookIndex(t *testing.T) {
	var b strings.Builder
	b.WriteString("| condition | in a few words | what stops if nothing is done |\n|---|---|---|\n")
	for _, d := range condition.Definitions() {
		fmt.Fprintf(&b, "| [`%s`](%s.md) | %s | %s |\n", d.Code, d.Code, d.Title, d.Impact)
	}
	hold(t, "runbook/README.md", part{"<!-- index: made from internal/condition/table.go by go test ./internal/condition -update -->\n", "<!-- end of index -->\n", b.String()})
}

// sections are what whoever is called at night looks for, on every page in the same order.
var sections = []string{"## Is anybody cut off now?", "## Look", "## Usual causes", "## When it is over", "## If it cannot be fixed now"}

// callSection is last, where somebody else has to act.
const callSection = "## Who to call"

// TestRunbook: every condition has a page, which says more than what is made here.
func TestRunbook(t *testing.T) {
	for _, d := range condition.Definitions() {
		var b strings.Builder
		fmt.Fprintf(&b, "# %s: %s\n\n%s.\n\n| | |\n|---|---|\n", d.Code, d.Title, capital(d.Meaning))
		row := func(name, text string) {
			if text != "" {
				fmt.Fprintf(&b, "| %s | %s |\n", name, text)
			}
		}
		row("subject", subjects(d.Kinds))
		row("critical", orNever(d.Critical))
		row("what stops", d.Impact)
		row("told", told(d))
		row("what to do", d.Action)
		if d.Command != "" {
			row("first command", "`"+strings.NewReplacer("{subject}", "NAME", "{slot}", "SLOT").Replace(d.Command)+"`")
		}
		row("alert ID", "`"+strings.ReplaceAll(condition.ID(d.Code, "KIND", "NAME", ""), "KIND", string(d.Kinds[0]))+"`")
		row("metric", fmt.Sprintf("`spinecert_condition_active{condition=\"%s\"}`", d.Code))
		p := part{"<!-- generated from internal/condition/table.go by go test ./internal/condition -update -->\n", "<!-- end -->\n", b.String()}
		page := filepath.Join("runbook", string(d.Code)+".md")
		file := filepath.Join("..", "..", "docs", page)
		if _, err := os.Stat(file); *update && os.IsNotExist(err) {
			if err := os.WriteFile(file, []byte(p.begin+p.end), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		hold(t, page, p)
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, own, _ := strings.Cut(string(data), p.end)
		if headings := regexp.MustCompile("(?m)^## .*$").FindAllString(own, -1); !cmp.Equal(headings, sections) && !cmp.Equal(headings, append(slices.Clone(sections), callSection)) {
			t.Errorf("docs/%s has the sections %q", page, headings)
		}
		for _, section := range regexp.MustCompile("(?m)^## .*$").Split(own, -1)[1:] {
			if len(strings.Fields(section)) < 8 {
				t.Errorf("docs/%s says nothing in a section: %q", page, section)
			}
		}
	}
	pages, err := filepath.Glob(filepath.Join("..", "..", "docs", "runbook", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	if want := len(condition.Definitions()) + 1; len(pages) != want {
		t.Errorf("docs/runbook has %d pages, want %d", len(pages), want)
	}
}

func subjects(kinds []condition.Kind) string {
	var out []string
	for _, k := range kinds {
		word := string(k)
		if k == condition.Host {
			word = "host (`clock` or `state`)"
		}
		out = append(out, word)
	}
	return strings.Join(out, ", ")
}

func orNever(text string) string {
	if text == "" {
		return "never"
	}
	return text
}

func told(d condition.Definition) string {
	text := d.Due
	if text == "" {
		text = "at once"
	}
	if d.Dated {
		text += "; not while the clock of the host is suspect"
	}
	return text
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
