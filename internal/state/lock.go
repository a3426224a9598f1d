package state

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/spinecert/spinecert/internal/durable"
)

// lockAttempts bounds how often a lock file that is replaced is tried again.
const lockAttempts = 100

// inboxGroup may drop answers into the inbox.
const inboxGroup = "spinecert"

// HeldError says that another process has the lock.
type HeldError struct {
	Dir string
	PID int // 0: it has not said
}

// Error names the process.
func (e *HeldError) Error() string {
	who := "held by another process"
	if e.PID > 0 {
		who = fmt.Sprintf("held by process %d: another daemon runs on it", e.PID)
	}
	return fmt.Sprintf("lock state directory %q: %s", e.Dir, who)
}

// Hint returns the next action.
func (e *HeldError) Hint() string {
	return "stop that one first, or give this one a state.directory of its own"
}

// Lock makes the state directory, if it is not there, and takes its lock: whoever
// holds it is the one writer. It is released by Close, and when the
// process ends, however it ends. The error is a *HeldError when another process has
// it. A directory that others than its owner may write is refused. One that is made
// has mode 0710 for the group spinecert, so that its members reach the inbox, or
// 0700 where there is no such group or it may not be given.
//
// Then the layout is made and what a crash left behind is removed. If the disk does
// not allow that, Lock succeeds nevertheless, and [Directory.Trouble] says why.
func Lock(dir string, o Options) (*Directory, error) {
	group := inboxGroupID(o)
	if err := makeAll(o.Disk, dir, group); err != nil {
		return nil, &failure{doing: "make state directory", path: dir, err: err, hint: "make it, mode 0700, and give it to the user that the daemon runs as"}
	}
	d, err := Open(dir)
	if err != nil {
		return nil, err
	}
	d.disk, d.group = o.Disk, group
	info, err := d.root.Stat()
	if err == nil && info.Mode()&0o022 != 0 {
		err = failf("lock state directory", dir, fmt.Sprintf("chmod go-w %q, then look with: spinecert state verify", dir),
			"its mode %#o lets others write it", info.Mode().Perm())
	}
	if err == nil {
		err = d.takeLock()
	}
	if err != nil {
		return nil, errors.Join(err, d.root.Close())
	}
	d.makeReady()
	return d, nil
}

func inboxGroupID(o Options) int { return groupID(cmp.Or(o.inbox, inboxGroup)) }

// makeAll makes a directory and those above it. The group that drops answers into
// the inbox gets through them.
func makeAll(disk durable.Disk, dir string, group int) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	if above := filepath.Dir(filepath.Clean(dir)); above != filepath.Clean(dir) {
		if err := makeAll(disk, above, group); err != nil {
			return err
		}
	}
	return disk.MakeEntrance(dir, group)
}

// takeLock opens the lock file and locks it. One that was replaced before it was
// locked locks nobody out, so that the next is tried.
func (d *Directory) takeLock() error {
	path := d.abs(lockName)
	for range lockAttempts {
		f, err := openLock(d.disk, path)
		if err != nil {
			return fail("open lock", path, err)
		}
		if err := d.lockFile(f); err != nil {
			return errors.Join(err, f.Close())
		}
		if d.lock != nil {
			return nil
		}
		if err := f.Close(); err != nil {
			return fail("lock state directory", d.path, err)
		}
	}
	return failf("lock state directory", d.path, fmt.Sprintf("find out what replaces %q", path), "its lock is replaced again and again")
}

// lockFile locks an open file, and makes it d.lock if it is still the lock file.
func (d *Directory) lockFile(f *os.File) error {
	err := flock(f)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return &HeldError{Dir: d.path, PID: holder(f)}
	}
	if err != nil {
		return fail("lock state directory", d.path, err)
	}
	if !d.isLock(f) {
		return nil
	}
	d.lock = f
	d.noteHolder()
	return nil
}

// isLock reports whether a file is the one at the path of the lock, which others
// would lock.
func (d *Directory) isLock(f *os.File) bool {
	info, err := f.Stat()
	if err != nil {
		return false
	}
	is, ok := info.Sys().(*syscall.Stat_t)
	there, err := d.lstat(lockName)
	return ok && err == nil && there.Dev == is.Dev && there.Ino == is.Ino
}

