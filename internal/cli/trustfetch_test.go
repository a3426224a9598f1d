package cli

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/trust"
)

// publisher stands for where the NHS publishes its CAs. It has the real ones.
type publisher struct {
	server *httptest.Server
	files  map[string][]byte // by path
	asked  atomic.Int64
	hang   atomic.Bool
}

const (
	liveRoot, liveSub = "NHS Root Authority G2", "NHS Authentication G2"
	ptlRoot, intSub   = "NHS PTL Root Authority G2", "NHS INT Authentication G2"
)

// realCAs are the certificates of the NHS by name.
func realCAs(t *testing.T) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for _, name := range []string{"live-bundle.pem", "int-bundle.pem"} {
		data, err := os.ReadFile(filepath.Join(nhsFiles(t), name))
		if err != nil {
			t.Fatal(err)
		}
		certs, err := pki.ParseCertificates(data)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range certs {
			if k, ok := trust.Known(c); ok {
				out[k.Name] = c.Raw
			}
		}
	}
	return out
}

func newPublisher(t *testing.T) *publisher {
	t.Helper()
	nhs := realCAs(t)
	p := &publisher{files: map[string][]byte{"/live/root": nhs[liveRoot], "/live/sub": pemBlock("CERTIFICATE", nhs[liveSub]), "/ptl/root": nhs[ptlRoot], "/ptl/sub": nhs[intSub]}}
	p.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.asked.Add(1)
		if p.hang.Load() {
			<-r.Context().Done()
		}
		data := p.files[r.URL.Path]
		if data == nil {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_, _ = w.Write(data)
	}))
	t.Cleanup(p.server.Close)
	return p
}

func (p *publisher) source() publishedCAs {
	return publishedCAs{
		addresses: func(world string) []trust.PublishedCA {
			return []trust.PublishedCA{{Address: p.server.URL + "/" + world + "/root", World: world, Root: true}, {Address: p.server.URL + "/" + world + "/sub", World: world}}
		},
		hosts: []string{strings.TrimPrefix(p.server.URL, "http://")},
	}
}

// fetchHost is a directory with a configuration; environment live trusts the real
// root, int the real root of path to live, other and mixed what their names say.
func fetchHost(t *testing.T) string {
	t.Helper()
	dir, nhs := t.TempDir(), realCAs(t)
	put := func(name string, der ...[]byte) {
		var data []byte
		for _, d := range der {
			data = append(data, pemBlock("CERTIFICATE", d)...)
		}
		testpki.WriteFile(t, filepath.Join(dir, name), data, 0o600)
	}
	own := testpki.NewRoot(t).Cert.Raw
	put("live.pem", nhs[liveRoot])
	put("int.pem", nhs[ptlRoot])
	put("own.pem", own)
	put("mixed.pem", nhs[liveRoot], nhs[ptlRoot])
	config := ""
	for name, file := range map[string]string{"live": "live", "prod": "live", "int": "int", "dep": "own", "acme": "own", "mixed": "mixed"} {
		config += fmt.Sprintf("  %s: {profile: nhs-g2, trust: [%s.pem], revocation: prefer}\n", name, file)
	}
	testpki.WriteFile(t, filepath.Join(dir, "spinecert.yaml"), []byte("environments:\n"+config+"admin: {socket: {path: none.sock}}\nstate: {directory: state}\n"), 0o600)
	return dir
}

// trustFetch runs the command beside no daemon, or beside the one on socket.
func trustFetch(t *testing.T, p *publisher, dir, socket string, change func(*trustFetchOptions)) (*trustFetchResult, error) {
	t.Helper()
	a := &app{in: strings.NewReader(""), out: io.Discard, err: io.Discard, global: globalOptions{config: filepath.Join(dir, "spinecert.yaml"), socket: socket}}
	o := &trustFetchOptions{source: p.source()}
	o.find(a)
	o.known, o.now = true, time.Now()
	change(o)
	return runTrustFetch(t.Context(), o, a.global)
}

func addedFiles(t *testing.T, dir string) int {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "state", "trust.d", "*", "*.pem"))
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

