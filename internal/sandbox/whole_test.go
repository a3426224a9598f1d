package sandbox

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testprogram"
)

// built is where spinecertd is, once a test has asked for it; TestMain removes it.
var built struct {
	sync.Once
	dir string
	err error
}

// builtDaemon builds spinecertd: this package must not import it.
func builtDaemon(t *testing.T) string {
	t.Helper()
	tool := testprogram.Need(t, "go")
	built.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "spinecertd-"); built.err != nil {
			return
		}
		build := exec.Command(tool, "build", "-tags", "nethttpomithttp2", "-o", built.dir, "github.com/spinecert/spinecert/cmd/spinecertd")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("%w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatalf("build spinecertd: %v", built.err)
	}
	return filepath.Join(built.dir, "spinecertd")
}

// whole are options of a sandbox whose daemon is spinecertd.
func whole(t *testing.T, o Options) Options {
	t.Helper()
	o.Daemon, o.pool, o.patience = builtDaemon(t), must(t, sharedKeys), time.Minute
	return o
}

// TestRevocationsOfTheDaemon is a short rehearsal with spinecertd itself: CRLs are
// fetched, open connections are cut, tickets do not help.
func TestRevocationsOfTheDaemon(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	r, err := Rehearse(t.Context(), RehearseOptions{Rotations: 4, Revocations: 2,
		Options: whole(t, Options{Duration: 6 * time.Second, Program: "spinecert", Out: &out})})
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
