package set

import (
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Seen is how a set looked when it was read in full, so that it need not be read
// again while nothing has moved. It holds no descriptor.
type Seen struct {
	target, link, dir string // paths
	set               string
	is                [2]stamp // of target and of dir
	files             []seenFile
	before            time.Time // what was changed until then may not be changed again unseen
	settled           bool      // nothing had been changed just before
}

type seenFile struct {
	path string
	is   stamp
}

// stamp is what moves when something is changed. Nobody but the kernel sets ctime.
type stamp struct {
	dev, ino     uint64
	mode         uint32
	uid, gid     uint32
	size         int64
	mtime, ctime int64
}

func stampOf(st unix.Stat_t) stamp {
	return stamp{dev: st.Dev, ino: st.Ino, mode: st.Mode, uid: st.Uid, gid: st.Gid, size: st.Size, mtime: st.Mtim.Nano(), ctime: st.Ctim.Nano()}
}

// targetStamp leaves out what every set that comes and goes moves.
func targetStamp(st unix.Stat_t) stamp {
	return stamp{dev: st.Dev, ino: st.Ino, mode: st.Mode, uid: st.Uid, gid: st.Gid}
}

// unsettled is how young a change is that another may follow without a trace: file
// systems count time in steps, of up to 2 s.
const unsettled = 3 * time.Second

// See is a full Check, and remembers what it saw.
func (t *Target) See(name string, entries []Entry) (*Seen, error) {
	if err := t.leadsTo(name); err != nil {
		return nil, err
	}
	return t.intact(name, entries, true)
}

func (t *Target) newSeen(name string, set unix.Stat_t, began time.Time) *Seen {
	dir := filepath.Join(t.path, name)
	s := &Seen{target: t.path, link: filepath.Join(t.path, Link), dir: dir, set: name, before: began.Add(-t.unsettled), settled: true}
	s.is = [2]stamp{targetStamp(t.is), stampOf(set)}
	s.settle(set)
	return s
}

func (s *Seen) file(name string, is unix.Stat_t) {
	s.files = append(s.files, seenFile{filepath.Join(s.dir, name), stampOf(is)})
	s.settle(is)
}

func (s *Seen) settle(is unix.Stat_t) {
	if time.Unix(is.Ctim.Unix()).After(s.before) {
		s.settled = false
	}
}

// Unchanged reports whether nothing has moved since: neither what `current` points to
// nor any file of the set, and no mode or owner. It reads nothing and costs three
// system calls and one for each file. False says only that See has to look again, as
// it is within three seconds after the set was written. A nil Seen has seen nothing.
func (s *Seen) Unchanged() bool {
	if s == nil || !s.settled {
		return false
	}
	var st unix.Stat_t
	buf := make([]byte, 64) // longer than the name of a set
	if n, err := unix.Readlink(s.link, buf); err != nil || string(buf[:n]) != s.set {
		return false
	}
	if unix.Lstat(s.target, &st) != nil || targetStamp(st) != s.is[0] {
		return false
	}
	if unix.Lstat(s.dir, &st) != nil || stampOf(st) != s.is[1] {
		return false
	}
	for _, f := range s.files {
		if unix.Lstat(f.path, &st) != nil || stampOf(st) != f.is {
			return false
		}
	}
	return true
}