// TestTrustFetchAddsWhatIsMissing: of the world of the environment, which its CAs
// tell, else its name, else the operator.
func TestTrustFetchAddsWhatIsMissing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		environment, said string
		world             string
		added             []string // common names
		already           int
	}{
		{"live", "", trust.WorldLive, []string{liveSub}, 1},
		{"prod", "", trust.WorldLive, []string{liveSub}, 1},
		{"int", "", trust.WorldPTL, []string{intSub}, 1},
		{"int", "ptl", trust.WorldPTL, []string{intSub}, 1},
		{"dep", "", trust.WorldPTL, []string{ptlRoot, intSub}, 0},
		{"acme", "live", trust.WorldLive, []string{liveRoot, liveSub}, 0},
		{"mixed", "ptl", trust.WorldPTL, []string{intSub}, 1},
	} {
		t.Run(c.environment+c.said, func(t *testing.T) {
			t.Parallel()
			dir := fetchHost(t)
			r, err := trustFetch(t, newPublisher(t), dir, "", func(o *trustFetchOptions) { o.environment, o.world, o.yes = c.environment, c.said, true })
			if err != nil {
				t.Fatal(err, hintOf(err))
			}
			if !r.Done || r.Daemon || r.Published != c.world || len(r.Fetched) != 2 || len(r.Added) != len(c.added) || len(r.Already) != c.already {
				t.Errorf("%+v", r)
			}
			for i, name := range c.added {
				if !strings.HasPrefix(r.Added[i].Known, name+", NHS ") {
					t.Errorf("added %+v, want %s", r.Added[i], name)
				}
			}
			if n := addedFiles(t, dir); n != len(c.added) {
				t.Errorf("%d files in trust.d", n)
			}
			if out := text(r); !strings.Contains(out, "known by its fingerprint") || !strings.Contains(out, offlineNote) {
				t.Error(out)
			}
			// Once more: nothing is left to do.
			r, err = trustFetch(t, newPublisher(t), dir, "", func(o *trustFetchOptions) { o.environment, o.world, o.yes = c.environment, c.said, true })
			if err != nil || len(r.Added) != 0 || !r.Fetched[0].Already || !r.Fetched[1].Already {
				t.Errorf("once more: %+v, %v", r, err)
			}
		})
	}
}

// TestTrustFetchRefuses: all, or nothing; and nothing that the program does not know.
func TestTrustFetchRefuses(t *testing.T) {
	t.Parallel()
	stranger := testpki.NewRoot(t, testpki.Name(liveRoot)).Cert.Raw
	for name, c := range map[string]struct {
		environment, said string
		files             func(p *publisher)
		exit              int
		says              string
	}{
		"a stranger of the same name": {"live", "", func(p *publisher) { p.files["/live/root"] = stranger }, exitJudged, "none of the NHS CAs"},
		"a stranger, and one missing": {"live", "", func(p *publisher) { p.files["/live/root"], p.files["/live/sub"] = stranger, nil }, exitJudged, "none of the NHS CAs"},
		"the other world":             {"live", "", func(p *publisher) { p.files["/live/root"] = p.files["/ptl/root"] }, exitJudged, "does not belong there"},
		"a subCA for a root":          {"live", "", func(p *publisher) { p.files["/live/root"] = p.files["/live/sub"] }, exitJudged, "does not belong there"},
		"two at once": {"live", "", func(p *publisher) {
			p.files["/live/sub"] = append(bytes.Clone(p.files["/live/sub"]), pemBlock("CERTIFICATE", p.files["/live/root"])...)
		}, exitJudged, "2 certificates"},
		"noise":               {"live", "", func(p *publisher) { p.files["/live/sub"] = []byte("<html>") }, exitJudged, "fetch "},
		"one is missing":      {"live", "", func(p *publisher) { delete(p.files, "/live/sub") }, exitFailed, "404"},
		"too large":           {"live", "", func(p *publisher) { p.files["/live/sub"] = make([]byte, maxPublished+1) }, exitFailed, "fetch "},
		"no world":            {"acme", "", nil, exitUsage, "of live or of path to live"},
		"two worlds":          {"mixed", "", nil, exitUsage, "of live or of path to live"},
		"against its own CAs": {"live", "ptl", nil, exitUsage, "do not belong there"},
		"no such world":       {"live", "moon", nil, exitUsage, "unknown"},
		"no such environment": {"moon", "", nil, exitUsage, "no environment"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, p := fetchHost(t), newPublisher(t)
			if c.files != nil {
				c.files(p)
			}
			r, err := trustFetch(t, p, dir, "", func(o *trustFetchOptions) { o.environment, o.world, o.yes = c.environment, c.said, true })
			exit, _ := classify(err)
			if r != nil || err == nil || exit != c.exit || !strings.Contains(err.Error(), c.says) || hintOf(err) == "" {
				t.Errorf("exit %d, %v; hint %s; %+v", exit, err, hintOf(err), r)
			}
			if n := addedFiles(t, dir); n != 0 {
				t.Errorf("%d were added", n)
			}
			if n := p.asked.Load(); n > 0 && c.exit == exitUsage {
				t.Errorf("%d requests", n)
			}
		})
	}
}

