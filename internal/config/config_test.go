package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write golden files and the reference table anew")

// planted stands in fixtures where a secret could be, and in no golden file.
const planted = "hunter2"

func TestGood(t *testing.T) {
	for _, file := range fixtures(t, "good_*.yaml") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			c, err := Parse(read(t, file), "/etc/spinecert/"+filepath.Base(file))
			if err != nil {
				t.Fatalf("Parse: %v", err)
			}
			var out bytes.Buffer
			encoder := json.NewEncoder(&out)
			encoder.SetIndent("", "  ")
			encoder.SetEscapeHTML(false)
			if err := encoder.Encode(c); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(&out, "\nwarnings:")
			show(&out, c.Warnings())
			golden(t, file, out.Bytes())
		})
	}
}

func TestBad(t *testing.T) {
	for _, file := range fixtures(t, "bad_*.yaml") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			c, err := Parse(read(t, file), filepath.Base(file))
			problems, ok := errors.AsType[Problems](err)
			if !ok || c != nil {
				t.Fatalf("Parse = %v, %v, want Problems", c, err)
			}
			var out bytes.Buffer
			show(&out, problems)
			if strings.Contains(out.String(), planted) {
				t.Errorf("a secret is quoted:\n%s", &out)
			}
			golden(t, file, out.Bytes())
		})
	}
}

func show(out *bytes.Buffer, problems []Problem) {
	for _, p := range problems {
		fmt.Fprintln(out, p.Error())
		if p.Hint != "" {
			fmt.Fprintln(out, "    hint:", p.Hint)
		}
	}
}

func fixtures(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("no fixtures %s: %v", pattern, err)
	}
	return files
}

func read(t testing.TB, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	name := strings.TrimSuffix(file, filepath.Ext(file)) + ".golden"
	if *update {
		if err := os.WriteFile(name, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(string(read(t, name)), string(got)); diff != "" {
		t.Errorf("%s differs (-want +got), go test -update accepts it:\n%s", name, diff)
	}
}

func TestLoad(t *testing.T) {
	directory := t.TempDir()
	file := filepath.Join(directory, "spinecert.yaml")
	if err := os.WriteFile(file, []byte("environments: {live: {trust: [trust/live.pem]}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(directory)
	c, err := Load("spinecert.yaml")
	if err != nil {
		t.Fatal(err)
	}
	// The directory may be reached through a symlink, so what Getwd says counts.
	absolute, err := filepath.Abs("spinecert.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if c.File != absolute {
		t.Errorf("File = %q, want %q", c.File, absolute)
	}
	if got, want := c.Environments[0].Trust[0], filepath.Join(filepath.Dir(absolute), "trust/live.pem"); got != want {
		t.Errorf("trust = %q, want %q", got, want)
	}
}

func TestLoadUnreadable(t *testing.T) {
	directory := t.TempDir()
	_, err := Load(filepath.Join(directory, "none.yaml"))
	problems, ok := errors.AsType[Problems](err)
	if !ok || !errors.Is(err, fs.ErrNotExist) || problems.Hint() == "" {
		t.Errorf("missing file: %v, want Problems with fs.ErrNotExist and a hint", err)
	}
	if _, err := Load(directory); err == nil || !strings.Contains(err.Error(), "read configuration") {
		t.Errorf("directory: %v", err)
	}
	large := filepath.Join(directory, "large.yaml")
	if err := os.WriteFile(large, bytes.Repeat([]byte("# 34567\n"), maxFile/8+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(large); err == nil || !strings.Contains(err.Error(), "4 MiB") {
		t.Errorf("large file: %v", err)
	}
}

func TestProblemJSON(t *testing.T) {
	_, err := Parse([]byte("environments: {live: {trust: [a]}}\nlog: {level: loud}\n"), "f.yaml")
	got, err := json.Marshal(err)
	if err != nil {
		t.Fatal(err)
	}
	want := `[{"file":"f.yaml","line":2,"column":14,"key":"log.level","message":"must be debug, info, warn or error, not \"loud\""}]`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
}

// What is not supported, or wrong, is told once and everything else with it.
func TestEveryErrorAtOnce(t *testing.T) {
	data := strings.Replace(string(read(t, "testdata/good_relative.yaml")), "poll: 1s", "poll: 1", 1)
	data = strings.Replace(data, "peers: [\"*\"]", "peers: [A.test]\n    colour: blue", 1)
	data = strings.Replace(data, "level: debug", "level: loud", 1)
	_, err := Parse([]byte(data), "f.yaml")
	problems, _ := errors.AsType[Problems](err)
	var keys []string
	for _, p := range problems {
		keys = append(keys, p.Key)
	}
	want := []string{"slots.b-slot.watch.poll", "tunnels.in.peers[0]", "tunnels.in.colour", "log.level"}
	if diff := cmp.Diff(want, keys); diff != "" {
		t.Error(diff)
	}
}

func TestLookup(t *testing.T) {
	c, err := Parse(read(t, "testdata/good_relative.yaml"), "/etc/f.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if s, ok := c.Slot("a-slot"); !ok || s.Environment != "old" {
		t.Errorf("Slot = %+v, %v", s, ok)
	}
	if e, ok := c.Environment("one"); !ok || e.Profile != "private" {
		t.Errorf("Environment = %+v, %v", e, ok)
	}
	if _, ok := c.Slot("none"); ok {
		t.Error("Slot finds what is not there")
	}
	if _, ok := c.Environment("none"); ok {
		t.Error("Environment finds what is not there")
	}
	c.Warnings()[0].Message = "changed"
	if c.Warnings()[0].Message == "changed" {
		t.Error("a caller can change the warnings")
	}
}

// A FIFO once held up a reload, and every reload after it, until somebody wrote to it.
func TestLoadDoesNotWaitForAFIFO(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spinecert.yaml")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Load(path)
	if err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("Load of a FIFO: %v", err)
	}
}
