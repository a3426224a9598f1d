package alert

import (
	"context"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/condition"
)

// Event is what happened to an alert, as a sink is told it.
type Event string

// The events.
const (
	Opened    Event = "opened"
	Escalated Event = "escalated" // it grew worse: its severity rose, or less time is left
	Repeated  Event = "repeated"  // it stands as it was, and nobody acknowledged it
	Resolved  Event = "resolved"
	Test      Event = "test" // nothing is wrong: somebody tries the sink
)

// Ack is the word of an operator that an alert is being seen to.
type Ack = admin.Ack

// Notice is one alert as a sink is told it.
type Notice struct {
	Event     Event               `json:"event"`
	Condition condition.Condition `json:"condition"` // as it is; of what is resolved, as it was last
	Opened    time.Time           `json:"opened"`    // since when somebody is told of it
	Resolved  condition.Moment    `json:"resolved"`
	At        time.Time           `json:"at"`   // when the event happened
	Late      bool                `json:"late"` // what is resolved was never told while it was active
	Ack       *Ack                `json:"ack,omitempty"`
}

// Active reports whether it is wrong now.
func (n *Notice) Active() bool { return n.Event != Resolved }

// Message is what a sink is sent in one piece: what happened to the alerts of one group,
// the gravest first. It is not changed any more once it is made.
type Message struct {
	// ID is the same when the message is sent again because it is not known whether the
	// sink has it.
	ID    string    `json:"id"`
	Host  string    `json:"host"`  // name of this host
	Group string    `json:"group"` // "slot pcs", "environment live", "host"; "" for a digest of several groups
	At    time.Time `json:"at"`
	// Notices are at most [MaxNotices]; Total, Critical, Warning and Resolved count all.
	Notices  []Notice `json:"notices"`
	Total    int      `json:"total"`
	Critical int      `json:"critical"`
	Warning  int      `json:"warning"`
	Resolved int      `json:"resolved"`
	Groups   int      `json:"groups"` // of a digest
}

// MaxNotices is how many notices a message has at most.
const MaxNotices = 50

// Severity is the gravest of what is active, "" where all is resolved.
func (m *Message) Severity() condition.Severity {
	switch {
	case m.Critical > 0:
		return condition.Critical
	case m.Warning > 0:
		return condition.Warning
	}
	return ""
}

// Sender takes messages. Send returns nil once the far side has taken the message for good;
// any error means that it is sent again. One with Reached() true says that some have it, one
// with Refused() true that the far side looked at the message and does not want it: these keep
// no other message back. What was refused is sent again in parts. Errors say what is wrong without secrets: no
// password, and no path or query of an address. Send is not called again before it
// returned, and returns soon after ctx ends.
type Sender interface {
	Send(ctx context.Context, m *Message) error
}

// Mirror takes the whole picture, again and again: for systems that forget what they are
// not told anew, such as Alertmanager. resolved are those that ended since the last Show
// that succeeded; of an alert whose severity changed there is one with the old severity.
type Mirror interface {
	Show(ctx context.Context, active, resolved []Notice) error
}
