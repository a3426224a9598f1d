package web

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const patience = 30 * time.Second

// changing is a site whose view a test changes.
type changing struct {
	*Site
	view   atomic.Pointer[View]
	asked  atomic.Int64
	mu     sync.Mutex
	signal chan struct{}
	ended  chan struct{}
	server *httptest.Server
}

func newChanging(t *testing.T, streams int) *changing {
	c := &changing{signal: make(chan struct{}), ended: make(chan struct{})}
	c.view.Store(demo(2))
	c.Site = New(Options{Streams: streams, Ended: c.ended, Host: LoopbackHost, View: func(context.Context) *View { c.asked.Add(1); return c.view.Load() },
		Changes: func() <-chan struct{} { c.mu.Lock(); defer c.mu.Unlock(); return c.signal }})
	c.heartbeat = time.Hour // it is no event
	c.server = httptest.NewUnstartedServer(c.Site)
	// Shorter than a stream lasts: it must not be cut by what bounds an answer.
	c.server.Config.WriteTimeout, c.server.Config.ReadTimeout = 700*time.Millisecond, 500*time.Millisecond
	return c
}

func (c *changing) start(t *testing.T) {
	c.server.Start()
	t.Cleanup(c.server.Close)
	t.Cleanup(c.server.CloseClientConnections)
}

// change shows another host, and tells.
func (c *changing) change(host string) {
	v := *c.view.Load()
	v.Status.Slots = append(v.Status.Slots[:0:0], v.Status.Slots...)
	v.Status.Slots[0].FQDN = host
	c.view.Store(&v)
	c.tell()
}

func (c *changing) tell() {
	c.mu.Lock()
	close(c.signal)
	c.signal = make(chan struct{})
	c.mu.Unlock()
}

// events opens a stream. Its events come one by one; the channel is closed when it ends.
func (c *changing) events(t *testing.T, query string, head ...string) (*http.Response, <-chan string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.server.URL+"/events"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(head); i += 2 {
		r.Header.Set(head[i], head[i+1])
	}
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = res.Body.Close() })
	out := make(chan string, 100)
	go func() {
		defer close(out)
		for s := bufio.NewScanner(res.Body); s.Scan(); {
			if data, ok := strings.CutPrefix(s.Text(), "data: "); ok {
				out <- data
			} else if s.Text() == ":" {
				out <- "beat"
			}
		}
	}()
	return res, out
}

func await(t *testing.T, events <-chan string) string {
	t.Helper()
	select {
	case e, ok := <-events:
		if !ok {
			t.Fatal("the stream has ended")
		}
		return e
	case <-time.After(patience):
		t.Fatal("nothing came")
		return ""
	}
}

// version is what a page says that it shows.
func (c *changing) version(target string) string {
	_, after, _ := strings.Cut(get(c.Site, target).Body.String(), `data-version="`)
	version, _, _ := strings.Cut(after, `"`)
	return version
}

func TestStreamTellsChanges(t *testing.T) {
	t.Parallel()
	c := newChanging(t, 0)
	c.look = time.Hour // what is told must be enough
	c.start(t)
	res, events := c.events(t, "?v="+c.version("/"))
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "text/event-stream" || res.Header.Get("Cache-Control") != "no-store" {
		t.Fatal(res.Status, res.Header)
	}
	began := time.Now()
	for _, host := range []string{"a.nhs.uk", "b.nhs.uk", "c.nhs.uk"} {
		c.change(host)
		got := await(t, events)
		if want := c.version("/"); got != want {
			t.Errorf("%s: told of %s, the page shows %s", host, got, want)
		}
	}
	if took := time.Since(began); took < 2*c.pause {
		t.Errorf("three events within %v", took)
	}
	c.tell() // nothing that is shown
	c.change("d.nhs.uk")
	if got, want := await(t, events), c.version("/"); got != want {
		t.Errorf("told of %s, the page shows %s", got, want)
	}
	select {
	case e := <-events:
		t.Errorf("told %q of nothing", e)
	case <-time.After(2 * c.pause):
	}
	get(c.Site, "/") // others have just had a view, which is of before the change
	c.change("e.nhs.uk")
	if got, want := await(t, events), c.version("/"); got != want {
		t.Errorf("told of %s, the page shows %s", got, want)
	}
}

