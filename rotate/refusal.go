package rotate

import (
	"errors"
	"fmt"

	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/trust"
)

// ErrNotReady says that a slot serves nothing yet.
var ErrNotReady = errors.New("slot is not ready: it has no identity to serve")

// The guard rules that can refuse a candidate, see SlotConfig.Allow.
const (
	RuleOlder = "older" // notBefore earlier than the current one's
	RuleNames = "names" // a name of the current one is missing
	RuleChain = "chain" // its own chain does not pass the trust of its environment
)

// Refusals that are not guard rules.
const (
	reasonUnreadable  = "unreadable"
	reasonIncoherent  = "source_incoherent"
	reasonKeyReadable = "key_readable"
	reasonMaterial    = "malformed"
	reasonFQDN        = "name_mismatch"
	reasonNoTrust     = "environment_not_ready"
)

// Refusal says why a candidate is not served.
type Refusal struct {
	Reason  string // one word; also the metric label
	Rule    string // the guard rule that, allowed, would let this candidate through; or ""
	Pending bool   // it may become whole by itself: a file is missing or half written
	Advice  string
	Err     error
}

// Error returns the cause, preceded by the rule if there is one.
func (r *Refusal) Error() string {
	if r.Rule != "" {
		return fmt.Sprintf("guard rule %q: %v", r.Rule, r.Err)
	}
	return r.Err.Error()
}

// Unwrap returns the cause.
func (r *Refusal) Unwrap() error { return r.Err }

// Hint returns the next action.
func (r *Refusal) Hint() string {
	if r.Advice != "" {
		return r.Advice
	}
	return pki.Hint(r.Err)
}

func pending(reason string, err error) *Refusal {
	return &Refusal{Reason: reason, Pending: true, Err: err}
}

func materialRefusal(err error) *Refusal {
	if errors.Is(err, pki.ErrIncoherent) {
		return pending(reasonIncoherent, err)
	}
	return &Refusal{Reason: reasonMaterial, Err: err}
}

func chainRefusal(err error) *Refusal {
	return &Refusal{Reason: string(trust.ReasonOf(err)), Rule: RuleChain, Err: fmt.Errorf("own certificate: %w", err)}
}
