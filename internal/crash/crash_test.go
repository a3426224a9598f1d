package crash

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/spinecert/spinecert/rotate"
)

// lifeRuns is how many processes work on one state directory, one after the other.
const lifeRuns = 50

// The environment of the test: how many processes, and the seed of the first life.
const (
	envRuns     = "SPINECERT_CRASH_RUNS"
	envSeed     = "SPINECERT_CRASH_SEED"
	defaultRuns = 60
)

// TestCrashes runs the loop from request to generation in processes that do not end
// well, and looks at what they leave; see the package.
func TestCrashes(t *testing.T) {
	t.Parallel()
	runs, seed := number(t, envRuns, defaultRuns), number(t, envSeed, uint64(time.Now().UnixNano()%1_000_000_000))
	base := quickDir(t)
	writeAuthorities(t, base)
	workers := min(runtime.GOMAXPROCS(0), 8)
	lives := make(chan [2]uint64)
	sum := tally{counts: map[string]int{}}
	start := time.Now()
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for l := range lives {
				oneLife(t, life{base: base, dir: filepath.Join(base, strconv.FormatUint(l[0], 10))}, l[0], l[1], &sum)
			}
		})
	}
	each := uint64(lifeRuns)
	if os.Getenv(envSeed) == "" { // a short form has work for all
		each = min(each, (runs+uint64(workers)-1)/uint64(workers))
	}
	for i, left := uint64(0), runs; left > 0; i++ {
		n := min(left, each)
		lives <- [2]uint64{seed + i, n}
		left -= n
	}
	close(lives)
	wg.Wait()
	sum.report(t, time.Since(start))
}

// number reads one from the environment.
func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("read %s: %v", name, err)
	}
	return n
}

// quickDir is t.TempDir in memory, if there is such a place: nobody waits for a disk.
func quickDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "spinecert-crash-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("what is left is in %s", dir)
			return
		}
		_ = os.RemoveAll(dir)
	})
	return dir
}

// oneLife runs n processes on one state directory. It ends with the first that
// leaves something wrong.
func oneLife(t *testing.T, l life, seed, n uint64, sum *tally) {
	b := newBook()
	err := os.Mkdir(l.dir, 0o700)
	for run := uint64(1); run <= n && err == nil; run++ {
		p := planOf(seed, run)
		var killed bool
		if killed, err = runChild(l, seed, run, p); err == nil {
			err = b.read(l.ledger())
		}
		if err == nil {
			_, err = inspect(l, b)
		}
		if err == nil && (p.check || run == n) {
			err = restart(l, b, run == n)
		}
		sum.ran(killed, p.outside > 0)
		if err != nil {
			err = fmt.Errorf("after run %d of life %d (again: %s=%d %s=%d): %w\nplan %+v, ledger:\n\t%s",
				run, seed, envSeed, seed, envRuns, run, err, p, strings.Join(b.lines, "\n\t"))
		}
	}
	sum.add(b, err)
	if err != nil {
		t.Error(err)
		return
	}
	if err := os.RemoveAll(l.dir); err != nil {
		t.Error(err)
	}
}

// runChild runs one process, and kills it if that is planned.
func runChild(l life, seed, run uint64, p plan) (killed bool, err error) {
	self, err := os.Executable()
	if err != nil {
		return false, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return false, err
	}
	defer r.Close()
	child := exec.Command(self)
	child.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %d %d", envChild, l.base, l.dir, seed, run), "GOMAXPROCS=2", "GOGC=off", "GORACE=halt_on_error=1 exitcode=66 atexit_sleep_ms=0")
	child.ExtraFiles = []*os.File{w}
	var out strings.Builder
	child.Stdout, child.Stderr = &out, &out
	err = child.Start()
	_ = w.Close()
	if err != nil {
		return false, err
	}
	if p.outside > 0 {
		_, _ = r.Read(make([]byte, 1)) // it works from now on
		time.Sleep(p.outside)
		_ = child.Process.Kill()
	}
	err = child.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		status, ok := exit.Sys().(syscall.WaitStatus)
		if ok && status.Signaled() && status.Signal() == syscall.SIGKILL && (p.kill > 0 || p.outside > 0) {
			return true, nil
		}
	}
	if err != nil {
		return false, fmt.Errorf("the process: %w\n%s", err, out.String())
	}
	return false, nil
}

// inspect reads the directory as the process left it.
func inspect(l life, b *book) (seen, error) {
	s, err := b.eyes.lookAt(l.state())
	return s, errors.Join(err, b.compare(s, l))
}

