package unit

import (
	"encoding/json"
	"fmt"
	"strings"
)

const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

// word writes one word of a list in a unit file, systemd.syntax(7), Quoting.
func word(s string) string {
	plain := letters + "/._-+@:,="
	safe := true
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '%':
			b.WriteString("%%") // no specifier, systemd.unit(5)
		case r == '"', r == '\\':
			b.WriteString(`\` + string(r))
			safe = false
		default:
			b.WriteRune(r)
			safe = safe && (strings.ContainsRune(plain, r) || r > 0x7f)
		}
	}
	if safe {
		return b.String()
	}
	return `"` + b.String() + `"`
}

// specifier writes a value that is not taken apart into words.
func specifier(s string) string { return strings.ReplaceAll(s, "%", "%%") }

// script writes a string of JavaScript. JSON is a part of it since ECMAScript 2019; before, but for two characters that no name of a unit has.
func script(s string) string {
	data, err := json.Marshal(s)
	if err != nil { // of a string it never fails
		return `""`
	}
	return string(data)
}

// escapeUnit writes a name as a part of the name of a unit, systemd.unit(5), String Escaping for Inclusion in Unit Names. The hyphen stays: nobody takes it for a slash here.
func escapeUnit(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if strings.IndexByte(letters+":_.-", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(&b, `\x%02x`, c)
	}
	return b.String()
}

// fileName makes the name of a file that needs no quotes anywhere.
func fileName(s string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(letters+"._-@+", r) {
			return r
		}
		return '_'
	}, s)
}
