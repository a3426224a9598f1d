package config

import (
	"reflect"
	"regexp"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// A list is a sequence. Its tag is that of its items as well; `default` is a list of words for the whole.
type list[T any] struct {
	place
	items []T
	set   bool
}

func (l *list[T]) bind(r *reading, p place, tag reflect.StructTag, n ast.Node) {
	l.place = p
	if n == nil {
		l.defaults(r, p, tag)
		return
	}
	sequence, ok := n.(*ast.SequenceNode)
	if !ok {
		if _, null := n.(*ast.NullNode); !null {
			l.place = p.at(n)
		}
		r.shape(l.place, "must be a list, not "+kind(n), `write the values in brackets: [a, b]; an empty list is []`)
		return
	}
	l.set = true
	l.items = make([]T, len(sequence.Values))
	for i, item := range sequence.Values {
		r.value(reflect.ValueOf(&l.items[i]).Elem(), p.item(i).at(item), itemTag(tag), item)
	}
}

func (l *list[T]) defaults(r *reading, p place, tag reflect.StructTag) {
	words := tag.Get("default")
	if words == "" {
		return
	}
	for i, word := range strings.Split(words, ",") {
		var item T
		r.value(reflect.ValueOf(&item).Elem(), p.item(i), reflect.StructTag(`default:"`+word+`"`), nil)
		l.items = append(l.items, item)
	}
}

// itemTag is the tag of the items of a list: an item has no default, so that "" among them is never taken for one.
func itemTag(tag reflect.StructTag) reflect.StructTag {
	var of strings.Builder
	for _, name := range []string{"enum", "later", "credential", "min", "max"} {
		of.WriteString(name + `:"` + tag.Get(name) + `" `)
	}
	return reflect.StructTag(of.String())
}

// A table is a mapping whose keys are names that the operator chose, in the order of the file.
type table[T any] struct {
	place
	rows []row[T]
}

type row[T any] struct {
	place
	name  string
	value T
}

// namePattern is what environments, slots and tunnels may be called: the names become directories and metric labels.
const namePattern = `^[a-z0-9][a-z0-9-]{0,62}$`

var nameWords = regexp.MustCompile(namePattern)

func (t *table[T]) bind(r *reading, p place, _ reflect.StructTag, n ast.Node) {
	t.place = p
	for _, e := range r.mapping(p, n) {
		if !nameWords.MatchString(e.name) {
			r.fail(e.place, "is no valid name", "a name has 1 to 63 of the characters a-z, 0-9 and '-', and does not begin with '-'")
		}
		one := row[T]{place: e.place, name: e.name}
		r.value(reflect.ValueOf(&one.value).Elem(), e.place, "", e.node)
		t.rows = append(t.rows, one)
	}
}

func (t *table[T]) has(name string) bool {
	for _, row := range t.rows {
		if row.name == name {
			return true
		}
	}
	return false
}

func (t *table[T]) names() []string {
	names := make([]string, len(t.rows))
	for i, row := range t.rows {
		names[i] = row.name
	}
	return names
}

// later is a key that the contract reserves and this version refuses.
type later struct{}

func (*later) bind(r *reading, p place, _ reflect.StructTag, n ast.Node) {
	if n != nil {
		r.unsupported(p)
	}
}

// automatic is the word auto, or a list.
type automatic struct{ list[text] }

func (a *automatic) bind(r *reading, p place, tag reflect.StructTag, n ast.Node) {
	a.place = p
	if n == nil {
		return
	}
	if word, ok := scalarText(n); ok {
		if word != "auto" {
			r.shape(p.at(n), "must be auto or a list"+p.not(word), "")
		}
		return
	}
	a.list.bind(r, p, "", n)
}

// A rawListener is HOST:PORT or unix:/path as one word, or a mapping for a socket that needs group and mode.
type rawListener struct {
	word   text
	socket rawSocket
	mapped bool
}

func (l *rawListener) bind(r *reading, p place, tag reflect.StructTag, n ast.Node) {
	if _, l.mapped = n.(*ast.MappingNode); l.mapped {
		r.structure(reflect.ValueOf(&l.socket).Elem(), p.at(n), n)
		return
	}
	l.word.bind(r, p, "", n)
}

// orNone is a mapping, or the word none.
type orNone[T any] struct {
	place
	none   bool // written as the word
	mapped bool // written as a mapping
	value  T
}

func (o *orNone[T]) bind(r *reading, p place, _ reflect.StructTag, n ast.Node) {
	o.place = p
	if n == nil {
		return
	}
	if o.none = r.none(p, n, "none or a mapping"); o.none {
		return
	}
	if _, o.mapped = n.(*ast.MappingNode); o.mapped {
		r.structure(reflect.ValueOf(&o.value).Elem(), p.at(n), n)
	}
}

// rawProbes is a probe, a list of them, or the word none.
type rawProbes struct {
	place
	set    bool // written, as one of the three
	listed bool
	items  []rawProbe
}

func (ps *rawProbes) bind(r *reading, p place, _ reflect.StructTag, n ast.Node) {
	ps.place = p
	if n == nil {
		return
	}
	if ps.set = r.none(p, n, "none, a mapping or a list of mappings"); ps.set {
		return
	}
	switch n := n.(type) {
	case *ast.MappingNode:
		ps.set, ps.items = true, make([]rawProbe, 1)
		r.structure(reflect.ValueOf(&ps.items[0]).Elem(), p.at(n), n)
	case *ast.SequenceNode:
		ps.set, ps.listed, ps.items = true, true, make([]rawProbe, len(n.Values))
		for i, item := range n.Values {
			r.structure(reflect.ValueOf(&ps.items[i]).Elem(), p.item(i).at(item), item)
		}
	}
}

// none reports whether n is the word none. What is neither this word nor a collection is a problem.
func (r *reading) none(p place, n ast.Node, choices string) bool {
	const hint = "if nothing is meant, write the word none"
	word, scalar := scalarText(n)
	switch n.(type) {
	case *ast.NullNode:
		r.shape(p, "the key has no value", hint)
	case *ast.SequenceNode:
		if !strings.Contains(choices, "list") {
			r.shape(p.at(n), "must be "+choices+", not a list", hint)
		}
	default:
		if scalar && word != "none" {
			r.shape(p.at(n), "must be "+choices+p.not(word), hint)
		}
	}
	return scalar && word == "none"
}
