package sink

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasttemplate"

	"github.com/spinecert/spinecert/internal/alert"
	"github.com/spinecert/spinecert/internal/condition"
	"github.com/spinecert/spinecert/internal/config"
)

const (
	open  = "{{"
	shut  = "}}"
	bound = 64 << 10 // bytes of a template
)

// template makes the body of a webhook: a text with {{name}} for what a message has. What is put in is escaped as in a JSON string, and is not looked at
// for placeholders again.
type template struct {
	parsed  *fasttemplate.Template
	version string
}

// readTemplate reads a template, and tries it. Its text may hold secrets of the far side, so errors say the line, and nothing of it but names.
func readTemplate(path, version string) (*template, error) {
	data, err := readFile("template", path)
	if err != nil {
		return nil, advised(err, "the daemon's user must be able to read it")
	}
	if err := tryTemplate(string(data), version); err != nil {
		return nil, advised(fmt.Errorf("read template %q: %w", config.SourceLabel(path), err), "see docs/alerts.md for what stands between {{ and }}")
	}
	parsed, err := fasttemplate.NewTemplate(string(data), open, shut)
	if err != nil {
		return nil, fmt.Errorf("read template %q: it cannot be parsed", config.SourceLabel(path))
	}
	return &template{parsed: parsed, version: version}, nil
}

func advised(err error, advice string) error {
	return &Error{text: err.Error(), cause: err, advice: advice}
}

var placeholderName = regexp.MustCompile(`^[a-z_]{1,30}$`)

// tryTemplate finds what is wrong with a template before there is anything to tell.
func tryTemplate(text, version string) error {
	if len(text) > bound {
		return fmt.Errorf("it is larger than %d KiB", bound>>10)
	}
	known := values(sample(false), version)
	for rest, line := text, 1; ; {
		before, after, found := strings.Cut(rest, open)
		if !found {
			break
		}
		line += strings.Count(before, "\n")
		tag, after, found := strings.Cut(after, shut)
		if !found {
			return fmt.Errorf("line %d: {{ without }}", line)
		}
		name := strings.TrimSpace(tag)
		if !placeholderName.MatchString(name) {
			return fmt.Errorf("line %d: what stands between {{ and }} is not the name of a placeholder", line)
		}
		if _, ok := known[name]; !ok {
			return fmt.Errorf("line %d: there is no placeholder {{%s}}", line, name)
		}
		line += strings.Count(tag, "\n")
		rest = after
	}
	parsed, err := fasttemplate.NewTemplate(text, open, shut)
	if err != nil {
		return errors.New("it cannot be parsed")
	}
	// Once with all that a message can have, once with next to nothing.
	for _, full := range []bool{true, false} {
		t := template{parsed: parsed, version: version}
		body, err := t.body(sample(full))
		if err != nil {
			return err
		}
		if err := json.Unmarshal(body, new(any)); err != nil {
			return fmt.Errorf("it does not make JSON: line %d of what it makes is wrong; names of texts stand in quotes, as in \"{{subject}}\"", lineOf(body, err))
		}
	}
	return nil
}

func lineOf(body []byte, err error) int {
	var at int64
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		at = min(max(syntax.Offset, 0), int64(len(body)))
	}
	return 1 + bytes.Count(body[:at], []byte("\n"))
}

// body fills a template in.
func (t *template) body(m *alert.Message) ([]byte, error) {
	known := values(m, t.version)
	var b bytes.Buffer
	_, err := t.parsed.ExecuteFunc(&b, func(w io.Writer, tag string) (int, error) { return io.WriteString(w, known[strings.TrimSpace(tag)]) })
	return b.Bytes(), err
}

// values are the placeholders with what they stand for in a tidied message. Those of one alert are of the gravest.
func values(m *alert.Message, version string) map[string]string {
	first := &alert.Notice{Event: alert.Resolved}
	if len(m.Notices) > 0 {
		first = &m.Notices[0]
	}
	c := &first.Condition
	texts := map[string]string{
		"id": m.ID, "host": m.Host, "group": m.Group, "event": string(event(m)), "severity": string(m.Severity()), "subject": subject(m), "text": text(m, version),
		"at": stamp(m.At), "spinecert": version,
		"alert": c.ID, "code": string(c.Code), "kind": string(c.Kind), "name": c.Subject, "slot": c.Slot, "title": headline(first, m.At),
		"message": c.Message, "hint": c.Hint, "command": c.Command, "affects": affects(c.Affects), "stops": c.Stops,
		"since": stamp(c.Since), "ends": stamp(c.Ends.Time), "left": remaining(c, m.At), "runbook": c.Runbook,
	}
	out := make(map[string]string, len(texts)+6)
	for name, value := range texts {
		out[name] = quoted(value)
	}
	for name, n := range map[string]int{"total": m.Total, "critical": m.Critical, "warning": m.Warning, "resolved": m.Resolved, "groups": m.Groups} {
		out[name] = strconv.Itoa(n)
	}
	out["notices"] = "[]"
	if list, err := json.Marshal(m.Notices); err == nil && len(m.Notices) > 0 {
		out["notices"] = string(list)
	}
	return out
}

// quoted is s as it stands between the quotes of a JSON string.
func quoted(s string) string {
	data, err := json.Marshal(s)
	if err != nil {
		return ""
	}
	return string(data[1 : len(data)-1])
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func remaining(c *condition.Condition, at time.Time) string {
	if c.Ends.IsZero() || !c.Ends.After(at) {
		return ""
	}
	return left(c.Ends.Sub(at))
}

// sample is a message to try a template with.
func sample(full bool) *alert.Message {
	if !full {
		return &alert.Message{}
	}
	at := time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC)
	c := condition.Condition{Code: condition.Expiring, Kind: condition.Slot, Subject: "pcs", Slot: "pcs", Severity: condition.Critical, Since: at, Message: `it says "{{x}}" \ <b>`,
		Hint: "h", Stops: "s", Ends: condition.Moment{Time: at.Add(48 * time.Hour)}, Affects: condition.Affects{ODS: []string{"A99999"}}}
	c.Complete("")
	return &alert.Message{ID: "1", Host: "host", Group: "slot pcs", At: at, Total: 1, Critical: 1, Notices: []alert.Notice{{Event: alert.Opened, Condition: c, Opened: at, At: at}}}
}
