package alert

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/spinecert/spinecert/internal/condition"
)

var begin = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func wrong(code condition.Code, kind condition.Kind, subject string, s condition.Severity) condition.Condition {
	c := condition.Condition{Code: code, Kind: kind, Subject: subject, Severity: s, Since: begin, Message: "it is wrong"}
	if kind == condition.Slot {
		c.Slot = subject
	}
	c.Complete("")
	return c
}

func failing(subject string, s condition.Severity) condition.Condition {
	return wrong(condition.RotationRefused, condition.Slot, subject, s)
}

// told empties the queue of a sink, and returns what was in it.
func told(b *Book, sink string, now time.Time) []string {
	var out []string
	for _, m := range b.take(sink, "gateway1", now) {
		for _, n := range m.Notices {
			line := string(n.Event) + " " + n.Condition.ID + " " + string(n.Condition.Severity)
			if n.Late {
				line += " late"
			}
			out = append(out, line)
		}
		b.done(sink, m)
	}
	return out
}

func check(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmp.Transformer("none", func(s []string) []string { return append([]string{}, s...) })); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

var everybody = Rules{RepeatWarning: 7 * day, RepeatCritical: day, Sinks: []Rule{{Name: "ops", Min: condition.Warning}, {Name: "pager", Min: condition.Critical}}}

const day = 24 * time.Hour

// TestMin: a sink that wants what is critical alone hears of it when it is, as of something
// new, and of its end only then.
func TestMin(t *testing.T) {
	b := NewBook(begin, nil)
	w, c := failing("pcs", condition.Warning), failing("pcs", condition.Critical)
	b.Update(begin, everybody, []condition.Condition{w}, false)
	check(t, "pager, a warning", told(b, "pager", begin))
	check(t, "ops, a warning", told(b, "ops", begin), "opened rotation_refused/slot/pcs warning")
	b.Update(begin.Add(time.Hour), everybody, []condition.Condition{c}, false)
	check(t, "pager, critical", told(b, "pager", begin), "opened rotation_refused/slot/pcs critical")
	check(t, "ops, critical", told(b, "ops", begin), "escalated rotation_refused/slot/pcs critical")
	b.Update(begin.Add(2*time.Hour), everybody, nil, false)
	check(t, "too early", told(b, "ops", begin))
	b.Update(begin.Add(3*time.Hour), everybody, nil, false)
	check(t, "pager, over", told(b, "pager", begin), "resolved rotation_refused/slot/pcs critical")
	check(t, "ops, over", told(b, "ops", begin), "resolved rotation_refused/slot/pcs critical")

	b.Update(begin.Add(4*time.Hour), everybody, []condition.Condition{w}, false)
	b.Update(begin.Add(5*time.Hour), everybody, nil, false)
	b.Update(begin.Add(6*time.Hour), everybody, nil, false)
	check(t, "pager, a warning that is over", told(b, "pager", begin))
}

// TestFlapping: what comes and goes is told once, and so is a severity that goes up and down.
func TestFlapping(t *testing.T) {
	b := NewBook(begin, nil)
	now, all := begin, []string{}
	for i := range 100 {
		now = now.Add(20 * time.Second)
		var cs []condition.Condition
		if i%2 == 0 {
			cs = []condition.Condition{failing("pcs", []condition.Severity{condition.Warning, condition.Critical}[i/2%2])}
		}
		b.Update(now, everybody, cs, false)
		all = append(all, told(b, "ops", now)...)
	}
	check(t, "33 minutes", all, "opened rotation_refused/slot/pcs warning", "escalated rotation_refused/slot/pcs critical")
}

