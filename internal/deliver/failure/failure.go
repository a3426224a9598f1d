// Package failure says why a step of a delivery failed, in a word for programs, a
// sentence for people and the next action.
package failure

import (
	"errors"
	"fmt"
)

// Reasons, each of which is the same word in errors, JSON, logs and metrics.
const (
	// Of the set and its directory.
	UnsafeDirectory  = "unsafe_directory"  // others than root or the daemon may write it, or a directory above
	DirectoryMissing = "directory_missing" // it is not there
	NotWritable      = "not_writable"      // the daemon may not write there, or may not give the file away
	DiskFull         = "disk_full"
	Planted          = "planted"     // something that is not ours stands where a set, or the link to it, belongs
	Drift            = "drift"       // a delivered file is not what was delivered
	NoMaterial       = "no_material" // the slot, its trust or its CRLs are not there yet, or a password is not

	// Of the step that has the service read it.
	ValidateFailed = "validate_failed"
	ReloadFailed   = "reload_failed"
	Timeout        = "timeout"       // validate, reload or a command took longer than it may
	UnitMissing    = "unit_missing"  // systemd has no such unit
	UnitInactive   = "unit_inactive" // the unit does not run, before or after
	NotPermitted   = "not_permitted" // polkit, a socket or the kernel says no
	BusAway        = "bus_away"      // no D-Bus, or no systemd on it
	// CommandUnusable: what the operator wrote could not be run at all, and so said nothing of the set.
	CommandUnusable = "command_unusable"
	SocketAway      = "socket_away" // the runtime socket does not answer

	// Of the proof.
	Unreachable      = "unreachable"       // nobody listens, or nobody answers
	HandshakeFailed  = "handshake_failed"  // it is not TLS, or TLS failed before a certificate was shown
	WrongCertificate = "wrong_certificate" // it serves another leaf
	WrongChain       = "wrong_chain"       // it serves the leaf without the chain that was delivered
	RefusedUs        = "refused_us"        // it asked for our certificate and refused it
	ProbeFailed      = "probe_failed"      // the command said no

	StateUnwritable = "state_unwritable" // what is done cannot be recorded
	Waiting         = "waiting"          // nothing failed: something is waited for
	Interrupted     = "interrupted"      // the daemon stopped meanwhile
)

// Error is why a step failed.
type Error struct {
	Reason string // one of the above
	Err    error  // `verb noun "path": cause`, without content of files
	Advice string // the next action; may be ""
}

// New returns an Error whose cause is a sentence.
func New(reason, advice, format string, args ...any) *Error {
	return &Error{Reason: reason, Advice: advice, Err: fmt.Errorf(format, args...)}
}

// Error returns the cause.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Hint returns the next action.
func (e *Error) Hint() string { return e.Advice }

// ReasonOf returns the reason of an error, or otherwise for one that has none.
func ReasonOf(err error, otherwise string) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return otherwise
}
