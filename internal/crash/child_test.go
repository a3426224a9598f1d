package crash

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/manage"
	"github.com/spinecert/spinecert/rotate"
)

// envChild holds the arguments of a child.
const envChild = "SPINECERT_TEST_CRASH_CHILD"

// patience is far more than anything takes that does not hang.
const patience = 60 * time.Second

func TestMain(m *testing.M) {
	if os.Getenv(envChild) != "" {
		os.Exit(childMain())
	}
	os.Exit(m.Run())
}

// child is one process of a life.
type child struct {
	life
	*session
	book *ledger
	disk *disk
	rand *rand.Rand
	cas  *authorities
	ctx  context.Context

	mu      sync.Mutex
	rotated map[string]bool // slots whose new generation the manager was not told yet
}

func childMain() int {
	var c child
	var seed, run uint64
	if _, err := fmt.Sscan(os.Getenv(envChild), &c.base, &c.dir, &seed, &run); err != nil {
		fmt.Println(err)
		return 1
	}
	syscall.Umask(0) // modes must not depend on it
	var bookErr, casErr error
	c.book, bookErr = openLedger(c.ledger())
	c.cas, casErr = readAuthorities(c.base)
	if err := errors.Join(bookErr, casErr); err != nil {
		fmt.Println(err)
		return 1
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c.ctx, c.rand, c.rotated = ctx, random(seed, run, 2), map[string]bool{}
	c.disk = &disk{plan: planOf(seed, run), note: c.book.note}
	_, _ = os.NewFile(3, "ready").WriteString("!")
	c.work()
	return 0
}

// bad says that something is wrong which only the child can see.
func (c *child) bad(format string, args ...any) {
	c.book.note("bad %s", strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "; "))
}

// excused reports whether an error may be: something was injected since.
func (c *child) excused(what string, before int, err error) bool {
	if err == nil || c.disk.faults() > before {
		return true
	}
	c.bad("%s: %v", what, err)
	return false
}

func (c *child) work() {
	s, err := c.lock(c.disk.fault)
	if err != nil {
		c.excused("lock", 0, err)
		return
	}
	c.session = s
	if err := s.store.Trouble(); err != nil {
		c.excused("trouble", 0, err)
	} else if left := temporaries(c.state()); len(left) > 0 {
		c.bad("left when the lock was taken: %q", left)
	}
	if err := s.start(c.ctx, c.tell, c.told); err != nil {
		c.bad("start: %v", err)
		return
	}
	before := c.disk.faults()
	c.excused("restore", before, s.manager.Restore(c.ctx))
	for range c.disk.plan.steps {
		c.step()
		c.follow()
	}
	_ = s.close() // a save may still be running, as when a daemon ends
	c.book.note("end")
}

// tell writes what the Keeper says down; it runs in its run loop.
func (c *child) tell(e rotate.Event) {
	switch e.Kind {
	case rotate.EventRotated, rotate.EventRestored:
		c.book.note("served %s %s", e.Slot, about(e.To))
		c.mu.Lock()
		c.rotated[e.Slot] = true
		c.mu.Unlock()
	case rotate.EventDamaged, rotate.EventWentBack:
		c.bad("%s: slot %s: %v", e.Kind, e.Slot, e.Err)
	}
}

// told writes what the Manager says down.
func (c *child) told(e manage.Event) {
	c.book.note("manager %s %s %s", e.Kind, e.Slot, e.Request)
}

// about is a generation in the ledger: number, certificate, whether held, key.
func about(g *rotate.Generation) string {
	leaf := g.Identity.Leaf()
	return fmt.Sprintf("%d %s %t %s %d", g.Number, nameOf(leaf), g.Held, idOf(leaf.PublicKey), leaf.NotBefore.Unix())
}

// follow tells the Manager which slots serve something new, as the daemon does.
func (c *child) follow() {
	c.mu.Lock()
	slots := c.rotated
	c.rotated = map[string]bool{}
	c.mu.Unlock()
	for slot := range slots {
		before := c.disk.faults()
		c.excused("rotated", before, c.manager.Rotated(c.ctx, slot))
	}
}

// steps are the operations, and how often each is done.
var steps = [...]struct {
	weight int
	do     func(*child)
}{
	{4, (*child).newRequest}, {2, (*child).cancel}, {7, func(c *child) { c.answer("right") }}, {1, func(c *child) { c.answer("early") }},
	{1, func(c *child) { c.answer("soon") }}, {1, func(c *child) { c.answer("unknown") }}, {3, (*child).wrong},
	{2, (*child).rollback}, {2, (*child).release}, {3, (*child).newFiles}, {1, (*child).addTrust}, {1, (*child).dropTrust},
}

func (c *child) step() {
	total := 0
	for _, s := range steps {
		total += s.weight
	}
	n := c.rand.IntN(total)
	for _, s := range steps {
		if n -= s.weight; n < 0 {
			s.do(c)
			return
		}
	}
}

// watched does an operation on a slot, whose error must leave in force what was.
// Where an answer waits, it may come into force meanwhile, by itself; then the disk
// has it, too.
func (c *child) watched(slot string, do func() error) {
	faults, before, onDisk, waits := c.disk.faults(), c.now(slot), link(c.state(), slot), c.answered(slot)
	err := do()
	injected := c.disk.faults() - faults
	if err == nil {
		return
	}
	var e *manage.Error
	waitsNow := waits || errors.As(err, &e) && e.Kind == manage.Waiting
	after := c.now(slot)
	if after != before && !(waitsNow && after == c.inForce(slot)) {
		c.bad("slot %s serves %s in place of %s although it was an error: %v", slot, after, before, err)
	}
	// A disk that refuses twice may refuse the way back, too.
	if now := link(c.state(), slot); slot != filesSlot && !waits && injected <= 1 && after == before && now != onDisk && c.now(slot) == before {
		c.bad("current of slot %s is %s, was %s, although it was an error: %v", slot, now, onDisk, err)
	}
}

// inForce is the certificate that a slot has in force on disk.
func (c *child) inForce(slot string) string {
	certs, err := readCertificates(filepath.Join(c.state(), "slots", slot, "current", "cert.pem"))
	if err != nil || len(certs) == 0 {
		return ""
	}
	return nameOf(certs[0])
}

// now is the certificate that a slot serves.
func (c *child) now(slot string) string {
	if g := c.serving(slot); g != nil {
		return nameOf(g.Identity.Leaf())
	}
	return ""
}

func (c *child) answered(slot string) bool {
	all, _ := c.manager.Requests()
	for _, r := range all {
		if r.Slot == slot && !r.Answered.IsZero() {
			return true
		}
	}
	return false
}

// link is where current points to.
func link(state, slot string) string {
	target, _ := os.Readlink(filepath.Join(state, "slots", slot, "current"))
	return target
}

// requestsOnDisk are the IDs that a slot has.
func requestsOnDisk(state, slot string) []string {
	entries, _ := os.ReadDir(filepath.Join(state, "slots", slot, "requests"))
	var out []string
	for _, e := range entries {
		if e.Name()[0] != '.' {
			out = append(out, e.Name())
		}
	}
	slices.Sort(out)
	return out
}

// temporaries are left over from a process that is gone.
func temporaries(state string) []string {
	var out []string
	_ = filepath.WalkDir(state, func(path string, e os.DirEntry, err error) error {
		if err == nil && path != state && strings.HasPrefix(e.Name(), ".") && e.Name() != ".lock" {
			out = append(out, path)
		}
		return nil
	})
	return out
}
