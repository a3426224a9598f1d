package rotate

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/trust"
)

// bench is one keeper on a real directory, with one environment and one slot.
type bench struct {
	t      *testing.T
	dir    string
	root   *testpki.Authority
	sub    *testpki.Authority
	keeper *Keeper
	env    EnvironmentConfig
	slot   SlotConfig
	watch  func(func(*unit)) (*watcher, error) // nil: inotify
	store  Store
	crls   CRLStore
	clock  func() bool // whether it is suspect; nil: never
	stop   func()      // ends the keeper that runs

	mu     sync.Mutex
	events []Event
}

// never is a poll that no test lives to see: what happens, happens by events.
const never = time.Hour

func newBench(t *testing.T) *bench {
	t.Helper()
	dir := t.TempDir()
	b := &bench{t: t, dir: dir, root: testpki.NewRoot(t)}
	b.sub = b.root.SubCA(t)
	b.write("trust.pem", b.sub.BundlePEM(), 0o644)
	b.env = EnvironmentConfig{Name: "test", Profile: trust.Private, Trust: []string{b.path("trust.pem")}, Revocation: trust.Off, Poll: never}
	b.slot = SlotConfig{Name: "pcs", Environment: "test", Files: Files{Certificate: b.path("pcs.crt"), Key: b.path("pcs.key")}, Poll: never}
	return b
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

func (b *bench) write(name string, data []byte, mode os.FileMode) {
	b.t.Helper()
	testpki.WriteFile(b.t, b.path(name), data, mode)
}

// put renames data over name, as a careful tool does.
func (b *bench) put(name string, data []byte, mode os.FileMode) {
	b.t.Helper()
	b.write(name+".new", data, mode)
	if err := os.Rename(b.path(name+".new"), b.path(name)); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) pair(l *testpki.Leaf) {
	b.t.Helper()
	b.put("pcs.key", l.KeyPEM(), 0o600)
	b.put("pcs.crt", l.FullChainPEM(), 0o644)
}

// start runs the keeper until the test ends.
func (b *bench) start() {
	b.t.Helper()
	keeper := New(Options{Store: b.store, CRLs: b.crls, ClockSuspect: b.clock, Events: func(e Event) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.events = append(b.events, e)
	}})
	b.mu.Lock()
	b.keeper = keeper
	b.mu.Unlock()
	if b.watch != nil {
		b.keeper.watch = b.watch
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.keeper.Run(ctx) }()
	b.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			b.t.Errorf("run loop ended with %v", err)
		}
	})
	b.t.Cleanup(b.stop)
	b.apply()
}

// restart has a new keeper take over, as after a start of the process. Only what
// it tells is seen from now on.
func (b *bench) restart() {
	b.t.Helper()
	b.forget()
	b.start()
}

// forget ends the keeper that runs, and what it told.
func (b *bench) forget() {
	b.stop()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.events = nil
}

func (b *bench) apply() {
	b.t.Helper()
	if err := b.keeper.Apply(b.context(), Plan{Environments: []EnvironmentConfig{b.env}, Slots: []SlotConfig{b.slot}}); err != nil {
		b.t.Fatalf("apply: %v", err)
	}
}

// replaceTrust puts another bundle in force, whatever it lacks.
func (b *bench) replaceTrust(pem []byte) {
	b.t.Helper()
	b.put("trust.pem", pem, 0o644)
	b.do(b.keeper.Accept(b.context(), b.env.Name, Order{}))
}

func (b *bench) context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	b.t.Cleanup(cancel)
	return ctx
}

func (b *bench) pcs() *Slot { return b.keeper.Slot("pcs") }

// until waits until ok holds; it fails the test only after far longer than it can take.
func (b *bench) until(what string, ok func() bool) {
	b.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			st := &SlotStatus{State: "gone"}
			if b.pcs() != nil {
				st = b.pcs().Status()
			}
			b.t.Fatalf("waited in vain until %s; slot is %s, refusal %v, events %v", what, st.State, st.Refusal, b.told())
		}
		time.Sleep(time.Millisecond)
	}
}

// serves waits until the slot serves l.
func (b *bench) serves(l *testpki.Leaf) {
	b.t.Helper()
	b.until("the slot serves "+l.Cert.SerialNumber.Text(16), func() bool {
		snap := b.pcs().Snapshot()
		return snap != nil && snap.Generation.Identity.Leaf().Equal(l.Cert)
	})
}

// state waits for a slot state.
func (b *bench) state(want SlotState) {
	b.t.Helper()
	b.until("the slot is "+string(want), func() bool { return b.pcs().Status().State == want })
}

// still fails unless the slot serves l after it has looked at its source again.
func (b *bench) still(l *testpki.Leaf) {
	b.t.Helper()
	_ = b.keeper.Rotate(b.context(), "pcs", Order{})
	if snap := b.pcs().Snapshot(); snap == nil || !snap.Generation.Identity.Leaf().Equal(l.Cert) {
		b.t.Fatalf("the slot no longer serves the last good identity")
	}
}

func (b *bench) told() []EventKind {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []EventKind
	for _, e := range b.events {
		out = append(out, e.Kind)
	}
	return out
}

// of returns the events of one kind.
func (b *bench) of(kind EventKind) []Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []Event
	for _, e := range b.events {
		if e.Kind == kind {
			out = append(out, e)
		}
	}
	return out
}

// noInotify stands for a kernel that gives no inotify instance.
func noInotify(mark func(*unit)) (*watcher, error) {
	w := newBlindWatcher(mark)
	return w, syscall.EMFILE
}

// refused waits until what is on disk is refused for reason.
func (b *bench) refused(reason string) *Refusal {
	b.t.Helper()
	var r *Refusal
	b.until("the source is refused: "+reason, func() bool {
		r = b.pcs().Status().Refusal
		return r != nil && r.Reason == reason
	})
	return r
}

// leaf issues a certificate for the slot.
func (b *bench) leaf(opts ...testpki.Option) *testpki.Leaf {
	b.t.Helper()
	return b.sub.Issue(b.t, append([]testpki.Option{testpki.Name("pcs.nhs.uk")}, opts...)...)
}

// do runs a file operation that must work.
func (b *bench) do(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) count(kind EventKind) int {
	n := 0
	for _, k := range b.told() {
		if k == kind {
			n++
		}
	}
	return n
}
