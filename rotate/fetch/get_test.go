package fetch

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestGet(t *testing.T) {
	requests := make(chan *http.Request, 1)
	port := server(t, func(w http.ResponseWriter, r *http.Request) {
		requests <- r
		w.Header().Set("ETag", `"v1"`)
		w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
		w.Header().Set("Set-Cookie", "a=b")
		_, _ = io.WriteString(w, "contents")
	})
	c := client(t, Config{Hosts: []string{"crl.example:" + port, "127.0.0.1:" + port}}, here)
	for range 2 { // the second has no cookie either
		answer, body, err := get(t, c, "http://CRL.example.:"+port+"/a.crl?b=c", Known{})
		if err != nil {
			t.Fatal(err)
		}
		want := Answer{Known: Known{ETag: `"v1"`, LastModified: "Mon, 02 Jan 2006 15:04:05 GMT"}, Bytes: 8}
		if answer != want || body != "contents" {
			t.Errorf("got %+v and %q", answer, body)
		}
		r := <-requests
		header := http.Header{"User-Agent": {"spinecert"}, "Accept-Encoding": {"identity"}, "Connection": {"close"}}
		if diff := cmp.Diff(header, r.Header); diff != "" {
			t.Error(diff)
		}
		if r.Method != http.MethodGet || r.Host != "crl.example:"+port || r.RequestURI != "/a.crl?b=c" || r.Proto != "HTTP/1.1" {
			t.Errorf("asked %s %s of %s in %s", r.Method, r.RequestURI, r.Host, r.Proto)
		}
	}
	if _, body, err := get(t, c, "http://127.0.0.1:"+port+"/", Known{}); err != nil || body != "contents" {
		t.Errorf("a listed address: %q, %v", body, err)
	}
}

// TestEnvironment has what the environment says of proxies not count, see TestMain.
// net/http itself leaves them out for loopback addresses, but not for names.
func TestEnvironment(t *testing.T) {
	port := server(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "x") })
	r, _ := http.NewRequest(http.MethodGet, "http://crl.example:"+port, nil)
	if u, err := http.ProxyFromEnvironment(r); err != nil || u == nil || u.String() != nobody {
		t.Fatalf("the environment names %v: this test cannot fail", u)
	}
	c := client(t, Config{Hosts: []string{"crl.example:" + port, "127.0.0.1"}}, here)
	if _, _, err := get(t, c, "http://crl.example:"+port+"/", Known{}); err != nil {
		t.Error(err)
	}
}

func TestConditional(t *testing.T) {
	long, control := strings.Repeat("e", maxKnown+1), "a\tb"
	tests := map[string]struct {
		known  Known
		sent   Known // what the server must see
		status int
		said   Known // of the server
		want   Answer
		reason string
	}{
		"unchanged":              {Known{"e", "d"}, Known{"e", "d"}, 304, Known{"f", "g"}, Answer{Unchanged: true, Known: Known{"f", "g"}}, ""},
		"unchanged, silent":      {Known{"e", "d"}, Known{"e", "d"}, 304, Known{}, Answer{Unchanged: true, Known: Known{"e", "d"}}, ""},
		"by date alone":          {Known{"", "d"}, Known{"", "d"}, 304, Known{}, Answer{Unchanged: true, Known: Known{"", "d"}}, ""},
		"changed":                {Known{"e", "d"}, Known{"e", "d"}, 200, Known{"f", ""}, Answer{Known: Known{"f", ""}, Bytes: 4}, ""},
		"304 to nothing":         {Known{}, Known{}, 304, Known{"e", "d"}, Answer{}, Status},
		"too long to send":       {Known{long, ""}, Known{}, 304, Known{}, Answer{}, Status},
		"not printable to send":  {Known{"", "a\r\nb: c"}, Known{}, 304, Known{}, Answer{}, Status},
		"too long to keep":       {Known{}, Known{}, 200, Known{long, long}, Answer{Bytes: 4}, ""},
		"as long as can be":      {Known{}, Known{}, 200, Known{long[1:], ""}, Answer{Known: Known{long[1:], ""}, Bytes: 4}, ""},
		"not printable to keep":  {Known{}, Known{}, 200, Known{control, "\u202e"}, Answer{Bytes: 4}, ""},
		"unchanged, but useless": {Known{"e", ""}, Known{"e", ""}, 304, Known{control, ""}, Answer{Unchanged: true, Known: Known{"e", ""}}, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			sent := make(chan Known, 1)
			port := server(t, func(w http.ResponseWriter, r *http.Request) {
				sent <- Known{r.Header.Get("If-None-Match"), r.Header.Get("If-Modified-Since")}
				if test.said.ETag != "" {
					w.Header().Set("ETag", test.said.ETag)
				}
				if test.said.LastModified != "" {
					w.Header().Set("Last-Modified", test.said.LastModified)
				}
				w.WriteHeader(test.status)
				if test.status == 200 {
					_, _ = io.WriteString(w, "body")
				}
			})
			c := client(t, Config{Hosts: []string{"127.0.0.1:" + port}})
			answer, body, err := get(t, c, "http://127.0.0.1:"+port+"/", test.known)
			if got := <-sent; got != test.sent {
				t.Errorf("the server saw %q", got)
			}
			if test.reason != "" {
				refused(t, err, test.reason)
			} else if err != nil {
				t.Fatal(err)
			}
			if answer != test.want || answer.Unchanged && body != "" {
				t.Errorf("got %+v, want %+v; body %q", answer, test.want, body)
			}
		})
	}
}

