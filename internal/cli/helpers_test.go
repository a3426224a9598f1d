package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares with a file below testdata/golden.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "golden", name)
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got), -update writes it anew:\n%s", path, diff)
	}
}

// run calls Main and returns the exit status and what it wrote.
func run(t *testing.T, args ...string) (exit int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	exit = Main(context.Background(), "test", args, strings.NewReader(""), &out, &errs)
	return exit, out.String(), errs.String()
}

// verifyJSON runs verify with --output json and decodes its line.
func verifyJSON(t *testing.T, args ...string) (exit int, result verifyResult, fault envelopeError) {
	t.Helper()
	exit, out, _ := run(t, append([]string{"verify", "--output", "json"}, args...)...)
	var e struct {
		Exit   int
		Result verifyResult
		Error  envelopeError
	}
	if err := json.Unmarshal([]byte(out), &e); err != nil {
		t.Fatalf("stdout is no JSON: %v\n%s", err, out)
	}
	if e.Exit != exit {
		t.Errorf("exit status %d, but the line says %d", exit, e.Exit)
	}
	return exit, e.Result, e.Error
}

// need skips the test, or fails it where CI must have what it needs.
func need(t *testing.T, ok bool, what string) {
	t.Helper()
	switch {
	case ok:
	case os.Getenv("CI") != "":
		t.Fatalf("%s: CI must have it", what)
	default:
		t.Skip(what)
	}
}

func text(r report) string {
	p := &page{}
	r.show(p)
	return p.buffer.String()
}
