package inbox

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"

	"github.com/fsnotify/fsnotify"
)

// watcher wakes whoever looks. What happened is of no interest: the pass finds it.
type watcher struct {
	notify *fsnotify.Watcher // nil: there is none
	on     id                // the directory that is watched; zero: none
	lost   atomic.Bool       // the watch ended, or events were lost that may have told so
	group  sync.WaitGroup
}

func newWatcher(path string, wake chan<- struct{}) (*watcher, error) {
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return &watcher{}, err
	}
	w := &watcher{notify: notify}
	// fsnotify waits until its events are taken, some of them with a lock that
	// follow needs: so these are taken by one who waits for nobody.
	w.group.Go(func() {
		for events, errs := notify.Events, notify.Errors; events != nil; {
			var open bool
			var event fsnotify.Event
			var lost bool
			select {
			case event, open = <-events:
				lost = event.Name == path && event.Has(fsnotify.Remove|fsnotify.Rename)
			case _, open = <-errs:
				lost = true
			}
			if !open {
				return
			}
			if lost {
				w.lost.Store(true)
			}
			select {
			case wake <- struct{}{}:
			default: // one waits already, and stands for all
			}
		}
	})
	return w, nil
}

// follow watches the directory that a pass has opened, if another one was watched.
func (w *watcher) follow(directory id, path string) error {
	if w.notify == nil || w.on == directory && !w.lost.Swap(false) { // the next directory may have the same inode
		return nil
	}
	if w.on != (id{}) {
		_ = w.notify.Remove(path) // the old one may be gone: that is why we are here
	}
	w.on = id{}
	if err := w.notify.Add(path); errors.Is(err, os.ErrNotExist) {
		return nil // gone since it was opened: the poll brings us back
	} else if err != nil {
		return err
	}
	w.on = directory
	return nil
}

func (w *watcher) close() {
	if w.notify != nil {
		_ = w.notify.Close()
		w.group.Wait()
	}
}
