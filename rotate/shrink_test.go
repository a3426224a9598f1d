package rotate

import (
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
)

func TestTrustShrink(t *testing.T) {
	b := newBench(t)
	g2 := testpki.NewRoot(t, testpki.Name("Root G2")).SubCA(t, testpki.Name("Authentication G2"))
	both := append(b.sub.BundlePEM(), g2.BundlePEM()...)
	b.write("trust.pem", both, 0o644)
	first := b.leaf()
	b.pair(first)
	b.start()
	was := b.pcs().Snapshot().Trust
	for range 2 {
		b.put("trust.pem", g2.BundlePEM(), 0o644)
		b.until("it is refused", func() bool { r := b.environment().Status().Refusal; return r != nil && r.Reason == RuleTrustShrink })
		st := b.environment().Status()
		if r := st.Refusal; r.Rule != RuleTrustShrink || r.Pending || !strings.Contains(r.Hint(), "trust accept test") || !strings.Contains(r.Error(), b.sub.Cert.Subject.CommonName) {
			t.Errorf("refusal %v, hint %q", r, r.Hint())
		}
		if st.Proposed == nil || len(st.Proposed.Certificates()) != 2 || st.Trust != was || st.Since.IsZero() {
			t.Errorf("status %+v", st)
		}
		if b.pcs().Snapshot().Trust != was {
			t.Error("new handshakes are judged without the CA")
		}
		b.do(b.keeper.Refresh(b.context())) // looking again is no word
		b.put("trust.pem", both, 0o644)
		b.until("it is put back", func() bool { return b.environment().Status().Refusal == nil })
		if st := b.environment().Status(); st.Proposed != nil || st.Trust != was || !st.Since.IsZero() {
			t.Errorf("status %+v", st)
		}
	}
	if got := b.count(EventTrustRefused); got != 2 {
		t.Errorf("told %d times, want once each time", got)
	}
	b.put("trust.pem", g2.BundlePEM(), 0o644)
	b.until("it is refused", func() bool { return b.environment().Status().Proposed != nil })
	b.do(b.keeper.Accept(b.context(), "test", Order{}))
	if snap := b.pcs().Snapshot(); len(snap.Trust.Bundle().Certificates()) != 2 || snap.Trust.Sequence() <= was.Sequence() {
		t.Error("answered before it was in force for the slots")
	}
	if st := b.environment().Status(); st.Proposed != nil || st.Refusal != nil {
		t.Errorf("status %+v", st)
	}
	b.is(first) // told, and goes on
	b.until("own chain is told", func() bool { return b.count(EventOwnChain) == 1 })
}

// The word counts for what lies there then, and dies with it.
func TestAcceptDiesWithItsCandidate(t *testing.T) {
	b := newBench(t)
	g2 := testpki.NewRoot(t, testpki.Name("Root G2")).SubCA(t, testpki.Name("Authentication G2"))
	b.write("trust.pem", append(b.sub.BundlePEM(), g2.BundlePEM()...), 0o644)
	b.pair(b.leaf())
	b.start()
	was := b.environment().Trust()
	b.do(b.keeper.Accept(b.context(), "test", Order{})) // nothing is proposed
	if b.environment().Trust() != was {
		t.Error("a new state of the same files")
	}
	b.put("trust.pem", b.sub.BundlePEM(), 0o644)
	b.until("it is refused", func() bool { return b.environment().Status().Refusal != nil })
	if b.environment().Trust() != was {
		t.Error("the word for nothing was taken for what came later")
	}
	b.put("trust.pem", append([]byte("again\n"), b.sub.BundlePEM()...), 0o644) // other bytes, the same CAs
	b.do(b.keeper.Accept(b.context(), "test", Order{}))
	if got := len(b.environment().Trust().Bundle().Certificates()); got != 2 {
		t.Errorf("%d CAs", got)
	}
	b.put("trust.pem", g2.BundlePEM(), 0o644)
	b.until("the next step is refused", func() bool { return b.environment().Status().Refusal != nil })
}

