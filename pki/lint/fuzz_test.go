package lint_test

import (
	"crypto/x509"
	"testing"

	"github.com/spinecert/spinecert/pki/lint"
)

// FuzzLint: whatever crypto/x509 parses can be checked, as anything.
func FuzzLint(f *testing.F) {
	k := newKit(f)
	const most = 4096 // mutating long ones takes the time of the others
	for _, fixture := range allFixtures() {
		switch made := fixture.make(k).(type) {
		case *cert:
			if len(made.Raw) < most {
				f.Add(made.Raw)
			}
		case *csr:
			if len(made.Raw) < most {
				f.Add(made.Raw)
			}
		}
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		if c, err := x509.ParseCertificate(der); err == nil {
			for _, finding := range lint.Leaf(c) {
				checkFinding(t, finding, lint.TargetLeaf)
			}
			for _, finding := range lint.Certificate(c) {
				checkFinding(t, finding, finding.Rule.Targets[0]) // which of the two is up to what the fuzzer made
			}
		}
		if r, err := x509.ParseCertificateRequest(der); err == nil {
			for _, finding := range lint.Request(r) {
				checkFinding(t, finding, lint.TargetRequest)
			}
		}
	})
}
