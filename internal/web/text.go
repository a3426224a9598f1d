package web

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	g "maragu.dev/gomponents"
)

// How much of a text is shown. Certificates and peers choose what they say.
const (
	maxText = 2000
	maxName = 300
)

// plain returns s as it may be shown: at most limit bytes, and whatever is not printed, such
// as what moves a cursor or turns the direction of a line, as Go escapes it.
func plain(s string, limit int) string {
	if len(s) <= limit && printable(s) {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case b.Len() >= limit:
			return b.String() + "…"
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], "\ufffd"):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
		}
	}
	return b.String()
}

// printable reports whether s is ASCII that is printed.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// text is a sentence.
func text(s string) g.Node { return lit(plain(s, maxText)) }

// name is a word that somebody chose: in a fixed width, and on its own as far as direction goes.
func name(s string) g.Node {
	if s == "" {
		return none()
	}
	return el("bdi", class("m"), lit(plain(s, maxName)))
}

// names are several.
func names(all []string) g.Node {
	if len(all) == 0 {
		return none()
	}
	out := make(g.Group, 0, 2*len(all))
	for i, s := range all {
		if i == maxNames {
			out = append(out, lit(fmt.Sprintf(" and %d more", len(all)-i)))
			break
		}
		if i > 0 {
			out = append(out, lit(", "))
		}
		out = append(out, name(s))
	}
	return out
}

const maxNames = 8

// none stands where there is nothing, also for those who are read to.
func none() g.Node {
	return el("span", class("no"), el("span", attr("aria-hidden", "true"), lit("–")), el("span", class("sr"), lit("none")))
}

// shown is a time for people, in UTC.
func shown(t time.Time) string { return t.UTC().Format("2006-01-02 15:04") }

// moment is a time, in UTC. The zero time is none.
func moment(t time.Time) g.Node {
	if t.IsZero() {
		return none()
	}
	return el("time", attr("datetime", t.UTC().Format(time.RFC3339)), lit(shown(t)))
}

const day = 24 * time.Hour

// left says how far t is from now: days, or hours and minutes where it is near.
func left(t, now time.Time) string {
	d := t.Sub(now)
	format := "in %s"
	if d < 0 {
		d, format = -d, "%s ago"
	}
	return fmt.Sprintf(format, span(d))
}

// span is a duration in the one unit that says most, rounded down: what is left is never less.
func span(d time.Duration) string {
	count := func(n time.Duration, unit string) string {
		if n == 1 {
			return "1 " + unit
		}
		return strconv.FormatInt(int64(n), 10) + " " + unit + "s"
	}
	switch {
	case d >= 2*day:
		return count(d/day, "day")
	case d >= 2*time.Hour:
		return count(d/time.Hour, "hour")
	case d >= time.Minute:
		return count(d/time.Minute, "minute")
	}
	return "under a minute"
}

// counted is "1 slot" or "3 slots".
func counted(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return strconv.Itoa(n) + " " + what
}
