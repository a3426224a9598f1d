package prometheus

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spinecert/spinecert/internal/condition"
)

// metric is a row of the table of docs/metrics.md.
type metric struct {
	kind   string
	labels []string
}

// documented returns the table of docs/metrics.md by name.
func documented(t *testing.T) map[string]metric {
	t.Helper()
	out := map[string]metric{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(spinecert_[a-z_]+)` \\| ([a-z]+) \\| ([^|]*) \\|").FindAllStringSubmatch(string(read(t, "metrics.md")), -1) {
		out[row[1]] = metric{row[2], regexp.MustCompile("[a-z]+").FindAllString(strings.ReplaceAll(row[3], "none", ""), -1)}
	}
	if len(out) < 25 {
		t.Fatalf("only %d series found in docs/metrics.md", len(out))
	}
	return out
}

var (
	quoted     = regexp.MustCompile(`"[^"]*"`)
	nameOurs   = regexp.MustCompile(`[a-z_]*:?spinecert[a-z_]*(?::[a-z0-9_]+)?`)
	selector   = regexp.MustCompile(`([a-z_:0-9]+)\{([^}]*)\}`)
	matcher    = regexp.MustCompile(`([a-z]+)(=~|!~|!=|=)"([^"]*)"`)
	labelGroup = regexp.MustCompile(`\b(?:by|on|without|ignoring) \(([^)]*)\)`)
	legend     = regexp.MustCompile(`\{\{([a-z]+)\}\}`)
	histogram  = regexp.MustCompile(`_(bucket|sum|count)$`)
)

// seriesIn returns the names of our series in an expression.
func seriesIn(expr string) []string {
	return slices.DeleteFunc(nameOurs.FindAllString(quoted.ReplaceAllString(expr, ""), -1), func(name string) bool { return name == "spinecert" })
}

// vocabulary knows which series there are, which labels each has, and which words a label may have.
type vocabulary struct {
	labels map[string][]string // by series
	words  map[string]bool
}

// newVocabulary takes the series of docs/metrics.md, what the rules record, and the words of the manual.
func newVocabulary(t *testing.T) *vocabulary {
	t.Helper()
	v := &vocabulary{labels: map[string][]string{"up": {"job", "instance"}}, words: map[string]bool{}}
	for name, m := range documented(t) {
		labels := append([]string{"job", "instance"}, m.labels...)
		v.labels[name] = labels
		if m.kind == "histogram" {
			delete(v.labels, name)
			v.labels[name+"_sum"], v.labels[name+"_count"], v.labels[name+"_bucket"] = labels, labels, append(labels, "le")
		}
	}
	for _, page := range []string{"metrics.md", "refusals.md", "tunnels.md"} {
		for _, m := range regexp.MustCompile("[`\"]([a-z0-9_]+)[`\"]").FindAllStringSubmatch(string(read(t, page)), -1) {
			v.words[m[1]] = true
		}
	}
	for _, d := range condition.Definitions() {
		v.words[string(d.Code)] = true
	}
	for _, r := range rules(t) {
		switch {
		case r.Record == "":
		case strings.HasSuffix(r.Record, ":known"):
			v.labels[r.Record] = v.labels[strings.TrimSuffix(strings.TrimPrefix(r.Record, "instance:"), ":known")]
		case labelGroup.MatchString(r.Expr) && strings.HasPrefix(r.Expr, "sum by"):
			v.labels[r.Record] = strings.Split(labelGroup.FindStringSubmatch(r.Expr)[1], ", ")
		default:
			v.labels[r.Record] = []string{"job", "instance"}
		}
	}
	return v
}

// closed are the labels whose words the manual lists.
var closed = []string{"result", "reason", "position", "direction", "condition", "severity"}

// check holds an expression against the vocabulary, and returns the labels of what it asks for.
func (v *vocabulary) check(t *testing.T, where, expr string) []string {
	t.Helper()
	var labels []string
	for _, name := range seriesIn(expr) {
		have, ok := v.labels[name]
		if !ok {
			t.Errorf("%s: there is no series %s", where, name)
		}
		labels = append(labels, have...)
	}
	if strings.HasPrefix(expr, "up") || strings.Contains(expr, "(up{") {
		labels = append(labels, v.labels["up"]...)
	}
	if len(labels) == 0 {
		t.Errorf("%s: %q asks for nothing of ours", where, expr)
	}
	for _, s := range selector.FindAllStringSubmatch(expr, -1) {
		for _, m := range matcher.FindAllStringSubmatch(s[2], -1) {
			if !slices.Contains(v.labels[s[1]], m[1]) {
				t.Errorf("%s: %s has no label %s", where, s[1], m[1])
			}
			for _, word := range strings.Split(m[3], "|") {
				if slices.Contains(closed, m[1]) && !v.words[word] {
					t.Errorf("%s: the manual knows no %s %q", where, m[1], word)
				}
			}
		}
		if n := strings.Count(s[2], "="); n+strings.Count(s[2], "!~") < len(matcher.FindAllString(s[2], -1)) {
			t.Errorf("%s: cannot read {%s}", where, s[2])
		}
	}
	for _, g := range labelGroup.FindAllStringSubmatch(expr, -1) {
		for _, label := range strings.Split(g[1], ", ") {
			if !slices.Contains(labels, label) {
				t.Errorf("%s: nothing in %q has a label %s", where, expr, label)
			}
		}
	}
	if by := labelGroup.FindStringSubmatch(expr); by != nil && regexp.MustCompile(`^\(*(sum|min|max|count) by`).MatchString(expr) {
		return strings.Split(by[1], ", ")
	}
	return labels
}

func TestRulesNameWhatThereIs(t *testing.T) {
	v := newVocabulary(t)
	for _, r := range rules(t) {
		v.check(t, r.name(), r.Expr)
	}
}
