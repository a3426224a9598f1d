package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"

	"github.com/spinecert/spinecert/internal/durable"
)

// The names in the state directory.
const (
	slotsName       = "slots"
	trustName       = "trust.d"
	inboxName       = "inbox"
	lockName        = ".lock"
	currentName     = "current"
	generationsName = "generations"
	requestsName    = "requests"
)

// Options change how the state directory is written.
type Options struct {
	Disk durable.Disk // makes the changes

	inbox string // in tests: a group in the place of inboxGroup
}

// Directory is a state directory, made by [Lock] or [Open].
type Directory struct {
	path string
	disk durable.Disk
	root *os.File
	lock *os.File // nil: read-only

	trouble error
	group   int   // who drops answers into the inbox
	pause   pause // of changes

	mu    sync.Mutex // guards slots
	slots map[string]*sync.Mutex
}

// Open opens a state directory for reading. Its error matches fs.ErrNotExist where
// there is none.
func Open(dir string) (*Directory, error) {
	root, err := openRoot(dir)
	if err != nil {
		return nil, fail("open state directory", dir, err)
	}
	return &Directory{path: dir, root: root, slots: map[string]*sync.Mutex{}}, nil
}

// openRoot opens the directory itself. The path to it is the operator's: links in
// it are followed.
func openRoot(dir string) (*os.File, error) {
	root, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY, 0) // of a pipe nobody waits for the other end
	if errors.Is(err, syscall.ENOTDIR) {
		err = durable.ErrNotDirectory
	}
	return root, err
}

// Close releases the lock, if it is held and was not handed over. Nothing can be done with d after that.
func (d *Directory) Close() error {
	err := d.root.Close()
	if d.lock == nil {
		return err
	}
	if d.pause.isOver() {
		return err
	}
	if !d.pause.isHeld() {
		// Said, and not left to the close: a child that is being started has the file, too.
		err = errors.Join(err, syscall.Flock(int(d.lock.Fd()), syscall.LOCK_UN))
	}
	return errors.Join(err, d.lock.Close())
}

// Path returns the path of the directory, as it was given.
func (d *Directory) Path() string { return d.path }

// Trouble returns what Lock could not do although it got the lock: make a part of
// the layout, or remove what a crash left behind. A disk that is full is no reason
// not to serve from it.
func (d *Directory) Trouble() error { return d.trouble }

// InboxPath returns the directory that answers are dropped into.
func (d *Directory) InboxPath() string { return filepath.Join(d.path, inboxName) }

// TrustPath returns the directory of the CA certificates that were added to an
// environment, whether it is there or not, or "" for what is no name of one.
func (d *Directory) TrustPath(environment string) string {
	if checkName("environment", environment) != nil {
		return ""
	}
	return d.abs(trustName, environment)
}

// abs is the path of something in the directory.
func (d *Directory) abs(elements ...string) string {
	return filepath.Join(append([]string{d.path}, elements...)...)
}

// begin starts a change to a slot, or to what else has a name. It is over with the
// function that is returned.
func (d *Directory) begin(name string) (end func(), err error) {
	if d.lock == nil {
		return nil, fail("change state directory", d.path, ErrReadOnly)
	}
	leave, err := d.pause.enter()
	if err != nil {
		return nil, fail("change state directory", d.path, err)
	}
	if err := d.isOurs(); err != nil {
		leave()
		return nil, err
	}
	done := d.hold(name)
	return func() { done(); leave() }, nil
}

// isOurs returns why the directory may not be changed by this process, but for a pause.
func (d *Directory) isOurs() error {
	if d.lock == nil {
		return fail("change state directory", d.path, ErrReadOnly)
	}
	held, err := d.root.Stat()
	if err != nil {
		return fail("change state directory", d.path, err)
	}
	// Another directory in its place is not locked by us.
	if there, err := os.Stat(d.path); err != nil || !os.SameFile(held, there) {
		return failf("change state directory", d.path, "put the directory back, or restart the daemon", "was moved away while it was in use")
	}
	if !d.pause.isOver() && !d.isLock(d.lock) {
		return failf("change state directory", d.path, "restart the daemon, which takes the lock anew; put nothing over a state directory that is in use",
			"its lock %q was removed or replaced while it was in use", lockName)
	}
	return nil
}

// hold waits until nobody else changes what has this name.
func (d *Directory) hold(name string) (end func()) {
	d.mu.Lock()
	m := d.slots[name]
	if m == nil {
		m = &sync.Mutex{}
		d.slots[name] = m
	}
	d.mu.Unlock()
	m.Lock()
	return m.Unlock
}

// beginSlot starts a change to a slot, and takes away what an earlier one left.
func (d *Directory) beginSlot(slot string) (end func(), err error) {
	if err := checkName("slot", slot); err != nil {
		return nil, err
	}
	end, err = d.begin(slotsName + "/" + slot)
	if err == nil {
		_ = d.sweepSlot(slot) // if it fails again, the lock does it
	}
	return end, err
}

// makeBelow makes directories below the state directory, one in the other.
func (d *Directory) makeBelow(elements ...string) error {
	for i := range elements {
		path := d.abs(elements[:i+1]...)
		if err := d.disk.MakeDir(path); err != nil {
			return fail("make directory", path, err)
		}
	}
	return nil
}

// namePattern is that of names in the configuration.
var namePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

func checkName(what, name string) error {
	if !namePattern.MatchString(name) {
		return fmt.Errorf("read %s %q: not a name: want a-z, 0-9 and -, at most 63", what, name)
	}
	return nil
}

var idPattern = regexp.MustCompile(`^[0-9a-f]{16}$`)

func checkID(id string) error {
	if !idPattern.MatchString(id) {
		return fmt.Errorf("read request %q: not an ID: want 16 hex digits: %w", id, fs.ErrNotExist)
	}
	return nil
}
