package daemon

import (
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// writers are the two functions that write a line: the event comes first, then the level.
var writers = []string{"record1", "writeLine"}

// lineOf is one place in the code that writes lines.
type lineOf struct {
	place  string
	events []string
	keys   []string
	levels []slog.Level
}

// lineCode is what the code of this package says of the log.
type lineCode struct {
	lines []lineOf
	keys  []string // of all attributes that are made anywhere
}

// of returns what the lines of an event have, and whether only it is written there.
func (c *lineCode) of(event string) (keys []string, levels []slog.Level, exact bool) {
	exact = true
	for _, w := range c.lines {
		if slices.Contains(w.events, event) {
			keys, levels = append(keys, w.keys...), append(levels, w.levels...)
			exact = exact && len(w.events) == 1
		}
	}
	return keys, levels, exact
}

// readLines reads the syntax tree of this package. It fails the test where a line is written past the writers, or with an event that is
// neither a constant nor a kind that it knows.
func readLines(t *testing.T) *lineCode {
	t.Helper()
	r := reader{t: t, fset: token.NewFileSet(), consts: map[string]string{}, funcs: map[string]*ast.FuncDecl{}, kinds: map[string][]string{
		"record":         words(t, "../../rotate/event.go", func(_, typ string) bool { return typ == "EventKind" }),
		"onManage":       words(t, "../manage/manager.go", func(_, typ string) bool { return typ == "EventKind" }),
		"recordDelivery": words(t, "../deliver/deliver.go", func(_, typ string) bool { return typ == "EventKind" }),
		"onInbox":        prefixed("inbox_", words(t, "../inbox/event.go", func(_, typ string) bool { return typ == "Kind" })),
		"recordTrouble":  prefixed("tunnel_", words(t, "../tunnel/observer.go", func(_, typ string) bool { return typ == "TroubleKind" })),
		"logAlert":       prefixed("alert_", words(t, "../alert/message.go", func(_, typ string) bool { return typ == "Event" })),
		"recordRefusal":  append(prefixed("handshake_", without(words(t, "../tunnel/observer.go", func(_, typ string) bool { return typ == "Result" }), "accepted")), eventCut),
	}}
	for name, kinds := range r.kinds {
		if len(kinds) < 3 {
			t.Fatalf("found only the kinds %q of %s", kinds, name)
		}
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(r.fset, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		r.note(f)
	}
	for _, name := range writers {
		if r.funcs[name] == nil {
			t.Fatalf("there is no function %s", name)
		}
	}
	out := &lineCode{}
	for name, f := range r.funcs {
		out.keys = append(out.keys, r.keysIn(f)...)
		r.guard(name, f)
		for _, call := range r.writes(f) {
			out.lines = append(out.lines, r.line(f, call))
		}
	}
	if len(out.lines) < 15 {
		t.Fatalf("found only %d places that write lines", len(out.lines))
	}
	return out
}

func prefixed(prefix string, in []string) []string {
	out := make([]string, 0, len(in))
	for _, s := range in {
		out = append(out, prefix+s)
	}
	return out
}

func without(in []string, one string) []string {
	return slices.DeleteFunc(in, func(s string) bool { return s == one })
}

type reader struct {
	t      *testing.T
	fset   *token.FileSet
	consts map[string]string
	funcs  map[string]*ast.FuncDecl
	kinds  map[string][]string // the events of functions that write a kind of another package
}

func (r *reader) note(f *ast.File) {
	for _, decl := range f.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Body != nil && !(d.Recv != nil && r.funcs[d.Name.Name] != nil && !isDaemon(d)) {
				r.funcs[d.Name.Name+suffix(d)] = d
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				v, ok := spec.(*ast.ValueSpec)
				if !ok || d.Tok != token.CONST || len(v.Values) != 1 {
					continue
				}
				if s, ok := stringOf(v.Values[0]); ok {
					r.consts[v.Names[0].Name] = s
				}
			}
		}
	}
}

