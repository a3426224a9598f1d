package socketstory

import (
	"strings"
	"testing"
)

func TestSockets(t *testing.T) {
	h := newHost(t)
	h.configure(`"systemd:ssp"`)
	h.page()
	for _, part := range []struct {
		name string
		play func(*host)
	}{
		{"low port", testLowPort}, {"restart", testRestart}, {"start by a connection", testStart}, {"two sockets", testTwo},
		{"missing", testMissing}, {"unused", testUnused}, {"broken", testBroken}, {"a connection each", testAccept}, {"outbound", testOutbound},
	} {
		if !t.Run(part.name, func(t *testing.T) { part.play(h.part(t)) }) {
			return // what follows begins where this ended
		}
	}
}

// testLowPort: what the page says, and no privilege.
func testLowPort(h *host) {
	h.Run("systemctl", "enable", socket)
	h.Run("systemctl", "restart", unit)
	h.works("127.0.0.1:443")
	if out := h.Run("spinecert", "status"); !strings.Contains(out, "0.0.0.0:443 (systemd:ssp)") {
		h.t.Errorf("status does not show the address:\n%s", out)
	}
	status := h.Run("cat", "/proc/"+h.show("MainPID")+"/status")
	if !strings.Contains(status, "CapEff:\t0000000000000000") || strings.Contains(status, "Uid:\t0") {
		h.t.Errorf("the daemon has privileges:\n%s", status)
	}
	if out, _ := h.Exec(h.t.Context(), "spinecert", "doctor"); !strings.Contains(out, "tunnel ssp-in is open: inbound on 0.0.0.0:443 (systemd:ssp)") {
		h.t.Errorf("doctor says\n%s", out)
	}
}

// testRestart: connections are made all the time. None is refused or broken off, whether the daemon is asked to stop, killed or replaced.
func testRestart(h *host) {
	served, end := h.traffic("127.0.0.1:443")
	defer end()
	goesOn := func() {
		h.t.Helper()
		from := served.Load()
		h.Until("connections are served", func() bool { return h.t.Failed() || served.Load() > from+20 })
	}
	goesOn()
	for range 3 {
		before := h.show("MainPID")
		h.Run("systemctl", "restart", unit)
		if h.show("MainPID") == before {
			h.t.Error("it is the same process")
		}
		goesOn()
	}
	for range 2 {
		before := h.show("MainPID")
		h.Run("spinecert", "upgrade")
		if h.show("MainPID") == before {
			h.t.Error("it is the same process")
		}
		goesOn()
	}
	h.Run("systemctl", "restart", unit)
	goesOn()
}

// testStart: a daemon that was stopped is started by a connection.
func testStart(h *host) {
	h.Run("systemctl", "stop", unit)
	h.works("127.0.0.1:443")
	if got := h.show("ActiveState"); got != "active" {
		h.t.Errorf("the service is %s", got)
	}
	h.Run("systemctl", "kill", "--kill-who=main", "--signal=KILL", unit)
	h.works("127.0.0.1:443")
	h.Run("systemctl", "stop", socket, unit)
	if !h.refused("127.0.0.1:443") {
		h.t.Error("the port is open after both were stopped")
	}
	h.Run("systemctl", "start", unit) // and Sockets= brings the socket back
	h.works("127.0.0.1:443")
}

// testTwo: one name, two addresses.
func testTwo(h *host) {
	h.Push(units+socket+".d/more.conf", []byte("[Socket]\nListenStream=127.0.0.1:444\n"), 0o644)
	h.Run("systemctl", "daemon-reload")
	h.Run("systemctl", "stop", socket, unit)
	h.Run("systemctl", "start", unit)
	h.works("127.0.0.1:443")
	h.works("127.0.0.1:444")
	if out := h.Run("spinecert", "status"); !strings.Contains(out, "0.0.0.0:443 (systemd:ssp) 127.0.0.1:444 (systemd:ssp)") {
		h.t.Errorf("status does not show both:\n%s", out)
	}
}