// TestMerge: a sink that was down is told each alert once, as it is by then.
func TestMerge(t *testing.T) {
	w, c := failing("pcs", condition.Warning), failing("pcs", condition.Critical)
	at := func(h int) time.Time { return begin.Add(time.Duration(h) * time.Hour) }
	for name, tt := range map[string]struct {
		before, while func(*Book)
		want          []string
	}{
		"opened and grown worse": {nil, func(b *Book) {
			b.Update(at(1), everybody, []condition.Condition{w}, false)
			b.Update(at(2), everybody, []condition.Condition{c}, false)
			b.Update(at(50), everybody, []condition.Condition{c}, false)
		}, []string{"opened rotation_refused/slot/pcs critical"}},
		"opened and over": {nil, func(b *Book) {
			b.Update(at(1), everybody, []condition.Condition{w}, false)
			b.Update(at(2), everybody, nil, false)
			b.Update(at(3), everybody, nil, false)
		}, []string{"resolved rotation_refused/slot/pcs warning late"}},
		"over, and there again": {
			func(b *Book) { b.Update(at(1), everybody, []condition.Condition{w}, false) },
			func(b *Book) {
				b.Update(at(2), everybody, nil, false)
				b.Update(at(3), everybody, nil, false)
				b.Update(at(4), everybody, []condition.Condition{w}, false)
			}, []string{"opened rotation_refused/slot/pcs warning"},
		},
		"grown worse and repeated": {
			func(b *Book) { b.Update(at(1), everybody, []condition.Condition{w}, false) },
			func(b *Book) {
				b.Update(at(2), everybody, []condition.Condition{c}, false)
				b.Update(at(30), everybody, []condition.Condition{c}, false)
			}, []string{"escalated rotation_refused/slot/pcs critical"},
		},
		"repeated twice": {
			func(b *Book) { b.Update(at(1), everybody, []condition.Condition{c}, false) },
			func(b *Book) {
				b.Update(at(30), everybody, []condition.Condition{c}, false)
				b.Update(at(60), everybody, []condition.Condition{c}, false)
			}, []string{"repeated rotation_refused/slot/pcs critical"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := NewBook(begin, nil)
			if tt.before != nil {
				tt.before(b)
				told(b, "ops", at(1))
			}
			tt.while(b)
			// It is down over a restart as well.
			file := filepath.Join(t.TempDir(), FileName)
			if err := b.Save(file); err != nil {
				t.Fatal(err)
			}
			next := NewBook(at(60), nil)
			if err := next.Load(file); err != nil {
				t.Fatal(err)
			}
			check(t, "after it was down", told(next, "ops", at(61)), tt.want...)
			check(t, "and once only", told(next, "ops", at(61)))
		})
	}
}

// TestSameMessage: what is sent again because it is not known whether it arrived has the
// same ID, also after a restart; what has changed since has another.
func TestSameMessage(t *testing.T) {
	b := NewBook(begin, nil)
	b.Update(begin, everybody, []condition.Condition{failing("a", condition.Warning)}, false)
	first := b.take("ops", "gateway1", begin)[0]
	file := filepath.Join(t.TempDir(), FileName)
	if err := b.Save(file); err != nil {
		t.Fatal(err)
	}
	next := NewBook(begin, nil)
	if err := next.Load(file); err != nil {
		t.Fatal(err)
	}
	if again := next.take("ops", "gateway1", begin.Add(time.Hour))[0]; again.ID != first.ID {
		t.Errorf("the ID was %s, and is %s after a restart", first.ID, again.ID)
	}
	next.Update(begin.Add(time.Hour), everybody, []condition.Condition{failing("a", condition.Critical)}, false)
	next.done("ops", first) // which says less than has happened
	if now := next.take("ops", "gateway1", begin.Add(time.Hour)); len(now) != 1 || now[0].ID == first.ID {
		t.Errorf("what happened meanwhile is lost, or has the ID of what was sent: %v", now)
	}
}

// TestGroups: what concerns one slot is one message, and very many groups are one digest.
func TestGroups(t *testing.T) {
	b := NewBook(begin, nil)
	cs := []condition.Condition{
		failing("pcs", condition.Warning), wrong(condition.Expiring, condition.Slot, "pcs", condition.Critical), failing("other", condition.Warning),
		wrong(condition.CRLStale, condition.Environment, "live", condition.Warning), wrong(condition.ClockSuspect, condition.Host, condition.Clock, condition.Critical),
	}
	tunnel := wrong(condition.TunnelDown, condition.Tunnel, "ssp-in", condition.Critical)
	tunnel.Slot = "pcs"
	b.Update(begin, everybody, append(cs, tunnel), false)
	var got []string
	for _, m := range b.take("ops", "gateway1", begin) {
		got = append(got, fmt.Sprintf("%s: %d critical, %d warning", m.Group, m.Critical, m.Warning))
	}
	check(t, "messages", got, "host: 1 critical, 0 warning", "slot pcs: 2 critical, 1 warning", "environment live: 0 critical, 1 warning", "slot other: 0 critical, 1 warning")

	b = NewBook(begin, nil)
	cs = nil
	for i := range 10_000 {
		s := condition.Warning
		if i == 9_000 {
			s = condition.Critical
		}
		cs = append(cs, failing(fmt.Sprintf("slot-%d", i), s))
	}
	b.Update(begin, everybody, cs, false)
	ms := b.take("ops", "gateway1", begin)
	if len(ms) != 1 || ms[0].Total != 10_000 || ms[0].Groups != 10_000 || len(ms[0].Notices) != MaxNotices || ms[0].Notices[0].Condition.Subject != "slot-9000" {
		t.Fatalf("%d messages, the first of %d notices", len(ms), len(ms[0].Notices))
	}
	b.done("ops", ms[0])
	if n := b.Pending("ops"); n != 0 {
		t.Errorf("%d are still to be told", n)
	}
}

