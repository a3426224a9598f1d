package docs

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/spinecert/spinecert/pki/lint"
)

var update = flag.Bool("update", false, "write the tables of the manual anew")

const (
	lintPage  = "docs/lint.md"
	lintBegin = "<!-- rules: made from pki/lint by go test ./internal/docs -update -->\n"
	lintEnd   = "<!-- end of rules -->\n"
)

// lintTable is the table of rules as the manual has it.
func lintTable() string {
	var b strings.Builder
	b.WriteString("| rule | applies to | severity | what is asked | written in | do next |\n|---|---|---|---|---|---|\n")
	for _, r := range lint.Rules() {
		var targets []string
		for _, target := range r.Targets {
			targets = append(targets, string(target))
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s |\n", r.ID, strings.Join(targets, ", "), r.Severity, r.What, r.Source, r.Advice)
	}
	return b.String()
}

// TestLintTable: the table of rules in the manual is the one that the code has.
func TestLintTable(t *testing.T) {
	before, rest, ok := strings.Cut(read(t, lintPage), lintBegin)
	table, after, ok2 := strings.Cut(rest, lintEnd)
	if !ok || !ok2 {
		t.Fatalf("%s has lost the marks around the table", lintPage)
	}
	want := lintTable()
	if n := strings.Count(want, "\n"); n < 50 || strings.Count(want, "|") != 7*n {
		t.Fatalf("the table of %d lines is broken: is there a | in a cell?", n)
	}
	if *update {
		if err := os.WriteFile(filepath.Join(root, lintPage), []byte(before+lintBegin+want+lintEnd+after), 0o644); err != nil {
			t.Fatal(err)
		}
		table = want
	}
	if diff := cmp.Diff(want, table); diff != "" {
		t.Errorf("the table differs, go test -update makes it anew (-want +got):\n%s", diff)
	}
}
