package sink

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/spinecert/spinecert/internal/alert"
	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/testpki"
)

// hook is a receiver of webhooks.
type hook struct {
	*httptest.Server
	mu     sync.Mutex
	bodies []string
	heads  []http.Header
}

// startHook starts a receiver that keeps what it is sent, and then answers.
func startHook(t *testing.T, leaf *testpki.Leaf, answer http.HandlerFunc) *hook {
	t.Helper()
	h := &hook{}
	h.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		h.mu.Lock()
		h.bodies, h.heads = append(h.bodies, string(body)), append(h.heads, r.Header.Clone())
		h.mu.Unlock()
		if answer != nil {
			answer(w, r)
		}
	}))
	h.Config.ErrorLog = quiet
	if leaf != nil {
		h.TLS = served(leaf)
		h.StartTLS()
	} else {
		h.Start()
	}
	t.Cleanup(h.Close)
	return h
}

func (h *hook) last(t *testing.T) (string, http.Header) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.bodies) == 0 {
		t.Fatal("it was sent nothing")
	}
	return h.bodies[len(h.bodies)-1], h.heads[len(h.heads)-1]
}

func (h *hook) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.bodies)
}

const secretPath = "/services/T0000SECRET/B0000/xoxb-very-secret?token=hunter22hunter"

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func hookAt(address string) config.Sink {
	return config.Sink{Type: config.SinkWebhook, URL: address, Format: config.FormatJSON}
}

func TestWebhookJSON(t *testing.T) {
	h := startHook(t, nil, status(http.StatusAccepted))
	if err := send(t, make1(t, hookAt(h.URL+secretPath)), one()); err != nil {
		t.Fatal(err)
	}
	body, head := h.last(t)
	for key, want := range map[string]string{"Content-Type": "application/json", "Idempotency-Key": one().ID, "User-Agent": "spinecert/0.1.0"} {
		if got := head.Get(key); got != want {
			t.Errorf("%s: %q, want %q", key, got, want)
		}
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, []byte(body), "", "  "); err != nil {
		t.Fatal(err)
	}
	golden(t, "webhook.json", pretty.String()+"\n")
	// All that a message has, and each notice whole.
	var got document
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(one(), got.Message); diff != "" {
		t.Errorf("(-sent +received)\n%s", diff)
	}
}

func TestWebhookOfNothing(t *testing.T) {
	h := startHook(t, nil, nil)
	if err := send(t, make1(t, hookAt(h.URL)), &alert.Message{ID: "1", Host: "h", Group: "host", At: at}); err != nil {
		t.Fatal(err)
	}
	if body, _ := h.last(t); !strings.Contains(body, `"notices":[]`) {
		t.Error(body)
	}
}

