package fetch

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

func TestRedirect(t *testing.T) {
	var elsewhere atomic.Int32
	other := server(t, func(w http.ResponseWriter, _ *http.Request) {
		elsewhere.Add(1)
		_, _ = io.WriteString(w, "from elsewhere")
	})
	tests := map[string]struct {
		location string
		reason   string // "" is followed
		text     string
	}{
		"path":               {"/end", "", ""},
		"relative":           {"end", "", ""},
		"same host":          {"http://crl.example:PORT/end", "", ""},
		"in capitals":        {"HTTP://CRL.EXAMPLE:PORT/end", "", ""},
		"listed address":     {"//127.0.0.1:PORT/end", "", ""},
		"file":               {"file:///etc/passwd", Redirect, "scheme"},
		"data":               {"data:,x", Redirect, "scheme"},
		"https":              {"https://crl.example:PORT/", Redirect, "scheme is https"},
		"another host":       {"http://evil.example/", Redirect, "evil.example"},
		"loopback":           {"http://127.0.0.1:OTHER/", Redirect, "127.0.0.1:OTHER"},
		"loopback by name":   {"http://localhost:OTHER/", Redirect, "localhost"},
		"loopback of IPv6":   {"http://[::1]:OTHER/", Redirect, "[::1]"},
		"metadata":           {"http://169.254.169.254/latest", Redirect, "169.254.169.254"},
		"another port":       {"http://crl.example:OTHER/", Redirect, "crl.example:OTHER"},
		"without scheme":     {"//evil.example/", Redirect, "evil.example"},
		"user":               {"http://crl.example:PORT@evil.example/", Redirect, ""},
		"password":           {"http://me:hunter2@crl.example:PORT/", Redirect, "user or password"},
		"fragment":           {"http://crl.example:PORT/end#x", Redirect, "fragment"},
		"backslash":          {`\\evil.example/`, Redirect, "no URL"},
		"no URL":             {"http://%zz/", Redirect, "no URL"},
		"not printable":      {"/\u202e", Redirect, "without one Location"},
		"too long":           {"/" + strings.Repeat("a", maxAddress), Redirect, "without one Location"},
		"too long when made": {"/" + strings.Repeat("a", maxAddress-5), Redirect, "bytes"},
		"none":               {"", Redirect, "without one Location"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			fill := func(string) string { return "" }
			port := server(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/end" {
					if r.Header.Get("Referer") != "" || r.Header.Get("If-None-Match") != "e" {
						t.Errorf("header of the second request: %v", r.Header)
					}
					_, _ = io.WriteString(w, "end")
					return
				}
				w.Header().Set("Location", fill(test.location))
				w.WriteHeader(http.StatusFound)
			})
			fill = strings.NewReplacer("PORT", port, "OTHER", other).Replace
			c := client(t, Config{Hosts: []string{"crl.example:" + port, "127.0.0.1:" + port}}, here)
			_, body, err := get(t, c, "http://crl.example:"+port+"/start", Known{ETag: "e"})
			if test.reason == "" {
				if err != nil || body != "end" {
					t.Errorf("%q, %v", body, err)
				}
				return
			}
			refused(t, err, test.reason, fill(test.text), `fetch "http://crl.example:`+port+`/start"`)
			if strings.Contains(err.Error(), "hunter2") || len(err.Error()) > 2000 || body != "" {
				t.Errorf("%q, %v", body, err)
			}
		})
	}
	if n := elsewhere.Load(); n != 0 {
		t.Errorf("asked elsewhere %d times", n)
	}
}

// TestRedirectTLS follows from http to https, and never back.
func TestRedirectTLS(t *testing.T) {
	var plain string
	secure := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/down" {
			http.Redirect(w, r, "http://127.0.0.1:"+plain+"/end", http.StatusFound)
			return
		}
		if r.ProtoMajor != 1 {
			t.Errorf("spoke %s", r.Proto)
		}
		_, _ = io.WriteString(w, "secure")
	}))
	secure.Config.ErrorLog = quiet()
	secure.EnableHTTP2 = true
	secure.StartTLS()
	t.Cleanup(secure.Close)
	plain = server(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/up" {
			http.Redirect(w, r, secure.URL+"/end", http.StatusFound)
			return
		}
		_, _ = io.WriteString(w, "plain")
	})
	c := client(t, Config{Hosts: []string{"127.0.0.1:" + plain, secure.Listener.Addr().String()}, TLS: true})
	_, _, err := get(t, c, secure.URL+"/end", Known{})
	refused(t, err, BadTLS, "certificate")
	c.roots = secure.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	if _, body, err := get(t, c, "http://127.0.0.1:"+plain+"/up", Known{}); err != nil || body != "secure" {
		t.Errorf("up: %q, %v", body, err)
	}
	_, body, err := get(t, c, secure.URL+"/down", Known{})
	refused(t, err, Redirect, "https must not be had by http")
	if body != "" {
		t.Errorf("wrote %q", body)
	}
}

func TestRedirectCount(t *testing.T) {
	for _, code := range []int{301, 302, 303, 307, 308} {
		var asked atomic.Int32
		port := server(t, func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			if r.URL.Path == "/xxx" {
				_, _ = io.WriteString(w, "end")
				return
			}
			w.Header().Set("Location", r.URL.Path+"x")
			w.WriteHeader(code)
		})
		c := client(t, Config{Hosts: []string{"127.0.0.1:" + port}})
		if _, body, err := get(t, c, "http://127.0.0.1:"+port+"/", Known{}); err != nil || body != "end" {
			t.Errorf("%d, three times: %q, %v", code, body, err)
		}
		asked.Store(0)
		_, _, err := get(t, c, "http://127.0.0.1:"+port+"/y", Known{})
		refused(t, err, Redirect, "more than 3 times")
		if n := asked.Load(); n != 4 {
			t.Errorf("%d: asked %d times", code, n)
		}
	}
}