// TestBound: what is over and waits for a sink that never works is bounded.
func TestBound(t *testing.T) {
	lost := 0
	b := NewBook(begin, func(_ string, n int) { lost += n })
	b.bound = 100
	rules := Rules{Sinks: []Rule{{Name: "ops", Min: condition.Warning}}}
	now := begin
	for i := range 150 {
		b.Update(now, rules, []condition.Condition{failing(fmt.Sprintf("slot-%d", i), condition.Warning)}, false)
		now = now.Add(time.Hour)
	}
	for range 2 {
		now = now.Add(time.Hour)
		b.Update(now, rules, nil, false)
	}
	if n := b.Pending("ops"); n > 100 || n < 90 || n+lost != 150 {
		t.Errorf("%d wait and %d were given up, of 150 with a bound of 100", n, lost)
	}
	for _, m := range b.take("ops", "gateway1", now) {
		for _, n := range m.Notices {
			if n.Condition.Subject == "slot-0" {
				t.Error("the oldest was not given up first")
			}
		}
		b.done("ops", m)
	}
	if b.queues["ops"].over != 0 {
		t.Errorf("%d are counted that are not there", b.queues["ops"].over)
	}
}

// TestSinks: one that is new is told what is wrong already; one that is gone is forgotten.
func TestSinks(t *testing.T) {
	b := NewBook(begin, nil)
	cs := []condition.Condition{failing("pcs", condition.Warning)}
	one := Rules{Sinks: []Rule{{Name: "ops", Min: condition.Warning}}}
	b.Update(begin, one, cs, false)
	told(b, "ops", begin)
	two := Rules{Sinks: []Rule{{Name: "ops", Min: condition.Warning}, {Name: "new", Min: condition.Warning}}}
	b.Update(begin.Add(time.Hour), two, cs, false)
	check(t, "new", told(b, "new", begin), "opened rotation_refused/slot/pcs warning")
	check(t, "ops", told(b, "ops", begin))
	b.Update(begin.Add(2*time.Hour), Rules{Sinks: two.Sinks[1:]}, cs, false)
	b.Update(begin.Add(3*time.Hour), two, cs, false)
	check(t, "ops, back again", told(b, "ops", begin), "opened rotation_refused/slot/pcs warning")
}

// TestBadFiles: what cannot be understood is set aside, and is not lost.
func TestBadFiles(t *testing.T) {
	good := NewBook(begin, nil)
	good.Update(begin, everybody, []condition.Condition{failing("pcs", condition.Warning)}, false)
	data, err := good.marshal()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"empty": "", "torn": string(data[:len(data)/2]), "another schema": strings.Replace(string(data), `"schema":1`, `"schema":2`, 1),
		"null alert": `{"schema":1,"alerts":[null]}`, "alert without ID": `{"schema":1,"alerts":[{}]}`, "list": "[]",
		"notice of another": `{"schema":1,"queues":{"ops":{"pending":{"a":{"condition":{"id":"b"}}}}}}`, "null notice": `{"schema":1,"queues":{"ops":{"pending":{"a":null}}}}`,
	} {
		file := filepath.Join(t.TempDir(), FileName)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		b := NewBook(begin, nil)
		err := b.Load(file)
		if err == nil || !strings.Contains(err.Error(), file+".bad") {
			t.Errorf("%s: %v", name, err)
		}
		if kept, err := os.ReadFile(file + ".bad"); err != nil || string(kept) != text {
			t.Errorf("%s: was not set aside: %v", name, err)
		}
		b.Update(begin, everybody, []condition.Condition{failing("pcs", condition.Warning)}, false)
		check(t, name, told(b, "ops", begin), "opened rotation_refused/slot/pcs warning")
	}
	for name, text := range map[string]string{"no queues": `{"schema":1}`, "null queue": `{"schema":1,"queues":{"ops":null}}`} {
		file := filepath.Join(t.TempDir(), FileName)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		b := NewBook(begin, nil)
		if err := b.Load(file); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		b.Update(begin, everybody, []condition.Condition{failing("pcs", condition.Warning)}, false)
		check(t, name, told(b, "ops", begin), "opened rotation_refused/slot/pcs warning")
	}
}

