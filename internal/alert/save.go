package alert

import (
	"errors"
	"fmt"
	"time"
)

// savePatience is how long the disk may take before it is gone on in memory.
const savePatience = 5 * time.Second

// errSlow is what is said of a disk that does not answer.
var errSlow = errors.New("the disk has not answered for " + savePatience.String())

// Save writes the book, unless the file has what it says, and returns when that is done;
// or after some seconds, as a disk that does not answer must not keep anybody from being
// told. The error is why the book is in memory only. After Run nothing is written.
func (e *Engine) Save() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for want := e.version; e.open && e.saved < want; {
		if e.writing == nil {
			e.writing = make(chan struct{})
			go e.write(e.writing)
		} else if errors.Is(e.unsaved, errSlow) {
			break // it was waited for
		}
		if e.wait(e.writing); e.unsaved != nil {
			break
		}
	}
	return e.unsaved
}

// wait waits until something is written, or the disk does not answer. e.mu is held before
// and afterwards.
func (e *Engine) wait(written chan struct{}) {
	e.mu.Unlock()
	patience := time.NewTimer(savePatience)
	defer patience.Stop()
	select {
	case <-written:
	case <-patience.C:
	}
	e.mu.Lock()
	if e.writing == written { // it would be another, or none
		e.note(fmt.Errorf("write alerts %q: %w", e.options.File, errSlow))
	}
}

// write writes the book as it is now, and closes done.
func (e *Engine) write(done chan struct{}) {
	e.mu.Lock()
	data, err := e.book.marshal()
	version := e.version
	e.mu.Unlock()
	if err == nil {
		err = e.replace(e.options.File, data, 0o600)
	}
	if err != nil {
		err = fmt.Errorf("write alerts %q: %w", e.options.File, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if err == nil {
		e.saved = version
	}
	e.note(err)
	e.writing = nil
	close(done)
}

// note keeps why the book is in memory only, and tells it once. e.mu is held.
func (e *Engine) note(err error) {
	if err != nil && e.unsaved == nil {
		e.options.Tell.Unwritten(err)
	}
	e.unsaved = err
}
