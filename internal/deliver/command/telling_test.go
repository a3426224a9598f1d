package command

import (
	"slices"
	"testing"
)

// The line that says what is wrong is quoted, wherever the program prints it.
func TestTelling(t *testing.T) {
	for _, tt := range []struct {
		name        string
		lines, want []string
	}{
		{"HAProxy", []string{"[NOTICE] version 2.6", "[ALERT] parsing [a.cfg:15] : unknown keyword 'oops'", "[ALERT] Error(s) found in configuration file", "[ALERT] Fatal errors found"},
			[]string{"[ALERT] parsing [a.cfg:15] : unknown keyword 'oops'", "[ALERT] Fatal errors found"}},
		{"nginx", []string{"[emerg] open() \"x\" failed", "configuration file test failed"}, []string{"[emerg] open() \"x\" failed", "configuration file test failed"}},
		{"nothing of the kind", []string{"one", "two", "three"}, []string{"two", "three"}},
		{"the last alone", []string{"one", "two", "error"}, []string{"two", "error"}},
		{"one line", []string{"no"}, []string{"no"}},
	} {
		if got := telling(tt.lines); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
