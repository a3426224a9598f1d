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
	"sync"
	"testing"
	"time"
)

func rehearseWith(t *testing.T, mode string, o RehearseOptions) (Result, string, error) {
	t.Helper()
	var out bytes.Buffer
	o.Options = faked(t, mode, o.Options)
	o.Program, o.Out = "spinecert", &out
	r, err := Rehearse(t.Context(), o)
	return r, out.String(), err
}

// faked are options of a sandbox whose daemon is this test binary.
func faked(t *testing.T, mode string, o Options) Options {
	t.Helper()
	o.Daemon, o.environ, o.pool, o.patience = os.Args[0], []string{fakeVariable + "=" + mode}, must(t, sharedKeys), time.Minute
	return o
}

// sharedKeys are made once: they take longer than what is done with them.
var sharedKeys = sync.OnceValues(func() (*keyPool, error) { return newKeyPool(poolSize) })

func TestRehearse(t *testing.T) {
	for _, profile := range []string{ProfileG1, ProfileG2} {
		t.Run(profile, func(t *testing.T) {
			t.Parallel()
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
			t.Parallel()
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
	t.Parallel()
	s, err := Run(t.Context(), faked(t, fakeAsleep, Options{Duration: time.Second, RotateEvery: 300 * time.Millisecond}))
	if err != nil || s.Rotations != 0 || !s.Passed() {
		t.Errorf("rotations %d, failed %d, error %v; want none%s", s.Rotations, s.Failed, err, joined(s.Causes))
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "box")
	out := &watchedOutput{}
	first, end := context.WithCancel(t.Context())
	defer end()
	said := out.expect("stand-in rotated")
	go func() {
		select {
		case <-said: // everything else has taken its turn before
			end()
		case <-first.Done():
		}
	}()
	s, err := Run(first, faked(t, fakeGood, Options{Dir: dir, Duration: time.Minute, RotateEvery: 300 * time.Millisecond, Program: "bin/spinecert", Out: out}))
	if err != nil {
		t.Fatalf("%v\n%s", err, &out.text)
	}
	if !s.Passed() || s.Rotations < 2 || s.Directory != dir {
		t.Errorf("summary %+v\n%s", s, &out.text)
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
		if !strings.Contains(out.text.String(), want) {
			t.Errorf("the output does not say %q:\n%s", want, &out.text)
		}
	}
	// A second time in the same directory, ended by its caller.
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := Run(ctx, faked(t, fakeGood, Options{Dir: dir})); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("second run: %v", err)
	}
}

func TestRunLeavesNothing(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	s, err := Run(t.Context(), faked(t, fakeGood, Options{Duration: 500 * time.Millisecond}))
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(temp)
	if err != nil || len(entries) != 0 || s.Directory != "" {
		t.Errorf("left behind %v (%v), directory %q", entries, err, s.Directory)
	}
}

func TestRunDaemonDies(t *testing.T) {
	t.Parallel()
	_, err := Run(t.Context(), faked(t, fakeDies, Options{Duration: time.Second}))
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
		{"unknown service", "unknown", rehearse(RehearseOptions{Rotations: 1, Services: []string{"apache"}})},
		{"a service twice", "named twice", rehearse(RehearseOptions{Rotations: 1, Services: []string{"nginx", "nginx"}})},
		{"services in a scenario", "scenario", rehearse(RehearseOptions{Services: []string{"nginx"}, Scenario: ScenarioG2})},
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
