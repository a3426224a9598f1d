package cli

import (
	"bytes"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// page is the text of a result. Every method writes whole lines and escapes what
// is in them, so that no value can add a line of its own.
type page struct {
	buffer bytes.Buffer
}

// line writes one line.
func (p *page) line(format string, args ...any) {
	p.buffer.WriteString(safe(strings.TrimRight(fmt.Sprintf(format, args...), " ")))
	p.buffer.WriteByte('\n')
}

// blank separates paragraphs; there is none at the top.
func (p *page) blank() {
	if p.buffer.Len() > 0 {
		p.buffer.WriteByte('\n')
	}
}

// raw writes text that this program made itself, such as a script.
func (p *page) raw(text string) {
	p.buffer.WriteString(text)
	if !strings.HasSuffix(text, "\n") {
		p.buffer.WriteByte('\n')
	}
}

// fact writes a label and its values, one a line; nothing without values.
func (p *page) fact(indent int, label string, values ...string) {
	for _, v := range values {
		if v == "" {
			continue
		}
		p.line("%*s%-16s%s", indent, "", label, v)
		label = ""
	}
}

// table writes rows below a header, in columns that fit the widest cell.
func (p *page) table(header []string, rows [][]string) {
	all := append([][]string{header}, rows...)
	widths := make([]int, len(header))
	for _, row := range all {
		for i, cell := range row {
			row[i] = safe(cell)
			if row[i] == "" {
				row[i] = "-"
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
	}
	for _, row := range all {
		var b strings.Builder
		for i, cell := range row {
			b.WriteString(cell)
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2))
			}
		}
		p.line("%s", b.String())
	}
}

// count writes a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// stamp writes a time as the contract wants it.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Truncate(time.Second).Format(time.RFC3339)
}

// daysLeft counts whole days; the past is negative.
func daysLeft(end, now time.Time) int {
	left := end.Sub(now)
	days := int(left / (24 * time.Hour))
	if left < 0 && left%(24*time.Hour) != 0 {
		days--
	}
	return days
}

// remaining says how long it is to end, or since when it is over.
func remaining(end, now time.Time) string {
	if now.After(end) {
		if days := int(now.Sub(end) / (24 * time.Hour)); days > 0 {
			return "expired " + count(days, "day") + " ago"
		}
		return "expired less than a day ago"
	}
	if days := daysLeft(end, now); days > 0 {
		return count(days, "day") + " left"
	}
	return "less than a day left"
}

// ago writes a duration in its one or two largest units.
func ago(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", int(d.Minutes()), int(d.Seconds())%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
	}
}
