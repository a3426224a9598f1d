package story

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
)

// The ways in which peers connect.
const (
	kept    = "kept"    // one connection for all requests
	fresh   = "fresh"   // a connection for each
	resumed = "resumed" // a connection for each, with the sessions of those before
)

// pace is the pause of a peer between two requests: peers must not take the
// machine from the other scripts.
const pace = 15 * time.Millisecond

// traffic is peers that send requests through the tunnel without end.
type traffic struct {
	stop context.CancelFunc
	done sync.WaitGroup

	mu       sync.Mutex
	counts   map[string]int // of requests that were answered, by way
	resumed  int            // how many of them on a session of before
	failures []string
	served   []answer // by fresh and resumed connections, the last few
	kept     string   // the serial on the kept connection
}

// answer is what one new connection got.
type answer struct {
	started time.Time
	serial  string
}

// backend is a local service behind the tunnel.
func backend(tb testing.TB) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "answer to %s", r.URL.Path) }), ReadHeaderTimeout: time.Minute}
	go func() { _ = s.Serve(l) }()
	tb.Cleanup(func() { _ = s.Close() })
	return l.Addr().String()
}

// cmdTraffic keeps requests going through the tunnel, and looks at them:
//
//	traffic start
//	traffic serves SERIAL   every connection from now on gets that certificate
//	traffic kept SERIAL     the kept connection goes on with that one
//	traffic check           no request failed, and all peers were answered
//	traffic stop            check, and the end
func cmdTraffic(ts *testscript.TestScript, neg bool, args []string) {
	w := worldOf(ts)
	if neg || len(args) == 0 || (args[0] == "start") != (w.traffic == nil) {
		ts.Fatalf("usage: traffic start, and then traffic serves|kept|check|stop")
	}
	switch args[0] {
	case "start":
		w.traffic = w.startTraffic(ts.Getenv("LISTEN"))
		w.traffic.check(ts)
	case "serves":
		w.traffic.serves(ts, args[1])
	case "kept":
		w.traffic.check(ts)
		w.traffic.mu.Lock()
		serial := w.traffic.kept
		w.traffic.mu.Unlock()
		if serial != args[1] {
			ts.Fatalf("the kept connection has serial %s, want %s", serial, args[1])
		}
	case "check":
		w.traffic.check(ts)
	case "stop":
		w.traffic.check(ts)
		w.traffic.end()
		w.traffic.sum(ts)
		w.traffic = nil
	default:
		ts.Fatalf("traffic %s: unknown", args[0])
	}
}

func (w *world) startTraffic(address string) *traffic {
	ctx, stop := context.WithCancel(context.Background())
	t := &traffic{stop: stop, counts: map[string]int{}}
	peer := w.sub.Issue(w.tb, testpki.Name(peerName), testpki.DNS(peerName)).TLS()
	roots := x509.NewCertPool()
	roots.AddCert(w.sub.Root().Cert)
	for _, way := range []string{kept, fresh, resumed} {
		config := &tls.Config{Certificates: []tls.Certificate{peer}, MaxVersion: tls.VersionTLS12, ServerName: providerName,
			InsecureSkipVerify: true, // judge verifies: names are in the CN alone, which crypto/x509 does not read
			VerifyConnection:   func(s tls.ConnectionState) error { return judge(s, roots) }}
		if way == resumed {
			config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		}
		client := &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: way != kept}}
		t.done.Go(func() {
			defer client.CloseIdleConnections()
			for n := 0; ctx.Err() == nil; n++ {
				t.request(ctx, client, way, fmt.Sprintf("https://%s/%s/%d", address, way, n))
				time.Sleep(pace)
			}
		})
	}
	return t
}

// judge is what a careful peer does with the certificate of the provider.
func judge(s tls.ConnectionState, roots *x509.CertPool) error {
	o := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, c := range s.PeerCertificates[1:] {
		o.Intermediates.AddCert(c)
	}
	leaf := s.PeerCertificates[0]
	if _, err := leaf.Verify(o); err != nil {
		return err
	}
	if names, _ := pki.Names(leaf); !slices.Contains(names, providerName) {
		return errors.New("the provider has another name")
	}
	return nil
}

// request sends one, and keeps what became of it.
func (t *traffic) request(ctx context.Context, client *http.Client, way, url string) {
	started := time.Now()
	state, err := exchange(client, url)
	if err != nil && ctx.Err() != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.failures = append(t.failures, fmt.Sprintf("%s: %v", way, err))
		return
	}
	t.counts[way]++
	serial := state.PeerCertificates[0].SerialNumber.Text(16)
	if way == kept {
		t.kept = serial
		return
	}
	if state.DidResume {
		t.resumed++
	}
	if t.served = append(t.served, answer{started, serial}); len(t.served) > 1000 {
		t.served = t.served[500:]
	}
}

func exchange(client *http.Client, url string) (*tls.ConnectionState, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, err
	}
	if want := "answer to " + req.URL.Path; res.StatusCode != http.StatusOK || string(body) != want {
		return nil, fmt.Errorf("answered %d %q, want %q", res.StatusCode, body, want)
	}
	return res.TLS, nil
}

// check wants that every peer is answered once more, and that nothing ever failed.
func (t *traffic) check(ts *testscript.TestScript) {
	before := t.sum(ts)
	until(ts, "all peers are answered once more", func() bool {
		now := t.sum(ts)
		return now[kept] > before[kept] && now[fresh] > before[fresh] && now[resumed] > before[resumed]
	})
}

// sum counts, and fails if a request failed.
func (t *traffic) sum(ts *testscript.TestScript) map[string]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.failures) > 0 {
		ts.Fatalf("%d requests failed, %d were answered: %q", len(t.failures), t.counts[kept]+t.counts[fresh]+t.counts[resumed], t.failures[:min(5, len(t.failures))])
	}
	out := map[string]int{}
	for way, n := range t.counts {
		out[way] = n
	}
	return out
}

// serves wants that all connections that begin now get one certificate.
func (t *traffic) serves(ts *testscript.TestScript, serial string) {
	now := time.Now()
	until(ts, "new connections are answered", func() bool {
		t.sum(ts)
		t.mu.Lock()
		defer t.mu.Unlock()
		n := 0
		for _, a := range t.served {
			if a.started.Before(now) {
				continue
			}
			if n++; a.serial != serial {
				ts.Fatalf("a new connection got serial %s, want %s", a.serial, serial)
			}
		}
		return n >= 5
	})
}

// end waits until all peers have gone.
func (t *traffic) end() {
	t.stop()
	t.done.Wait()
}
