package cli

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// BenchmarkCSR makes a key and a request beside openssl, in turn: the ratio of the
// medians is what counts. Run it with -benchtime 50x.
func BenchmarkCSR(b *testing.B) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		b.Skip("openssl is not installed")
	}
	for _, bits := range []string{"2048", "4096"} {
		b.Run("rsa-"+bits, func(b *testing.B) {
			dir := b.TempDir()
			var ours, theirs []time.Duration
			for i := 0; b.Loop(); i++ {
				base := filepath.Join(dir, fmt.Sprint(i))
				begin := time.Now()
				if out, err := exec.Command(openssl, "req", "-newkey", "rsa:"+bits, "-nodes", "-keyout", base+".key", "-out", base+".csr",
					"-subj", "/CN=pcs.thirdparty.nhs.uk").CombinedOutput(); err != nil {
					b.Fatalf("%v: %s", err, out)
				}
				theirs = append(theirs, time.Since(begin))
				begin = time.Now()
				if _, err := runCSRNew(context.Background(), &csrOptions{fqdn: "pcs.thirdparty.nhs.uk", out: base, kind: "rsa-" + bits}); err != nil {
					b.Fatal(err)
				}
				ours = append(ours, time.Since(begin))
			}
			slices.Sort(ours)
			slices.Sort(theirs)
			b.ReportMetric(float64(ours[len(ours)/2])/float64(theirs[len(theirs)/2]), "x-openssl")
		})
	}
}
