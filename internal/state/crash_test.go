package state

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
)

// envCrash holds the arguments of a child that kills itself.
const envCrash = "SPINECERT_TEST_CRASH"

// keptGenerations makes the story prune.
const keptGenerations = 2

// story is the life of a slot: two requests, an import, an answer, a rollback,
// another answer, pruning, and trust. It goes on from where it was, so that it can
// be told again after every interruption.
type story struct {
	d      *Directory
	m      *material
	l      ledger
	number uint64   // the current generation
	open   []string // requests
	err    error
}

func newStory(d *Directory, m *material, l ledger) *story {
	s := &story{d: d, m: m, l: l}
	r, err := d.Current(testSlot)
	s.number = r.Number
	all, requestsErr := d.Requests("")
	for _, q := range all {
		s.open = append(s.open, q.ID)
	}
	s.err = errors.Join(err, requestsErr)
	return s
}

func (s *story) tell() error {
	s.request(0, 2)
	s.commit(1, 0, rotate.FromImport, 0)
	s.answer(0, 2)
	s.commit(2, 1, rotate.FromImport, 0)
	s.end(0)
	s.commit(3, 0, rotate.FromRollback, 1)
	s.request(1, 4)
	s.answer(1, 4)
	s.drop(1, 4)
	s.commit(4, 2, rotate.FromImport, 0)
	s.end(1)
	s.trust()
	return s.err
}

// requestID is that of request n, whose key is in identity n+1.
func (s *story) requestID(n int) string { return pki.RequestID(s.m.keys[n+1].Public()) }

func (s *story) isOpen(n int) bool { return slices.Contains(s.open, s.requestID(n)) }

// request makes request n, unless the generation that ends it is there already.
func (s *story) request(n int, until uint64) {
	if s.err != nil || s.isOpen(n) || s.number >= until {
		return
	}
	key := s.m.keys[n+1]
	r, err := s.d.NewRequest(newRequest(n), key, func() ([]byte, error) { return pki.NewRequest(key, testFQDN) })
	if s.err = err; err == nil {
		s.open = append(s.open, r.ID)
		s.err = s.l.note("requested %s", r.ID)
	}
}

func (s *story) answer(n int, until uint64) {
	if s.err == nil && s.isOpen(n) && s.number < until {
		s.err = s.d.KeepAnswer(testSlot, s.requestID(n), pki.EncodeCertificates(s.m.ids[n+1].Leaf()))
	}
}

func (s *story) drop(n int, until uint64) {
	if s.err == nil && s.isOpen(n) && s.number < until {
		s.err = s.d.DropAnswer(testSlot, s.requestID(n))
	}
}

func (s *story) commit(number uint64, identity int, origin rotate.Origin, of uint64) {
	if s.err != nil || s.number >= number {
		return
	}
	r := recordOf(s.m.ids[identity], number)
	r.Origin, r.Of = origin, of
	if origin == rotate.FromRollback {
		r.Held, r.Left = true, recordOf(s.m.ids[1], 0).Digest
	}
	if s.err = s.d.Commit(testSlot, r, s.m.ids[identity], keptGenerations); s.err != nil {
		after, err := s.d.Current(testSlot)
		if err != nil || after.Number != s.number {
			_ = s.l.note("changed %d", after.Number) // read by the parent, see wantUnchanged
		}
		return
	}
	s.number = number
	s.err = s.l.note("committed %d", number)
}

func (s *story) end(n int) {
	if s.err != nil || !s.isOpen(n) {
		return
	}
	if s.err = s.l.note("ending %s", s.requestID(n)); s.err == nil {
		s.err = s.d.EndRequest(testSlot, s.requestID(n))
	}
}

func (s *story) trust() {
	if s.err == nil {
		_, s.err = s.d.AddTrust("live", s.m.ca)
	}
	if s.err == nil {
		s.err = s.d.DropTrust("live", pki.Fingerprint(s.m.ca))
	}
}

