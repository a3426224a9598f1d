package web

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// freshFor is how long a view is shown to others at least: a moment in which nobody could have
	// reloaded the page by hand. freshMost is how long at most, where there is very much to gather.
	freshFor  = 250 * time.Millisecond
	freshMost = 2 * time.Second
	// keptPages is how many pages of a snapshot are kept for others who ask for the same.
	keptPages = 16
	// answerIn is how long an answer may take in all, and writeIn how long a reader may take for a
	// piece of it, for an event, or for a sign of life.
	answerIn = 30 * time.Second
	writeIn  = 10 * time.Second
	// retryRender is when who found no place may ask again, in seconds.
	retryRender = "10"
)

// drawn is what was made of a snapshot, for all who ask for the same.
type drawn struct {
	cost atomic.Int64 // nanoseconds that it took to gather and, for streams, to draw

	mu       sync.Mutex
	json     *body
	pages    map[query]*body
	versions map[query]*version
}

// version is the digest of what a page shows.
type version struct {
	once sync.Once
	sum  string
}

// body is an answer, packed: those who take it slowly, or do not take it, hold little.
type body struct {
	packed []byte
	size   int // unpacked
}

// fresh is how long the last view is shown: views take no more than a fifth of a processor. The
// caller holds mu.
func (s *Site) fresh() time.Duration {
	return min(max(freshFor, 4*time.Duration(s.last.cost.Load())), freshMost)
}

// snapshot returns what is shown now. Whoever asks meanwhile gets the same.
func (s *Site) snapshot(ctx context.Context) *snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil || time.Since(s.last.made) >= s.fresh() {
		s.gather(ctx)
	}
	return s.last
}

// snapshotAfter is snapshot, of a moment that is not before after.
func (s *Site) snapshotAfter(ctx context.Context, after time.Time) *snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.last == nil || s.last.made.Before(after) {
		s.gather(ctx)
	}
	return s.last
}

func (s *Site) gather(ctx context.Context) {
	now := time.Now()
	next := arrange(s.options.View(context.WithoutCancel(ctx)), now)
	next.cost.Store(int64(time.Since(now)))
	s.last = next
}

// place waits for a place to draw, and reports whether there is one; leave it then.
func (s *Site) place(r *http.Request) bool {
	limit := time.NewTimer(s.wait)
	defer limit.Stop()
	select {
	case s.renders <- struct{}{}:
		return true
	case <-limit.C:
	case <-r.Context().Done():
	}
	return false
}

func (s *Site) leave() { <-s.renders }

// answer sends what have returns, or else what it draws, which put keeps for others. Both are called
// with the lock of the snapshot.
func (s *Site) answer(w http.ResponseWriter, r *http.Request, snap *snapshot, kind string, have func() *body, draw func(io.Writer) error, put func(*body)) {
	kept := func() *body {
		snap.drawn.mu.Lock()
		defer snap.drawn.mu.Unlock()
		return have()
	}
	b := kept()
	if b == nil {
		if !s.place(r) {
			w.Header().Set("Retry-After", retryRender)
			http.Error(w, "too many ask for pages; ask again later", http.StatusServiceUnavailable)
			return
		}
		if b = kept(); b == nil { // else it was drawn meanwhile
			b = pack(draw)
			snap.drawn.mu.Lock()
			put(b)
			snap.drawn.mu.Unlock()
		}
		s.leave()
	}
	w.Header().Set("Content-Type", kind)
	b.send(w, r)
}

// servePage draws the page.
func (s *Site) servePage(w http.ResponseWriter, r *http.Request) {
	q, snap := queryOf(r), s.snapshot(r.Context())
	s.answer(w, r, snap, "text/html; charset=utf-8", func() *body { return snap.pages[q] }, func(w io.Writer) error {
		main, version := s.draw(snap, q)
		return s.document(snap, main, version).Render(w)
	}, func(b *body) {
		if snap.pages == nil {
			snap.pages = map[query]*body{}
		}
		if len(snap.pages) < keptPages {
			snap.pages[q] = b
		}
	})
}

// serveJSON answers with what is behind the page.
func (s *Site) serveJSON(w http.ResponseWriter, r *http.Request) {
	snap := s.snapshot(r.Context())
	s.answer(w, r, snap, "application/json", func() *body { return snap.json }, func(w io.Writer) error {
		return json.NewEncoder(w).Encode(struct {
			Schema int `json:"schema"`
			*View
		}{1, snap.View})
	}, func(b *body) { snap.json = b })
}

// draw draws what changes, and returns a digest of it. The moment at which it was drawn is not
// in it.
func (s *Site) draw(snap *snapshot, q query) (main []byte, version string) {
	var b bytes.Buffer
	b.Grow(64<<10 + 2300*min(q.size, len(snap.slots))) // about what it comes to: growing costs more than all the rest
	_ = content(snap, q).Render(&b)                    // a buffer takes all
	sum := sha256.Sum256(b.Bytes())
	return b.Bytes(), hex.EncodeToString(sum[:8])
}

// version is the digest of what a page shows: it is drawn once for all streams of that page.
func (s *Site) version(snap *snapshot, q query) string {
	snap.drawn.mu.Lock()
	if snap.versions == nil {
		snap.versions = map[query]*version{}
	}
	v := snap.versions[q]
	if v == nil {
		v = &version{}
		snap.versions[q] = v
	}
	snap.drawn.mu.Unlock()
	v.once.Do(func() {
		s.renders <- struct{}{}
		defer s.leave()
		began := time.Now()
		_, v.sum = s.draw(snap, q)
		snap.cost.Add(int64(time.Since(began)))
	})
	return v.sum
}

// counter counts what is written.
type counter struct {
	io.Writer
	n int
}

func (c *counter) Write(b []byte) (int, error) {
	c.n += len(b)
	return c.Writer.Write(b)
}

// pack packs what is written to the writer. Nothing of it is secret and chosen by the reader at
// once, so its length gives nothing away.
func pack(write func(io.Writer) error) *body {
	var packed bytes.Buffer
	z, _ := gzip.NewWriterLevel(&packed, gzip.BestSpeed) // the level is one that there is
	c := &counter{Writer: z}
	_ = write(c) // a buffer takes all, and all of it can be encoded
	_ = z.Close()
	return &body{packed: bytes.Clone(packed.Bytes()), size: c.n}
}

// send writes it, unpacked piece by piece for those who want that.
func (b *body) send(w http.ResponseWriter, r *http.Request) {
	head := w.Header()
	head.Set("Vary", "Accept-Encoding")
	from, size := io.Reader(bytes.NewReader(b.packed)), len(b.packed)
	if acceptsGzip(r) {
		head.Set("Content-Encoding", "gzip")
	} else {
		z, err := gzip.NewReader(from)
		if err != nil { // it was packed here
			http.Error(w, "unpack page", http.StatusInternalServerError)
			return
		}
		from, size = z, b.size
	}
	head.Set("Content-Length", strconv.Itoa(size))
	if r.Method == http.MethodHead {
		return
	}
	control, end := http.NewResponseController(w), time.Now().Add(answerIn)
	piece := make([]byte, 32<<10)
	for {
		n, err := io.ReadFull(from, piece)
		if n > 0 {
			within := time.Now().Add(writeIn)
			if within.After(end) {
				within = end
			}
			_ = control.SetWriteDeadline(within) // that of the server remains
			if _, err := w.Write(piece[:n]); err != nil {
				return // who asked is gone, or does not read
			}
		}
		if err != nil {
			return
		}
	}
}
