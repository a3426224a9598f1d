package config

import (
	"cmp"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// A reading collects what is wrong while one file is read.
type reading struct {
	file      string // as shown
	directory string // what relative paths are relative to
	problems  Problems
	warnings  Problems
	wrong     map[string]bool // keys with a problem: one each is enough
	broken    map[string]bool // keys of the wrong kind: what is missing below them is no news
	users     []text          // of allow_users, for Load to look up
	sinks     []*rawSink      // with files, for Load to look at

	credentials string       // directory of the credentials
	taken       []Credential // of them, those that are named
}

// A place is a key and where it, or its value, stands. An absent key has the place of its parent.
type place struct {
	key          string
	line, column int
}

func (p place) child(name string) place {
	if p.key != "" {
		name = p.key + "." + name
	}
	return place{name, p.line, p.column}
}

func (p place) item(i int) place {
	return place{p.key + "[" + strconv.Itoa(i) + "]", p.line, p.column}
}

func (p place) at(n ast.Node) place {
	if block, ok := n.(*ast.MappingNode); ok && !block.IsFlowStyle && len(block.Values) > 0 {
		n = block.Values[0].Key // the token of the mapping itself is a colon
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		p.line, p.column = t.Position.Line, t.Position.Column
	}
	return p
}

// written says of a mapping that its key stands in the file, be it without any content.
type written bool

// secret says that the key may hold a secret, or did once somebody wrote a password where its file belongs.
func (p place) secret() bool {
	key := strings.ToLower(p.key[strings.LastIndexByte(p.key, '.')+1:])
	return slices.ContainsFunc([]string{"pass", "secret", "token", "url", "proxy", "pin", "credential"}, func(word string) bool {
		return strings.Contains(key, word)
	}) && !strings.HasPrefix(key, "proxy_protocol")
}

// not returns `, not "text"` to end a message with, or nothing where the text may be a secret or is no plain word.
func (p place) not(text string) string {
	if p.secret() || !plain(text) {
		return ""
	}
	return `, not "` + text + `"`
}

func plain(text string) bool {
	return len(text) <= 80 && !strings.Contains(text, "://") && !strings.ContainsFunc(text, func(c rune) bool {
		return c <= ' ' || c > '~' || strings.ContainsRune("\"\\@=?&;$", c)
	})
}

// fail records a problem, unless the key has one already or lies below one that is broken.
func (r *reading) fail(p place, message, hint string) {
	if r.wrong[p.key] || r.below(p.key) {
		return
	}
	r.wrong[p.key] = true
	r.problems = append(r.problems, r.problem(p, message, hint))
}

// shape records that the value of a key is of the wrong kind.
func (r *reading) shape(p place, message, hint string) {
	r.fail(p, message, hint)
	r.broken[p.key] = true
}

func (r *reading) warn(p place, message, hint string) {
	r.warnings = append(r.warnings, r.problem(p, message, hint))
}

func (r *reading) problem(p place, message, hint string) Problem {
	return Problem{File: r.file, Line: p.line, Column: p.column, Key: p.key, Message: message, Hint: hint}
}

func (r *reading) below(key string) bool {
	for {
		i := strings.LastIndexAny(key, ".[")
		if i < 0 {
			return false
		}
		if key = key[:i]; r.broken[key] {
			return true
		}
	}
}

func (r *reading) unsupported(p place) {
	r.shape(p, "not supported by this version", "remove it; docs/configuration.md lists what this version supports")
}

// A value is a raw type that binds itself to a node of the syntax tree. n is nil when the key is absent, and tag is the
// tag of the struct field, which holds default and limits.
type value interface {
	bind(r *reading, p place, tag reflect.StructTag, n ast.Node)
}

func (r *reading) value(v reflect.Value, p place, tag reflect.StructTag, n ast.Node) {
	if self, ok := v.Addr().Interface().(value); ok {
		self.bind(r, p, tag, n)
		return
	}
	r.structure(v, p, n)
}

// structure binds a mapping to a raw struct. Absent keys are bound as well, so that every field knows its place.
func (r *reading) structure(v reflect.Value, p place, n ast.Node) {
	entries := r.mapping(p, n)
	names, usable := keys(v.Type())
	for _, e := range entries {
		if !slices.Contains(names, e.name) {
			r.unknown(p, e, usable)
		}
	}
	for i := range v.NumField() {
		field := v.Type().Field(i)
		switch field.Type {
		case reflect.TypeFor[place]():
			v.Field(i).Set(reflect.ValueOf(p))
			continue
		case reflect.TypeFor[written]():
			v.Field(i).SetBool(n != nil)
			continue
		}
		name := field.Tag.Get("yaml")
		if e, ok := entries.find(name); ok {
			r.value(v.Field(i), e.place, field.Tag, e.node)
			continue
		}
		r.value(v.Field(i), p.child(name), field.Tag, nil)
	}
}

// keys returns the keys of a raw struct in order, and those of them that can be used.
func keys(t reflect.Type) (names, usable []string) {
	for i := range t.NumField() {
		field := t.Field(i)
		name := field.Tag.Get("yaml")
		if name == "" {
			continue
		}
		names = append(names, name)
		if field.Type != reflect.TypeFor[later]() {
			usable = append(usable, name)
		}
	}
	return names, usable
}

func (r *reading) unknown(parent place, e entry, usable []string) {
	near := nearest(e.name, usable)
	hint := "known here: " + strings.Join(usable, ", ")
	if near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
		r.wrong[parent.child(near).key] = true // not missing, misspelt
	}
	r.shape(e.place, "unknown key", hint)
}

