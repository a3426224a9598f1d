package systemstory

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/box"
	"github.com/spinecert/spinecert/internal/hostbox"
	"github.com/spinecert/spinecert/internal/packaging"
	"github.com/spinecert/spinecert/internal/testpki"
)

const (
	ownName  = "pcs.thirdparty.nhs.uk"
	peerName = "proxy.national.ncrs.nhs.uk"
	address  = "127.0.0.1:4430" // of the tunnel
	service  = "127.0.0.1:8080" // behind it
	unit     = "spinecertd.service"
	confFile = "/etc/spinecert/spinecert.yaml"
	stateDir = "/var/lib/spinecert"
	dropIns  = "/etc/systemd/system/spinecertd.service.d/"
)

// config is what a host begins with. Parts of it are replaced.
const config = `environments:
  live: {profile: private, trust: [trust/live.pem], revocation: "off"}
slots:
  pcs: {fqdn: pcs.thirdparty.nhs.uk, files: {certificate: pcs/pcs.crt, key: pcs/pcs.key}, watch: {poll: 1s}}
tunnels:
  ssp-in: {direction: inbound, listen: ["127.0.0.1:4430"], forward: 127.0.0.1:8080, slot: pcs, peers: [proxy.national.ncrs.nhs.uk]}
admin: {http: {listen: "127.0.0.1:9464"}}
limits: {drain: 5s}
`

// isLong reports whether the long form is asked for.
func isLong() bool { return os.Getenv("SPINECERT_SYSTEM_TESTS") == "long" }

// long skips what is part of the long form alone.
func long(t *testing.T) {
	t.Helper()
	if !isLong() {
		t.Skip("part of the long form: make systemd-test")
	}
}

// debs builds the package, once for each version, and keeps it until all tests have ended.
var debs = struct {
	sync.Mutex
	dir  string
	path map[string]string
}{path: map[string]string{}}

func deb(t *testing.T, version string) string {
	t.Helper()
	debs.Lock()
	defer debs.Unlock()
	if debs.path[version] != "" {
		return debs.path[version]
	}
	data, err := os.ReadFile(packaging.DebOf(t, version))
	if err == nil && debs.dir == "" {
		debs.dir, err = os.MkdirTemp("", "spinecert-debs-")
	}
	to := filepath.Join(debs.dir, version+".deb")
	if err == nil {
		err = os.WriteFile(to, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	debs.path[version] = to
	return to
}

func TestMain(m *testing.M) {
	// Most of the time a test waits for its box: more of them go on at once than there are processors.
	flag.Parse()
	if err := flag.Set("test.parallel", strconv.Itoa(max(4, runtime.GOMAXPROCS(0)))); err != nil {
		panic(err)
	}
	code := m.Run()
	if debs.dir != "" {
		_ = os.RemoveAll(debs.dir)
	}
	os.Exit(code)
}

// host is a box with Spinecert installed, a PKI, and a service behind the tunnel.
type host struct {
	hostbox.Host
	*material
	t *testing.T
}

// material is shared by the parts of a test.
type material struct {
	sub *testpki.Authority
	own *testpki.Leaf // what the files of the slot hold
	who *testpki.Leaf // the peer
}

// part is the host for a part of the test.
func (h *host) part(t *testing.T) *host {
	p := *h
	p.t, p.Host = t, h.Host.For(t)
	return &p
}

// bare boots a box that has nothing of Spinecert.
func bare(t *testing.T) *host {
	t.Helper()
	b := box.Start(t)
	h := &host{Host: hostbox.New(t, b, "/usr/bin/spinecert"), material: &material{}, t: t}
	h.sub = testpki.NewRoot(t, testpki.KeyType("ecdsa-p256"), testpki.Name("Test Root Authority")).SubCA(t, testpki.KeyType("ecdsa-p256"), testpki.Name("Test Authentication"))
	h.who = h.issue(peerName)
	h.backend()
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		out, _ := h.Exec(ctx, "journalctl", "--no-pager", "-o", "short-monotonic")
		if t.Failed() {
			lines := slices.DeleteFunc(strings.Split(strings.TrimSpace(out), "\n"), func(line string) bool {
				return traceLine.MatchString(line) // of a daemon that was aborted
			})
			t.Logf("the journal ends with\n%s", strings.Join(lines[max(0, len(lines)-120):], "\n"))
		}
		for _, word := range []string{"panic:", "PRIVATE KEY", "fatal error:"} {
			if strings.Contains(out, word) {
				t.Errorf("the journal has %q", word)
			}
		}
	})
	return h
}

var traceLine = regexp.MustCompile(`fp=0x|\.go:\d+ \+0x|\]: (goroutine |created by |rip|cs |[fg]s |r\w+ +0x|\S+\(.*\)$)`)

// installed is a box with Spinecert installed and configured, but not started.
func installed(t *testing.T) *host {
	t.Helper()
	from := deb(t, packaging.Version)
	h := bare(t)
	packaging.Install(t, h.Box, from)
	h.configure()
	h.rotate()
	return h
}

