package services

import (
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/spinecert/spinecert/internal/testprogram"
)

// stunnel is stunnel as docs/services/stunnel.md has it.
type stunnel struct {
	h       *host
	page    *page
	path    string // of the program
	backend string
	user    string // the options that have it run as another user; "" for root, or who runs the tests
	socket  bool   // it is started as systemd does with a socket unit
}

func newStunnel(t *testing.T) *stunnel {
	t.Helper()
	path := testprogram.Need(t, "stunnel")
	h := newHost(t, "ecdsa-p256")
	h.mkdir("extra")
	return &stunnel{h: h, page: openPage(t, "stunnel.md"), path: path, backend: h.backend()}
}

func (s *stunnel) start(directory, address string) *process {
	h := s.h
	h.t.Helper()
	text := s.user + "include = " + h.path("extra") + "\n" + s.page.block("In stunnel", "stunnel", "/etc/stunnel/spine", directory,
		"accept = 443", "accept = "+address, "connect = 127.0.0.1:8080", "connect = "+s.backend, "/run/stunnel-spine/stunnel.pid", h.path("run/stunnel.pid"))
	conf := directory + ".conf"
	h.write(strings.TrimPrefix(conf, h.dir+"/"), []byte(text), 0o644)
	h.mkdir("run")
	if name, _, ok := h.dropped(); ok && s.user != "" {
		h.mustRun("chown", name, h.path("run"))
	}
	if !s.socket {
		return h.launch(s.path, conf)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		h.t.Fatal(err)
	}
	defer l.Close()
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		h.t.Fatalf("%T is no socket of TCP", l)
	}
	file, err := tcp.File()
	if err != nil {
		h.t.Fatal(err)
	}
	defer file.Close()
	cmd := exec.Command("/bin/sh", "-c", `LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" "$1"`, s.path, conf)
	cmd.ExtraFiles = []*os.File{file}
	return h.start(cmd, s.path)
}

// program is stunnel for a campaign, with what is to be replaced in the configuration of the daemon.
func (s *stunnel) program(replace ...string) program {
	return program{
		service: "stunnel",
		files: map[string]func(*host) []byte{
			"pcs.pem": contents["combined"], "trust.pem": contents["trust-pem"], "crl.pem": contents["crl-pem"],
		},
		start:  func(_ *host, directory, address string) *process { return s.start(directory, address) },
		reload: func(h *host, server *process, _ string) { signal(h.t, server, syscall.SIGHUP) },
		services: func(h *host, directory, address string) string {
			text := s.page.block("In spinecert.yaml", "yaml", "    reload: {unit: stunnel@spine.service}\n", s.page.block("By signal", "yaml"),
				"/etc/stunnel/spine", directory, "127.0.0.1:443", address, "/run/stunnel-spine/stunnel.pid", h.path("run/stunnel.pid"))
			return replaced(h.t, text, replace...)
		},
		// It closes the socket that it listens on and opens another: who connects meanwhile
		// is refused, and who waited to be accepted is cut off. No request has been sent by then.
		mayFail: []string{
			"fresh connection: before it was connected", "fresh connection: in the handshake", "fresh connection: before it was sent",
			"kept connection: before it was connected", "kept connection: in the handshake", "kept connection: before it was sent", // the first of it
		},
	}
}

func TestStunnelRotates(t *testing.T) {
	parallel(t)
	s := newStunnel(t)
	s.program().campaign(s.h)
}

// TestStunnelRotatesOnASocketOfSystemd is where nothing fails: the socket is not stunnel's to close.
func TestStunnelRotatesOnASocketOfSystemd(t *testing.T) {
	parallel(t)
	s := newStunnel(t)
	s.socket = true
	ours := s.program().delivered(s.h)
	t.Logf("\n%s", ours.row("with us, on a socket of systemd"))
	if ours.failed() > 0 || ours.Requests[kept] < rotations || ours.Requests[fresh] < rotations {
		t.Errorf("%+v", ours)
	}
}

// TestStunnelGoesBack has stunnel find an option that it does not know when it reads its
// files again: it says so in its log, and goes on with all that it had.
func TestStunnelGoesBack(t *testing.T) {
	parallel(t)
	s := newStunnel(t)
	p := s.program("within: 30s", shortProof)
	address, server := p.serve(s.h)
	s.h.goesBack(p, address, "prove", "wrong_certificate",
		func() { s.h.write("extra/broken.conf", []byte("noSuchOption = yes\n"), 0o644) },
		func() { s.h.write("extra/broken.conf", []byte("; mended\n"), 0o644) })
	if !strings.Contains(server.String(), "Failed to reload the configuration file") {
		t.Error("stunnel did not refuse what is broken: the page is wrong")
	}
}

func TestStunnelRevokes(t *testing.T) {
	parallel(t)
	s := newStunnel(t)
	s.program().revokes(s.h, ended)
}

// asUser has stunnel give up root, as a section of the page has it.
func (s *stunnel) asUser() (group string) {
	s.h.t.Helper()
	user, group, ok := s.h.dropped()
	if !ok {
		s.h.t.Skip("only root can become another user")
	}
	s.user = s.page.block("As another user", "stunnel", "setuid = stunnel4", "setuid = "+user, "setgid = stunnel4", "setgid = "+group)
	return group
}

// TestStunnelAsAnotherUser has stunnel read the key as root when it starts, and as another
// user from then on.
func TestStunnelAsAnotherUser(t *testing.T) {
	parallel(t)
	s := newStunnel(t)
	group, h := s.asUser(), s.h
	p := s.program("within: 30s", shortProof)
	address, _ := p.serve(h)
	h.fails(p, address, "held", "prove", "wrong_certificate", func() {})
	file := s.page.block("As another user", "yaml", "stunnel4", group)
	h.reconfigure("        - {format: combined, name: pcs.pem}\n", file)
	h.settled("stunnel", address)
}

// TestStunnelLosesItsPort has stunnel give up root and listen where only root may: the first
// SIGHUP ends that, whatever was delivered.
func TestStunnelLosesItsPort(t *testing.T) {
	parallel(t)
	s := newStunnel(t)
	group, h := s.asUser(), s.h
	p := s.program("{format: combined, name: pcs.pem}", "{format: combined, name: pcs.pem, group: "+group+"}", "within: 30s", shortProof)
	address := net.JoinHostPort(h.ip, "443")
	h.mkdir("spine")
	h.configure(p.services(h, h.path("spine"), address))
	h.startDaemon()
	h.until("the first set is there", func() bool { return h.service("stunnel").Delivered.Generation == 1 })
	s.start(h.path("spine"), address)
	h.listening(address)
	if exit, code := h.deliver("stunnel"); exit != 3 || code != "unreachable" {
		t.Fatalf("spinecert deliver stunnel --now: exit status %d, %s", exit, code)
	}
	h.state("stunnel", "failed", "prove", "unreachable")
	if _, err := h.look(address, ownName); err == nil {
		t.Error("somebody answers: the page is wrong")
	}
}
