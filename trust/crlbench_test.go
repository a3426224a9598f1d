package trust

import (
	"crypto/x509"
	"math/big"
	"runtime"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
)

// The same beside HAProxy, with resident memory and through a daemon: go run ./bench -only revocation.

const largeCRL = 1_000_000

func BenchmarkCRLRead(b *testing.B) {
	root := testpki.NewRoot(b)
	der := testpki.NewLargeCRL(b, root, largeCRL)
	candidates := []*x509.Certificate{root.Cert}
	var before, after, kept runtime.MemStats
	var crl *CRL
	for b.Loop() {
		b.StopTimer()
		runtime.GC()
		runtime.ReadMemStats(&before)
		b.StartTimer()
		var err error
		if crl, err = ReadCRL(der, "large.crl", candidates); err != nil {
			b.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	runtime.GC()
	runtime.ReadMemStats(&kept)
	runtime.KeepAlive(der) // it was there before
	b.ReportMetric(float64(len(der)), "input-bytes")
	b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc), "allocated-bytes")
	b.ReportMetric(float64(kept.HeapAlloc)-float64(before.HeapAlloc), "kept-bytes")
	b.ReportMetric(float64(indexBytes(crl))/float64(crl.Len()), "B/entry")
}

func BenchmarkCRLLookup(b *testing.B) {
	root := testpki.NewRoot(b)
	crl := benchmarkCRL(b, root)
	const some = 1 << 13
	for _, kind := range []struct {
		name  string
		first int // entry; those from largeCRL on are not on the list
		found bool
	}{{"hit", 0, true}, {"miss", largeCRL, false}} {
		b.Run(kind.name, func(b *testing.B) {
			serials := make([]*big.Int, some)
			for i := range serials {
				serials[i] = testpki.LargeCRLSerial(kind.first + i*(largeCRL/some))
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if _, found := crl.Lookup(serials[i&(some-1)]); found != kind.found {
					b.Fatalf("entry %d: found = %t", i, found)
				}
				i++
			}
		})
	}
}

// BenchmarkVerdict judges one peer with a large list in force: for the first time,
// again, and on an open connection.
func BenchmarkVerdict(b *testing.B) {
	root := testpki.NewRoot(b)
	sub := root.SubCA(b)
	leaf := sub.Issue(b, testpki.DNS("client.bench.test"))
	bundle, err := ParseBundle(Source{Name: "bundle.pem", Data: sub.BundlePEM()})
	if err != nil {
		b.Fatal(err)
	}
	top, err := ReadCRL(root.CRL(b), "root.crl", bundle.Certificates())
	if err != nil {
		b.Fatal(err)
	}
	state, err := NewState(StateConfig{Environment: "bench", Profile: Private, Bundle: bundle, CRLs: []*CRL{top, benchmarkCRL(b, sub)}})
	if err != nil {
		b.Fatal(err)
	}
	chain := []*x509.Certificate{leaf.Cert, sub.Cert}
	r := Request{Purpose: ClientAuth, Peers: Names("client.bench.test"), Now: time.Now()}
	v, err := state.Verify(chain, r)
	if err != nil || v.Revocation != RevocationGood {
		b.Fatalf("Verify = %q, %v", v.Revocation, err)
	}
	verify := func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := state.Verify(chain, r); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("fresh", verify)
	state.Remember(chain, r, v)
	b.Run("remembered", verify)
	b.Run("review", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := state.Review(chain, v, r, false); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func benchmarkCRL(b *testing.B, ca *testpki.Authority) *CRL {
	b.Helper()
	crl, err := ReadCRL(testpki.NewLargeCRL(b, ca, largeCRL), "large.crl", []*x509.Certificate{ca.Cert})
	if err != nil {
		b.Fatal(err)
	}
	return crl
}

// indexBytes returns what the entries of a list take.
func indexBytes(crl *CRL) int {
	return cap(crl.entries.records) + 4*cap(crl.entries.starts)
}
