package sink

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spinecert/spinecert/internal/alert"
	"github.com/spinecert/spinecert/internal/condition"
)

func TestTexts(t *testing.T) {
	test := told("test", alert.Notice{Event: alert.Test, At: at, Condition: condition.Condition{ID: "test/sink/ops", Code: "test", Kind: condition.Sink, Subject: "ops",
		Severity: condition.Warning, Message: "this is a test of the sink ops; nothing is wrong"}})
	clock := expiring("clock", time.Time{})
	clock.Event = alert.Opened
	clock.Condition = condition.Condition{Code: condition.ClockSuspect, Kind: condition.Host, Subject: condition.Clock, Severity: condition.Critical, Since: at, Message: "the clock of this host cannot be believed: it was put back by 2 hours", Hint: "have it synchronised"}
	clock.Condition.Complete("")
	seenTo := one().Notices[0]
	seenTo.Ack = &alert.Ack{By: "jane", UID: 1000, At: at, Until: at.Add(7 * 24 * time.Hour)}
	all := told("slot pcs", seenTo, pending("pcs"), stale())
	for name, m := range map[string]*alert.Message{"one.txt": one(), "group.txt": all, "resolved.txt": told("environment live", stale()), "digest.txt": many(60), "test.txt": test, "host.txt": told("host", clock)} {
		t.Run(name, func(t *testing.T) { golden(t, name, "Subject: "+subject(tidy(m))+"\n\n"+text(tidy(m), "0.1.0")) })
	}
}

