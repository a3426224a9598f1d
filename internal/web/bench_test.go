package web

import (
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"
)

// BenchmarkPage draws pages of a host with 1,000 slots: all of them on one, and the first 50.
func BenchmarkPage(b *testing.B) {
	v := demo(1000)
	for name, target := range map[string]string{"1000": "/?size=1000", "50": "/", "find": "/?q=eps"} {
		b.Run(name, func(b *testing.B) {
			s := site(v)
			b.ReportAllocs()
			before := processor()
			for b.Loop() {
				s.last = nil
				r := httptest.NewRequest(http.MethodGet, target, nil)
				r.Host = "localhost"
				r.Header.Set("Accept-Encoding", "gzip")
				w := httptest.NewRecorder()
				s.ServeHTTP(w, r)
				b.ReportMetric(float64(w.Body.Len()), "bytes")
			}
			b.ReportMetric(float64((processor()-before).Microseconds())/1000/float64(b.N), "cpu-ms/op")
		})
	}
}

// TestPageOfManySlotsIsCheap bounds what a page of 1,000 slots costs, in what a busy machine does not change: the time is
// for the benchmark.
func TestPageOfManySlotsIsCheap(t *testing.T) {
	s := site(demo(1000))
	size := 0
	allocations := testing.AllocsPerRun(2, func() {
		s.last = nil
		size = get(s, "/?size=1000").Body.Len()
	})
	t.Logf("%.0f allocations, %d bytes", allocations, size)
	if allocations > 450_000 || size > 6<<20 {
		t.Errorf("%.0f allocations and %d bytes for 1,000 slots", allocations, size)
	}
}

// processor is the time that the processor has worked for this process.
func processor() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
