package services

import (
	"fmt"
	"strings"
	"testing"

	"github.com/spinecert/spinecert/internal/testprogram"
)

// nginx is nginx as docs/services/nginx.md has it.
type nginx struct {
	h       *host
	page    *page
	path    string // of the program
	backend string
	more    string // that stands beside the server of the page
}

func newNginx(t *testing.T, kind string) *nginx {
	t.Helper()
	path := testprogram.Need(t, "nginx")
	h := newHost(t, kind)
	h.mkdir("extra")
	return &nginx{h: h, page: openPage(t, "nginx.md"), path: path, backend: h.backend()}
}

// words is the program with its options: where this test has its files.
func (n *nginx) words(directory string) []string {
	return []string{n.path, "-e", "stderr", "-p", n.h.dir, "-c", directory + ".conf"}
}

// configuration is the server of the page, and what every nginx has around it.
func (n *nginx) configuration(directory, address string) string {
	h := n.h
	text := fmt.Sprintf("daemon off; pid %s.pid; error_log stderr;\nevents {}\nhttp {\naccess_log off;\n", directory)
	if user, group, ok := h.dropped(); ok {
		text = fmt.Sprintf("user %s %s;\n", user, group) + text
	}
	for _, d := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		text += fmt.Sprintf("%s_temp_path %s;\n", d, h.path("tmp-"+d))
	}
	text += n.page.block("In nginx", "nginx", "/etc/nginx/spine", directory, "listen 443", "listen "+address, "127.0.0.1:8080", n.backend)
	return text + n.more + "include " + h.path("extra") + "/*.conf;\n}\n"
}

func (n *nginx) start(directory, address string) *process {
	h := n.h
	h.t.Helper()
	h.write(strings.TrimPrefix(directory, h.dir+"/")+".conf", []byte(n.configuration(directory, address)), 0o600)
	return h.launch(n.path, n.words(directory)[1:]...)
}

// services is the configuration of the page with another way to reload, a section of it.
func (n *nginx) services(directory, address, reload string, replace ...string) string {
	n.h.t.Helper()
	text := n.page.block("In spinecert.yaml", "yaml", "    reload: {unit: nginx.service}\n", n.page.block(reload, "yaml"), "/etc/nginx/spine", directory, "127.0.0.1:443", address)
	text = replaced(n.h.t, text, replace...)
	return strings.NewReplacer("/usr/sbin/nginx", strings.Join(n.words(directory), ", "), "/run/nginx.pid", directory+".pid").Replace(text)
}

// program is nginx for a campaign, with a way to reload and what else is to be
// replaced in the configuration of the daemon.
func (n *nginx) program(reload string, replace ...string) program {
	return program{
		service: "nginx",
		files: map[string]func(*host) []byte{
			"fullchain.pem": contents["fullchain"], "key.pem": contents["key"], "trust.pem": contents["trust-pem"], "crl.pem": contents["crl-pem"],
		},
		start: func(_ *host, directory, address string) *process { return n.start(directory, address) },
		reload: func(h *host, _ *process, directory string) {
			h.mustRun(n.path, append(n.words(directory)[1:], "-s", "reload")...)
		},
		services: func(_ *host, directory, address string) string {
			return n.services(directory, address, reload, replace...)
		},
	}
}

func TestNginxRotates(t *testing.T) {
	parallel(t)
	n := newNginx(t, "rsa-2048")
	n.program("Without systemd").campaign(n.h)
}

// breakIt puts a file into a directory that the configuration includes.
func (n *nginx) breakIt() { n.h.write("extra/broken.conf", []byte("no_such_directive on;\n"), 0o600) }

func (n *nginx) mend() { n.h.write("extra/broken.conf", []byte("# mended\n"), 0o600) }

const (
	shortProof = "within: 5s"
	noValidate = "    validate: {exec: [/usr/sbin/nginx, -t]}\n"
)

// TestNginxGoesBack breaks the configuration of nginx before a rotation. What the
// program then does depends on how it is told.
func TestNginxGoesBack(t *testing.T) {
	for _, c := range []struct {
		name, how    string
		validate     bool
		step, reason string
	}{
		{"validation says no", "By signal", true, "validate", "validate_failed"},
		{"nginx -s reload says no", "Without systemd", false, "reload", "reload_failed"},
		{"SIGHUP is answered by silence", "By signal", false, "prove", "wrong_certificate"},
	} {
		t.Run(c.name, func(t *testing.T) {
			parallel(t)
			n := newNginx(t, "ecdsa-p256")
			replace := []string{"within: 30s", shortProof}
			if !c.validate {
				replace = append(replace, noValidate, "")
			}
			p := n.program(c.how, replace...)
			address, _ := p.serve(n.h)
			n.h.goesBack(p, address, c.step, c.reason, n.breakIt, n.mend)
		})
	}
}
