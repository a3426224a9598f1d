package sandbox

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestCRLServer(t *testing.T) {
	s, err := newCRLServer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: s.listener, Config: s.server()}
	server.Start()
	t.Cleanup(server.Close)
	address := s.base("g1") + "/sub-1.crl"
	for _, version := range []string{"first", "second", "third"} {
		before := time.Now()
		at, err := s.put(address, []byte(version))
		if err != nil || at.Before(before) || at.After(time.Now()) {
			t.Fatalf("put: available at %v, %v", at, err)
		}
	}
	get := func(ctx context.Context, address string, header ...string) (int, string, http.Header, error) {
		t.Helper()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			request.Header.Set(header[i], header[i+1])
		}
		response, err := http.DefaultTransport.RoundTrip(request)
		if err != nil {
			return 0, "", nil, err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		return response.StatusCode, string(body), response.Header, err
	}
	status, body, header, err := get(t.Context(), address)
	if err != nil || status != http.StatusOK || body != "third" || header.Get("ETag") == "" || header.Get("Last-Modified") == "" {
		t.Errorf("answer %d %q, %v, %v", status, body, header, err)
	}
	tag, modified := header.Get("ETag"), header.Get("Last-Modified")
	if status, body, _, err := get(t.Context(), address, "If-None-Match", tag, "If-Modified-Since", modified); err != nil || status != http.StatusNotModified || body != "" {
		t.Errorf("asked with its tag: %d %q, %v; want 304", status, body, err)
	}
	// A version made within the same second: the tag must tell.
	if _, err := s.put(address, []byte("fourth")); err != nil {
		t.Fatal(err)
	}
	if status, body, _, err := get(t.Context(), address, "If-None-Match", tag, "If-Modified-Since", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)); err != nil || status != http.StatusOK || body != "fourth" {
		t.Errorf("asked with the tag of the one before: %d %q, %v; want the fourth", status, body, err)
	}
	if status, _, _, err := get(t.Context(), s.base("elsewhere")+"/root.crl"); err != nil || status != http.StatusNotFound {
		t.Errorf("a list that is not served: %d, %v", status, err)
	}
	if got, want := s.requests(), (CRLRequests{Full: 2, Unchanged: 1, Unknown: 1}); got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}

	for _, f := range faults() {
		t.Run(string(f), func(t *testing.T) {
			end := s.misbehave(f)
			defer end()
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			status, body, _, err := get(ctx, address, "If-None-Match", tag)
			switch f {
			case dead:
				if err == nil || ctx.Err() != nil {
					t.Errorf("answer %d %q, %v; want a closed connection", status, body, err)
				}
			case older:
				if status != http.StatusOK || body != "first" {
					t.Errorf("answer %d %q, %v; want the first list", status, body, err)
				}
			case hanging:
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("answer %d %q, %v; want none", status, body, err)
				}
			case nonsense:
				if status != http.StatusOK || !strings.Contains(body, "<html>") {
					t.Errorf("answer %d %q, %v; want HTML", status, body, err)
				}
			}
			end()
			end() // twice is once
			if s.wellAsked(address) {
				t.Error("nobody asked since the end")
			}
			if status, body, _, err := get(t.Context(), address); err != nil || status != http.StatusOK || body != "fourth" || !s.wellAsked(address) {
				t.Errorf("after the end: %d %q, %v, asked well: %t", status, body, err, s.wellAsked(address))
			}
		})
	}
	// The transport asks again where a connection that was kept open is closed on it.
	if got := s.requests().Spoiled; got < int64(len(faults())) {
		t.Errorf("%d spoiled, want %d", got, len(faults()))
	}
}

// TestHangingEnds: who waits is let go when the fault is over.
func TestHangingEnds(t *testing.T) {
	s, err := newCRLServer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: s.listener, Config: s.server()}
	server.Start()
	defer server.Close()
	address := s.base("g1") + "/root.crl"
	if _, err := s.put(address, []byte("list")); err != nil {
		t.Fatal(err)
	}
	end := s.misbehave(hanging)
	done := make(chan error, 1)
	go func() {
		response, err := http.Get(address)
		if err == nil {
			err = errors.Join(errors.New(response.Status), response.Body.Close())
		}
		done <- err
	}()
	for s.requests().Spoiled == 0 {
		time.Sleep(time.Millisecond)
	}
	end()
	if err := <-done; err == nil || !strings.Contains(err.Error(), "EOF") {
		t.Errorf("%v; want a connection that was closed", err)
	}
}
