package pki

import (
	"bytes"
	"encoding/base64"
	"strings"
)

const (
	beginMark = "-----BEGIN "
	endMark   = "-----END "
	dashes    = "-----"
	bom       = "\xef\xbb\xbf"
	maxLabel  = 64
)

// block is one PEM block (RFC 7468) as it was found.
type block struct {
	label     string
	body      []byte // between the markers, headers included
	encrypted bool   // has the headers of RFC 1421, Section 4.6.1.1
	line      int    // of the BEGIN line, from 1
}

// scanner walks over text and counts lines as it goes.
type scanner struct {
	data          []byte
	pos           int // behind the last block
	counted, line int // line breaks before offset counted
}

// scanPEM finds the PEM blocks in data. It does not use encoding/pem, which
// passes over a malformed block as if it were text: a file cut in its middle
// would become a shorter file.
func scanPEM(data []byte) ([]block, error) {
	var blocks []block
	s := &scanner{data: data}
	for {
		begin := s.next(beginMark, len(data))
		limit := begin
		if begin < 0 {
			limit = len(data)
		}
		if end := s.next(endMark, limit); end >= 0 {
			return nil, incoherent(partFile, "line %d ends a PEM block that does not begin", s.lineAt(end))
		}
		if begin < 0 {
			break
		}
		b, err := s.readBlock(begin)
		if err != nil {
			return nil, err
		}
		blocks = append(blocks, b)
	}
	if tail := lastLine(data[s.pos:]); len(tail) >= len(dashes) && strings.HasPrefix(beginMark, tail) {
		return nil, incoherent(partFile, "ends inside a PEM BEGIN line")
	}
	return blocks, nil
}

// readBlock reads the block whose BEGIN marker is at begin and moves behind its
// END marker.
func (s *scanner) readBlock(begin int) (block, error) {
	b := block{line: s.lineAt(begin)}
	rest := s.data[begin+len(beginMark):]
	n := bytes.Index(rest[:min(len(rest), maxLabel+len(dashes))], []byte(dashes))
	if n < 0 || !validLabel(rest[:n]) {
		return b, incoherent(partFile, "line %d is not a whole PEM BEGIN line", b.line)
	}
	b.label = string(rest[:n])
	start := begin + len(beginMark) + n + len(dashes)
	if b.label == "PGP SIGNED MESSAGE" { // opens a signed mail and has no END line
		s.pos = start
		return b, nil
	}
	end := bytes.Index(s.data[start:], []byte(endMark))
	if end < 0 || bytes.Contains(s.data[start:start+end], []byte(beginMark)) {
		return b, incoherent(partFile, "PEM block %q of line %d has no END line", b.label, b.line)
	}
	stop := start + end
	after := stop + len(endMark)
	if !bytes.HasPrefix(s.data[after:], []byte(b.label+dashes)) {
		return b, incoherent(partFile, "PEM block %q of line %d has another or an incomplete END line", b.label, b.line)
	}
	s.pos = after + len(b.label) + len(dashes)
	b.body = s.data[start:stop]
	b.encrypted = bytes.Contains(b.body, []byte("Proc-Type:")) && bytes.Contains(b.body, []byte("ENCRYPTED")) ||
		bytes.Contains(b.body, []byte("DEK-Info:"))
	return b, nil
}

// next returns the offset, below limit, of the next marker that opens a line or
// follows the last block (files joined without a newline), or -1.
func (s *scanner) next(mark string, limit int) int {
	for at := s.pos; ; at += len(mark) {
		i := bytes.Index(s.data[min(at, limit):limit], []byte(mark))
		if i < 0 {
			return -1
		}
		at += i
		before := at
		for before > s.pos && (s.data[before-1] == ' ' || s.data[before-1] == '\t') {
			before--
		}
		text := bytes.TrimSuffix(s.data[s.pos:before], []byte(bom)) // joined files, each with its own
		if len(text) == 0 || text[len(text)-1] == '\n' || text[len(text)-1] == '\r' {
			return at
		}
	}
}

// lineAt returns the number of the line of offset, from 1. Offsets do not go back.
func (s *scanner) lineAt(offset int) int {
	s.line += bytes.Count(s.data[s.counted:offset], []byte{'\n'})
	s.counted = offset
	return s.line + 1
}

// decode returns the content of the block.
func (b *block) decode() ([]byte, error) {
	body := b.body
	if bytes.IndexByte(body, ':') >= 0 {
		body = withoutHeaders(body)
	}
	der := make([]byte, base64.StdEncoding.DecodedLen(len(body)))
	n, err := base64.StdEncoding.Decode(der, body) // ignores CR and LF
	if err != nil {
		n, err = base64.StdEncoding.Decode(der, bytes.Join(bytes.Fields(body), nil))
	}
	if err != nil || n == 0 {
		// The library's error has an offset only, but a key's is nobody's business either.
		return nil, incoherent(partFile, "PEM block %q of line %d has broken or cut base64", b.label, b.line)
	}
	return der[:n], nil
}

// withoutHeaders drops the header lines of RFC 1421, Section 4.4, and their
// continuation lines. Base64 has no colon.
func withoutHeaders(body []byte) []byte {
	var out []byte
	header := false
	for line := range bytes.Lines(body) {
		switch {
		case bytes.IndexByte(line, ':') >= 0:
			header = true
			continue
		case header && (line[0] == ' ' || line[0] == '\t'):
			continue
		}
		header = false
		out = append(out, line...)
	}
	return out
}

func validLabel(label []byte) bool {
	if len(label) == 0 {
		return false
	}
	for _, c := range label {
		if (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != ' ' && c != '#' && c != '.' {
			return false
		}
	}
	return true
}

func lastLine(data []byte) string {
	return string(bytes.TrimLeft(data[bytes.LastIndexAny(data, "\r\n")+1:], " \t"))
}
