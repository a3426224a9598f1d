package doctor

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spinecert/spinecert/internal/condition"
	"github.com/spinecert/spinecert/rotate"
)

// WithConditions returns lines, and one more for each condition that none of them tells,
// as those of clock, sinks and the audit file. A line that tells a critical condition says
// fail: doctor never makes less of something than status does.
func WithConditions(lines []Line, active []condition.Condition) []Line {
	out := slices.Clone(lines)
	by := map[string][]int{} // lines that tell a condition, by its ID
	for i, l := range lines {
		if l.Level != OK && l.Condition != "" {
			by[l.Condition] = append(by[l.Condition], i)
		}
	}
	for i := range active {
		c := &active[i]
		told := tellers(c, by, lines)
		for _, at := range told {
			if c.Severity == condition.Critical {
				out[at].Level = Fail
			}
		}
		if len(told) == 0 {
			out = append(out, conditionLine(c))
		}
	}
	Sort(out)
	return out
}

// tellers returns the lines that say what a condition does: those of its ID, or, where one
// subject has several, as an environment has lists, those of all that name the one.
func tellers(c *condition.Condition, by map[string][]int, lines []Line) []int {
	found := slices.Clone(by[c.ID])
	if all := condition.ID(c.Code, c.Kind, c.Subject, ""); all != c.ID {
		for _, i := range by[all] {
			if strings.Contains(c.Message, lines[i].Subject) {
				found = append(found, i)
			}
		}
	}
	return found
}

// conditionLine is a condition as a line of its section.
func conditionLine(c *condition.Condition) Line {
	r := &report{code: sectionOf(c)}
	level := Warn
	if c.Severity == condition.Critical {
		level = Fail
	}
	next := cmp.Or(c.Hint, c.Code.Definition().Action)
	if c.Command != "" && !strings.Contains(next, c.Command) {
		next = strings.TrimPrefix(next+"; then: "+c.Command, "; then: ")
	}
	who := strings.TrimSpace(string(c.Kind) + " " + c.Subject)
	if c.Kind == condition.Host {
		who = c.Subject
	}
	r.add(level, c.Subject, next, fmt.Sprintf("%s: %s (%s, since %s)", who, c.Message, c.Code, stamp(c.Since)))
	r.as(c.ID)
	return r.lines[0]
}

func sectionOf(c *condition.Condition) string {
	switch c.Kind {
	case condition.Slot:
		return Slot
	case condition.Environment:
		if c.Code == condition.CRLStale || c.Code == condition.RevocationOff {
			return CRL
		}
		return Trust
	case condition.Tunnel:
		return Tunnel
	case condition.Service:
		return Service
	}
	if c.Code == condition.ClockSuspect {
		return Clock
	}
	return Daemon // its state directory, its sinks, and what a later version knows
}

// lifeLevel is what the end of a certificate is, in so much time: as conditions have it.
func (in Inside) lifeLevel(left time.Duration) Level {
	switch {
	case left <= condition.ExpiringCritical:
		return Fail
	case left <= in.Config.Alerts.Leaf[0]:
		return Warn
	}
	return OK
}

// refusalOf is the condition that a slot is in for what its source holds; nothing is in
// none.
func refusalOf(slot string, r *rotate.Refusal) string {
	code := condition.RotationRefused
	switch {
	case r == nil:
		return ""
	case r.Reason == "key_readable":
		code = condition.KeyReadable
	case r.Reason == rotate.ReasonUnwritable:
		code = condition.StateUnwritable
	case r.Pending:
		code = condition.SourceIncoherent
	}
	return condition.ID(code, condition.Slot, slot, "")
}
