package trust

import (
	"crypto/x509"
	"math/big"
	"runtime"
	"testing"

	"github.com/spinecert/spinecert/internal/testpki"
)

const largeCRL = 1_000_000

func BenchmarkCRLRead(b *testing.B) {
	root := testpki.NewRoot(b)
	der := testpki.NewLargeCRL(b, root, largeCRL)
	candidates := []*x509.Certificate{root.Cert}
	var before, after runtime.MemStats
	var crl *CRL
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		var err error
		if crl, err = ReadCRL(der, "large.crl", candidates); err != nil {
			b.Fatal(err)
		}
		runtime.ReadMemStats(&after)
	}
	b.ReportMetric(float64(len(der)), "input-bytes")
	b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc), "allocated-bytes")
	b.ReportMetric(float64(indexBytes(crl))/float64(crl.Len()), "B/entry")
}

func BenchmarkCRLLookup(b *testing.B) {
	root := testpki.NewRoot(b)
	crl, err := ReadCRL(testpki.NewLargeCRL(b, root, largeCRL), "large.crl", []*x509.Certificate{root.Cert})
	if err != nil {
		b.Fatal(err)
	}
	serials := make([]*big.Int, 1<<13)
	for i := range serials {
		serials[i] = testpki.LargeCRLSerial(i * 244) // half of them are not on the list
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		crl.Lookup(serials[i&(len(serials)-1)])
		i++
	}
}

// indexBytes returns what the entries of a list take.
func indexBytes(crl *CRL) int {
	return cap(crl.entries.records) + 4*cap(crl.entries.starts)
}
