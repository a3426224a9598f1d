package pki

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// ErrIncoherent is matched, with errors.Is, by every error that may only mean
// that a set of files is being written: an empty or truncated file, a missing
// part, a key or a chain that does not fit the certificate yet.
var ErrIncoherent = errors.New("parts do not fit together")

// errMismatch is the kind of ErrIncoherent that Mismatch knows.
var errMismatch = fmt.Errorf("%w: key and certificate differ", ErrIncoherent)

// Error is what every function of this package returns. No field holds
// passwords or content of keys.
type Error struct {
	File    string // as given to WithFile; may be empty
	Part    string // what was read: "key", "certificate", "pkcs12", "identity", ...
	Message string // the cause, for people
	Advice  string // the next action, may be empty; "FILE" stands for the file
	Err     error  // for errors.Is and errors.As, may be nil
}

// Error returns `read key "FILE": cause`.
func (e *Error) Error() string {
	var b strings.Builder
	verb := "read "
	if e.Part == partIdentity {
		verb = "build "
	}
	b.WriteString(verb + e.Part)
	if e.File != "" {
		fmt.Fprintf(&b, " %q", e.File)
	}
	b.WriteString(": ")
	switch {
	case e.Message != "":
		b.WriteString(e.Message)
	case e.Err != nil:
		b.WriteString(e.Err.Error())
	default:
		b.WriteString("unknown cause")
	}
	return b.String()
}

// Unwrap returns e.Err.
func (e *Error) Unwrap() error { return e.Err }

// Hint returns the advice, with the name of the file in its commands if it is
// known, or "".
func (e *Error) Hint() string {
	if e.File == "" {
		return e.Advice
	}
	return strings.ReplaceAll(e.Advice, "FILE", shellQuote(e.File))
}

// Hint returns the first non-empty answer of a method Hint() string in the tree
// of err, depth first, or "".
func Hint(err error) string {
	if err == nil {
		return ""
	}
	if h, ok := err.(interface{ Hint() string }); ok {
		if hint := h.Hint(); hint != "" {
			return hint
		}
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		return Hint(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			if hint := Hint(inner); hint != "" {
				return hint
			}
		}
	}
	return ""
}

// Mismatch reports whether err says that no certificate is for the key.
func Mismatch(err error) bool { return errors.Is(err, errMismatch) }

// WithFile returns err with the name of the file it is about. An *Error without
// a file gets it (in a copy), one that has a file stays as it is, and any other
// error is wrapped. WithFile(nil, file) is nil.
func WithFile(err error, file string) error {
	if err == nil {
		return nil
	}
	if e, ok := err.(*Error); ok {
		if e.File != "" {
			return err
		}
		c := *e
		c.File = file
		return &c
	}
	message := err.Error()
	var pathError *fs.PathError
	if errors.As(err, &pathError) && pathError.Path == file {
		message = pathError.Err.Error() // the path is told once
	}
	return &Error{File: file, Part: "file", Message: message, Err: err}
}

// incoherent makes an error that matches ErrIncoherent.
func incoherent(part, format string, args ...any) *Error {
	return &Error{Part: part, Message: fmt.Sprintf(format, args...), Err: ErrIncoherent}
}

// refusal makes an error that waiting does not mend.
func refusal(part, format string, args ...any) *Error {
	return &Error{Part: part, Message: fmt.Sprintf(format, args...)}
}

func (e *Error) advise(advice string) *Error {
	e.Advice = advice
	return e
}

// shellQuote quotes a file name for the command line of a hint.
func shellQuote(s string) string {
	odd := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:@%,=", r))
	}
	if !strings.ContainsFunc(s, odd) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
