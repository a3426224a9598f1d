package web

import (
	"strconv"
	"time"

	g "maragu.dev/gomponents"

	"github.com/spinecert/spinecert/internal/admin"
)

// scale is the span of time that all drawings of a page share, so that they can be compared.
type scale struct {
	from, to, now time.Time
	ticks         []tick
}

type tick struct {
	at    time.Time
	label string
}

// The bounds of a scale, from now.
const (
	furthest = 4 * 365 * day
	nearest  = time.Hour
)

// newScale holds what the slots serve and will serve, and a part of what they did.
func newScale(slots []*admin.Slot, now time.Time) *scale {
	s := &scale{from: now, to: now.Add(nearest), now: now}
	for _, slot := range slots {
		s.hold(slot.Since.Time, slot.NotAfter.Time)
		for i := range slot.Timeline {
			x := &slot.Timeline[i]
			s.hold(x.From.Time, x.NotAfter.Time)
			s.hold(x.Asked.Time, x.Asked.Time)
		}
	}
	if last := now.Add(furthest); s.to.After(last) {
		s.to = last
	}
	ahead := s.to.Sub(now)
	s.to = s.to.Add(ahead / 25)
	// The past has a third of the width at most, and a twelfth at least.
	if first := now.Add(-ahead / 2); s.from.Before(first) {
		s.from = first
	}
	if first := now.Add(-ahead / 11); s.from.After(first) {
		s.from = first
	}
	s.ticks = ticks(s.from, s.to)
	return s
}

func (s *scale) hold(from, to time.Time) {
	if !from.IsZero() && from.Before(s.from) {
		s.from = from
	}
	if to.After(s.to) {
		s.to = to
	}
}

// at is where a moment is, in percent of the width, within the scale.
func (s *scale) at(t time.Time) float64 {
	return min(max(100*float64(t.Sub(s.from))/float64(s.to.Sub(s.from)), 0), 100)
}

func percent(v float64) string { return strconv.FormatFloat(v, 'f', 2, 64) + "%" }

// maxTicks is how many fit beside each other, with their labels, in a narrow window.
const maxTicks = 5

// ticks are round moments between from and to.
func ticks(from, to time.Time) []tick {
	from, to = from.UTC(), to.UTC()
	var out []tick
	for _, step := range []time.Duration{10 * time.Minute, time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour} {
		if to.Sub(from) < maxTicks*step {
			for t := from.Truncate(step).Add(step); t.Before(to); t = t.Add(step) {
				out = append(out, tick{t, t.Format("15:04")})
			}
			return out
		}
	}
	for _, days := range []int{1, 2, 7, 14} {
		if to.Sub(from) < maxTicks*time.Duration(days)*day {
			for t := from.Truncate(day).Add(day); t.Before(to); t = t.AddDate(0, 0, days) {
				out = append(out, tick{t, t.Format("01-02")})
			}
			return out
		}
	}
	for _, months := range []int{1, 2, 3, 6, 12, 24} {
		if to.Sub(from) < maxTicks*time.Duration(months)*30*day || months == 24 {
			format := "2006-01"
			if months >= 12 {
				format = "2006"
			}
			// The first of a month whose number is a multiple, counted from January.
			at := time.Date(from.Year(), time.January, 1, 0, 0, 0, 0, time.UTC)
			for t := at; t.Before(to); t = t.AddDate(0, months, 0) {
				if t.After(from) {
					out = append(out, tick{t, t.Format(format)})
				}
			}
			return out
		}
	}
	return out
}

// The heights of a drawing: what was and is above, what comes below.
const (
	barTop, barHigh   = "5", "11"
	nextTop, nextHigh = "19", "7"
	drawnHigh         = "30"
)

// axis is the drawing above the others. What it draws as #grid they draw as well, below what is theirs, and #today above.
func (s *scale) axis() g.Node {
	var lines, labels g.Group
	today := s.at(s.now)
	for _, t := range s.ticks {
		x := s.at(t.at)
		lines = append(lines, el("line", attr("x1", percent(x)), attr("x2", percent(x)), attr("y1", "0"), attr("y2", "100%"), class("tick")))
		if x < 88 && (x > today || x < today-18) { // it has room beside the edge, and the line of now
			labels = append(labels, el("text", attr("x", percent(x)), attr("y", "29"), attr("dx", "3"), class("label"), lit(t.label)))
		}
	}
	now := percent(today)
	line := el("g", attr("id", "today"), el("line", attr("x1", now), attr("x2", now), attr("y1", "0"), attr("y2", "100%"), class("now")))
	labels = append(labels, el("text", attr("x", now), attr("y", "12"), attr("dx", "3"), class("label today"), lit("now")))
	return el("svg", class("axis"), attr("width", "100%"), attr("height", "32"), attr("aria-hidden", "true"), el("g", attr("id", "grid"), lines), line, labels)
}

