package journal

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type text struct{}

func (text) MarshalText() ([]byte, error) { return []byte("as text"), nil }

type secret struct{}

func (secret) LogValue() slog.Value { return slog.StringValue("resolved") }

func TestEntry(t *testing.T) {
	t.Parallel()
	l := listen(t)
	h := New(Options{Level: slog.LevelDebug, Identifier: "spinecertd", Prefix: "SPINECERT_", FieldsOnly: []string{"sha256"}, Socket: l.path})
	defer h.Close()
	odd, other := "_Ünder-score.9", "Ü"
	at := time.Date(2026, 11, 21, 17, 22, 14, 5e6, time.UTC)
	slog.New(h).LogAttrs(t.Context(), slog.LevelWarn, "slot serves", slog.String("event", "rotated"), slog.Uint64("generation", 2), slog.String("sha256", "ab"),
		slog.Time("not_after", at), slog.Duration("took", 90*time.Second), slog.Bool("held", false), slog.String("hint", ""), slog.Any("error", errors.New("two words")),
		slog.Any("t", text{}), slog.Any("s", secret{}), slog.Any("b", []byte("\x00\xff")), slog.String("lines", "a\nb=c\n"), slog.Group("g", slog.Int("n", 1)),
		slog.String(odd, "x"), slog.String(other, "dropped?"), slog.String(strings.Repeat("long", 20), "y"))
	data, memory := l.entry()
	want := [][2]string{
		{"MESSAGE", `slot serves: event=rotated generation=2 not_after=2026-11-21T17:22:14.005Z took=1m30s held=false hint="" error="two words" t="as text" s=resolved ` +
			`b="\x00\xff" lines="a\nb=c\n" g.n=1 _Ünder-score.9=x Ü=dropped? ` + strings.Repeat("long", 20) + "=y"},
		{"PRIORITY", "4"}, {"SYSLOG_FACILITY", "3"}, {"SYSLOG_IDENTIFIER", "spinecertd"},
		{"SPINECERT_EVENT", "rotated"}, {"SPINECERT_GENERATION", "2"}, {"SPINECERT_SHA256", "ab"}, {"SPINECERT_NOT_AFTER", "2026-11-21T17:22:14.005Z"},
		{"SPINECERT_TOOK", "1m30s"}, {"SPINECERT_HELD", "false"}, {"SPINECERT_ERROR", "two words"}, {"SPINECERT_T", "as text"}, {"SPINECERT_S", "resolved"},
		{"SPINECERT_B", "\x00\xff"}, {"SPINECERT_LINES", "a\nb=c\n"}, {"SPINECERT_G_N", "1"}, {"SPINECERT____NDER_SCORE_9", "x"}, {"SPINECERT___", "dropped?"},
		{"SPINECERT_" + strings.Repeat("LONG", 20)[:54], "y"},
	}
	if diff := cmp.Diff(want, fields(t, data)); diff != "" || memory {
		t.Errorf("in memory %v, fields (-want +got):\n%s", memory, diff)
	}
}

func TestFieldName(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]string{
		"slot": "SLOT", "_slot": "SLOT", "9_lives": "LIVES", "not-after": "NOT_AFTER", "": "", "___": "", "é": "", "a=b\nc": "A_B_C",
		strings.Repeat("x", 65): strings.Repeat("X", 64),
	} {
		if got := fieldName(key); got != want {
			t.Errorf("fieldName(%q) = %q, want %q", key, got, want)
		}
	}
}

func TestPriority(t *testing.T) {
	t.Parallel()
	for level, want := range map[slog.Level]int{slog.LevelDebug - 4: 7, slog.LevelDebug: 7, slog.LevelInfo: 6, slog.LevelInfo + 1: 6, slog.LevelWarn: 4, slog.LevelError: 3, slog.LevelError + 4: 3} {
		if got := priority(level); got != want {
			t.Errorf("priority(%v) = %d, want %d", level, got, want)
		}
	}
}

