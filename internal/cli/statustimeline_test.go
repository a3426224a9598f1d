package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/spinecert/spinecert/internal/admin"
)

func at(year, month, date int) admin.Time {
	return admin.Time{Time: day(year, month, date)}
}

// servedFrom is one that was served from a day on, and lasts three years.
func servedFrom(number uint64, state string, from admin.Time) admin.Generation {
	return admin.Generation{Number: number, State: state, Origin: "import", From: from, NotBefore: from, NotAfter: admin.Time{Time: from.AddDate(3, 0, 0)}}
}

// timelineSlots have every kind of generation, seen from 2026-11-22.
func timelineSlots() []admin.Slot {
	first, second := servedFrom(1, admin.GenerationPast, at(2023, 6, 1)), servedFrom(2, admin.GenerationPast, at(2025, 3, 1))
	first.To, second.To = second.From, at(2026, 2, 1)
	third := servedFrom(3, admin.GenerationPresent, at(2026, 2, 1))
	next := admin.Generation{State: admin.GenerationComing, Asked: at(2028, 10, 4), Note: "the next request, which is made by itself"}
	old := servedFrom(1, admin.GenerationPresent, at(2024, 1, 10))
	waiting := admin.Generation{State: admin.GenerationComing, Asked: at(2026, 9, 20), Request: "0123456789abcdef"}
	answer := admin.Generation{State: admin.GenerationComing, Asked: at(2026, 10, 1), Request: "fedcba9876543210", NotBefore: at(2026, 12, 24), NotAfter: at(2029, 12, 24)}
	untrusted := answer
	untrusted.NotBefore, untrusted.NotAfter = at(2026, 11, 1), at(2029, 11, 1)
	ended := servedFrom(7, admin.GenerationPresent, at(2023, 11, 1))
	justNow := waiting
	justNow.Asked = at(2026, 11, 22)
	unknown := servedFrom(2, admin.GenerationPast, at(2024, 5, 1)) // nobody knows when it went
	return []admin.Slot{
		{Name: "pcs", NotAfter: third.NotAfter, Timeline: []admin.Generation{first, second, third, next}},
		{Name: "mesh", NotAfter: old.NotAfter, Timeline: []admin.Generation{old, waiting}},
		{Name: "sds-with-a-very-long-name", NotAfter: old.NotAfter, Timeline: []admin.Generation{old, answer}},
		{Name: "untrusted", NotAfter: old.NotAfter, Timeline: []admin.Generation{old, untrusted}},
		{Name: "ended", NotAfter: ended.NotAfter, Timeline: []admin.Generation{ended}},
		{Name: "nothing", Timeline: []admin.Generation{unknown, justNow}},
		{Name: "red\x1b[31m\u202e", NotAfter: third.NotAfter, Timeline: []admin.Generation{third}},
	}
}

func timelineText(v view, slots ...admin.Slot) string {
	p := &page{}
	r := &statusResult{Status: admin.Status{Slots: slots}, now: day(2026, 11, 22), view: v}
	r.showTimeline(p)
	return p.buffer.String()
}

// TestTimelineDrawing holds what is drawn against files that were looked at.
func TestTimelineDrawing(t *testing.T) {
	for _, v := range []view{{80, false}, {40, false}, {80, true}, {120, false}} {
		name := fmt.Sprintf("timeline-%d.txt", v.width)
		if v.unicode {
			name = fmt.Sprintf("timeline-%d-utf8.txt", v.width)
		}
		golden(t, name, timelineText(v, timelineSlots()...))
	}
}

// TestTimelineWidth: no line is wider than the terminal, whatever is drawn, and
// without UTF-8 there is nothing but ASCII.
func TestTimelineWidth(t *testing.T) {
	for width := minWidth; width <= maxWidth; width++ {
		for _, unicode := range []bool{false, true} {
			out := timelineText(view{width, unicode}, timelineSlots()...)
			for line := range strings.Lines(out) {
				if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > width {
					t.Fatalf("width %d: a line of %d:\n%s", width, n, out)
				}
				if !unicode && len(line) != utf8.RuneCountInString(line) {
					t.Fatalf("no ASCII: %q", line)
				}
			}
		}
	}
}

// TestTimelineBounds: dates that are far off, reversed or missing draw something, and
// end nothing.
func TestTimelineBounds(t *testing.T) {
	now := day(2026, 11, 22)
	for what, g := range map[string]admin.Generation{
		"all of time":     {State: admin.GenerationPresent, From: at(1, 1, 2), NotAfter: at(9999, 12, 31)},
		"reversed":        {State: admin.GenerationPresent, From: at(2028, 1, 1), NotAfter: at(2027, 1, 1)},
		"no dates":        {State: admin.GenerationPresent},
		"unknown state":   {State: "other", From: at(2026, 1, 1), NotAfter: at(2027, 1, 1)},
		"far in future":   {State: admin.GenerationComing, NotBefore: at(2090, 1, 1), NotAfter: at(2091, 1, 1)},
		"long past":       {State: admin.GenerationPast, From: at(1990, 1, 1), To: at(1991, 1, 1)},
		"the next is due": {State: admin.GenerationComing, Asked: at(2020, 1, 1)},
		"a moment":        {State: admin.GenerationPresent, From: admin.Time{Time: now}, NotAfter: admin.Time{Time: now.Add(time.Second)}},
	} {
		for _, width := range []int{40, 80, 200} {
			out := timelineText(view{width: width}, admin.Slot{Name: "pcs", Timeline: []admin.Generation{g}})
			if lines := strings.Split(out, "\n"); len(lines) != 4 || !strings.Contains(lines[1], "|") || !strings.HasPrefix(lines[1], "pcs") {
				t.Errorf("%s at %d:\n%s", what, width, out)
			}
		}
	}
}

