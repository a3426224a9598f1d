package sandbox

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestRehearseRevocations(t *testing.T) {
	t.Parallel()
	r, out, err := rehearseWith(t, fakeGood, RehearseOptions{Rotations: 6, Revocations: 3, Options: Options{Duration: 4 * time.Second}})
	if err != nil {
		t.Fatal(err)
	}
	if !r.Passed() {
		t.Errorf("problems %q%s\n%s", r.Problems, joined(r.Causes), out)
	}
	// Each had its connections open, and was refused at least three times: as it
	// knocked, with its ticket, and without.
	if r.Revocations != 3 || r.RevokedCut < 3*(linesOf+3) || r.WronglyCut != 0 || r.RevokedServed != 0 || r.ResumptionsRefused < 1 {
		t.Errorf("revocations %d, cut %d, served %d, wrongly %d, resumptions %d", r.Revocations, r.RevokedCut, r.RevokedServed, r.WronglyCut, r.ResumptionsRefused)
	}
	if l := r.CutLatencyMS; l.Samples != 3*linesOf || l.P50 <= 0 || l.Max < l.P99 || l.P99 < l.P50 {
		t.Errorf("latency of cuts %+v", l)
	}
	if c := r.CRLRequests; r.CRLFaults != 1 || c.Full < 3 || c.Unchanged < 3 || c.Spoiled < 1 || c.Unknown != 0 {
		t.Errorf("faults %d, requests %+v", r.CRLFaults, c)
	}
	for _, want := range []string{"peer-1 revoked: its connections cut after", "far revoked", "peer-2 revoked", "the CRL server answered with the first lists again"} {
		if !strings.Contains(out, want) {
			t.Errorf("the output does not say %q:\n%s", want, out)
		}
	}
}

// TestRehearseRevocationsNotices: a daemon that gets revocation wrong does not pass.
func TestRehearseRevocationsNotices(t *testing.T) {
	for _, test := range []struct {
		mode, want string
		duration   time.Duration
	}{
		{fakeDeaf, "of revoked peers were served", time.Second},
		{fakeLazy, "of revoked peers were served", time.Second},
		{fakeTrusting, "of revoked peers were served", time.Second},
		{fakeWild, "cut of peers that are not revoked", time.Second},
		{fakeSimple, "of revoked peers were served", 2 * time.Second},
	} {
		t.Run(test.mode, func(t *testing.T) {
			t.Parallel()
			r, out, err := rehearseWith(t, test.mode, RehearseOptions{Rotations: 1, Revocations: 1, Options: Options{Duration: test.duration, within: time.Second}})
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(strings.Join(r.Problems, "\n"), test.want) {
				t.Errorf("problems %q do not say %q%s\n%s", r.Problems, test.want, joined(r.Causes), out)
			}
		})
	}
}

// watchedOutput tells when something was said.
type watchedOutput struct {
	mu   sync.Mutex
	text bytes.Buffer
	want string
	said chan struct{}
}

func (w *watchedOutput) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, err := w.text.Write(b)
	if w.want != "" && strings.Contains(w.text.String(), w.want) {
		w.want = ""
		close(w.said)
	}
	return n, err
}

func (w *watchedOutput) expect(want string) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.want, w.said = want, make(chan struct{})
	if strings.Contains(w.text.String(), want) {
		w.want = ""
		close(w.said)
	}
	return w.said
}

// TestRevokeByHand: a file revokes a peer, and its end lets it come back.
func TestRevokeByHand(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "box")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	out := &watchedOutput{}
	options := faked(t, fakeGood, Options{Dir: dir, Duration: time.Minute, RotateEvery: time.Minute, Program: "spinecert", Out: out})
	var s Summary
	ended := make(chan error, 1)
	started := out.expect("touch " + filepath.Join(dir, "revoke", "peer-1"))
	go func() {
		var err error
		s, err = Run(ctx, options)
		ended <- err
	}()
	await := func(said <-chan struct{}) {
		t.Helper()
		select {
		case <-said:
		case err := <-ended:
			t.Fatalf("it ended: %v\n%s", err, &out.text)
		}
	}
	await(started)
	said := out.expect("peer-1 revoked: its connections cut after")
	if err := os.WriteFile(filepath.Join(dir, "revoke", "peer-1"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	await(said)
	said = out.expect("peer-1 comes back")
	if err := os.Remove(filepath.Join(dir, "revoke", "peer-1")); err != nil {
		t.Fatal(err)
	}
	await(said)
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if !s.Passed() || s.Revocations != 1 || s.RevokedCut < linesOf+3 || s.CutLatencyMS.Samples != linesOf {
		t.Errorf("summary %+v\n%s", s, &out.text)
	}
}