// What a peer calls itself must not move the cursor of who reads the log, nor make a line of its own.
func TestMessageIsPrintable(t *testing.T) {
	t.Parallel()
	l := listen(t)
	h := New(Options{Prefix: "X_", Socket: l.path})
	defer h.Close()
	evil := "a\x1b[2J\r\nMESSAGE=forged\u202e\x9b\xff\u0085\x00\x7f"
	r := slog.NewRecord(time.Now(), slog.LevelInfo, "said \"this\": "+evil, 0)
	r.AddAttrs(slog.String("name", evil))
	if err := h.Handle(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	data, _ := l.entry()
	got := fields(t, data)
	want := `said "this": a\x1b[2J\r\nMESSAGE=forged\u202e\x9b\xff\u0085\x00\x7f: name="a\x1b[2J\r\nMESSAGE=forged\u202e\x9b\xff\u0085\x00\x7f"`
	if diff := cmp.Diff([2]string{"MESSAGE", want}, got[0]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n := len(got) - 1; got[n] != [2]string{"X_NAME", `a\x1b[2J\r` + "\n" + `MESSAGE=forged\u202e\x9b\xff\u0085\x00\x7f`} {
		t.Errorf("the field is %q", got[n])
	}
	for _, f := range got[1:] {
		if f[0] == "MESSAGE" {
			t.Errorf("a second message: %q", f[1])
		}
	}
}

func TestWithAttrsAndGroups(t *testing.T) {
	t.Parallel()
	l := listen(t)
	h := New(Options{Prefix: "X_", Socket: l.path})
	defer h.Close()
	base := slog.New(h)
	a := base.With(slog.Int("a", 1))
	_ = a.With(slog.Int("other", 9)) // must not show in what a writes
	a.WithGroup("g").With(slog.Int("b", 2)).LogAttrs(t.Context(), slog.LevelInfo, "m", slog.Int("c", 3))
	base.LogAttrs(t.Context(), slog.LevelInfo, "m")
	data, _ := l.entry()
	want := [][2]string{{"MESSAGE", "m: a=1 g.b=2 g.c=3"}, {"PRIORITY", "6"}, {"SYSLOG_FACILITY", "3"}, {"X_A", "1"}, {"X_G_B", "2"}, {"X_G_C", "3"}}
	if diff := cmp.Diff(want, fields(t, data)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	data, _ = l.entry()
	if diff := cmp.Diff([][2]string{{"MESSAGE", "m"}, {"PRIORITY", "6"}, {"SYSLOG_FACILITY", "3"}}, fields(t, data)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What is derived from one handler does not change what another has.
func TestDerivedHandlersAreApart(t *testing.T) {
	t.Parallel()
	l := listen(t)
	base := slog.New(New(Options{Prefix: "X_", Socket: l.path}))
	for n := 1; n < 64; n++ {
		from := base.With(slog.String("a", strings.Repeat("x", n)))
		first := from.With(slog.Int("c", 1))
		_ = from.With(slog.Int("c", 2))
		first.LogAttrs(t.Context(), slog.LevelInfo, "m")
		data, _ := l.entry()
		if got := fields(t, data); got[len(got)-1] != [2]string{"X_C", "1"} {
			t.Fatalf("after %d bytes: %q", n, got)
		}
	}
}

func TestLevel(t *testing.T) {
	t.Parallel()
	var level slog.LevelVar
	h := New(Options{Level: &level})
	for _, set := range []slog.Level{slog.LevelError, slog.LevelDebug} {
		level.Set(set)
		for _, l := range []slog.Level{slog.LevelDebug, slog.LevelWarn, slog.LevelError} {
			if got := h.Enabled(t.Context(), l); got != (l >= set) {
				t.Errorf("at %v, Enabled(%v) = %v", set, l, got)
			}
		}
	}
	if New(Options{}).Enabled(t.Context(), slog.LevelDebug) {
		t.Error("debug is enabled where nothing was said")
	}
}

func TestIsStream(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "stderr")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	for value, want := range map[string]bool{
		fmt.Sprintf("%d:%d", st.Dev, st.Ino):   true,
		fmt.Sprintf("%d:%d", st.Dev, st.Ino+1): false,
		fmt.Sprintf("%d:%d", st.Dev+1, st.Ino): false,
		fmt.Sprintf("%d:%d ", st.Dev, st.Ino):  false,
		fmt.Sprintf("%d:%d:1", st.Dev, st.Ino): false,
		fmt.Sprintf("%d", st.Dev):              false,
		"":                                     false,
		"journal":                              false,
	} {
		t.Setenv("JOURNAL_STREAM", value)
		if got := IsStream(f); got != want {
			t.Errorf("JOURNAL_STREAM=%q: %v", value, got)
		}
		if IsStream(nil) {
			t.Error("no file is the journal")
		}
	}
	t.Setenv("JOURNAL_STREAM", fmt.Sprintf("%d:%d", st.Dev, st.Ino))
	_ = f.Close()
	if IsStream(f) {
		t.Error("a closed file is the journal")
	}
}

// Lines come from several goroutines, and each is whole.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	l := listen(t)
	h := New(Options{Prefix: "X_", Socket: l.path})
	defer h.Close()
	const each, all = 50, 4
	for g := range all {
		go func() {
			log := slog.New(h).With(slog.Int("g", g))
			for i := range each {
				log.LogAttrs(t.Context(), slog.LevelInfo, "m", slog.Int("i", i))
			}
		}()
	}
	seen := map[string]bool{}
	for range each * all {
		data, _ := l.entry()
		got := fields(t, data)
		n := len(got)
		if want := "m: g=" + got[n-2][1] + " i=" + got[n-1][1]; got[0][1] != want || seen[want] {
			t.Fatalf("MESSAGE is %q with the fields %q", got[0][1], got[n-2:])
		}
		seen[got[0][1]] = true
	}
}
