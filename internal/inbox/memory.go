package inbox

import (
	"crypto/sha256"
	"time"
)

const (
	maxNotes = 4096 // files that something is remembered of
	maxStuck = 1000 // files that were judged and cannot be moved; with more, no others are judged
)

// id is a file, whatever it is called.
type id struct{ dev, ino uint64 }

type digest = [sha256.Size]byte

// note is what is remembered of a file that is still in the inbox.
type note struct {
	round   int       // in which it was seen last
	unkept  bool      // it is forgotten at once: there is no room
	since   time.Time // since when it changes or cannot be read; zero: it does not
	told    string    // the last thing that was told of it
	digest  digest    // of the content that was judged
	verdict *outcome  // nil: not judged, or Later
}

// memory holds the notes. It is bounded: beyond that a file is served all the
// same, but what lasts is not told of it, and has no end.
type memory map[id]*note

// of returns the note on a file, which need not be kept.
func (m memory) of(file id, round int) *note {
	n := m[file]
	if n == nil {
		n = &note{unkept: len(m) >= maxNotes}
		if !n.unkept {
			m[file] = n
		}
	}
	n.round = round
	return n
}

// stuck counts the verdicts that wait to be carried out.
func (m memory) stuck() int {
	stuck := 0
	for _, n := range m {
		if n.verdict != nil {
			stuck++
		}
	}
	return stuck
}

// forget drops what was not seen in the last two rounds.
func (m memory) forget(round int) {
	for file, n := range m {
		if n.round < round-1 {
			delete(m, file)
		}
	}
}
