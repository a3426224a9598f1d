package sink

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spinecert/spinecert/internal/alert"
	"github.com/spinecert/spinecert/internal/condition"
)

// Bounds of what is told, in characters and items. A message with the most notices stays below 300 KiB.
const (
	longLimit  = 800 // of a sentence
	shortLimit = 300
	nameLimit  = 120
	listLimit  = 20 // ODS codes or ASIDs
)

// tidy returns a copy of a message that no reader can be harmed by.
func tidy(m *alert.Message) *alert.Message {
	c := *m
	c.ID, c.Host, c.Group = clean(m.ID, nameLimit), clean(m.Host, nameLimit), clean(m.Group, nameLimit)
	c.Notices = make([]alert.Notice, min(len(m.Notices), alert.MaxNotices))
	for i := range c.Notices {
		c.Notices[i] = tidyNotice(&m.Notices[i])
	}
	return &c
}

func tidyNotice(n *alert.Notice) alert.Notice {
	t := *n
	c := &t.Condition
	c.ID, c.Subject, c.Slot, c.Runbook = clean(c.ID, shortLimit), clean(c.Subject, nameLimit), clean(c.Slot, nameLimit), clean(c.Runbook, nameLimit)
	c.Code, c.Kind, c.Severity = condition.Code(clean(string(c.Code), nameLimit)), condition.Kind(clean(string(c.Kind), nameLimit)), condition.Severity(clean(string(c.Severity), nameLimit))
	c.Message, c.Hint, c.Command, c.Stops = clean(c.Message, longLimit), clean(c.Hint, longLimit), clean(c.Command, shortLimit), clean(c.Stops, shortLimit)
	c.Affects = condition.Affects{ODS: cleanAll(c.Affects.ODS), ASIDs: cleanAll(c.Affects.ASIDs), Note: clean(c.Affects.Note, shortLimit)}
	c.Steps = nil
	if t.Ack != nil {
		ack := *t.Ack
		ack.By = clean(ack.By, nameLimit)
		t.Ack = &ack
	}
	return t
}

func cleanAll(list []string) []string {
	if len(list) > listLimit {
		list = append(slices.Clone(list[:listLimit]), fmt.Sprintf("and %d more", len(list)-listLimit))
	}
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = clean(s, nameLimit)
	}
	return out
}

// clean returns s as one line of at most limit characters. What could steer a terminal, start another header or hide text is written as an escape:
// control characters, changes of writing direction, invisible characters, and bytes that are not UTF-8.
func clean(s string, limit int) string {
	if cut := utf8.UTFMax * limit; len(s) > cut+utf8.UTFMax { // what is far too long is not looked at to its end
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut] + "..."
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }) {
		lines := strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' })
		for i := range lines {
			lines[i] = strings.TrimSpace(lines[i])
		}
		s = strings.Join(slices.DeleteFunc(lines, func(l string) bool { return l == "" }), "; ")
	}
	return clip(escape(strings.TrimSpace(s), limit), limit)
}

// escape writes escapes. What comes after limit characters may be left out.
func escape(s string, limit int) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }) {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		if b.Len() > utf8.UTFMax*limit {
			break
		}
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD"):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r == '\t', unicode.Is(unicode.Zs, r):
			b.WriteByte(' ')
		case r < 0x80:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r > 0xFFFF:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// clip cuts s to limit characters.
func clip(s string, limit int) string {
	if len(s) <= limit || utf8.RuneCountInString(s) <= limit {
		return s
	}
	return string([]rune(s)[:max(0, limit-3)]) + "..."
}

// hide returns text, or a word on why it is not shown: it repeats a secret.
func hide(text string, secrets []string) string {
	for _, secret := range secrets {
		if secret != "" && strings.Contains(text, secret) {
			return "(its answer repeats a password or an address, and is not shown)"
		}
	}
	return text
}

// addressSecrets are the parts of an address by which somebody could use it. Short words are in every text.
func addressSecrets(u *url.URL) []string {
	const short = 6
	var out []string
	add := func(word string) {
		if len(word) >= short {
			out = append(out, word)
		}
	}
	for _, path := range []string{u.Path, u.EscapedPath()} {
		for word := range strings.SplitSeq(path, "/") {
			add(word)
		}
	}
	add(u.RawQuery)
	for _, values := range u.Query() {
		for _, value := range values {
			add(value)
			add(url.QueryEscape(value))
		}
	}
	return out
}
