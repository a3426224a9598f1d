package rotate

import (
	"context"
	"errors"
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

	mu    sync.Mutex
	dirs  map[string]*watchedDir
	units map[*unit][]place
}

type watchedDir struct {
	inode inode
	names map[string]map[*unit]int // entry name -> who depends on it, how often
	users int
}

type inode struct{ dev, ino uint64 }

func newWatcher(mark func(*unit)) (*watcher, error) {
	w := &watcher{mark: mark, dirs: map[string]*watchedDir{}, units: map[*unit][]place{}}
	n, err := fsnotify.NewWatcher()
	w.notify = n
	return w, err
}

// set makes u depend on exactly these places. The error says which directory
// cannot be watched; all others are.
func (w *watcher) set(u *unit, places []place) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	old := w.units[u]
	var errs []error
	for _, p := range places {
		if err := w.add(u, p); err != nil {
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

func (w *watcher) add(u *unit, p place) error {
	d := w.dirs[p.dir]
	id, err := inodeOf(p.dir)
	if err != nil {
		id = inode{}
	}
	switch {
	case d == nil:
		d = &watchedDir{names: map[string]map[*unit]int{}}
		w.dirs[p.dir] = d
	case d.inode != id && d.inode != (inode{}):
		// Another directory stands there now; the watch is still on the old one.
		w.unwatch(p.dir)
		d.inode = inode{}
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
		return &os.PathError{Op: "watch", Path: p.dir, Err: syscall.EMFILE}
	}
	if err := w.notify.Add(p.dir); errors.Is(err, os.ErrNotExist) {
		return nil // gone since it was resolved: its parent's event or the poll brings us back
	} else if err != nil {
		return &os.PathError{Op: "watch", Path: p.dir, Err: err}
	}
	d.inode = id
	return nil
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

// run delivers marks until ctx ends. lost is called when the kernel dropped events.
func (w *watcher) run(ctx context.Context, lost func(error)) {
	if w.notify == nil {
		<-ctx.Done()
		return
	}
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
		case err, ok := <-w.notify.Errors:
			if !ok {
				return
			}
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
	}
	// The directory itself went away or moved: its watch is worth nothing now.
	if d := w.dirs[ev.Name]; d != nil && ev.Op&(fsnotify.Remove|fsnotify.Rename) != 0 {
		w.unwatch(ev.Name)
		d.inode = inode{}
		for _, users := range d.names {
			for u := range users {
				w.mark(u)
			}
		}
	}
}

func (w *watcher) markAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for u := range w.units {
		w.mark(u)
	}
}
