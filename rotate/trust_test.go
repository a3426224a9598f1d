package rotate

import (
	"math/big"
	"os"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/trust"
)

func (b *bench) environment() *Environment { return b.keeper.Environments()[0] }

// trustRefused waits until the trust files are refused and the sequence is still want.
func (b *bench) trustRefused(want uint64, pending bool) {
	b.t.Helper()
	b.until("the trust files are refused", func() bool {
		r := b.environment().Status().Refusal
		return r != nil && r.Pending == pending
	})
	if got := b.pcs().Snapshot().Trust.Sequence(); got != want {
		b.t.Errorf("trust sequence %d, want the last good %d", got, want)
	}
}

func TestLeafBeforeItsCA(t *testing.T) {
	b := newBench(t)
	g2 := testpki.NewRoot(t, testpki.Name("Root G2")).SubCA(t, testpki.Name("Authentication G2"))
	first, second := b.leaf(), g2.Issue(t, testpki.Name("pcs.nhs.uk"))
	b.pair(first)
	b.start()
	b.serves(first)
	b.pair(second)
	if r := b.refused(string(trust.UnknownIssuer)); r.Rule != RuleChain {
		t.Errorf("rule %q, want %q", r.Rule, RuleChain)
	}
	b.still(first)
	b.put("trust.pem", append(b.sub.BundlePEM(), g2.BundlePEM()...), 0o644)
	b.serves(second)
	b.state(SlotReady)
}

func TestTrustChangesWhileMaterialIsBroken(t *testing.T) {
	b := newBench(t)
	other := testpki.NewRoot(t, testpki.Name("Other Root")).SubCA(t, testpki.Name("Other"))
	first := b.leaf()
	b.pair(first)
	b.start()
	b.serves(first)
	b.write("pcs.key", nil, 0o600)
	b.state(SlotPending)

	b.replaceTrust(other.BundlePEM())
	b.until("the slot's peers are judged by the new trust", func() bool {
		return b.pcs().Snapshot().Trust.Bundle().SubCAs()[0].Equal(other.Cert)
	})
	b.still(first)
	// The files say nothing of it, but what is served no longer passes.
	b.until("the slot's own chain is told", func() bool { return b.count(EventOwnChain) == 1 })
	b.still(first)
	second := other.Issue(t, testpki.Name("pcs.nhs.uk"))
	b.pair(second)
	b.serves(second)
	if got := b.count(EventOwnChain); got != 1 {
		t.Errorf("own chain told %d times, want once", got)
	}
}

func TestOwnCertificateDoesNotStopTrust(t *testing.T) {
	b := newBench(t)
	other := testpki.NewRoot(t, testpki.Name("Other Root")).SubCA(t, testpki.Name("Other"))
	first := b.leaf()
	b.pair(first)
	b.start()
	before := b.pcs().Snapshot()
	b.replaceTrust(other.BundlePEM())
	b.until("own chain is told", func() bool { return b.count(EventOwnChain) == 1 })
	after := b.pcs().Snapshot()
	if after.Trust.Sequence() <= before.Trust.Sequence() || after.Generation != before.Generation {
		t.Errorf("sequence %d after %d, generation %d after %d", after.Trust.Sequence(), before.Trust.Sequence(), after.Generation.Number, before.Generation.Number)
	}
	if got := b.pcs().Status(); got.State != SlotRefused || got.Generation != before.Generation {
		t.Errorf("slot is %s", got.State)
	}
	for range 3 {
		b.still(first)
	}
	if got := b.count(EventOwnChain); got != 1 {
		t.Errorf("own chain told %d times, want once", got)
	}
	b.replaceTrust(b.sub.BundlePEM())
	b.state(SlotReady)
	b.until("the end of it is told", func() bool { return b.count(EventCleared) == 1 })
}

func TestBadBundleKeepsTheLastState(t *testing.T) {
	dead := testpki.NewRoot(t, testpki.Name("Dead"), testpki.Validity(time.Now().Add(-48*time.Hour), time.Now().Add(-time.Hour)))
	tests := map[string]struct {
		change  func(b *bench)
		pending bool
	}{
		"torn":          {func(b *bench) { d := b.sub.BundlePEM(); b.write("trust.pem", d[:len(d)-40], 0o644) }, true},
		"empty":         {func(b *bench) { b.write("trust.pem", nil, 0o644) }, true},
		"missing":       {func(b *bench) { b.do(os.Remove(b.path("trust.pem"))) }, true},
		"no living":     {func(b *bench) { b.put("trust.pem", dead.BundlePEM(), 0o644) }, false},
		"no root":       {func(b *bench) { b.put("trust.pem", b.sub.CertPEM(), 0o644) }, false},
		"a leaf in it":  {func(b *bench) { b.put("trust.pem", append(b.sub.BundlePEM(), b.leaf().CertPEM()...), 0o644) }, false},
		"a key with it": {func(b *bench) { b.put("trust.pem", append(b.sub.BundlePEM(), b.leaf().KeyPEM()...), 0o644) }, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			first, second := b.leaf(), b.leaf()
			b.pair(first)
			b.start()
			b.serves(first)
			sequence := b.pcs().Snapshot().Trust.Sequence()
			tc.change(b)
			b.trustRefused(sequence, tc.pending)
			b.pair(second) // identities go on rotating
			b.serves(second)
			b.put("trust.pem", append([]byte("mended\n"), b.sub.BundlePEM()...), 0o644)
			b.until("the trust files are taken again", func() bool { return b.environment().Status().Refusal == nil })
			if got := b.pcs().Snapshot().Trust.Sequence(); got <= sequence {
				t.Errorf("trust sequence %d, want more than %d", got, sequence)
			}
		})
	}
}