// suffix tells methods of other types than Daemon apart.
func suffix(f *ast.FuncDecl) string {
	if f.Recv == nil || isDaemon(f) {
		return ""
	}
	typ := f.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	if id, ok := typ.(*ast.Ident); ok {
		return "@" + id.Name
	}
	return "@"
}

func isDaemon(f *ast.FuncDecl) bool {
	if f.Recv == nil {
		return false
	}
	star, ok := f.Recv.List[0].Type.(*ast.StarExpr)
	if !ok {
		return false
	}
	id, ok := star.X.(*ast.Ident)
	return ok && id.Name == "Daemon"
}

func stringOf(e ast.Expr) (string, bool) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	s, err := strconv.Unquote(lit.Value)
	return s, err == nil
}

// called is the name of what a call calls: d.record1 is record1.
func called(call *ast.CallExpr) string {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		return f.Sel.Name
	}
	return ""
}

// slogName is x of slog.x.
func slogName(n ast.Node) string {
	if s, ok := n.(*ast.SelectorExpr); ok {
		if pkg, ok := s.X.(*ast.Ident); ok && pkg.Name == "slog" {
			return s.Sel.Name
		}
	}
	return ""
}

// attrMakers are what makes an attribute, of the key that comes first.
var attrMakers = []string{"String", "Int", "Int64", "Uint64", "Float64", "Bool", "Time", "Duration", "Any", "Group"}

// harmless are the other things of slog that a line can be made with.
var harmless = []string{"Attr", "Level", "LevelVar", "Logger", "HandlerOptions", "New", "NewTextHandler", "NewJSONHandler", "LevelDebug", "LevelInfo", "LevelWarn", "LevelError"}

// guard fails the test where a line is written past the writers.
func (r *reader) guard(name string, f *ast.FuncDecl) {
	ast.Inspect(f.Body, func(n ast.Node) bool {
		if used := slogName(n); used != "" && !slices.Contains(attrMakers, used) && !slices.Contains(harmless, used) {
			r.t.Errorf("%s: slog.%s: lines are written by %q alone", r.at(n), used, writers)
		}
		if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "log" && name != "newDaemon" && name != "closeLog" && !slices.Contains(writers, name) {
			if x, ok := s.X.(*ast.Ident); ok && isDaemon(f) && x.Name == f.Recv.List[0].Names[0].Name {
				r.t.Errorf("%s: the log is written by %q alone", r.at(n), writers)
			}
		}
		return true
	})
}

func (r *reader) at(n ast.Node) string { return r.fset.Position(n.Pos()).String() }

// writes returns the calls of the writers in a function.
func (r *reader) writes(f *ast.FuncDecl) []*ast.CallExpr {
	var out []*ast.CallExpr
	ast.Inspect(f.Body, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok && slices.Contains(writers, called(call)) {
			out = append(out, call)
		}
		return true
	})
	return out
}

// keysIn returns the keys of the attributes that are made in a node.
func (r *reader) keysIn(n ast.Node) []string {
	var out []string
	ast.Inspect(n, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || !slices.Contains(attrMakers, slogName(call.Fun)) || len(call.Args) == 0 {
			return true
		}
		key, ok := stringOf(call.Args[0])
		if !ok {
			r.t.Errorf("%s: the key of an attribute is no string literal", r.at(call))
		}
		out = append(out, key)
		return true
	})
	return without(out, "event")
}

func levelsIn(n ast.Node) []slog.Level {
	var out []slog.Level
	ast.Inspect(n, func(n ast.Node) bool {
		if l, ok := map[string]slog.Level{"LevelDebug": lDebug, "LevelInfo": lInfo, "LevelWarn": lWarn, "LevelError": lError}[slogName(n)]; ok {
			out = append(out, l)
		}
		return true
	})
	return out
}

