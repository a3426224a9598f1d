package cli

import (
	"cmp"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
)

// pluginStatus is what a monitoring plugin says; its number is the exit status.
type pluginStatus int

// The statuses of a monitoring plugin (CONTRACT.md, 5).
const (
	pluginOK pluginStatus = iota
	pluginWarning
	pluginCritical
	pluginUnknown
)

// String is the word of the first line.
func (s pluginStatus) String() string {
	return [...]string{"OK", "WARNING", "CRITICAL", "UNKNOWN"}[s]
}

// word is the status as JSON has it.
func (s pluginStatus) word() string { return strings.ToLower(s.String()) }

// MarshalText returns the word.
func (s pluginStatus) MarshalText() ([]byte, error) { return []byte(s.word()), nil }

// gravity orders them: what was not seen is worse than what is soon due.
func (s pluginStatus) gravity() int { return [...]int{0, 1, 3, 2}[s] }

// worse returns the graver of two.
func worse(a, b pluginStatus) pluginStatus {
	if b.gravity() > a.gravity() {
		return b
	}
	return a
}

// The kinds of items.
const (
	checkFile          = "file"
	checkEndpoint      = "endpoint"
	checkSlot          = "slot"
	checkCA            = "ca"
	checkCondition     = "condition"
	checkConfiguration = "configuration"
	checkDaemon        = "daemon"
	checkUsage         = "usage"
)

// checkItem is one thing that was looked at.
type checkItem struct {
	Kind        string       `json:"kind"`
	Name        string       `json:"name"` // of the file, peer, slot or CA, or the subject of the condition
	Status      pluginStatus `json:"status"`
	Message     string       `json:"message"` // a sentence that can stand alone
	Hint        string       `json:"hint"`
	Code        string       `json:"code"`         // of a condition, or the reason of a refusal; else ""
	NotAfter    admin.Time   `json:"not_after"`    // of what ends first
	SecondsLeft *int64       `json:"seconds_left"` // negative when it is over; null where nobody is waiting for it
	Affects     []string     `json:"affects"`      // ODS codes, else ASIDs
	Notes       []string     `json:"notes"`

	failed bool     // it could not be looked at
	unseen []string // the kinds of other items that could not be looked at for the same reason
}

// checkLimits are the thresholds, in seconds.
type checkLimits struct{ warning, critical int64 }

// judge compares the seconds that are left.
func (l checkLimits) judge(left int64) pluginStatus {
	switch {
	case left <= l.critical:
		return pluginCritical
	case left <= l.warning:
		return pluginWarning
	}
	return pluginOK
}

// span is the life of one certificate.
type span struct {
	from, to time.Time // from may be zero: not looked at
	role     string
	subject  string
}

// spans are the lives of certificates, in their order.
func spans(certs []*x509.Certificate) []span {
	out := make([]span, 0, len(certs))
	for _, c := range certs {
		out = append(out, span{from: c.NotBefore, to: c.NotAfter, role: role(c), subject: c.Subject.String()})
	}
	return out
}

// secondsLeft counts whole seconds, as certificates do. A Duration would end after 292
// years, and there are certificates without an end (RFC 5280, Section 4.1.2.5).
func secondsLeft(end, now time.Time) int64 { return end.Unix() - now.Unix() }

// item judges lives, of which there is at least one: the first to end counts, and one
// that has not begun is worth nothing now.
func (l checkLimits) item(kind, name string, lives []span, now time.Time) checkItem {
	first := slices.MinFunc(lives, func(a, b span) int { return a.to.Compare(b.to) })
	left := secondsLeft(first.to, now)
	i := checkItem{Kind: kind, Name: name, Status: l.judge(left), NotAfter: admin.Time{Time: first.to}, SecondsLeft: &left}
	shown := shorten(name, maxName)
	i.Message = shown + " " + due(first.to, now) + among(first, lives)
	last := slices.MaxFunc(lives, func(a, b span) int { return a.from.Compare(b.from) })
	if left >= 0 && secondsLeft(last.from, now) > 0 {
		i.Status, i.Hint = pluginCritical, "is the clock of this host right? timedatectl"
		i.Message = fmt.Sprintf("%s is not valid before %s%s", shown, stamp(last.from), among(last, lives))
	}
	return i
}

// among says which of several certificates is meant, where that is not plain.
func among(s span, lives []span) string {
	leaves := 0
	for _, other := range lives {
		if other.role == roleLeaf {
			leaves++
		}
	}
	if len(lives) == 1 || s.role == roleLeaf && leaves == 1 {
		return ""
	}
	word := map[string]string{roleRoot: "root", roleSubCA: "subCA"}[s.role]
	return fmt.Sprintf(": %s %q", cmp.Or(word, "certificate"), clip(s.subject, maxSubject))
}

// due says when something ends, or ended.
func due(end, now time.Time) string {
	left := secondsLeft(end, now)
	if left < 0 {
		return fmt.Sprintf("expired %s ago (%s)", long(-left), stamp(end))
	}
	return fmt.Sprintf("expires in %s (%s)", long(left), stamp(end))
}

// long writes seconds in their largest unit, rounded down.
func long(seconds int64) string {
	for _, u := range []struct {
		seconds int64
		name    string
	}{{24 * 3600, "d"}, {3600, "h"}, {60, "m"}} {
		if seconds >= u.seconds {
			return fmt.Sprintf("%d%s", seconds/u.seconds, u.name)
		}
	}
	return fmt.Sprintf("%ds", seconds)
}

// fault is an item for what could not be looked at.
func fault(kind, name string, status pluginStatus, err error) checkItem {
	return checkItem{Kind: kind, Name: name, Status: status, Message: strings.ReplaceAll(err.Error(), "\n", "; "), Hint: hintOf(err), failed: true}
}
