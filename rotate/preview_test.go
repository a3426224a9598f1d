package rotate

import (
	"errors"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
)

// TestPreview: the judgement of a rotation, and no rotation.
func TestPreview(t *testing.T) {
	b := newBench(t)
	first := b.leaf()
	b.pair(first)
	b.slot.FQDN = "pcs.nhs.uk"
	b.start()
	now := time.Now()
	for _, tc := range []struct {
		name   string
		leaf   *testpki.Leaf
		allow  []string
		reason string
	}{
		{"good", b.leaf(), nil, ""},
		{"what serves", first, nil, ""},
		{"older", b.leaf(testpki.Validity(now.Add(-9*time.Hour), now.Add(time.Hour))), nil, RuleOlder},
		{"older, allowed", b.leaf(testpki.Validity(now.Add(-9*time.Hour), now.Add(time.Hour))), []string{RuleOlder}, ""},
		{"expired", b.leaf(testpki.Validity(now.Add(-9*time.Hour), now.Add(-time.Hour))), []string{RuleOlder}, "expired"},
		{"another name", b.leaf(testpki.Name("x.nhs.uk")), nil, reasonFQDN},
		{"not yet, and another name is lost", b.leaf(testpki.Validity(now.Add(time.Hour), now.Add(2*time.Hour)), testpki.DNS("pcs.nhs.uk")), nil, "not_yet_valid"},
		{"another root", testpki.NewRoot(t, testpki.Name("Other Root")).SubCA(t, testpki.Name("Other")).Issue(t, testpki.Name("pcs.nhs.uk")), nil, "unknown_issuer"},
	} {
		id, err := pki.NewIdentity(append(tc.leaf.Chain, tc.leaf.Cert), tc.leaf.Key)
		if err != nil {
			t.Fatal(err)
		}
		err = b.keeper.Preview("pcs", id, tc.allow, now)
		var r *Refusal
		if got := ""; errors.As(err, &r) || err == nil {
			if r != nil {
				got = r.Reason
			}
			if got != tc.reason {
				t.Errorf("%s: %v, want %q", tc.name, err, tc.reason)
			}
		} else {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	if n := b.pcs().Snapshot().Generation.Number; n != 1 || b.pcs().Status().Refusal != nil {
		t.Errorf("generation %d, refusal %v", n, b.pcs().Status().Refusal)
	}
	if err := b.keeper.Preview("none", nil, nil, now); err == nil || errors.As(err, new(*Refusal)) {
		t.Errorf("a slot that is not there: %v", err)
	}
}