// TestTrustFetchAsks: nothing is added that nobody confirmed.
func TestTrustFetchAsks(t *testing.T) {
	t.Parallel()
	dir, p := fetchHost(t), newPublisher(t)
	r, err := trustFetch(t, p, dir, "", func(o *trustFetchOptions) { o.environment = "live" })
	if exit, _ := classify(err); exit != exitUsage || !strings.Contains(hintOf(err), "--yes") || strings.Contains(hintOf(err), "sha256") || r == nil || r.Done || len(r.Added) != 1 {
		t.Errorf("nobody to ask: %v, %+v", err, r)
	}
	for _, typed := range []string{"n\n", "", "y\n"} {
		want := strings.Count(typed, "y")
		var asked bytes.Buffer
		r, err := trustFetch(t, p, dir, "", func(o *trustFetchOptions) {
			o.environment, o.ask = "live", &question{in: strings.NewReader(typed), out: &asked}
		})
		if (err == nil) != (want == 1) || r.Done != (want == 1) || addedFiles(t, dir) != want {
			t.Errorf("%q: %v, %+v", typed, err, r)
		}
		if text := asked.String(); !strings.Contains(text, p.server.URL+"/live/sub: "+liveSub) || !strings.Contains(text, "Add this CA to environment live?") {
			t.Errorf("asked: %s", text)
		}
	}
}

// TestTrustFetchThroughDaemon: with one that runs it goes through its socket.
func TestTrustFetchThroughDaemon(t *testing.T) {
	t.Parallel()
	dir := fetchHost(t)
	sockets := serveTrustDaemons(t, t.TempDir())
	r, err := trustFetch(t, newPublisher(t), dir, filepath.Join(sockets, "one"), func(o *trustFetchOptions) { o.yes = true })
	if err != nil || !r.Done || !r.Daemon || r.Environment != "live" || len(r.Added) != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	if addedFiles(t, dir) != 0 {
		t.Error("it wrote beside the daemon")
	}
	if out := text(r); !strings.Contains(out, "crl.proxy is not known") { // its configuration is none of ours
		t.Error(out)
	}
}

// TestTrustFetchProxy: that of the environment, unless another is named.
func TestTrustFetchProxy(t *testing.T) {
	t.Parallel()
	dir, p := fetchHost(t), newPublisher(t)
	var through atomic.Int64
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		through.Add(1)
		_, _ = w.Write(p.files[r.URL.Path])
	}))
	t.Cleanup(proxy.Close)
	file := filepath.Join(dir, "spinecert.yaml")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	testpki.WriteFile(t, file, bytes.ReplaceAll(data, []byte("revocation: prefer"), []byte("revocation: prefer, crl: {proxy: \""+proxy.URL+"\"}")), 0o600)
	none := ""
	for _, c := range []struct {
		proxy *string
		want  int64
	}{{nil, 2}, {&none, 0}, {&proxy.URL, 2}} {
		through.Store(0)
		_, err := trustFetch(t, p, dir, "", func(o *trustFetchOptions) { o.environment, o.yes, o.proxy = "live", true, c.proxy })
		if err != nil || through.Load() != c.want {
			t.Errorf("%d through the proxy, want %d; %v", through.Load(), c.want, err)
		}
	}
}

// TestTrustFetchGivesUp: who is asked and does not answer has a time limit.
func TestTrustFetchGivesUp(t *testing.T) {
	t.Parallel()
	dir, p := fetchHost(t), newPublisher(t)
	p.hang.Store(true)
	o := &trustFetchOptions{source: p.source()}
	o.environment, o.config, o.now, o.known, o.yes = "live", filepath.Join(dir, "spinecert.yaml"), time.Now(), true, true
	o.daemon = daemonAddress{socket: filepath.Join(dir, "none.sock")}
	r, err := runTrustFetch(t.Context(), o, globalOptions{timeout: 100 * time.Millisecond})
	if exit, _ := classify(err); r != nil || exit != exitFailed || addedFiles(t, dir) != 0 || !strings.Contains(hintOf(err), "--proxy") {
		t.Errorf("%v, %+v", err, r)
	}
}
