package rotate

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/fsnotify/fsnotify"
)

// watcher turns inotify events into marks on units. Directories are watched,
// never files: a file that is renamed over would take its watch with it. It only
// makes things fast; that they happen is the poll's business.
type watcher struct {
	notify *fsnotify.Watcher
	mark   func(*unit)
	stat   func(dir string) (inode, error) // inodeOf, but in tests

	mu    sync.Mutex
	dirs  map[string]*watchedDir
	units map[*unit][]place
}

type watchedDir struct {
	inode inode                    // of the directory that is watched; zero: none is
	stale bool                     // events were lost: it may be another directory of the same inode
	names map[string]map[*unit]int // entry name -> who depends on it, how often
	users int
}

type inode struct{ dev, ino uint64 }

// newBlindWatcher returns a watcher that sees nothing.
func newBlindWatcher(mark func(*unit)) *watcher {
	return &watcher{mark: mark, stat: inodeOf, dirs: map[string]*watchedDir{}, units: map[*unit][]place{}}
}

func newWatcher(mark func(*unit)) (*watcher, error) {
	w := newBlindWatcher(mark)
	n, err := fsnotify.NewWatcher()
	w.notify = n
	return w, err
}

// set makes u depend on exactly these places. The error says which directory
// cannot be watched; all others are.
func (w *watcher) set(u *unit, places []place) error {
	// Without the lock: a file system that does not answer must not hold up those
	// whose files are elsewhere.
	inodes := map[string]inode{}
	for _, p := range places {
		if _, ok := inodes[p.dir]; !ok {
			inodes[p.dir], _ = w.stat(p.dir) // zero: there is none
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	old := w.units[u]
	var errs []error
	for _, p := range places {
		if err := w.add(u, p, inodes[p.dir]); err != nil {
			errs = append(errs, err)
		}
	}
	for _, p := range old {
		w.drop(u, p)
	}
	if len(places) == 0 {
		delete(w.units, u)
	} else {
		w.units[u] = places
	}
	return errors.Join(errs...)
}

func (w *watcher) add(u *unit, p place, id inode) error {
	d := w.dirs[p.dir]
	switch {
	case d == nil:
		d = &watchedDir{names: map[string]map[*unit]int{}}
		w.dirs[p.dir] = d
	case d.inode != (inode{}) && (d.stale || d.inode != id):
		// Another directory stands there now; the watch is still on the old one.
		// Who else depends on it must look too: nobody tells of what happens until
		// the new one is watched.
		w.unwatch(p.dir)
		d.inode = inode{}
		d.mark(w.mark)
	}
	if d.names[p.name] == nil {
		d.names[p.name] = map[*unit]int{}
	}
	d.names[p.name][u]++
	d.users++
	if d.inode != (inode{}) {
		return nil
	}
	if w.notify == nil {
		return nil // told once, when it failed
	}
	if err := w.notify.Add(p.dir); errors.Is(err, os.ErrNotExist) {
		return nil // gone since it was resolved: its parent's event or the poll brings us back
	} else if err != nil {
		return &os.PathError{Op: "watch", Path: p.dir, Err: err}
	}
	d.inode, d.stale = id, false
	return nil
}

// mark marks everybody who depends on the directory.
func (d *watchedDir) mark(mark func(*unit)) {
	for _, users := range d.names {
		for u := range users {
			mark(u)
		}
	}
}

func (w *watcher) drop(u *unit, p place) {
	d := w.dirs[p.dir]
	if d == nil {
		return
	}
	if d.names[p.name][u]--; d.names[p.name][u] <= 0 {
		delete(d.names[p.name], u)
	}
	if len(d.names[p.name]) == 0 {
		delete(d.names, p.name)
	}
	if d.users--; d.users == 0 {
		w.unwatch(p.dir)
		delete(w.dirs, p.dir)
	}
}

func (w *watcher) unwatch(dir string) {
	if w.notify != nil {
		_ = w.notify.Remove(dir) // it may be gone already: that is why we are here
	}
}

func inodeOf(dir string) (inode, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return inode{}, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return inode{}, errors.ErrUnsupported
	}
	return inode{st.Dev, st.Ino}, nil
}

// run delivers marks until ctx ends. lost is called when the kernel dropped
// events (fsnotify.ErrEventOverflow) or reading them failed.
func (w *watcher) run(ctx context.Context, lost func(error)) {
	if w.notify == nil {
		<-ctx.Done()
		return
	}
	// fsnotify may hold its lock while it sends an error, set waits for that lock
	// with w.mu held, and deliver waits for w.mu: so whoever receives the errors
	// must wait for nobody.
	overflow, other := make(chan error, 1), make(chan error, 1)
	var group sync.WaitGroup
	group.Go(func() {
		for err := range w.notify.Errors {
			to := other
			if errors.Is(err, fsnotify.ErrEventOverflow) {
				to = overflow
			}
			select {
			case to <- err:
			default: // one waits already, and stands for all
			}
		}
	})
	defer group.Wait()
	defer w.notify.Close()
	for {
		select {
		case <-ctx.Done():
			return
		case ev, ok := <-w.notify.Events:
			if !ok {
				return
			}
			w.deliver(ev)
		case err := <-overflow:
			w.markAll()
			lost(err)
		case err := <-other:
			w.markAll()
			lost(err)
		}
	}
}

func (w *watcher) deliver(ev fsnotify.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if d := w.dirs[filepath.Dir(ev.Name)]; d != nil {
		for u := range d.names[filepath.Base(ev.Name)] {
			w.mark(u)
		}
		for u := range d.names[anyName] {
			w.mark(u)
		}
	}
	d := w.dirs[ev.Name]
	if d == nil {
		return
	}
	switch {
	case ev.Op&(fsnotify.Remove|fsnotify.Rename) != 0:
		// It went away or moved: its watch is worth nothing now.
		w.unwatch(ev.Name)
		d.inode = inode{}
		d.mark(w.mark)
	case ev.Op&fsnotify.Chmod != 0: // its files may have become readable, or not
		d.mark(w.mark)
	}
}

// markAll has everything looked at, and all directories watched anew: what was
// lost may have been the end of one.
func (w *watcher) markAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range w.dirs {
		d.stale = true
	}
	for u := range w.units {
		w.mark(u)
	}
}

