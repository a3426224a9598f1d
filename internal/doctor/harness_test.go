package doctor

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/manage"
	"github.com/spinecert/spinecert/internal/state"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/internal/testprogram"
	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/trust"
)

const (
	fqdn    = "pcs.thirdparty.nhs.uk"
	farName = "sds.national.ncrs.nhs.uk"
	long    = 30 * time.Second // beyond it something never happens
)

// ward is a host without a daemon: files, a CRL server, a service, and a far end.
type ward struct {
	t    *testing.T
	dir  string
	root *testpki.Authority
	sub  *testpki.Authority
	leaf *testpki.Leaf

	environment string // keys of the environment, beside profile and trust
	profile     string
	inbound     string // keys of the inbound tunnel
	outbound    string // keys of the outbound tunnel; "" is no such tunnel
	listens     string // where it listens
	slot        string // more keys of the slot
	extra       string // more of the configuration
	keeps       bool   // generations outlive examine

	server  *lists
	service string // address that the inbound tunnel forwards to
	now     time.Time
	state   string // of the tunnels
	in      func(*Inside)
}

// lists is a CRL server.
type lists struct {
	address string
	mu      sync.Mutex
	body    map[string][]byte
	asked   map[string]int
}

func (l *lists) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	body, ok := l.body[r.URL.Path]
	l.asked[r.URL.Path]++
	l.mu.Unlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	_, _ = w.Write(body)
}

func (l *lists) put(path string, body []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if body == nil {
		delete(l.body, path)
		return
	}
	l.body[path] = body
}

func (l *lists) times(path string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.asked[path]
}

// newWard is a host where all is well.
func newWard(t *testing.T) *ward {
	t.Helper()
	w := &ward{t: t, dir: t.TempDir(), profile: "private", now: time.Now(), state: "open",
		server: &lists{body: map[string][]byte{}, asked: map[string]int{}}, in: func(*Inside) {}}
	if err := os.Chmod(w.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.server.address = "http://" + l.Addr().String()
	server := &http.Server{Handler: w.server, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	w.environment = fmt.Sprintf("revocation: require, crl: {hosts: [%q]}", l.Addr().String())
	w.root = testpki.NewRoot(t, testpki.KeyType("rsa-2048"))
	w.sub = w.root.SubCA(t, testpki.KeyType("rsa-2048"), testpki.CDP(w.server.address+"/root.crl"))
	w.publish(w.root, "/root.crl")
	w.publish(w.sub, "/sub.crl")
	w.write("trust.pem", w.sub.BundlePEM(), 0o644)
	w.serve(w.issue(fqdn))
	w.service = w.listen()
	w.listens = `{unix: "` + w.path("sds.sock") + `"}`
	w.inbound = "peers: [proxy.national.ncrs.nhs.uk]"
	return w
}

func (w *ward) publish(ca *testpki.Authority, path string, opts ...testpki.CRLOption) {
	w.t.Helper()
	w.server.put(path, ca.CRL(w.t, append([]testpki.CRLOption{testpki.IDP(w.server.address + path)}, opts...)...))
}

// issue makes a leaf as those of Spine are.
func (w *ward) issue(name string, opts ...testpki.Option) *testpki.Leaf {
	w.t.Helper()
	return w.sub.Issue(w.t, append([]testpki.Option{testpki.DNS(name), testpki.KeyType("rsa-2048"), testpki.CDP(w.server.address + "/sub.crl")}, opts...)...)
}

// serve puts a leaf where the slot finds it.
func (w *ward) serve(leaf *testpki.Leaf) {
	w.t.Helper()
	w.leaf = leaf
	w.write("pcs.crt", leaf.FullChainPEM(), 0o644)
	w.write("pcs.key", leaf.KeyPEM(), 0o600)
}

func (w *ward) path(name string) string { return filepath.Join(w.dir, name) }

func (w *ward) write(name string, data []byte, mode os.FileMode) string {
	w.t.Helper()
	testpki.WriteFile(w.t, w.path(name), data, mode)
	return w.path(name)
}

// listen is a service that takes connections until the test ends.
func (w *ward) listen() string {
	w.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.Close()
		}
	}()
	return l.Addr().String()
}

