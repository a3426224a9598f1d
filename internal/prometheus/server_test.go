package prometheus

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/daemon"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/internal/testprogram"
)

const (
	// patience is how long anything may take; each takes a second or two.
	patience = time.Minute
	day      = 24 * time.Hour
)

// TestMain lets the test binary be spinecertd too.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "spinecertd" {
		os.Exit(daemon.Main(context.Background(), "v0.0.0-test", os.Args[1:], os.Stdout, os.Stderr))
	}
	if os.Getenv("GORACE") == "" { // a program with the race detector otherwise sleeps a second before it ends
		_ = os.Setenv("GORACE", "atexit_sleep_ms=0")
	}
	os.Exit(m.Run())
}

// host is a host with slot pcs, a daemon that serves it in a tunnel, and a Prometheus.
type host struct {
	t               *testing.T
	dir             string
	web, prometheus string // addresses
	sub             *testpki.Authority
	daemon          *exec.Cmd
	said            *testprogram.Output
}

// newHost makes a host. more is what admin.http has beside its address.
func newHost(t *testing.T, more string) *host {
	t.Helper()
	h := &host{t: t, dir: t.TempDir(), web: freeAddress(t), prometheus: freeAddress(t)}
	h.sub = testpki.NewRoot(t, testpki.Name("Test Root Authority")).SubCA(t, testpki.Name("Test Authentication"))
	h.write("trust.pem", h.sub.BundlePEM())
	h.write("sub.crl", h.sub.CRL(t))
	h.write("root.crl", h.sub.Root().CRL(t))
	socket, err := os.MkdirTemp("", "prom") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(socket) })
	h.write("spinecert.yaml", fmt.Appendf(nil, `environments:
  live: {profile: private, trust: [trust.pem], revocation: require, crl: {files: [sub.crl, root.crl]}}
slots:
  pcs: {fqdn: pcs.thirdparty.nhs.uk, files: {certificate: pcs.crt, key: pcs.key}, watch: {poll: 100ms}}
tunnels:
  ssp-in: {direction: inbound, listen: [%q], forward: %q, slot: pcs, peers: [proxy.national.ncrs.nhs.uk]}
admin: {socket: {path: %s/admin.sock, group: "%d"}, writers: ["%d"], http: {listen: %q%s}}
state: {directory: state}
`, freeAddress(t), freeAddress(t), socket, os.Getgid(), os.Getuid(), h.web, more))
	self, err := os.Executable()
	if err == nil {
		err = os.Symlink(self, filepath.Join(h.dir, "spinecertd"))
	}
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// addresses counts loopback addresses given away.
var addresses atomic.Int64

// freeAddress returns an address that nothing listens on. Each has a loopback address of its own, so that no
// connection from 127.0.0.1 gets the port first.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", fmt.Sprintf("127.%d.77.%d:0", 64+os.Getpid()%128, addresses.Add(1)))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (h *host) write(name string, data []byte) {
	h.t.Helper()
	path := filepath.Join(h.dir, name)
	testpki.WriteFile(h.t, path+".new", data, 0o600)
	if err := os.Rename(path+".new", path); err != nil {
		h.t.Fatal(err)
	}
}

// renew puts a certificate with a life from now on into the files of the slot, and returns its end.
func (h *host) renew(life time.Duration) time.Time {
	h.t.Helper()
	now := time.Now()
	leaf := h.sub.Issue(h.t, testpki.DNS("pcs.thirdparty.nhs.uk"), testpki.Validity(now.Add(-time.Hour), now.Add(life)))
	h.write("pcs.key", leaf.KeyPEM())
	h.write("pcs.crt", leaf.FullChainPEM())
	return leaf.Cert.NotAfter
}

