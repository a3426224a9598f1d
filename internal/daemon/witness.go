package daemon

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/spinecert/spinecert/internal/state"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
)

// witness is the state directory as a store of generations, and what the audit
// file says of the same generations. Where the audit file knows of later ones, an
// older copy of the generations was put in their place: numbers go on above those
// that were used, and it is told.
type witness struct {
	*state.Directory
	published map[string]auditLine // by slot: the last publication that was noted
	last      lastTime             // in the audit file

	mu    sync.Mutex
	older map[string]olderCopy
}

// olderCopy is what is wrong with the generations of a slot.
type olderCopy struct {
	since time.Time
	text  string
}

// witnessBytes is how much of the audit file is read, from its end: the last line
// of a slot is not far from it.
const witnessBytes = 16 << 20

// newWitness reads the audit file. That it cannot be read is no reason not to start.
func newWitness(dir *state.Directory) *witness {
	w := &witness{Directory: dir, published: map[string]auditLine{}, older: map[string]olderCopy{}}
	for _, name := range []string{"audit.jsonl.1", "audit.jsonl"} {
		w.read(filepath.Join(dir.Path(), name))
	}
	return w
}

func (w *witness) read(path string) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return
	}
	in := bufio.NewReader(f)
	if skip := info.Size() - witnessBytes; skip > 0 {
		if _, err := f.Seek(skip, io.SeekStart); err != nil {
			return
		}
		_, _ = in.ReadBytes('\n') // the rest of a line
	}
	for {
		line, err := in.ReadBytes('\n')
		var l auditLine
		readable := json.Unmarshal(line, &l) == nil
		if readable {
			w.last.add(&l)
		}
		if readable && l.Slot != "" && l.Event == string(rotate.EventRotated) && l.To <= state.MaxNumber && l.To >= w.published[l.Slot].To {
			w.published[l.Slot] = l
		}
		if err != nil {
			return
		}
	}
}

// Current adds what the audit file knows of the slot to what is on disk, also where
// what is there is not whole.
func (w *witness) Current(slot string) (rotate.Record, error) {
	r, err := w.Directory.Current(slot)
	last, known := w.published[slot]
	if known && w.wentBack(r, err, last) {
		has := fmt.Sprintf("generation %d", r.Number)
		switch {
		case r.Highest == 0:
			has = "no generation"
		case r.Number == 0:
			has = fmt.Sprintf("generations up to %d", r.Highest)
		}
		w.found(slot, time.Now(), fmt.Sprintf("the state directory has %s of the slot, and the audit file says that %d was in force on %s",
			has, last.To, last.Time.UTC().Format(time.RFC3339)))
	}
	r.Highest = max(r.Highest, last.To)
	return r, err
}

// wentBack reports whether the generation that the audit file names last is not on
// disk, and should be. One that was read from files is written after it is in force,
// and a crash in between is no restored backup. err is what is wrong with the
// current generation; where no number is known with it, nothing is known.
func (w *witness) wentBack(r rotate.Record, err error, last auditLine) bool {
	switch {
	case r.Highest >= last.To || err != nil && r.Highest == 0:
		return false
	case r.Number != 0 && fmt.Sprintf("%x", r.Digest) == last.Digest:
		return false
	}
	return last.Actor.Via != viaFiles || last.To > r.Highest+1
}

func (w *witness) found(slot string, now time.Time, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, ok := w.older[slot]; !ok {
		w.older[slot] = olderCopy{now, text}
	}
}

// forget ends what was found of a slot: it has a newer generation since.
func (w *witness) forget(slot string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.older, slot)
}

func (w *witness) foundOlder(slot string) (olderCopy, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	o, ok := w.older[slot]
	return o, ok
}

// openState opens a state directory to look into it; there may be none yet.
func openState(path string) (*state.Directory, error) {
	dir, err := state.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return dir, err
}

// nothingKept is the store of a state directory that is not there yet.
type nothingKept struct{}

var errNotYet = errors.New("there is no state directory yet")

// Current returns the zero Record.
func (nothingKept) Current(string) (rotate.Record, error) { return rotate.Record{}, nil }

// History returns none.
func (nothingKept) History(string) ([]rotate.Record, error) { return nil, nil }

// Load fails.
func (nothingKept) Load(string, uint64) (*pki.Identity, error) { return nil, errNotYet }

// Commit fails.
func (nothingKept) Commit(string, rotate.Record, *pki.Identity, int) error { return errNotYet }
