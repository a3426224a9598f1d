package sandbox

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"
)

// fault is what is wrong with the CRL server for a while.
type fault string

const (
	dead     fault = "closed every connection without an answer"
	older    fault = "answered with the first lists again"
	hanging  fault = "took requests and never answered"
	nonsense fault = "answered with a page of HTML"
)

func faults() []fault { return []fault{older, dead, hanging, nonsense} }

// crlServer serves CRLs over HTTP on loopback, with conditional requests, and
// misbehaves when it is told to. Safe for concurrent use.
type crlServer struct {
	listener net.Listener
	host     string // host:port

	mu     sync.Mutex
	lists  map[string]*served // by path
	fault  fault              // "": none
	over   chan struct{}      // closed when the fault ends
	counts CRLRequests
	asked  map[string]int // right answers since the last fault ended, by path
}

// served is one list, as it is and as it was at first.
type served struct{ now, first edition }

type edition struct {
	der []byte
	at  time.Time
}

// CRLRequests counts what was asked of the sandbox's CRL server.
type CRLRequests struct {
	Full      int64 `json:"full"`      // answered with a list
	Unchanged int64 `json:"unchanged"` // answered with 304: the daemon has it
	Spoiled   int64 `json:"spoiled"`   // answered wrongly, or not at all, on purpose
	Unknown   int64 `json:"unknown"`   // for lists that are not served here
}

// newCRLServer listens. Nothing is served before serve runs.
func newCRLServer(ctx context.Context) (*crlServer, error) {
	listener, err := listenLoopback(ctx)
	if err != nil {
		return nil, err
	}
	return &crlServer{listener: listener, host: listener.Addr().String(), lists: map[string]*served{}, asked: map[string]int{}}, nil
}

// base is the address below which an authority has its lists.
func (s *crlServer) base(authority string) string { return "http://" + s.host + "/" + authority }

// put serves the next version of a list and returns the moment from which it is
// available.
func (s *crlServer) put(address string, der []byte) (time.Time, error) {
	u, err := url.Parse(address)
	if err != nil {
		return time.Time{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	next := edition{der: der, at: time.Now()}
	if l, ok := s.lists[u.Path]; ok {
		l.now = next
	} else {
		s.lists[u.Path] = &served{now: next, first: next}
	}
	return next.at, nil
}

// misbehave begins a fault; the function it returns ends it.
func (s *crlServer) misbehave(f fault) (end func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	over := make(chan struct{})
	s.fault, s.over = f, over
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.fault = ""
		clear(s.asked)
		close(over)
	})
}

// wellAsked tells whether the daemon has had a right answer for this list since the
// last fault ended.
func (s *crlServer) wellAsked(address string) bool {
	u, err := url.Parse(address)
	s.mu.Lock()
	defer s.mu.Unlock()
	return err == nil && s.asked[u.Path] > 0
}

func (s *crlServer) requests() CRLRequests {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts
}

func (s *crlServer) server() *http.Server {
	return &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: s}
}

// ServeHTTP answers with what is served at the path, or as the fault wants it.
func (s *crlServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	list, known := s.lists[r.URL.Path]
	var content edition
	fault, over := s.fault, s.over
	switch {
	case !known:
		s.counts.Unknown++
	case fault != "":
		s.counts.Spoiled++
		content = list.first
	default:
		s.asked[r.URL.Path]++
		content = list.now
	}
	s.mu.Unlock()
	switch {
	case !known:
		http.NotFound(w, r)
	case fault == hanging:
		select {
		case <-over:
		case <-r.Context().Done():
		}
		panic(http.ErrAbortHandler)
	case fault == dead:
		panic(http.ErrAbortHandler) // closes the connection, and says nothing
	case fault == nonsense:
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<html><body>Please sign in to the network</body></html>\n"))
	case fault == older:
		w.Header().Set("Content-Type", "application/pkix-crl")
		_, _ = w.Write(content.der)
	default:
		s.answer(w, r, content)
	}
}

// answer sends a list, or 304 to somebody who has it. The tag decides: two versions
// may be younger than the second that Last-Modified can tell apart.
func (s *crlServer) answer(w http.ResponseWriter, r *http.Request, e edition) {
	sum := sha256.Sum256(e.der)
	w.Header().Set("Content-Type", "application/pkix-crl")
	w.Header().Set("ETag", strconv.Quote(hex.EncodeToString(sum[:16])))
	counted := &statusWriter{ResponseWriter: w}
	http.ServeContent(counted, r, "", e.at, bytes.NewReader(e.der))
	s.mu.Lock()
	defer s.mu.Unlock()
	if counted.status == http.StatusNotModified {
		s.counts.Unchanged++
	} else {
		s.counts.Full++
	}
}

// statusWriter remembers the status.
type statusWriter struct {
	http.ResponseWriter
	status int
}

// WriteHeader notes the status and passes it on.
func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}
