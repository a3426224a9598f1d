package journal

import (
	"encoding"
	"encoding/binary"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// maxName is how long the name of a field may be.
const maxName = 64

// appendField appends a field. A value with a line feed is written with its length: eight bytes, the least significant first.
func appendField(to []byte, name, value string) []byte {
	to = append(to, name...)
	if strings.Contains(value, "\n") {
		to = append(to, '\n')
		to = binary.LittleEndian.AppendUint64(to, uint64(len(value)))
	} else {
		to = append(to, '=')
	}
	return append(append(to, value...), '\n')
}

// appendAttr appends an attribute as a field, and a group as one field for each of its own. What is empty is none.
func appendAttr(to []byte, prefix string, a slog.Attr) []byte {
	a.Value = a.Value.Resolve()
	if a.Value.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += a.Key + "_"
		}
		for _, in := range a.Value.Group() {
			to = appendAttr(to, prefix, in)
		}
		return to
	}
	name, value := fieldName(prefix+a.Key), fieldText(a.Value)
	if name == "" || value == "" {
		return to
	}
	return appendField(to, name, value)
}

// fieldName makes a name that the journal takes: A to Z, 0 to 9 and _, the first of them a letter, at most 64. It is "" where nothing of that is left.
func fieldName(key string) string {
	name := []byte(strings.ToUpper(key))
	for i, c := range name {
		if (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			name[i] = '_'
		}
	}
	text := strings.TrimLeft(string(name), "_0123456789")
	return text[:min(len(text), maxName)]
}

// printable writes what cannot be printed as Go does, apart from the characters of keep.
func printable(s, keep string) string {
	odd := func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) && !strings.ContainsRune(keep, r) }
	if !strings.ContainsFunc(s, odd) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case odd(r) && r != utf8.RuneError:
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		default:
			b.WriteString(s[i : i+size])
		}
		i += size
	}
	return b.String()
}

// fieldText is a value as a field has it. Lines stay lines; bytes, which nobody takes for text, stay what they are.
func fieldText(v slog.Value) string {
	if v.Kind() == slog.KindAny {
		if data, ok := v.Any().([]byte); ok {
			return string(data)
		}
	}
	return printable(valueText(v), "\n\t")
}

// valueText is a value as slog.TextHandler writes it, without quotes.
func valueText(v slog.Value) string {
	switch v.Kind() {
	case slog.KindTime:
		return v.Time().Format("2006-01-02T15:04:05.000Z07:00")
	case slog.KindAny:
		switch x := v.Any().(type) {
		case error:
			return x.Error()
		case time.Time:
			return x.Format("2006-01-02T15:04:05.000Z07:00")
		case encoding.TextMarshaler:
			if text, err := x.MarshalText(); err == nil {
				return string(text)
			}
		case nil:
			return ""
		}
		return fmt.Sprintf("%+v", v.Any())
	}
	return v.String()
}
