package manage

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/trust"
)

// TestPlanOfAnEnvironment has every setting reach package rotate.
func TestPlanOfAnEnvironment(t *testing.T) {
	c := &config.Config{Environments: []config.Environment{{
		Name: "live", Profile: "nhs-g2", NameFromCN: true, Trust: []string{"/t.pem"}, AcceptableCAs: []string{"A"}, Revocation: "prefer",
		CRL: config.CRL{Files: []string{"/crl"}, Grace: time.Hour, MaxSize: 7, Refresh: time.Minute, Timeout: time.Second,
			Hosts: []string{"crl.nhs.uk"}, Proxy: "http://proxy:3128"},
		MinRSABits: 3072, MinECBits: 384, SignatureAlgorithms: []x509.SignatureAlgorithm{x509.SHA384WithRSA}, RequireStaple: true,
	}}}
	want := rotate.EnvironmentConfig{
		Name: "live", Profile: trust.NHSG2, NameFromCN: true, Trust: []string{"/t.pem"}, AcceptableCAs: []string{"A"}, Revocation: trust.Prefer,
		CRLs: []string{"/crl"}, Grace: time.Hour, MaxCRL: 7,
		Fetch:      rotate.CRLFetch{Refresh: time.Minute, Timeout: time.Second, Hosts: []string{"crl.nhs.uk"}, Proxy: "http://proxy:3128"},
		MinRSABits: 3072, MinECBits: 384, Signatures: []x509.SignatureAlgorithm{x509.SHA384WithRSA}, RequireStaple: true,
	}
	p := Plan(c, nil)
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, p.Environments[0]); diff != "" {
		t.Error(diff)
	}
}
