package sink

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/spinecert/spinecert/internal/alert"
	"github.com/spinecert/spinecert/internal/condition"
)

// What is here is all that people read. It works on tidied messages, see tidy, and so escapes nothing.

const (
	subjectLimit = 150 // characters, without the host
	hostLimit    = 60
	fewNames     = 8 // ODS codes or ASIDs
)

// part is what is told of one alert.
type part struct {
	head string
	tone string // "critical", "warning", "resolved" or "test"
	rows []row
}

type row struct {
	label, value string
	code         bool // to be typed as it is
}

// subject is the one line that has to do: on a lock screen, in a list of mails.
func subject(m *alert.Message) string {
	var what string
	switch {
	case isTest(m):
		what = "TEST: nothing is wrong, alerts get through"
	case m.Group == "" && m.Severity() != "":
		what = fmt.Sprintf("%s %s in %s: %s", strings.ToUpper(string(m.Severity())), plural(m.Total, "alert"), plural(m.Groups, "group"), counts(m))
	case m.Group == "":
		what = fmt.Sprintf("RESOLVED %s in %s", plural(m.Total, "alert"), plural(m.Groups, "group"))
	case len(m.Notices) == 0:
		what = counts(m)
	default:
		what = headline(&m.Notices[0], m.At)
		if m.Total > 1 {
			what += fmt.Sprintf(", and %d more", m.Total-1)
		}
	}
	return "[spinecert] " + clip(what, subjectLimit) + " (" + clip(m.Host, hostLimit) + ")"
}

// text is the whole message for people who read plain text.
func text(m *alert.Message, version string) string {
	var b strings.Builder
	if line := overview(m); line != "" {
		b.WriteString(line + "\n\n")
	}
	for _, p := range parts(m) {
		b.WriteString(p.head + "\n\n")
		for _, r := range p.rows {
			fmt.Fprintf(&b, "  %-12s %s\n", r.label, r.value)
		}
		b.WriteString("\n")
	}
	b.WriteString("-- \n" + footer(m, version) + "\n")
	return b.String()
}

// overview is the first line of a message with several alerts, "" for one.
func overview(m *alert.Message) string {
	if isTest(m) || m.Total <= 1 && len(m.Notices) <= 1 {
		return ""
	}
	of := m.Group
	if of == "" {
		of = plural(m.Groups, "group")
	}
	line := fmt.Sprintf("%s of %s on %s: %s.", plural(m.Total, "alert"), of, m.Host, counts(m))
	if len(m.Notices) < m.Total {
		line += fmt.Sprintf(" The gravest %d follow; all that are active: spinecert alerts list", len(m.Notices))
	}
	return line
}

// footer says where a message comes from.
func footer(m *alert.Message, version string) string {
	return fmt.Sprintf("spinecert%s on %s, %s, message %s. All alerts: spinecert alerts list", spaced(version), m.Host, moment(m.At), m.ID)
}

// parts are the alerts of a message. In a digest each has fewer lines.
func parts(m *alert.Message) []part {
	out := make([]part, 0, len(m.Notices))
	for i := range m.Notices {
		n := &m.Notices[i]
		p := part{head: headline(n, m.At), tone: tone(n)}
		switch {
		case n.Event == alert.Test:
			p.rows = testRows(n, m.Host)
		case !n.Active():
			p.rows = resolvedRows(n)
		case m.Group == "":
			p.rows = digestRows(n, m.At)
		default:
			p.rows = activeRows(n, m.At)
		}
		out = append(out, p)
	}
	return out
}

// headline says what is wrong in a few words: "CRITICAL pcs: certificate ends in 6 days".
func headline(n *alert.Notice, at time.Time) string {
	c := &n.Condition
	switch {
	case n.Event == alert.Test:
		return "TEST: nothing is wrong, alerts get through"
	case !n.Active():
		return "RESOLVED " + about(c) + title(c, at, false)
	}
	return strings.ToUpper(string(c.Severity)) + " " + about(c) + title(c, at, true)
}

// about is the name of what it is about, for what stands before a title.
func about(c *condition.Condition) string {
	if c.Kind == condition.Host || c.Subject == "" {
		return ""
	}
	return c.Subject + ": "
}

func title(c *condition.Condition, at time.Time, active bool) string {
	words := cmp.Or(c.Code.Definition().Title, clip(c.Message, 80), string(c.Code))
	if !active || c.Ends.IsZero() {
		return words
	}
	noun := map[condition.Code]string{condition.Expiring: "certificate", condition.CAExpiring: "CA"}[c.Code]
	switch {
	case noun == "":
		return words
	case c.Ends.After(at):
		return noun + " ends in " + left(c.Ends.Sub(at))
	}
	return noun + " has ended"
}

