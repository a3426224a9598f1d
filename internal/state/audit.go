package state

import (
	"encoding/json"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/spinecert/spinecert/internal/durable"
)

// AuditName is the name of the audit file in a state directory.
const AuditName = "audit.jsonl"

// AuditLine is one line of the audit file (CONTRACT.md, 6).
type AuditLine struct {
	Time    time.Time `json:"time"`
	Event   string    `json:"event"`
	Slot    string    `json:"slot,omitempty"`
	Service string    `json:"service,omitempty"`
	From    uint64    `json:"from,omitempty"`
	To      uint64    `json:"to,omitempty"`
	Reason  string    `json:"reason,omitempty"`
	Actor   Actor     `json:"actor"`
	Digest  string    `json:"digest,omitempty"`
	// Of refusals: who, where it is written, and what to do. Digest is that of the
	// certificate that was presented.
	Tunnel  string `json:"tunnel,omitempty"`
	Peer    string `json:"peer,omitempty"` // address
	Name    string `json:"name,omitempty"`
	Serial  string `json:"serial,omitempty"`
	Issuer  string `json:"issuer,omitempty"`
	Rule    string `json:"rule,omitempty"`
	Message string `json:"message,omitempty"`
	Hint    string `json:"hint,omitempty"`
	Count   uint64 `json:"count,omitempty"` // how many, if more than one
}

// Actor is who caused something.
type Actor struct {
	UID int    `json:"uid"`
	PID int    `json:"pid"`
	Via string `json:"via"` // socket, signal, files, state, inbox, command, tunnel, service
}

// Audit appends a line, which is on disk when it returns nil. It is for programs
// that write few: the daemon has a queue of its own.
func (d *Directory) Audit(l AuditLine) error {
	if d.lock == nil {
		return fail("write audit file", d.abs(AuditName), ErrReadOnly)
	}
	l.Time = l.Time.UTC()
	data, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("encode audit line: %w", err)
	}
	f, err := os.OpenFile(d.abs(AuditName), os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return fail("write audit file", d.abs(AuditName), err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() { // what a pipe takes is not kept
		err = durable.ErrNotRegular
	}
	if err == nil {
		_, err = f.Write(append(data, '\n'))
	}
	if err == nil {
		err = f.Sync()
	}
	if closing := f.Close(); err == nil {
		err = closing
	}
	return fail("write audit file", d.abs(AuditName), err)
}
