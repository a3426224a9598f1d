package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The words are read from the source and not imported: some are private to their
// package, and internal/cli may not be imported from here.

// files parses the files of a package, without its tests.
func files(t *testing.T, dir string) []*ast.File {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(root, dir))
	if err != nil {
		t.Fatal(err)
	}
	var out []*ast.File
	set := token.NewFileSet()
	for _, e := range entries {
		if name := e.Name(); strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") {
			f, err := parser.ParseFile(set, filepath.Join(root, dir, name), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, f)
		}
	}
	return out
}

// constants returns the string constants of dir that pick chooses by name and type.
func constants(t *testing.T, dir string, pick func(name, typ string) bool) []string {
	t.Helper()
	var out []string
	for _, f := range files(t, dir) {
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.CONST {
				continue
			}
			for _, s := range g.Specs {
				v, ok := s.(*ast.ValueSpec)
				if !ok {
					continue
				}
				typ := ""
				if id, ok := v.Type.(*ast.Ident); ok {
					typ = id.Name
				}
				for i, name := range v.Names {
					if i < len(v.Values) && pick(name.Name, typ) {
						out = appendString(out, v.Values[i])
					}
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func appendString(out []string, e ast.Expr) []string {
	if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING {
		if s, err := strconv.Unquote(lit.Value); err == nil && s != "" {
			return append(out, s)
		}
	}
	return out
}

func trustReasons(t *testing.T) []string {
	return constants(t, "trust", func(_, typ string) bool { return typ == "Reason" })
}

// rotateReasons are the named words of package rotate, and those that are
// written out where a Refusal or an Event is made.
func rotateReasons(t *testing.T) []string {
	out := constants(t, "rotate", func(name, typ string) bool {
		return typ == "" && (strings.HasPrefix(strings.ToLower(name), "reason") || strings.HasPrefix(name, "Rule"))
	})
	for _, f := range files(t, "rotate") {
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.KeyValueExpr:
				if key, ok := n.Key.(*ast.Ident); ok && (key.Name == "Reason" || key.Name == "Rule") {
					out = appendString(out, n.Value)
				}
			case *ast.CallExpr:
				if f, ok := n.Fun.(*ast.Ident); ok && len(n.Args) > 0 && slices.Contains([]string{"pending", "watchLost", "lost"}, f.Name) {
					out = appendString(out, n.Args[0])
				}
			}
			return true
		})
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func tunnelReasons(t *testing.T) []string {
	return constants(t, "internal/tunnel", func(name, typ string) bool {
		return typ == "" && (strings.HasPrefix(name, "Limit") || name == "NotReady")
	})
}

func tunnelCauses(t *testing.T) []string {
	return constants(t, "internal/tunnel", func(name, _ string) bool { return strings.HasPrefix(name, "Cause") })
}

// guardRules are the words that guard.allow takes.
func guardRules(t *testing.T) []string {
	m := regexp.MustCompile(`yaml:"allow" enum:"([^"]+)"`).FindStringSubmatch(read(t, "internal/config/raw.go"))
	if m == nil {
		return nil
	}
	return strings.Split(m[1], "|")
}

// commands returns what `spinecert` can be followed by, and what will come later.
// Subcommands are not told from commands: both stand after the program's name or
// after their parent's.
func commands(t *testing.T) (have []string) {
	t.Helper()
	for _, f := range files(t, "internal/cli") {
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.KeyValueExpr:
				if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Use" {
					for _, use := range appendString(nil, n.Value) {
						have = append(have, strings.Fields(use)[0])
					}
				}
			}
			return true
		})
	}
	return have
}
