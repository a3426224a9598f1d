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

	RuleKeyReuse   = "key-reuse"   // managed slots: another certificate on the key of the current one
	RuleRolledBack = "rolled-back" // it is the very one that was rolled back from
	// RuleTrustShrink is that of an environment: a CA that has not expired is gone
	// from its trust files. See Keeper.Accept.
	RuleTrustShrink = "trust-shrink"
)

// Refusals that are not guard rules, and that callers tell apart.
const (
	ReasonNoTrust    = "environment_not_ready" // there is nothing to judge by yet
	ReasonUnwritable = "state_unwritable"      // the Store does not take it
	ReasonRemoved    = "removed"               // the slot was taken out of the plan, and may come back
)

// The other refusals that are not guard rules.
const (
	reasonUnreadable  = "unreadable"
	reasonIncoherent  = "source_incoherent"
	reasonKeyReadable = "key_readable"
	reasonMaterial    = "malformed"
	reasonFQDN        = "name_mismatch"
	reasonNoHistory   = "no_generation"
	reasonDamaged     = "generation_damaged"
)

// Refusal says why a candidate is not served.
type Refusal struct {
	Reason  string // one word; also the metric label
	Rule    string // the guard rule that, allowed, would let this candidate through; or ""
	CRLs    bool   // an environment: only lists of its files were not taken; its trust is in force
	Pending bool   // it may become whole by itself: a file is missing or half written
	Advice  string
	Err     error

	bundle *trust.Bundle // RuleTrustShrink: what the trust files hold
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

// Passes reports whether what is wrong may end by itself: the certificate comes into
// force, a CA joins the trust, the disk takes it, the slot comes back.
func (r *Refusal) Passes() bool {
	switch r.Reason {
	case string(trust.NotYetValid), string(trust.UnknownIssuer), ReasonNoTrust, ReasonUnwritable, ReasonRemoved:
		return true
	}
	return false
}

func pending(reason string, err error) *Refusal {
	return &Refusal{Reason: reason, Pending: true, Err: err}
}

func noTrust() *Refusal {
	return &Refusal{Reason: ReasonNoTrust, Err: errors.New("the trust of its environment is not ready"),
		Advice: "see the environment in spinecert status; it is judged by itself when its trust files are there"}
}

func materialRefusal(err error) *Refusal {
	if errors.Is(err, pki.ErrIncoherent) {
		return pending(reasonIncoherent, err)
	}
	return &Refusal{Reason: reasonMaterial, Err: err}
}

// chainRefusal: the hints of package trust are for peers; ours is in our hands.
func chainRefusal(file string, err error) *Refusal {
	reason := trust.ReasonOf(err)
	return &Refusal{Reason: string(reason), Rule: RuleChain, Err: fmt.Errorf("own certificate %q: %w", file, err), Advice: ownAdvice[reason]}
}

// ownAdvice is constant data.
var ownAdvice = map[trust.Reason]string{
	trust.Expired:          "put the renewed certificate there; if it should be valid, check the clock: timedatectl",
	trust.NotYetValid:      "it is taken by itself when it comes into force; if it should be valid, check the clock: timedatectl",
	trust.UnknownIssuer:    "put the missing subCA into the chain; if its authority publishes it, and its fingerprint is the published one, add it to the trust of the environment (spinecert trust add)",
	trust.WrongEnvironment: "put a certificate of this environment there, or give the slot the environment that the certificate is of",
	trust.BadSignature:     "get the certificate again from its issuer, or correct the trust files",
	trust.WeakKey:          "ask for a certificate on a key of at least RSA 2048",
	trust.WeakSignature:    "ask for a certificate that is signed with SHA-256",
	trust.Revoked:          "ask for a new certificate: peers that look at the CRL refuse this one",
}
