package web

import (
	"fmt"
	"strconv"

	g "maragu.dev/gomponents"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/condition"
)

// maxProblems is how many are shown.
const maxProblems = 100

// problems are what is wrong: what, who is hit, when it stops, and what to do.
func problems(snap *snapshot, q query) g.Node {
	all := snap.Status.Conditions
	var cards g.Group
	matching := 0
	for _, i := range snap.worst {
		c := &all[i]
		if !q.matches(c.Subject, c.Slot, string(c.Code), c.Message, c.Stops, c.Affects.Note) && !q.matchesAny(c.Affects.ODS) && !q.matchesAny(c.Affects.ASIDs) {
			continue
		}
		if matching++; matching <= maxProblems {
			cards = append(cards, problem(snap, c, i))
		}
	}
	if more := matching - maxProblems; more > 0 {
		cards = append(cards, el("li", class("more"), lit(fmt.Sprintf("and %d more; spinecert status lists all of them", more))))
	}
	return section("problems", "Alerts", "", emptyOf(len(cards), len(all), "Nothing is wrong."), el("ul", class("problems"), attr("role", "list"), cards))
}

// problem is one of them. i is its place among the conditions, for links.
func problem(snap *snapshot, c *condition.Condition, i int) g.Node {
	l := lookOf(c.Severity)
	title := c.Code.Definition().Title
	if title == "" {
		title = string(c.Code)
	}
	return el("li", class("problem "+l.class), attr("id", "problem-"+strconv.Itoa(i)),
		el("h3", l.badge(l.word), el("span", class("what"), text(string(c.Kind)), lit(" "), name(c.Subject)), el("span", class("title"), text(title))),
		el("p", text(c.Message)),
		el("dl",
			fact("Hit", affected(c.Affects)),
			fact("Stops", stops(snap, c)),
			fact("Next", next(c)),
			fact("Since", since(snap, c)),
			fact("Runbook", g.Iff(c.Runbook != "", func() g.Node { return name(c.Runbook) })),
		),
	)
}

// fact is a line of a list of facts; nothing where there is none.
func fact(title string, value g.Node) g.Node {
	if value == nil {
		return nil
	}
	return el("div", el("dt", lit(title)), el("dd", value))
}

// affected says who is hit.
func affected(a condition.Affects) g.Node {
	if a.Empty() {
		return nil
	}
	var out g.Group
	add := func(n ...g.Node) {
		if len(out) > 0 {
			out = append(out, lit(" · "))
		}
		out = append(out, n...)
	}
	if len(a.ODS) > 0 {
		add(lit("ODS "), names(a.ODS))
	}
	if len(a.ASIDs) > 0 {
		add(lit("ASID "), names(a.ASIDs))
	}
	if a.Note != "" {
		add(text(a.Note))
	}
	return out
}

// stops says what stops, and when.
func stops(snap *snapshot, c *condition.Condition) g.Node {
	if c.Stops == "" && c.Ends.IsZero() {
		return nil
	}
	var out g.Group
	if c.Stops != "" {
		out = append(out, text(c.Stops))
	}
	if !c.Ends.IsZero() {
		if len(out) > 0 {
			out = append(out, lit(", "))
		}
		out = append(out, el("strong", lit(left(c.Ends.Time, snap.Now))), lit(", at "), moment(c.Ends.Time))
	}
	return out
}

// next is what to do: in words, and as a command.
func next(c *condition.Condition) g.Node {
	if c.Hint == "" && c.Command == "" {
		return nil
	}
	return g.Group{text(c.Hint), g.If(c.Command != "", el("pre", attr("tabindex", "0"), el("code", text(c.Command))))}
}

// since says since when, and who knows.
func since(snap *snapshot, c *condition.Condition) g.Node {
	out := g.Group{moment(c.Since)}
	a := snap.told[c.ID]
	switch {
	case a == nil:
	case a.Ack != nil && a.State == admin.AlertAcknowledged:
		out = append(out, lit("; "), name(a.Ack.By), lit(" sees to it, until "), moment(a.Ack.Until))
	case a.State == admin.AlertWaiting:
		out = append(out, lit("; nobody is told yet"))
	case a.State == admin.AlertResolving:
		out = append(out, lit("; gone for the moment"))
	case !a.Told.IsZero():
		out = append(out, lit("; told "), moment(a.Told.Time), g.If(len(a.Sinks) > 0, g.Group{lit(" to "), names(a.Sinks)}))
	}
	return out
}
