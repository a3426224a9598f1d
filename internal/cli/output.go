package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/config"
)

// The values of --output.
const (
	outputText = "text"
	outputJSON = "json"
)

// report is the result of a command. Its JSON encoding and what it writes on the
// page state the same facts.
type report interface {
	show(p *page)
}

// envelope is the last line of stdout with --output json (CONTRACT.md, 3).
type envelope struct {
	Schema  int            `json:"schema"`
	Command string         `json:"command"`
	Exit    int            `json:"exit"`
	Result  any            `json:"result"`
	Error   *envelopeError `json:"error,omitempty"`
}

type envelopeError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint"`
}

// outcome is finish for the result of a run function, which is nil if there is none.
func outcome[T any, R interface {
	*T
	report
}](a *app, cmd *cobra.Command, r R, err error) error {
	if r == nil {
		return a.finish(cmd, nil, err)
	}
	return a.finish(cmd, r, err)
}

// finish prints the outcome of a command and keeps its exit status. It returns
// err, so that it can end a RunE.
func (a *app) finish(cmd *cobra.Command, r report, err error) error {
	a.done = true
	if isPlugin(cmd) {
		r, err = a.asPlugin(cmd, r, err)
	}
	e := envelope{Schema: 1, Command: commandName(cmd), Result: r}
	if err != nil {
		exit, code := classify(err)
		e.Exit, e.Error = exit, &envelopeError{Code: code, Message: err.Error(), Hint: hintOf(err)}
	}
	if printErr := a.print(e, r); printErr != nil && err == nil {
		// Nobody reads the result, or the disk it goes to is full: not done.
		err = fmt.Errorf("write result: %w", printErr)
		if e.Exit = exitFailed; isPlugin(cmd) {
			e.Exit = int(pluginUnknown)
		}
	}
	a.exit = e.Exit
	printError(a.err, err)
	return err
}

func (a *app) print(e envelope, r report) error {
	if a.global.output == outputJSON {
		line, err := encode(e)
		if err != nil {
			return err
		}
		_, err = a.out.Write(line)
		return err
	}
	if r == nil {
		return nil
	}
	p := &page{}
	r.show(p)
	_, err := a.out.Write(p.buffer.Bytes())
	return err
}

// encode returns v as one line of JSON in which everything that is not plainly
// printable is written as an escape: the line may go to a terminal as well.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("encode result: %w", err)
	}
	var out bytes.Buffer
	for _, r := range strings.TrimSuffix(b.String(), "\n") {
		switch {
		case printable(r):
			out.WriteRune(r)
		case r > 0xFFFF:
			r -= 0x10000
			fmt.Fprintf(&out, `\u%04x\u%04x`, 0xD800+r>>10, 0xDC00+r&0x3FF)
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// printError writes an error and its hint; each problem of a configuration on
// its own.
func printError(w io.Writer, err error) {
	if err == nil {
		return
	}
	var f *exitError
	told := errors.As(err, &f) && f.told
	var problems config.Problems
	if f == nil && errors.As(err, &problems) {
		for _, p := range problems {
			message(w, "error", p.Error())
			message(w, "hint", p.Hint)
		}
		return
	}
	if !told {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			message(w, "error", line)
		}
	}
	var refusal *admin.Error
	if errors.As(err, &refusal) {
		for _, problem := range refusal.Problems {
			message(w, "error", problem)
		}
	}
	message(w, "hint", hintOf(err))
}

// message writes one line to stderr, or nothing if there is nothing to say.
func message(w io.Writer, kind, text string) {
	if text != "" {
		_, _ = fmt.Fprintf(w, "%s: %s\n", kind, safe(text)) // nobody is left to tell
	}
}

// safe returns s with everything escaped that could steer a terminal or pretend
// to be another line: control characters, changes of writing direction,
// invisible characters, and bytes that are not UTF-8.
func safe(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return r == utf8.RuneError || !printable(r) }) {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD"):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case printable(r):
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x80:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r > 0xFFFF:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// printable is unicode.IsPrint, which knows no format characters (such as those
// that turn the direction of writing) and no space but the common one.
func printable(r rune) bool { return unicode.IsPrint(r) }