// crashChild tells the story, and kills itself before the system call it is told.
func crashChild() int {
	var dir, from, book string
	var n, at int
	if _, err := fmt.Sscan(os.Getenv(envCrash), &n, &dir, &from, &book); err != nil {
		fmt.Println(err)
		return 1
	}
	m := &material{dir: from}
	if err := m.read(); err != nil {
		fmt.Println(err)
		return 1
	}
	err := tell(dir, m, ledger{book}, false, func(string, string) error {
		if at++; at == n {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // until it arrives
		}
		return nil
	})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// tell locks the directory and tells the story, with a fault; with on it tells it
// again, without locking again. The error is the first.
func tell(dir string, m *material, l ledger, on bool, fault func(op, name string) error) error {
	var o Options
	o.Disk.Fault = fault
	d, err := Lock(dir, o)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Trouble(); err != nil {
		return err
	}
	err = newStory(d, m, l).tell()
	if on && err != nil {
		if again := newStory(d, m, l).tell(); again != nil {
			return fmt.Errorf("after %w, and going on: %w", err, again)
		}
	}
	return err
}

// countCalls is how many system calls the story makes.
func countCalls(t *testing.T, m *material) int {
	t.Helper()
	base := quickDir(t)
	n := 0
	if err := tell(filepath.Join(base, "state"), m, ledger{filepath.Join(base, "ledger")}, false, func(string, string) error { n++; return nil }); err != nil {
		t.Fatal(err)
	}
	if n < 100 {
		t.Fatalf("the story has %d system calls", n)
	}
	return n
}

// afterwards is what must hold after every interruption, when the lock was taken
// again; then the story goes on to its end.
func afterwards(dir string, m *material, l ledger) error {
	d, err := Lock(dir, Options{})
	if err != nil {
		return err
	}
	defer d.Close()
	if err := errors.Join(d.Trouble(), whole(d, l)); err != nil {
		return err
	}
	s := newStory(d, m, l)
	if err := s.tell(); err != nil {
		return fmt.Errorf("going on: %w", err)
	}
	// What could not be pruned is pruned with the next commit.
	s.commit(5, 1, rotate.FromImport, 0)
	if err := errors.Join(s.err, whole(d, l)); err != nil {
		return fmt.Errorf("at the end: %w", err)
	}
	r, err := d.Current(testSlot)
	history, historyErr := d.History(testSlot)
	requests, requestsErr := d.Requests("")
	if r.Number != 5 || len(history) != keptGenerations || len(requests) != 0 {
		err = errors.Join(err, fmt.Errorf("it ends with generation %d, %d kept, %d requests", r.Number, len(history), len(requests)))
	}
	return errors.Join(err, historyErr, requestsErr)
}

// whole looks at a directory with other eyes than those of the package, too.
func whole(d *Directory, l ledger) error {
	requests, committed, err := l.promised()
	errs := []error{err, checkModes(d.Path())}
	current := filepath.Join(d.Path(), "slots", testSlot, "current")
	target, err := os.Readlink(current)
	switch {
	case err == nil:
		number, ok := linkNumber(target)
		if !ok || number < committed {
			errs = append(errs, fmt.Errorf("current is %s, %d was promised", target, committed))
		}
		_, err = tls.LoadX509KeyPair(filepath.Join(current, "fullchain.pem"), filepath.Join(current, "key.pem"))
		errs = append(errs, err)
	case !errors.Is(err, fs.ErrNotExist) || committed > 0:
		errs = append(errs, err)
	}
	for _, id := range requests {
		key, err := d.RequestKey(testSlot, id)
		if err == nil && pki.RequestID(key.Public()) != id {
			err = errors.New("another key")
		}
		errs = append(errs, err)
	}
	_, err = d.Requests("")
	errs = append(errs, err)
	_, findings, err := d.Verify(context.Background())
	for _, f := range findings {
		errs = append(errs, fmt.Errorf("found %+v", f))
	}
	return errors.Join(append(errs, err)...)
}

// TestCrash kills a process at every system call that changes the disk.
func TestCrash(t *testing.T) {
	t.Parallel()
	m := writeMaterial(t)
	calls := countCalls(t, m)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	base := quickDir(t)
	next := make(chan int)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for n := range next {
				dir, book := filepath.Join(base, strconv.Itoa(n)), filepath.Join(base, strconv.Itoa(n)+".ledger")
				child := exec.CommandContext(t.Context(), self)
				child.Env = append(os.Environ(), fmt.Sprintf("%s=%d %s %s %s", envCrash, n, dir, m.dir, book))
				out, err := child.CombinedOutput()
				var exit *exec.ExitError
				if !errors.As(err, &exit) || !exit.Sys().(syscall.WaitStatus).Signaled() {
					t.Errorf("call %d: the child was not killed: %v, %s", n, err, out)
					continue
				}
				if err := afterwards(dir, m, ledger{book}); err != nil {
					t.Errorf("killed before call %d: %v", n, err)
				}
				_ = os.RemoveAll(dir)
			}
		})
	}
	for n := 1; n <= calls; n++ {
		next <- n
	}
	close(next)
	wg.Wait()
	t.Logf("%d system calls, killed before each", calls)
}

// TestFaults lets every system call fail with every error; EIO with a daemon that
// goes on as if nothing was, and ENOSPC also with all calls that come after it.
func TestFaults(t *testing.T) {
	t.Parallel()
	m := writeMaterial(t)
	calls := countCalls(t, m)
	for _, c := range []struct {
		name  string
		errno syscall.Errno
		lasts bool
	}{{"ENOSPC", syscall.ENOSPC, false}, {"EIO", syscall.EIO, false}, {"EROFS", syscall.EROFS, false}, {"EACCES", syscall.EACCES, false}, {"ENOSPC that lasts", syscall.ENOSPC, true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			base := quickDir(t)
			for n := 1; n <= calls; n++ {
				dir, l := filepath.Join(base, strconv.Itoa(n)), ledger{filepath.Join(base, strconv.Itoa(n)+".ledger")}
				at := 0
				failed := tell(dir, m, l, c.errno == syscall.EIO, func(string, string) error {
					if at++; at == n || c.lasts && at > n {
						return c.errno
					}
					return nil
				})
				if failed != nil && !errors.Is(failed, c.errno) {
					t.Errorf("call %d: %v", n, failed)
				}
				if !c.lasts {
					wantUnchanged(t, n, l)
				}
				if err := afterwards(dir, m, l); err != nil {
					t.Errorf("call %d failed (%v): %v", n, failed, err)
				}
				_ = os.RemoveAll(dir)
			}
		})
	}
}

// wantUnchanged: a Commit that failed left what was in force.
func wantUnchanged(t *testing.T, n int, l ledger) {
	t.Helper()
	data, _ := os.ReadFile(l.path)
	if s := string(data); strings.Contains(s, "changed") {
		t.Errorf("call %d: a commit failed and another generation is current: %s", n, s)
	}
}
