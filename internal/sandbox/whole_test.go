package sandbox

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// builtDaemon builds spinecertd: this package must not import it.
func builtDaemon(t *testing.T) string {
	t.Helper()
	tool, err := exec.LookPath("go")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("go is not installed, and CI must have it")
		}
		t.Skip("go is not installed: no spinecertd can be built")
	}
	path := filepath.Join(t.TempDir(), "spinecertd")
	build := exec.CommandContext(t.Context(), tool, "build", "-o", path, "github.com/spinecert/spinecert/cmd/spinecertd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build spinecertd: %v\n%s", err, out)
	}
	return path
}

// TestRevocationsOfTheDaemon is a short rehearsal with spinecertd itself: CRLs are
// fetched, open connections are cut, tickets do not help.
func TestRevocationsOfTheDaemon(t *testing.T) {
	var out bytes.Buffer
	r, err := Rehearse(t.Context(), RehearseOptions{Rotations: 4, Revocations: 2,
		Options: Options{Duration: 6 * time.Second, Daemon: builtDaemon(t), Program: "spinecert", Out: &out}})
	if err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	if !r.Passed() {
		t.Errorf("problems %q%s\n%s", r.Problems, joined(r.Causes), &out)
	}
	if r.Revocations != 2 || r.RevokedCut < 2*(linesOf+3) || r.WronglyCut != 0 || r.Failed != 0 || r.ResumptionsRefused < 1 || r.CutLatencyMS.Samples != 2*linesOf {
		t.Errorf("revocations %d, cut %d, wrongly %d, resumptions %d, latency %+v", r.Revocations, r.RevokedCut, r.WronglyCut, r.ResumptionsRefused, r.CutLatencyMS)
	}
	if c := r.CRLRequests; r.CRLFaults != 1 || c.Full < 3 || c.Unchanged < 1 || c.Unknown != 0 {
		t.Errorf("faults %d, requests %+v", r.CRLFaults, c)
	}
}