func TestSubjects(t *testing.T) {
	end := func(d time.Duration) *alert.Message { return told("slot pcs", expiring("pcs", at.Add(d))) }
	ca := expiring("live", at.Add(300*24*time.Hour))
	ca.Condition.Code, ca.Condition.Kind, ca.Condition.Severity = condition.CAExpiring, condition.Environment, condition.Warning
	gone := many(30)
	gone.Critical, gone.Resolved = 0, 30
	for want, m := range map[string]*alert.Message{
		"[spinecert] CRITICAL pcs: certificate ends in 6 days (gateway1)":                   end(7*24*time.Hour - time.Second),
		"[spinecert] CRITICAL pcs: certificate ends in 47 hours (gateway1)":                 end(48*time.Hour - time.Second),
		"[spinecert] CRITICAL pcs: certificate ends in 1 minute (gateway1)":                 end(90 * time.Second),
		"[spinecert] CRITICAL pcs: certificate has ended (gateway1)":                        end(0),
		"[spinecert] WARNING live: CA ends in 300 days (gateway1)":                          told("environment live", ca),
		"[spinecert] RESOLVED live: revocation list is missing or stale (gateway1)":         told("environment live", stale()),
		"[spinecert] WARNING pcs: request waits for its certificate, and 1 more (gateway1)": told("slot pcs", pending("pcs"), stale()),
		"[spinecert] CRITICAL 60 alerts in 60 groups: 60 critical (gateway1)":               many(60),
		"[spinecert] RESOLVED 30 alerts in 30 groups (gateway1)":                            gone,
		"[spinecert] 1 warning (gateway1)":                                                  {Host: "gateway1", Group: "host", Warning: 1, Total: 1},
		"[spinecert] CRITICAL pcs: certificate ends in 6 days, and 1 more (gateway1)":       told("slot pcs", one().Notices[0], pending("pcs")),
	} {
		if got := subject(tidy(m)); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

// A message is of its gravest alert, and resolved only as a whole.
func TestEvents(t *testing.T) {
	for want, m := range map[alert.Event]*alert.Message{
		alert.Escalated: told("slot pcs", stale(), one().Notices[0], pending("pcs")),
		alert.Repeated:  told("slot pcs", pending("pcs"), one().Notices[0]),
		alert.Resolved:  told("slot pcs", stale(), stale()),
	} {
		if got := event(m); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// However long its parts are, a subject is short, and says the host.
func TestSubjectIsBounded(t *testing.T) {
	n := expiring(strings.Repeat("x", 5000), at)
	n.Condition.Code, n.Condition.Message = "unheard_of", strings.Repeat("m", 1<<20)
	m := told("slot pcs", n)
	m.Host = strings.Repeat("h", 5000)
	got := subject(tidy(m))
	if n := utf8.RuneCountInString(got); n > 250 || !strings.HasSuffix(got, "hhh...)") {
		t.Errorf("%d characters: %s", n, got)
	}
}

func TestNastyTexts(t *testing.T) {
	m := tidy(wicked())
	s := subject(m)
	harmless(t, "the subject", s)
	if strings.Contains(s, "\n") {
		t.Errorf("the subject has several lines: %q", s)
	}
	body := text(m, "0.1.0")
	harmless(t, "the text", body)
	for line := range strings.SplitSeq(body, "\n") {
		for _, r := range line {
			if !unicode.IsPrint(r) {
				t.Errorf("%U is in %q", r, line)
			}
		}
	}
	if !strings.Contains(body, `\u202e`) {
		t.Error("what was hidden is not shown as an escape")
	}
}

// The original is the caller's.
func TestTidyChangesACopy(t *testing.T) {
	m := wicked()
	for range 60 {
		m.Notices = append(m.Notices, m.Notices[0])
	}
	got := tidy(m)
	if len(got.Notices) != alert.MaxNotices || len(m.Notices) != 62 {
		t.Errorf("%d notices of %d", len(got.Notices), len(m.Notices))
	}
	if m.Notices[0].Condition.Message != nasty || m.Notices[0].Ack.By != nasty || m.Notices[0].Condition.Affects.ODS[0] != nasty || m.Host != nasty {
		t.Error("the original was changed")
	}
}

func TestClean(t *testing.T) {
	for _, c := range []struct {
		in, want string
		limit    int
	}{
		{"plain", "plain", 10},
		{"  a\tb \n\n c\r\n", "a b; c", 20},
		{"a\u00a0b", "a b", 10},
		{"\x1b[2J\x00\x7f", `\x1b[2J\x00\x7f`, 40},
		{"\u202eabc\u2066\ufeff\U000e0001", `\u202eabc\u2066\ufeff\U000e0001`, 60},
		{"a\xc3(\uFFFD", "a\\xc3(\uFFFD", 10},
		{"äöü", "äöü", 3},
		{"äöüß", "...", 3},
		{"abcdefgh", "ab...", 5},
		{"a\u2028b\u2029c", `a\u2028b\u2029c`, 40},
		{strings.Repeat("é", 1<<20), strings.Repeat("é", 7) + "...", 10},
		{"", "", 5},
	} {
		if got := clean(c.in, c.limit); got != c.want {
			t.Errorf("%.40q: got %q, want %q", c.in, got, c.want)
		}
	}
}

// The largest message that there can be.
func TestMessagesAreBounded(t *testing.T) {
	long := strings.Repeat("\u202e", 1<<12)
	n := expiring(long, at)
	c := &n.Condition
	c.Message, c.Hint, c.Command, c.Stops, c.ID, c.Runbook, c.Slot = long, long, long, long, long, long, long
	c.Affects.Note = long
	for range 50 {
		c.Affects.ODS, c.Affects.ASIDs = append(c.Affects.ODS, long), append(c.Affects.ASIDs, long)
	}
	m := told("slot pcs")
	for range 100 {
		m.Notices = append(m.Notices, n)
	}
	m = tidy(m)
	if n := len(text(m, "1")); n > 300<<10 {
		t.Errorf("the text has %d bytes", n)
	}
	data, err := documentOf(m, "1")
	if err != nil || len(data) > 2<<20 {
		t.Errorf("%d bytes, %v", len(data), err)
	}
	for name, body := range map[string]func(*alert.Message, string) ([]byte, error){"teams": teamsBody, "slack": slackBody} {
		data, err := body(m, "1")
		if err != nil || !json.Valid(data) {
			t.Errorf("%s: %v", name, err)
		}
		if name == "teams" && len(data) > teamsLimit {
			t.Errorf("teams: %d bytes", len(data))
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add(nasty, 20)
	f.Fuzz(func(t *testing.T, s string, limit int) {
		limit = 3 + (limit&0xff+0xff)%0xff
		got := clean(s, limit)
		if n := utf8.RuneCountInString(got); n > limit {
			t.Errorf("%d characters, limit %d", n, limit)
		}
		for _, r := range got {
			if !unicode.IsPrint(r) {
				t.Errorf("%U in %q", r, got)
			}
		}
		if again := clean(got, limit); again != got && !strings.HasSuffix(got, " ") {
			t.Errorf("%q becomes %q", got, again)
		}
	})
}