func TestStreamFindsWhatNobodyTells(t *testing.T) {
	t.Parallel()
	c := newChanging(t, 0)
	c.options.Changes = nil
	c.look, c.heartbeat = 20*time.Millisecond, 10*time.Millisecond
	c.start(t)
	_, events := c.events(t, "?v="+c.version("/"))
	if e := await(t, events); e != "beat" {
		t.Errorf("told %q of nothing", e)
	}
	c.change("found.nhs.uk")
	for e := await(t, events); e != c.version("/"); e = await(t, events) {
		if e != "beat" {
			t.Fatalf("told of %q", e)
		}
	}
}

// TestStreamOfAnOldPage is a page that was drawn before, or comes back.
func TestStreamOfAnOldPage(t *testing.T) {
	t.Parallel()
	c := newChanging(t, 0)
	c.start(t)
	for _, tc := range []struct {
		query string
		head  []string
	}{{"?v=old", nil}, {"", nil}, {"?v=" + c.version("/"), []string{"Last-Event-ID", "old"}}} {
		if _, events := c.events(t, tc.query, tc.head...); await(t, events) != c.version("/") {
			t.Errorf("%v: told of something else", tc)
		}
	}
	// Each page has its own: what this one does not show is no news for it.
	_, events := c.events(t, "?q=pds&v="+c.version("/?q=pds"))
	v := *c.view.Load()
	v.Status.Slots = append(v.Status.Slots[:0:0], v.Status.Slots...)
	v.Status.Slots[0].LastError = "of another slot"
	c.view.Store(&v)
	c.tell()
	c.change("pds.changed.nhs.uk")
	if got, want := await(t, events), c.version("/?q=pds"); got != want {
		t.Errorf("told of %s, the page shows %s", got, want)
	}
}

func TestStreamsAreBounded(t *testing.T) {
	t.Parallel()
	c := newChanging(t, 2)
	c.start(t)
	first, _ := c.events(t, "")
	_, second := c.events(t, "")
	await(t, second)
	res, _ := c.events(t, "")
	if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
		t.Errorf("the third: %s %v", res.Status, res.Header)
	}
	if w := get(c.Site, "/"); w.Code != 200 {
		t.Errorf("the page meanwhile: %d", w.Code)
	}
	_ = first.Body.Close()
	for end := time.Now().Add(patience); ; {
		if res, _ := c.events(t, ""); res.StatusCode == http.StatusOK {
			break
		}
		if time.Now().After(end) {
			t.Fatal("a stream that has ended keeps its place")
		}
	}
}

func TestStreamEndsWithTheServer(t *testing.T) {
	t.Parallel()
	c := newChanging(t, 0)
	c.server.Config.RegisterOnShutdown(sync.OnceFunc(func() { close(c.ended) }))
	c.start(t)
	_, events := c.events(t, "?v="+c.version("/"))
	began := time.Now()
	if err := c.server.Config.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	for range events {
	}
}

// TestOneViewForAll has many readers at once.
func TestOneViewForAll(t *testing.T) {
	t.Parallel()
	c := newChanging(t, 0)
	c.start(t)
	var readers sync.WaitGroup
	for range 50 {
		readers.Go(func() {
			if res, err := http.Get(c.server.URL + "/status.json"); err == nil {
				_, _ = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
			}
		})
	}
	began := time.Now()
	readers.Wait()
	if limit := int64(time.Since(began)/freshFor) + 2; c.asked.Load() > limit {
		t.Errorf("50 readers had %d views gathered, want at most %d", c.asked.Load(), limit)
	}
}
