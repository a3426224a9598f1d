package services

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testprogram"
)

const javaPassword = "change-this"

// java is a service in Java as docs/services/java.md has it: the context of the page in the
// server of testdata.
type java struct {
	h       *host
	page    *page
	path    string // of the program
	openssl string
	hook    string // the address where it is told
	daemon  string // spinecertd without the race detector
}

func newJava(t *testing.T) *java {
	t.Helper()
	j := &java{path: testprogram.Need(t, "java"), openssl: testprogram.Need(t, "openssl")}
	compile := testprogram.Need(t, "javac")
	source, err := filepath.Abs("testdata/Server.java")
	if err != nil {
		t.Fatal(err)
	}
	j.h, j.page = newHost(t, "ecdsa-p256"), openPage(t, "java.md")
	h := j.h
	h.write("SpineContext.java", []byte(j.page.block("In Java", "java")), 0o600)
	h.mustRun(compile, "-Xlint:all", "-Werror", "-d", h.dir, h.path("SpineContext.java"), source)
	for _, name := range []string{"password", "its-password"} { // that of the daemon, and that of the service
		h.write(name, []byte(javaPassword+"\n"), 0o600)
	}
	j.daemon = h.plainDaemon()
	return j
}

// plainDaemon builds spinecertd without the race detector, under which the 600,000 iterations
// of a PKCS#12 file take seconds for each. All other tests have it.
func (h *host) plainDaemon() string {
	h.t.Helper()
	cmd := exec.Command(testprogram.Need(h.t, "go"), "build", "-tags", "nethttpomithttp2", "-o", h.path("spinecertd"), "../../cmd/spinecertd")
	if out, err := cmd.CombinedOutput(); err != nil {
		h.t.Fatalf("go build: %v: %s", err, out)
	}
	return h.path("spinecertd")
}

// start starts the server and its hook.
func (j *java) start(directory, address string) *process {
	h := j.h
	h.t.Helper()
	if j.hook == "" {
		j.hook = h.freeAddress()
	}
	return h.launch(j.path, "-Xmx128m", "-cp", h.dir, "Server", directory, h.path("its-password"), h.ip, port(address), port(j.hook))
}

// pkcs12 is made by OpenSSL, with few iterations: it is for the baseline.
func (j *java) pkcs12(h *host) []byte {
	h.t.Helper()
	h.mustRun(j.openssl, "pkcs12", "-export", "-in", "pcs.crt", "-inkey", "pcs.key", "-passout", "file:password", "-iter", "1000", "-out", "openssl.p12")
	return mustRead(h.t, h.path("openssl.p12"))
}

// program is the service for a campaign.
func (j *java) program(replace ...string) program {
	return program{
		service: "java",
		files: map[string]func(*host) []byte{
			"keystore.p12": j.pkcs12, "trust.pem": contents["trust-pem"], "crl.pem": contents["crl-pem"],
		},
		start: func(_ *host, directory, address string) *process { return j.start(directory, address) },
		reload: func(h *host, _ *process, _ string) {
			h.mustRun(testprogram.Need(h.t, "curl"), "-fsS", "-X", "POST", "http://"+j.hook+"/reload")
		},
		services: func(h *host, directory, address string) string {
			_, group := ids()
			text := j.page.block("In spinecert.yaml", "yaml", "/etc/pcs/spine", directory, "127.0.0.1:8443", address, "group: pcs-tls", `group: "`+group+`"`)
			text = replaced(h.t, text, replace...)
			return strings.ReplaceAll(text, "/etc/pcs/password", h.path("password"))
		},
	}
}

// byHook is the way to reload of its section.
func (j *java) byHook() []string {
	j.hook = j.h.freeAddress()
	return []string{"    reload: none\n", j.page.block("By a hook", "yaml", "/usr/bin/curl", testprogram.Need(j.h.t, "curl"), "127.0.0.1:8444", j.hook)}
}

// serve is that of a program, with the daemon that has no race detector.
func (j *java) serve(p program) (address string) {
	h := j.h
	h.t.Helper()
	address = h.freeAddress()
	h.mkdir("spine")
	h.configure(p.services(h, h.path("spine"), address))
	h.daemon = h.start(exec.Command(j.daemon, "--config", h.config), "spinecertd")
	h.until("the daemon answers", func() bool {
		exit, _, _ := h.spinecert("status")
		return exit == 0
	})
	h.until("the first set is there", func() bool { return h.service("java").Delivered.Generation == 1 })
	p.start(h, h.path("spine"), address)
	h.listening(address)
	if exit, code := h.deliver("java"); exit != 0 {
		h.t.Fatalf("spinecert deliver java --now: exit status %d, %s: %+v", exit, code, h.service("java"))
	}
	h.settled("java", address)
	return address
}