func (h *host) startDaemon() {
	h.t.Helper()
	h.daemon, h.said = testprogram.Start(h.t, nil, h.dir, filepath.Join(h.dir, "spinecertd"), "--config", "spinecert.yaml")
	said := h.said
	h.t.Cleanup(func() {
		if out := said.String(); strings.Contains(out, "DATA RACE") || strings.Contains(out, "panic:") {
			h.t.Errorf("the daemon has a data race or a panic:\n%s", out)
		}
	})
}

// stopDaemon ends the daemon as a service manager does. The test waits for it, not for who started it.
func (h *host) stopDaemon() {
	h.t.Helper()
	if err := h.daemon.Process.Signal(syscall.SIGTERM); err != nil {
		h.t.Fatal(err)
	}
	h.until("the daemon ends", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", h.daemon.Process.Pid))
		return err != nil || bytes.Contains(stat, []byte(") Z "))
	})
}

// until waits for something to be so.
func (h *host) until(what string, ok func() bool) {
	h.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			h.t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// get returns status and body; 0 where nobody answers.
func get(t *testing.T, address string) (int, []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	return res.StatusCode, body
}

// block returns the first block of a page that holds a text, without its fences.
func block(t *testing.T, page, text string) string {
	t.Helper()
	parts := strings.Split(string(read(t, page)), "```")
	for i := 1; i < len(parts); i += 2 {
		if _, body, _ := strings.Cut(parts[i], "\n"); strings.Contains(body, text) {
			return body
		}
	}
	t.Fatalf("docs/%s has no block with %q", page, text)
	return ""
}

// startPrometheus starts it with a configuration of the manual: its own target, files and times put in.
func (h *host) startPrometheus(text string, put ...string) {
	h.t.Helper()
	for i := 0; i < len(put); i += 2 {
		if !strings.Contains(text, put[i]) {
			h.t.Fatalf("docs/prometheus.md has no %q", put[i])
		}
		text = strings.ReplaceAll(text, put[i], put[i+1])
	}
	h.write("prometheus.yml", []byte(text))
	promtool(h.t, "check", "config", filepath.Join(h.dir, "prometheus.yml"))
	testprogram.Start(h.t, nil, h.dir, testprogram.Need(h.t, "prometheus"), "--config.file=prometheus.yml", "--storage.tsdb.path=tsdb", "--web.listen-address="+h.prometheus)
}

// ask returns the data of an answer of Prometheus; false while there is none.
func (h *host) ask(path string, query url.Values, data any) bool {
	h.t.Helper()
	status, body := get(h.t, "http://"+h.prometheus+"/api/v1/"+path+"?"+query.Encode())
	if status == 0 || status == http.StatusServiceUnavailable { // it starts
		return false
	}
	answer := struct {
		Status string
		Error  string
		Data   any
	}{Data: data}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Status != "success" {
		h.t.Fatalf("%s %v: status %d, %s, %v", path, query, status, answer.Error, err)
	}
	return true
}

// series returns what a query finds: values by the labels that are named, with a slash between.
func (h *host) series(expr string, labels ...string) map[string]float64 {
	h.t.Helper()
	var data struct {
		Result []struct {
			Metric map[string]string
			Value  [2]any
		}
	}
	out := map[string]float64{}
	h.ask("query", url.Values{"query": {expr}}, &data)
	for _, r := range data.Result {
		var key []string
		for _, l := range labels {
			key = append(key, r.Metric[l])
		}
		out[strings.Join(key, "/")], _ = strconv.ParseFloat(fmt.Sprint(r.Value[1]), 64)
	}
	return out
}

// alert is one that Prometheus has.
type alert struct {
	State       string
	Labels      map[string]string
	Annotations map[string]string
}

// alerts returns what is active, by name and position.
func (h *host) alerts() map[string]alert {
	h.t.Helper()
	var data struct{ Alerts []alert }
	out := map[string]alert{}
	h.ask("alerts", nil, &data)
	for _, a := range data.Alerts {
		out[strings.Trim(a.Labels["alertname"]+"/"+a.Labels["position"], "/")] = a
	}
	return out
}
