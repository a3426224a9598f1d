package inbox

import (
	"cmp"
	"context"
	"errors"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/spinecert/spinecert/internal/order"
)

// maxKept is how many files stay in done/ and in rejected/, each with its .reason:
// the newest. Members of the group can drop any number.
const maxKept = 2000

// topicPrune, with the name of the directory behind it, is that of files which
// cannot be removed.
const topicPrune = "prune "

// prune removes from done/ and rejected/ what is older than the newest.
func (p *passing) prune(ctx context.Context) {
	for _, dir := range []*os.File{p.dirs.done, p.dirs.rejected} {
		topic := topicPrune + doneName
		if dir == p.dirs.rejected {
			topic = topicPrune + rejectedName
		}
		p.outcome(topic, Stuck, p.pruneDir(ctx, dir))
	}
}

// kept is a file that was judged, and when it came into its directory: a rename
// changes the ctime, which nobody can choose.
type kept struct {
	name string
	came unix.Timespec
}

// pruneDir removes the oldest files of a directory. It goes through it in pieces,
// and keeps the newest of those it has seen: the directory may hold more than
// memory does.
func (p *passing) pruneDir(ctx context.Context, dir *os.File) error {
	if _, err := dir.Seek(0, 0); err != nil {
		return err
	}
	var newest []kept
	var failed error
	for ctx.Err() == nil {
		names, err := dir.Readdirnames(1024)
		for _, name := range names {
			if k, ok := p.keptAs(dir, name); ok {
				newest = append(newest, k)
			}
		}
		if len(newest) > p.keep {
			order.Sort(newest, func(a, b kept) int { // newest first
				return cmp.Compare(b.came.Nano(), a.came.Nano())
			})
			for _, k := range newest[p.keep:] {
				failed = cmp.Or(p.remove(dir, k.name), failed)
			}
			newest = newest[:p.keep]
		}
		if err != nil || len(names) == 0 { // EOF
			break
		}
	}
	return failed
}

// keptAs returns what is counted under a name: directories are not ours, and a
// .reason goes with its file.
func (p *passing) keptAs(dir *os.File, name string) (kept, bool) {
	var st unix.Stat_t
	if of, ok := strings.CutSuffix(name, reasonSuffix); ok && unix.Fstatat(int(dir.Fd()), of, &st, unix.AT_SYMLINK_NOFOLLOW) == nil {
		return kept{}, false
	}
	if unix.Fstatat(int(dir.Fd()), name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil || st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return kept{}, false
	}
	return kept{name, st.Ctim}, true
}

// remove takes a file away, then its .reason.
func (p *passing) remove(dir *os.File, name string) error {
	err := p.fault("unlink", name)
	if err == nil {
		err = unix.Unlinkat(int(dir.Fd()), name, 0)
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	if err := unix.Unlinkat(int(dir.Fd()), name+reasonSuffix, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}
