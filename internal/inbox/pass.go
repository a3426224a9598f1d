package inbox

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/spinecert/spinecert/internal/order"
)

// pass serves what is in the directory, at most as many files as one pass takes.
func (in *Inbox) pass(ctx context.Context) (more bool) {
	d, topic, err := in.open()
	if err != nil {
		in.trouble(topic, Unusable, err)
		return false
	}
	defer d.close()
	for _, topic := range []string{"", doneName, rejectedName} {
		delete(in.told, topic)
	}
	names, more, err := in.list(d)
	if err != nil {
		in.trouble("", Unusable, err)
		return false
	}
	p := &passing{Inbox: in, dirs: d, stuck: in.memory.stuck()}
	var first []candidate
	for _, name := range names {
		if ctx.Err() != nil {
			return false
		}
		if c, ok := p.meet(name); ok {
			first = append(first, c)
		}
	}
	if len(first) > 0 && !sleep(ctx, in.config.Settle) {
		return false
	}
	for _, c := range inTurn(first) {
		if ctx.Err() != nil {
			return false
		}
		p.serve(ctx, c)
	}
	if p.moved > 0 && !p.failed {
		delete(in.told, topicMove)
	}
	if p.moved > 0 || in.round <= 1 {
		p.prune(ctx)
	}
	return more
}

// topicMove is that of files which cannot be moved.
const topicMove = "move"

// passing is one pass.
type passing struct {
	*Inbox
	dirs   *dirs
	moved  int
	stuck  int  // files that were judged and are still here
	failed bool // something could not be moved
}

// candidate is a regular file as it was at the first reading.
type candidate struct {
	name  string
	owner uint32
	was   snapshot
}

// inTurn has the owners of files take turns, each with the files of its own in
// their order: who drops a thousand that take long to judge keeps nobody else
// waiting for more than one of them.
func inTurn(files []candidate) []candidate {
	turn := make(map[uint32]int, 1)
	type place struct {
		candidate
		turn int
	}
	places := make([]place, 0, len(files))
	for _, c := range files {
		places = append(places, place{c, turn[c.owner]})
		turn[c.owner]++
	}
	order.Stable(places, func(a, b place) int { return cmp.Compare(a.turn, b.turn) })
	for i, p := range places {
		files[i] = p.candidate
	}
	return files
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// list returns the next names to serve, in their order from where the last pass
// ended, and whether there are more behind them. Names are read in pieces: the
// directory may hold more than memory does.
func (in *Inbox) list(d *dirs) (names []string, more bool, err error) {
	all := 0
	for {
		piece, err := d.inbox.Readdirnames(1024)
		for _, name := range piece {
			if leftAlone(name) {
				continue
			}
			all++
			if name > in.cursor {
				names = append(names, name)
			}
		}
		if len(names) > 2*in.most {
			names, more = cut(names, in.most), true
		}
		if err != nil {
			break // EOF
		}
		if len(piece) == 0 {
			return nil, false, errors.New("the list of its files does not end")
		}
	}
	if len(names) > in.most {
		more = true
	}
	names = cut(names, in.most)
	in.crowded(all)
	if in.cursor = ""; more {
		in.cursor = names[len(names)-1]
	} else {
		in.round++
		in.memory.forget(in.round)
	}
	return names, more, nil
}

// cut keeps the first names in their order.
func cut(names []string, most int) []string {
	slices.Sort(names)
	return names[:min(len(names), most)]
}

func (in *Inbox) crowded(files int) {
	const topic = "crowded"
	if files <= in.most {
		delete(in.told, topic)
	} else if in.told[topic] == "" {
		in.told[topic] = topic
		in.config.Tell(Event{Kind: Crowded, Reason: "more files are in the inbox than are read at once: they are served in turn"})
	}
}

// leftAlone says which names are no files that are dropped: our own directories,
// what editors and copying programs write before they rename it, and our reasons.
func leftAlone(name string) bool {
	lower := strings.ToLower(name)
	return name == doneName || name == rejectedName || strings.HasPrefix(name, ".") ||
		slices.ContainsFunc([]string{"~", ".tmp", ".part", ".filepart", reasonSuffix}, func(end string) bool { return strings.HasSuffix(lower, end) })
}

// meet looks at what has this name without opening it, moves away what is not to
// be opened, and reads the rest for the first time.
func (p *passing) meet(name string) (candidate, bool) {
	var st unix.Stat_t
	err := unix.Fstatat(p.dirs.fd(), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return candidate{}, false // gone again, or the next pass finds out
	}
	file := id{st.Dev, st.Ino}
	n := p.memory.of(file, p.round)
	if what := untrusted(&st); what != "" {
		p.retire(name, file, n, what, "copy the file itself into the inbox, with cp")
		return candidate{}, false
	}
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		p.tellOnce(n, Event{Kind: Ignored, Name: shown(name), Reason: "a directory: nothing in it is looked at", Hint: "drop the files themselves into the inbox"})
		return candidate{}, false
	case st.Size > maxFile:
		p.retire(name, file, n, "the file is larger than 1 MiB, which no certificate is", "")
		return candidate{}, false
	}
	p.between("met", name)
	was, _, f, err := p.dirs.read(name, file)
	if err != nil {
		p.unreadable(name, file, n, err)
		return candidate{}, false
	}
	f.Close()
	return candidate{name, st.Uid, was}, true
}

