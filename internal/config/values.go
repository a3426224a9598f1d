package config

import (
	"fmt"
	"math"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/goccy/go-yaml/ast"
)

// A scalar is a single value as it was written, or the default of its key.
type scalar struct {
	place
	text string
	set  bool // written in the file
}

// read takes the text, and says whether it can be used: false when it was refused, or when there is none.
func (s *scalar) read(r *reading, p place, tag reflect.StructTag, n ast.Node) bool {
	s.place, s.text = p, tag.Get("default")
	if n == nil {
		return s.text != ""
	}
	if _, null := n.(*ast.NullNode); null {
		r.shape(p, "the key has no value", "write a value or remove the key")
		return false
	}
	s.place = p.at(n)
	text, ok := scalarText(n)
	switch {
	case !ok:
		r.shape(s.place, "must be a single value, not "+kind(n), "")
		return false
	case strings.Contains(text, "-----BEGIN"):
		r.fail(s.place, "holds the content of a file", "keys and certificates are files, never YAML values: write the path")
		return false
	case strings.ContainsFunc(text, unicode.IsControl):
		r.fail(s.place, "must be one line without control characters", "")
		return false
	}
	s.text, s.set = text, true
	return true
}

// parsed binds a scalar with a parser that returns the value, or what is wrong and a hint. A wrong value is reported and
// replaced by the default, so that the rest of the file can be judged.
func parsed[T any](r *reading, s *scalar, p place, tag reflect.StructTag, n ast.Node, parse func(string) (T, string, string)) T {
	var zero T
	ok := s.read(r, p, tag, n)
	if ok {
		v, cause, hint := parse(s.text)
		if cause == "" {
			return v
		}
		r.fail(s.place, cause+s.not(s.text), hint)
	}
	if fallback := tag.Get("default"); fallback != "" {
		v, _, _ := parse(fallback)
		return v
	}
	return zero
}

// text is a word, out of those of the tags `enum` and `later` if there are any; a later of "*" is every other word.
type text struct{ scalar }

func (t *text) bind(r *reading, p place, tag reflect.StructTag, n ast.Node) {
	allowed := words(tag, "enum")
	if !t.read(r, p, tag, n) || len(allowed) == 0 || t.text == "" && tag.Get("default") == "" {
		return
	}
	for _, word := range allowed {
		if t.text == word {
			return
		}
	}
	for _, word := range words(tag, "later") {
		if t.text == word || word == "*" && t.text != "" {
			r.unsupported(t.place)
			t.text = tag.Get("default")
			return
		}
	}
	hint := ""
	if near := nearest(strings.TrimPrefix(strings.ToUpper(t.text), "SIG"), allowed); near != "" { // SIGHUP is HUP
		hint = fmt.Sprintf("did you mean %q?", near)
	} else if t.text == "false" {
		hint = `if off is meant, write "off" in quotes: a YAML 1.1 tool turns the bare word into false`
	}
	r.fail(t.place, "must be "+oneOf(allowed)+t.not(t.text), hint)
	t.text = tag.Get("default")
}

func words(tag reflect.StructTag, name string) []string {
	if list := tag.Get(name); list != "" {
		return strings.Split(list, "|")
	}
	return nil
}

