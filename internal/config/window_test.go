package config

import (
	"testing"
	"time"
	_ "time/tzdata" // hosts without it still know London
)

func window(t *testing.T, text string) Window {
	t.Helper()
	r := &reading{wrong: map[string]bool{}, broken: map[string]bool{}}
	w := r.window(textOf(text))
	if w == nil || len(r.problems) > 0 {
		t.Fatalf("window %q: %v, %v", text, w, r.problems)
	}
	if w.String() != text {
		t.Errorf("String of %s is %s", text, w)
	}
	return *w
}

func textOf(s string) text { return text{scalar{text: s, set: true}} }

// In London clocks go forward on 29 March 2026, from 01:00 GMT to 02:00 BST, and back on 25 October, from 02:00 BST to
// 01:00 GMT.
func TestWindowNext(t *testing.T) {
	for _, tc := range []struct{ name, window, at, want string }{
		{"inside", "09:00-17:00", "2026-01-15T12:34:56Z", "2026-01-15T12:34:56Z"},
		{"begins now", "09:00-17:00", "2026-01-15T09:00:00Z", "2026-01-15T09:00:00Z"},
		{"before", "09:00-17:00", "2026-01-15T08:59:59Z", "2026-01-15T09:00:00Z"},
		{"ends now", "09:00-17:00", "2026-01-15T17:00:00Z", "2026-01-16T09:00:00Z"},
		{"part of a second", "09:00-17:00", "2026-01-15T08:59:59.75Z", "2026-01-15T09:00:00Z"},
		{"summer is local", "09:00-17:00", "2026-07-15T07:30:00Z", "2026-07-15T08:00:00Z"},
		{"midnight, before it", "22:00-04:00", "2026-01-15T23:00:00Z", "2026-01-15T23:00:00Z"},
		{"midnight, after it", "22:00-04:00", "2026-01-16T03:59:59Z", "2026-01-16T03:59:59Z"},
		{"midnight, over", "22:00-04:00", "2026-01-16T04:00:00Z", "2026-01-16T22:00:00Z"},
		{"midnight, the year", "23:30-00:30", "2026-12-31T23:29:00Z", "2026-12-31T23:30:00Z"},
		{"from midnight", "00:00-04:00", "2026-01-15T23:00:00Z", "2026-01-16T00:00:00Z"},
		{"to midnight", "22:00-00:00", "2026-01-16T00:00:00Z", "2026-01-16T22:00:00Z"},

		{"forward: over the hour that is not there", "22:00-04:00", "2026-03-29T00:30:00Z", "2026-03-29T00:30:00Z"},
		{"forward: ends an hour earlier", "22:00-04:00", "2026-03-29T03:00:00Z", "2026-03-29T21:00:00Z"},
		{"forward: begins an hour earlier", "03:00-04:00", "2026-03-29T00:30:00Z", "2026-03-29T02:00:00Z"},
		{"forward: begins in the hour that is not there", "01:30-04:00", "2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z"},
		{"forward: is not there at all", "01:15-01:45", "2026-03-29T00:30:00Z", "2026-03-30T00:15:00Z"},
		{"forward: ends with the hour", "00:15-02:00", "2026-03-29T01:00:00Z", "2026-03-29T23:15:00Z"},

		{"back: the first of two hours", "01:15-01:45", "2026-10-25T00:00:00Z", "2026-10-25T00:15:00Z"},
		{"back: the second of two hours", "01:15-01:45", "2026-10-25T00:45:00Z", "2026-10-25T01:15:00Z"},
		{"back: over both", "01:15-01:45", "2026-10-25T01:45:00Z", "2026-10-26T01:15:00Z"},
		{"back: reopens with the change", "00:30-01:30", "2026-10-25T00:45:00Z", "2026-10-25T01:00:00Z"},
		{"back: begins an hour later", "03:00-04:00", "2026-10-25T00:30:00Z", "2026-10-25T03:00:00Z"},
		{"back: begins at the change", "02:00-03:00", "2026-10-25T00:30:00Z", "2026-10-25T02:00:00Z"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w, at := window(t, tc.window), inLondon(t, tc.at)
			got := w.Next(at)
			if !got.Equal(inLondon(t, tc.want)) {
				t.Errorf("Next of %s after %v is %v, want %v", w, at, got, inLondon(t, tc.want))
			}
			if got.Location() != at.Location() {
				t.Errorf("it is in %v", got.Location())
			}
		})
	}
}

// TestWindowByTheMinute: Next is the first minute that Contains, as the clock on the wall says it, on every day on which
// something is odd.
func TestWindowByTheMinute(t *testing.T) {
	for _, text := range []string{"22:00-04:00", "01:00-02:00", "01:15-01:45", "00:30-01:30", "01:30-00:30", "02:00-02:30", "00:00-23:59", "23:59-00:00"} {
		w := window(t, text)
		for _, from := range []string{"2026-01-14T00:00:00Z", "2026-03-28T00:00:00Z", "2026-10-24T00:00:00Z", "2026-12-31T00:00:00Z"} {
			at := inLondon(t, from)
			var next time.Time // of all minutes since the last one that was open
			for i := range 4 * 24 * 60 {
				now := at.Add(time.Duration(i) * time.Minute)
				clock := now.Format("15:04")
				open := text[:5] <= clock && clock < text[6:]
				if text[6:] < text[:5] {
					open = text[:5] <= clock || clock < text[6:]
				}
				if w.Contains(now) != open {
					t.Fatalf("%s contains %v: %t", w, now, !open)
				}
				switch {
				case open && !next.IsZero() && !next.Equal(now):
					t.Fatalf("%s opens at %v, and Next said %v", w, now, next)
				case open:
					next = time.Time{}
				case next.IsZero():
					next = w.Next(now)
				case !w.Next(now).Equal(next):
					t.Fatalf("%s: Next of %v is %v, and was %v", w, now, w.Next(now), next)
				}
			}
		}
	}
}

func inLondon(t *testing.T, text string) time.Time {
	t.Helper()
	london, err := time.LoadLocation("Europe/London")
	if err != nil {
		t.Fatal(err)
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return at.In(london)
}
