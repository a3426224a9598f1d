package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// maxUnwritten bounds the audit lines that wait in memory while the disk takes none.
const maxUnwritten = 10_000

// auditLine is one line of audit.jsonl.
type auditLine struct {
	Time   time.Time `json:"time"`
	Event  string    `json:"event"`
	Slot   string    `json:"slot,omitempty"`
	From   uint64    `json:"from,omitempty"`
	To     uint64    `json:"to,omitempty"`
	Reason string    `json:"reason,omitempty"`
	Actor  actor     `json:"actor"`
	Digest string    `json:"digest,omitempty"`
}

// actor is who caused something: a user through the socket, a signal, or the
// daemon itself because files changed.
type actor struct {
	UID int    `json:"uid"`
	PID int    `json:"pid"`
	Via string `json:"via"`
}

// audit appends to audit.jsonl. A disk that is full or gone stops nothing: lines
// wait in memory and are written when there is room again.
type audit struct {
	path string
	max  int64

	mu        sync.Mutex
	unwritten [][]byte
	dropped   int
	err       error // why the last write failed; nil when all is written
}

func newAudit(dir string, limit int64) *audit {
	return &audit{path: filepath.Join(dir, "audit.jsonl"), max: limit}
}

// add appends a line. The error is told once: nil while the same failure lasts.
func (a *audit) add(l auditLine) error {
	l.Time = l.Time.UTC()
	data, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("encode audit line: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.unwritten) >= maxUnwritten {
		a.unwritten = a.unwritten[1:]
		a.dropped++
	}
	a.unwritten = append(a.unwritten, append(data, '\n'))
	return a.flushLocked()
}

// flush tries again to write what waits.
func (a *audit) flush() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err == nil && len(a.unwritten) == 0 {
		return nil
	}
	return a.flushLocked()
}

// failing returns why the state directory takes no lines, or nil.
func (a *audit) failing() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}

func (a *audit) flushLocked() error {
	was := a.err
	a.err = a.write()
	if a.err != nil && was != nil && a.err.Error() == was.Error() {
		return nil
	}
	return a.err
}

func (a *audit) write() error {
	f, err := os.OpenFile(a.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return auditError(a.path, err)
	}
	defer f.Close()
	for len(a.unwritten) > 0 {
		info, err := f.Stat()
		if err != nil {
			return auditError(a.path, err)
		}
		if info.Size() > 0 && info.Size()+int64(len(a.unwritten[0])) > a.max {
			return a.turnOver()
		}
		if n, err := f.Write(a.unwritten[0]); err != nil {
			if n > 0 {
				_ = f.Truncate(info.Size()) // no half line; if that fails too, the next line starts after it
			}
			return auditError(a.path, err)
		}
		a.unwritten = a.unwritten[1:]
	}
	if err := f.Sync(); err != nil {
		return auditError(a.path, err)
	}
	return nil
}

// turnOver keeps one older file, then goes on with an empty one.
func (a *audit) turnOver() error {
	if err := os.Rename(a.path, a.path+".1"); err != nil {
		return auditError(a.path, err)
	}
	return a.write()
}

func auditError(path string, err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return fmt.Errorf("write audit file %q: %w", path, err)
}
