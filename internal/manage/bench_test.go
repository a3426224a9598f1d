package manage

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/state"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
)

// estate is a state directory with n managed slots that serve, all RSA-2048.
type estate struct {
	dir     *state.Directory
	config  *config.Config
	sub     *testpki.Authority
	keeper  *rotate.Keeper
	manager *Manager
}

func newEstate(b *testing.B, n int) *estate {
	b.Helper()
	e := &estate{sub: testpki.NewRoot(b, testpki.KeyType("rsa-2048")).SubCA(b, testpki.KeyType("rsa-2048"))}
	base := b.TempDir()
	trustFile := filepath.Join(base, "trust.pem")
	testpki.WriteFile(b, trustFile, e.sub.BundlePEM(), 0o644)
	e.config = &config.Config{
		Environments: []config.Environment{{Name: "live", Profile: "private", Trust: []string{trustFile}, Revocation: "off"}},
		State:        config.State{Directory: filepath.Join(base, "state"), KeepGenerations: 5},
	}
	for i := range n {
		e.config.Slots = append(e.config.Slots, config.Slot{Name: fmt.Sprintf("slot-%d", i), Environment: "live", FQDN: "pcs.thirdparty.nhs.uk",
			StrictPermissions: true, Poll: 30 * time.Second, Settle: time.Minute, Managed: &config.Managed{Key: "rsa-2048", Issuer: "manual"}})
	}
	var err error
	if e.dir, err = state.Lock(e.config.State.Directory, state.Options{}); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = e.dir.Close() })
	e.fill(b)
	return e
}

// fill gives every slot a generation on disk, as an earlier run left it.
func (e *estate) fill(b *testing.B) {
	b.Helper()
	leaf := e.sub.Issue(b, testpki.Name("pcs.thirdparty.nhs.uk"), testpki.DNS("pcs.thirdparty.nhs.uk"), testpki.KeyType("rsa-2048"))
	id, err := pki.NewIdentity(append(leaf.Chain, leaf.Cert), leaf.Key)
	if err != nil {
		b.Fatal(err)
	}
	first := e.config.Slots[0].Name
	stop := e.run(b, e.config.Slots[:1])
	if err := e.keeper.Offer(b.Context(), first, id, rotate.Order{}); err != nil {
		b.Fatal(err)
	}
	stop()
	r, err := e.dir.Current(first)
	if err != nil {
		b.Fatal(err)
	}
	for _, s := range e.config.Slots[1:] {
		if err := e.dir.Commit(s.Name, r, id, 5); err != nil {
			b.Fatal(err)
		}
	}
}

// run starts a keeper on some of the slots and waits until they serve.
func (e *estate) run(b *testing.B, slots []config.Slot) (stop func()) {
	b.Helper()
	c := *e.config
	c.Slots = slots
	e.keeper = rotate.New(rotate.Options{Store: e.dir})
	e.manager = New(Config{Directory: e.dir, Keeper: e.keeper, Configuration: func() *config.Config { return &c }})
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- e.keeper.Run(ctx) }()
	if err := e.keeper.Apply(ctx, Plan(&c, e.dir)); err != nil {
		b.Fatal(err)
	}
	return func() { cancel(); <-ended }
}

// BenchmarkStart10000Managed: from a state directory with 10,000 managed slots
// until all of them serve.
func BenchmarkStart10000Managed(b *testing.B) {
	e := newEstate(b, 10_000)
	for b.Loop() {
		stop := e.run(b, e.config.Slots)
		if err := e.manager.Restore(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		for _, s := range e.keeper.Slots() {
			if s.Snapshot() == nil {
				b.Fatalf("slot %s is %s: %v", s.Name(), s.Status().State, s.Status().Refusal)
			}
		}
		stop()
		b.StartTimer()
	}
}

// BenchmarkImport is one answer, from its bytes until it is in force and on disk,
// with few slots and with many. BenchmarkFsync says what of it is the disk.
func BenchmarkImport(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		b.Run(fmt.Sprintf("slots=%d", n), func(b *testing.B) {
			e := newEstate(b, n)
			stop := e.run(b, e.config.Slots)
			defer stop()
			slot := e.config.Slots[0].Name
			start := time.Now()
			for i := 0; b.Loop(); i++ {
				b.StopTimer()
				made, err := e.manager.NewRequest(b.Context(), Order{Slot: slot})
				if err != nil {
					b.Fatal(err)
				}
				key, err := e.dir.RequestKey(slot, made.Request.ID)
				if err != nil {
					b.Fatal(err)
				}
				leaf := e.sub.Issue(b, testpki.Name("pcs.thirdparty.nhs.uk"), testpki.DNS("pcs.thirdparty.nhs.uk"),
					testpki.Key(key), testpki.Validity(start.Add(time.Duration(i)*time.Second-time.Hour), start.AddDate(1, 0, 0)))
				b.StartTimer()
				got, err := e.manager.Import(b.Context(), ImportOrder{Files: []File{{Name: "answer", Data: leaf.CertPEM()}}})
				if err != nil || got.Outcome != InForce {
					b.Fatalf("%+v: %v", got.Outcome, err)
				}
			}
		})
	}
}

// BenchmarkFsync is what one durable file costs on this disk, to compare with.
func BenchmarkFsync(b *testing.B) {
	dir := b.TempDir()
	for i := 0; b.Loop(); i++ {
		f, err := os.Create(filepath.Join(dir, fmt.Sprint(i)))
		if err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
		_ = f.Close()
	}
}