// line reads one call of a writer. What is not written in the call itself is looked for in the function, and in
// those that it has make levels or attributes.
func (r *reader) line(f *ast.FuncDecl, call *ast.CallExpr) lineOf {
	w := lineOf{place: r.at(call) + " (" + f.Name.Name + ")", events: r.eventsOf(f, call.Args[0])}
	var others []ast.Node // the rest of the function, without what stands in other lines
	ast.Inspect(f.Body, func(n ast.Node) bool {
		c, ok := n.(*ast.CallExpr)
		if ok && c != call && slices.Contains(writers, called(c)) {
			others = append(others, c)
		}
		return true
	})
	around := []ast.Node{f.Body}
	ast.Inspect(f.Body, func(n ast.Node) bool {
		if c, ok := n.(*ast.CallExpr); ok {
			if helper := r.funcs[called(c)]; helper != nil && makesLines(helper) {
				around = append(around, helper.Body)
			}
		}
		return true
	})
	w.levels = levelsIn(call.Args[1])
	if id, ok := call.Args[1].(*ast.Ident); ok && isParameter(f, id.Name) {
		w.levels = r.levelsOfCallers(f)
	} else if ok {
		for _, n := range around {
			w.levels = append(w.levels, levelsIn(n)...)
		}
		for _, other := range others {
			w.levels = subtract(w.levels, levelsIn(other))
		}
	}
	for _, arg := range call.Args[2:] {
		w.keys = append(w.keys, r.keysIn(arg)...)
	}
	if _, variable := call.Args[len(call.Args)-1].(*ast.Ident); variable || call.Ellipsis.IsValid() {
		w.keys = nil
		for _, n := range around {
			w.keys = append(w.keys, r.keysIn(n)...)
		}
		for _, other := range others {
			w.keys = subtract(w.keys, r.keysIn(other))
		}
	}
	return w
}

func subtract[T comparable](from, these []T) []T {
	for _, one := range these {
		if i := slices.Index(from, one); i >= 0 {
			from = slices.Delete(from, i, i+1)
		}
	}
	return from
}

// makesLines reports whether a function returns a level or attributes.
func makesLines(f *ast.FuncDecl) bool {
	if f.Type.Results == nil {
		return false
	}
	for _, result := range f.Type.Results.List {
		typ := result.Type
		if list, ok := typ.(*ast.ArrayType); ok {
			typ = list.Elt
		}
		if name := slogName(typ); name == "Level" || name == "Attr" {
			return true
		}
	}
	return false
}

func isParameter(f *ast.FuncDecl, name string) bool { return parameter(f, name) >= 0 }

// parameter is the place of a parameter, or -1.
func parameter(f *ast.FuncDecl, name string) int {
	i := 0
	for _, field := range f.Type.Params.List {
		for _, n := range field.Names {
			if n.Name == name {
				return i
			}
			i++
		}
	}
	return -1
}

// callers calls do with each call of a function, and the function that it stands in.
func (r *reader) callers(f *ast.FuncDecl, do func(in *ast.FuncDecl, call *ast.CallExpr)) {
	for _, in := range r.funcs {
		ast.Inspect(in.Body, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && called(call) == f.Name.Name {
				do(in, call)
			}
			return true
		})
	}
}

func (r *reader) levelsOfCallers(f *ast.FuncDecl) (out []slog.Level) {
	r.callers(f, func(in *ast.FuncDecl, _ *ast.CallExpr) { out = append(out, levelsIn(in.Body)...) })
	return out
}

// eventsOf returns the names that an expression can have.
func (r *reader) eventsOf(f *ast.FuncDecl, e ast.Expr) []string {
	if s, ok := stringOf(e); ok {
		return []string{s}
	}
	if kinds := r.kinds[f.Name.Name]; kinds != nil {
		return kinds
	}
	id, ok := e.(*ast.Ident)
	if ok && r.consts[id.Name] != "" {
		return []string{r.consts[id.Name]}
	}
	var out []string
	if ok && isParameter(f, id.Name) {
		r.callers(f, func(in *ast.FuncDecl, call *ast.CallExpr) {
			out = append(out, r.eventsOf(in, call.Args[parameter(f, id.Name)])...)
		})
	}
	if len(out) == 0 {
		r.t.Errorf("%s: the event is no constant, and no kind that this test knows", r.at(e))
	}
	return out
}
