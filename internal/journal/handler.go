package journal

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Path is the socket of the journal.
const Path = "/run/systemd/journal/socket"

// Patience is how long a line waits for the journal to take it.
const Patience = time.Second

// Options are those of New.
type Options struct {
	Level      slog.Leveler // least level that is written; nil is slog.LevelInfo
	Identifier string       // SYSLOG_IDENTIFIER
	Prefix     string       // before the key of each attribute, such as SPINECERT_
	FieldsOnly []string     // keys that do not stand in MESSAGE
	Socket     string       // the path of the socket; "" is Path

	// Fallback is given what the journal cannot be given. nil: such a line is lost.
	Fallback slog.Handler
	// Lost is told of each line that nobody got. It may be nil, and must not block.
	Lost func()
}

// Handler is a slog.Handler that writes to the journal.
type Handler struct {
	shared   *shared
	text     slog.Handler // writes the attributes to shared.line
	fallback slog.Handler // nil: none
	prefix   string       // of keys: Options.Prefix and the groups
	fields   []byte       // what WithAttrs was given
}

// shared is what all handlers have that are derived from one.
type shared struct {
	options Options
	head    []byte // fields that every entry has

	mu     sync.Mutex // held while an entry is made and sent
	line   bytes.Buffer
	socket socket
}

// New returns a handler. It opens nothing: the first line connects.
func New(o Options) *Handler {
	if o.Level == nil {
		o.Level = slog.LevelInfo
	}
	if o.Socket == "" {
		o.Socket = Path
	}
	s := &shared{options: o, socket: socket{path: o.Socket}}
	// systemd gives what services print the facility daemon; without a facility an entry that is forwarded to syslog would be one of user.
	s.head = appendField(s.head, "SYSLOG_FACILITY", "3")
	if o.Identifier != "" {
		s.head = appendField(s.head, "SYSLOG_IDENTIFIER", o.Identifier)
	}
	text := slog.NewTextHandler(&s.line, &slog.HandlerOptions{Level: o.Level, ReplaceAttr: s.inMessage})
	return &Handler{shared: s, text: text, fallback: o.Fallback, prefix: o.Prefix}
}

// Close waits until the journal has read what was sent, for Patience at most, and closes the socket. A line that comes later
// opens it again.
func (h *Handler) Close() {
	h.shared.mu.Lock()
	defer h.shared.mu.Unlock()
	h.shared.socket.flush()
	h.shared.socket.close()
}

// inMessage drops what does not stand in MESSAGE.
func (s *shared) inMessage(groups []string, a slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return a
	}
	switch {
	case a.Key == slog.TimeKey, a.Key == slog.LevelKey, a.Key == slog.MessageKey, slices.Contains(s.options.FieldsOnly, a.Key):
		return slog.Attr{}
	}
	return a
}

// Enabled reports whether lines of a level are written.
func (h *Handler) Enabled(_ context.Context, level slog.Level) bool {
	return level >= h.shared.options.Level.Level()
}

// Handle writes one line. The error is that of the journal, or of the fallback; either way Lost knows of it.
func (h *Handler) Handle(ctx context.Context, r slog.Record) error {
	err := h.send(ctx, r)
	if err == nil {
		return nil
	}
	// What the journal is too slow for would wait on stderr as well, which leads there, and without end.
	if h.fallback != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		if err = h.fallback.Handle(ctx, r); err == nil {
			return nil
		}
	}
	if h.shared.options.Lost != nil {
		h.shared.options.Lost()
	}
	return err
}

func (h *Handler) send(ctx context.Context, r slog.Record) error {
	h.shared.mu.Lock()
	defer h.shared.mu.Unlock()
	message, err := h.message(ctx, r)
	if err != nil {
		return err
	}
	entry := make([]byte, 0, 1024)
	entry = appendField(entry, "MESSAGE", message)
	entry = appendField(entry, "PRIORITY", strconv.Itoa(priority(r.Level)))
	entry = append(append(entry, h.shared.head...), h.fields...)
	r.Attrs(func(a slog.Attr) bool {
		entry = appendAttr(entry, h.prefix, a)
		return true
	})
	return h.shared.socket.send(entry)
}

// message is the sentence and the attributes, in one line.
func (h *Handler) message(ctx context.Context, r slog.Record) (string, error) {
	h.shared.line.Reset()
	attrs := r.Clone()
	attrs.Time, attrs.Message = time.Time{}, ""
	if err := h.text.Handle(ctx, attrs); err != nil {
		return "", err
	}
	message := printable(r.Message, "")
	if facts := strings.TrimSpace(h.shared.line.String()); facts != "" {
		message += ": " + facts
	}
	return message, nil
}

// WithAttrs returns a handler whose lines have these attributes too.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := *h
	next.fields = bytes.Clone(h.fields)
	for _, a := range attrs {
		next.fields = appendAttr(next.fields, h.prefix, a)
	}
	next.text = h.text.WithAttrs(attrs)
	if h.fallback != nil {
		next.fallback = h.fallback.WithAttrs(attrs)
	}
	return &next
}

// WithGroup returns a handler whose further attributes are in a group: its name is part of their fields.
func (h *Handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	next := *h
	next.prefix = h.prefix + name + "_"
	next.text = h.text.WithGroup(name)
	if h.fallback != nil {
		next.fallback = h.fallback.WithGroup(name)
	}
	return &next
}

// priority is a level in the words of syslog(3).
func priority(l slog.Level) int {
	switch {
	case l >= slog.LevelError:
		return 3 // err
	case l >= slog.LevelWarn:
		return 4 // warning
	case l >= slog.LevelInfo:
		return 6 // info
	}
	return 7 // debug
}

// IsStream reports whether a file leads to the journal: JOURNAL_STREAM names its device and inode (systemd.exec(5)). Who redirects the
// file of a process keeps the variable, and must not have lines go elsewhere.
func IsStream(f *os.File) bool {
	device, inode, ok := strings.Cut(os.Getenv("JOURNAL_STREAM"), ":")
	if !ok || f == nil {
		return false
	}
	info, err := f.Stat()
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && device == strconv.FormatUint(st.Dev, 10) && inode == strconv.FormatUint(st.Ino, 10)
}
