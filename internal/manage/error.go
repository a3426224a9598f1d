package manage

import (
	"errors"
	"fmt"

	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/trust"
)

// Kind says what sort of no an Error is.
type Kind string

// The kinds.
const (
	Unknown Kind = "unknown" // there is no such slot or request
	Usage   Kind = "usage"   // the order makes no sense
	Refused Kind = "refused" // examined and judged bad
	Waiting Kind = "waiting" // an answer fits, but cannot be in force yet; it stays and is tried again
	Failed  Kind = "failed"  // could not be done
)

// Reasons of an Error beside those of package trust and rotate.
const (
	ReasonNoRequest = "no_request"   // no request has the key of any certificate that was found
	ReasonName      = "name_refused" // a name is against a rule for requests
	ReasonMalformed = "malformed"    // nothing in a file is understood
	ReasonSeveral   = "several"      // it answers several requests
	ReasonTooLarge  = "too_large"    // more bytes or names than any certificate has
)

// Error says why something was not done.
type Error struct {
	Kind   Kind
	Reason string // one word: of the contract, or a guard rule; "" where Kind says it all
	Rule   string // the guard rule that, allowed, would let it pass; or ""
	Err    error
	Advice string
}

// Error returns the cause. It is bounded, see Clip: others write what it names.
func (e *Error) Error() string { return Clip(e.Err.Error()) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Hint returns the next action, or "".
func (e *Error) Hint() string {
	if e.Advice != "" {
		return Clip(e.Advice)
	}
	return Clip(pki.Hint(e.Err))
}

func unknown(advice, format string, args ...any) *Error {
	return &Error{Kind: Unknown, Err: fmt.Errorf(format, args...), Advice: advice}
}

func usage(advice, format string, args ...any) *Error {
	return &Error{Kind: Usage, Err: fmt.Errorf(format, args...), Advice: advice}
}

func refused(reason, advice, format string, args ...any) *Error {
	return &Error{Kind: Refused, Reason: reason, Err: fmt.Errorf(format, args...), Advice: advice}
}

// judged makes an Error of what package trust or rotate said of an answer; what
// neither judged stays as it is.
func judged(kind Kind, err error) error {
	var r *rotate.Refusal
	var v *trust.VerifyError
	switch {
	case errors.As(err, &r):
		return &Error{Kind: kind, Reason: r.Reason, Rule: r.Rule, Err: err}
	case errors.As(err, &v):
		return &Error{Kind: kind, Reason: string(v.Reason), Err: err}
	}
	return err
}

// WaitsFor reports whether a refusal of an answer ends by itself, so that the answer
// stays with its request.
func WaitsFor(err error) bool {
	var r *rotate.Refusal
	return errors.As(err, &r) && r.Passes()
}