// timeline draws what a slot served, serves and will serve, and says it.
func timeline(s *admin.Slot, l look, c *scale, now time.Time) g.Node {
	marks := g.Group{el("use", attr("href", "#grid"))}
	said := "nothing is served"
	for i := range s.Timeline {
		x := &s.Timeline[i]
		marks = append(marks, c.mark(x, l, now))
		if x.State == admin.GenerationPresent {
			said = sentence(x, now)
		}
	}
	if len(s.Timeline) == 0 && s.Generation > 0 { // a view without timelines
		x := &admin.Generation{Number: s.Generation, State: admin.GenerationPresent, Origin: s.Origin, From: s.Since, NotAfter: s.NotAfter}
		marks, said = append(marks, c.mark(x, l, now)), sentence(x, now)
	}
	marks = append(marks, el("use", attr("href", "#today")))
	return g.Group{
		el("svg", class("line"), attr("width", "100%"), attr("height", drawnHigh), attr("role", "img"), attr("aria-label", "Timeline of "+plain(s.Name, maxName)+": "+plain(said, maxText)), marks),
		generations(s, now),
	}
}

// mark draws one generation.
func (s *scale) mark(x *admin.Generation, l look, now time.Time) g.Node {
	switch {
	case x.State == admin.GenerationPast:
		return s.bar(x.From.Time, x.To.Time, barTop, barHigh, "past")
	case x.State == admin.GenerationPresent && x.NotAfter.Before(now):
		return g.Group{s.bar(x.From.Time, x.NotAfter.Time, barTop, barHigh, "past"), s.bar(x.NotAfter.Time, now, barTop, barHigh, "over")}
	case x.State == admin.GenerationPresent:
		return s.bar(x.From.Time, x.NotAfter.Time, barTop, barHigh, "present "+l.class)
	case !x.NotAfter.IsZero():
		from := x.NotBefore.Time
		if from.Before(now) {
			from = now
		}
		return s.bar(from, x.NotAfter.Time, nextTop, nextHigh, "coming")
	case x.Asked.IsZero():
		return nil
	}
	kind := "planned"
	if x.Request != "" {
		kind = "asked"
	}
	return el("circle", attr("cx", percent(s.at(x.Asked.Time))), attr("cy", "22.5"), attr("r", "4"), class(kind))
}

// bar is a span of time; one that is very short can still be seen.
func (s *scale) bar(from, to time.Time, y, height, kind string) g.Node {
	a, b := s.at(from), s.at(to)
	if b <= a && b <= 0 {
		return nil // before all that is drawn
	}
	return el("rect", attr("x", percent(min(a, 99))), attr("y", y), attr("width", percent(max(b-a, 1))), attr("height", height), attr("rx", "2"), class(kind))
}

// legend says what the shapes are.
func legend() g.Node {
	item := func(kind, word string, shape ...g.Node) g.Node {
		return el("li", el("svg", class("line"), attr("width", "24"), attr("height", "14"), attr("aria-hidden", "true"), g.Group(shape)), lit(word))
	}
	box := func(kind, height string) g.Node {
		return el("rect", attr("x", "1"), attr("y", "2"), attr("width", "22"), attr("height", height), attr("rx", "2"), class(kind))
	}
	dot := func(kind string) g.Node {
		return el("circle", attr("cx", "12"), attr("cy", "7"), attr("r", "4"), class(kind))
	}
	return el("ul", class("legend"), attr("role", "list"), attr("aria-label", "What the timelines show"),
		item("", "served now", box("present good", "10")), item("", "was served", box("past", "10")), item("", "coming", box("coming", "7")),
		item("", "request waits", dot("asked")), item("", "next request", dot("planned")), item("", "ended, still served", box("over", "10")))
}
