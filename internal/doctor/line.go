package doctor

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spinecert/spinecert/internal/order"
)

// Level says how bad a finding is.
type Level string

// The levels.
const (
	OK   Level = "ok"
	Warn Level = "warn" // it works, and somebody should look
	Fail Level = "fail" // it does not work, or is not safe
)

// The codes, each of one section.
const (
	Config      = "CONFIG"
	Daemon      = "DAEMON"
	Unit        = "UNIT"
	Clock       = "CLOCK"
	Permissions = "PERMISSIONS"
	Trust       = "TRUST"
	CRL         = "CRL"
	Slot        = "SLOT"
	Tunnel      = "TUNNEL"
	Service     = "SERVICE"
)

// Codes returns every code, in the order of the sections.
func Codes() []string {
	return []string{Config, Daemon, Unit, Clock, Permissions, Trust, CRL, Slot, Tunnel, Service}
}

// Line is one finding.
type Line struct {
	Level   Level  `json:"level"`
	Code    string `json:"code"`    // one of Codes
	Subject string `json:"subject"` // what it is about: a file, an environment, a slot, a tunnel, a service, an address
	Message string `json:"message"` // a sentence that names the subject
	Hint    string `json:"hint"`    // the next action; "" with OK
	// Condition is the ID of the condition that says the same, or of those that the subject
	// can have several of; "" where there is none. Whether it is active is another question.
	Condition string `json:"condition,omitempty"`
}

// String returns `level CODE sentence`.
func (l Line) String() string { return fmt.Sprintf("%s %s %s", l.Level, l.Code, l.Message) }

// Sort puts lines in the order of their sections, and leaves the order within. A
// code that is not known, of another version, comes last.
func Sort(lines []Line) {
	at := func(code string) int {
		if i := slices.Index(Codes(), code); i >= 0 {
			return i
		}
		return len(Codes())
	}
	order.Stable(lines, func(a, b Line) int { return cmp.Compare(at(a.Code), at(b.Code)) })
}

// Failed counts the lines that say fail.
func Failed(lines []Line) int {
	n := 0
	for _, l := range lines {
		if l.Level == Fail {
			n++
		}
	}
	return n
}

// report collects the lines of one check.
type report struct {
	code  string
	lines []Line
}

func (r *report) ok(subject, format string, args ...any) {
	r.add(OK, subject, "", fmt.Sprintf(format, args...))
}

func (r *report) warn(subject, hint, format string, args ...any) {
	r.add(Warn, subject, hint, fmt.Sprintf(format, args...))
}

func (r *report) fail(subject, hint, format string, args ...any) {
	r.add(Fail, subject, hint, fmt.Sprintf(format, args...))
}

// longest bounds a sentence and a hint: both may quote what others wrote.
const longest = 1000

func (r *report) add(level Level, subject, hint, message string) {
	if level != OK {
		hint = cmp.Or(hint, "see the page Doctor of the manual, "+r.code)
	}
	r.lines = append(r.lines, Line{Level: level, Code: r.code, Subject: clip(subject), Message: clip(message), Hint: clip(hint)})
}

// as notes that the last line, if it was not OK, tells the condition of this ID.
func (r *report) as(id string) {
	if l := &r.lines[len(r.lines)-1]; l.Level != OK {
		l.Condition = id
	}
}

// clip makes one line of a text, of bounded length.
func clip(s string) string {
	s = strings.ReplaceAll(strings.TrimRight(s, "\n"), "\n", "; ")
	if len(s) > longest {
		s = strings.ToValidUTF8(s[:longest], "") + "..."
	}
	return s
}

// check is one thing that is looked at.
type check[T any] struct {
	code string
	run  func(ctx context.Context, about T, r *report)
}

// examine makes all checks, one after the other. What there is no time left for is
// said, and not passed over.
func examine[T any](ctx context.Context, about T, checks []check[T]) []Line {
	var lines []Line
	for _, c := range checks {
		r := &report{code: c.code}
		if ctx.Err() != nil {
			r.warn("", moreTime, "not examined: the time was over before")
		} else {
			c.run(ctx, about, r)
		}
		lines = append(lines, r.lines...)
	}
	return lines
}

const moreTime = "give it more: --timeout 2m"

func stamp(t time.Time) string { return t.UTC().Truncate(time.Second).Format(time.RFC3339) }

// days writes a time span for people: whole days, and below two of them hours or minutes.
func days(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", int(d.Hours()))
	default:
		return fmt.Sprintf("%d minutes", int(d.Minutes()))
	}
}

// plural writes a number with its noun.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