const (
	javaAtLeast = 5           // rotations
	javaAtMost  = time.Minute // for more of them
	longProof   = "within: 1m"
)

// TestJavaRotates ends early on a busy machine: of each rotation daemon and service make three
// keys, with 600,000 iterations for each.
func TestJavaRotates(t *testing.T) {
	if testing.Short() {
		t.Skip("50 files of PKCS#12 take a minute")
	}
	parallel(t)
	j := newJava(t)
	h, p := j.h, j.program("within: 30s", longProof)
	base := p.baseline(h)
	j.hook = ""
	address := j.serve(p)
	l := p.load(h, address)
	began, n := time.Now(), 0
	for ; n < rotations && (n < javaAtLeast || time.Since(began) < javaAtMost); n++ {
		h.rotate()
		h.settled("java", address)
	}
	ours := l.end()
	t.Logf("java: a rotation with us took %s", time.Since(began)/time.Duration(n))
	t.Logf("\n%s\n%s", base.row("without us"), strings.Replace(ours.row("with us"), fmt.Sprintf("| %d |", rotations), fmt.Sprintf("| %d |", n), 1))
	for what, f := range map[string]figures{"without us": base, "with us": ours} {
		if f.failed() > 0 || f.Requests[kept] < n || f.Requests[fresh] < n {
			t.Errorf("%s: %+v", what, f)
		}
	}
}

// TestJavaGoesBack has the service try the set with another password than it was made with.
func TestJavaGoesBack(t *testing.T) {
	for _, c := range []struct {
		name         string
		hook         bool
		step, reason string
		says         string
	}{
		{"it watches", false, "prove", "wrong_certificate", "serves"},
		{"it is told", true, "reload", "reload_failed", "password was incorrect"},
	} {
		t.Run(c.name, func(t *testing.T) {
			parallel(t)
			j := newJava(t)
			replace := []string{"within: 30s", shortProof}
			if c.hook {
				replace = append(replace, j.byHook()...)
			}
			p := j.program(replace...)
			address := j.serve(p)
			j.h.goesBack(p, address, c.step, c.reason, func() { j.h.write("its-password", []byte("another\n"), 0o600) }, func() {
				if s := j.h.service("java"); !strings.Contains(s.LastError, c.says) {
					t.Errorf("the service does not say %q: %+v", c.says, s)
				}
				j.h.write("its-password", []byte(javaPassword+"\n"), 0o600)
				j.h.reconfigure(shortProof, longProof)
			})
		})
	}
}

// TestJavaRevokes has the CAs in a trust store.
func TestJavaRevokes(t *testing.T) {
	parallel(t)
	j := newJava(t)
	p := j.program("        - {format: trust-pem, name: trust.pem}\n", j.page.block("CAs as a trust store", "yaml"))
	h, address := j.h, j.serve(p)
	if _, err := os.Stat(h.path("spine/current/trust.pem")); err == nil {
		t.Fatal("there is a trust.pem")
	}
	doomed, good := h.issue("doomed.thirdparty.nhs.uk"), h.visitor(address, h.peer)
	session, other := h.visitor(address, doomed), h.visitor(address, doomed)
	for _, resumes := range []bool{false, true} {
		if ok, resumed := session.ask(); !ok || resumed != resumes {
			t.Fatalf("answered: %v, on a session of before: %v", ok, resumed)
		}
	}
	before := h.service("java").Delivered
	h.revoke(doomed)
	h.until("the list is in force", func() bool { ok, _ := other.ask(); return !ok })
	h.settled("java", address)
	if now := h.service("java").Delivered; now.Generation != before.Generation || now.Digest == before.Digest {
		t.Errorf("%+v was delivered after %+v", now, before)
	}
	if ok, resumed := session.ask(); ok {
		t.Errorf("a certificate that was revoked is accepted on a session of before (resumed: %v)", resumed)
	}
	if ok, _ := good.ask(); !ok {
		t.Error("a certificate that was not revoked is refused")
	}
}
