package admin

import (
	"time"

	"github.com/spinecert/spinecert/internal/condition"
)

// Status is how the daemon stands: the `status` result of the command line.
type Status struct {
	Version      string        `json:"version"`
	PID          int           `json:"pid"`
	Started      time.Time     `json:"started"`
	Ready        bool          `json:"ready"` // every slot that a tunnel uses serves an identity
	Page         string        `json:"page"`  // address of the status page, metrics and health; "" if there is none
	Config       ConfigStatus  `json:"config"`
	Environments []Environment `json:"environments"`
	Slots        []Slot        `json:"slots"`
	Tunnels      []Tunnel      `json:"tunnels"`
	Services     []Service     `json:"services"`
	Requests     []Request     `json:"requests"`
	Conditions   []Condition   `json:"conditions"`
}

// ConfigStatus says which configuration is in force, and why a later one is not.
type ConfigStatus struct {
	File   string    `json:"file"`
	Loaded time.Time `json:"loaded"`
	Error  string    `json:"error"`
}

// Time is a moment that is null in JSON while there is none.
type Time struct{ time.Time }

// MarshalJSON writes RFC 3339 in UTC, or null.
func (t Time) MarshalJSON() ([]byte, error) { return condition.Moment(t).MarshalJSON() }

// Environment is one environment and its trust state.
type Environment struct {
	Name         string `json:"name"`
	Ready        bool   `json:"ready"`
	Sequence     uint64 `json:"sequence"`
	Revocation   string `json:"revocation"`
	Roots        int    `json:"roots"`
	SubCAs       int    `json:"subcas"`
	Expired      int    `json:"expired"`
	Bundle       string `json:"bundle_sha256"`
	CRLs         []CRL  `json:"crls"`
	LastError    string `json:"last_error"`
	Hint         string `json:"hint"`
	PendingSince Time   `json:"pending_since"`
}

// Slot is one slot. State is empty, ready, pending, refused or held; a slot with
// a generation serves it, whatever its state.
type Slot struct {
	Name         string   `json:"name"`
	Environment  string   `json:"environment"`
	State        string   `json:"state"`
	Generation   uint64   `json:"generation"`
	FQDN         string   `json:"fqdn"`
	Names        []string `json:"names"`
	NotAfter     Time     `json:"not_after"` // of leaf and chain, the earliest
	Serial       string   `json:"serial"`
	SHA256       string   `json:"sha256"` // of the leaf
	Source       string   `json:"source"` // the files
	Since        Time     `json:"since"`  // when the generation was published
	PendingSince Time     `json:"pending_since"`
	LastError    string   `json:"last_error"`
	LastReason   string   `json:"last_reason"`
	Hint         string   `json:"hint"`
	Affects      Affects  `json:"affects"`
	Managed      bool     `json:"managed"` // its identities come from requests, and not from files
	Origin       string   `json:"origin"`  // of the generation: files, import or rollback; "" while there is none
	Of           uint64   `json:"of"`      // rollback: the generation that was put in force again; else 0
	Held         bool     `json:"held"`    // rollback: what the source holds is not taken
	Unsaved      string   `json:"unsaved"` // why the state directory does not have what is served; "" if it has
	// Timeline is what it served, serves and is going to serve, the oldest first; only where it was asked for.
	Timeline []Generation `json:"timeline,omitempty"`
}

// Affects says who is hit when a slot's certificate ends.
type Affects = condition.Affects

// Tunnel is one tunnel.
type Tunnel struct {
	Name        string   `json:"name"`
	Direction   string   `json:"direction"`
	Slot        string   `json:"slot"`
	State       string   `json:"state"` // open, closed (its slot is not ready) or failed (a listener does not open)
	Listen      []string `json:"listen"`
	Forward     string   `json:"forward"`
	Peers       []string `json:"peers"`
	Connections int64    `json:"connections"`
	Accepted    uint64   `json:"accepted"` // handshakes
	Refused     uint64   `json:"refused"`
	LastError   string   `json:"last_error"`
	Policy      string   `json:"policy"` // enforce or audit
	Revocation  string   `json:"revocation"`
	Audited     uint64   `json:"audited"` // handshakes that would have been refused
	// A tunnel that accepted until its slot rotated, and only refuses since, shows it here.
	LastAccepted      Time   `json:"last_accepted"`
	LastRefused       Time   `json:"last_refused"`
	LastRefusedReason string `json:"last_refused_reason"`
}

// Condition is something that is wrong, in the codes of the contract.
type Condition = condition.Condition

// Error is a refusal of the API: what, and what to do next.
type Error struct {
	Code    string `json:"code"` // one word, for programs
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
	// Reason says more than the code where something was judged: a reason of the
	// contract, or a guard rule. It may be "".
	Reason string `json:"reason,omitempty"`
	// Rule is the guard rule that, allowed, would let it pass; "" if none would.
	Rule string `json:"rule,omitempty"`
	// Problems lists the errors of a configuration, one each, with its place.
	Problems []string `json:"problems,omitempty"`
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// Codes of Error where a caller branches.
const (
	CodeConfiguration = "configuration" // the configuration is wrong; nothing changed
	CodeForbidden     = "forbidden"     // the caller may not change anything
	CodeUnknown       = "unknown"       // there is no such slot, service or request
	CodeRefused       = "refused"       // examined and judged bad; what was served goes on
	CodeFailed        = "failed"        // could not be done
	CodeUsage         = "usage"         // the request does not make sense
)

// RotateRequest asks to look at a slot's source now.
type RotateRequest struct {
	Slot    string   `json:"slot"`
	Allow   []string `json:"allow,omitempty"`   // guard rules to override, once
	Release bool     `json:"release,omitempty"` // end the hold of a rollback
}

// RotateResult is the slot afterwards. Rotated says whether its generation changed.
type RotateResult struct {
	Slot    Slot `json:"slot"`
	Rotated bool `json:"rotated"`
}

// ReloadResult says what a reload did. It is returned also when a slot or
// environment refused its material: then the error is CodeRefused, the
// configuration is in force, and what was served before goes on.
type ReloadResult struct {
	Config  ConfigStatus `json:"config"`
	Refused []string     `json:"refused"` // slots and environments whose material was not taken, with the reason
}

// reply is the envelope of every answer.
type reply struct {
	Result any    `json:"result,omitempty"`
	Error  *Error `json:"error,omitempty"`
}