func activeRows(n *alert.Notice, at time.Time) []row {
	c := &n.Condition
	d := c.Code.Definition()
	return rows(
		row{"What", c.Message, false},
		row{"Affects", affects(c.Affects), false},
		row{"Stops", c.Stops, false},
		row{"Impact", impact(c), false},
		row{"When", ends(c, at), false},
		row{"Next", cmp.Or(c.Hint, d.Action), false},
		row{"Command", c.Command, true},
		row{"Since", moment(c.Since), false},
		row{"Told", why(n), false},
		row{"Seen to", seen(n.Ack), false},
		row{"ID", c.ID, true},
		row{"Acknowledge", acknowledge(n), true},
		row{"Runbook", c.Runbook, false},
	)
}

func digestRows(n *alert.Notice, at time.Time) []row {
	c := &n.Condition
	return rows(
		row{"What", c.Message, false},
		row{"Affects", affects(c.Affects), false},
		row{"Stops", c.Stops, false},
		row{"When", ends(c, at), false},
		row{"Command", c.Command, true},
		row{"ID", c.ID, true},
	)
}

func resolvedRows(n *alert.Notice) []row {
	c := &n.Condition
	note := ""
	if n.Late {
		note = "it was not told while it lasted"
	}
	return rows(
		row{"Was", c.Message, false},
		row{"Affected", affects(c.Affects), false},
		row{"Since", moment(c.Since), false},
		row{"Resolved", moment(n.Resolved.Time), false},
		row{"Note", note, false},
		row{"ID", c.ID, true},
	)
}

func testRows(n *alert.Notice, host string) []row {
	return rows(
		row{"What", cmp.Or(n.Condition.Message, "somebody tries this sink with spinecert alerts test"), false},
		row{"Next", "nothing: what is told of a real alert looks like this, with what is wrong, who is affected and what to do", false},
		row{"Host", host, false},
	)
}

// rows leaves out what is empty.
func rows(all ...row) []row {
	out := all[:0]
	for _, r := range all {
		if r.value != "" {
			out = append(out, r)
		}
	}
	return out
}

func affects(a condition.Affects) string {
	var words []string
	if len(a.ODS) > 0 {
		words = append(words, "ODS "+few(a.ODS))
	}
	if len(a.ASIDs) > 0 {
		words = append(words, "ASID "+few(a.ASIDs))
	}
	if a.Note != "" {
		words = append(words, a.Note)
	}
	return strings.Join(words, "; ")
}

// few joins the first names of a list.
func few(names []string) string {
	if len(names) <= fewNames {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:fewNames], ", "), len(names)-fewNames)
}

// impact is what the table knows of what stops, "" where it is known by name.
func impact(c *condition.Condition) string {
	if c.Stops != "" {
		return ""
	}
	return strings.ReplaceAll(c.Code.Definition().Impact, "`", "")
}

func ends(c *condition.Condition, at time.Time) string {
	switch end := c.Ends.Time; {
	case end.IsZero():
		return ""
	case end.After(at):
		return moment(end) + ", in " + left(end.Sub(at))
	default:
		return moment(end) + ", " + left(at.Sub(end)) + " ago"
	}
}

// why says why it is told now, "" for what is new.
func why(n *alert.Notice) string {
	switch n.Event {
	case alert.Escalated:
		return "again, as it grew worse"
	case alert.Repeated:
		return "again, as it lasts and nobody acknowledged it"
	}
	return ""
}

func seen(a *alert.Ack) string {
	if a == nil {
		return ""
	}
	return fmt.Sprintf("by %s until %s", a.By, moment(a.Until))
}

// acknowledge is the command to say that somebody sees to it, "" where somebody did.
func acknowledge(n *alert.Notice) string {
	if n.Condition.ID == "" || n.Ack != nil {
		return ""
	}
	return "spinecert alerts ack " + shellWord(n.Condition.ID) + " --for 7d"
}

// shellWord returns a word as a POSIX shell reads it.
func shellWord(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-:", r)
	}
	if strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

func tone(n *alert.Notice) string {
	switch {
	case n.Event == alert.Test:
		return "test"
	case !n.Active():
		return "resolved"
	}
	return string(n.Condition.Severity)
}

func isTest(m *alert.Message) bool { return len(m.Notices) > 0 && m.Notices[0].Event == alert.Test }

// event is the one word for a whole message: that of what is gravest, and "resolved" only when nothing is active.
func event(m *alert.Message) alert.Event {
	for i := range m.Notices {
		if m.Notices[i].Active() {
			return m.Notices[i].Event
		}
	}
	return alert.Resolved
}

// counts is "2 critical, 1 warning, 3 resolved", without what there is none of.
func counts(m *alert.Message) string {
	var words []string
	for _, c := range []struct {
		n    int
		word string
	}{{m.Critical, "critical"}, {m.Warning, "warning"}, {m.Resolved, "resolved"}} {
		if c.n > 0 {
			words = append(words, fmt.Sprintf("%d %s", c.n, c.word))
		}
	}
	return strings.Join(words, ", ")
}

func moment(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04 UTC")
}

// left writes a span for people: whole days, below two of them hours or minutes.
func left(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return plural(int(d.Hours()/24), "day")
	case d >= 2*time.Hour:
		return plural(int(d.Hours()), "hour")
	}
	return plural(int(d.Minutes()), "minute")
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func spaced(word string) string {
	if word == "" {
		return ""
	}
	return " " + word
}
