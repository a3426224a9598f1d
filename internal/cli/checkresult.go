package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// What a monitoring system is given is bounded: many cut it off somewhere, Nagios after 8 KiB.
const (
	maxName        = 100 // characters of a name within a sentence
	maxSubject     = 80  // of a subject
	maxSentence    = 240 // of a sentence or a hint
	maxLabel       = 120 // of a label
	maxMetricLabel = 200 // of a label of a metric
	firstFew       = 3   // items in the first line
	maxDetails     = 20  // items below it
	maxPerfData    = 20  // values
)

// checkResult is the result of check: everything in JSON, the worst of it in text.
type checkResult struct {
	Status   pluginStatus `json:"status"`
	Summary  string       `json:"summary"`
	Items    []checkItem  `json:"items"`    // the worst first, and of these the first to end
	PerfData []string     `json:"perfdata"` // as in the first line: of what ends first
}

// newCheckResult sorts what was found.
func newCheckResult(items []checkItem, limits checkLimits) *checkResult {
	r := &checkResult{Items: items, PerfData: perfData(items, limits)}
	slices.SortStableFunc(r.Items, func(a, b checkItem) int {
		return cmp.Or(b.Status.gravity()-a.Status.gravity(), bySoonest(a, b), cmp.Compare(a.Name, b.Name))
	})
	for i := range r.Items {
		item := &r.Items[i]
		r.Status = worse(r.Status, item.Status)
		item.Affects, item.Notes = list(item.Affects), list(item.Notes)
	}
	if r.Items == nil {
		r.Items = []checkItem{}
	}
	r.Summary = r.summarise()
	return r
}

// bySoonest puts what ends first before what ends later, and that before what has no end.
func bySoonest(a, b checkItem) int {
	switch {
	case a.SecondsLeft == nil && b.SecondsLeft == nil:
		return 0
	case a.SecondsLeft == nil:
		return 1
	case b.SecondsLeft == nil:
		return -1
	}
	return cmp.Compare(*a.SecondsLeft, *b.SecondsLeft)
}

// summarise makes a sentence of the worst few.
func (r *checkResult) summarise() string {
	if len(r.Items) == 0 {
		return "there is nothing to check"
	}
	if r.Status == pluginOK {
		text := plain(r.Items[0].Message, maxSentence)
		if n := len(r.Items) - 1; n > 0 {
			text += fmt.Sprintf("; and %s OK", count(n, "other"))
		}
		return text
	}
	bad := r.bad()
	var said []string
	for _, item := range r.Items[:min(bad, firstFew)] {
		said = append(said, plain(item.Message, maxSentence))
	}
	if bad > firstFew {
		said = append(said, "and "+grouped(bad-firstFew)+" more")
	}
	return strings.Join(said, "; ")
}

// bad counts what is not OK, which stands in front.
func (r *checkResult) bad() int {
	n := slices.IndexFunc(r.Items, func(i checkItem) bool { return i.Status == pluginOK })
	if n < 0 {
		return len(r.Items)
	}
	return n
}

// show writes the first line, and the items below it unless it has said all there is.
func (r *checkResult) show(p *page) {
	line := "SPINECERT " + r.Status.String() + " - " + r.Summary
	if len(r.PerfData) > 0 {
		line += " | " + strings.Join(r.PerfData, " ")
	}
	p.line("%s", line)
	for i, item := range r.Items {
		if i == maxDetails {
			p.line("and %s more: spinecert check --output json has them all", grouped(len(r.Items)-i))
			return
		}
		if len(r.Items) > 1 {
			p.line("%s %s", item.Status, plain(item.Message, maxSentence))
		}
		for _, note := range item.Notes[:min(len(item.Notes), firstFew)] {
			p.line("  note: %s", plain(note, maxSentence))
		}
		if item.Hint != "" {
			p.line("  hint: %s", plain(item.Hint, maxSentence))
		}
	}
}

// perfData are the values of what ends first, in the form of the monitoring plugins' guidelines:
// the label in quotes, the seconds that are left, and the ranges below which they are too few.
func perfData(items []checkItem, l checkLimits) []string {
	dated := slices.DeleteFunc(slices.Clone(items), func(i checkItem) bool { return i.SecondsLeft == nil })
	slices.SortStableFunc(dated, func(a, b checkItem) int { return cmp.Or(bySoonest(a, b), cmp.Compare(a.Name, b.Name)) })
	out, used := []string{}, map[string]int{}
	for _, item := range dated[:min(len(dated), maxPerfData)] {
		label := perfLabel(item.Name)
		if used[label]++; used[label] > 1 {
			label += fmt.Sprintf("#%d", used[label])
		}
		out = append(out, fmt.Sprintf("'%s'=%ds;%d:;%d:", label, *item.SecondsLeft, l.warning, l.critical))
	}
	return out
}

// perfLabel makes a label of a name: a quote is doubled, and the equals sign ends a label even in quotes.
func perfLabel(name string) string {
	name = strings.ReplaceAll(plain(name, maxLabel), "=", "_")
	return strings.ReplaceAll(name, "'", "''")
}

// plain is text for a line of plugin output: what is behind a bar is read as values, and pages
// show the rest as HTML. Certificates and peers choose much of it.
func plain(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		switch r {
		case '|':
			return '/'
		case '<':
			return '('
		case '>':
			return ')'
		}
		return r
	}, safe(s))
	return clip(s, most)
}

// clip shortens s to so many characters.
func clip(s string, most int) string {
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most-3]) + "..."
}

// shorten is clip for a name, whose end says as much as its beginning: it may be a path.
func shorten(s string, most int) string {
	runes := []rune(s)
	if len(runes) <= most {
		return s
	}
	half := (most - 3) / 2
	return string(runes[:half]) + "..." + string(runes[len(runes)-half:])
}

// grouped writes a number with commas between thousands.
func grouped(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