// restart is a start on a disk that works, and what must be true after it. At the
// end of a life the loop is gone through once more.
func restart(l life, b *book, last bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := l.lock(nil)
	if err != nil {
		return err
	}
	err = s.store.Trouble()
	if left := temporaries(l.state()); len(left) > 0 {
		err = errors.Join(err, fmt.Errorf("left when the lock was taken: %q", left))
	}
	if err != nil {
		return errors.Join(err, s.close())
	}
	var told []string // as by a child
	err = s.start(ctx, func(e rotate.Event) {
		switch e.Kind {
		case rotate.EventRotated, rotate.EventRestored:
			told = append(told, fmt.Sprintf("served %s %s", e.Slot, about(e.To)))
		case rotate.EventDamaged, rotate.EventWentBack, rotate.EventUnsaved:
			told = append(told, fmt.Sprintf("bad %s: slot %s: %v", e.Kind, e.Slot, e.Err))
		}
	}, nil)
	if err != nil {
		return err
	}
	err = s.manager.Restore(ctx)
	if err == nil && last {
		err = onceMore(ctx, l, b, s)
	}
	served := map[string]*rotate.Generation{}
	if err == nil {
		served, err = settle(ctx, l, b, s)
	}
	_, findings, verifyErr := s.store.Verify(ctx)
	err = errors.Join(err, verifyErr)
	for _, f := range findings {
		err = errors.Join(err, fmt.Errorf("found %+v", f))
	}
	err = errors.Join(err, s.close())
	for _, line := range told {
		err = errors.Join(err, b.line(strings.Fields(line)))
	}
	b.lines = append(append(b.lines, "restart"), told...)
	return errors.Join(err, agree(l, b, served))
}

// settle waits until the slot that reads files serves what it must, and has it saved.
func settle(ctx context.Context, l life, b *book, s *session) (map[string]*rotate.Generation, error) {
	want, a := "", b.slots[filesSlot]
	if leaf := l.readFiles(); leaf != nil && !b.holds(l) {
		want = nameOf(leaf)
	} else if a.number > 0 {
		want = a.cert
	}
	served, before := s.served(), map[string]*rotate.Generation(nil)
	for ; !maps.Equal(served, before); served = s.served() { // what waits comes into force when it likes
		before = served
		for _, slot := range managedSlots {
			if err := s.manager.Rotated(ctx, slot.name); err != nil {
				return served, err
			}
		}
	}
	g := served[filesSlot]
	if got := certOf(g); got != want {
		return served, fmt.Errorf("lost: slot %s serves %q after a restart, want %q", filesSlot, got, want)
	}
	if st := s.keeper.Slot(filesSlot).Status(); b.holds(l) && st.State != rotate.SlotHeld {
		return served, fmt.Errorf("lost: slot %s was rolled back, and is %s after a restart: %w", filesSlot, st.State, st.Refusal)
	}
	for g != nil {
		if r, err := s.store.Current(filesSlot); err != nil || r.Number == g.Number {
			return served, err
		}
		select {
		case <-ctx.Done():
			return served, fmt.Errorf("generation %d of slot %s is never saved: %w", g.Number, filesSlot, ctx.Err())
		case <-time.After(time.Millisecond):
		}
	}
	return served, nil
}

func certOf(g *rotate.Generation) string {
	if g == nil {
		return ""
	}
	return nameOf(g.Identity.Leaf())
}

// agree holds what was served against the disk, once nobody writes it any more.
func agree(l life, b *book, served map[string]*rotate.Generation) error {
	s, err := inspect(l, b)
	errs := []error{err}
	for slot, g := range served {
		a := b.slots[slot]
		if g != nil && a.number > g.Number && slot != filesSlot {
			continue // what waited has come into force since; whether it may, is judged
		}
		if certOf(g) != a.cert || g != nil && (g.Number != a.number || g.Held != a.held) {
			errs = append(errs, fmt.Errorf("lost: slot %s serves %q after a restart, and %q is in force", slot, certOf(g), a.cert))
		}
		if g == nil {
			continue
		}
		if _, open := s.slots[slot].requests[idOf(g.Identity.Leaf().PublicKey)]; open {
			errs = append(errs, fmt.Errorf("slot %s serves the certificate of a request that did not end", slot))
		}
	}
	return errors.Join(errs...)
}

// tally is what all lives add up to.
type tally struct {
	mu                              sync.Mutex
	runs, kills, outside            int
	torn, lost, readable, otherwise int
	counts                          map[string]int
}

func (s *tally) ran(killed, outside bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.runs++
	if killed {
		s.kills++
		if outside {
			s.outside++
		}
	}
}

func (s *tally) add(b *book, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for what, n := range b.counts {
		s.counts[what] += n
	}
	text := fmt.Sprint(err)
	switch {
	case err == nil:
	case strings.Contains(text, "torn: "):
		s.torn++
	case strings.Contains(text, "lost: "):
		s.lost++
	case strings.Contains(text, "readable by others: "):
		s.readable++
	default:
		s.otherwise++
	}
}

func (s *tally) report(t *testing.T, took time.Duration) {
	var faults, done []string
	total := 0
	for _, what := range slices.Sorted(maps.Keys(s.counts)) {
		text := fmt.Sprintf("%s %d", what, s.counts[what])
		if strings.ToUpper(what) == what {
			faults = append(faults, text)
			continue
		}
		done = append(done, text)
		total += s.counts[what]
	}
	t.Logf("%d runs in %s (%.0f a second), %d killed, %d of them from outside; faults: %s; %d operations acknowledged: %s",
		s.runs, took.Round(time.Second), float64(s.runs)/took.Seconds(), s.kills, s.outside, strings.Join(faults, ", "), total, strings.Join(done, ", "))
	t.Logf("torn %d, lost %d, readable by others %d, otherwise wrong %d", s.torn, s.lost, s.readable, s.otherwise)
}