func oneOf(words []string) string {
	if len(words) == 1 {
		return words[0]
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// boolean is true or false.
type boolean struct {
	scalar
	value bool
}

func (b *boolean) bind(r *reading, p place, tag reflect.StructTag, n ast.Node) {
	b.value = parsed(r, &b.scalar, p, tag, n, func(s string) (bool, string, string) {
		switch s {
		case "true", "True", "TRUE":
			return true, "", ""
		case "false", "False", "FALSE":
			return false, "", ""
		}
		return false, "must be true or false", ""
	})
}

// count is a whole number between the tags `min` and `max`.
type count struct {
	scalar
	value int
}

func (c *count) bind(r *reading, p place, tag reflect.StructTag, n ast.Node) {
	c.value = parsed(r, &c.scalar, p, tag, n, func(s string) (int, string, string) {
		v, err := strconv.Atoi(s)
		if err != nil || strings.HasPrefix(s, "+") {
			return 0, "must be a whole number", ""
		}
		return v, bounds(v, tag, func(s string) int { n, _ := strconv.Atoi(s); return n }), ""
	})
}

// duration has a unit, and lies between the tags `min` and `max`.
type duration struct {
	scalar
	value time.Duration
}

func (d *duration) bind(r *reading, p place, tag reflect.StructTag, n ast.Node) {
	d.value = parsed(r, &d.scalar, p, tag, n, func(s string) (time.Duration, string, string) {
		v, cause := parseDuration(s)
		if cause != "" {
			return 0, cause, "write a number and a unit: 10s, 5m, 1h, 90d, 1d12h"
		}
		return v, bounds(v, tag, func(s string) time.Duration { v, _ := parseDuration(s); return v }), ""
	})
}

// size has a unit, and lies between the tags `min` and `max`.
type size struct {
	scalar
	value int64
}

func (z *size) bind(r *reading, p place, tag reflect.StructTag, n ast.Node) {
	z.value = parsed(r, &z.scalar, p, tag, n, func(s string) (int64, string, string) {
		v, cause := parseSize(s)
		if cause != "" {
			return 0, cause, "write a number and a unit: 512B, 64KiB, 1MiB, 1GiB"
		}
		return v, bounds(v, tag, func(s string) int64 { v, _ := parseSize(s); return v }), ""
	})
}

func bounds[T int | int64 | time.Duration](v T, tag reflect.StructTag, parse func(string) T) (cause string) {
	low, high := tag.Get("min"), tag.Get("max")
	switch {
	case low != "" && v < parse(low):
		return "must be at least " + low
	case high != "" && v > parse(high):
		return "must be at most " + high
	}
	return ""
}

// path is a file; the value is absolute, or "" when none was named. With the tag `credential` it may be a credential, whose name is kept.
type path struct {
	scalar
	value      string
	credential string
}

func (f *path) bind(r *reading, p place, tag reflect.StructTag, n ast.Node) {
	if !f.read(r, p, tag, n) {
		return
	}
	if name, ok := strings.CutPrefix(f.text, "credential:"); ok && tag.Get("credential") != "" {
		if f.value = r.credential(f.scalar, name); f.value != "" {
			f.credential = name
		}
		return
	}
	f.value = r.path(f.scalar)
}

// path returns the absolute path that s names.
func (r *reading) path(s scalar) string {
	scheme, _, _ := strings.Cut(s.text, ":")
	switch {
	case s.text == "":
		return ""
	case scheme == "credential":
		r.fail(s.place, "must be a path: a credential stands for a file that the daemon only reads", "write the path")
	case scheme == "pkcs11" || scheme == "tpm":
		r.fail(s.place, scheme+": addresses are not supported by this version", "write the path of a file")
	case strings.Contains(s.text, "://"):
		r.fail(s.place, "must be a path, not a URL", "write the path of a file")
	case strings.HasPrefix(s.text, "~"):
		r.fail(s.place, `must be a path: "~" is not expanded`, "write the directory out")
	case len(s.text) > 4095:
		r.fail(s.place, "the path is too long", "")
	case bareKey(s.text):
		r.fail(s.place, "looks like the content of a key or certificate, not like a path", "keys and certificates are files, never YAML values: write the path")
	case filepath.IsAbs(s.text):
		return filepath.Clean(s.text)
	default:
		return filepath.Join(r.directory, s.text)
	}
	return ""
}

// bareKey reports whether s looks like the base64 of DER without its PEM armour.
// As a file name it would stand in every error about the file.
func bareKey(s string) bool {
	s = strings.Join(strings.Fields(s), "")
	return len(s) >= 60 && strings.HasPrefix(s, "M") && strings.Trim(s, base64Digits) == ""
}

const base64Digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="

// ParseDuration reads a duration as the configuration and the flags write it: whole numbers with the units d, h, m, s
// and ms, from large to small, such as 90d, 1d12h or 10s. A day has 24 hours. A number without a unit is an error.
func ParseDuration(s string) (time.Duration, error) {
	d, cause := parseDuration(s)
	if cause != "" {
		return 0, fmt.Errorf("parse duration %q: %s", s, cause)
	}
	return d, nil
}

func parseDuration(s string) (total time.Duration, cause string) {
	units := []struct {
		name string
		unit time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}, {"ms", time.Millisecond}}
	if s == "" {
		return 0, "must be a duration"
	}
	for next := 0; s != ""; {
		n, name, rest, cause := quantity(s)
		if cause != "" {
			return 0, "must be a duration" + cause
		}
		i := next
		for i < len(units) && units[i].name != name {
			i++
		}
		if i == len(units) {
			return 0, "must be a duration with the units d, h, m, s, ms, each once and from large to small"
		}
		if n > int64((math.MaxInt64-total)/units[i].unit) {
			return 0, "must be a duration of less than 292 years"
		}
		total, s, next = total+time.Duration(n)*units[i].unit, rest, i+1
	}
	return total, ""
}

// ParseSize reads a number of bytes as the configuration writes it: a whole number with one of the units B, KiB, MiB
// and GiB. A number without a unit is an error.
func ParseSize(s string) (int64, error) {
	n, cause := parseSize(s)
	if cause != "" {
		return 0, fmt.Errorf("parse size %q: %s", s, cause)
	}
	return n, nil
}

func parseSize(s string) (bytes int64, cause string) {
	n, name, rest, cause := quantity(s)
	if cause != "" {
		return 0, "must be a size" + cause
	}
	shift, ok := map[string]int{"B": 0, "KiB": 10, "MiB": 20, "GiB": 30}[name]
	if !ok || rest != "" {
		return 0, "must be a size with one of the units B, KiB, MiB, GiB"
	}
	if n > math.MaxInt64>>shift {
		return 0, "must be a size of less than 8 EiB"
	}
	return n << shift, ""
}

// quantity takes one number and its unit from the front of s.
func quantity(s string) (n int64, unit, rest, cause string) {
	digits := len(s) - len(strings.TrimLeft(s, "0123456789"))
	if digits == 0 {
		return 0, "", "", ", which begins with a whole number"
	}
	n, err := strconv.ParseInt(s[:digits], 10, 64)
	if err != nil {
		return 0, "", "", " with a smaller number"
	}
	s = s[digits:]
	letters := len(s) - len(strings.TrimLeftFunc(s, unicode.IsLetter))
	if letters == 0 {
		return 0, "", "", " with a unit"
	}
	return n, s[:letters], s[letters:], ""
}
