package daemon

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/spinecert/spinecert/internal/durable"
	"github.com/spinecert/spinecert/internal/manage"
	"github.com/spinecert/spinecert/internal/state"
)

// maxUnwritten bounds the audit lines that wait in memory while the disk takes none.
const maxUnwritten = 10_000

// auditLine is one line of audit.jsonl.
type auditLine = state.AuditLine

// actor is who caused something: a user through the socket, a signal, or the
// daemon itself because files changed.
type actor = state.Actor

// The ways in which something is caused, beside the socket and signals.
const (
	viaFiles = "files" // files changed
	viaState = "state" // what the state directory holds
)

// flushEvery is how many audit lines wait for one write to the disk at most.
const flushEvery = 256

// audit appends to audit.jsonl. A disk that is full or gone stops nothing: lines
// wait in memory and are written when there is room again. All but failing is for
// the one goroutine that writes.
type audit struct {
	path      string
	max       int64
	lost      func() // told of each line that is given up
	unwritten [][]byte
	shared    func() bool // another process writes the file, too, and is the one that turns it over

	mu  sync.Mutex // never held over a write: who asks must not wait for the disk
	err error      // why the last write failed; nil when all was written
}

func newAudit(dir string, limit int64) *audit {
	return &audit{path: filepath.Join(dir, state.AuditName), max: limit, lost: func() {}, shared: func() bool { return false }}
}

// keepAudit hands a line to the goroutine that writes the audit file. Log and
// disk do not wait for each other.
func (d *Daemon) keepAudit(l auditLine) {
	l.Reason = manage.Clip(l.Reason) // others fill it, and must not push the rest of the file out
	select {
	case d.lines <- l:
	default:
		d.metrics.lostEvents.Inc()
	}
}

// writeAudit writes the audit file until ctx ends and nothing waits any more. It
// flushes when no other line waits: thousands of slots that rotate at once must
// not wait for the disk thousands of times.
func (d *Daemon) writeAudit(ctx context.Context) {
	retry := time.NewTicker(5 * time.Second)
	defer retry.Stop()
	keep := func(l auditLine) {
		d.toldAudit(d.audit.add(l))
		if len(d.lines) == 0 {
			d.toldAudit(d.audit.flush())
		}
	}
	for {
		select {
		case l := <-d.lines:
			keep(l)
		case <-retry.C:
			d.toldAudit(d.audit.flush())
		case <-ctx.Done():
			for {
				select {
				case l := <-d.lines:
					keep(l)
				default:
					return
				}
			}
		}
	}
}

func (d *Daemon) toldAudit(err error) {
	if err != nil {
		d.record1("state_unwritable", slog.LevelError, "state directory takes no audit lines; they wait in memory", slog.String("error", err.Error()),
			slog.String("hint", "make room, or give the directory back to the daemon's user"))
	}
}

// add appends a line, which is on disk after the next flush. The error is told
// once: nil while the same failure lasts.
func (a *audit) add(l auditLine) error {
	l.Time = l.Time.UTC()
	data, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("encode audit line: %w", err)
	}
	if len(a.unwritten) >= maxUnwritten {
		a.unwritten = a.unwritten[1:]
		a.lost()
	}
	a.unwritten = append(a.unwritten, append(data, '\n'))
	if len(a.unwritten)%flushEvery == 0 {
		return a.flush()
	}
	return nil
}

// flush writes what waits. The error is told once, as by add.
func (a *audit) flush() error {
	was := a.failing()
	if was == nil && len(a.unwritten) == 0 {
		return nil
	}
	err := a.write()
	a.mu.Lock()
	a.err = err
	a.mu.Unlock()
	if err != nil && was != nil && err.Error() == was.Error() {
		return nil
	}
	return err
}

// failing returns why the state directory takes no lines, or nil.
func (a *audit) failing() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}

func (a *audit) write() error {
	f, err := os.OpenFile(a.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return auditError(a.path, err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() { // what a pipe takes is not kept
		return auditError(a.path, cmp.Or(err, durable.ErrNotRegular))
	}
	for len(a.unwritten) > 0 {
		info, err := f.Stat()
		if err != nil {
			return auditError(a.path, err)
		}
		if info.Size() > 0 && info.Size()+int64(len(a.unwritten[0])) > a.max && !a.shared() {
			if err := f.Sync(); err != nil {
				return auditError(a.path, err)
			}
			return a.turnOver()
		}
		if n, err := f.Write(a.unwritten[0]); err != nil {
			if n > 0 && !a.shared() {
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
