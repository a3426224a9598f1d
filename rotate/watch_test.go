package rotate

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
)

func TestRotationDuringAFloodOfEvents(t *testing.T) {
	b := newBench(t)
	first, second := b.leaf(), b.leaf()
	b.pair(first)
	b.start()
	b.serves(first)
	b.write("noise", nil, 0o600)
	stop, flooded := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				flooded <- n
				return
			case <-tick.C: // two events: a stranger's, and one of a file of ours
				_ = os.Chmod(b.path("noise"), 0o600)
				_ = os.Chmod(b.path("pcs.crt"), 0o644) // not there in the moment of a rename
				n += 2
			}
		}
	}()
	time.Sleep(200 * time.Millisecond)
	b.put("pcs.key", second.KeyPEM(), 0o600)
	time.Sleep(50 * time.Millisecond)
	b.put("pcs.crt", second.FullChainPEM(), 0o644)
	b.serves(second)
	time.Sleep(200 * time.Millisecond)
	close(stop)
	t.Logf("%d events", <-flooded)
	b.state(SlotReady)
	if got := b.count(EventRotated); got != 2 {
		t.Errorf("rotated %d times, want 2", got)
	}
	var planned int
	b.do(b.keeper.call(b.context(), func() { planned = b.keeper.agenda.Len() }))
	if planned > 2 {
		t.Errorf("the agenda grew to %d entries for 2 sources", planned)
	}
}

func TestOverflowHasEverythingReadAgain(t *testing.T) {
	raw, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	if err != nil {
		t.Skipf("the length of the queue is not known: %v", err)
	}
	most, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil || most > 1<<20 {
		t.Skipf("the queue of %d events is too long to fill", most)
	}
	b := newBench(t)
	first, second := b.leaf(), b.leaf()
	b.pair(first)
	b.start()
	b.serves(first)
	b.write("one", nil, 0o600)
	b.write("two", nil, 0o600)
	b.write("trust.new", append([]byte("changed\n"), b.sub.BundlePEM()...), 0o644)
	b.write("key.new", second.KeyPEM(), 0o600)
	b.write("crt.new", second.FullChainPEM(), 0o644)

	w := b.keeper.watcher
	w.mu.Lock() // nobody reads: the buffers of 4096 events of fsnotify fill up, then the kernel's queue
	for range (most + 8192) / 2 {
		b.do(os.Chmod(b.path("one"), 0o600)) // by turns: equal events in a row are one
		b.do(os.Chmod(b.path("two"), 0o600))
	}
	b.do(os.Rename(b.path("key.new"), b.path("pcs.key")))
	b.do(os.Rename(b.path("crt.new"), b.path("pcs.crt")))
	b.do(os.Rename(b.path("trust.new"), b.path("trust.pem")))
	w.mu.Unlock()

	b.serves(second)
	b.until("the overflow is told", func() bool { return b.count(EventOverflow) >= 1 })
	b.until("trust is read again", func() bool { return b.count(EventTrustChanged) == 2 })
	third := b.leaf()
	b.pair(third) // and events come again
	b.serves(third)
}

// A directory that is moved away and removed makes fsnotify report an error while
// it holds its lock. That must stop nobody.
func TestDirectoryMovedAndRemovedAgainAndAgain(t *testing.T) {
	b := newBench(t)
	live := b.path("deep/live")
	b.slot.Files = Files{Certificate: live + "/pcs.crt", Key: live + "/pcs.key"}
	leaf := b.leaf()
	b.start()
	for i := range 150 {
		b.write("deep/live/pcs.key", leaf.KeyPEM(), 0o600)
		b.write("deep/live/pcs.crt", leaf.FullChainPEM(), 0o644)
		if i%10 == 0 {
			b.serves(leaf)
		}
		b.do(os.Rename(live, b.path("gone")))
		b.do(os.RemoveAll(b.path("gone")))
	}
	last := b.leaf()
	b.write("deep/live/pcs.key", last.KeyPEM(), 0o600)
	b.write("deep/live/pcs.crt", last.FullChainPEM(), 0o644)
	b.serves(last)
}

func TestWatchesFollowThePlan(t *testing.T) {
	b := newBench(t)
	b.write("other/pcs.key", nil, 0o600)
	b.pair(b.leaf())
	b.start()
	watched := func() (dirs []string) {
		b.keeper.watcher.mu.Lock()
		defer b.keeper.watcher.mu.Unlock()
		return b.keeper.watcher.notify.WatchList()
	}
	for range 20 { // each rotation has new directories: the old ones are let go
		b.do(os.RemoveAll(b.path("..old")))
		_ = os.Rename(b.path("..new"), b.path("..old"))
		l := b.leaf()
		b.write("..new/pcs.key", l.KeyPEM(), 0o600)
		b.write("..new/pcs.crt", l.FullChainPEM(), 0o644)
		for _, f := range []string{"pcs.key", "pcs.crt"} {
			b.do(os.Symlink("..new/"+f, b.path("link")))
			b.do(os.Rename(b.path("link"), b.path(f)))
		}
		b.serves(l)
	}
	b.until("only what is needed is watched", func() bool { return len(watched()) == 2 })
	b.slot.Files.Key = b.path("other/pcs.key")
	b.apply()
	b.until("the new directory is watched too", func() bool { return len(watched()) == 3 })
	if err := b.keeper.Apply(b.context(), Plan{}); err != nil {
		t.Fatal(err)
	}
	b.until("nothing is watched", func() bool { return len(watched()) == 0 })
}

