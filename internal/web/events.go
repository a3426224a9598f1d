package web

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// retryStream is when who found no place for a stream may ask again, in seconds.
const retryStream = "30"

// All streams together take a tenth of a processor at most while something changes all the time, and
// a fiftieth while nothing does: where there is very much to gather and to draw, they are told later.
const (
	shareBusy, pauseMost = 10, 10 * time.Second
	shareRest, lookMost  = 50, 30 * time.Second
)

// watch is what the streams share: one look at everything for all of them.
type watch struct {
	mu      sync.Mutex
	streams int
	stop    chan struct{} // closed when the last of them ends
	round   *round
}

// round is one look.
type round struct {
	snap *snapshot
	next chan struct{} // closed when there is another
}

// serveEvents tells a page when what it shows has changed: an event whose data is the digest
// of what it would show now. The page says in v what it shows, or, when it comes back, in
// Last-Event-ID. There is at most one event in a second.
func (s *Site) serveEvents(w http.ResponseWriter, r *http.Request) {
	select {
	case s.streams <- struct{}{}:
		defer func() { <-s.streams }()
	default:
		w.Header().Set("Retry-After", retryStream)
		http.Error(w, "too many pages are open; this one renews itself by hand", http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	if r.Method == http.MethodHead {
		return
	}
	last := r.Header.Get("Last-Event-ID")
	if last == "" {
		last = r.URL.Query().Get("v")
	}
	t := &stream{control: http.NewResponseController(w), w: w, last: last, q: queryOf(r)}
	if t.write("retry: 2000\n\n") == nil {
		s.follow(r, t)
	}
}

// follow writes events until the reader or the server ends.
func (s *Site) follow(r *http.Request, t *stream) {
	round := s.join(context.WithoutCancel(r.Context()))
	defer s.part()
	beat := time.NewTicker(s.heartbeat)
	defer beat.Stop()
	// What the page shows may be newer than the last look.
	if t.tell(s.version(s.snapshot(r.Context()), t.q)) != nil {
		return
	}
	for {
		select {
		case <-r.Context().Done():
			return
		case <-s.options.Ended:
			return
		case <-beat.C:
			if t.write(":\n\n") != nil {
				return
			}
		case <-round.next:
			s.watch.mu.Lock()
			round = s.watch.round
			s.watch.mu.Unlock()
			if t.tell(s.version(round.snap, t.q)) != nil {
				return
			}
		}
	}
}

// join counts a stream, and returns the round that it is in. The first has everything looked at, until
// the last one parts.
func (s *Site) join(ctx context.Context) *round {
	w := &s.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.streams++; w.streams == 1 {
		w.stop = make(chan struct{})
		w.round = &round{next: make(chan struct{})}
		go s.looks(ctx, w.stop)
	}
	return w.round
}

func (s *Site) part() {
	w := &s.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.streams--; w.streams == 0 {
		close(w.stop)
	}
}

// looks looks at everything until stop is closed: soon after a change, and now and then.
func (s *Site) looks(ctx context.Context, stop <-chan struct{}) {
	began := time.Now()
	told := true // the streams began with what there was
	changed := s.changes()
	timer := time.NewTimer(s.pause)
	defer timer.Stop()
	for {
		select {
		case <-stop:
			return
		case <-s.options.Ended:
			return
		case <-changed:
			changed, told = nil, true
			timer.Reset(s.due(began, told))
		case <-timer.C:
			// Meanwhile the streams may have drawn, which counts.
			if due := s.due(began, told); due > 0 {
				timer.Reset(due)
				continue
			}
			// What changes while it is gathered closes what was asked for before.
			began, told, changed = time.Now(), false, s.changes()
			s.turn(s.snapshotAfter(ctx, began), stop)
			timer.Reset(s.due(began, told))
		}
	}
}

// due is how long until the next look, after one that began at a moment.
func (s *Site) due(began time.Time, told bool) time.Duration {
	s.mu.Lock()
	var cost time.Duration
	if s.last != nil {
		cost = time.Duration(s.last.cost.Load())
	}
	s.mu.Unlock()
	wait := min(max(s.look, shareRest*cost), max(s.look, lookMost))
	if told {
		wait = min(max(s.pause, shareBusy*cost), max(s.pause, pauseMost))
	}
	return max(time.Until(began.Add(wait)), 0)
}

// turn begins another round, unless the streams that it is for have ended.
func (s *Site) turn(snap *snapshot, stop <-chan struct{}) {
	w := &s.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stop != stop {
		return
	}
	close(w.round.next)
	w.round = &round{snap: snap, next: make(chan struct{})}
}

// changes is what is closed at the next change; nil where nothing is told.
func (s *Site) changes() <-chan struct{} {
	if s.options.Changes == nil {
		return nil
	}
	return s.options.Changes()
}

// stream is one open stream.
type stream struct {
	control *http.ResponseController
	w       http.ResponseWriter
	last    string // what its page shows
	q       query
}

// tell writes an event if what its page shows has changed.
func (t *stream) tell(version string) error {
	if version == t.last {
		return nil
	}
	t.last = version
	return t.write(fmt.Sprintf("id: %s\ndata: %s\n\n", version, version))
}

// write writes at once. The deadline is of this write: that of the server is for a whole answer.
func (t *stream) write(s string) error {
	if err := t.control.SetWriteDeadline(time.Now().Add(writeIn)); err != nil {
		return err
	}
	if _, err := t.w.Write([]byte(s)); err != nil {
		return err
	}
	return t.control.Flush()
}