// TestCarried: what the process before knew is not over because this one has not looked yet.
func TestCarried(t *testing.T) {
	b := NewBook(begin, nil)
	b.Update(begin, everybody, []condition.Condition{failing("pcs", condition.Warning), wrong(condition.Expiring, condition.Slot, "pcs", condition.Warning)}, false)
	told(b, "ops", begin)
	file := filepath.Join(t.TempDir(), FileName)
	if err := b.Save(file); err != nil {
		t.Fatal(err)
	}
	start := begin.Add(time.Hour)
	next := NewBook(start, nil)
	if err := next.Load(file); err != nil {
		t.Fatal(err)
	}
	next.Update(start.Add(15*time.Second), everybody, nil, false)
	next.Update(start.Add(90*time.Second), everybody, nil, false)
	check(t, "just started", told(next, "ops", start))
	next.Update(start.Add(startCalm+time.Second), everybody, nil, false)
	got := told(next, "ops", start)
	slices.Sort(got)
	check(t, "later", got, "resolved expiring/slot/pcs warning", "resolved rotation_refused/slot/pcs warning")
}

// TestSuspectClock: nothing dated changes, and nothing is repeated; what is no matter of
// dates is told. A clock that goes back swallows nothing.
func TestSuspectClock(t *testing.T) {
	b := NewBook(begin, nil)
	dated, other := wrong(condition.Expiring, condition.Slot, "pcs", condition.Warning), failing("other", condition.Warning)
	b.Update(begin, everybody, []condition.Condition{dated}, false)
	told(b, "ops", begin)
	future := begin.AddDate(10, 0, 0)
	expired := wrong(condition.Expired, condition.Slot, "pcs", condition.Critical)
	more := wrong(condition.Expired, condition.Slot, "more", condition.Critical)
	b.Update(future, everybody, []condition.Condition{expired, more, other}, true)
	check(t, "ten years ahead", told(b, "ops", future), "opened rotation_refused/slot/other warning")
	b.Update(future.Add(time.Hour), everybody, []condition.Condition{other}, true)
	b.Update(future.Add(2*time.Hour), everybody, []condition.Condition{other}, true)
	check(t, "dates look past", told(b, "ops", future))
	back := begin.Add(time.Hour)
	b.Update(back, everybody, []condition.Condition{dated, other}, false)
	check(t, "back", told(b, "ops", back))
	b.Update(back.Add(7*day), everybody, []condition.Condition{dated, other}, false)
	got := told(b, "ops", back)
	slices.Sort(got)
	check(t, "a week later", got, "repeated expiring/slot/pcs warning", "repeated rotation_refused/slot/other warning")
}

// TestSuspectSteps: what waits for a date is not told by a clock that jumped, whatever its
// code; that it is over is told.
func TestSuspectSteps(t *testing.T) {
	b := NewBook(begin, nil)
	c := wrong(condition.RequestPending, condition.Slot, "pcs", condition.Warning)
	c.Steps = []time.Time{begin.Add(14 * day), begin.Add(28 * day)}
	b.Update(begin, everybody, []condition.Condition{c}, false)
	jumped := c
	jumped.Severity = condition.Critical // as the certificate in force seems to have ended
	other := jumped
	other.Subject, other.Slot, other.ID = "other", "other", "request_pending/slot/other"
	future := begin.AddDate(10, 0, 0)
	b.Update(future, everybody, []condition.Condition{jumped, other}, true)
	check(t, "ten years ahead", told(b, "ops", future))
	b.Update(begin.Add(15*day), everybody, []condition.Condition{c}, false)
	check(t, "back", told(b, "ops", begin), "opened request_pending/slot/pcs warning")
	b.Update(future, everybody, []condition.Condition{jumped}, true)
	b.Update(future, everybody, nil, true)
	b.Update(future.Add(calm), everybody, nil, true)
	check(t, "answered while the clock is suspect", told(b, "ops", future), "resolved request_pending/slot/pcs warning")
}

// TestPipe: what is no file keeps nobody waiting.
func TestPipe(t *testing.T) {
	file := filepath.Join(t.TempDir(), FileName)
	if err := syscall.Mkfifo(file, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := NewBook(begin, nil).Load(file); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Error(err)
	}
}
