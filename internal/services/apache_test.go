package services

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/spinecert/spinecert/internal/testprogram"
)

// apache is Apache as docs/services/apache.md has it.
type apache struct {
	h       *host
	page    *page
	path    string // of the program
	modules string
	backend string
}

func newApache(t *testing.T, kind string) *apache {
	t.Helper()
	path, modules := testprogram.Need(t, "apache2"), testprogram.ApacheModules(t)
	h := newHost(t, kind)
	h.mkdir("extra")
	return &apache{h: h, page: openPage(t, "apache.md"), path: path, modules: modules, backend: h.backend()}
}

// configuration is the virtual host of the page, and what every Apache has around it.
func (a *apache) configuration(directory, address string) string {
	h := a.h
	text := fmt.Sprintf("ServerRoot %[1]s\nServerName localhost\nPidFile %[2]s.pid\nDefaultRuntimeDir %[1]s\nMutex posixsem\nErrorLog /dev/stderr\nListen %[3]s\nIncludeOptional %[1]s/extra/*.conf\n",
		h.dir, directory, address)
	if user, group, ok := h.dropped(); ok {
		text += fmt.Sprintf("User %s\nGroup %s\n", user, group)
	}
	return a.modules + text + a.page.block("In Apache", "apache", "/etc/apache2/spine", directory, "*:443", address, "127.0.0.1:8080", a.backend)
}

func (a *apache) words(directory string) []string { return []string{a.path, "-f", directory + ".conf"} }

func (a *apache) start(directory, address string) *process {
	h := a.h
	h.t.Helper()
	h.write(strings.TrimPrefix(directory, h.dir+"/")+".conf", []byte(a.configuration(directory, address)), 0o600)
	return h.launch(a.path, append(a.words(directory)[1:], "-DFOREGROUND")...)
}

// program is Apache for a campaign, with a way to reload: a section of the page.
func (a *apache) program(reload string, replace ...string) program {
	return program{
		service: "apache",
		files: map[string]func(*host) []byte{
			"fullchain.pem": contents["fullchain"], "key.pem": contents["key"], "trust.pem": contents["trust-pem"], "crl.pem": contents["crl-pem"],
		},
		start: func(_ *host, directory, address string) *process { return a.start(directory, address) },
		reload: func(h *host, _ *process, directory string) {
			h.mustRun(a.path, append(a.words(directory)[1:], "-k", "graceful")...)
		},
		services: func(_ *host, directory, address string) string {
			text := a.page.block("In spinecert.yaml", "yaml", "    reload: {unit: apache2.service}\n", a.page.block(reload, "yaml"), "/etc/apache2/spine", directory, "127.0.0.1:443", address)
			text = replaced(a.h.t, text, replace...)
			return strings.NewReplacer("/usr/sbin/apache2ctl", strings.Join(a.words(directory), ", "), "/run/apache2/apache2.pid", directory+".pid").Replace(text)
		},
	}
}

func TestApacheRotates(t *testing.T) {
	parallel(t)
	a := newApache(t, "ecdsa-p256")
	a.program("Without systemd").campaign(a.h)
}

// breakIt puts a file into a directory that the configuration includes.
func (a *apache) breakIt() { a.h.write("extra/broken.conf", []byte("NoSuchDirective on\n"), 0o600) }

func (a *apache) mend() { a.h.write("extra/broken.conf", []byte("# mended\n"), 0o600) }

const apacheValidate = "    validate: {exec: [/usr/sbin/apache2ctl, -t]}\n"

// TestApacheGoesBack breaks the configuration of Apache before a rotation.
func TestApacheGoesBack(t *testing.T) {
	for _, c := range []struct {
		name, how    string
		validate     bool
		step, reason string
	}{
		{"validation says no", "By signal", true, "validate", "validate_failed"},
		{"graceful says no", "Without systemd", false, "reload", "reload_failed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			parallel(t)
			a := newApache(t, "ecdsa-p256")
			replace := []string{"within: 30s", shortProof}
			if !c.validate {
				replace = append(replace, apacheValidate, "")
			}
			p := a.program(c.how, replace...)
			address, _ := p.serve(a.h)
			a.h.goesBack(p, address, c.step, c.reason, a.breakIt, a.mend)
		})
	}
}

// TestApacheDies tells Apache by signal, with a broken configuration and nothing that looks at it
// first: it ends. The files are back for when it is started again.
func TestApacheDies(t *testing.T) {
	parallel(t)
	a := newApache(t, "ecdsa-p256")
	h := a.h
	p := a.program("By signal", "within: 30s", shortProof, apacheValidate, "")
	address, server := p.serve(h)
	old, before := h.own, h.set(target)
	a.breakIt()
	next := h.rotate()
	h.until("the service has failed", func() bool {
		s := h.service("apache")
		return s.State == "failed" && s.Step == "roll back"
	})
	if !server.ended() {
		t.Error("Apache lives: the page is wrong")
	}
	if !cmp.Equal(before, h.set(target)) {
		t.Error("the files are not back")
	}
	a.mend()
	server = a.start(h.path(target), address)
	h.until("the old certificate is proved", func() bool {
		if server.ended() { // by a signal that came before it was ready
			server = a.start(h.path(target), address)
		}
		return h.service("apache").State == "held"
	})
	h.serves(address, ownName, old)
	if exit, code := h.deliver("apache"); exit != 0 {
		t.Errorf("spinecert deliver apache --now: exit status %d, %s", exit, code)
	}
	h.settled("apache", address)
	h.serves(address, ownName, next)
}
