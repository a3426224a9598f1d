package prove

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/deliver/failure"
	"github.com/spinecert/spinecert/internal/testprogram"
)

func TestOpenSSL(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	openssl := testprogram.Need(t, "openssl")
	server := func(options ...string) config.Probe {
		address := h.freeAddress()
		h.launch(nil, openssl, append([]string{"s_server", "-quiet", "-accept", address, "-www", "-cert", "own.pem", "-cert_chain", "chain.pem", "-key", "own.key"}, options...)...)
		h.listening(address)
		return probe(address, config.ProbeTLS)
	}
	const ours, theirs = "-CAfile=root.pem", "-CAfile=foreign.pem"
	ask := func(ca string, more ...string) []string {
		name, file, _ := strings.Cut(ca, "=")
		return append([]string{"-verify_quiet", "-Verify", "5", "-verify_return_error", name, file}, more...)
	}
	for name, options := range map[string][]string{
		"1.2":                     {"-tls1_2"},
		"1.3":                     {"-tls1_3"},
		"1.2 and takes us":        ask(ours, "-tls1_2"),
		"1.3 and takes us":        ask(ours, "-tls1_3"),
		"1.3 and says nothing":    ask(ours, "-tls1_3", "-num_tickets", "0"),
		"no suite of ours in 1.2": {"-cipher", "AES256-SHA"},
	} {
		t.Run(name, func(t *testing.T) { h.on(t).proves(server(options...), h.own) })
	}
	for name, options := range map[string][]string{
		"1.2":               ask(theirs, "-tls1_2"),
		"1.3":               ask(theirs, "-tls1_3"),
		"1.3 and no ticket": ask(theirs, "-tls1_3", "-num_tickets", "0"),
		"ECDSA alone":       ask(ours, "-tls1_2", "-client_sigalgs", "ECDSA+SHA256"),
	} {
		t.Run("refuses us "+name, func(t *testing.T) {
			seen := h.on(t).refusesLate(server(options...), h.own)
			if len(seen.Chain) == 0 || !seen.Chain[0].Equal(h.own.Cert) {
				t.Errorf("a refusal without what was seen: %d certificates", len(seen.Chain))
			}
		})
	}
	t.Run("1.1 alone", func(t *testing.T) {
		h.on(t).refuses(server("-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"), h.own, failure.HandshakeFailed, "protocol version")
	})
	t.Run("shows none", func(t *testing.T) {
		_, err := Look(t.Context(), server(ask(ours, "-tls1_2")...), nil)
		is(t, err, failure.RefusedUs, "none to show")
	})
}

// on is the host for a subtest.
func (h *host) on(t testing.TB) *host {
	sub := *h
	sub.t = t
	return &sub
}

