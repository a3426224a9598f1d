package alert

import (
	"cmp"
	"time"

	"github.com/spinecert/spinecert/pki"
)

// health is how a sink stands. It is kept with the alerts, so that a sink fails until
// something gets through, over reloads, restarts and upgrades.
type health struct {
	Failures int       `json:"failures"` // since all got through
	Since    time.Time `json:"since"`    // of the first of them
	Error    string    `json:"error"`    // of the last
	Hint     string    `json:"hint"`
	Sent     time.Time `json:"sent"` // when it last took something
	Down     int       `json:"down"` // attempts in a row in which it took nothing at all

	next time.Time // before which it is not tried, as it takes nothing
}

// result is what came of the messages of one turn.
type result struct {
	took bool  // one, or all
	way  error // for which none gets through; it ended the turn
	own  error // for which one did not get through that keeps no other back
}

// health returns how a sink stands.
func (b *Book) health(sink string) *health {
	h := b.healths[sink]
	if h == nil {
		h = &health{}
		b.healths[sink] = h
	}
	return h
}

// note takes in a turn of a sink. told says that its failing is nothing new, works that it
// works again; changed that it is to be written down.
func (b *Book) note(sink string, now time.Time, got result) (told, works, changed bool) {
	h := b.health(sink)
	if got.took {
		h.Sent, h.Down = now, 0
	}
	if got.way != nil {
		h.Down++
	}
	err := cmp.Or(got.way, got.own)
	if err == nil {
		n, _ := b.held(sink)
		if works = got.took && n == 0 && h.Failures > 0; works {
			*h = health{Sent: h.Sent}
		}
		return false, works, works
	}
	told = h.Failures > 0 && h.Error == err.Error()
	if h.Failures++; h.Failures == 1 {
		h.Since = now
	}
	h.Error, h.Hint = err.Error(), pki.Hint(err)
	return told, false, !told || h.Failures <= failingFrom
}
