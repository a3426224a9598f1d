package web

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/spinecert/spinecert/internal/condition"
)

// site is the page of v, for loopback.
func site(v *View) *Site {
	return New(Options{View: func(context.Context) *View { return v }, Host: LoopbackHost})
}

// get asks as a browser on this host does.
func get(s http.Handler, target string, head ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodGet, target, nil)
	r.Host = "localhost:9090"
	for i := 0; i < len(head); i += 2 {
		r.Header.Set(head[i], head[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func TestPageSaysWhatMatters(t *testing.T) {
	t.Parallel()
	w := get(site(demo(20)), "/")
	if w.Code != 200 || w.Header().Get("Content-Type") != "text/html; charset=utf-8" {
		t.Fatal(w.Code, w.Header())
	}
	page := words(t, w.Body.String())
	for _, want := range []string{
		"spine-gw1.example.nhs.uk", "as of 2026-11-23 09:30:00 UTC", "2 critical, and 3 warnings.", "Slots that serve 20 of 20 ready", "Next end in 4 days pds , 2026-11-27 14:18",
		"critical slot pds certificate ends soon", "Hit ODS T99999 · ASID 200000000001 · Personal Demographics Service", "Stops tunnel pds-in, service haproxy, in 4 days , at 2026-11-27 14:18",
		"spinecert csr show --mail 3fa9c01b77d2e410", "docs/runbook/expiring.md", "alice sees to it, until 2026-11-25 09:30", "; told 2026-11-22 16:42 to ops , teams",
		"coming: request 3fa9c01b77d2e410, made 2026-08-30 09:30, waits for its certificate", "coming: the next request will be made", "coming, generation 4, from import, valid from 2026-12-05 09:30, ends 2029-12-04 09:30",
		"past, generation 1, from import, served from", "haproxy failed prove : 127.0.0.1:8443 still serves", "2 of 3", "NHS Authentication subCA G2 2 in force fetch", "no route to host in 21 hours",
		"test-harness.x26.nhs.uk 10.20.4.17:51234 gp-connect-in", "not_listed", "teams webhook failing", "502 Bad Gateway", "3fa9c01b77d2e410 pds pds.t99999.thirdparty.nhs.uk",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
}

func TestTroubleAndNearEndsComeFirst(t *testing.T) {
	t.Parallel()
	v := demo(1000)
	late := v.Status.Slots[100]
	v.add(condition.Condition{Code: condition.KeyReadable, Kind: condition.Slot, Subject: late.Name, Severity: condition.Critical})
	s := arrange(v, time.Time{})
	var got []string
	for _, i := range s.slots[:4] {
		got = append(got, s.Status.Slots[i].Name)
	}
	if diff := cmp.Diff([]string{"pds", late.Name, "scr"}, got[:3]); diff != "" {
		t.Error(diff)
	}
	last := time.Time{}
	for _, i := range s.slots[3:] {
		if end := s.Status.Slots[i].NotAfter.Time; end.Before(last) {
			t.Fatalf("%s ends before the one above it", s.Status.Slots[i].Name)
		} else {
			last = end
		}
	}
}

func TestFindAndPages(t *testing.T) {
	t.Parallel()
	s := site(demo(1000))
	rows := func(target string) (slots int, page string) {
		w := get(s, target)
		return strings.Count(w.Body.String(), `<svg class="line" width="100%"`), words(t, w.Body.String())
	}
	for _, tc := range []struct {
		target string
		slots  int
		says   string
	}{
		{"/", 50, "1 to 50 of 1000"},
		{"/?page=20", 50, "951 to 1000 of 1000"},
		{"/?page=21", 50, "951 to 1000 of 1000"},
		{"/?page=-1&size=0", 50, "1 to 50 of 1000"},
		{"/?page=x&size=y", 50, "1 to 50 of 1000"},
		{"/?size=1000", 1000, "1 to 1000 of 1000"},
		{"/?size=100000", 1000, "1 to 1000 of 1000"},
		{"/?q=GP-Connect-07", 1, "Shown is what contains gp-connect-07"},
		{"/?q=200000000777", 1, "Show everything"},
		{"/?q=eps-", 50, "1 to 50 of 99"},
		{"/?q=eps-&page=2", 49, "51 to 99 of 99"},
		{"/?q=nothing+of+that", 0, "Nothing here contains what is looked for."},
		{"/?q=" + strings.Repeat("%C3%A4", 5000), 0, "Nothing here contains what is looked for."},
	} {
		if n, page := rows(tc.target); n != tc.slots || !strings.Contains(page, tc.says) {
			t.Errorf("%.40s: %d slots, want %d and %q", tc.target, n, tc.slots, tc.says)
		}
	}
	if w := get(s, "/?q=eps-"); !strings.Contains(w.Body.String(), `href="/?page=2&amp;q=eps-#slots"`) {
		t.Error("the way to the next page forgets what is looked for")
	}
}

func TestJSONBehindThePage(t *testing.T) {
	t.Parallel()
	v := demo(3)
	w := get(site(v), "/status.json")
	var got struct {
		Schema int
		View
	}
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || got.Schema != 1 || w.Header().Get("Content-Type") != "application/json" {
		t.Fatal(err, got.Schema, w.Header())
	}
	if len(got.Status.Slots) != 3 || len(got.Status.Slots[1].Timeline) == 0 || len(got.Alerts.Alerts) != 2 || len(got.Refusals) != 2 || got.Host != v.Host {
		t.Errorf("%s", w.Body)
	}
}

func TestEveryAnswerIsStrict(t *testing.T) {
	t.Parallel()
	s := site(demo(1))
	for _, target := range []string{"/", "/status.json", "/assets/page.css", "/assets/page.js", "/assets/icon.svg", "/nothing", "/assets/", "/assets/../web.go"} {
		head := get(s, target).Header()
		for key, want := range map[string]string{
			"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY",
			"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin",
		} {
			if head.Get(key) != want {
				t.Errorf("%s: %s: %q", target, key, head.Get(key))
			}
		}
		if cache := head.Get("Cache-Control"); cache != "no-store" && !strings.HasPrefix(target, "/assets/page") && target != "/assets/icon.svg" {
			t.Errorf("%s may be kept: %q", target, cache)
		}
	}
	for _, part := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "base-uri 'none'", "frame-ancestors 'none'", "form-action 'self'", "require-trusted-types-for 'script'"} {
		if !strings.Contains(policy, part) {
			t.Errorf("the policy lacks %s", part)
		}
	}
	if strings.Contains(policy, "unsafe") || strings.Contains(policy, "data:") || strings.Contains(policy, "*") {
		t.Error(policy)
	}
}

func TestReadersOnly(t *testing.T) {
	t.Parallel()
	s := site(demo(1))
	for _, path := range []string{"/", "/status.json", "/events", "/assets/page.js"} {
		for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "BREW"} {
			r := httptest.NewRequest(http.MethodGet, path, nil)
			r.Method, r.Host = method, "localhost"
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
				t.Errorf("%s %s: %d, allowed %q", method, path, w.Code, w.Header().Get("Allow"))
			}
		}
		r := httptest.NewRequest(http.MethodHead, path, nil)
		r.Host = "localhost"
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code != 200 || w.Body.Len() != 0 && path != "/assets/page.js" {
			t.Errorf("HEAD %s: %d, %d bytes", path, w.Code, w.Body.Len())
		}
	}
}

func TestAssetsAreKeptByDigest(t *testing.T) {
	t.Parallel()
	s := site(demo(1))
	page := get(s, "/").Body.String()
	for _, a := range []*asset{s.css, s.js, s.icon} {
		if !strings.Contains(page, `"`+a.url()+`"`) {
			t.Errorf("the page does not ask for %s", a.url())
		}
		w := get(s, a.url())
		if w.Code != 200 || w.Body.String() != string(a.plain) || !strings.Contains(w.Header().Get("Cache-Control"), "immutable") || w.Header().Get("Content-Type") != a.kind {
			t.Errorf("%s: %d %v", a.url(), w.Code, w.Header())
		}
		if w := get(s, a.path); w.Header().Get("Cache-Control") != "no-cache" {
			t.Errorf("%s is kept by an address that stays", a.path)
		}
		packed := get(s, a.url(), "Accept-Encoding", "gzip, br")
		if packed.Header().Get("Content-Encoding") != "gzip" || packed.Body.Len() >= len(a.plain) {
			t.Errorf("%s: %d of %d bytes, %v", a.path, packed.Body.Len(), len(a.plain), packed.Header())
		}
		if packed.Header().Get("ETag") == w.Header().Get("ETag") {
			t.Errorf("%s: packed and not, one tag", a.path)
		}
		if w := get(s, a.path, "If-None-Match", w.Header().Get("ETag")); w.Code != http.StatusNotModified {
			t.Errorf("%s again: %d", a.path, w.Code)
		}
		if w := get(s, a.url(), "Accept-Encoding", "gzip;q=0"); w.Header().Get("Content-Encoding") != "" {
			t.Errorf("%s packed for who does not take that", a.path)
		}
	}
}

func TestHosts(t *testing.T) {
	t.Parallel()
	local := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 9443}
	for _, tc := range []struct {
		host            string
		loopback, named bool
	}{
		{"localhost", true, false}, {"LOCALHOST:9090", true, false}, {"127.0.0.1", true, false}, {"127.0.0.1:1", true, false}, {"127.9.9.9:80", true, false},
		{"[::1]", true, false}, {"[::1]:9090", true, false}, {"[::ffff:127.0.0.1]:9090", true, false},
		{"pcs.thirdparty.nhs.uk", false, true}, {"PCS.thirdparty.nhs.uk:9443", false, true}, {"192.0.2.7:9443", false, true}, {"[::ffff:192.0.2.7]:9443", false, true},
		{"", false, false}, {":9090", false, false}, {"localhost.", false, false}, {"127.0.0.1.", false, false}, {"pcs.thirdparty.nhs.uk.", false, false},
		{"localhost.evil.example", false, false}, {"127.0.0.1.evil.example", false, false}, {"evil.example", false, false}, {"evil.example:9090", false, false},
		{"localhost:9090:9090", false, false}, {"localhost:x", false, false}, {"localhost:999999", false, false}, {"localhost@evil.example", false, false}, {"evil.example/localhost", false, false},
		{"::1", false, false}, {"[::1", false, false}, {"[::1]x", false, false}, {"[localhost]", false, false}, {"[127.0.0.1]", false, false}, {"[::1%25lo]", false, false}, {"[::1%lo]:80", false, false}, {"[fe80::1]", false, false},
		{"0.0.0.0", false, false}, {"[::]", false, false}, {"192.0.2.8", false, false}, {"2130706433", false, false}, {"0x7f.1", false, false}, {"127.1", false, false}, {"127.0.0.1 ", false, false},
		{"xn--localhost", false, false}, {"local\u200bhost", false, false},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Host = tc.host
		if got := LoopbackHost(r); got != tc.loopback {
			t.Errorf("%q: loopback %v, want %v", tc.host, got, tc.loopback)
		}
		r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, local))
		if got := NamedHost(r, []string{"pcs.thirdparty.nhs.uk"}); got != tc.named {
			t.Errorf("%q: named %v, want %v", tc.host, got, tc.named)
		}
	}
	if local.AddrPort().Addr() == (netip.Addr{}) {
		t.Fatal("the address of the test is none")
	}
	if w := get(site(demo(1)), "/", "Host", "x"); w.Code != 200 {
		t.Error(w.Code)
	}
	r := httptest.NewRequest(http.MethodGet, "http://evil.example/", nil)
	w := httptest.NewRecorder()
	site(demo(1)).ServeHTTP(w, r)
	if w.Code != http.StatusMisdirectedRequest || strings.Contains(w.Body.String(), "Spinecert") {
		t.Errorf("another host: %d %s", w.Code, w.Body)
	}
}

