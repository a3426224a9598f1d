package rotate

import (
	"errors"
	"math"
	"testing"
	"time"

	"github.com/spinecert/spinecert/trust"
)

// A poll below zero once ended the program, from the run loop.
func TestPlanBoundsItsTimes(t *testing.T) {
	for name, d := range map[string]time.Duration{"negative": -time.Second, "overflowing": math.MaxInt64} {
		for _, p := range []Plan{
			{Environments: []EnvironmentConfig{{Name: "live", Trust: []string{"/nowhere"}, Poll: d}}},
			{Environments: []EnvironmentConfig{{Name: "live", Trust: []string{"/nowhere"}, Settle: d}}},
			{Environments: []EnvironmentConfig{{Name: "live", Trust: []string{"/nowhere"}}}, Slots: []SlotConfig{
				{Name: "pcs", Environment: "live", Files: Files{Certificate: "/a", Key: "/b"}, Poll: d}}},
		} {
			if p.Check() == nil {
				t.Errorf("%s: plan %+v is accepted", name, p)
			}
		}
	}
	good := Plan{Environments: []EnvironmentConfig{{Name: "live", Trust: []string{"/nowhere"}, Poll: longest, Settle: longest}}}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
}

// A slot that is given an environment without trust must not go on letting in the
// peers of the one it has left.
func TestSlotLeavesItsEnvironmentForOneWithoutTrust(t *testing.T) {
	b := newBench(t)
	leaf := b.leaf()
	b.pair(leaf)
	b.start()
	b.serves(leaf)
	endpoint, err := b.pcs().Endpoint(EndpointConfig{Role: Server, Peers: trust.Names("peer.nhs.uk")})
	b.do(err)
	b.env.Name, b.env.Trust, b.slot.Environment = "live", []string{b.path("live.pem")}, "live"
	b.apply()
	if _, err := endpoint.TLS(); !errors.Is(err, ErrNotReady) || b.pcs().Snapshot() != nil {
		t.Errorf("the slot still serves: %v", err)
	}
	if st := b.pcs().Status(); st.Generation != nil || st.Refusal == nil {
		t.Errorf("status %+v", st)
	}
	b.put("live.pem", b.sub.BundlePEM(), 0o644)
	b.serves(leaf)
	if _, err := endpoint.TLS(); err != nil {
		t.Error(err)
	}
	if n := b.pcs().Snapshot().Generation.Number; n != 2 {
		t.Errorf("generation %d, want 2: numbers never repeat", n)
	}
}

// A directory whose file system stops answering between two looks at it must not
// hold up the sources that are elsewhere.
func TestDirectoryThatHangsWhileItIsWatched(t *testing.T) {
	hang := make(chan struct{})
	defer close(hang)
	w := newBlindWatcher(func(*unit) {})
	w.stat = func(dir string) (inode, error) {
		if dir == "/hangs" {
			<-hang
		}
		return inode{1, 1}, nil
	}
	go func() { _ = w.set(&unit{}, []place{{"/hangs", "a"}}) }()
	set := make(chan error)
	go func() {
		time.Sleep(50 * time.Millisecond)
		set <- w.set(&unit{}, []place{{"/answers", "a"}})
	}()
	select {
	case err := <-set:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("everybody waits for it")
	}
}
