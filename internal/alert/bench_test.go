package alert_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/alert"
	"github.com/spinecert/spinecert/internal/condition"
)

// many are as many slots whose certificates end soon.
func many(n int) []condition.Condition {
	end := time.Now().Add(20 * oneDay)
	out := make([]condition.Condition, 0, n)
	for i := range n {
		slot := fmt.Sprintf("slot-%d", i)
		c := condition.Condition{Code: condition.Expiring, Kind: condition.Slot, Subject: slot, Slot: slot, Severity: condition.Warning, Since: end.Add(-90 * oneDay),
			Ends: condition.Moment{Time: end}, Message: "its certificate or chain ends on 2026-12-13T00:00:00Z", Hint: "ask for the next certificate now, unless a request waits already: spinecert csr new --slot " + slot,
			Stops: "tunnel " + slot + ", service " + slot, Affects: condition.Affects{ODS: []string{"A99999"}, ASIDs: []string{"200000000001"}, Note: "booking of the north site"},
			Steps: []time.Time{end.Add(-90 * oneDay), end.Add(-30 * oneDay), end.Add(-14 * oneDay), end}}
		c.Complete("")
		out = append(out, c)
	}
	return out
}

type nobody struct{}

func (nobody) Send(context.Context, *alert.Message) error { return nil }

// newBench is an engine that has looked once, and its file.
func newBench(b *testing.B, all []condition.Condition) (*alert.Engine, string) {
	file := filepath.Join(b.TempDir(), alert.FileName)
	e := alert.New(alert.Options{File: file, Host: "gateway1", Tell: silent(), Look: func(time.Time) ([]condition.Condition, bool) { return all, false }})
	e.Configure(alert.Setting{RepeatWarning: 7 * oneDay, RepeatCritical: oneDay, Sinks: []alert.Sink{{Name: "ops", Type: "email", Min: condition.Warning, Timeout: time.Minute, Key: "1", Sender: nobody{}}}})
	ctx, stop := context.WithCancel(b.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = e.Run(ctx) }()
	for len(e.List(time.Now()).Alerts) == 0 || e.Pending()["ops"] > 0 || e.Save() != nil {
		time.Sleep(time.Millisecond)
	}
	b.Cleanup(func() { stop(); <-ended })
	return e, file
}

// BenchmarkLook is a look at 10,000 alerts: all of them new, with the file; and again,
// when nothing has changed.
func BenchmarkLook(b *testing.B) {
	all := many(10_000)
	b.Run("new", func(b *testing.B) {
		var size int64
		for b.Loop() { // until all are told, and that is in the file
			_, file := newBench(b, all)
			if st, err := os.Stat(file); err == nil {
				size = st.Size()
			}
		}
		b.ReportMetric(float64(size)/1e6, "MB")
	})
	b.Run("same", func(b *testing.B) {
		e, _ := newBench(b, all)
		b.ReportAllocs()
		for b.Loop() {
			e.LookNow()
		}
	})
	b.Run("list", func(b *testing.B) {
		e, _ := newBench(b, all)
		for b.Loop() {
			if n := len(e.List(time.Now()).Alerts); n != len(all) {
				b.Fatal(n)
			}
		}
	})
}
