package daemon

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/journal"
)

const (
	// identifier is what the journal shows in front of each line.
	identifier = "spinecertd"
	// fieldPrefix is before the key of each attribute: slot is SPINECERT_SLOT.
	fieldPrefix = "SPINECERT_"
)

// fieldsOnly are attributes that a line of the journal has as fields alone: they are long, and for programs.
var fieldsOnly = []string{"sha256", "digest", "rule"}

// newLog makes the log of log.format: fields of the journal where w leads there, else text. lost is told of each line
// that nobody got.
func newLog(w io.Writer, c *config.Config, level *slog.LevelVar, lost func()) *slog.Logger {
	level.Set(c.LogLevel)
	options := &slog.HandlerOptions{Level: level}
	counted := writer{w, lost}
	switch {
	case c.LogFormat == "json":
		return slog.New(slog.NewJSONHandler(counted, options))
	case c.LogFormat == "auto" && isJournal(w):
		return slog.New(journal.New(journal.Options{Level: level, Identifier: identifier, Prefix: fieldPrefix, FieldsOnly: fieldsOnly,
			Fallback: slog.NewTextHandler(w, options), Lost: lost}))
	}
	return slog.New(slog.NewTextHandler(counted, options))
}

// closeLog sees to it that the last lines arrive as lines of this unit.
func (d *Daemon) closeLog() {
	if h, ok := d.log.Handler().(*journal.Handler); ok {
		h.Close()
	}
}

// isJournal reports whether what is written to w reaches the journal.
func isJournal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && journal.IsStream(f)
}

// writer counts the lines that could not be written.
type writer struct {
	io.Writer
	lost func()
}

// Write writes one line.
func (w writer) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	if err != nil {
		w.lost()
	}
	return n, err
}

// writeLine writes a line of the log. It is for the goroutine that writes them, see post.
func (d *Daemon) writeLine(event string, level slog.Level, text string, attrs []slog.Attr) {
	all := append([]slog.Attr{slog.String("event", event)}, attrs...)
	d.log.LogAttrs(context.Background(), level, text, all...)
}

// asErrors returns a writer for what the program says before it ends: in the journal each of its lines has the priority of an
// error (sd-daemon(3)), so that who asks for those is shown why it did not start.
func asErrors(w io.Writer) io.Writer {
	if !isJournal(w) {
		return w
	}
	return prioritised{w}
}

type prioritised struct{ io.Writer }

// Write writes whole lines.
func (p prioritised) Write(b []byte) (int, error) {
	var out bytes.Buffer
	for line := range bytes.Lines(b) {
		out.WriteString("<3>")
		out.Write(line)
	}
	if _, err := p.Writer.Write(out.Bytes()); err != nil {
		return 0, err
	}
	return len(b), nil
}
