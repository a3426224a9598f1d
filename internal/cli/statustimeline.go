package cli

import (
	"cmp"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/spinecert/spinecert/internal/admin"
)

const (
	// maxRows is how many slots a drawing has: what is more, nobody reads.
	maxRows = 50
	// farthest is how far from now a drawing reaches, either way: certificates of Spine
	// live three years.
	farthest = 3 * 366 * 24 * time.Hour
	// wideView has room for a column that says what comes next.
	wideView = 100
	// minWidth and maxWidth bound what a terminal says of itself.
	minWidth, maxWidth = 40, 240
)

// view is what a drawing may use of a terminal.
type view struct {
	width   int // in characters
	unicode bool
}

// viewOf asks the environment and the terminal, if out is one.
func viewOf(out io.Writer) view {
	v := view{width: textWidth, unicode: isUTF8(os.Getenv)}
	if columns, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && columns > 0 {
		v.width = columns
	} else if f, ok := out.(*os.File); ok {
		if columns, _, err := term.GetSize(int(f.Fd())); err == nil && columns > 0 {
			v.width = columns
		}
	}
	v.width = min(max(v.width, minWidth), maxWidth)
	return v
}

// isUTF8 reports whether the locale has more than ASCII. The first variable that is set counts.
func isUTF8(variable func(string) string) bool {
	locale := strings.ToLower(cmp.Or(variable("LC_ALL"), variable("LC_CTYPE"), variable("LANG")))
	return strings.Contains(locale, "utf-8") || strings.Contains(locale, "utf8")
}

// showTimeline draws past, present and coming generations of the slots on one scale.
// A daemon that tells none of them gets no drawing.
func (r *statusResult) showTimeline(p *page) {
	var rows []*admin.Slot
	for i := range r.Slots {
		if len(r.Slots[i].Timeline) > 0 {
			rows = append(rows, &r.Slots[i])
		}
	}
	if len(rows) == 0 {
		return
	}
	more := len(rows) - maxRows
	if more > 0 {
		slices.SortStableFunc(rows, func(a, b *admin.Slot) int { return endOf(a).Compare(endOf(b)) })
		rows = rows[:maxRows]
	}
	p.blank()
	newDrawing(r.view, rows, r.now).show(p, rows)
	if more > 0 {
		p.line("%s more that end later: the table above has all", count(more, "slot"))
	}
}

// endOf is when what a slot serves ends; of one that serves nothing, after all others.
func endOf(s *admin.Slot) time.Time {
	if s.NotAfter.IsZero() {
		return time.Unix(1<<40, 0)
	}
	return s.NotAfter.Time
}

// stretch is a time in which a generation serves, served or is to serve; of a request
// it is when it was made, or will be.
type stretch struct {
	kind     int
	from, to time.Time
	sure     bool // coming: it takes over at from
}

// stretches are those of a timeline, in the order in which they are drawn.
func stretches(timeline []admin.Generation, now time.Time) []stretch {
	var out []stretch
	for i := range timeline {
		g := &timeline[i]
		switch {
		case g.State == admin.GenerationComing && g.NotAfter.IsZero() && !g.Asked.IsZero():
			kind := signWaits
			if g.Request == "" {
				kind = signNext
			}
			out = append(out, stretch{kind, g.Asked.Time, g.Asked.Time, true})
		case g.State == admin.GenerationComing:
			// What waits for something else than its time takes over nobody knows when.
			out = append(out, stretch{signComing, g.NotBefore.Time, g.NotAfter.Time, g.NotBefore.After(now)})
		case g.State == admin.GenerationPresent:
			out = append(out, stretch{signPresent, began(g), g.NotAfter.Time, true})
		case g.State == admin.GenerationPast:
			to := g.To.Time
			if to.IsZero() {
				if to = g.NotAfter.Time; to.After(now) {
					to = now
				}
				if i+1 < len(timeline) && !timeline[i+1].From.IsZero() && timeline[i+1].From.Before(to) {
					to = timeline[i+1].From.Time
				}
			}
			out = append(out, stretch{signPast, began(g), to, true})
		}
	}
	return slices.DeleteFunc(out, func(s stretch) bool { return s.from.IsZero() || s.to.IsZero() })
}

// began is when a generation was first served, else when it could be.
func began(g *admin.Generation) time.Time {
	if g.From.IsZero() {
		return g.NotBefore.Time
	}
	return g.From.Time
}

// daysOf says how many days are left to what a slot serves.
func daysOf(s *admin.Slot, now time.Time) string {
	if s.NotAfter.IsZero() {
		return "-"
	}
	return strconv.Itoa(daysLeft(s.NotAfter.Time, now))
}

// comingNext says in a few words what comes next, or "".
func comingNext(timeline []admin.Generation) string {
	for i := range timeline {
		g := &timeline[i]
		day := func(t admin.Time) string { return t.UTC().Format(time.DateOnly) }
		switch {
		case g.State != admin.GenerationComing:
		case !g.NotAfter.IsZero():
			return "certificate " + day(g.NotBefore)
		case g.Request != "":
			return "request since " + day(g.Asked)
		case !g.Asked.IsZero():
			return "request on " + day(g.Asked)
		}
	}
	return ""
}