// withCRLs adds one CRL of the subCA and one of the root.
func (b *bench) withCRLs(opts ...testpki.CRLOption) {
	b.t.Helper()
	b.write("root.crl", b.root.CRL(b.t), 0o644)
	b.write("sub.crl", b.sub.CRL(b.t, opts...), 0o644)
	b.env.CRLs = []string{b.path("sub.crl"), b.path("root.crl")}
	b.env.Revocation = trust.Require
}

func TestOlderCRLNeverReplacesANewerOne(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	serial := big.NewInt(4711)
	tests := map[string][2][]testpki.CRLOption{ // what is in force, what comes after it
		"by thisUpdate": {
			{testpki.ThisUpdate(now.Add(-time.Hour)), testpki.Number(1)}, {testpki.ThisUpdate(now.Add(-2 * time.Hour)), testpki.Number(9)},
		},
		"by number": {
			{testpki.ThisUpdate(now.Add(-time.Hour)), testpki.Number(5)}, {testpki.ThisUpdate(now.Add(-time.Hour)), testpki.Number(4)},
		},
		"without a number": {
			{testpki.ThisUpdate(now.Add(-time.Hour)), testpki.NoNumber()}, {testpki.ThisUpdate(now.Add(-2 * time.Hour)), testpki.NoNumber()},
		},
	}
	for name, tc := range tests {
		for _, reload := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				b := newBench(t)
				b.pair(b.leaf())
				b.withCRLs(append(tc[0], testpki.Revoke(serial))...)
				b.start()
				b.until("there is trust", func() bool { return b.pcs().Snapshot() != nil })
				b.put("sub.crl", b.sub.CRL(t, tc[1]...), 0o644)
				if reload { // also where the configuration changes with it
					b.env.Grace = time.Hour
					b.apply()
				}
				b.until("it is told", func() bool { e := b.of(EventTrustRefused); return len(e) == 1 && e[0].Reason == "crl-number" })
				if !revokes(b.environment().Trust(), serial) {
					t.Error("an older CRL took a revocation back")
				}
				newer := []testpki.CRLOption{testpki.ThisUpdate(now), testpki.Number(20)}
				b.put("sub.crl", b.sub.CRL(t, newer...), 0o644)
				b.until("the newer one is in force", func() bool { return !revokes(b.environment().Trust(), serial) })
			})
		}
	}
}

func revokes(s *trust.State, serial *big.Int) bool {
	for _, crl := range s.CRLs() {
		if _, on := crl.Lookup(serial); on {
			return true
		}
	}
	return false
}

func TestBadCRLFileKeepsTheLastState(t *testing.T) {
	stranger := testpki.NewRoot(t, testpki.Name("Stranger"))
	serial := big.NewInt(4711)
	tests := map[string]struct {
		change  func(b *bench)
		pending bool
	}{
		"deleted":       {func(b *bench) { b.do(os.Remove(b.path("sub.crl"))) }, true},
		"empty":         {func(b *bench) { b.write("sub.crl", nil, 0o644) }, true},
		"cut":           {func(b *bench) { d := b.sub.CRL(b.t); b.write("sub.crl", d[:len(d)/2], 0o644) }, true},
		"of a stranger": {func(b *bench) { b.put("sub.crl", stranger.CRL(b.t), 0o644) }, false},
		"bad signature": {func(b *bench) { b.put("sub.crl", b.sub.CRL(b.t, testpki.BadCRLSignature()), 0o644) }, false},
		"no CRL in it":  {func(b *bench) { b.put("sub.crl", b.sub.CertPEM(), 0o644) }, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.pair(b.leaf())
			b.withCRLs(testpki.Revoke(serial))
			b.start()
			b.until("there is trust", func() bool { return b.pcs().Snapshot() != nil })
			sequence := b.pcs().Snapshot().Trust.Sequence()
			tc.change(b)
			b.trustRefused(sequence, tc.pending)
			if !revokes(b.pcs().Snapshot().Trust, serial) {
				t.Error("a revocation was lost with its file")
			}
			b.put("sub.crl", b.sub.CRL(t), 0o644)
			b.until("the CRL is taken again", func() bool { return b.environment().Status().Refusal == nil })
		})
	}
}

func TestCRLReplacedByAnotherListStays(t *testing.T) {
	serial := big.NewInt(4711)
	b := newBench(t)
	b.pair(b.leaf())
	b.withCRLs(testpki.Revoke(serial))
	b.start()
	b.until("there is trust", func() bool { return b.environment().Trust() != nil })
	b.put("sub.crl", b.root.CRL(t), 0o644) // valid, but of another issuer
	b.until("it is told", func() bool { e := b.of(EventTrustRefused); return len(e) == 1 && e[0].Reason == "crl-number" })
	if !revokes(b.environment().Trust(), serial) {
		t.Error("a revocation went away with its file")
	}
	b.env.CRLs = []string{b.path("root.crl")} // taken out on purpose
	b.apply()
	if revokes(b.environment().Trust(), serial) {
		t.Error("a list that is no longer named still counts")
	}
}
