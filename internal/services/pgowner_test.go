package services

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/spinecert/spinecert/internal/testprogram"
)

// TestPostgreSQLKeyIsGivenAway has the daemon run as a user that is not root: with CAP_CHOWN it
// gives the key to the database, without it says what it needs.
func TestPostgreSQLKeyIsGivenAway(t *testing.T) {
	parallel(t)
	if uid, _ := ids(); uid != "0" {
		t.Skip("only root can have the daemon run as another user")
	}
	p := newPostgres(t)
	h, as := p.h, "47111"
	p.address = h.freeAddress()
	daemon, setpriv := h.plainDaemon(), testprogram.Need(t, "setpriv")
	for _, dir := range []string{"spine", "state", "admin"} {
		h.mkdir(dir)
		h.mustRun("chown", as+":"+as, h.path(dir))
	}
	h.configure(p.configuration(h.path("spine"), "Without systemd"))
	text := replaced(t, string(mustRead(t, h.config)), "path: admin.sock, group: \"0\"", "path: admin/admin.sock, group: \""+as+"\"")
	h.write("spinecert.yaml", []byte(text), 0o644)
	h.mustRun("chown", as, h.path("pcs.key"))
	start := func(capabilities ...string) *process {
		words := append([]string{"--reuid", as, "--regid", as, "--clear-groups"}, capabilities...)
		d := h.start(exec.Command(setpriv, append(words, "--", daemon, "--config", h.config)...), "spinecertd")
		h.until("the daemon answers", func() bool {
			exit, _, _ := h.spinecert("status")
			return exit == 0
		})
		return d
	}
	without := start()
	if s := h.state("postgresql", "failed", "deliver", "not_writable"); !strings.Contains(s.Hint, "AmbientCapabilities=CAP_CHOWN") {
		t.Errorf("the hint is %q", s.Hint)
	}
	without.end()

	start("--inh-caps", "+chown", "--ambient-caps", "+chown")
	h.until("the key is the database's", func() bool {
		out, err := h.run("stat", "-c", "%U %a", h.path("spine/current/key.pem"))
		return err == nil && strings.TrimSpace(out) == p.user+" 600"
	})
	p.launch(h.path("spine"))
	p.ready()
	address := h.freeAddress()
	h.relay(address, p.address, postgresTLS)
	h.serves(address, ownName, h.own)
}
