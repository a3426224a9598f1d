package condition

import (
	"encoding/json"
	"strings"
	"time"
)

// Code names what is wrong, in the words of the contract (CONTRACT.md, 8).
type Code string

// The codes.
const (
	Expiring              Code = "expiring"
	Expired               Code = "expired"
	CAExpiring            Code = "ca_expiring"
	OwnCertificateRevoked Code = "own_certificate_revoked"
	RequestPending        Code = "request_pending"
	RotationRefused       Code = "rotation_refused"
	SourceIncoherent      Code = "source_incoherent"
	KeyReadable           Code = "key_readable"
	CRLStale              Code = "crl_stale"
	RevocationOff         Code = "revocation_off"
	PolicyAudit           Code = "policy_audit"
	ServiceFailed         Code = "service_failed"
	TunnelDown            Code = "tunnel_down"
	TrustChanged          Code = "trust_changed"
	EnvironmentMixture    Code = "environment_mixture"
	ClockSuspect          Code = "clock_suspect"
	StateUnwritable       Code = "state_unwritable"
	RestoredOlder         Code = "restored_older"
	SinkFailing           Code = "sink_failing"
	WeakAlgorithm         Code = "weak_algorithm"
	G1Chain               Code = "g1_chain"
)

// Severity says how bad it is.
type Severity string

// The severities. Critical is what stops service, or will within days.
const (
	Warning  Severity = "warning"
	Critical Severity = "critical"
)

// ExpiringCritical is how long before its end a certificate that is served is [Critical].
const ExpiringCritical = 7 * 24 * time.Hour

// Worse reports whether s is graver than other. "" is the mildest.
func (s Severity) Worse(other Severity) bool { return s.rank() > other.rank() }

func (s Severity) rank() int {
	switch s {
	case Critical:
		return 2
	case Warning:
		return 1
	}
	return 0
}

// Kind is what the subject of a condition is.
type Kind string

// The kinds. The subjects of Host are the words [Clock] and [State].
const (
	Slot        Kind = "slot"
	Environment Kind = "environment"
	Tunnel      Kind = "tunnel"
	Service     Kind = "service"
	Sink        Kind = "sink"
	Host        Kind = "host"
)

// The subjects of conditions of the whole host.
const (
	Clock = "clock"
	State = "state"
)

// Condition is one thing that is wrong.
type Condition struct {
	Code     Code      `json:"code"`
	Subject  string    `json:"subject"`
	Severity Severity  `json:"severity"`
	Since    time.Time `json:"since"`
	Message  string    `json:"message"` // what is wrong, in one sentence
	Hint     string    `json:"hint"`    // what to do next

	ID      string  `json:"id"`      // the same as long as the same thing is wrong, also when it grows worse
	Kind    Kind    `json:"kind"`    // of the subject
	Slot    string  `json:"slot"`    // whose identity it is about; "" for an environment or the host
	Command string  `json:"command"` // the next action as a command; "" where there is none
	Ends    Moment  `json:"ends"`    // when something stops, if nothing is done; none where it has stopped, or no date is known
	Stops   string  `json:"stops"`   // what stops: tunnels and services by name; "" where nothing hangs on it
	Affects Affects `json:"affects"` // who is hit
	Runbook string  `json:"runbook"` // page of the manual

	// Steps are the moments at which it is told, ascending: each one that is passed counts
	// as a step of growing worse. None: it is told at once.
	Steps []time.Time `json:"-"`
}

// Affects says who is hit, as the configuration has it.
type Affects struct {
	ODS   []string `json:"ods"`
	ASIDs []string `json:"asids"`
	Note  string   `json:"note,omitempty"`
}

// Empty reports whether nobody was named.
func (a Affects) Empty() bool { return len(a.ODS) == 0 && len(a.ASIDs) == 0 && a.Note == "" }

// MarshalJSON writes lists, and never null.
func (a Affects) MarshalJSON() ([]byte, error) {
	type plain Affects
	p := plain(a)
	if p.ODS == nil {
		p.ODS = []string{}
	}
	if p.ASIDs == nil {
		p.ASIDs = []string{}
	}
	return json.Marshal(p)
}

// Moment is a time that is null in JSON while there is none.
type Moment struct{ time.Time }

// MarshalJSON writes RFC 3339 in UTC, or null: also for a year that RFC 3339 does not have,
// as one odd date must not take the whole answer away.
func (t Moment) MarshalJSON() ([]byte, error) {
	if year := t.UTC().Year(); t.IsZero() || year < 1 || year > 9999 {
		return []byte("null"), nil
	}
	return t.UTC().MarshalJSON()
}

// Complete fills in what follows from the table: ID, command and runbook, unless they are
// there. detail tells apart what one subject can have several of, such as the CAs of an
// environment; it is a word of a few characters without a slash.
func (c *Condition) Complete(detail string) {
	d := c.Code.Definition()
	if c.ID == "" {
		c.ID = ID(c.Code, c.Kind, c.Subject, detail)
	}
	if c.Command == "" {
		c.Command = d.Command
		if strings.Contains(c.Command, "{") {
			c.Command = strings.ReplaceAll(strings.ReplaceAll(c.Command, "{subject}", c.Subject), "{slot}", c.Slot)
		}
	}
	if c.Runbook == "" {
		c.Runbook = c.Code.Runbook()
	}
}

// ID returns the stable name of something that is wrong: what continues another code has
// the ID of that.
func ID(code Code, kind Kind, subject, detail string) string {
	if d := code.Definition(); d.Continues != "" {
		code = d.Continues
	}
	id := string(code) + "/" + string(kind) + "/" + subject
	if detail != "" {
		id += "/" + detail
	}
	return id
}

// Runbook is the page of the manual on a code, relative to the manual's parent.
func (c Code) Runbook() string { return "docs/runbook/" + string(c) + ".md" }

// Level counts the steps that are passed at now: 0 as long as nobody is told. A critical
// condition is told at once, whatever its steps.
func (c *Condition) Level(now time.Time) int {
	n := 0
	for _, at := range c.Steps {
		if !at.After(now) {
			n++
		}
	}
	if n == 0 && (len(c.Steps) == 0 || c.Severity == Critical) {
		return 1
	}
	return n
}