func TestBundlesThatAreNeverAccepted(t *testing.T) {
	dead := testpki.NewRoot(t, testpki.Name("Dead"), testpki.Validity(time.Now().Add(-48*time.Hour), time.Now().Add(-time.Hour)))
	for name, data := range map[string][]byte{"empty": nil, "expired": dead.BundlePEM(), "half": testpki.NewRoot(t).CertPEM()[:200]} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.pair(b.leaf())
			b.start()
			was := b.environment().Trust()
			b.put("trust.pem", data, 0o644)
			if err := b.keeper.Accept(b.context(), "test", Order{}); err == nil {
				t.Error("accepted")
			}
			if b.environment().Trust() != was || b.pcs().Snapshot().Trust != was {
				t.Error("in force")
			}
		})
	}
}

func TestWhatIsNoShrink(t *testing.T) {
	inTime(t, func(b *bench) {
		short := testpki.Validity(time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
		old := testpki.NewRoot(b.t, testpki.Name("Old"), short).SubCA(b.t, testpki.Name("Old sub"), short)
		g2 := testpki.NewRoot(b.t, testpki.Name("Root G2")).SubCA(b.t, testpki.Name("Authentication G2"))
		b.write("trust.pem", append(b.sub.BundlePEM(), old.BundlePEM()...), 0o644)
		b.pair(b.leaf())
		b.start()
		look := func() *Refusal { b.do(b.keeper.Refresh(b.context())); return b.environment().Status().Refusal }
		b.put("trust.pem", b.sub.BundlePEM(), 0o644)
		if r := look(); r == nil || r.Rule != RuleTrustShrink {
			b.t.Errorf("a living CA is gone: %v", r)
		}
		later(2 * time.Hour)
		if r := look(); r != nil {
			b.t.Errorf("an expired CA is gone: %v", r)
		}
		b.put("trust.pem", append(b.sub.BundlePEM(), g2.BundlePEM()...), 0o644)
		if r := look(); r != nil {
			b.t.Errorf("a CA more: %v", r)
		}
		b.put("trust.pem", append(append([]byte("other order\n"), g2.BundlePEM()...), b.sub.BundlePEM()...), 0o644)
		if r := look(); r != nil {
			b.t.Errorf("another order: %v", r)
		}
		// A CA renewed on the same key is another certificate.
		renewed := b.root.SubCA(b.t, testpki.Key(b.sub.Key), testpki.Name(b.sub.Cert.Subject.CommonName))
		b.put("trust.pem", append(renewed.BundlePEM(), g2.BundlePEM()...), 0o644)
		if r := look(); r == nil || r.Rule != RuleTrustShrink {
			b.t.Errorf("a CA was replaced: %v", r)
		}
	})
}

// A plan that takes a trust file away shrinks the trust like the file itself.
func TestPlanThatShrinks(t *testing.T) {
	b := newBench(t)
	g2 := testpki.NewRoot(t, testpki.Name("Root G2")).SubCA(t, testpki.Name("Authentication G2"))
	b.write("g2.pem", g2.BundlePEM(), 0o644)
	b.env.Trust = append(b.env.Trust, b.path("g2.pem"))
	b.pair(b.leaf())
	b.start()
	b.env.Trust = b.env.Trust[:1]
	b.apply()
	if st := b.environment().Status(); st.Refusal == nil || st.Refusal.Rule != RuleTrustShrink || len(st.Trust.Bundle().Certificates()) != 4 {
		t.Errorf("status %+v", st)
	}
	b.do(b.keeper.Accept(b.context(), "test", Order{}))
	if got := len(b.environment().Trust().Bundle().Certificates()); got != 2 {
		t.Errorf("%d CAs", got)
	}
	b.apply()
	if b.environment().Status().Refusal != nil {
		t.Error("refused again")
	}
}

func TestAcceptHandsOnWhoItWas(t *testing.T) {
	b := newBench(t)
	b.start()
	b.put("trust.pem", testpki.NewRoot(t, testpki.Name("Root G2")).BundlePEM(), 0o644)
	b.do(b.keeper.Accept(b.context(), "test", Order{Actor: "who"}))
	e := b.of(EventTrustChanged)
	if len(e) != 2 || e[0].Actor != nil || e[1].Actor != "who" {
		t.Errorf("told %+v", e)
	}
}
