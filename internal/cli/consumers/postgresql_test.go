package consumers

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spinecert/spinecert/internal/testprogram"
)

func TestPostgreSQL(t *testing.T) {
	t.Parallel()
	bin := testprogram.PostgreSQL(t)
	h := newHost(t, "PostgreSQL")
	h.export()
	as := testprogram.Nobody(h.t)
	data, address := h.path("data"), h.freeAddress()
	host, port, _ := net.SplitHostPort(address)
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	if as != nil {
		if err := os.Chown(data, int(as.Uid), int(as.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := h.run(as, nil, filepath.Join(bin, "initdb"), "-D", data, "-U", "app", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"); err != nil {
		t.Fatalf("initdb: %v: %s", err, out)
	}
	settings := h.setting("postgresql.conf", 0) + "listen_addresses = '" + host + "'\nport = " + port + "\nunix_socket_directories = ''\nfsync = off\n"
	h.write("data/postgresql.conf", []byte(settings), 0o644)
	h.write("data/pg_hba.conf", []byte(h.setting("pg_hba.conf", 0)), 0o644)
	h.write("data/pg_ident.conf", []byte(h.setting("pg_ident.conf", 0)), 0o644)

	key := h.path("spine/key.pem")
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := h.run(as, nil, filepath.Join(bin, "postgres"), "-D", data); err == nil || !strings.Contains(out, "has group or world access") {
		t.Errorf("a key that others may read: %v: %s", err, out)
	}
	if err := os.Chmod(key, 0o600); err != nil {
		t.Fatal(err)
	}
	h.launch(as, filepath.Join(bin, "postgres"), "-D", data)
	h.listening(address)

	psql := func(replace ...string) (string, error) {
		words := h.commands("psql")[0]
		words[1] = strings.NewReplacer(append(replace, "host="+ownName, "host="+ownName+" hostaddr="+host+" port="+port+" connect_timeout=20")...).Replace(words[1])
		query := "SELECT ssl, client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
		return h.run(as, nil, filepath.Join(bin, "psql"), "-X", "-A", "-t", "-c", query, words[1])
	}
	h.until("PostgreSQL is ready", func() bool {
		out, err := psql()
		return err == nil || !strings.Contains(out, "starting up")
	})
	if out, err := psql(); err != nil || strings.TrimSpace(out) != "t|/CN="+ownName {
		t.Errorf("psql: %v: %s", err, out)
	}
	h.psqlRefused(psql)
}

// psqlRefused tries what must not connect.
func (h *host) psqlRefused(psql func(replace ...string) (string, error)) {
	h.t.Helper()
	for name, tc := range map[string]struct{ old, now, want string }{
		"no certificate":    {"sslcert=" + h.path("spine/fullchain.pem"), "sslcert=" + h.path("none.pem"), "certificate"},
		"a revoked one":     {"sslcert=" + h.path("spine/fullchain.pem") + " sslkey=" + h.path("spine/key.pem"), h.as("revoked"), "revoked"},
		"one of a stranger": {"sslcert=" + h.path("spine/fullchain.pem") + " sslkey=" + h.path("spine/key.pem"), h.as("foreign"), "unknown ca"},
		"another user":      {"user=app", "user=postgres", "authentication failed"},
		"a foreign root":    {"sslrootcert=" + h.path("spine/trust.pem"), "sslrootcert=" + h.path("foreign-root.pem"), "certificate verify failed"},
	} {
		if out, err := psql(tc.old, tc.now); err == nil || !strings.Contains(out, tc.want) {
			h.t.Errorf("%s: %v: %s", name, err, out)
		}
	}
}

// as names the files of a peer for psql, which wants its own key with mode 0600.
func (h *host) as(peer string) string {
	h.t.Helper()
	data, err := os.ReadFile(h.path(peer + ".key"))
	if err != nil {
		h.t.Fatal(err)
	}
	h.write(peer+".own", data, 0o600)
	if as := testprogram.Nobody(h.t); as != nil {
		if err := os.Chown(h.path(peer+".own"), int(as.Uid), int(as.Gid)); err != nil {
			h.t.Fatal(err)
		}
	}
	return "sslcert=" + h.path(peer+".crt") + " sslkey=" + h.path(peer+".own")
}
