package web

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
)

// View is what the page shows: all of it is of one moment.
type View struct {
	Now      time.Time       `json:"now"`
	Host     string          `json:"host"`
	Status   admin.Status    `json:"status"` // with the timelines of the slots
	Alerts   admin.AlertList `json:"alerts"`
	Refusals []admin.Refusal `json:"refusals"` // the newest first
}

// Options are those of New.
type Options struct {
	// View gathers what is shown. It is asked once for everybody who looks at the same time.
	// The view is not changed any more.
	View func(context.Context) *View
	// Host reports whether a request names this host: see LoopbackHost and NamedHost.
	Host func(*http.Request) bool
	// Changes returns what is closed at the next change. What is not told so is found
	// within seconds. nil: nothing is told.
	Changes func() <-chan struct{}
	// Ended is closed when the server ends: streams end with it. nil: never.
	Ended <-chan struct{}
	// Streams is how many may be open at once; 0 is 16.
	Streams int
}

// Site answers for the page and what belongs to it. Make it with New.
type Site struct {
	options   Options
	css, js   *asset
	icon      *asset
	streams   chan struct{} // a place for each
	mux       *http.ServeMux
	heartbeat time.Duration
	look      time.Duration // how often a stream looks without being told
	pause     time.Duration // the least time between two events

	renders chan struct{} // a place for each page that is drawn
	wait    time.Duration // the longest wait for such a place

	mu   sync.Mutex // held while a view is gathered: others wait for the same one
	last *snapshot

	watch watch
}

// drawnAtOnce is how many pages are drawn at the same time: a user who asks for very many of them takes
// the processors of two tunnels, and not the memory of the host.
const drawnAtOnce = 2

// New returns the page.
func New(o Options) *Site {
	if o.Streams == 0 {
		o.Streams = 16
	}
	s := &Site{options: o, streams: make(chan struct{}, o.Streams), mux: http.NewServeMux(), heartbeat: 15 * time.Second, look: 5 * time.Second, pause: time.Second,
		renders: make(chan struct{}, drawnAtOnce), wait: 10 * time.Second}
	s.css = newAsset("/assets/page.css", "text/css; charset=utf-8", css)
	s.js = newAsset("/assets/page.js", "text/javascript; charset=utf-8", script)
	s.icon = newAsset("/assets/icon.svg", "image/svg+xml", icon)
	s.mux.HandleFunc("GET /{$}", s.servePage)
	s.mux.HandleFunc("GET /status.json", s.serveJSON)
	s.mux.HandleFunc("GET /events", s.serveEvents)
	for _, a := range []*asset{s.css, s.js, s.icon} {
		s.mux.Handle("GET "+a.path, a)
	}
	return s
}

// Has reports whether the page answers for a path.
func (s *Site) Has(path string) bool {
	switch path {
	case "/", "/status.json", "/events", s.css.path, s.js.path, s.icon.path:
		return true
	}
	return false
}

// policy is what a browser may do with the page: load its style, its script and its icon from
// here, ask here for more, and send its one form here. No script makes markup of a text.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; " +
	"base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// ServeHTTP answers whom it may.
func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	head := w.Header()
	head.Set("Content-Security-Policy", policy)
	head.Set("Cross-Origin-Opener-Policy", "same-origin")
	head.Set("Cross-Origin-Resource-Policy", "same-origin")
	head.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()")
	head.Set("Referrer-Policy", "no-referrer")
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("X-Frame-Options", "DENY")
	head.Set("Cache-Control", "no-store")
	switch {
	case !s.options.Host(r):
		http.Error(w, "ask by a name of this host", http.StatusMisdirectedRequest)
	case foreign(r, r.URL.Path == "/" || r.URL.Path == "/status.json"):
		http.Error(w, "not for other sites", http.StatusForbidden)
	default:
		s.mux.ServeHTTP(w, r)
	}
}

// query is what of the page is asked for.
type query struct {
	words string // lower case; "" is everything
	page  int    // from 1
	size  int    // slots on a page
}

// The sizes of a page.
const (
	pageSize = 50
	maxSize  = 1000
	maxWords = 100
)

// queryOf reads the query of a request. What cannot be is what it is by itself.
func queryOf(r *http.Request) query {
	v := r.URL.Query()
	q := query{page: 1, size: pageSize, words: strings.ToLower(strings.TrimSpace(v.Get("q")))}
	if len(q.words) > maxWords {
		q.words = strings.ToValidUTF8(q.words[:maxWords], "")
	}
	if n, err := strconv.Atoi(v.Get("page")); err == nil && n > 1 {
		q.page = n
	}
	if n, err := strconv.Atoi(v.Get("size")); err == nil && n > 0 {
		q.size = min(n, maxSize)
	}
	return q
}

// matches reports whether one of the texts has what is looked for.
func (q query) matches(texts ...string) bool {
	if q.words == "" {
		return true
	}
	for _, t := range texts {
		if strings.Contains(strings.ToLower(t), q.words) {
			return true
		}
	}
	return false
}

func (q query) matchesAny(texts []string) bool { return q.matches(texts...) }