// trouble tells what run says of lost events.
func (k *Keeper) trouble(err error) {
	switch {
	case errors.Is(err, fsnotify.ErrEventOverflow):
		k.tell(Event{Kind: EventOverflow, Reason: "overflow", Err: err})
	case errors.Is(err, syscall.EINVAL): // fsnotify removed a watch that had ended by itself
	default:
		k.lost("inotify", err)
	}
}

// watched keeps whether u's directories can be watched.
func (k *Keeper) watched(u *unit, err error) {
	if err != nil {
		k.blind[u] = true
		k.lost("watch", err)
		return
	}
	delete(k.blind, u)
	if len(k.blind) == 0 {
		clear(k.watchTold)
	}
}

// lost tells each cause once until everything is watched again: where watches
// run out, thousands of directories have the same one.
func (k *Keeper) lost(reason string, err error) {
	cause := err.Error()
	var errno syscall.Errno
	if errors.As(err, &errno) {
		cause = errno.Error()
	}
	if !k.watchTold[cause] {
		k.watchTold[cause] = true
		k.tell(watchLost(reason, err))
	}
}

func watchLost(reason string, err error) Event {
	r := &Refusal{Reason: reason, Err: err}
	switch {
	case errors.Is(err, syscall.ENOSPC):
		r.Advice = "raise fs.inotify.max_user_watches; until then changes are found by the poll"
	case errors.Is(err, syscall.EMFILE):
		r.Advice = "raise fs.inotify.max_user_instances or the limit of open files, then restart; until then changes are found by the poll"
	case errors.Is(err, fs.ErrPermission):
		r.Advice = "give the daemon's user read access to the directory; until then changes are found by the poll"
	}
	return Event{Kind: EventWatchLost, Reason: reason, Err: r}
}

// unwatch ends everything that is watched for u.
func (k *Keeper) unwatch(u *unit) {
	_ = k.watcher.set(u, nil) // only adding fails
	delete(k.blind, u)
}