// untrusted says what a file is that cannot be trusted to be what it seems, or "".
func untrusted(st *unix.Stat_t) string {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return ""
	case unix.S_IFREG:
		if st.Nlink > 1 {
			return "the file has several links: it is also in another place"
		}
		return ""
	case unix.S_IFLNK:
		return "this is a symbolic link, which is not followed"
	case unix.S_IFIFO:
		return "this is a FIFO, not a file"
	case unix.S_IFSOCK:
		return "this is a socket, not a file"
	default:
		return "this is a device, not a file"
	}
}

// serve reads a file for the second time, and judges it if it is the same.
func (p *passing) serve(ctx context.Context, c candidate) {
	p.between("reread", c.name)
	n := p.memory.of(c.was.file, p.round)
	is, data, f, err := p.dirs.read(c.name, c.was.file)
	if err != nil {
		p.unreadable(c.name, c.was.file, n, err)
		return
	}
	defer f.Close()
	switch {
	case is.torn || is != c.was:
		p.unsettled(c.name, is.file, n, "the file does not stop changing", "copy it to a name that begins with a dot, then rename it")
		return
	case len(data) == 0:
		p.unsettled(c.name, is.file, n, "the file is empty", "")
		return
	}
	n.since = time.Time{}
	if n.verdict == nil || n.digest != is.digest {
		if n.verdict == nil && p.stuck >= maxStuck {
			return // until those that were judged can be moved
		}
		v := p.judge(ctx, c.name, data)
		if ctx.Err() != nil && v.Later {
			return // it says nothing of the file
		}
		if v.Later {
			p.undecided(n)
			p.tellOnce(n, Event{Kind: Waiting, Name: shown(c.name), Reason: v.Reason, Hint: v.Hint})
			return
		}
		p.decided(is.file, n, &v)
		n.digest = is.digest
	}
	p.between("judged", c.name)
	if n.verdict.private {
		n.verdict.Hint = p.hide(f)
	}
	p.carryOut(c.name, is.file, n)
}

// outcome is a verdict, and whether the file may hold a private key.
type outcome struct {
	Verdict
	private bool
}

func (in *Inbox) judge(ctx context.Context, name string, data []byte) outcome {
	if what := secret(data); what != "" {
		return outcome{Verdict{Reason: "the file " + what + ": keys go through spinecert import"}, true}
	}
	if ctx.Err() != nil {
		return outcome{Verdict: Verdict{Later: true}}
	}
	v := in.config.Take(ctx, shown(name), data)
	v.Reason, v.Hint = oneLine(clip(v.Reason, maxReason)), oneLine(clip(v.Hint, maxHint))
	return outcome{v, false}
}

// unreadable waits for permissions, and for whatever else ends by itself.
func (p *passing) unreadable(name string, file id, n *note, err error) {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, errOther):
		return // gone, or another file: the next pass meets that
	case errors.Is(err, fs.ErrPermission):
		hint := "let the group read it: chmod g+r"
		p.tellOnce(n, Event{Kind: Waiting, Name: shown(name), Reason: "the daemon may not read the file", Hint: hint, Err: err})
		p.unsettled(name, file, n, "the file could not be read by the daemon", hint)
	default:
		p.tellOnce(n, Event{Kind: Waiting, Name: shown(name), Reason: "the file cannot be read now", Err: err})
	}
}

// unsettled leaves a file for later until patience ends.
func (p *passing) unsettled(name string, file id, n *note, what, hint string) {
	if now := time.Now(); n.since.IsZero() {
		n.since = now
	} else if now.Sub(n.since) >= p.patience {
		p.retire(name, file, n, what, hint)
	}
}

// retire refuses a file that was not read.
func (p *passing) retire(name string, file id, n *note, what, hint string) {
	if n.verdict == nil {
		if p.stuck >= maxStuck {
			return
		}
		p.decided(file, n, &outcome{Verdict: Verdict{Reason: what, Hint: hint}})
	}
	p.between("judged", name)
	p.carryOut(name, file, n)
}

// decided keeps a verdict until it is carried out.
func (p *passing) decided(file id, n *note, v *outcome) {
	if n.verdict == nil {
		p.stuck++
	}
	n.verdict, n.unkept = v, false
	p.memory[file] = n
}

func (p *passing) undecided(n *note) {
	if n.verdict != nil {
		p.stuck--
	}
	n.verdict = nil
}

// tellOnce tells what lasts, once until it is something else.
func (in *Inbox) tellOnce(n *note, e Event) {
	if text := string(e.Kind) + e.Reason; n.told != text && !n.unkept {
		n.told = text
		in.config.Tell(e)
	}
}