// In a user namespace of its own a process may have fewer watches than the others.
func TestWatchesRunOut(t *testing.T) {
	if child(t, &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}) {
		return
	}
	limit := func(n int) error {
		return os.WriteFile("/proc/sys/user/max_inotify_watches", []byte(strconv.Itoa(n)), 0o644)
	}
	if err := limit(1); err != nil {
		t.Skipf("the number of watches cannot be limited: %v", err)
	}
	b := newBench(t)
	b.slot.Poll = 50 * time.Millisecond
	b.slot.Files = Files{Certificate: b.path("a/pcs.crt"), Key: b.path("b/pcs.key")}
	set := func(l *testpki.Leaf) {
		b.put("b/pcs.key", l.KeyPEM(), 0o600)
		b.put("a/pcs.crt", l.FullChainPEM(), 0o644)
	}
	b.do(os.Mkdir(b.path("a"), 0o755))
	b.do(os.Mkdir(b.path("b"), 0o755))
	first, second, third := b.leaf(), b.leaf(), b.leaf()
	set(first)
	b.start() // the one watch goes to the directory of the trust file
	b.serves(first)
	set(second)
	b.serves(second)
	for range 5 {
		b.still(second)
	}
	lost := b.of(EventWatchLost)
	if len(lost) != 1 {
		t.Fatalf("told %d times that watches are lost, want once: %v", len(lost), lost)
	}
	if hint := lost[0].Err.(*Refusal).Hint(); !strings.Contains(hint, "max_user_watches") {
		t.Errorf("hint %q", hint)
	}

	// Once there are enough, the next full look takes them, and events bring the rotation.
	b.do(limit(100))
	b.slot.Poll = never
	b.apply()
	b.still(second)
	set(third)
	b.serves(third)
}

func TestPollAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t)
		b.watch, b.slot.Poll, b.env.Poll = noInotify, 30*time.Second, 30*time.Second
		first, second := b.leaf(), b.leaf()
		b.pair(first)
		b.start()
		b.serves(first)
		read := func() (at time.Time) {
			b.do(b.keeper.call(b.context(), func() { at = b.pcs().unit.read }))
			return at
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if got := read(); time.Since(got) < 4*time.Minute {
			t.Errorf("the files were read %s ago, but their stats had not changed", time.Since(got))
		}
		time.Sleep(fullRead)
		synctest.Wait()
		if got := read(); time.Since(got) > fullRead+time.Minute {
			t.Errorf("the files were last read %s ago", time.Since(got))
		}

		b.pair(second)
		time.Sleep(40 * time.Second)
		synctest.Wait()
		if got := b.pcs().Snapshot().Generation.Identity.Leaf(); !got.Equal(second.Cert) {
			t.Error("the poll did not bring the rotation")
		}
		// The poll goes on where a candidate was refused long ago.
		b.pair(b.leaf(testpki.Validity(time.Now().Add(-9*time.Hour), time.Now().Add(time.Hour))))
		time.Sleep(time.Hour)
		third := b.leaf()
		b.pair(third)
		time.Sleep(40 * time.Second)
		synctest.Wait()
		if got := b.pcs().Snapshot().Generation.Identity.Leaf(); !got.Equal(third.Cert) {
			t.Error("after a refusal the poll did not bring the rotation")
		}
		b.put("trust.pem", append([]byte("changed\n"), b.sub.BundlePEM()...), 0o644)
		time.Sleep(40 * time.Second)
		synctest.Wait()
		if got := b.count(EventTrustChanged); got != 2 {
			t.Errorf("trust changed %d times, want 2", got)
		}
		if got := b.count(EventWatchLost); got != 1 {
			t.Errorf("told %d times that there is no inotify, want once", got)
		}
	})
}

// One file in one directory is one watch, whoever depends on it; and what a
// stranger does there wakes nobody.
func TestWatchesAreShared(t *testing.T) {
	b := newBench(t)
	b.pair(b.leaf())
	b.start()
	plan := Plan{Environments: []EnvironmentConfig{b.env}, Slots: []SlotConfig{b.slot}}
	for i := range 20 {
		s := b.slot
		s.Name = fmt.Sprintf("slot-%d", i)
		plan.Slots = append(plan.Slots, s)
	}
	b.do(b.keeper.Apply(b.context(), plan))
	if got := b.keeper.watcher.notify.WatchList(); len(got) != 1 {
		t.Errorf("watched: %q, want one directory", got)
	}
	before := b.pcs().Status().LastAttempt
	b.write("stranger", []byte("x"), 0o600)
	time.Sleep(50 * time.Millisecond)
	if !b.pcs().Status().LastAttempt.Equal(before) {
		t.Error("a file of somebody else had the slot look at its own")
	}
	next := b.leaf()
	b.pair(next)
	for _, s := range b.keeper.Slots() {
		b.until("all slots serve it", func() bool { return s.Snapshot().Generation.Identity.Leaf().Equal(next.Cert) })
	}
}
