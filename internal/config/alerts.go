package config

import "time"

// Alerts says when people are told that something is wrong, and over which sinks.
type Alerts struct {
	Leaf           []time.Duration // alerts.expiry.leaf: life left at which the end of an identity is told; descending, never empty
	CA             []time.Duration // alerts.expiry.ca: the same for CAs
	RequestPending []time.Duration // age at which an unanswered request is told; ascending, never empty
	RepeatWarning  time.Duration   // how long after it was told last a warning is told again; 0 never
	RepeatCritical time.Duration   // the same for what is critical
	Sinks          []Sink          // by name; nil for none
}

// The types of a Sink.
const (
	SinkEmail        = "email"
	SinkAlertmanager = "alertmanager" // API v2
	SinkWebhook      = "webhook"
	SinkExec         = "exec"
	SinkJournal      = "journal" // the log of the daemon
)

// The values of Sink.TLS.
const (
	TLSStartTLS = "starttls" // needed: without it nothing is sent
	TLSFromTLS  = "tls"      // from the first byte
	TLSNone     = "none"
)

// The values of Sink.Format.
const (
	FormatJSON  = "json"
	FormatTeams = "teams"
	FormatSlack = "slack"
)

// A Sink is somewhere to tell. Only the fields of its Type are set. URL and what is in the files may be secrets, and never stand in messages.
type Sink struct {
	Name    string
	Type    string        // one of the above
	Min     string        // the least severity that is told: "warning" or "critical"
	Timeout time.Duration // of one attempt

	To           []string // email: addresses, as in RFC 5322, perhaps with names
	From         string   // email: one such address
	SMTP         string   // email: host:port of the relay
	TLS          string   // email: one of the above
	ServerName   string   // email, alertmanager, webhook: name in the certificate; "" is the host of SMTP or of the URL
	Username     string   // email, alertmanager, webhook: with PasswordFile, else ""
	PasswordFile string   // email: SMTP AUTH; alertmanager, webhook: basic authentication; "" for none
	CA           string   // email, alertmanager, webhook: PEM file with the roots that are trusted instead of the system's; "" for those

	URL     string // alertmanager, webhook: http or https; either this or URLFile
	URLFile string // alertmanager, webhook: file with the URL in its first line

	Format   string // webhook: one of the above
	Template string // webhook: file with {{name}} placeholders that makes the body in place of Format; "" for none

	Command []string // exec: an absolute path and arguments, for no shell
}