// started is a box with a daemon that serves.
func started(t *testing.T) *host {
	t.Helper()
	h := installed(t)
	h.Run("systemctl", "start", unit)
	h.serves(h.own)
	return h
}

// issue returns a certificate of the environment.
func (h *host) issue(name string, opts ...testpki.Option) *testpki.Leaf {
	h.t.Helper()
	return h.sub.Issue(h.t, append([]testpki.Option{testpki.KeyType("ecdsa-p256"), testpki.DNS(name)}, opts...)...)
}

// configure writes the trust file, and the configuration with pairs replaced.
func (h *host) configure(pairs ...string) {
	h.t.Helper()
	text := config
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			h.t.Fatalf("there is no %q to be replaced in\n%s", pairs[i], text)
		}
		text = strings.Replace(text, pairs[i], pairs[i+1], 1)
	}
	h.Push("/etc/spinecert/trust/live.pem", h.sub.BundlePEM(), 0o644)
	h.Push(confFile, []byte(text), 0o644)
}

// rotate puts a new certificate and key into the files of the slot as root, each by rename.
func (h *host) rotate() *testpki.Leaf {
	h.t.Helper()
	h.own = h.issue(ownName)
	h.Push("/etc/spinecert/pcs/pcs.key.new", h.own.KeyPEM(), 0o640)
	h.Push("/etc/spinecert/pcs/pcs.crt.new", h.own.FullChainPEM(), 0o644)
	h.Run("sh", "-ec", "cd /etc/spinecert/pcs; chown root:spinecert pcs.key.new; mv pcs.key.new pcs.key; mv pcs.crt.new pcs.crt")
	return h.own
}

// dropIn writes a drop-in for the unit, or removes it if there are no lines.
func (h *host) dropIn(name string, lines ...string) {
	h.t.Helper()
	if len(lines) == 0 {
		h.Run("rm", dropIns+name)
	} else {
		h.Push(dropIns+name, []byte("[Service]\n"+strings.Join(lines, "\n")+"\n"), 0o644)
	}
	h.Run("systemctl", "daemon-reload")
}

// show returns a property of the unit.
func (h *host) show(property string) string {
	h.t.Helper()
	return h.Run("systemctl", "show", "--value", "-p", property, unit)
}

// property wants a property of the unit to become want.
func (h *host) property(property, want string) {
	h.t.Helper()
	var got string
	defer func() {
		if got != want {
			h.t.Logf("%s is %q", property, got)
		}
	}()
	h.Until(fmt.Sprintf("%s is %q", property, want), func() bool { got = h.show(property); return got == want })
}

// journal returns what the unit said since it was started last.
func (h *host) journal() string {
	h.t.Helper()
	return h.Run("journalctl", "--no-pager", "-o", "cat", "_SYSTEMD_INVOCATION_ID="+h.show("InvocationID"), "+", "INVOCATION_ID="+h.show("InvocationID"))
}

// logged wants words in one line of the log, of any daemon since the box was booted.
func (h *host) logged(words ...string) {
	h.t.Helper()
	h.Until(fmt.Sprintf("the log has %q", words), func() bool { return h.said(words...) })
}

// said reports whether a line of the log has all words.
func (h *host) said(words ...string) bool {
	h.t.Helper()
	return hasLine(h.Run("journalctl", "--no-pager", "-o", "cat", "-u", unit), words...)
}

// hasLine reports whether one line has all words.
func hasLine(text string, words ...string) bool {
next:
	for line := range strings.Lines(text) {
		for _, word := range words {
			if !strings.Contains(line, word) {
				continue next
			}
		}
		return true
	}
	return false
}

// ask returns how the daemon stands, and whether it answers.
func (h *host) ask() (admin.Status, bool) {
	h.t.Helper()
	a := h.Ask("status")
	var s admin.Status
	if a.Result == nil || string(a.Result) == "null" {
		return s, false
	}
	if err := json.Unmarshal(a.Result, &s); err != nil {
		h.t.Fatalf("status: %v\n%s", err, a.Result)
	}
	return s, s.PID != 0
}

// status is ask of a daemon that must answer.
func (h *host) status() admin.Status {
	h.t.Helper()
	s, ok := h.ask()
	if !ok {
		h.t.Fatal("spinecert status has no answer")
	}
	return s
}

// condition returns the condition of a code, and whether there is one.
func (h *host) condition(code string) (admin.Condition, bool) {
	h.t.Helper()
	for _, c := range h.status().Conditions {
		if string(c.Code) == code {
			return c, true
		}
	}
	return admin.Condition{}, false
}

// restarted waits until systemd has started the daemon anew, after the process that had pid, and it is ready.
func (h *host) restarted(pid string) {
	h.t.Helper()
	h.Until("the daemon was started again", func() bool {
		now := h.Run("systemctl", "show", "-p", "MainPID", "-p", "ActiveState", unit)
		return hasLine(now, "ActiveState=active") && !hasLine(now, "MainPID=0") && !slices.Contains(strings.Fields(now), "MainPID="+pid)
	})
}

// took logs how long something took.
func (h *host) took(what string, since time.Time) {
	h.t.Helper()
	h.t.Logf("%s: %s", what, time.Since(since).Round(time.Millisecond))
}
