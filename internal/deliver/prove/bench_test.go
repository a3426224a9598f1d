package prove

import (
	"syscall"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/config"
)

// spent is the CPU time of this process so far.
func spent(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkLook is one look at a local nginx with RSA 2048 and a subCA, and its cost to us.
func BenchmarkLook(b *testing.B) {
	h := newHost(b)
	address, address13, asks := h.freeAddress(), h.freeAddress(), h.freeAddress()
	h.nginx(h.block(address, "own") + h.block(address13, "own", "ssl_protocols TLSv1.3;") +
		h.block(asks, "own", "ssl_verify_client optional_no_ca;"))
	h.listening(address)
	id := identity(b, h.own)
	for name, at := range map[string]string{"1.2": address, "1.3": address13, "1.2_asks": asks} {
		b.Run(name, func(b *testing.B) {
			before := spent(b)
			for b.Loop() {
				if _, err := Look(b.Context(), probe(at, config.ProbeTLS), id); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((spent(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
		})
	}
}

// BenchmarkProve is a proof of three handshakes.
func BenchmarkProve(b *testing.B) {
	h := newHost(b)
	address := h.freeAddress()
	h.nginx(h.block(address, "own"))
	h.listening(address)
	want := h.want(h.own)
	for b.Loop() {
		if _, err := Prove(b.Context(), probe(address, config.ProbeTLS), want); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkProveTwenty is a proof of twenty services at once.
func BenchmarkProveTwenty(b *testing.B) {
	h := newHost(b)
	address := h.freeAddress()
	h.nginx(h.block(address, "own"))
	h.listening(address)
	want := h.want(h.own)
	for b.Loop() {
		errs := make(chan error)
		for range 20 {
			go func() {
				_, err := Prove(b.Context(), probe(address, config.ProbeTLS), want)
				errs <- err
			}()
		}
		for range 20 {
			if err := <-errs; err != nil {
				b.Fatal(err)
			}
		}
	}
}
