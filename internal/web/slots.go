package web

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	g "maragu.dev/gomponents"

	"github.com/spinecert/spinecert/internal/admin"
)

// slotColumns are those of the table of slots. The heading of the timeline has its axis.
var slotColumns = []column{{"Slot", "c-slot"}, {"State", "c-state"}, {"Ends", "c-end"}, {"Timeline", "c-time"}, {"Used by", "c-uses"}}

// slotSection shows a page of the slots that match: those in trouble first, then those that
// end first.
func slotSection(snap *snapshot, q query) g.Node {
	all := snap.Status.Slots
	var found []*admin.Slot
	for _, i := range snap.slots {
		s := &all[i]
		if q.matches(s.Name, s.FQDN, s.Environment, s.Serial, s.SHA256, s.State, s.Affects.Note) || q.matchesAny(s.Names) || q.matchesAny(s.Affects.ODS) || q.matchesAny(s.Affects.ASIDs) {
			found = append(found, s)
		}
	}
	pages := max((len(found)+q.size-1)/q.size, 1)
	q.page = min(q.page, pages)
	from := (q.page - 1) * q.size
	shown := found[from:min(from+q.size, len(found))]
	scale := newScale(shown, snap.Now)
	rows := make(g.Group, len(shown))
	for i, s := range shown {
		rows[i] = slotRow(snap, s, scale)
	}
	about := ""
	if len(all) > 1 {
		about = "Those in trouble first, then those that end first."
	}
	return section("slots", "Slots", about, emptyOf(len(found), len(all), "No slot is configured."), slotTable(rows, scale), legend(), pager(q, pages, from, len(shown), len(found)))
}

// slotTable is table, with the axis.
func slotTable(rows g.Group, s *scale) g.Node {
	heads := make(g.Group, len(slotColumns))
	for i, c := range slotColumns {
		title := lit(c.title)
		if c.class == "c-time" { // the axis is for eyes
			title = g.Group{el("span", class("sr"), title), s.axis()}
		}
		heads[i] = el("th", attr("scope", "col"), attr("role", "columnheader"), class(c.class), title)
	}
	return el("table", class("slots"), attr("role", "table"), el("caption", class("sr"), lit("Slots, what they serve, and until when")),
		el("thead", attr("role", "rowgroup"), el("tr", attr("role", "row"), heads)), el("tbody", attr("role", "rowgroup"), rows))
}

func slotRow(snap *snapshot, s *admin.Slot, scale *scale) g.Node {
	t, wrong := snap.bySlot[s.Name]
	state := g.Group{stateLook(s.State).badge(s.State)}
	if wrong {
		l := lookOf(t.any)
		state = append(state, lit(" "), el("a", class("badge "+l.class), attr("href", "#problem-"+strconv.Itoa(t.at)), l.icon(), lit(l.word)))
	}
	if s.LastError != "" {
		state = append(state, under(text(s.LastError)))
	}
	if s.Held {
		state = append(state, under(lit("held at generation "+strconv.FormatUint(s.Of, 10))))
	}
	return row(slotColumns,
		g.Group{name(s.Name), g.If(s.FQDN != "", under(name(s.FQDN))), g.If(len(snap.Status.Environments) > 1, under(lit("in "), name(s.Environment)))},
		state,
		end(s.NotAfter.Time, snap.Now, lookOf(t.own)),
		timeline(s, lookOf(t.own), scale, snap.Now),
		g.Group{usedBy(snap.uses[s.Name]), g.Iff(!s.Affects.Empty(), func() g.Node { return under(affected(s.Affects)) })},
	)
}

func usedBy(uses []string) g.Node {
	if len(uses) == 0 {
		return el("span", class("no"), lit("nothing here"))
	}
	return names(uses)
}

// generations are the lines of a slot's timeline, for those who do not see the drawing.
func generations(s *admin.Slot, now time.Time) g.Node {
	if len(s.Timeline) == 0 {
		return nil
	}
	lines := make(g.Group, len(s.Timeline))
	for i := range s.Timeline {
		lines[i] = el("li", text(sentence(&s.Timeline[i], now)))
	}
	return el("details", attr("id", "generations-"+plain(s.Name, maxName)), el("summary", attr("id", "s-"+plain(s.Name, maxName)), lit(counted(len(s.Timeline), "generation")), el("span", class("sr"), lit(" of "), text(s.Name))), el("ol", class("generations"), lines))
}

// sentence is one line of a timeline in words.
func sentence(x *admin.Generation, now time.Time) string {
	var b strings.Builder
	switch {
	case x.State == admin.GenerationComing && x.NotAfter.IsZero() && x.Request != "":
		fmt.Fprintf(&b, "coming: request %s, made %s, waits for its certificate", x.Request, shown(x.Asked.Time))
	case x.State == admin.GenerationComing && x.NotAfter.IsZero():
		fmt.Fprintf(&b, "coming: the next request will be made %s, %s", shown(x.Asked.Time), left(x.Asked.Time, now))
	default:
		b.WriteString(x.State)
		if x.Number > 0 {
			fmt.Fprintf(&b, ", generation %d", x.Number)
		}
		if x.Origin != "" {
			b.WriteString(", from " + x.Origin)
		}
	}
	add := func(format string, t admin.Time) {
		if !t.IsZero() {
			fmt.Fprintf(&b, format, shown(t.Time))
		}
	}
	if x.State == admin.GenerationComing {
		add(", valid from %s", x.NotBefore)
	} else {
		add(", served from %s", x.From)
		add(" to %s", x.To)
	}
	if !x.NotAfter.IsZero() {
		verb := "ends"
		if x.NotAfter.Before(now) {
			verb = "ended"
		}
		fmt.Fprintf(&b, ", %s %s (%s)", verb, shown(x.NotAfter.Time), left(x.NotAfter.Time, now))
	}
	if x.Serial != "" {
		b.WriteString(", serial " + x.Serial)
	}
	if x.Note != "" {
		b.WriteString("; " + x.Note)
	}
	return b.String()
}

// pager leads to the other pages.
func pager(q query, pages, from, shown, found int) g.Node {
	if found <= pageSize {
		return nil
	}
	link := func(id, word, rel string, page, size int) g.Node {
		if page < 1 || page > pages || size == q.size && page == q.page {
			return el("span", class("off"), lit(word))
		}
		return el("a", attr("id", id), attr("href", address(q.words, page, size)), g.If(rel != "", attr("rel", rel)), lit(word))
	}
	return el("nav", class("pager"), attr("aria-label", "Pages of slots"),
		el("p", lit(fmt.Sprintf("%d to %d of %d", from+1, from+shown, found))),
		el("p", link("prev", "Previous", "prev", q.page-1, q.size), lit(fmt.Sprintf(" page %d of %d ", q.page, pages)), link("next", "Next", "next", q.page+1, q.size)),
		el("p", lit("on a page: "), link("size-50", "50", "", 1, pageSize), lit(" "), link("size-200", "200", "", 1, 200), lit(" "), link("size-1000", "1000", "", 1, maxSize)),
	)
}

// address is that of another page.
func address(words string, page, size int) string {
	v := url.Values{}
	if words != "" {
		v.Set("q", words)
	}
	if page > 1 {
		v.Set("page", strconv.Itoa(page))
	}
	if size != pageSize {
		v.Set("size", strconv.Itoa(size))
	}
	return "/?" + v.Encode() + "#slots"
}
