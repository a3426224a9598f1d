package daemon

import (
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/manage"
	"github.com/spinecert/spinecert/internal/state"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
)

const manySlots = 10_000

// newFleet returns a daemon with n managed slots that serve, all RSA-2048, each
// with a request that waits. Its run loop has ended, so that only what is measured
// runs. cas are options of its CAs.
func newFleet(tb testing.TB, n int, cas ...testpki.Option) *Daemon {
	tb.Helper()
	base := tb.TempDir()
	cas = append(cas, testpki.KeyType("rsa-2048"))
	sub := testpki.NewRoot(tb, cas...).SubCA(tb, cas...)
	testpki.WriteFile(tb, filepath.Join(base, "trust.pem"), sub.BundlePEM(), 0o644)
	var text strings.Builder
	fmt.Fprintf(&text, "environments:\n  live: {profile: private, trust: [trust.pem], revocation: \"off\"}\nslots:\n")
	for i := range n {
		fmt.Fprintf(&text, "  slot-%d: {fqdn: %s, managed: {}}\n", i, providerName)
	}
	fmt.Fprintf(&text, "admin: {socket: {path: admin.sock}}\nstate: {directory: state}\n")
	c, err := config.Parse([]byte(text.String()), filepath.Join(base, "spinecert.yaml"))
	if err != nil {
		tb.Fatal(err)
	}
	dir, err := state.Lock(c.State.Directory, state.Options{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = dir.Close() })
	leaf := sub.Issue(tb, testpki.Name(providerName), testpki.DNS(providerName), testpki.KeyType("rsa-2048"))
	id, err := pki.NewIdentity(append(leaf.Chain, leaf.Cert), leaf.Key)
	if err != nil {
		tb.Fatal(err)
	}
	d := newDaemon(Options{Log: io.Discard}, c, dir, make(chan os.Signal, 1))
	first := c.Slots[0].Name
	settle(tb, d, manage.Plan(c, dir), func(ctx context.Context) error { return d.keeper.Offer(ctx, first, id, rotate.Order{}) })
	r, err := dir.Current(first)
	if err != nil {
		tb.Fatal(err)
	}
	for _, s := range c.Slots {
		if s.Name != first {
			if err := dir.Commit(s.Name, r, id, 5); err != nil {
				tb.Fatal(err)
			}
		}
		key := testpki.NewKey(tb, "ecdsa-p256")
		_, err := dir.NewRequest(state.Request{Slot: s.Name, Environment: "live", FQDN: s.FQDN, Key: "rsa-2048", Created: time.Now(), By: "prepare", Reason: "expiring"},
			key, func() ([]byte, error) {
				return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: testpki.Request(tb, key, s.FQDN, s.FQDN)}), nil
			})
		if err != nil {
			tb.Fatal(err)
		}
	}
	d = newDaemon(Options{Log: io.Discard}, c, dir, make(chan os.Signal, 1))
	settle(tb, d, manage.Plan(c, dir), func(context.Context) error { return nil })
	for _, s := range d.keeper.Slots() {
		if s.Snapshot() == nil {
			tb.Fatalf("slot %s is %s: %v", s.Name(), s.Status().State, s.Status().Refusal)
		}
	}
	return d
}

// settle runs the keeper of d until it has done what the plan and do ask for.
func settle(tb testing.TB, d *Daemon, p rotate.Plan, do func(context.Context) error) {
	tb.Helper()
	ctx, cancel := context.WithCancel(tb.Context())
	ended := make(chan error, 1)
	go func() { ended <- d.keeper.Run(ctx) }()
	err := d.keeper.Apply(ctx, p)
	if err == nil {
		err = do(ctx)
	}
	cancel()
	<-ended
	if err != nil {
		tb.Fatal(err)
	}
}

// counted is an answer of which only the length is kept.
type counted struct {
	header http.Header
	bytes  int
}

func (c *counted) Header() http.Header { return c.header }

func (c *counted) WriteHeader(int) {}

func (c *counted) Write(p []byte) (int, error) {
	c.bytes += len(p)
	return len(p), nil
}

// processorTime reports the processor time of a run of the benchmark, of all threads.
func processorTime(b *testing.B, do func()) {
	b.Helper()
	b.ReportAllocs()
	start := consumed(b)
	for b.Loop() {
		do()
	}
	b.ReportMetric(float64((consumed(b)-start).Microseconds())/1000/float64(b.N), "cpu-ms/op")
}

func consumed(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkDaemon is what is asked of a daemon with 10,000 managed slots, a request
// for each: a scrape, a status, a look after all requests, each slot by its name.
func BenchmarkDaemon(b *testing.B) {
	d := newFleet(b, manySlots)
	if r, err := d.manager.Requests(); len(r) != manySlots || err != nil { // reads them from the disk
		b.Fatal(len(r), err)
	}
	b.Run("scrape", func(b *testing.B) {
		web := d.webServer().Handler
		processorTime(b, func() {
			r, w := httptest.NewRequest(http.MethodGet, "http://localhost/metrics", nil), &counted{header: http.Header{}}
			r.Header.Set("Accept", "text/plain;version=1.0.0;escaping=allow-utf-8") // as Prometheus 3 does
			if web.ServeHTTP(w, r); w.bytes < 100*manySlots {
				b.Fatalf("%d bytes", w.bytes)
			}
		})
	})
	b.Run("facts", func(b *testing.B) {
		processorTime(b, func() {
			if s := d.scrape(); len(s.slots) != manySlots {
				b.Fatal(len(s.slots))
			}
		})
	})
	b.Run("status", func(b *testing.B) {
		processorTime(b, func() {
			if s := d.status(b.Context()); len(s.Slots) != manySlots || len(s.Requests) != manySlots {
				b.Fatalf("%d slots, %d requests", len(s.Slots), len(s.Requests))
			}
		})
	})
	b.Run("restore", func(b *testing.B) {
		processorTime(b, func() {
			if err := d.manager.Restore(b.Context()); err != nil {
				b.Fatal(err)
			}
		})
	})
	b.Run("slots", func(b *testing.B) {
		processorTime(b, func() {
			for i := range d.config.Slots {
				if _, ok := d.config.Slot(d.config.Slots[i].Name); !ok {
					b.Fatal(i)
				}
			}
		})
	})
}
