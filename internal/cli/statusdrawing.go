package cli

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spinecert/spinecert/internal/admin"
)

// The signs of a drawing.
const (
	signNone = iota
	signPast
	signPresent
	signComing
	signWaits
	signNext
	signNow
	signLeft // goes on before the drawing
	signRight
	signs
)

// signsOf returns how they are drawn: what fills, begins and ends a stretch of time.
func (v view) signsOf() (fill, start, end [signs]rune) {
	fill = [signs]rune{' ', '-', '=', '+', '?', 'r', '|', '<', '>'}
	start = [signs]rune{signPast: '[', signPresent: '[', signComing: '['}
	end = [signs]rune{signPast: ']', signPresent: ']', signComing: ']'}
	if v.unicode {
		fill[signPast], fill[signPresent], fill[signComing], fill[signNow] = '─', '━', '┄', '│'
		fill[signLeft], fill[signRight] = '‹', '›'
		start[signPast], start[signPresent], start[signComing] = '├', '┣', '├'
		end[signPast], end[signPresent], end[signComing] = '┤', '┫', '┤'
	}
	return fill, start, end
}

// drawing is the scale of all its rows.
type drawing struct {
	view
	now        time.Time
	start, end time.Time
	name       int // width of the names
	bar        int // width of the drawing itself
	days       int
	next       int // of what comes next; 0: not shown
	fill       [signs]rune
	begin      [signs]rune
	finish     [signs]rune
	used       [signs]bool
}

func newDrawing(v view, rows []*admin.Slot, now time.Time) *drawing {
	d := &drawing{view: v, now: now, start: now, end: now, name: len("TIMELINE"), days: len("DAYS")}
	d.fill, d.begin, d.finish = v.signsOf()
	for _, s := range rows {
		d.name = max(d.name, utf8.RuneCountInString(safe(s.Name)))
		d.days = max(d.days, len(daysOf(s, now)))
		for _, b := range stretches(s.Timeline, now) {
			if b.from.Before(d.start) {
				d.start = b.from
			}
			if b.to.After(d.end) {
				d.end = b.to
			}
		}
		if v.width >= wideView {
			d.next = max(d.next, utf8.RuneCountInString(comingNext(s.Timeline)))
		}
	}
	if earliest := now.Add(-farthest); d.start.Before(earliest) {
		d.start = earliest
	}
	if latest := now.Add(farthest); d.end.After(latest) {
		d.end = latest
	}
	if d.end.Sub(d.start) < time.Hour {
		d.end = d.start.Add(time.Hour)
	}
	d.name = min(d.name, max(v.width/5, len("TIMELINE")))
	d.bar = v.width - d.name - d.days - 4
	if d.next > 0 {
		d.next = max(d.next, len("NEXT"))
		d.bar -= d.next + 2
	}
	return d
}

// column is the place of a moment in the drawing.
func (d *drawing) column(t time.Time) int {
	at := int(float64(t.Sub(d.start)) / float64(d.end.Sub(d.start)) * float64(d.bar))
	return min(max(at, 0), d.bar-1)
}

// show writes the header, a line for each slot, and what the signs mean.
func (d *drawing) show(p *page, rows []*admin.Slot) {
	d.line(p, "TIMELINE", d.header(), "DAYS", "NEXT")
	for _, s := range rows {
		d.line(p, cut(safe(s.Name), d.name, d.unicode), d.row(s.Timeline), daysOf(s, d.now), comingNext(s.Timeline))
	}
	d.legend(p)
}

func (d *drawing) line(p *page, name, bar, days, next string) {
	text := fmt.Sprintf("%-*s  %s  %*s", d.name, name, bar, d.days, days)
	if d.next > 0 {
		text += "  " + next
	}
	p.line("%s", text)
}

// cut shortens a text that is too long for its column.
func cut(text string, width int, unicode bool) string {
	runes := []rune(text)
	if len(runes) <= width {
		return text
	}
	mark := "~"
	if unicode {
		mark = "…"
	}
	return string(runes[:width-1]) + mark
}

// row draws one timeline.
func (d *drawing) row(timeline []admin.Generation) string {
	cells := []rune(strings.Repeat(" ", d.bar))
	now := d.column(d.now)
	all := stretches(timeline, d.now)
	for _, s := range all {
		if s.kind != signWaits && s.kind != signNext {
			d.stretch(cells, s)
		}
	}
	for _, s := range all {
		at := d.column(s.from)
		switch s.kind { // beside the sign of now, so that both are seen
		case signWaits:
			at = max(min(at, now-1), 0)
		case signNext:
			if at <= now {
				at = min(now+1, d.bar-1)
			}
		default:
			continue
		}
		d.put(cells, at, s.kind, d.fill[s.kind])
	}
	d.put(cells, now, signNow, d.fill[signNow])
	return string(cells)
}

func (d *drawing) put(cells []rune, at, kind int, sign rune) {
	cells[at], d.used[kind] = sign, true
}

// stretch draws what has a beginning and an end.
func (d *drawing) stretch(cells []rune, s stretch) {
	if s.to.Before(d.start) || s.from.After(d.end) {
		return
	}
	from, to, now := d.column(s.from), d.column(s.to), d.column(d.now)
	if s.kind == signComing && s.sure { // its beginning is seen beside the sign of now
		from = min(max(from, now+1), d.bar-1)
	}
	if !s.sure { // what is in force stays until it ends
		from = max(from, now)
		for from < to && cells[from] != ' ' {
			from++
		}
		if cells[from] != ' ' {
			return
		}
	}
	for at := from; at <= to; at++ {
		d.put(cells, at, s.kind, d.fill[s.kind])
	}
	if to > from {
		d.put(cells, from, s.kind, d.begin[s.kind])
	}
	if to > from+1 {
		d.put(cells, to, s.kind, d.finish[s.kind])
	}
	if s.from.Before(d.start) {
		d.put(cells, from, signLeft, d.fill[signLeft])
	}
	if s.to.After(d.end) {
		d.put(cells, to, signRight, d.fill[signRight])
	}
}

// header has the dates of both ends, and now where there is room between them.
func (d *drawing) header() string {
	layout := time.DateOnly
	switch {
	case d.end.Sub(d.start) < 48*time.Hour:
		layout = "15:04Z"
	case d.bar < 34:
		layout = "2006-01"
	}
	start, end := d.start.UTC().Format(layout), d.end.UTC().Format(layout)
	cells := []rune(start + strings.Repeat(" ", max(1, d.bar-len(start)-len(end))) + end)
	const now = "now"
	at := min(max(d.column(d.now)-1, 0), d.bar-len(now))
	if at > len(start) && at+len(now) < d.bar-len(end) {
		copy(cells[at:], []rune(now))
	}
	return string(cells)
}

// legend says what the signs mean that were drawn.
func (d *drawing) legend(p *page) {
	words := [signs]string{signPast: "past", signPresent: "in force", signComing: "to come", signWaits: "request waits", signNext: "next request, by itself", signNow: "now"}
	var items []string
	for kind, word := range words {
		if word != "" && d.used[kind] {
			items = append(items, string(d.fill[kind])+" "+word)
		}
	}
	if d.used[signLeft] || d.used[signRight] {
		items = append(items, string(d.fill[signLeft])+" "+string(d.fill[signRight])+" goes on")
	}
	line := ""
	for _, item := range items {
		if line != "" && utf8.RuneCountInString(line)+2+utf8.RuneCountInString(item) > d.width {
			p.line("%s", line)
			line = ""
		}
		if line != "" {
			line += "  "
		}
		line += item
	}
	p.line("%s", line)
}
