package services

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/spinecert/spinecert/internal/testprogram"
)

// slapd is OpenLDAP as docs/services/openldap.md has it.
type slapd struct {
	h       *host
	page    *page
	words   []string // it, with its options
	address string   // where it listens
}

func newSlapd(t *testing.T) *slapd {
	t.Helper()
	path := testprogram.Need(t, "slapd")
	h := newHost(t, "rsa-2048")
	s := &slapd{h: h, page: openPage(t, "openldap.md"), address: h.freeAddress()}
	s.words = []string{path, "-h", "ldap://" + s.address, "-f", h.path("slapd.conf")}
	if user, group, ok := h.dropped(); ok {
		s.words = append(s.words, "-u", user, "-g", group)
		h.mkdir("run")
		h.mustRun("chown", user, h.path("run"))
	}
	h.mkdir("run")
	text := fmt.Sprintf("include /etc/ldap/schema/core.schema\npidfile %s\n", h.path("run/slapd.pid")) +
		s.page.block("In slapd.conf", "slapd", "/etc/ldap/spine", h.path("spine"))
	h.write("slapd.conf", []byte(text), 0o644)
	h.t.Cleanup(s.end)
	return s
}

// pid is that of the server, 0 when it does not run.
func (s *slapd) pid() int {
	s.h.t.Helper()
	out, err := s.h.run("cat", s.h.path("run/slapd.pid"))
	pid, wrong := strconv.Atoi(strings.TrimSpace(out))
	if err != nil || wrong != nil {
		return 0
	}
	return pid
}

// end ends the server, which the restart has put out of the hands of the harness.
func (s *slapd) end() {
	if pid := s.pid(); pid > 1 {
		_ = syscall.Kill(pid, syscall.SIGTERM)
		s.h.until("slapd has ended", func() bool { return syscall.Kill(pid, 0) != nil || s.pid() == 0 })
	}
}

// restart writes a program that does what a restart by systemd does.
func (s *slapd) restart() (path string) {
	s.h.t.Helper()
	pidFile := s.h.path("run/slapd.pid")
	s.h.write("restart", fmt.Appendf(nil, "#!/bin/sh\n[ ! -e %[1]s ] || kill \"$(cat %[1]s)\"\nwhile [ -e %[1]s ]; do sleep 0.05; done\nexec %[2]s\n", pidFile, strings.Join(s.words, " ")), 0o700)
	return s.h.path("restart")
}

// configuration is that of the daemon, with a command in the place of the unit.
func (s *slapd) configuration(reload string) string {
	_, group := ids()
	if _, other, ok := s.h.dropped(); ok {
		group = other
	}
	return s.page.block("In spinecert.yaml", "yaml", "{unit: slapd.service, action: restart}", reload, "/etc/ldap/spine", s.h.path("spine"),
		"127.0.0.1:389", s.address, "group: openldap", `group: "`+group+`"`, "within: 30s", shortProof)
}

// TestSlapdRestarts shows that slapd goes on with what it read when it was started. (On SIGHUP
// it ends.)
func TestSlapdRestarts(t *testing.T) {
	parallel(t)
	s := newSlapd(t)
	h := s.h
	h.mkdir("spine")
	h.configure(s.configuration("none"))
	h.startDaemon()
	h.until("the first set is there", func() bool { return h.service("slapd").Delivered.Generation == 1 })
	h.mustRun(s.restart())
	h.listening(s.address)
	address := h.freeAddress()
	h.relay(address, s.address, ldapTLS)
	if exit, code := h.deliver("slapd"); exit != 0 {
		t.Fatalf("spinecert deliver slapd --now: exit status %d, %s: %+v", exit, code, h.service("slapd"))
	}
	h.settled("slapd", address)
	began := s.pid()

	h.rotate()
	h.state("slapd", "held", "prove", "wrong_certificate")
	h.reconfigure("reload: none", "reload: {exec: ["+s.restart()+"]}", shortProof, longProof)
	if exit, code := h.deliver("slapd"); exit != 0 {
		t.Errorf("spinecert deliver slapd --now: exit status %d, %s: %+v", exit, code, h.service("slapd"))
	}
	h.settled("slapd", address)
	for range 2 {
		h.rotate()
		h.settled("slapd", address)
	}
	if s.pid() == began {
		t.Error("it was not restarted")
	}
}
