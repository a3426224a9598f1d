package web

import (
	"time"

	g "maragu.dev/gomponents"

	"github.com/spinecert/spinecert/internal/condition"
)

// look is how something is marked: a word, a shape and a colour, so that none of them is
// needed to understand the others.
type look struct {
	class, word string
	drawn       g.Node // the shape
}

// newLook draws the shape once: a page has hundreds of them.
func newLook(name, word, path string) look {
	return look{name, word, g.Raw(`<svg class="icon ` + name + `" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true"><path d="` + path + `"></path></svg>`)}
}

// The looks.
var (
	good = newLook("good", "ok", "M8 1a7 7 0 1 0 0 14A7 7 0 0 0 8 1zm3.6 5.300-4.200 4.600a.8.8 0 0 1-1.200 0L4.400 9a.8.8 0 0 1 1.200-1l1.200 1.300 3.600-4a.8.8 0 0 1 1.200 1z")
	fair = newLook("fair", "warning", "M8 1.200c.4 0 .8.2 1 .6l6 10.800c.4.8-.1 1.700-1 1.700H2c-.9 0-1.400-.9-1-1.700L7 1.800c.2-.4.6-.6 1-.6zm-.8 4.600.2 4h1.200l.2-4zM8 12.600a.9.9 0 1 0 0-1.800.9.9 0 0 0 0 1.800z")
	bad  = newLook("bad", "critical", "M5 1h6l4 4v6l-4 4H5l-4-4V5zm2.200 3.200.2 4.800h1.200l.2-4.800zM8 12.200a1 1 0 1 0 0-2 1 1 0 0 0 0 2z")
	rest = newLook("rest", "", "M8 2.500a5.500 5.500 0 1 0 0 11 5.500 5.500 0 0 0 0-11zm0 1.600a3.900 3.900 0 1 1 0 7.800 3.900 3.900 0 0 1 0-7.800z")
)

func lookOf(s condition.Severity) look {
	switch s {
	case condition.Critical:
		return bad
	case condition.Warning:
		return fair
	}
	return good
}

// icon is the shape alone, for eyes.
func (l look) icon() g.Node { return l.drawn }

// badge is shape and word.
func (l look) badge(word string) g.Node {
	return el("span", class("badge "+l.class), l.icon(), text(word))
}

// stateLook is the look of the states that slots, tunnels, services and sinks have.
func stateLook(state string) look {
	switch state {
	case "ready", "open", "in_sync", "ok":
		return good
	case "failed", "failing":
		return bad
	case "refused", "closed", "held":
		return fair
	}
	return rest
}

// end is a time at which something ends, with how far that is.
func end(t, now time.Time, l look) g.Node {
	if t.IsZero() {
		return none()
	}
	return el("span", class("end "+l.class), g.If(l.class != good.class, l.icon()), el("strong", lit(left(t, now))), el("span", class("sub"), moment(t)))
}

// column is one column of a table.
type column struct{ title, class string }

// table is a table with a caption for those who do not see the heading above it. In a narrow
// window its rows are blocks, and each cell says what it is.
func table(caption string, columns []column, rows g.Group) g.Node {
	heads := make(g.Group, len(columns))
	for i, c := range columns {
		heads[i] = el("th", attr("scope", "col"), attr("role", "columnheader"), g.If(c.class != "", class(c.class)), lit(c.title))
	}
	return el("table", attr("role", "table"), el("caption", class("sr"), lit(caption)), el("thead", attr("role", "rowgroup"), el("tr", attr("role", "row"), heads)), el("tbody", attr("role", "rowgroup"), rows))
}

// row is a row of a table: the first cell names it.
func row(columns []column, cells ...g.Node) g.Node {
	out := make(g.Group, 0, len(cells)+1)
	out = append(out, attr("role", "row"))
	for i, cell := range cells {
		if i == 0 {
			out = append(out, el("th", attr("scope", "row"), attr("role", "rowheader"), g.If(columns[i].class != "", class(columns[i].class)), cell))
			continue
		}
		out = append(out, el("td", attr("role", "cell"), attr("data-is", columns[i].title), g.If(columns[i].class != "", class(columns[i].class)), cell))
	}
	return el("tr", out...)
}

// under is a second line below a first one.
func under(nodes ...g.Node) g.Node { return el("span", class("sub"), g.Group(nodes)) }
