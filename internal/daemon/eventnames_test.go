package daemon

import (
	"cmp"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

// The code, the table and the page name the same events, with the same levels and attributes.
func TestEveryEventIsNamed(t *testing.T) {
	t.Parallel()
	code := readLines(t)
	named := map[string]bool{}
	used := map[string]bool{"event": true}
	for _, e := range eventNames {
		if named[e.name] {
			t.Errorf("%s is in the table twice", e.name)
		}
		named[e.name] = true
		for _, key := range e.attrs {
			used[key] = true
		}
	}
	for _, w := range code.lines {
		for _, event := range w.events {
			if !named[event] {
				t.Errorf("%s writes the event %q, which is not in eventNames", w.place, event)
			}
		}
	}
	for _, e := range eventNames {
		keys, levels, exact := code.of(e.name)
		switch {
		case levels == nil:
			t.Errorf("no code writes the event %q", e.name)
			continue
		case exact:
			if diff := gocmp.Diff(sorted(e.attrs), sorted(keys)); diff != "" {
				t.Errorf("attributes of %s (-) are others in the code (+):\n%s", e.name, diff)
			}
			if diff := gocmp.Diff(sorted(e.levels), sorted(levels)); diff != "" {
				t.Errorf("levels of %s (-) are others in the code (+):\n%s", e.name, diff)
			}
		}
		for _, key := range e.attrs {
			if !slices.Contains(keys, key) {
				t.Errorf("no line of %s has the attribute %q", e.name, key)
			}
		}
		for _, level := range e.levels {
			if !slices.Contains(levels, level) {
				t.Errorf("no line of %s has the level %s", e.name, level)
			}
		}
	}
	var keys []string
	for _, a := range attrNames {
		keys = append(keys, a.key)
		if !used[a.key] {
			t.Errorf("no event has the attribute %q", a.key)
		}
	}
	if !slices.IsSorted(keys) || len(slices.Compact(slices.Clone(keys))) != len(keys) {
		t.Error("attrNames is not sorted, or has a key twice")
	}
	for _, key := range code.keys {
		if !slices.Contains(keys, key) {
			t.Errorf("the attribute %q is not in attrNames", key)
		}
	}
}

// A function that writes several events with a kind of another package has, together, what these have.
func TestEventsOfAKind(t *testing.T) {
	t.Parallel()
	for _, w := range readLines(t).lines {
		if len(w.events) < 2 {
			continue
		}
		var keys []string
		var levels []slog.Level
		for _, e := range eventNames {
			if slices.Contains(w.events, e.name) {
				keys, levels = append(keys, e.attrs...), append(levels, e.levels...)
			}
		}
		if diff := gocmp.Diff(sorted(keys), sorted(w.keys)); diff != "" {
			t.Errorf("%s: attributes of its events (-) are others in the code (+):\n%s", w.place, diff)
		}
		if diff := gocmp.Diff(sorted(levels), sorted(w.levels)); diff != "" {
			t.Errorf("%s: levels of its events (-) are others in the code (+):\n%s", w.place, diff)
		}
	}
}

func sorted[T cmp.Ordered](in []T) []T {
	out := slices.Clone(in)
	slices.Sort(out)
	return slices.Compact(out)
}

const (
	eventPage   = "../../docs/logs.md"
	eventsBegin = "<!-- events: made from internal/daemon/eventtable_test.go by go test ./internal/daemon -run LogPage -update -->\n"
	eventsEnd   = "<!-- end of events -->\n"
	keysBegin   = "<!-- keys: made from internal/daemon/eventtable_test.go -->\n"
	keysEnd     = "<!-- end of keys -->\n"
)

func TestLogPage(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(eventPage)
	if err != nil {
		t.Fatal(err)
	}
	var events, keys strings.Builder
	events.WriteString("| event | level | says | what to do |\n|---|---|---|---|\n")
	for _, e := range eventNames {
		var levels []string
		for _, l := range e.levels {
			levels = append(levels, strings.ToLower(l.String()))
		}
		fmt.Fprintf(&events, "| `%s` | %s | %s | %s |\n", e.name, strings.Join(levels, ", "), e.means, e.do)
	}
	keys.WriteString("| key | field | says |\n|---|---|---|\n")
	for _, a := range attrNames {
		fmt.Fprintf(&keys, "| `%s` | `%s%s` | %s |\n", a.key, fieldPrefix, strings.ToUpper(a.key), a.means)
	}
	page := string(data)
	for _, part := range []struct{ begin, end, want string }{{eventsBegin, eventsEnd, events.String()}, {keysBegin, keysEnd, keys.String()}} {
		before, rest, found := strings.Cut(page, part.begin)
		have, after, ended := strings.Cut(rest, part.end)
		if !found || !ended {
			t.Fatalf("%s has no place for %s", eventPage, part.begin)
		}
		if diff := gocmp.Diff(have, part.want); diff != "" && !*update {
			t.Errorf("%s (-) differs from the program (+); -update writes it anew:\n%s", eventPage, diff)
		}
		page = before + part.begin + part.want + part.end + after
	}
	if *update {
		if err := os.WriteFile(eventPage, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range regexp.MustCompile(`SPINECERT_EVENT=(\w+)|event=(\w+)`).FindAllStringSubmatch(page, -1) {
		name := m[1] + m[2]
		if !slices.ContainsFunc(eventNames, func(e eventName) bool { return e.name == name }) {
			t.Errorf("%s speaks of the event %q, which is none", eventPage, name)
		}
	}
}

// heldToNames checks what a daemon of a test wrote: each line has an event of the table, with a level and attributes that it may have.
func heldToNames(t testing.TB, output string) {
	t.Helper()
	for line := range strings.Lines(output) {
		if !strings.HasPrefix(line, "time=") || !strings.HasSuffix(line, "\n") { // no line of the log, or cut short by a kill
			continue
		}
		pairs, err := pairsOf(strings.TrimSuffix(line, "\n"))
		if err != nil {
			t.Errorf("%v in the line: %s", err, line)
			continue
		}
		if err := holdToNames(pairs); err != nil {
			t.Errorf("%v in the line: %s", err, line)
		}
	}
}

func holdToNames(pairs [][2]string) error {
	if len(pairs) < 4 || pairs[0][0] != "time" || pairs[1][0] != "level" || pairs[2][0] != "msg" || pairs[3][0] != "event" {
		return fmt.Errorf("no time, level, msg and event at the beginning")
	}
	level, name := pairs[1][1], pairs[3][1]
	at := slices.IndexFunc(eventNames, func(e eventName) bool { return e.name == name })
	if at < 0 {
		return fmt.Errorf("unknown event %q", name)
	}
	if !slices.ContainsFunc(eventNames[at].levels, func(l slog.Level) bool { return l.String() == level }) {
		return fmt.Errorf("level %s, which %s does not have", level, name)
	}
	if pairs[2][1] == "" {
		return fmt.Errorf("no sentence")
	}
	for _, p := range pairs[4:] {
		if !slices.Contains(eventNames[at].attrs, p[0]) {
			return fmt.Errorf("attribute %q, which %s does not have", p[0], name)
		}
	}
	return nil
}

// pairsOf reads a line of slog.TextHandler.
func pairsOf(line string) ([][2]string, error) {
	var out [][2]string
	for line != "" {
		key, rest, ok := strings.Cut(line, "=")
		if !ok {
			return nil, fmt.Errorf("no value for %q", key)
		}
		var value, after string
		if quoted, err := strconv.QuotedPrefix(rest); err == nil && quoted[0] == '"' {
			value, _ = strconv.Unquote(quoted)
			after = strings.TrimPrefix(rest[len(quoted):], " ")
		} else {
			value, after, _ = strings.Cut(rest, " ")
		}
		out = append(out, [2]string{key, value})
		line = after
	}
	return out, nil
}

func TestHoldToNames(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		`time=x level=INFO msg="slot serves" event=rotated slot=pcs generation=2`: "",
		`time=x level=INFO msg="slot serves" slot=pcs`:                            "no time, level, msg and event at the beginning",
		`time=x level=INFO msg=x event=rotate slot=pcs`:                           `unknown event "rotate"`,
		`time=x level=WARN msg=x event=rotated slot=pcs`:                          "level WARN, which rotated does not have",
		`time=x level=INFO msg=x event=rotated slot=pcs reason="a b"`:             `attribute "reason", which rotated does not have`,
		`time=x level=INFO msg="" event=rotated`:                                  "no sentence",
	} {
		pairs, err := pairsOf(line)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if err := holdToNames(pairs); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
}
