package services

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// The ways in which clients connect.
const (
	kept  = "kept"  // one connection for all requests, and another when the server has closed it
	fresh = "fresh" // a connection for each
)

// pace is the pause of a client between two requests: the load is there to meet
// every reload, not to take the machine from the other tests.
const pace = 10 * time.Millisecond

// client is one client of a server.
type client struct {
	way string // kept or fresh
	// ask sends one request and takes its answer. again is how many times it was sent
	// over, because the server had closed a kept connection before it answered. An error
	// is a failed request: of kind failedAs, where that can tell.
	ask func(ctx context.Context) (again int, err error)
	end func()
}

// load is clients that ask without end.
type load struct {
	stop context.CancelFunc
	done sync.WaitGroup

	mu  sync.Mutex
	sum figures
}

// figures is what became of requests.
type figures struct {
	Requests map[string]int // that were answered, by way
	Again    int            // how many were sent over: a client that may not do that would have lost them
	Failed   map[string]int // by kind
}

func (f figures) failed() (n int) {
	for _, v := range f.Failed {
		n += v
	}
	return n
}

// kinds returns what failed, in words.
func (f figures) kinds() string {
	var out []string
	for _, kind := range slices.Sorted(maps.Keys(f.Failed)) {
		out = append(out, fmt.Sprintf("%s: %d", kind, f.Failed[kind]))
	}
	return strings.Join(out, ", ")
}

// startLoad has clients ask until the load is ended, or the test.
func (h *host) startLoad(clients ...client) *load {
	ctx, stop := context.WithCancel(context.Background())
	l := &load{stop: stop, sum: figures{Requests: map[string]int{}, Failed: map[string]int{}}}
	for _, c := range clients {
		l.done.Go(func() {
			defer c.end()
			for ctx.Err() == nil {
				l.one(ctx, c)
				time.Sleep(pace)
			}
		})
	}
	h.t.Cleanup(func() { l.end() })
	return l
}

// one sends a request; one that is cut off by the end of the load is finished.
func (l *load) one(ctx context.Context, c client) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	again, err := c.ask(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sum.Again += again
	if err != nil {
		l.sum.Failed[c.way+" connection: "+kindOf(err)]++
		return
	}
	l.sum.Requests[c.way]++
}

// now returns what there is so far.
func (l *load) now() figures {
	l.mu.Lock()
	defer l.mu.Unlock()
	return figures{maps.Clone(l.sum.Requests), l.sum.Again, maps.Clone(l.sum.Failed)}
}

// end waits until every request has its answer, and returns what became of all.
func (l *load) end() figures {
	l.stop()
	l.done.Wait()
	return l.now()
}

// failure is an error whose kind is known.
type failure struct {
	kind string
	err  error
}

func (f *failure) Error() string { return f.kind + ": " + f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// kindOf returns what kind of failure an error is, in words that are the same
// for all of one kind: they are counted.
func kindOf(err error) string {
	var known *failure
	var timeout net.Error
	switch {
	case errors.As(err, &known):
		return known.kind + ", " + kindOf(known.err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "reset"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "closed"
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, os.ErrDeadlineExceeded):
		return "timeout"
	}
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner // the outer ones name addresses
	}
	return err.Error()
}

// webClients are four clients with kept connections and two with new ones, of a web
// server with the name of the slot, with the certificate of the peer. One of the first
// asks for what takes the backend a while, so that a reload meets requests in flight.
func (h *host) webClients(address string) []client {
	slow := h.webClient(kept, address, "/slow")
	out := []client{slow}
	for range 3 {
		out = append(out, h.webClient(kept, address, "/"))
	}
	return append(out, h.webClient(fresh, address, "/"), h.webClient(fresh, address, "/"))
}

// webClient is a client as HTTP wants them (RFC 9110, Section 9.2.2; RFC 9112,
// Section 9.3.1): where a server closes a kept connection before a byte of the answer
// came, a GET is sent over on a new one. That is no failure, and is counted by itself.
func (h *host) webClient(way, address, path string) client {
	transport := &http.Transport{TLSClientConfig: h.clientTLS(ownName), DisableKeepAlives: way == fresh}
	web := &http.Client{Transport: transport}
	ask := func(ctx context.Context) (again int, err error) {
		stage := &atomic.Value{} // told by goroutines of the transport
		stage.Store("before it was connected")
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
			GotConn:              func(httptrace.GotConnInfo) { again++ },
			TLSHandshakeStart:    func() { stage.Store("in the handshake") },
			TLSHandshakeDone:     func(tls.ConnectionState, error) { stage.Store("before it was sent") },
			WroteRequest:         func(httptrace.WroteRequestInfo) { stage.Store("after it was sent") },
			GotFirstResponseByte: func() { stage.Store("in the answer") },
		})
		err = get(ctx, web, "https://"+address+path)
		again = max(again-1, 0)
		var known *failure
		if err != nil && !errors.As(err, &known) {
			err = &failure{stage.Load().(string), err}
		}
		return again, err
	}
	return client{way, ask, transport.CloseIdleConnections}
}

// get wants the answer of the backend.
func get(ctx context.Context, web *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := web.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK || string(body) != backendAnswer+req.URL.Path {
		return &failure{"answered " + res.Status, fmt.Errorf("%q", body)}
	}
	return nil
}

// clientTLS verifies the server as it should be, by the root alone: so the server must
// send its chain.
func (h *host) clientTLS(name string) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(h.root.Cert)
	return &tls.Config{RootCAs: roots, ServerName: name, Certificates: []tls.Certificate{h.peer.TLS()}, MaxVersion: tls.VersionTLS12}
}

const backendAnswer = "backend here: "

// backend is the service behind a server. It never closes a kept connection first, so
// that whatever fails is of the server in between.
func (h *host) backend() (address string) {
	h.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.t.Fatal(err)
	}
	s := &http.Server{ReadHeaderTimeout: time.Hour, IdleTimeout: time.Hour, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			time.Sleep(50 * time.Millisecond)
		}
		fmt.Fprint(w, backendAnswer+r.URL.Path)
	})}
	go func() { _ = s.Serve(l) }()
	h.t.Cleanup(func() { _ = s.Close() })
	return l.Addr().String()
}
