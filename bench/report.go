package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// report is all that a run found out.
type report struct {
	proxies    []proxy // none: nothing was measured beside others
	versions   []proxy // all that took part
	missing    []string
	samples    samples
	facts      []fact
	revocation *revocation // nil: was not measured
	services   *services   // nil: was not measured
	lives      []*life
	failures   []error
	machine    [][2]string
	sizes      sizes
	began      time.Time
	took       time.Duration
}

// markdown renders the report; docs/performance.md is one such text.
func (r *report) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Performance\n\n")
	fmt.Fprintf(&b, "Written by `make bench` (see bench/README.md) on %s, in %s.\n\n", r.began.UTC().Format("2006-01-02 15:04 UTC"), r.took.Round(time.Second))
	if len(r.proxies) > 0 {
		r.conditions(&b)
		fmt.Fprintf(&b, "\n## Beside other proxies\n\nMedian over the rounds (smallest to largest).\n\n")
		r.valueTable(&b)
		fmt.Fprintf(&b, "\n## Ratios to %s, and the targets\n\n", baselineName)
		r.ratioTable(&b)
	}
	if len(r.facts) > 0 {
		fmt.Fprintf(&b, "\n## spinecertd alone\n\n")
		factTable(&b, r.facts)
	}
	if r.revocation != nil {
		fmt.Fprintf(&b, "\n## Revocation\n\n")
		r.revocation.section(&b, r.sizes)
	}
	if r.services != nil {
		fmt.Fprintf(&b, "\n## Services\n\n")
		r.services.section(&b)
	}
	for _, l := range r.lives {
		fmt.Fprintf(&b, "\n## %s\n\n", l.title)
		l.section(&b)
	}
	fmt.Fprintf(&b, "\n## The machine and the versions\n\n")
	r.machineTable(&b)
	r.gaps(&b)
	return b.String()
}

func (r *report) conditions(b *strings.Builder) {
	s := r.sizes
	fmt.Fprintf(b, "Mutual TLS 1.2, %s, X25519, RSA-2048, root -> subCA -> leaf, both sides send leaf and subCA, loopback, one plain TCP backend. "+
		"CPU is the proxy's own, user and system, over its process tree; memory is its own PSS. "+
		"%d round(s) in which the proxies take turns, each measure from a fresh process: %d full handshakes and %d resumed ones, each with one exchange through the backend, %d clients at once; "+
		"%.2f GB (10^9 bytes) each way over two connections; %d idle connections after 64 KiB there and back over each, read %s later.\n",
		suiteOpenSSL, s.rounds, s.full, s.resumed, clients, float64(s.relay)/1e9, s.idle, s.settle)
}

func (r *report) valueTable(b *strings.Builder) {
	head := []string{"proxy"}
	for _, m := range measures() {
		head = append(head, m.title)
	}
	var rows [][]string
	for j, p := range r.proxies {
		row := []string{p.name}
		for i, m := range measures() {
			row = append(row, spread(r.values(i, j), 2, m.unit))
		}
		rows = append(rows, row)
	}
	table(b, head, rows)
}

// ratioTable has a column per peer and says of spinecertd whether it meets the
// target.
func (r *report) ratioTable(b *strings.Builder) {
	base := slices.IndexFunc(r.proxies, func(p proxy) bool { return p.name == baselineName })
	if base < 0 {
		fmt.Fprintf(b, "None: %s was not measured.\n", baselineName)
		return
	}
	head := []string{"measure"}
	for j, p := range r.proxies {
		if j != base {
			head = append(head, p.name)
		}
	}
	head = append(head, "target", "result")
	var rows [][]string
	for i, m := range measures() {
		row := []string{m.title}
		result := "not measured"
		for j, p := range r.proxies {
			if j == base {
				continue
			}
			ratio := ratios(r.values(i, j), r.values(i, base))
			row = append(row, spread(ratio, 2, ""))
			if p.name == spinecertName {
				result = verdict(median(ratio), m.target)
			}
		}
		rows = append(rows, append(row, fmt.Sprintf("%.2f", m.target), result))
	}
	table(b, head, rows)
}

func factTable(b *strings.Builder, facts []fact) {
	var rows [][]string
	for _, f := range facts {
		target, result := "", ""
		if f.target != noTarget {
			target = strings.TrimSpace(strconv.FormatFloat(f.target, 'f', -1, 64) + " " + f.unit)
			result = verdict(f.value, f.target)
		}
		rows = append(rows, []string{f.title, amount(f.value, f.places, f.unit), target, result})
	}
	table(b, []string{"what", "measured", "target", "result"}, rows)
}

func (r *report) machineTable(b *strings.Builder) {
	var rows [][]string
	for _, m := range r.machine {
		rows = append(rows, m[:])
	}
	for _, p := range r.versions {
		rows = append(rows, []string{p.name, p.version(p.binary)})
	}
	table(b, []string{"what", "value"}, rows)
}

// gaps says what is not in the tables above, and why.
func (r *report) gaps(b *strings.Builder) {
	lines := slices.Clone(r.missing)
	if r.revocation != nil {
		lines = append(lines, r.revocation.notes...)
	}
	for _, err := range r.failures {
		lines = append(lines, strings.ReplaceAll(err.Error(), "\n", "\n  "))
	}
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(b, "\n## Not measured\n\n")
	for _, line := range lines {
		fmt.Fprintf(b, "- %s\n", line)
	}
}

// values returns the samples of one measure of one proxy, none if the run did
// not get there.
func (r *report) values(measure, proxy int) []float64 { return r.samples[measure][proxy] }

func verdict(value, target float64) string {
	switch {
	case math.IsNaN(value):
		return "not measured"
	case value <= target:
		return "pass"
	}
	return "MISS"
}

// spread prints a median with its smallest and largest value.
func spread(values []float64, places int, unit string) string {
	v := present(values)
	if len(v) == 0 {
		return "-"
	}
	text := amount(median(v), places, unit)
	if len(v) > 1 {
		text += fmt.Sprintf(" (%.*f to %.*f)", places, v[0], places, v[len(v)-1])
	}
	return text
}

func amount(value float64, places int, unit string) string {
	return strings.TrimSpace(fmt.Sprintf("%.*f %s", places, value, unit))
}

// table writes a markdown table whose columns line up, for the terminal.
func table(b *strings.Builder, head []string, rows [][]string) {
	width := make([]int, len(head))
	rule := make([]string, len(head))
	for i := range head {
		width[i] = len(head[i])
		for _, row := range rows {
			width[i] = max(width[i], len(row[i]))
		}
		rule[i] = strings.Repeat("-", width[i])
	}
	for _, row := range slices.Concat([][]string{head, rule}, rows) {
		for i, cell := range row {
			fmt.Fprintf(b, "| %-*s ", width[i], cell)
		}
		b.WriteString("|\n")
	}
}
