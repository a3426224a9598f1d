package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/rotate/fetch"
	"github.com/spinecert/spinecert/trust"
)

// asking is one request for a list: whom, what may be asked, and what is answered.
type asking struct {
	server  string // host:port
	address string
	config  fetch.Config
	timeout time.Duration
	answer  http.HandlerFunc
}

// fetchCase is one row: the same request without spoil is answered.
type fetchCase struct {
	name  string
	want  trust.Reason
	spoil func(*asking)
}

func fetchCases(l *lab) []outcome {
	sends := func(f http.HandlerFunc) func(*asking) { return func(a *asking) { a.answer = f } }
	redirect := func(to string) func(*asking) {
		return func(a *asking) {
			a.answer = func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusFound) }
		}
	}
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	var out []outcome
	for _, k := range []fetchCase{
		{"a redirect to a file", fetch.Redirect, redirect("file:///etc/passwd")},
		{"a redirect to another port of loopback", fetch.Redirect, redirect("http://127.0.0.1:1/latest/meta-data")},
		{"a redirect to an address inside", fetch.Redirect, redirect("http://10.0.0.1/")},
		{"a redirect to itself, for ever", fetch.Redirect, redirect("/list.crl")},
		{"a name that points inward", fetch.PrivateAddress, func(a *asking) {
			_, port, _ := strings.Cut(a.server, ":")
			a.address, a.config.Hosts = "http://localhost:"+port+"/list.crl", []string{"localhost:" + port}
		}},
		{"a host that is not listed", fetch.NotPermitted, func(a *asking) { a.config.Hosts = []string{"crl.nhs.uk"} }},
		{"another port of a listed host", fetch.NotPermitted, func(a *asking) { a.address = "http://127.0.0.1:1/list.crl" }},
		{"https", fetch.NotPermitted, func(a *asking) { a.address = "https://" + a.server + "/list.crl" }},
		{"a file as the address", fetch.NotPermitted, func(a *asking) { a.address = "file:///etc/passwd" }},
		{"a body of 10 GB", fetch.TooLarge, sends(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", fmt.Sprint(10<<30)) })},
		{"a body without an end", fetch.TooLarge, func(a *asking) { a.config.MaxBytes = 1 << 20; a.answer = endless }},
		{"a gzip bomb", fetch.Encoding, sends(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3})
		})},
		{"a body that drips", fetch.Timeout, func(a *asking) { a.timeout = 300 * time.Millisecond; a.answer = drip }},
		{"a server that hangs", fetch.Timeout, func(a *asking) { a.timeout = 300 * time.Millisecond; a.answer = hang }},
		{"half a body", fetch.Truncated, sends(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, "only this")
		})},
		{"an empty body", fetch.Empty, sends(func(http.ResponseWriter, *http.Request) {})},
		{"an error page", fetch.Status, sends(http.NotFound)},
		{"a header of a megabyte", fetch.Protocol, sends(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Long", strings.Repeat("a", 1<<20))
			_, _ = io.WriteString(w, "list")
		})},
	} {
		if err := ask(l, nil); err != nil {
			l.Errorf("%s: its good twin is refused: %v", k.name, err)
		}
		out = append(out, outcome{name: k.name, want: k.want, got: ask(l, k.spoil)})
	}
	for _, k := range []liveCase{
		{"a certificate without its key that wants a list fetched", "protocol", nil, replayed},
		{"a list server that sends a page", trust.CRLUnavailable, nil, served(func(*live) []byte { return []byte("<html>") })},
		{"a list server that sends the list of a stranger", trust.CRLUnavailable, nil, served(func(v *live) []byte {
			return testpki.NewRoot(v.l, testpki.Name("Foreign Root")).CRL(v.l)
		})},
		{"a list server that sends another partition", trust.CRLUnavailable, nil, served(func(v *live) []byte { return v.sub.CRL(v.l, testpki.IDP(otherList)) })},
		{"a list server that sends an expired list", trust.CRLStale, nil, served(func(v *live) []byte {
			return v.sub.CRL(v.l, testpki.ThisUpdate(time.Now().Add(-48*time.Hour)), testpki.NextUpdate(time.Now().Add(-time.Hour)))
		})},
	} {
		out = append(out, judgeLive(l, k))
	}
	return out
}

func ask(l *lab, spoil func(*asking)) error {
	a := &asking{timeout: patience, answer: func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "list") }}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { a.answer(w, r) }))
	defer server.Close()
	a.server = server.Listener.Addr().String()
	a.address, a.config.Hosts = server.URL+"/list.crl", []string{a.server}
	if spoil != nil {
		spoil(a)
	}
	client, err := fetch.New(a.config)
	l.check(err)
	ctx, cancel := context.WithTimeout(context.Background(), a.timeout)
	defer cancel()
	var body bytes.Buffer
	_, err = client.Get(ctx, a.address, fetch.Known{}, &body)
	if err == nil && body.String() != "list" {
		return &refusal{"error", fmt.Sprintf("the body is %q", body.String())}
	}
	return err
}

func endless(w http.ResponseWriter, _ *http.Request) {
	block := make([]byte, 64<<10)
	for {
		if _, err := w.Write(block); err != nil {
			return
		}
	}
}

func drip(w http.ResponseWriter, r *http.Request) {
	for {
		select {
		case <-r.Context().Done():
			return
		case <-time.After(50 * time.Millisecond):
		}
		if _, err := io.WriteString(w, "a"); err != nil {
			return
		}
		if f, ok := w.(http.Flusher); ok {
			f.Flush()
		}
	}
}

// partition has the peer's list be fetched from a server of the case. It returns
// how often that was asked.
func (v *live) partition(list func() []byte) *atomic.Int64 {
	asked := new(atomic.Int64)
	ln := v.l.listen()
	server := &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		_, _ = w.Write(list())
	})}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = server.Serve(ln) }()
	v.l.Cleanup(func() { _ = server.Close(); <-ended })
	address := ln.Addr().String()
	v.peer = v.sub.Issue(v.l, testpki.DNS(peerName), testpki.CDP("http://"+address+"/sub.crl"))
	v.client = v.as(v.peer)
	again := newHost(v.l, v.trusted, v.own, func(h *host) {
		h.env = v.host.env
		h.env.Trust = []string{h.path("trust.pem")}
		h.env.CRLs = []string{h.path("root.crl")}
		h.env.Profile = trust.NHSG2 // a list covers what came from its address
		h.env.Fetch = rotate.CRLFetch{Hosts: []string{address}, Timeout: patience}
		h.write("root.crl", v.root.CRL(v.l))
	})
	v.host = again
	v.door = v.open(v.config)
	return asked
}

// served has the list server send other than what it should.
func served(other func(*live) []byte) func(*live, bool) error {
	return func(v *live, bad bool) error {
		v.partition(func() []byte {
			if bad {
				return other(v)
			}
			return v.sub.CRL(v.l)
		})
		return v.try(v.client)
	}
}

// replayed presents the peer's certificate with and without its key, for a list
// that was never asked for.
func replayed(v *live, bad bool) error {
	asked := v.partition(func() []byte { return v.sub.CRL(v.l) })
	if bad {
		stolen := *v.peer
		stolen.Key = testpki.NewKey(v.l, "ecdsa-p256")
		v.client = v.as(&stolen)
	}
	err := v.try(v.client)
	if n := asked.Load(); bad && n > 0 {
		return nil // it got what it wanted: a false accept
	} else if !bad && n != 1 {
		return fmt.Errorf("the server was asked %d times, not once", n)
	}
	return err
}