// An entry is one key of a mapping; place is that of the key.
type entry struct {
	name  string
	place place
	node  ast.Node
}

type entries []entry

func (es entries) find(name string) (entry, bool) {
	i := slices.IndexFunc(es, func(e entry) bool { return e.name == name })
	if i < 0 {
		return entry{}, false
	}
	return es[i], true
}

// mapping returns the entries of n in the order of the file: none when n is absent or empty.
func (r *reading) mapping(p place, n ast.Node) entries {
	var es entries
	switch n := n.(type) {
	case nil, *ast.NullNode:
	case *ast.MappingNode:
		seen := make(map[string]int, len(n.Values))
		for _, pair := range n.Values {
			e, ok := r.entry(p, pair)
			if !ok {
				continue
			}
			if line, twice := seen[e.name]; twice {
				r.fail(e.place, fmt.Sprintf("the key is written twice, first on line %d", line), "remove one of the two")
				continue
			}
			seen[e.name] = e.place.line
			es = append(es, e)
		}
	default:
		r.shape(p.at(n), "must be a mapping of keys to values, not "+kind(n), "")
	}
	return es
}

// keyWords is what a key may look like to be repeated in a message: anything else may be text that lost its quotes.
var keyWords = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,63}$`)

func (r *reading) entry(p place, pair *ast.MappingValueNode) (entry, bool) {
	token := pair.Key.GetToken()
	name, ok := scalarText(pair.Key)
	if !ok || !keyWords.MatchString(name) {
		r.problems = append(r.problems, r.problem(p.at(pair.Key), "a key is not a plain word", "keys are made of letters, digits, '_' and '-'"))
		return entry{}, false
	}
	at := p.child(name)
	at.line, at.column = token.Position.Line, token.Position.Column
	return entry{name, at, pair.Value}, true
}

// kind names what stands where something else was expected.
func kind(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.NullNode:
		return "nothing"
	}
	return "a single value"
}

// scalarText returns the text of a scalar as it was written: 0660 stays 0660 and off stays off.
func scalarText(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return n.GetToken().Value, true
	}
	return "", false
}

// nearest returns the name that was probably meant, or "". Case, and '-' for '_', do not count.
func nearest(name string, names []string) string {
	fold := func(s string) string { return strings.ReplaceAll(strings.ToLower(s), "-", "_") }
	far := func(other string) int { return distance(fold(name), fold(other)) }
	best := slices.MinFunc(append([]string{""}, names...), func(a, b string) int { return cmp.Compare(far(a), far(b)) })
	if far(best) > min(2, (len(best)+1)/2) {
		return ""
	}
	return best
}

// distance is the number of letters to insert, remove or change (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		last := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := last
			if a[i] != b[j] {
				cost++
			}
			last = row[j+1]
			row[j+1] = min(cost, last+1, row[j]+1)
		}
	}
	return row[len(b)]
}
