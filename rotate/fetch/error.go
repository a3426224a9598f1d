package fetch

import (
	"fmt"
	"strings"
)

// The reasons of an Error.
const (
	Malformed      = "malformed"       // what is asked for is no address that can be asked
	NotPermitted   = "not_permitted"   // scheme, host or port are not among those that may be asked
	PrivateAddress = "private_address" // the host is at an address that is not of the public internet
	Redirect       = "redirect"        // the server sends elsewhere, and there it is not permitted
	Unreachable    = "unreachable"     // no address, or no connection
	BadTLS         = "tls"             // https: the server is not who it should be
	Timeout        = "timeout"         // the deadline of the context
	Canceled       = "canceled"        // the context was canceled
	Protocol       = "protocol"        // the answer is not HTTP/1.x, or its header is over 16 KiB
	Status         = "status"          // neither 200, nor 304 to a conditional request
	Encoding       = "encoding"        // the body is compressed, which was not asked for
	TooLarge       = "too_large"       // the body is over MaxBytes
	Truncated      = "truncated"       // the connection ended before the answer did
	Empty          = "empty"           // the body has no bytes
	Unwritable     = "unwritable"      // the writer did not take the body
)

// Error is why there is no answer that can be used.
type Error struct {
	// Address is what was asked for, at most 200 bytes of it, without user and
	// password.
	Address string
	Reason  string // one of the constants
	Detail  string // a sentence; never empty
	Advice  string // the next action for the operator
	Err     error  // the cause, which Detail tells already; may be nil
}

// Error returns `fetch "address": cause`.
func (e *Error) Error() string { return fmt.Sprintf("fetch %q: %s", e.Address, e.Detail) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Hint returns the next action.
func (e *Error) Hint() string { return e.Advice }

// of says which address e is about.
func (e *Error) of(address string) *Error {
	e.Address = shown(address)
	return e
}

// fault returns an Error that does not know its address yet.
func fault(reason, advice string, cause error, format string, args ...any) *Error {
	return &Error{Reason: reason, Detail: fmt.Sprintf(format, args...), Advice: advice, Err: cause}
}

// maxShown bounds how many bytes of a foreign text an error repeats.
const maxShown = 200

// shown returns an address as errors name it.
func shown(address string) string {
	rest := address
	if i := strings.Index(address, "//"); i >= 0 {
		rest = address[i+2:]
	}
	// Up to the last @ wherever it stands: what is wrong in other ways too must not
	// show a password either.
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		address = address[:len(address)-len(rest)] + "..." + rest[at:]
	}
	return clip(address)
}

// clip shortens s to maxShown bytes.
func clip(s string) string {
	if len(s) <= maxShown {
		return s
	}
	return s[:maxShown-3] + "..."
}

// quote returns foreign text as errors may hold it.
func quote(s string) string { return fmt.Sprintf("%q", clip(s)) }

// told returns what a cause says, as errors may hold it: a part of it may come from
// the server.
func told(err error) string {
	return clip(strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, err.Error()))
}
