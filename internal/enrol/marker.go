package enrol

import (
	"iter"
	"strings"
)

// marker is a line such as -----BEGIN CERTIFICATE-----, whatever a mail program has
// made of it: other dashes, more or fewer of them, and white space anywhere between.
type marker struct {
	from, to int // in the text, dashes included
	end      bool
	label    string
}

// maxLabel is the length of the longest label; those in use have up to 23 bytes.
const maxLabel = 61

// markers finds the BEGIN and END lines of a text. It passes over it once, whatever
// is in it: a text may be nothing but beginnings of such lines.
func markers(text string) iter.Seq[marker] {
	return func(yield func(marker) bool) {
		begin, end := word{text: text, word: "BEGIN"}, word{text: text, word: "END"}
		begin.next()
		end.next()
		floor := 0
		for begin.at >= 0 || end.at >= 0 {
			w := &begin
			if begin.at < 0 || end.at >= 0 && end.at < begin.at {
				w = &end
			}
			if m, ok := markerAt(text, w.at, len(w.word), floor); ok {
				m.end = w == &end
				if !m.end { // dashes that end a BEGIN line begin no other
					floor = m.to
				}
				if !yield(m) {
					return
				}
			}
			w.next()
		}
	}
}

// word goes from one occurrence of a word to the next.
type word struct {
	text, word string
	at         int // of the word; -1 behind the last
	behind     int
}

func (w *word) next() {
	i := strings.Index(w.text[w.behind:], w.word)
	if i < 0 {
		w.at = -1
		return
	}
	w.at = w.behind + i
	w.behind = w.at + len(w.word)
}

// markerAt reads the line around a word that stands at an offset. What is before
// floor does not count.
func markerAt(text string, at, length, floor int) (m marker, ok bool) {
	if at < floor {
		return marker{}, false
	}
	before := strings.TrimRight(text[floor:at], space)
	dashes := strings.TrimRightFunc(before, isDash)
	if len(dashes) == len(before) {
		return marker{}, false
	}
	rest := text[at+length:]
	label := strings.TrimLeft(rest, space)
	if len(label) == len(rest) {
		return marker{}, false
	}
	n := labelLength(label)
	if n == 0 {
		return marker{}, false
	}
	behind := strings.TrimLeft(label[n:], space)
	tail := strings.TrimLeftFunc(behind, isDash)
	if len(tail) == len(behind) {
		return marker{}, false
	}
	return marker{from: floor + len(dashes), to: len(text) - len(tail), label: strings.Join(strings.Fields(label[:n]), " ")}, true
}

// space is the white space that may stand in such a line.
const space = " \t\n\f\r"

// isDash takes what some programs make of several short dashes as well.
func isDash(r rune) bool { return r == '-' || r >= 0x2010 && r <= 0x2015 || r == 0x2212 }

// labelLength returns the length of the label that a text begins with, without
// white space behind it; 0 if there is none, or too long a one.
func labelLength(text string) int {
	n := 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c >= 'A' && c <= 'Z', c >= '0' && c <= '9', i > 0 && (c == '#' || c == '.'):
			if n = i + 1; n > maxLabel {
				return 0
			}
		case i > 0 && strings.IndexByte(space, c) >= 0:
		default:
			return n
		}
	}
	return n
}