// openLock opens the lock file, and makes it. On a file system that went read-only
// it can still be locked.
func openLock(disk durable.Disk, path string) (*os.File, error) {
	const how = syscall.O_NOFOLLOW | syscall.O_NONBLOCK
	err := ask(disk, "open")
	var f *os.File
	if err == nil {
		f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|how, 0o600)
	}
	if errors.Is(err, syscall.EROFS) {
		if there, openErr := os.OpenFile(path, os.O_RDONLY|how, 0); openErr == nil {
			f, err = there, nil
		}
	}
	if errors.Is(err, syscall.ELOOP) {
		err = errSymlink
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = durable.ErrNotRegular
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func flock(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// Holder returns the process that says in the lock file of a state directory that
// it has the lock, or 0. Whether it has it, only [Lock] finds out. Nothing but
// digits is read, and nobody is waited for: whoever asks may be root, and the
// directory somebody else's.
func Holder(dir string) int {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return 0
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() > maxHolder {
		return 0
	}
	return holder(f)
}

// maxHolder bounds what is in a lock file.
const maxHolder = 32

// holder reads who has the lock. It is a courtesy; the lock is what counts.
func holder(f *os.File) int {
	line := make([]byte, maxHolder)
	n, _ := f.ReadAt(line, 0)
	text := strings.TrimSuffix(string(line[:n]), "\n")
	if strings.ContainsFunc(text, func(r rune) bool { return r < '0' || r > '9' }) {
		return 0
	}
	pid, err := strconv.Atoi(text)
	if err != nil {
		return 0
	}
	return pid
}

// ask is asked before changes to the lock file.
func ask(disk durable.Disk, op string) error {
	if disk.Fault == nil {
		return nil
	}
	return disk.Fault(op, lockName)
}

// makeReady does what whoever has the lock begins with.
func (d *Directory) makeReady() { d.trouble = errors.Join(d.layout(), d.sweep()) }

// layout makes the directories that are always there.
func (d *Directory) layout() error {
	var errs []error
	for _, name := range []string{slotsName, trustName} {
		errs = append(errs, fail("make directory", d.abs(name), d.disk.MakeDir(d.abs(name))))
	}
	for _, name := range []string{inboxName, inboxName + "/done", inboxName + "/rejected"} {
		errs = append(errs, fail("make directory", d.abs(name), d.disk.MakeShared(d.path, name, d.group)))
	}
	return errors.Join(errs...)
}

// groupID is the number of a group, or -1 if there is none of that name.
func groupID(name string) int {
	group, err := user.LookupGroup(name)
	if err != nil {
		return -1
	}
	gid, err := strconv.Atoi(group.Gid)
	if err != nil {
		return -1
	}
	return gid
}

// sweep removes temporaries: nobody else writes, so they are left over.
func (d *Directory) sweep() error {
	errs := []error{d.sweepDir(".")}
	slots, err := d.names(slotsName)
	errs = append(errs, err)
	for _, slot := range slots {
		if checkName("slot", slot) == nil {
			errs = append(errs, d.sweepSlot(slot))
		}
	}
	environments, err := d.names(trustName)
	errs = append(errs, err, d.sweepDir(slotsName), d.sweepDir(trustName), d.sweepDir(servicesName))
	for _, environment := range environments {
		if checkName("environment", environment) == nil {
			errs = append(errs, d.sweepDir(join(trustName, environment)))
		}
	}
	return errors.Join(append(errs, d.sweepCRLs())...)
}

func (d *Directory) sweepSlot(slot string) error {
	base := join(slotsName, slot)
	return errors.Join(d.sweepDir(base), d.sweepDir(join(base, generationsName)), d.sweepDir(join(base, requestsName)))
}

func (d *Directory) sweepDir(dir string) error {
	names, err := d.names(dir)
	if errors.Is(err, durable.ErrNotDirectory) || errors.Is(err, errSymlink) {
		return nil // not ours; Verify names it
	}
	errs := []error{err}
	for _, name := range names {
		if !madeHere(name) || dir == "." && !ownTemporary(name) {
			continue
		}
		path := d.abs(dir, name)
		err := d.disk.RemoveDir(path)
		if errors.Is(err, durable.ErrNotDirectory) {
			err = d.disk.Remove(path)
		}
		errs = append(errs, fail("remove temporary", path, err))
	}
	return errors.Join(errs...)
}

// madeHere tells the temporaries of package durable from what a person put aside
// under a hidden name: they end in a dot and 26 digits of base32.
func madeHere(name string) bool {
	const random = 26
	i := strings.LastIndexByte(name, '.')
	if !hidden(name) || i < 1 || len(name)-i-1 != random {
		return false
	}
	return strings.Trim(name[i+1:], "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}

// ownTemporary tells temporaries in the state directory itself, where others may
// have hidden files, too: it may be the home of the daemon's user.
func ownTemporary(name string) bool {
	for _, of := range []string{".inbox.", ".done.", ".rejected."} {
		if strings.HasPrefix(name, of) {
			return true
		}
	}
	return false
}
