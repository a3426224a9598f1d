package inbox

import (
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	doneName     = "done"
	rejectedName = "rejected"
	reasonSuffix = ".reason"
)

var (
	errNotOurs = errors.New("belongs to another user")
	errOther   = errors.New("is another file now")
)

// dirs holds the three directories open for one pass: whatever is put in their
// place meanwhile, it is these that are read and written.
type dirs struct {
	inbox, done, rejected *os.File
}

func (d *dirs) fd() int { return int(d.inbox.Fd()) }

func (d *dirs) close() {
	for _, f := range []*os.File{d.inbox, d.done, d.rejected} {
		if f != nil {
			f.Close()
		}
	}
}

const openDirectory = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC

// open opens the directories, and makes done/ and rejected/ where they are missing.
// The error is about the topic: "", "done" or "rejected".
func (in *Inbox) open() (d *dirs, topic string, err error) {
	fd, err := unix.Open(in.config.Directory, openDirectory, 0)
	if err != nil {
		return nil, "", &os.PathError{Op: "open", Path: in.config.Directory, Err: err}
	}
	d = &dirs{inbox: os.NewFile(uintptr(fd), in.config.Directory)}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		d.close()
		return nil, "", &os.PathError{Op: "stat", Path: in.config.Directory, Err: err}
	}
	in.watched(id{st.Dev, st.Ino}, in.config.Directory) // before it is read: what comes meanwhile wakes
	for name, to := range map[string]**os.File{doneName: &d.done, rejectedName: &d.rejected} {
		if *to, err = in.openIn(d, name, &st); err != nil {
			d.close()
			return nil, name, &os.PathError{Op: "open", Path: filepath.Join(in.config.Directory, name), Err: err}
		}
	}
	return d, "", nil
}

// openIn opens done/ or rejected/. A link is not followed, and a directory that
// somebody else has put there is not used: it may be moved away, with what is in it.
func (in *Inbox) openIn(d *dirs, name string, inbox *unix.Stat_t) (*os.File, error) {
	fd, err := unix.Openat(d.fd(), name, openDirectory, 0)
	made := false
	if errors.Is(err, unix.ENOENT) {
		if err = in.fault("mkdir", name); err == nil {
			err = unix.Mkdirat(d.fd(), name, 0o700)
		}
		if err == nil {
			made = true
			fd, err = unix.Openat(d.fd(), name, openDirectory, 0)
		}
	}
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err == nil && st.Uid != uint32(os.Geteuid()) && st.Uid != 0 && st.Uid != inbox.Uid {
		err = errNotOurs
	}
	if err == nil && made {
		err = unix.Fchmod(fd, inbox.Mode&0o7777) // who may drop files may see what became of them
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// snapshot is all that shows whether a file has changed.
type snapshot struct {
	file         id
	size         int64
	mtime, ctime unix.Timespec
	digest       digest
	torn         bool // it changed while it was read
}

func snap(st *unix.Stat_t) snapshot {
	return snapshot{file: id{st.Dev, st.Ino}, size: st.Size, mtime: st.Mtim, ctime: st.Ctim}
}

// read opens a file that was met as this one and reads all of it. errOther: there
// is another one now, or it is no longer such as is read.
func (d *dirs) read(name string, file id) (snapshot, []byte, *os.File, error) {
	fd, err := unix.Openat(d.fd(), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENXIO): // a link, a socket
		return snapshot{}, nil, nil, errOther
	case err != nil:
		return snapshot{}, nil, nil, err
	}
	f := os.NewFile(uintptr(fd), name)
	s, data, err := readOpen(f, file)
	if err != nil {
		f.Close()
		return snapshot{}, nil, nil, err
	}
	return s, data, f, nil
}

func readOpen(f *os.File, file id) (snapshot, []byte, error) {
	var before, after unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &before); err != nil {
		return snapshot{}, nil, err
	}
	if before.Mode&unix.S_IFMT != unix.S_IFREG || before.Nlink != 1 || before.Size > maxFile || snap(&before).file != file {
		return snapshot{}, nil, errOther
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return snapshot{}, nil, err
	}
	if err := unix.Fstat(int(f.Fd()), &after); err != nil {
		return snapshot{}, nil, err
	}
	s := snap(&before)
	s.digest = sha256.Sum256(data)
	s.torn = snap(&after) != snap(&before) || int64(len(data)) != before.Size
	return s, data, nil
}