func TestOtherSitesLearnNothing(t *testing.T) {
	t.Parallel()
	s := site(demo(1))
	for _, tc := range []struct {
		name, target string
		head         []string
		want         int
	}{
		{"typed", "/", []string{"Sec-Fetch-Site", "none", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}, 200},
		{"own script", "/status.json", []string{"Sec-Fetch-Site", "same-origin", "Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty"}, 200},
		{"own script, with origin", "/", []string{"Origin", "http://localhost:9090"}, 200},
		{"a program", "/status.json", nil, 200},
		{"a link elsewhere", "/", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}, 200},
		{"a frame elsewhere", "/", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe"}, 403},
		{"an image elsewhere", "/", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "image"}, 403},
		{"a script elsewhere", "/assets/page.js", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors", "Sec-Fetch-Dest", "script"}, 403},
		{"another port of this host", "/status.json", []string{"Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty"}, 403},
		{"fetch elsewhere", "/status.json", []string{"Origin", "http://evil.example", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "cors"}, 403},
		{"fetch elsewhere, old browser", "/status.json", []string{"Origin", "http://evil.example"}, 403},
		{"no origin to name", "/", []string{"Origin", "null"}, 403},
		{"other scheme", "/", []string{"Origin", "https://localhost:9090"}, 403},
		{"other port", "/", []string{"Origin", "http://localhost:9091"}, 403},
		{"events elsewhere", "/events", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "cors", "Sec-Fetch-Dest", "empty"}, 403},
		{"events as a page elsewhere", "/events", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}, 403},
		{"a word of no meaning", "/", []string{"Sec-Fetch-Site", "friendly"}, 403},
	} {
		if w := get(s, tc.target, tc.head...); w.Code != tc.want || tc.want == 403 && w.Body.String() != "not for other sites\n" {
			t.Errorf("%s: %d %.60q, want %d", tc.name, w.Code, w.Body, tc.want)
		}
	}
	r := httptest.NewRequest(http.MethodGet, "https://localhost:9443/", nil)
	r.TLS = &tls.ConnectionState{}
	r.Header.Set("Origin", "https://localhost:9443")
	if foreign(r, false) {
		t.Error("over TLS its own origin is foreign")
	}
}

// TestRequestTargets are what only a server sees: absolute targets, no Host, several.
func TestRequestTargets(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(site(demo(1)))
	t.Cleanup(server.Close)
	address := server.Listener.Addr().String()
	for request, want := range map[string]int{
		"GET / HTTP/1.1\r\nHost: " + address:                       200,
		"GET http://" + address + "/ HTTP/1.1\r\nHost: " + address: 200,
		"GET http://evil.example/ HTTP/1.1\r\nHost: localhost":     421,
		"GET http://localhost/ HTTP/1.1\r\nHost: evil.example":     200, // the target counts (RFC 9112, Section 3.2.2)
		"GET / HTTP/1.0":          421,
		"GET / HTTP/1.1\r\nHost:": 421,
		"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example":             400,
		"GET / HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: localhost": 421,
		"GET //status.json HTTP/1.1\r\nHost: evil.example":                    421,
	} {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		_, _ = io.WriteString(c, request+"\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || res.StatusCode != want {
			t.Errorf("%q: %v %v, want %d", request, res, err, want)
		}
		_ = c.Close()
	}
}
