package sandbox

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestRehearseChange(t *testing.T) {
	t.Parallel()
	r, out, err := rehearseWith(t, fakeGood, RehearseOptions{Rotations: 6, Scenario: ScenarioG2, Options: Options{Duration: 3 * time.Second}})
	if err != nil {
		t.Fatal(err)
	}
	if !r.Passed() {
		t.Errorf("problems %q%s\n%s", r.Problems, joined(r.Causes), out)
	}
	// Six on either side and two at the end; one broken one on each side, two at the end.
	if r.Rotations != 14 || r.RefusedRotations != 4 || r.Requests < 100 {
		t.Errorf("rotations %d, refused %d, requests %d; want 14, 4 and many", r.Rotations, r.RefusedRotations, r.Requests)
	}
	if len(r.Steps) != 4 || slices.ContainsFunc(r.Steps, func(s StepResult) bool { return !s.Done || len(s.Checks) == 0 }) {
		t.Errorf("steps %+v; want four that are done", r.Steps)
	}
}

// TestRehearseChangeNotices: a daemon that gets a step wrong does not pass, and the
// steps after it are not taken.
func TestRehearseChangeNotices(t *testing.T) {
	for _, test := range []struct {
		name, mode, want string
		done             int
	}{
		{"adds without a word", fakeNaive, "trust add shows the fingerprints and adds nothing", 1},
		{"does not see what breaks", fakeBlind, "trust diff says what would break", 1},
		{"drops without a word", fakeHasty, "trust files without the old CAs wait for a word", 3},
		{"never drops", fakeStubborn, "a peer of the old hierarchy is refused", 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r, out, err := rehearseWith(t, test.mode, RehearseOptions{Rotations: 1, Scenario: ScenarioG2, Options: Options{Duration: time.Second}})
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(strings.Join(r.Problems, "\n"), test.want) {
				t.Errorf("problems %q do not say %q%s\n%s", r.Problems, test.want, joined(r.Causes), out)
			}
			if len(r.Steps) != 4 {
				t.Fatalf("steps %+v", r.Steps)
			}
			for i, s := range r.Steps {
				if s.Done != (i < test.done) {
					t.Errorf("step %d done: %t, want %t: %+v", i+1, s.Done, i < test.done, s)
				}
			}
		})
	}
}

// TestChangeCutShort: a change that had no time is no success, and says what was
// not so.
func TestChangeCutShort(t *testing.T) {
	r := Result{Requests: 1, Rotations: 1, Steps: []StepResult{{Name: "one", Done: true, Checks: []Check{{What: "this", Held: true}}},
		{Name: "two", Checks: []Check{{What: "these", Held: true}, {What: "that", Detail: "why"}}}, {Name: "three"}}}
	want := []string{`step "two" was not done`, `step "two": not so: that: why`, `step "three" was not done`}
	if got := r.judge(wanted{rotations: 1}); !slices.Equal(got, want) {
		t.Errorf("problems %q, want %q", got, want)
	}
}
