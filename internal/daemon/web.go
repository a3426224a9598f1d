package daemon

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/netutil"

	"github.com/spinecert/spinecert/internal/web"
)

// pages are what admin.http.listen serves.
type pages struct {
	changed notice     // something was told that may be on the status page
	peers   *pagePeers // who may look; nil where that is everybody on this host
}

// notice wakes whoever waits for a change. The zero value is ready; with nobody waiting it costs nothing.
type notice struct{ waiting atomic.Pointer[chan struct{}] }

// tell wakes those that wait. It never blocks.
func (s *notice) tell() {
	if c := s.waiting.Swap(nil); c != nil {
		close(*c)
	}
}

// next returns what is closed at the next tell.
func (s *notice) next() <-chan struct{} {
	c := make(chan struct{})
	for !s.waiting.CompareAndSwap(nil, &c) {
		if other := s.waiting.Load(); other != nil {
			return *other
		}
	}
	return c
}

// serveWeb serves the pages until ctx ends.
func (d *Daemon) serveWeb(ctx context.Context) error {
	s := d.webServer()
	if d.pages.peers == nil {
		return serveHTTP(ctx, s, netutil.LimitListener(d.web, webOpen)) // else a local user could take every descriptor
	}
	l := d.pages.peers.listen(ctx, d.web)
	defer l.Close()
	return serveHTTP(ctx, s, l)
}

// webServer serves metrics, health and the status page, to GET, and by names of this host only: a
// browser on this host must not be talked into reading them for another site.
func (d *Daemon) webServer() *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", d.serveMetrics)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		health(w, d.turning(time.Now(), loopStalled), "ok", "the run loop does not turn")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		health(w, d.usable(), d.summary(), d.summary())
	})
	s := &http.Server{
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}
	ended := make(chan struct{})
	s.RegisterOnShutdown(sync.OnceFunc(func() { close(ended) }))
	options := web.Options{View: d.pageView, Host: web.LoopbackHost, Changes: d.pages.changed.next, Ended: ended}
	p := d.pages.peers
	if p == nil {
		s.Handler = besides(web.New(options), loopbackHost(mux))
		return s
	}
	options.Host = p.named
	s.Handler = p.judged(besides(web.New(options), p.namedHost(mux)))
	s.ConnContext, s.ConnState = p.connContext, p.connState
	s.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){} // a connection is one request at a time
	return s
}

// besides has the status page answer for what is its own, and others for the rest.
func besides(page *web.Site, others http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if page.Has(r.URL.Path) {
			page.ServeHTTP(w, r)
			return
		}
		others.ServeHTTP(w, r)
	})
}

// pageView gathers what the status page shows.
func (d *Daemon) pageView(ctx context.Context) *web.View {
	now := time.Now()
	return &web.View{Now: now.UTC(), Host: hostName(), Status: d.statusWithTimeline(ctx), Alerts: d.alerts.List(now), Refusals: d.refusals(ctx)}
}

func health(w http.ResponseWriter, ok bool, good, bad string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if !ok {
		w.WriteHeader(http.StatusServiceUnavailable)
		good = bad
	}
	_, _ = fmt.Fprintln(w, good)
}

// httpNetwork keeps an IPv4 address to IPv4, as tunnels do.
func httpNetwork(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil && net.ParseIP(host).To4() != nil {
		return "tcp4"
	}
	return "tcp"
}