func TestBadReceivers(t *testing.T) {
	plain := func(code int, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			w.WriteHeader(code)
			_, _ = io.WriteString(w, text)
		}
	}
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	huge := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(http.StatusBadRequest)
		for {
			if _, err := io.WriteString(w, strings.Repeat("no ", 1<<10)); err != nil {
				return
			}
		}
	}
	wide := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Long", strings.Repeat("x", 1<<20))
	}
	raw := func(text string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) {
			c, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.WriteString(c, text)
			_ = c.Close()
		}
	}
	for _, c := range []struct {
		name   string
		answer http.HandlerFunc
		want   []string
	}{
		{"500", plain(500, "oh\x1b[2J\nno"), []string{"answered 500 Internal Server Error: oh", `\x1b[2J; no`}},
		{"HTML", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(http.StatusBadGateway)
			_, _ = io.WriteString(w, "<html>secret</html>")
		}, []string{"answered 502 Bad Gateway | "}},
		{"repeats the path", plain(404, "Cannot POST /services/T0000SECRET/B0000"), []string{"answered 404", "not shown", "still known there"}},
		{"repeats the query", plain(400, "bad token hunter22hunter"), []string{"answered 400", "not shown"}},
		{"forbidden", plain(403, "invalid_token"), []string{"answered 403 Forbidden: invalid_token", "username"}},
		{"unknown status", plain(599, ""), []string{"answered 599 | "}},
		{"redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.1:1/evil", http.StatusTemporaryRedirect)
		}, []string{"answered 307 Temporary Redirect, which is not followed"}},
		{"hang", hang, []string{"no answer in time"}},
		{"huge", huge, []string{"answered 400 Bad Request: no no", "..."}},
		{"huge header", wide, []string{"post to"}},
		{"garbage", raw("\x00\x01\x1b]0;x\x07\r\n\r\n"), []string{"post to"}},
		{"closes", raw(""), []string{"closed the connection"}},
		{"half an answer", raw("HTTP/1.1 200 OK\r\nContent-Le"), []string{"transport connection broken"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := startHook(t, nil, c.answer)
			sink := hookAt(h.URL + secretPath)
			if strings.Contains("500 forbidden huge", c.name) { // what is quoted, where the address is no secret
				sink = hookAt(h.URL)
			}
			if c.name == "hang" {
				sink.Timeout = short
			}
			err := send(t, make1(t, sink), one())
			says(t, err, append(c.want, "post to "+h.URL+": ")...)
			without(t, err, "services", "T0000SECRET", "xoxb", "hunter22", "token=", "evil", "html")
			if h.count() != 1 {
				t.Errorf("%d requests", h.count())
			}
		})
	}
	t.Run("nobody", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_ = l.Close()
		err = send(t, make1(t, hookAt("http://"+l.Addr().String()+secretPath)), one())
		says(t, err, "connection refused")
		without(t, err, "services", "xoxb", "hunter22")
	})
}

// An answer of 2xx counts, whatever comes with it and after it.
func TestReceiverThatTakesItAndBabbles(t *testing.T) {
	h := startHook(t, nil, func(w http.ResponseWriter, r *http.Request) {
		for {
			if _, err := io.WriteString(w, strings.Repeat("x", 1<<12)); err != nil {
				return
			}
		}
	})
	if err := send(t, make1(t, hookAt(h.URL)), one()); err != nil {
		t.Error(err)
	}
}

// What follows the head of an answer of 2xx is not waited for.
func TestReceiverThatTakesItAndHangs(t *testing.T) {
	h := startHook(t, nil, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "10")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	if err := send(t, make1(t, hookAt(h.URL)), one()); err != nil {
		t.Error(err)
	}
}

func TestReceiversOverTLS(t *testing.T) {
	root, roots := authority(t)
	local := testpki.IP(net.IPv4(127, 0, 0, 1))
	good := root.Issue(t, local, testpki.DNS("hook.example"))
	for _, c := range []struct {
		name, ca, server string
		leaf             *testpki.Leaf
		want             []string
	}{
		{"good", roots, "", good, nil},
		{"by name", roots, "hook.example", good, nil},
		{"wrong name", roots, "other.example", good, []string{"for another name"}},
		{"expired", roots, "", root.Issue(t, local, testpki.Validity(time.Now().Add(-48*time.Hour), time.Now().Add(-time.Hour))), []string{"not valid at this time"}},
		{"unknown", "", "", good, []string{"no CA that is trusted"}},
		{"no roots", write(t, "empty.pem", "nothing\n"), "", good, []string{"holds no certificate"}},
		{"missing roots", "/no/such/file", "", good, []string{"read ca \"/no/such/file\": no such file"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := startHook(t, c.leaf, nil)
			sink := hookAt(h.URL + secretPath)
			sink.CA, sink.ServerName = c.ca, c.server
			err := send(t, make1(t, sink), one())
			if c.want == nil {
				if err != nil {
					t.Error(err)
				}
				return
			}
			says(t, err, c.want...)
			if h.count() != 0 {
				t.Error("it was sent something")
			}
		})
	}
}

