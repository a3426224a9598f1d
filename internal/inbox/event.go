package inbox

import (
	"errors"
	"io/fs"
	"strconv"
	"strings"
	"syscall"
)

// Kind is what an Event tells.
type Kind string

// The kinds of events.
const (
	Accepted Kind = "accepted" // Take took the file; it is in done/
	Rejected Kind = "rejected" // Take, or a rule of this package, refused it; it is in rejected/
	Waiting  Kind = "waiting"  // it stays, and is tried again: Later, unreadable, or it keeps changing
	Ignored  Kind = "ignored"  // a directory: nothing in it is looked at
	Stuck    Kind = "stuck"    // judged, but it could not be moved: tried again, and not judged again
	Crowded  Kind = "crowded"  // more files than one pass takes: they are served in turn
	Unusable Kind = "unusable" // the inbox, done/ or rejected/ cannot be used: files stay until it can
	Blind    Kind = "blind"    // nothing reports what is dropped: the poll finds it
)

// Event is something that happened. What lasts is told once, until it changes.
type Event struct {
	Kind   Kind
	Name   string // of the file, with everything odd escaped; "" where it is about the whole
	Moved  string // where the file is now, relative to the inbox, escaped; "" where it was not moved
	Reason string // a sentence
	Hint   string // the next action, may be empty
	Err    error  // of the operating system, or nil
}

// shown returns a name for people: one line, and nothing in it that a terminal or
// a log could take for anything else.
func shown(name string) string {
	quoted := strconv.Quote(name)
	return quoted[1 : len(quoted)-1]
}

// trouble tells what is wrong with a topic, once until it changes or ends.
func (in *Inbox) trouble(topic string, kind Kind, err error) {
	if cause := bare(err).Error(); in.told[topic] != cause {
		in.told[topic] = cause
		in.config.Tell(Event{Kind: kind, Reason: sentence(kind, topic), Hint: advice(topic, err), Err: err})
	}
}

// outcome is trouble, or the end of it.
func (in *Inbox) outcome(topic string, kind Kind, err error) {
	if err == nil {
		delete(in.told, topic)
		return
	}
	in.trouble(topic, kind, err)
}

func sentence(kind Kind, topic string) string {
	switch {
	case kind == Stuck:
		return "old files of " + strings.TrimPrefix(topic, topicPrune) + "/ cannot be removed"
	case kind == Blind:
		return "the inbox is not watched: what is dropped there is found by the poll"
	case topic == "":
		return "the inbox cannot be read"
	default:
		return "the directory " + topic + "/ of the inbox cannot be used: files stay where they are"
	}
}

func advice(topic string, err error) string {
	switch {
	case errors.Is(err, syscall.ENOSPC) && topic == "watch":
		return "raise fs.inotify.max_user_watches"
	case errors.Is(err, syscall.EMFILE):
		return "raise the limit of open files, or fs.inotify.max_user_instances, then restart"
	case topic != "" && (errors.Is(err, errNotOurs) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ELOOP)):
		return "remove it: it is made anew"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return "make room on the file system of the state directory"
	case errors.Is(err, fs.ErrPermission):
		return "give the directory back to the daemon's user; spinecert state verify shows what it should be"
	case errors.Is(err, fs.ErrNotExist):
		return "make it anew: systemd-tmpfiles --create spinecert.conf; without that file, restart the daemon, which does"
	}
	return ""
}

// bare returns the number of an error where there is one: names of temporary
// things in its text would make the same cause a new one each time.
func bare(err error) error {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno
	}
	return err
}

// Bounds of what Take says: it may quote a certificate. Together, and with what is
// around them, they are the 2 KiB of a .reason file.
const (
	maxReason = 1500 // bytes
	maxHint   = 500  // bytes
)

func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit-len("...")], "") + "..."
}

// oneLine keeps what Take says from being anything but text.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
}
