package inbox

import (
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// carryOut moves a file that was judged.
func (p *passing) carryOut(name string, file id, n *note) {
	v := n.verdict
	kind, to, where := Rejected, p.dirs.rejected, rejectedName
	if v.Accepted {
		kind, to, where = Accepted, p.dirs.done, doneName
	}
	target, err := p.move(name, file, to, v)
	e := Event{Kind: kind, Name: shown(name), Reason: v.Reason, Hint: v.Hint}
	switch {
	case err == nil:
		p.moved++
		p.stuck--
		delete(p.memory, file)
		if e.Moved = where + "/" + shown(target); n.told != toldGone {
			p.config.Tell(e)
		}
	case errors.Is(err, unix.ENOENT), errors.Is(err, errOther):
		// Somebody took it away, or put another in its place. Should it come back
		// under another name, it is moved without being judged again.
		if n.told != toldGone {
			n.told = toldGone
			p.config.Tell(e)
		}
	default:
		p.failed = true
		if cause := bare(err).Error(); p.told[topicMove] != cause {
			p.told[topicMove] = cause
			p.config.Tell(Event{Kind: Stuck, Name: shown(name), Reason: "it was " + string(kind) + ", but cannot be moved to " + where + "/, and stays",
				Hint: advice(topicMove, err), Err: err})
		}
	}
}

// toldGone is in a note when the outcome was told although the file was not moved.
const toldGone = "gone"

// move renames a file into a directory under a name that is free there, with the
// reason beside it if it was refused: both, or neither.
func (p *passing) move(name string, file id, to *os.File, v *outcome) (target string, err error) {
	for target := range targets(name) {
		if !v.Accepted {
			err = p.writeReason(to, target+reasonSuffix, v)
		}
		if err == nil {
			err = p.rename(p.dirs.inbox, name, to, target)
			if err == nil {
				if err = isFile(to, target, file); err != nil {
					p.giveBack(to, target, name)
				}
			}
			if err != nil && !v.Accepted {
				_ = unix.Unlinkat(int(to.Fd()), target+reasonSuffix, 0) // ours: made a moment ago with O_EXCL
			}
		}
		if !errors.Is(err, unix.EEXIST) {
			return target, err
		}
		err = nil
	}
	return "", &os.PathError{Op: "rename", Path: shown(name), Err: unix.EEXIST}
}

// isFile is nil if the name is that of the file. The name in the inbox may have
// been given to another one since it was judged.
func isFile(dir *os.File, name string, file id) error {
	var st unix.Stat_t
	if err := unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if (id{st.Dev, st.Ino}) != file {
		return errOther
	}
	return nil
}

// giveBack undoes a rename that took the wrong file, which nobody has judged.
func (p *passing) giveBack(from *os.File, target, name string) {
	for back := range targets(name) {
		if err := p.rename(from, target, p.dirs.inbox, back); !errors.Is(err, unix.EEXIST) {
			return
		}
	}
}

// rename never replaces anything.
func (p *passing) rename(from *os.File, name string, to *os.File, target string) error {
	if err := p.fault("rename", target); err != nil {
		return err
	}
	err := unix.Renameat2(int(from.Fd()), name, int(to.Fd()), target, unix.RENAME_NOREPLACE)
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	// A file system without RENAME_NOREPLACE, such as NFS.
	var st unix.Stat_t
	if err := unix.Fstatat(int(to.Fd()), target, &st, unix.AT_SYMLINK_NOFOLLOW); err == nil {
		return unix.EEXIST
	}
	return unix.Renameat(int(from.Fd()), name, int(to.Fd()), target)
}

const reasonMode = 0o640

// writeReason writes the .reason file, whole or not at all.
func (p *passing) writeReason(dir *os.File, name string, v *outcome) error {
	if err := p.fault("reason", name); err != nil {
		return err
	}
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, reasonMode)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	text := v.Reason + "\n"
	if v.Hint != "" {
		text += "hint: " + v.Hint + "\n"
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Chmod(reasonMode) // the umask may have taken bits away
	}
	if err == nil {
		err = p.fault("close", name)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, unix.Unlinkat(int(dir.Fd()), name, 0))
	}
	return nil
}

// hide takes the file away from all but its owner, and returns what to do with it.
// Only its owner and root can: what somebody else has dropped stays as it is.
func (p *passing) hide(f *os.File) (hint string) {
	err := p.fault("chmod", f.Name())
	if err == nil {
		err = unix.Fchmod(int(f.Fd()), 0o600)
	}
	if err != nil {
		return "others may still read it, as its mode could not be changed: take it away from there, and give it to spinecert import if it is an answer"
	}
	return "its mode is 0600 now; take it away from there, and give it to spinecert import if it is an answer"
}

const (
	maxTarget  = 255 - len(reasonSuffix) - len(".12345678") // bytes of a name, with room for what is added
	maxTargets = 100
)

// targets returns the name, and others made from it for when it is taken.
func targets(name string) iter.Seq[string] {
	if len(name) > maxTarget {
		cut := maxTarget
		for cut > maxTarget-utf8.UTFMax && !utf8.RuneStart(name[cut]) {
			cut--
		}
		name = name[:cut]
	}
	return func(yield func(string) bool) {
		for i := range maxTargets {
			target := name
			switch {
			case i >= maxTargets-3:
				target += "." + strings.ToLower(rand.Text()[:8])
			case i > 0:
				target += fmt.Sprintf(".%d", i)
			}
			if !yield(target) {
				return
			}
		}
	}
}
