package enrol

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf16"

	"github.com/spinecert/spinecert/pki"
)

// patterns are what mail programs add to PEM. They are compiled once for each text,
// which costs less than reading it.
type patterns struct {
	quote, tag *regexp.Regexp
}

func compile() patterns {
	return patterns{
		quote: regexp.MustCompile(`(?m)^[ \t\x{A0}]*(?:[>|][ \t\x{A0}]*)+`),
		tag:   regexp.MustCompile(`<[^<>]{0,200}>`),
	}
}

// text reads text with PEM in it, or a saved mail.
func (r *reader) text(where string, data []byte, depth int) {
	text := toUTF8(data)
	if depth < maxDepth && (!r.spend(len(text)) || r.mail(where, text, depth)) {
		return
	}
	if !r.spend(2 * len(text)) {
		return
	}
	p := compile()
	text = p.quote.ReplaceAllString(text, "")
	best := p.scan(text)
	if decoded := p.quote.ReplaceAllString(unquotePrintable(text), ""); decoded != text {
		other := p.scan(decoded)
		other.private = other.private || best.private
		if best.private = other.private; other.betterThan(best) {
			best = other
		}
	}
	if best.private {
		r.answer.private(where)
	}
	if best.good+len(best.faults) == 0 {
		if der := bareBase64(text); der != nil {
			r.any(where, der, maxDepth)
		}
		return
	}
	for _, c := range best.contents {
		r.take(where, c)
	}
	for _, err := range best.faults {
		r.answer.problem(where, err)
	}
}

// scanned is what one reading of a text gave.
type scanned struct {
	contents []*pki.Contents
	good     int
	faults   []error
	private  bool // a block is labelled as a key, whatever is in it
}

func (s scanned) betterThan(o scanned) bool {
	return s.good > o.good || s.good == o.good && len(s.faults) < len(o.faults)
}

// scan reads every PEM block of a text. What is cut short is a fault and never
// passed over.
func (p patterns) scan(text string) scanned {
	var s scanned
	var open *marker
	line, counted := 1, 0
	cutOff := func() {
		if open != nil && !s.full() {
			s.faults = append(s.faults, fmt.Errorf("PEM block %q of line %d is cut off: it has no END line", open.label, line))
		}
	}
	for m := range markers(text) {
		switch {
		case !m.end:
			cutOff()
			line += strings.Count(text[counted:m.from], "\n")
			open, counted = &m, m.from
			s.private = s.private || strings.Contains(m.label, "PRIVATE KEY") || m.label == "PKCS12" || m.label == "PFX"
		case open != nil && !s.full():
			contents, err := p.block(open.label, text[open.to:m.from])
			if err != nil {
				s.faults = append(s.faults, fmt.Errorf("PEM block %q of line %d: %w", open.label, line, err))
			} else if len(contents.Certificates)+len(contents.Keys)+len(contents.Requests) > 0 {
				s.good++
				s.contents = append(s.contents, contents)
			}
			open = nil
		}
	}
	cutOff()
	return s
}

// full reports whether no more blocks are read.
func (s *scanned) full() bool { return len(s.contents)+len(s.faults) >= maxParts }

// block reads the base64 of one PEM block whatever its lines look like.
func (p patterns) block(label, body string) (*pki.Contents, error) {
	if strings.Contains(body, "Proc-Type:") { // the headers of an encrypted key
		return pki.Parse([]byte("-----BEGIN "+label+"-----"+body+"-----END "+label+"-----\n"), nil)
	}
	der, err := decodeBase64(p.tag.ReplaceAllString(body, ""))
	if err != nil {
		return nil, err
	}
	return pki.Parse(pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der}), nil)
}

// decodeBase64 takes base64 without regard to lines, invisible characters and
// padding. The error quotes nothing.
func decodeBase64(body string) ([]byte, error) {
	digits := strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || r >= 0x200B && r <= 0x200D || r == 0x2060 || r == 0xFEFF {
			return -1
		}
		return r
	}, body)
	der, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(digits, "="))
	if err != nil || len(der) == 0 {
		return nil, fmt.Errorf("its base64 is broken or cut off")
	}
	return der, nil
}

// bareBase64 decodes text that is nothing but base64 of DER, as people paste it
// without the lines around it; else nil.
func bareBase64(text string) []byte {
	der, err := decodeBase64(text)
	if err != nil || !isDER(der) {
		return nil
	}
	return der
}

// toUTF8 returns text with newlines of one kind, from UTF-8, or UTF-16 as Windows
// saves it, with or without a byte order mark.
func toUTF8(data []byte) string {
	var text string
	switch order := byteOrder(data); order {
	case 0:
		text = string(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")))
	default:
		units := make([]uint16, 0, len(data)/2)
		for i := 0; i+1 < len(data); i += 2 {
			u := uint16(data[i]) | uint16(data[i+1])<<8
			if order == 'B' {
				u = u<<8 | u>>8
			}
			units = append(units, u)
		}
		text = strings.TrimPrefix(string(utf16.Decode(units)), "\ufeff")
	}
	return strings.NewReplacer("\r\n", "\n", "\r", "\n", "&gt;", ">", "&nbsp;", " ").Replace(text)
}

// byteOrder returns 'L' or 'B' for UTF-16, else 0. Without a mark every second
// byte of such text is nought.
func byteOrder(data []byte) byte {
	switch {
	case bytes.HasPrefix(data, []byte("\xff\xfe")):
		return 'L'
	case bytes.HasPrefix(data, []byte("\xfe\xff")):
		return 'B'
	}
	var zeros [2]int
	head := data[:min(len(data), 256)]
	for i, c := range head {
		if c == 0 {
			zeros[i%2]++
		}
	}
	switch most := len(head) / 3; {
	case most > 0 && zeros[1] > most && zeros[0] == 0:
		return 'L'
	case most > 0 && zeros[0] > most && zeros[1] == 0:
		return 'B'
	}
	return 0
}

// unquotePrintable undoes quoted-printable (RFC 2045, Section 6.7) where it can,
// and leaves everything else as it is: the text may be quoted in part only.
func unquotePrintable(text string) string {
	var b strings.Builder
	for {
		before, after, ok := strings.Cut(text, "=")
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		trimmed := strings.TrimLeft(after, " \t")
		switch {
		case strings.HasPrefix(trimmed, "\n"): // a soft line break
			text = trimmed[1:]
		case len(after) >= 2 && hex(after[0]) >= 0 && hex(after[1]) >= 0:
			if c := byte(hex(after[0])<<4 | hex(after[1])); c != '\r' {
				b.WriteByte(c)
			}
			text = after[2:]
		default:
			b.WriteByte('=')
			text = after
		}
	}
}

func hex(c byte) int { return strings.IndexByte("0123456789ABCDEF", c) }
