package rotate

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/trust"
)

// farm is n slots on 8 pairs of files, and one slot more with a pair of its own.
type farm struct {
	dir    string
	sub    *testpki.Authority
	keeper *Keeper
	plan   Plan
}

func newFarm(b *testing.B, n int) *farm {
	b.Helper()
	f := &farm{dir: b.TempDir(), sub: testpki.NewRoot(b).SubCA(b), keeper: New(Options{})}
	testpki.WriteFile(b, filepath.Join(f.dir, "trust.pem"), f.sub.BundlePEM(), 0o644)
	f.plan.Environments = []EnvironmentConfig{{
		Name: "bench", Profile: trust.Private, Trust: []string{filepath.Join(f.dir, "trust.pem")}, Revocation: trust.Off,
	}}
	for i := range n {
		pair := fmt.Sprintf("%d", i%8)
		if i < 8 {
			f.put(b, pair, f.sub.Issue(b))
		}
		f.add(fmt.Sprintf("slot-%d", i), pair)
	}
	f.put(b, "own", f.sub.Issue(b))
	f.add("own", "own")
	return f
}

func (f *farm) add(slot, pair string) {
	f.plan.Slots = append(f.plan.Slots, SlotConfig{Name: slot, Environment: "bench", Files: Files{
		Certificate: filepath.Join(f.dir, pair, "tls.crt"), Key: filepath.Join(f.dir, pair, "tls.key"),
	}})
}

func (f *farm) put(b *testing.B, pair string, l *testpki.Leaf) {
	b.Helper()
	for _, part := range []struct {
		name string
		data []byte
	}{{"tls.key", l.KeyPEM()}, {"tls.crt", l.FullChainPEM()}} {
		path := filepath.Join(f.dir, pair, part.name)
		testpki.WriteFile(b, path+".new", part.data, 0o600)
		if err := os.Rename(path+".new", path); err != nil {
			b.Fatal(err)
		}
	}
}

// run starts the keeper and returns how long the plan took.
func (f *farm) run(b *testing.B) (stop func(), took time.Duration) {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.keeper.Run(ctx) }()
	begin := time.Now()
	if err := f.keeper.Apply(ctx, f.plan); err != nil {
		b.Fatal(err)
	}
	took = time.Since(begin)
	for _, s := range f.keeper.Slots() {
		if s.Snapshot() == nil {
			b.Fatalf("slot %s is %s: %v", s.Name(), s.Status().State, s.Status().Refusal)
		}
	}
	return func() { cancel(); <-ended }, took
}

// BenchmarkStart10000 reports how long it takes until 10,000 slots serve.
func BenchmarkStart10000(b *testing.B) {
	for b.Loop() {
		f := newFarm(b, 10_000)
		stop, took := f.run(b)
		b.ReportMetric(took.Seconds(), "start-s")
		stop()
	}
}

// BenchmarkRotation reports what one rotation costs beside n other slots: from
// the first rename to the moment it is served.
func BenchmarkRotation(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		b.Run(fmt.Sprintf("slots=%d", n), func(b *testing.B) {
			f := newFarm(b, n)
			stop, _ := f.run(b)
			defer stop()
			own := f.keeper.Slot("own")
			for b.Loop() {
				b.StopTimer()
				next := f.sub.Issue(b)
				b.StartTimer()
				f.put(b, "own", next)
				for !own.Snapshot().Generation.Identity.Leaf().Equal(next.Cert) {
					time.Sleep(20 * time.Microsecond)
				}
			}
		})
	}
}

// BenchmarkTLS is what a handshake pays for its configuration.
func BenchmarkTLS(b *testing.B) {
	f := newFarm(b, 1)
	stop, _ := f.run(b)
	defer stop()
	e, err := f.keeper.Slot("own").Endpoint(EndpointConfig{Peers: trust.AnyName()})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.TLS(); err != nil {
			b.Fatal(err)
		}
	}
}