// TestTimelineOfMany: those that end first are drawn, and it is said how many are not.
func TestTimelineOfMany(t *testing.T) {
	var slots []admin.Slot
	for i := range 120 {
		g := servedFrom(1, admin.GenerationPresent, at(2026, 11, 20-i))
		slots = append(slots, admin.Slot{Name: fmt.Sprintf("slot-%03d", i), NotAfter: g.NotAfter, Timeline: []admin.Generation{g}})
	}
	slots = append(slots, admin.Slot{Name: "empty", Timeline: []admin.Generation{{State: admin.GenerationComing, Asked: at(2026, 1, 1), Request: "0123456789abcdef"}}})
	out := timelineText(view{width: 80}, slots...)
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	if len(lines) != 1+maxRows+2 || !strings.HasPrefix(lines[1], "slot-119") || !strings.HasPrefix(lines[maxRows], "slot-070") || lines[len(lines)-1] != "71 slots more that end later: the table above has all" {
		t.Errorf("drawn:\n%s", out)
	}
	if slots[0].Name != "slot-000" {
		t.Error("the slots were sorted, and not a copy")
	}
}

// TestTimelineOfOlderDaemon: one that does not know the question answers without, and
// nothing is drawn.
func TestTimelineOfOlderDaemon(t *testing.T) {
	if out := timelineText(view{width: 80}, admin.Slot{Name: "pcs", NotAfter: at(2027, 1, 1)}); out != "" {
		t.Errorf("drawn:\n%s", out)
	}
	status := admin.Status{Slots: []admin.Slot{{Name: "pcs", State: "ready"}}}
	b := admin.Backend{Writers: func() []int { return nil }, Status: func(context.Context) admin.Status { return status }}
	for _, known := range []bool{false, true} {
		if known {
			b.Timeline = func(context.Context) admin.Status {
				return admin.Status{Slots: []admin.Slot{{Name: "pcs", State: "ready", Timeline: timelineSlots()[0].Timeline}}}
			}
		}
		socket := serveSocket(t, admin.NewServer(b))
		exit, out, errs := run(t, "status", "--socket", socket)
		if exit != exitDone || strings.Contains(out, "TIMELINE") != known {
			t.Errorf("known %v: exit status %d, %s%s", known, exit, out, errs)
		}
		_, out, _ = run(t, "status", "--socket", socket, "--output", "json")
		var line struct{ Result admin.Status }
		if err := json.Unmarshal([]byte(out), &line); err != nil || (len(line.Result.Slots[0].Timeline) == 4) != known {
			t.Errorf("known %v: %v, %s", known, err, out)
		}
	}
}

// TestView: what the environment and the terminal say.
func TestView(t *testing.T) {
	for _, tt := range []struct {
		columns, all, ctype, lang string
		want                      view
	}{
		{"", "", "", "", view{80, false}},
		{"", "", "", "en_GB.UTF-8", view{80, true}},
		{"", "C", "C.UTF-8", "C.UTF-8", view{80, false}},
		{"", "", "C.utf8", "C", view{80, true}},
		{"132", "", "", "", view{132, false}},
		{"7", "", "", "", view{minWidth, false}},
		{"99999", "", "", "", view{maxWidth, false}},
		{"wide", "", "", "", view{80, false}},
		{"-5", "", "", "", view{80, false}},
	} {
		for name, value := range map[string]string{"COLUMNS": tt.columns, "LC_ALL": tt.all, "LC_CTYPE": tt.ctype, "LANG": tt.lang} {
			t.Setenv(name, value)
		}
		null, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer null.Close()
		if got := viewOf(&bytes.Buffer{}); got != tt.want {
			t.Errorf("%+v: %+v", tt, got)
		}
		if got := viewOf(null); got != tt.want {
			t.Errorf("%+v: %+v of a file that is no terminal", tt, got)
		}
	}
}

func TestHintWithCommand(t *testing.T) {
	for _, tt := range [][3]string{
		{"ask for it: spinecert csr new --slot pcs", "spinecert csr new --slot pcs", "ask for it: spinecert csr new --slot pcs"},
		{"ask for it", "spinecert csr new --slot pcs", "ask for it; then: spinecert csr new --slot pcs"},
		{"ask for it", "", "ask for it"},
		{"", "spinecert doctor", "spinecert doctor"},
	} {
		if got := withCommand(tt[0], tt[1]); got != tt[2] {
			t.Errorf("withCommand(%q, %q) = %q", tt[0], tt[1], got)
		}
	}
}
