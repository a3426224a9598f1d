package rotate

import (
	"fmt"
	"slices"
	"time"

	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/trust"
)

// Preview judges an identity as Offer would judge it at now, and changes nothing.
// allow names guard rules to override. The error is a *Refusal where it was
// judged. What Offer finds later may differ, as the slot may serve something else
// by then.
func (k *Keeper) Preview(slot string, id *pki.Identity, allow []string, now time.Time) error {
	s := k.Slot(slot)
	if s == nil {
		return fmt.Errorf("there is no slot %q", slot)
	}
	c := s.Status().Config
	var state *trust.State
	for _, e := range k.Environments() {
		if e.Name() == c.Environment {
			state = e.Trust()
		}
	}
	rules := slices.Concat(c.Allow, allow)
	cand := &candidate{file: "answer for slot " + c.Name, identity: id}
	_, refusal := examineIdentity(&c, cand, state, rules, now)
	snap := s.Snapshot()
	if snap != nil && snap.Generation.digest != cand.digest && (refusal == nil || refusal.Passes()) {
		// What waits is judged by what stands in its way after that, too.
		if r := guard(&c, snap.Generation, cand, rules, now); r != nil && (refusal == nil || r.Rule != RuleChain) {
			refusal = r
		}
	}
	if refusal != nil {
		return refusal
	}
	return nil
}