func TestPostgreSQL(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	bin, as := testprogram.PostgreSQL(t), testprogram.Nobody(h.t)
	data, address := h.path("data"), h.freeAddress()
	ip, port, _ := net.SplitHostPort(address)
	mine := func(path string) {
		t.Helper()
		if as == nil {
			return
		}
		if err := os.Chown(path, int(as.Uid), int(as.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{data, h.path("run")} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		mine(dir)
	}
	h.run(as, filepath.Join(bin, "initdb"), "-D", data, "-U", "app", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	h.write("pg.key", h.own.KeyPEM(), 0o600)
	mine(h.path("pg.key"))
	set := func(lines ...string) {
		t.Helper()
		h.write("data/postgresql.conf", []byte(fmt.Sprintf(`listen_addresses = '%s'
port = %s
unix_socket_directories = '%s'
fsync = off
ssl_cert_file = '%s'
ssl_key_file = '%s'
%s
`, ip, port, h.path("run"), h.path("own.pem"), h.path("pg.key"), strings.Join(lines, "\n"))), 0o644)
	}
	set("ssl = on")
	server, _ := h.launch(as, filepath.Join(bin, "postgres"), "-D", data)
	h.listening(address)
	p := probe(address, config.ProbePostgres)
	h.proves(p, h.own)
	h.refuses(p, h.next, failure.WrongCertificate, h.own.Cert.SerialNumber.Text(16))
	h.refuses(probe("unix:"+h.path("run/.s.PGSQL."+port), config.ProbePostgres), h.own, failure.HandshakeFailed, "on this socket")
	h.refuses(probe(address, config.ProbeTLS), h.own, failure.HandshakeFailed, "closed the connection")
	h.refuses(probe(address, config.ProbeLDAP), h.own, failure.HandshakeFailed, "closed the connection")

	reload := func(reason string, lines ...string) {
		t.Helper()
		set(lines...)
		if err := server.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		h.until("PostgreSQL with "+strings.Join(lines, ", ")+" leads to "+reason, func() bool {
			_, err := Look(t.Context(), p, identity(t, h.own))
			return failure.ReasonOf(err, "") == reason
		})
	}
	ca := func(name string) string { return "ssl_ca_file = '" + h.path(name) + "'" }
	reload(failure.RefusedUs, "ssl = on", ca("foreign.pem"))
	reload("", "ssl = on", ca("root.pem"))
	reload(failure.RefusedUs, "ssl = on", ca("foreign.pem"), "ssl_min_protocol_version = 'TLSv1.3'")
	reload("", "ssl = on", ca("root.pem"), "ssl_min_protocol_version = 'TLSv1.3'")
	h.proves(p, h.own)
	reload(failure.HandshakeFailed, "ssl = off")
	h.refuses(p, h.own, failure.HandshakeFailed, "ssl is off")
}

func TestOpenLDAP(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	slapd := testprogram.Need(t, "slapd")
	server := func(t *testing.T, lines ...string) config.Probe {
		h := h.on(t)
		address, name := h.freeAddress(), strings.ReplaceAll(t.Name(), "/", "-")
		h.write(name, []byte("include /etc/ldap/schema/core.schema\n"+strings.Join(lines, "\n")+"\n"), 0o600)
		h.launch(nil, slapd, "-h", "ldap://"+address, "-f", h.path(name), "-d", "256")
		h.listening(address)
		return probe(address, config.ProbeLDAP)
	}
	pair := "TLSCertificateFile " + h.path("own.pem") + "\nTLSCertificateKeyFile " + h.path("own.key")
	ours, theirs := "TLSCACertificateFile "+h.path("root.pem"), "TLSCACertificateFile "+h.path("foreign.pem")
	t.Run("plain", func(t *testing.T) { h.on(t).proves(server(t, pair), h.own) })
	t.Run("takes us", func(t *testing.T) { h.on(t).proves(server(t, pair, ours, "TLSVerifyClient demand"), h.own) })
	for name, line := range map[string]string{"any": "", "1.3": "TLSCipherSuite NORMAL:-VERS-ALL:+VERS-TLS1.3"} {
		t.Run("refuses us "+name, func(t *testing.T) {
			h.on(t).refusesLate(server(t, pair, theirs, "TLSVerifyClient demand", line), h.own)
		})
	}
	t.Run("no TLS", func(t *testing.T) {
		h.on(t).refuses(server(t), h.own, failure.HandshakeFailed, "result code")
	})
}

// A server that sends a ticket is not waited for: of many looks the shortest is shorter
// than the wait.
func TestTicketEndsTheWait(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	openssl := testprogram.Need(t, "openssl")
	shortest := func(tickets string) time.Duration {
		address := h.freeAddress()
		h.launch(nil, openssl, "s_server", "-quiet", "-verify_quiet", "-accept", address, "-www", "-tls1_3", "-cert", "own.pem", "-key", "own.key", "-Verify", "5", "-CAfile", "root.pem", "-num_tickets", tickets)
		h.listening(address)
		least := time.Hour
		for range 30 {
			begun := time.Now()
			if _, err := Look(t.Context(), probe(address, config.ProbeTLS), identity(t, h.own)); err != nil {
				t.Fatal(err)
			}
			if least = min(least, time.Since(begun)); least < refusalWait {
				break
			}
		}
		return least
	}
	if with := shortest("2"); with >= refusalWait {
		t.Errorf("%s with a ticket, the wait is %s", with, refusalWait)
	}
	if without := shortest("0"); without < refusalWait {
		t.Errorf("%s without a ticket, the wait is %s", without, refusalWait)
	}
}
