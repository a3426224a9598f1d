package set

import (
	"io/fs"
	"regexp"
	"time"

	"golang.org/x/sys/unix"

	"github.com/spinecert/spinecert/internal/deliver/failure"
	"github.com/spinecert/spinecert/internal/durable"
)

// File is one file of a set.
type File struct {
	Name     string // without a directory
	Data     []byte
	Mode     fs.FileMode // permissions only
	UID, GID int         // -1 keeps the daemon's own
}

// Link is the name in a target directory that programs go through.
const Link = "current"

// Entry is what a set has of one file: enough to find out that it was changed.
type Entry struct {
	Name   string      `json:"name"`
	SHA256 string      `json:"sha256"` // lower-case hex
	Size   int64       `json:"size"`
	Mode   fs.FileMode `json:"mode"`
	UID    int         `json:"uid"`
	GID    int         `json:"gid"`
	// Changed is the file's ctime in nanoseconds. It stands for the content of a file
	// that was given away so that the daemon cannot read it any more.
	Changed int64 `json:"changed"`
}

const (
	namePrefix = "set-"
	nameTime   = "20060102T150405Z"
	// setMode is that of a directory that is whole: its files protect themselves.
	setMode     = 0o755
	privateMode = 0o700
	allModes    = 0o7777
)

// The names in a target directory that are ours: sets, and a link that is on its way.
var (
	namePattern      = regexp.MustCompile(`^set-[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}$`)
	temporaryPattern = regexp.MustCompile(`^\.current\.[A-Z2-7]{26}$`)
	filePattern      = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._@+-]{0,127}$`)
)

// Target is a directory that sets are delivered into.
type Target struct {
	path string
	disk durable.Disk
	fd   int
	is   unix.Stat_t // of fd

	unsettled time.Duration // see Seen; less in tests, as nobody can set a ctime
}

// Open opens a directory for sets. It and every directory above it must be such
// that nobody but root and this process may change what is in them; above it, a
// sticky one such as /tmp will do. The error is a *failure.Error: unsafe_directory,
// directory_missing, not_writable.
func Open(path string, disk durable.Disk) (*Target, error) {
	fd, is, err := walk(path)
	if err != nil {
		return nil, err
	}
	return &Target{path: path, disk: disk, fd: fd, is: is, unsettled: unsettled}, nil
}

// Close ends the use of t.
func (t *Target) Close() error {
	fd := t.fd
	t.fd = -1
	return closeFD(fd)
}

// stillThere is asked before a change: the way must still lead to the directory that
// was opened. Who moved it away, or put another there, wants the files in that one.
func (t *Target) stillThere() error {
	fd, is, err := walk(t.path)
	if err != nil {
		return err
	}
	defer func() { _ = closeFD(fd) }()
	if !sameFile(is, t.is) {
		return failure.New(failure.DirectoryMissing, "it is delivered again by itself, into the directory that is there then",
			"write directory %q: it was replaced while it was in use", t.path)
	}
	return nil
}

// newName names a set.
func newName(now time.Time, random string) string {
	return namePrefix + now.UTC().Format(nameTime) + "-" + random
}
