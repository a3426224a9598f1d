package rotate

import (
	"errors"
	"testing"

	"github.com/spinecert/spinecert/internal/testpki"
)

// TestAcceptTakesOnlyWhatWasLookedAt: the trust files may change between the look
// of somebody and their word.
func TestAcceptTakesOnlyWhatWasLookedAt(t *testing.T) {
	b := newBench(t)
	b.pair(b.sub.Issue(t, testpki.DNS("pcs.thirdparty.nhs.uk")))
	other, third := testpki.NewRoot(t, testpki.Name("Other")), testpki.NewRoot(t, testpki.Name("Third"))
	b.start()
	in := b.environment().Trust()

	b.put("trust.pem", other.CertPEM(), 0o644)
	var r *Refusal
	if err := b.keeper.Accept(b.context(), "test", Order{Bundle: in.Bundle().Digest()}); !errors.As(err, &r) || r.Rule != RuleTrustShrink {
		t.Fatalf("another bundle than the one looked at: %v; want a refusal by %s", err, RuleTrustShrink)
	}
	looked := b.environment().Status().Proposed
	if looked == nil || b.environment().Trust() != in {
		t.Fatalf("proposed %v, in force %v; want a proposal and the old trust", looked, b.environment().Trust())
	}
	b.put("trust.pem", third.CertPEM(), 0o644)
	if err := b.keeper.Accept(b.context(), "test", Order{Bundle: looked.Digest()}); !errors.As(err, &r) || b.environment().Trust() != in {
		t.Fatalf("the files changed after the look: %v", err)
	}
	if err := b.keeper.Accept(b.context(), "test", Order{Bundle: b.environment().Status().Proposed.Digest()}); err != nil {
		t.Fatal(err)
	}
	if got := b.environment().Trust().Bundle().Roots(); len(got) != 1 || !got[0].Equal(third.Cert) {
		t.Errorf("in force is %v", got)
	}
}
