package haproxy

import (
	"bytes"
	"encoding/pem"
	"strings"
	"unicode"

	"github.com/spinecert/spinecert/internal/deliver/failure"
)

// payloadOf returns the lines of a PEM file without the empty ones, any of which would end it.
func payloadOf(file File) ([]byte, error) {
	if err := holds(file); err != nil {
		return nil, err
	}
	payload := make([]byte, 0, len(file.Data)+1)
	for line := range bytes.Lines(file.Data) {
		if line = bytes.TrimSpace(line); len(line) > 0 {
			payload = append(append(payload, line...), '\n')
		}
	}
	return payload, nil
}

// holds returns an error unless a file is of its kind: HAProxy takes a CRL for a CA file, and the other way round, and then trusts nobody
// or revokes nothing.
func holds(file File) error {
	found := false
	for rest := file.Data; ; found = true {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		right := strings.HasSuffix(block.Type, "PRIVATE KEY") || block.Type == "CERTIFICATE"
		switch file.Kind {
		case CA:
			right = block.Type == "CERTIFICATE"
		case CRL:
			right = block.Type == "X509 CRL"
		}
		clear(block.Bytes)
		if !right {
			return failure.New(failure.ReloadFailed, "deliver it in the format for its place", "set %s %q: it holds a PEM block %q", file.Kind, file.Path, clip(printable(block.Type)))
		}
	}
	if !found {
		return failure.New(failure.ReloadFailed, "deliver it in a PEM format", "set %s %q: it is not PEM, or empty", file.Kind, file.Path)
	}
	return nil
}

// transactionOf returns the path of the transaction that took a file, "" for none.
func transactionOf(answer string) string {
	for line := range strings.Lines(answer) {
		// "Transaction created for certificate PATH!", "transaction updated for CA PATH!"
		_, rest, ok := strings.Cut(line, "ransaction created for ")
		if !ok {
			_, rest, ok = strings.Cut(line, "ransaction updated for ")
		}
		if _, name, has := strings.Cut(rest, " "); ok && has {
			return strings.TrimSuffix(strings.TrimSpace(name), "!")
		}
	}
	return ""
}

// committed reports whether HAProxy uses what it took.
func committed(answer string) bool {
	for line := range strings.Lines(answer) {
		if strings.TrimSpace(line) == "Success!" {
			return true
		}
	}
	return false
}

// quote returns what HAProxy said on one line, unless it repeats what it was given.
func (s *session) quote(answer string) string {
	if strings.Contains(answer, "PRIVATE KEY") {
		return "(withheld: it may hold a key)"
	}
	for _, file := range s.files {
		for line := range bytes.Lines(file.Data) {
			if line = bytes.TrimSpace(line); len(line) >= 8 && strings.Contains(answer, string(line)) {
				return "(withheld: it repeats a line of " + file.Path + ")"
			}
		}
	}
	text := printable(answer)
	if text == "" {
		return "nothing"
	}
	return clip(text)
}

// printable returns a text on one line, without what moves a terminal's cursor.
func printable(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case r == unicode.ReplacementChar, !unicode.IsPrint(r):
			return -1
		}
		return r
	}, text)
	return strings.Join(strings.Fields(text), " ")
}

func clip(text string) string {
	const quoted = 300 // bytes
	if len(text) <= quoted {
		return text
	}
	return strings.ToValidUTF8(text[:quoted], "") + "..."
}