// The address and the password are read for each message.
func TestSecretsAreReadEachTime(t *testing.T) {
	h := startHook(t, nil, func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		if user != "user" || password != "open sesame" {
			w.Header().Set("Content-Type", "text/plain")
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, "no user with "+password)
		}
	})
	address, password := write(t, "url", h.URL+"/one\r\nrest\n"), write(t, "password", "open sesame\n")
	sink := config.Sink{Type: config.SinkWebhook, URLFile: address, Username: "user", PasswordFile: password}
	s := make1(t, sink)
	if err := send(t, s, one()); err != nil {
		t.Fatal(err)
	}
	rewrite := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	rewrite(password, "hunter22\n")
	err := send(t, s, one())
	says(t, err, "answered 401 Unauthorized", "not shown")
	without(t, err, "hunter22")
	rewrite(password, "\n")
	says(t, send(t, s, one()), "password_file", "its first line is empty", "write the password into")
	rewrite(password, "open sesame")
	for text, want := range map[string]string{"": "its first line is empty", "ftp://x/secret": "neither https nor http", "http://": "names no host", "http://%zz/secret": "is no URL", "http://a:secret@x/": "holds a user name",
		"http://hook.example/secret": "not sent over plain http", "\n" + h.URL: "its first line is empty"} {
		rewrite(address, text)
		err := send(t, s, one())
		says(t, err, want)
		without(t, err, "secret")
	}
	_ = os.Remove(address)
	says(t, send(t, s, one()), "read url_file", "no such file")
	says(t, send(t, make1(t, config.Sink{Type: config.SinkWebhook, URLFile: t.TempDir()}), one()), "not a regular file")
	says(t, send(t, make1(t, config.Sink{Type: config.SinkWebhook, URLFile: write(t, "large", strings.Repeat("x", fileLimit+1))}), one()), "larger than 1 MiB")
}

// No proxy of the environment learns of alerts.
func TestNoProxyOfTheEnvironment(t *testing.T) {
	proxy := startHook(t, nil, nil)
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"} {
		t.Setenv(name, proxy.URL)
	}
	says(t, send(t, make1(t, hookAt("http://hook.invalid/x")), one()), "lookup hook.invalid")
	if proxy.count() != 0 {
		t.Error("it went by the proxy")
	}
	// net/http reads those variables once in the life of a process, perhaps before this test set them.
	f, err := newEndpoint(hookAt("http://hook.invalid/x"), options()).open()
	if err != nil {
		t.Fatal(err)
	}
	if f.client.Transport.(*http.Transport).Proxy != nil {
		t.Error("the proxies of the environment are asked for")
	}
}

func TestRetryAfter(t *testing.T) {
	for _, c := range []struct {
		code   int
		value  string
		lo, hi time.Duration
	}{
		{429, "30", 30 * time.Second, 30 * time.Second},
		{503, "0", 0, 0},
		{503, "-5", 0, 0},
		{503, "999999999999", time.Hour, time.Hour},
		{503, strconv.FormatInt(1<<62, 10) + "0", 0, 0},
		{429, time.Now().Add(10 * time.Minute).UTC().Format(http.TimeFormat), 8 * time.Minute, 10 * time.Minute},
		{429, time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat), 0, 0},
		{429, "soon", 0, 0},
		{429, "", 0, 0},
		{500, "30", 0, 0},
	} {
		h := startHook(t, nil, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", c.value)
			w.WriteHeader(c.code)
		})
		err := send(t, make1(t, hookAt(h.URL)), one())
		var asked interface{ RetryAfter() time.Duration }
		says(t, err, "answered")
		if !as(err, &asked) || asked.RetryAfter() < c.lo || asked.RetryAfter() > c.hi {
			t.Errorf("%d %s: %v", c.code, c.value, asked.RetryAfter())
		}
	}
}