// deadAddress is one where nothing listens.
func (w *ward) deadAddress() string {
	w.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (w *ward) load() *config.Config {
	w.t.Helper()
	tunnels := fmt.Sprintf("  ssp-in: {direction: inbound, listen: [\"127.0.0.1:1\"], forward: %q, slot: pcs, %s}\n", w.service, w.inbound)
	if w.outbound != "" {
		tunnels += fmt.Sprintf("  sds-out: {direction: outbound, listen: [%s], slot: pcs, %s}\n", w.listens, w.outbound)
	}
	text := fmt.Sprintf("default_environment: t\nenvironments:\n  t: {profile: %s, trust: [trust.pem], %s}\nslots:\n  pcs: {fqdn: %s, files: {certificate: pcs.crt, key: pcs.key}%s}\ntunnels:\n%sadmin: {socket: {path: admin.sock}}\nstate: {directory: state}\n%s",
		w.profile, w.environment, fqdn, w.slot, tunnels, w.extra)
	w.write("spinecert.yaml", []byte(text), 0o600)
	c, err := config.Load(w.path("spinecert.yaml"))
	if err != nil {
		w.t.Fatalf("%v\n%s", err, text)
	}
	return c
}

// examine reads everything, as a daemon would, and looks at it.
func (w *ward) examine() []Line {
	w.t.Helper()
	c := w.load()
	ctx, cancel := context.WithTimeout(w.t.Context(), long)
	defer cancel()
	dir, err := state.Lock(c.State.Directory, state.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	defer dir.Close()
	plan := manage.Plan(c, dir)
	for i := range plan.Environments {
		// A far end is judged as its tunnel judges it, with lists that are fetched for it.
		plan.Environments[i].Fetch = rotate.CRLFetch{}
		if w.outbound != "" {
			plan.Environments[i].Fetch = rotate.CRLFetch{Hosts: c.Environments[i].CRL.Hosts, Refresh: time.Hour, Timeout: long}
		}
	}
	running, stop := context.WithCancel(ctx)
	options := rotate.Options{CRLs: dir}
	if w.keeps {
		options.Store = dir
	}
	keeper, ended := rotate.New(options), make(chan error, 1)
	go func() { ended <- keeper.Run(running) }()
	defer func() { stop(); <-ended }()
	if err := keeper.Apply(ctx, plan); err != nil {
		w.t.Fatal(err)
	}
	if w.outbound != "" {
		w.fetched(ctx, keeper)
	}
	for w.keeps { // it is saved behind
		if r, err := dir.Current("pcs"); err == nil && r.Number > 0 {
			break
		}
		if ctx.Err() != nil {
			w.t.Fatal("generation 1 is not saved")
		}
		time.Sleep(time.Millisecond)
	}
	in := Inside{Now: w.now, Config: c, UID: os.Getuid(), Directory: dir, Environments: keeper.Environments(), Slots: keeper.Slots()}
	for _, t := range c.Tunnels {
		wired := Wired{Config: t, State: w.state, Listen: []string{"127.0.0.1:1"}}
		if t.Direction == config.Outbound {
			wired.Listen = []string{t.Listen[0].Address}
			wired.Endpoint, err = keeper.Slot(t.Slot).Endpoint(rotate.EndpointConfig{Role: rotate.Client, Peers: trust.Names(t.Peers...), MinVersion: t.TLS.MinVersion,
				MaxVersion: t.TLS.MaxVersion, ServerName: t.ServerName, Audit: t.Audit, Late: true, Revocation: trust.Mode(t.Revocation)})
			if err != nil {
				w.t.Fatal(err)
			}
		}
		in.Tunnels = append(in.Tunnels, wired)
	}
	w.in(&in)
	return in.Examine(ctx)
}

// fetched waits until every list that is known of is in force.
func (w *ward) fetched(ctx context.Context, keeper *rotate.Keeper) {
	w.t.Helper()
	for ctx.Err() == nil {
		missing := len(keeper.Environments()[0].CRLs()) == 0
		for _, st := range keeper.Environments()[0].CRLs() {
			missing = missing || st.CRL == nil
		}
		if !missing {
			return
		}
		time.Sleep(time.Millisecond)
	}
	w.t.Fatalf("the lists do not come: %+v", keeper.Environments()[0].CRLs())
}

// far starts openssl s_server with a certificate of the PKI and these options. It
// asks for certificates of ca.
func (w *ward) far(leaf *testpki.Leaf, ca *testpki.Authority, options ...string) string {
	w.t.Helper()
	openssl := testprogram.Need(w.t, "openssl")
	cert, key := w.write("far.crt", leaf.CertPEM(), 0o644), w.write("far.key", leaf.KeyPEM(), 0o600)
	chain, cas := w.write("far.chain", leaf.ChainPEM(), 0o644), w.write("far.cas", ca.BundlePEM(), 0o644)
	args := append([]string{"s_server", "-accept", "127.0.0.1:0", "-cert", cert, "-key", key, "-cert_chain", chain, "-CAfile", cas}, options...)
	cmd := exec.Command(openssl, args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	in, err := cmd.StdinPipe() // s_server ends with its input
	if err != nil {
		w.t.Fatal(err)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	address, heard := make(chan string, 1), &strings.Builder{}
	go func() {
		s := bufio.NewScanner(out)
		for s.Scan() {
			heard.WriteString(s.Text() + "\n")
			if a, ok := strings.CutPrefix(s.Text(), "ACCEPT "); ok {
				address <- a
			}
		}
		close(address)
	}()
	w.t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Process.Kill()
		for range address { // until it is silent
		}
		_ = cmd.Wait()
		if w.t.Failed() {
			w.t.Logf("openssl %q said:\n%s", args, heard)
		}
	})
	select {
	case a, ok := <-address:
		if ok {
			return a
		}
	case <-time.After(long):
	}
	w.t.Fatal("openssl s_server does not listen")
	return ""
}

func text(lines []Line) string {
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintln(&b, l)
		if l.Hint != "" {
			fmt.Fprintf(&b, "  hint: %s\n", l.Hint)
		}
	}
	return b.String()
}

// matching returns the lines that begin as pattern says.
func matching(lines []Line, pattern string) []Line {
	var out []Line
	for _, l := range lines {
		if regexp.MustCompile("^" + pattern).MatchString(l.String()) {
			out = append(out, l)
		}
	}
	return out
}
