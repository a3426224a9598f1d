package enrol

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"strings"
)

// header is that of a mail or of one of its parts.
type header interface{ Get(key string) string }

// mail reads a saved mail with its attachments. It reports whether the text was
// one and anything was found in it: if not, it is read as plain text.
func (r *reader) mail(where, text string, depth int) bool {
	if strings.HasPrefix(text, "From ") { // the separator of a mailbox
		_, text, _ = strings.Cut(text, "\n")
	}
	m, err := mail.ReadMessage(strings.NewReader(strings.TrimLeft(text, "\n")))
	if err != nil || m.Header.Get("Content-Type") == "" && m.Header.Get("Content-Transfer-Encoding") == "" {
		return false
	}
	before, problems := r.found, len(r.answer.Problems)
	r.part(where, m.Header, m.Body, depth+1)
	if r.found == before {
		r.answer.Problems = r.answer.Problems[:problems]
		return false
	}
	return true
}

// part reads one part of a mail.
func (r *reader) part(where string, h header, body io.Reader, depth int) {
	if r.parts++; r.parts > maxParts || depth > maxDepth+1 {
		r.answer.problem(where, errors.New("the mail has too many parts"))
		return
	}
	kind, parameters, err := mime.ParseMediaType(h.Get("Content-Type"))
	if err != nil {
		kind = "text/plain" // RFC 2045, Section 5.2
	}
	switch {
	case strings.HasPrefix(kind, "multipart/"):
		r.multipart(where, multipart.NewReader(body, parameters["boundary"]), depth)
		return
	case kind == "application/pkcs7-signature", kind == "application/x-pkcs7-signature":
		return // the certificates of who signed the mail
	}
	switch strings.ToLower(strings.TrimSpace(h.Get("Content-Transfer-Encoding"))) {
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	}
	data, err := io.ReadAll(io.LimitReader(body, maxAnswer))
	if len(data) > 0 {
		r.any(where, data, depth)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		r.answer.problem(where, errors.New("its transfer encoding is broken"))
	}
}

func (r *reader) multipart(where string, m *multipart.Reader, depth int) {
	for n := 1; ; n++ {
		p, err := m.NextPart() // undoes quoted-printable by itself
		if err != nil {
			return // cut off: what is in the text is found as text
		}
		name := p.FileName()
		if name == "" {
			name = fmt.Sprintf("part %d", n)
		}
		r.part(within(where, name), p.Header, p, depth+1)
		if r.parts > maxParts {
			return
		}
	}
}

// within names a part of a file. Names come from strangers: they are for people
// to read and never for a path.
func within(where, name string) string {
	if len(name) > 80 {
		name = name[:80] + "..."
	}
	return fmt.Sprintf("%s: %q", where, name)
}
