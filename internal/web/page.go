package web

import (
	"fmt"
	"io"
	"strconv"
	"time"

	g "maragu.dev/gomponents"

	"github.com/spinecert/spinecert/internal/condition"
)

// document is the page around what changes. version is a digest of main.
func (s *Site) document(snap *snapshot, main []byte, version string) g.Node {
	title := "Spinecert"
	if snap.Host != "" {
		title = plain(snap.Host, maxName) + " · Spinecert"
	}
	if n := snap.count[condition.Critical]; n > 0 {
		title = fmt.Sprintf("(%d critical) %s", n, title)
	}
	st := &snap.Status
	return g.Group{g.Raw("<!doctype html>"), el("html", attr("lang", "en"),
		el("head",
			el("meta", attr("charset", "utf-8")),
			el("meta", attr("name", "viewport"), attr("content", "width=device-width, initial-scale=1")),
			el("meta", attr("name", "color-scheme"), attr("content", "light dark")),
			el("title", lit(title)),
			el("link", attr("rel", "icon"), attr("href", s.icon.url()), attr("type", "image/svg+xml")),
			el("link", attr("rel", "stylesheet"), attr("href", s.css.url())),
			el("script", attr("src", s.js.url()), attr("defer", "defer")),
		),
		el("body",
			el("a", class("skip"), attr("href", "#main"), lit("Skip to the content")),
			el("header", class("top"),
				el("h1", el("img", attr("src", s.icon.url()), attr("alt", ""), attr("width", "28"), attr("height", "28")), el("span", lit("Spinecert")), g.If(snap.Host != "", name(snap.Host))),
				el("p", attr("id", "asof"), class("asof"), lit("as of "), el("time", attr("datetime", snap.Now.UTC().Format(time.RFC3339)), lit(snap.Now.UTC().Format("2006-01-02 15:04:05")+" UTC")), el("span", attr("id", "live"))),
			),
			el("main", attr("id", "main"), attr("tabindex", "-1"), attr("data-version", version), g.NodeFunc(func(w io.Writer) error { _, err := w.Write(main); return err })), // drawn by content
			el("footer",
				el("p", lit("spinecertd "), name(st.Version), lit(", process "), name(strconv.Itoa(st.PID)), lit(", since "), moment(st.Started), lit(" UTC. Configuration "), name(st.Config.File), lit(", read "), moment(st.Config.Loaded), lit(" UTC.")),
				el("p", el("a", attr("href", "/status.json"), lit("status.json")), lit(" has all of this for programs, "), el("a", attr("href", "/metrics"), lit("metrics")), lit(" what Prometheus reads. All times are UTC. Nothing here changes anything: that is for the command line.")),
			),
		),
	)}
}

// content is what changes.
func content(snap *snapshot, q query) g.Node {
	return g.Group{
		summary(snap),
		finder(snap, q),
		problems(snap, q),
		slotSection(snap, q),
		serviceSection(snap, q),
		tunnelSection(snap, q),
		environmentSection(snap, q),
		requestSection(snap, q),
		refusalSection(snap, q),
		sinkSection(snap, q),
	}
}

