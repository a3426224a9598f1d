package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func rehearseWith(t *testing.T, mode string, o RehearseOptions) (Result, string, error) {
	t.Helper()
	t.Setenv(fakeVariable, mode)
	var out bytes.Buffer
	o.Daemon, o.Program, o.Out = os.Args[0], "spinecert", &out
	r, err := Rehearse(t.Context(), o)
	return r, out.String(), err
}

func TestRehearse(t *testing.T) {
	for _, profile := range []string{ProfileG1, ProfileG2} {
		t.Run(profile, func(t *testing.T) {
			r, out, err := rehearseWith(t, fakeGood, RehearseOptions{Rotations: 24, Options: Options{Duration: 3 * time.Second, Profile: profile}})
			if err != nil {
				t.Fatal(err)
			}
			if !r.Passed() {
				t.Errorf("problems %q%s\n%s", r.Problems, joined(r.Causes), out)
			}
			if r.Rotations != 24 || r.RefusedRotations != 3 || r.LatencyMS.Samples != 24 {
				t.Errorf("rotations %d, refused %d, samples %d; want 24, 3, 24", r.Rotations, r.RefusedRotations, r.LatencyMS.Samples)
			}
			if r.Requests < 100 || r.Resumed < 20 || r.Connections <= r.Resumed {
				t.Errorf("requests %d, connections %d, resumed %d: too little traffic of some kind", r.Requests, r.Connections, r.Resumed)
			}
			if r.LatencyMS.P50 <= 0 || r.LatencyMS.P99 < r.LatencyMS.P50 || r.LatencyMS.Max < r.LatencyMS.P99 {
				t.Errorf("latency %+v is no distribution", r.LatencyMS)
			}
		})
	}
}

func TestRehearseNotices(t *testing.T) {
	for _, test := range []struct{ name, mode, want string }{
		{"broken served", fakeGullible, "showed a broken identity"},
		{"lost connections", fakeLossy, "requests failed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			// The first two broken ones are torn; the third is expired.
			r, out, err := rehearseWith(t, test.mode, RehearseOptions{Rotations: 21, Options: Options{Duration: 2 * time.Second}})
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(strings.Join(r.Problems, "\n"), test.want) {
				t.Errorf("problems %q do not say %q%s\n%s", r.Problems, test.want, joined(r.Causes), out)
			}
		})
	}
}

func TestRunSleepingDaemon(t *testing.T) {
	// The picture ends in the middle of a rotation that never comes.
	t.Setenv(fakeVariable, fakeAsleep)
	s, err := Run(t.Context(), Options{Duration: time.Second, RotateEvery: 300 * time.Millisecond, Daemon: os.Args[0]})
	if err != nil || s.Rotations != 0 || !s.Passed() {
		t.Errorf("rotations %d, failed %d, error %v; want none%s", s.Rotations, s.Failed, err, joined(s.Causes))
	}
}

func TestRun(t *testing.T) {
	t.Setenv(fakeVariable, fakeGood)
	dir := filepath.Join(t.TempDir(), "box")
	var out bytes.Buffer
	s, err := Run(t.Context(), Options{Dir: dir, Duration: 2 * time.Second, RotateEvery: 300 * time.Millisecond, Daemon: os.Args[0], Program: "bin/spinecert", Out: &out})
	if err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	if !s.Passed() || s.Rotations < 2 || s.Directory != dir {
		t.Errorf("summary %+v\n%s", s, &out)
	}
	var f facts
	text, err := os.ReadFile(filepath.Join(dir, "sandbox.json"))
	if err == nil {
		err = json.Unmarshal(text, &f)
	}
	if err != nil || f.Socket == "" || len(f.Commands) == 0 || f.Listeners[providerTunnel] == "" {
		t.Errorf("sandbox.json: %v\n%s", err, text)
	}
	for _, want := range append(f.Commands, f.Directory, "provider rotated", "stand-in rotated", "failed 0") {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output does not say %q:\n%s", want, &out)
		}
	}
	// A second time in the same directory, ended by its caller.
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := Run(ctx, Options{Dir: dir, Daemon: os.Args[0]}); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("second run: %v", err)
	}
}

func TestRunLeavesNothing(t *testing.T) {
	t.Setenv(fakeVariable, fakeGood)
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	s, err := Run(t.Context(), Options{Duration: 500 * time.Millisecond, Daemon: os.Args[0]})
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(temp)
	if err != nil || len(entries) != 0 || s.Directory != "" {
		t.Errorf("left behind %v (%v), directory %q", entries, err, s.Directory)
	}
}

func TestRunDaemonDies(t *testing.T) {
	t.Setenv(fakeVariable, fakeDies)
	t.Setenv("TMPDIR", t.TempDir())
	_, err := Run(t.Context(), Options{Duration: time.Second, Daemon: os.Args[0]})
	if err == nil || !strings.Contains(err.Error(), "no such configuration") {
		t.Errorf("error %v does not quote the log of the daemon", err)
	}
}

func TestUsage(t *testing.T) {
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	rehearse := func(o RehearseOptions) func(context.Context) error {
		return func(ctx context.Context) error { _, err := Rehearse(ctx, o); return err }
	}
	run := func(o Options) func(context.Context) error {
		return func(ctx context.Context) error { _, err := Run(ctx, o); return err }
	}
	for _, test := range []struct {
		name, want string
		call       func(context.Context) error
	}{
		{"negative revocations", "possible", rehearse(RehearseOptions{Rotations: 1, Revocations: -1})},
		{"too many revocations", "possible", rehearse(RehearseOptions{Rotations: 1, Revocations: MaxRevocations + 1})},
		{"revocations in a scenario", "scenario", rehearse(RehearseOptions{Revocations: 1, Scenario: ScenarioG2})},
		{"scenario", "unknown", rehearse(RehearseOptions{Rotations: 1, Scenario: "g3"})},
		{"scenario from its end", "begins with g1", rehearse(RehearseOptions{Scenario: ScenarioG2, Options: Options{Profile: ProfileG2}})},
		{"services", "not supported by this version", rehearse(RehearseOptions{Rotations: 1, Services: []string{"nginx"}})},
		{"no rotations", "at least one", rehearse(RehearseOptions{})},
		{"profile", "unknown", run(Options{Profile: "g3", Daemon: os.Args[0]})},
		{"negative", "negative", run(Options{Duration: -1, Daemon: os.Args[0]})},
		{"no daemon beside", "spinecertd", run(Options{})},
		{"no such daemon", "no such file", run(Options{Daemon: "bin/nothing"})},
		{"directory in use", "not empty", run(Options{Dir: full, Daemon: os.Args[0]})},
		{"long path", "too long", run(Options{Dir: filepath.Join(t.TempDir(), strings.Repeat("d", 100)), Daemon: os.Args[0]})},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := test.call(t.Context())
			if !errors.Is(err, ErrUsage) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v; want a usage error that says %q", err, test.want)
			}
			var hint interface{ Hint() string }
			if !errors.As(err, &hint) || hint.Hint() == "" {
				t.Errorf("error %v has no hint", err)
			}
		})
	}
	if _, err := os.Stat(filepath.Join(full, "file")); errors.Is(err, fs.ErrNotExist) {
		t.Error("a file of the user is gone")
	}
}