// testMissing: a reload is refused, and a start fails; then the hint helps.
func testMissing(h *host) {
	h.configure(`"systemd:ssp", "systemd:ldap"`)
	said := h.Ask("reload")
	message := string(said.Result) + said.Error.Message + said.Error.Hint
	for _, word := range []string{`tunnel \"ssp-in\"`, `socket \"ldap\"`, `passed \"ssp\"`} {
		if !strings.Contains(message, word) && !strings.Contains(message, strings.ReplaceAll(word, `\`, "")) {
			h.t.Errorf("reload does not say %q: exit status %d, %s", word, said.Exit, message)
		}
	}
	if said.Exit == 0 {
		h.t.Error("the reload was taken")
	}
	h.works("127.0.0.1:443")
	if out, err := h.Exec(h.t.Context(), "systemctl", "restart", unit); err == nil {
		h.t.Errorf("the start did not fail: %s", out)
	}
	h.logged(`find socket "ldap"`, `systemd passed "ssp"`)

	ldap := strings.NewReplacer("ssp", "ldap", "0.0.0.0:443", "127.0.0.1:636").Replace(h.Run("cat", units+socket))
	h.Push(units+"spinecertd-ldap.socket", []byte(ldap+"\n"), 0o644)
	h.Push(units+unit+".d/ldap.conf", []byte("[Service]\nSockets=spinecertd-ldap.socket\n"), 0o644)
	h.Run("systemctl", "daemon-reload")
	h.Run("systemctl", "restart", unit)
	h.works("127.0.0.1:636")
	h.works("127.0.0.1:444")
}

// testUnused: told, and nothing else.
func testUnused(h *host) {
	h.configure(`"systemd:ssp"`)
	h.Run("systemctl", "reload", unit)
	h.logged("socket_unused")
	h.logged("systemd:ldap")
	h.works("127.0.0.1:443")
	h.Run("rm", units+unit+".d/ldap.conf")
	h.Run("systemctl", "stop", "spinecertd-ldap.socket")
	h.Run("rm", units+"spinecertd-ldap.socket")
	h.Run("systemctl", "daemon-reload")
	h.Run("systemctl", "restart", unit)
	h.works("127.0.0.1:443")
}

// testBroken: a daemon that does not start is not tried for ever by the connections that wait, and comes back with its socket.
func testBroken(h *host) {
	h.configure(`"nonsense"`)
	h.Run("systemctl", "stop", unit)
	c, err := h.Dial(h.t.Context(), "tcp", "127.0.0.1:443")
	if err != nil {
		h.t.Fatal(err)
	}
	defer c.Close()
	h.Until("systemd gives up on the socket", func() bool {
		return h.Run("systemctl", "show", "--value", "-p", "Result", socket) == "trigger-limit-hit"
	})
	if !h.refused("127.0.0.1:443") {
		h.t.Error("connections to a daemon that does not start wait")
	}
	h.configure(`"systemd:ssp"`)
	h.Run("systemctl", "restart", unit)
	h.works("127.0.0.1:443")
}

// testAccept: a unit with Accept=yes starts a service for each connection.
func testAccept(h *host) {
	h.Push(units+"each.socket", []byte("[Socket]\nListenStream=127.0.0.1:7000\nAccept=yes\n"), 0o644)
	h.Push(units+"each@.service", []byte("[Service]\nType=notify\nExecStart=/usr/bin/spinecertd --config /etc/spinecert/each.yaml\n"), 0o644)
	text := strings.Replace(h.Run("cat", "/etc/spinecert/spinecert.yaml"), "limits:", "state: {directory: /run/each}\nadmin: {socket: {path: /run/each.sock}}\nlimits:", 1)
	h.Push("/etc/spinecert/each.yaml", []byte(text+"\n"), 0o644)
	h.Run("systemctl", "daemon-reload")
	h.Run("systemctl", "start", "each.socket")
	c, err := h.Dial(h.t.Context(), "tcp", "127.0.0.1:7000")
	if err != nil {
		h.t.Fatal(err)
	}
	defer c.Close()
	h.logged("it is one connection")
	h.logged("Accept=no")
	h.Run("systemctl", "stop", "each.socket")
}

// testOutbound: the second unit of the page lends the identity to a group, and systemd's default would to everybody.
func testOutbound(h *host) {
	h.Run("groupadd", "--system", "pcs")
	h.Push(units+unit+".d/sds.conf", []byte("[Service]\nSockets=spinecertd-sds.socket\n"), 0o644)
	text := strings.Replace(h.Run("cat", "/etc/spinecert/spinecert.yaml"), "limits:",
		"  sds-out: {direction: outbound, listen: [\"systemd:sds\"], forward: \"ldap.example.nhs.uk:636\", slot: pcs}\nlimits:", 1)
	h.Push("/etc/spinecert/spinecert.yaml", []byte(text+"\n"), 0o644)
	h.Run("systemctl", "daemon-reload")
	h.Run("systemctl", "restart", unit)
	if out := h.Run("spinecert", "status"); !strings.Contains(out, "/run/spinecertd-sds.sock (systemd:sds)") {
		h.t.Errorf("status does not show the socket:\n%s", out)
	}
	page := h.Run("cat", units+"spinecertd-sds.socket")
	h.Push(units+"spinecertd-sds.socket", []byte(strings.Replace(page, "SocketMode=0660\n", "", 1)+"\n"), 0o644)
	h.Run("systemctl", "daemon-reload")
	h.Run("systemctl", "stop", "spinecertd-sds.socket", socket, unit)
	if out, err := h.Exec(h.t.Context(), "systemctl", "start", unit); err == nil {
		h.t.Errorf("everybody may use the identity: %s", out)
	}
	h.logged("every local user may connect")
	h.logged("SocketMode=0660")
	h.Run("systemctl", "stop", "spinecertd-sds.socket", socket, unit)
}
