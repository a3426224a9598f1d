package haproxy

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/deliver/failure"
	"github.com/spinecert/spinecert/internal/testpki"
)

// TestUpdatesUnderLoad: 200 updates in a row, and no request fails, neither on
// new connections nor on those that are kept; each certificate is served at once. Then the process is spent: it is not killed.
func TestUpdatesUnderLoad(t *testing.T) {
	const updates = 100
	a := newAuthority(t)
	s, _ := mutual(t, a, "", "-W")
	count := s.load(a)
	cert := func(l *testpki.Leaf) File { return File{s.path("combined.pem"), Cert, combined(l, a)} }
	trust := []File{{s.path("trust.pem"), CA, a.sub.BundlePEM()}, {s.path("crl.pem"), CRL, a.lists()}}
	update := func(next *testpki.Leaf, files ...File) {
		t.Helper()
		if err := Update(ctxFor(t), s.socket, files); err != nil {
			t.Fatal(err)
		}
		if next != nil {
			s.serves(next)
		}
	}
	for range updates {
		next := a.leaf()
		update(next, cert(next))
	}
	for range updates {
		update(nil, trust...)
	}
	for range 2 {
		err := Update(ctxFor(t), s.socket, []File{cert(a.leaf()), trust[0]})
		refused(t, err, failure.ReloadFailed, nil, "combined.pem", "reload it through its unit")
		if !errors.Is(err, ErrReload) {
			t.Errorf("got %v, want ErrReload", err)
		}
		s.quiet()
		next := a.leaf()
		s.write("combined.pem", combined(next, a))
		s.reload()
		s.serves(next)
		next = a.leaf()
		update(next, append(trust, cert(next))...)
		update(nil, trust...)
		s.serves(next)
	}
	fresh, kept := count()
	t.Logf("%d updates, %d requests on new connections, %d on kept ones", 2*updates, fresh, kept)
	if fresh < 10 || kept < 10 {
		t.Error("there was no load")
	}
}

// load sends requests, on new connections and on one that is kept, until the returned function is called,
// which returns how many there were. The test fails with the first that fails.
func (s *server) load(a *authority) func() (fresh, kept int64) {
	peer := a.leaf()
	ctx, stop := context.WithCancel(s.t.Context())
	var wait sync.WaitGroup
	var requests [2]atomic.Int64
	for i, keep := range []bool{false, true} {
		client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: !keep, TLSClientConfig: &tls.Config{
			InsecureSkipVerify: true, ServerName: "host.example",
			Certificates: []tls.Certificate{{Certificate: [][]byte{peer.Cert.Raw, a.sub.Cert.Raw}, PrivateKey: peer.Key}},
		}}}
		wait.Go(func() {
			defer client.CloseIdleConnections()
			for ctx.Err() == nil {
				answer, err := client.Get("https://" + s.address + "/")
				if err != nil {
					s.t.Errorf("a request failed: %v", err)
					return
				}
				body, err := io.ReadAll(answer.Body)
				_ = answer.Body.Close()
				if err != nil || string(body) != "0" {
					s.t.Errorf("a request failed: %q, %v", body, err)
					return
				}
				requests[i].Add(1)
			}
		})
	}
	s.t.Cleanup(func() { stop(); wait.Wait() })
	return func() (int64, int64) {
		stop()
		wait.Wait()
		return requests[0].Load(), requests[1].Load()
	}
}

// reload has the master of a HAProxy start a new worker. A master loses signals while it still starts, so it is told again.
func (s *server) reload() {
	s.t.Helper()
	before, told := worker(s), time.Time{}
	s.until("a reload has a new worker", func() bool {
		if time.Since(told) > 2*time.Second {
			if err := s.cmd.Process.Signal(syscall.SIGUSR2); err != nil {
				s.t.Fatal(err)
			}
			told = time.Now()
		}
		now := worker(s)
		return now != "" && now != before
	})
}

// TestMasterWorker: in master-worker mode the socket answers before and after a reload, and the reload reads what was
// delivered on disk.
func TestMasterWorker(t *testing.T) {
	a := newAuthority(t)
	s, first := mutual(t, a, "", "-W")
	s.serves(first)
	for range 3 {
		next := a.leaf()
		s.write("combined.pem", combined(next, a))
		if err := Update(ctxFor(t), s.socket, []File{{s.path("combined.pem"), Cert, combined(next, a)}}); err != nil {
			t.Fatal(err)
		}
		s.serves(next)
		s.reload()
		s.serves(next)
	}
	s.quiet()
}

// worker returns the PID of the process that answers, "" for none.
func worker(s *server) string {
	if _, err := os.Stat(s.socket); err != nil {
		return ""
	}
	for line := range strings.Lines(s.say("show info")) {
		if pid, ok := strings.CutPrefix(line, "Pid: "); ok {
			return strings.TrimSpace(pid)
		}
	}
	return ""
}
