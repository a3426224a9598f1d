package state

import (
	"context"
	"errors"
	"os"
	"strconv"
	"sync"
)

// ErrHandedOver is the error of changes after [Directory.HandOver]: another process
// writes the directory.
var ErrHandedOver = errors.New("another process has taken the state directory over")

// pause holds changes up, or refuses them for good. The zero value lets them pass.
type pause struct {
	mu   sync.Mutex
	busy int           // changes under way
	idle chan struct{} // closed when none is; nil while nobody waits for that
	held chan struct{} // closed when changes go on; nil while they do
	over bool          // another process makes them
}

// enter waits until changes may be made. leave says that the one is made.
func (p *pause) enter() (leave func(), err error) {
	for {
		p.mu.Lock()
		if p.over {
			p.mu.Unlock()
			return nil, ErrHandedOver
		}
		held := p.held
		if held == nil {
			p.busy++
			p.mu.Unlock()
			return p.leave, nil
		}
		p.mu.Unlock()
		<-held
	}
}

func (p *pause) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy--
	if p.busy == 0 && p.idle != nil {
		close(p.idle)
		p.idle = nil
	}
}

// hold lets no more changes begin, and returns what is closed when none is under way.
func (p *pause) hold() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held == nil {
		p.held = make(chan struct{})
	}
	if p.idle == nil {
		p.idle = make(chan struct{})
	}
	idle := p.idle
	if p.busy == 0 {
		close(idle)
		p.idle = nil
	}
	return idle
}

// release has changes go on; with over they fail.
func (p *pause) release(over bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = over
	if p.held != nil {
		close(p.held)
		p.held = nil
	}
}

// isHeld reports whether changes wait: another process may have the lock as well.
func (p *pause) isHeld() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.held != nil
}

// isOver reports whether another process makes the changes.
func (p *pause) isOver() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.over
}

// Pause holds up all changes until [Directory.Resume] or [Directory.HandOver], and waits
// until those that are under way are made, or ctx ends: then they go on as before.
// Whoever wants to change something meanwhile waits, as for a disk that does not answer.
func (d *Directory) Pause(ctx context.Context) error {
	select {
	case <-d.pause.hold():
		return nil
	case <-ctx.Done():
		d.pause.release(false)
		return ctx.Err()
	}
}

// Resume ends a pause.
func (d *Directory) Resume() { d.pause.release(false) }

// LockFile returns the open lock file of a directory that [Lock] returned. Whoever inherits its
// descriptor shares the lock.
func (d *Directory) LockFile() *os.File { return d.lock }

// HandOver ends a pause for good: the process that inherited the lock has it alone,
// and changes fail with [ErrHandedOver]. Reading goes on.
func (d *Directory) HandOver() {
	d.pause.release(true)
	_ = d.lock.Close() // not unlocked: it is the other's as well
}

// Inherit is [Lock] with a lock file that was inherited from the process that holds it.
// Changes wait until [Directory.TakeOver]. The error is a *HeldError when the file does not
// hold the lock, and names the directory when it is the lock of another one.
func Inherit(dir string, lock *os.File, o Options) (*Directory, error) {
	d, err := Open(dir)
	if err != nil {
		return nil, err
	}
	d.disk, d.group = o.Disk, inboxGroupID(o)
	d.pause.hold()
	switch err := flock(lock); {
	case err != nil:
		return nil, errors.Join(&HeldError{Dir: dir, PID: holder(lock)}, d.root.Close())
	case !d.isLock(lock):
		return nil, errors.Join(failf("lock state directory", dir, "restart the daemon in place of an upgrade", "the process that hands over has the lock of another one"), d.root.Close())
	}
	d.lock = lock
	return d, nil
}

// TakeOver makes this process the one that writes an inherited directory: it does what
// [Lock] does once it has the lock, and changes that waited are made.
func (d *Directory) TakeOver() {
	d.noteHolder()
	d.makeReady()
	d.pause.release(false)
}

// noteHolder writes who has the lock into its file. A full disk must not keep the daemon from
// starting: the lock holds without it.
func (d *Directory) noteHolder() {
	if ask(d.disk, "write") == nil && d.lock.Truncate(0) == nil {
		_, _ = d.lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
}
