package daemon

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/manage"
)

// newHistory returns a daemon with n slots that serve the last of several
// generations, all of them on disk.
func newHistory(tb testing.TB, n, generations int) *Daemon {
	tb.Helper()
	d := newFleet(tb, n)
	for _, s := range d.keeper.Slots() {
		r, err := d.store.Directory.Current(s.Name())
		if err != nil {
			tb.Fatal(err)
		}
		for r.Number < uint64(generations) {
			r.Number, r.Since = r.Number+1, r.Since.Add(time.Second)
			if err := d.store.Commit(s.Name(), r, s.Snapshot().Generation.Identity, generations); err != nil {
				tb.Fatal(err)
			}
		}
	}
	return restarted(tb, d)
}

// restarted is another daemon on the same state directory.
func restarted(tb testing.TB, d *Daemon) *Daemon {
	tb.Helper()
	again := newDaemon(Options{Log: io.Discard}, d.config, d.store.Directory, make(chan os.Signal, 1))
	settle(tb, again, manage.Plan(d.config, d.store.Directory), func(context.Context) error { return nil })
	return again
}

// BenchmarkTimeline is a status with timelines of 1,000 slots that keep 5
// generations each: the first one reads the disk, the next ones do not.
func BenchmarkTimeline(b *testing.B) {
	const slots, generations = 1000, 5
	d := newHistory(b, slots, generations)
	if r, err := d.manager.Requests(); len(r) != slots || err != nil {
		b.Fatal(len(r), err)
	}
	ask := func(want int) {
		s := d.statusWithTimeline(b.Context())
		for i := range s.Slots {
			if len(s.Slots[i].Timeline) != want {
				b.Fatalf("slot %s: %+v", s.Slots[i].Name, s.Slots[i].Timeline)
			}
		}
	}
	b.Run("first", func(b *testing.B) {
		processorTime(b, func() {
			d.memories.mu.Lock()
			d.memories.slots = nil
			d.memories.mu.Unlock()
			ask(generations + 1) // and the request that waits
		})
	})
	b.Run("later", func(b *testing.B) {
		processorTime(b, func() { ask(generations + 1) })
	})
	b.Run("without", func(b *testing.B) {
		processorTime(b, func() { d.status(b.Context()) })
	})
	b.Run("json", func(b *testing.B) {
		s := d.statusWithTimeline(b.Context())
		w := &counted{}
		processorTime(b, func() {
			if w.bytes = 0; json.NewEncoder(w).Encode(s) != nil {
				b.Fatal("no JSON")
			}
		})
		b.ReportMetric(float64(w.bytes)/slots, "B/slot")
	})
}
