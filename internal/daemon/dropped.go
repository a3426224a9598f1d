package daemon

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/spinecert/spinecert/internal/inbox"
	"github.com/spinecert/spinecert/internal/manage"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
)

const (
	maxAttempts  = 20               // of one file, while the state directory cannot take it
	attemptEvery = 30 * time.Second // those in between do not count: others can have the inbox looked at as often as they like
	maxDropped   = 1000             // files whose attempts are counted
)

// dropped takes the files that are dropped into the inbox. It is for one goroutine
// at a time.
type dropped struct {
	importing func(context.Context, manage.ImportOrder) (manage.Imported, error)
	actor     actor
	failed    map[[sha256.Size]byte]attempts // by content
}

// attempts is how often a file could not be taken.
type attempts struct {
	count int
	last  time.Time // the last that counted
}

// take imports one file. No rule can be overridden there, and nothing is kept that
// no root vouches for: whoever may write to the inbox may not change the daemon.
func (d *dropped) take(ctx context.Context, name string, data []byte) inbox.Verdict {
	done, err := d.importing(ctx, manage.ImportOrder{Files: []manage.File{{Name: name, Data: data}}, CertificatesOnly: true, JudgedOnly: true, Actor: d.actor})
	v := verdictOf(ctx, done, err)
	switch digest := sha256.Sum256(data); {
	case !v.Later:
		delete(d.failed, digest)
	case failsOnDisk(err) && ctx.Err() == nil && d.tooOften(digest, time.Now()):
		v = inbox.Verdict{Reason: fmt.Sprintf("tried %d times, and given up: %s", maxAttempts, v.Reason),
			Hint: strings.TrimPrefix(v.Hint+"; then move it back into the inbox", "; then ")}
	}
	v.Reason, v.Hint = manage.Clip(v.Reason), manage.Clip(v.Hint)
	return v
}

// verdictOf says what became of a file. It stays for later only where what was in the
// way is none of its own: the state directory takes nothing, the trust files are not
// there, or this process ends.
func verdictOf(ctx context.Context, done manage.Imported, err error) inbox.Verdict {
	var judged *manage.Error
	errors.As(err, &judged)
	switch {
	case err == nil:
		return inbox.Verdict{Accepted: true, Reason: fmt.Sprintf("slot %s serves generation %d", done.Slot, done.To)}
	case ctx.Err() != nil, errors.Is(err, rotate.ErrStopped):
		return inbox.Verdict{Later: true, Reason: err.Error()}
	case judged != nil && judged.Kind == manage.Waiting:
		reason := "it fits and waits with its request: " + err.Error()
		for _, doubt := range done.Doubts {
			reason += "; note: " + doubt
		}
		return inbox.Verdict{Accepted: true, Reason: reason, Hint: pki.Hint(err)}
	case judged != nil && judged.Kind == manage.Failed && judged.Reason == rotate.ReasonNoTrust, failsOnDisk(err):
		return inbox.Verdict{Later: true, Reason: err.Error(), Hint: pki.Hint(err)}
	}
	return inbox.Verdict{Reason: err.Error(), Hint: pki.Hint(err)}
}

// failsOnDisk reports whether an error is of the operating system, that is of the
// state directory: a file that was dropped is read by then. What was refused is not,
// though its place could not be given back.
func failsOnDisk(err error) bool {
	var errno syscall.Errno
	var refused *rotate.Refusal
	return errors.As(err, &errno) && !errors.As(err, &refused)
}

// tooOften counts an attempt.
func (d *dropped) tooOften(digest [sha256.Size]byte, now time.Time) bool {
	a, known := d.failed[digest]
	if known && now.Sub(a.last) < attemptEvery {
		return false
	}
	if a.count++; a.count >= maxAttempts {
		delete(d.failed, digest)
		return true
	}
	a.last = now
	if d.failed == nil {
		d.failed = map[[sha256.Size]byte]attempts{}
	}
	if !known && len(d.failed) >= maxDropped {
		for other := range d.failed { // any of them: it is tried longer
			delete(d.failed, other)
			break
		}
	}
	d.failed[digest] = a
	return false
}