// summary is how things stand, in a line and four figures.
func summary(snap *snapshot) g.Node {
	critical, warning := snap.count[condition.Critical], snap.count[condition.Warning]
	st := &snap.Status
	kind, line := good, "Nothing is wrong."
	switch {
	case critical > 0 && warning > 0:
		kind, line = bad, fmt.Sprintf("%d critical, and %s.", critical, counted(warning, "warning"))
	case critical > 0:
		kind, line = bad, fmt.Sprintf("%d critical.", critical)
	case warning > 0:
		kind, line = fair, counted(warning, "warning")+"."
	case !st.Ready:
		kind, line = fair, "Not every slot that a tunnel uses has a certificate."
	}
	served, next := 0, -1
	for i := range st.Slots {
		slot := &st.Slots[i]
		if slot.Generation == 0 {
			continue
		}
		served++
		if next < 0 || slot.NotAfter.Before(st.Slots[next].NotAfter.Time) {
			next = i
		}
	}
	end := el("dd", none())
	if next >= 0 {
		slot := &st.Slots[next]
		end = el("dd", el("span", class("big"), lit(left(slot.NotAfter.Time, snap.Now))), el("span", class("sub"), name(slot.Name), lit(", "), moment(slot.NotAfter.Time)))
	}
	open := int64(0)
	for i := range st.Tunnels {
		open += st.Tunnels[i].Connections
	}
	return el("section", class("summary "+kind.class), attr("aria-label", "Summary"),
		el("p", class("verdict"), kind.icon(), el("strong", lit(line))),
		g.If(st.Config.Error != "", el("p", class("broken"), fair.icon(), lit("The configuration on disk was refused, and the last one is in force: "), text(st.Config.Error))),
		el("dl", class("tiles"),
			tile("Slots that serve", strconv.Itoa(served)+" of "+strconv.Itoa(len(st.Slots)), st.Ready, "ready", "not ready"),
			el("div", el("dt", lit("Next end")), end),
			el("div", el("dt", lit("Open connections")), el("dd", el("span", class("big"), lit(strconv.FormatInt(open, 10))), el("span", class("sub"), lit("through "+counted(len(st.Tunnels), "tunnel"))))),
			el("div", el("dt", lit("Services in sync")), el("dd", el("span", class("big"), lit(inSync(snap))), el("span", class("sub"), lit("with their slots")))),
		),
	)
}

func tile(title, figure string, ok bool, yes, no string) g.Node {
	kind, word := good, yes
	if !ok {
		kind, word = fair, no
	}
	return el("div", el("dt", lit(title)), el("dd", el("span", class("big"), lit(figure)), el("span", class("sub"), kind.icon(), lit(word))))
}

func inSync(snap *snapshot) string {
	services, n := snap.Status.Services, 0
	for i := range services {
		if services[i].State == "in_sync" {
			n++
		}
	}
	return strconv.Itoa(n) + " of " + strconv.Itoa(len(services))
}

// finder looks for words in everything.
func finder(snap *snapshot, q query) g.Node {
	return el("div", class("find"),
		el("form", attr("role", "search"), attr("method", "get"), attr("action", "/"),
			el("label", attr("for", "q"), lit("Find")),
			el("input", attr("type", "search"), attr("id", "q"), attr("name", "q"), attr("value", plain(q.words, maxName)), attr("autocomplete", "off"), attr("maxlength", strconv.Itoa(maxWords)), attr("placeholder", "slot, name, ODS code, ASID …")),
			g.If(q.size != pageSize, el("input", attr("type", "hidden"), attr("name", "size"), attr("value", strconv.Itoa(q.size)))),
			el("button", attr("id", "find"), attr("type", "submit"), lit("Find")),
		),
		el("nav", attr("aria-label", "Sections"),
			jump("problems", "Alerts", len(snap.Status.Conditions)), jump("slots", "Slots", len(snap.Status.Slots)), jump("services", "Services", len(snap.Status.Services)),
			jump("tunnels", "Tunnels", len(snap.Status.Tunnels)), jump("trust", "Trust", len(snap.Status.Environments)), jump("requests", "Requests", len(snap.Status.Requests)),
			jump("refusals", "Refusals", len(snap.Refusals)), jump("sinks", "Sinks", len(snap.Alerts.Sinks)),
		),
		g.If(q.words != "", el("p", class("filter"), lit("Shown is what contains "), name(q.words), lit(". "), el("a", attr("href", "/"), lit("Show everything")))),
	)
}

func jump(id, word string, n int) g.Node {
	return el("a", attr("id", "to-"+id), attr("href", "#"+id), lit(word+" "), el("span", class("n"), lit(strconv.Itoa(n))))
}

// section is a part of the page with a heading. empty says that there is nothing, "" that
// there is.
func section(id, title, about, empty string, content ...g.Node) g.Node {
	body := g.Group(content)
	if empty != "" {
		body = g.Group{el("p", class("empty"), lit(empty))}
	}
	return el("section", attr("id", id), class("card"), attr("aria-labelledby", id+"-title"),
		el("h2", attr("id", id+"-title"), lit(title)), g.If(about != "", el("p", class("about"), lit(about))), body)
}

// emptyOf says why there is nothing to show: nothing is there, or nothing matches.
func emptyOf(shown, all int, nothing string) string {
	switch {
	case shown > 0:
		return ""
	case all > 0:
		return "Nothing here contains what is looked for."
	}
	return nothing
}
