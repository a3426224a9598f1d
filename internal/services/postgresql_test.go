package services

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/internal/testprogram"
)

// postgres is PostgreSQL as docs/services/postgresql.md has it. It does not run as root:
// where the tests do, it is another user.
type postgres struct {
	h       *host
	page    *page
	bin     string   // the directory of its programs
	as      []string // the words that run a program as its user; empty for the user of the tests
	user    string   // who it runs as
	address string   // where it listens; what looks at it goes through a relay
}

func newPostgres(t *testing.T) *postgres {
	t.Helper()
	bin := testprogram.PostgreSQL(t)
	h := newHost(t, "ecdsa-p256")
	p := &postgres{h: h, page: openPage(t, "postgresql.md"), bin: bin}
	p.user, _ = ids()
	if user, group, ok := h.dropped(); ok {
		p.user, p.as = user, []string{testprogram.Need(t, "setpriv"), "--reuid", user, "--regid", group, "--clear-groups", "--"}
	}
	for _, dir := range []string{"data", "run"} {
		h.mkdir(dir)
		p.own(dir)
	}
	p.run("initdb", "-D", h.path("data"), "-U", "app", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	h.mkdir("data/extra")
	return p
}

// own gives a file to the user of the database.
func (p *postgres) own(name string) {
	p.h.t.Helper()
	if len(p.as) == 0 {
		return
	}
	p.h.mustRun("chown", p.user, p.h.path(name))
}

// run runs one of the programs to its end.
func (p *postgres) run(program string, args ...string) {
	p.h.t.Helper()
	words := append(append(p.as[:len(p.as):len(p.as)], filepath.Join(p.bin, program)), args...)
	p.h.mustRun(words[0], words[1:]...)
}

// launch starts the server with the configuration of the page.
func (p *postgres) launch(directory string) *process {
	h := p.h
	h.t.Helper()
	host, port, err := net.SplitHostPort(p.address)
	if err != nil {
		h.t.Fatal(err)
	}
	files := map[string]string{
		"postgresql.conf": fmt.Sprintf("listen_addresses = '%s'\nport = %s\nunix_socket_directories = ''\nfsync = off\nexternal_pid_file = '%s'\n", host, port, h.path("run/main.pid")) +
			p.page.block("In PostgreSQL", "postgresql.conf", "/etc/spine/postgresql", directory) + "include_dir = 'extra'\n",
		"pg_hba.conf":   p.page.block("In PostgreSQL", "pg_hba.conf"),
		"pg_ident.conf": p.page.block("In PostgreSQL", "pg_ident.conf"),
	}
	for name, text := range files {
		h.write("data/"+name, []byte(text), 0o644)
	}
	words := append(p.as[:len(p.as):len(p.as)], filepath.Join(p.bin, "postgres"), "-D", h.path("data"))
	return h.launch(words[0], words[1:]...)
}

// configuration is that of the daemon, with a way to reload: a section of the page.
func (p *postgres) configuration(directory, how string, replace ...string) string {
	h := p.h
	h.t.Helper()
	text := p.page.block("In spinecert.yaml", "yaml", "    reload: {unit: postgresql@15-main.service}\n", p.page.block(how, "yaml"),
		"/etc/spine/postgresql", directory, "127.0.0.1:5432", p.address, "owner: postgres", `owner: "`+p.user+`"`)
	text = replaced(h.t, text, replace...)
	as := "runuser, -u, postgres, --, "
	if strings.Contains(text, as) {
		now := ""
		if len(p.as) > 0 {
			now = strings.Replace(as, "postgres", p.user, 1)
			now = strings.Replace(now, "runuser", testprogram.Need(h.t, "runuser"), 1)
		}
		text = replaced(h.t, text, "/usr/sbin/"+as, now, "/usr/lib/postgresql/15/bin", p.bin, "/var/lib/postgresql/15/main", h.path("data"))
	}
	return strings.ReplaceAll(text, "/run/postgresql/15-main.pid", h.path("run/main.pid"))
}

// program is PostgreSQL for a campaign. Who looks at it looks at a relay.
func (p *postgres) program(how string, replace ...string) program {
	return program{
		service: "postgresql",
		files: map[string]func(*host) []byte{
			"fullchain.pem": contents["fullchain"], "key.pem": contents["key"], "trust.pem": contents["trust-pem"], "crl.pem": contents["crl-pem"],
		},
		start: func(h *host, directory, address string) *process {
			if p.address == "" || directory == h.path("by-hand") {
				p.address = h.freeAddress()
			}
			if directory == h.path("by-hand") {
				p.take(directory)
			}
			h.relay(address, p.address, postgresTLS)
			server := p.launch(directory)
			p.ready()
			return server
		},
		reload: func(h *host, server *process, directory string) {
			p.take(directory)
			p.run("pg_ctl", "reload", "-D", h.path("data"))
		},
		services: func(h *host, directory, _ string) string {
			p.address = h.freeAddress()
			return p.configuration(directory, how, replace...)
		},
		clients: func(h *host, _ string) []client { return h.postgresClients(p.address) },
	}
}

// take gives the files of a set that was made by hand to the user of the database.
func (p *postgres) take(directory string) {
	p.h.t.Helper()
	for _, name := range []string{"fullchain.pem", "key.pem", "trust.pem", "crl.pem"} {
		p.own(strings.TrimPrefix(directory, p.h.dir+"/") + "/current/" + name)
	}
}

// ready waits until the database takes sessions.
func (p *postgres) ready() {
	p.h.t.Helper()
	p.h.until("PostgreSQL is ready", func() bool {
		_, err := p.who(p.h.peer)
		return err == nil
	})
}

// who begins a session with a certificate and returns how the database calls its owner.
func (p *postgres) who(leaf *testpki.Leaf) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := p.h.connect(ctx, p.address, leaf)
	if err != nil {
		return "", err
	}
	defer s.close()
	return s.query(ctx, "SELECT client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
}

func TestPostgreSQLRotates(t *testing.T) {
	parallel(t)
	p := newPostgres(t)
	p.program("By signal").campaign(p.h)
}

// TestPostgreSQLGoesBack has PostgreSQL miss its list when it reads its files again: it says
// so in its log, and goes on with all that it had.
func TestPostgreSQLGoesBack(t *testing.T) {
	parallel(t)
	p := newPostgres(t)
	h := p.h
	program := p.program("Without systemd", "within: 30s", shortProof)
	address, server := program.serve(h)
	h.goesBack(program, address, "prove", "wrong_certificate",
		func() { h.write("data/extra/broken.conf", []byte("ssl_crl_file = '/nowhere/crl.pem'\n"), 0o644) },
		func() { h.write("data/extra/broken.conf", []byte("# mended\n"), 0o644) })
	if !strings.Contains(server.String(), "SSL configuration was not reloaded") {
		t.Error("PostgreSQL did not refuse what is broken: the page is wrong")
	}
}

// TestPostgreSQLRevokes has the certificate of a client revoked. It begins no session any more;
// the one that it has goes on.
func TestPostgreSQLRevokes(t *testing.T) {
	parallel(t)
	p := newPostgres(t)
	h := p.h
	address, _ := p.program("By signal").serve(h)
	doomed := h.issue("doomed.thirdparty.nhs.uk")
	h.write("data/pg_ident.conf", []byte(p.page.block("In PostgreSQL", "pg_ident.conf")+"spine doomed.thirdparty.nhs.uk app\n"), 0o644)
	p.run("pg_ctl", "reload", "-D", h.path("data"))
	h.until("the other client may come", func() bool {
		dn, err := p.who(doomed)
		return err == nil && dn == "/CN=doomed.thirdparty.nhs.uk"
	})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	open, err := h.connect(ctx, p.address, doomed)
	if err != nil {
		t.Fatal(err)
	}
	defer open.close()
	before := h.service("postgresql").Delivered
	h.revoke(doomed)
	h.until("the list is in force", func() bool { // SIGHUP does not say when it was followed
		_, err := p.who(doomed)
		return err != nil && strings.Contains(err.Error(), "certificate")
	})
	h.settled("postgresql", address)
	if now := h.service("postgresql").Delivered; now.Generation != before.Generation || now.Digest == before.Digest {
		t.Errorf("%+v was delivered after %+v", now, before)
	}
	if _, err := p.who(h.peer); err != nil {
		t.Errorf("a certificate that was not revoked is refused: %v", err)
	}
	if _, err := open.query(ctx, "SELECT 1"); err != nil {
		t.Errorf("the session that was open has ended: the page is wrong: %v", err)
	}
}

// TestPostgreSQLKey holds the server against keys that it does not take.
func TestPostgreSQLKey(t *testing.T) {
	parallel(t)
	p := newPostgres(t)
	h := p.h
	p.address = h.freeAddress()
	h.mkdir("spine")
	owned := `owner: "` + p.user + `"`
	_, gid := ids()
	h.configure(p.configuration(h.path(target), "By signal", owned, owned+`, group: "`+gid+`"`))
	h.startDaemon()
	h.until("the first set is there", func() bool { return h.service("postgresql").Delivered.Generation == 1 })
	if info, err := os.Stat(h.path("spine/current/key.pem")); err != nil || info.Mode().Perm() != 0o640 {
		t.Fatalf("a key with a group: %v, %v", info, err)
	}
	server := p.launch(h.path(target))
	h.until("PostgreSQL gives up", server.ended)
	if !strings.Contains(server.String(), "has group or world access") {
		t.Errorf("PostgreSQL said:\n%s", server)
	}
	if s := h.service("postgresql"); s.State != "failed" || s.Proved.Generation != 0 {
		t.Errorf("nothing is served, and the service is %+v", s)
	}
	if len(p.as) == 0 {
		return // only root can give a file to root
	}
	_, group, _ := h.dropped()
	key := "        - {format: key, name: key.pem, " + owned + `, group: "` + gid + "\"}\n"
	h.reconfigure(key, p.page.block("A key of root", "yaml", "postgres", group))
	h.until("the key is root's", func() bool {
		out, err := h.run("stat", "-c", "%u %G %a", h.path("spine/current/key.pem"))
		return err == nil && strings.TrimSpace(out) == "0 "+group+" 640"
	})
	address := h.freeAddress()
	h.relay(address, p.address, postgresTLS)
	p.launch(h.path(target))
	p.ready()
	h.settled("postgresql", address)
}