func TestStatus(t *testing.T) {
	for _, code := range []int{201, 202, 203, 204, 205, 206, 226, 300, 304, 305, 306, 400, 401, 403, 404, 407, 410, 500, 503, 599, 999} {
		t.Run(strconv.Itoa(code), func(t *testing.T) {
			port := server(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", "/other")
				w.WriteHeader(code)
				if code > 206 && code != 304 {
					_, _ = io.WriteString(w, "body")
				}
			})
			c := client(t, Config{Hosts: []string{"127.0.0.1:" + port}})
			_, body, err := get(t, c, "http://127.0.0.1:"+port+"/", Known{})
			refused(t, err, Status, strconv.Itoa(code))
			if body != "" {
				t.Errorf("wrote %q", body)
			}
		})
	}
}

func TestEncoding(t *testing.T) {
	for _, encoding := range []string{"gzip", "GZIP", "deflate", "br", "identity, gzip", "gzip, identity", "x"} {
		t.Run(encoding, func(t *testing.T) {
			port := server(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Encoding", encoding)
				z := gzip.NewWriter(w)
				_, _ = z.Write(make([]byte, 1<<20))
				_ = z.Close()
			})
			c := client(t, Config{Hosts: []string{"127.0.0.1:" + port}})
			_, body, err := get(t, c, "http://127.0.0.1:"+port+"/", Known{})
			refused(t, err, Encoding, strconv.Quote(encoding))
			if body != "" {
				t.Errorf("wrote %d bytes", len(body))
			}
		})
	}
	for _, encoding := range []string{"identity", "Identity", ""} {
		port := server(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", encoding)
			_, _ = io.WriteString(w, "plain")
		})
		c := client(t, Config{Hosts: []string{"127.0.0.1:" + port}})
		if _, body, err := get(t, c, "http://127.0.0.1:"+port+"/", Known{}); err != nil || body != "plain" {
			t.Errorf("%q: %q, %v", encoding, body, err)
		}
	}
}

// full is a disk that is.
type full struct{ err error }

func (f full) Write(p []byte) (int, error) { return len(p) / 2, f.err }

func TestUnwritable(t *testing.T) {
	port := server(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "contents") })
	c := client(t, Config{Hosts: []string{"127.0.0.1:" + port}})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cause := errors.New("no space left")
	_, err := c.Get(ctx, "http://127.0.0.1:"+port+"/", Known{}, full{cause})
	refused(t, err, Unwritable, "no space left")
	if !errors.Is(err, cause) {
		t.Error("the cause is lost")
	}
	_, err = c.Get(ctx, "http://127.0.0.1:"+port+"/", Known{}, full{})
	refused(t, err, Unwritable, "short write")
}

// TestText has errors bounded, printable, said once and without passwords.
func TestText(t *testing.T) {
	c := client(t, Config{Hosts: []string{"127.0.0.1"}})
	for _, address := range []string{
		"http://user:hunter2@crl.nhs.uk/", "http://user:hunter2@crl.nhs.uk:x/", "http://us:er:hun/ter2@crl.nhs.uk/", "user:hunter2@crl.nhs.uk",
		"http://hunter2@%zz/", "http://[hunter2@::1/", "ftp://user:hunter2@127.0.0.1/#", "http:user:hunter2@127.0.0.1",
	} {
		err := c.Permits(address)
		if err == nil {
			t.Errorf("%q passes", address)
			continue
		}
		var e *Error
		errors.As(err, &e)
		for _, text := range []string{err.Error(), e.Address, e.Hint()} {
			if strings.Contains(text, "ter2") {
				t.Errorf("shows the password: %s", text)
			}
		}
	}
	for _, address := range []string{strings.Repeat("\x1b[31m", 5000), "http://a/" + strings.Repeat("\u202e", 5000), "http://" + strings.Repeat("a.", 1000)} {
		err := c.Permits(address)
		if text := err.Error(); len(text) > 2000 || !printable(text) {
			t.Errorf("%d bytes: %q", len(text), text)
		}
	}
	port := raw(t, says("\x1b]0;title\x07"+strings.Repeat("\x00\u202e", 2000)+"\r\n\r\n"))
	_, _, err := get(t, client(t, Config{Hosts: []string{"127.0.0.1:" + port}}), "http://127.0.0.1:"+port+"/", Known{})
	refused(t, err, Protocol)
	if text := err.Error(); len(text) > 2000 || !printable(text) || strings.Count(text, "http://127.0.0.1") != 1 {
		t.Errorf("%d bytes: %q", len(text), text)
	}
}
