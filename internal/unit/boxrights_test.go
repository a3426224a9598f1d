package unit_test

import (
	"fmt"
	"strings"

	"github.com/spinecert/spinecert/internal/unit"
)

// testRights: what a host with services lacks is said at first, is there with the files that are printed, and does what it is for.
func testRights(h *host) {
	own := h.issue()
	h.Push("/etc/spinecert/pcs.crt", own.FullChainPEM(), 0o644)
	h.Push("/etc/spinecert/pcs.key", own.KeyPEM(), 0o640)
	h.Run("chgrp", "spinecert", "/etc/spinecert/pcs.key")
	h.Push("/etc/systemd/system/waits.service", []byte("[Service]\nUser=nobody\nExecStart=/bin/sh -c 'trap \"\" HUP; echo $$$$ >/run/waits/pid; while :; do sleep 1; done'\nRuntimeDirectory=waits\n"), 0o644)
	h.Run("systemctl", "daemon-reload")
	h.Run("systemctl", "start", "waits")
	h.configure("{certificate: pcs.crt, key: pcs.key}", `tunnels:
  out: {direction: outbound, listen: ["127.0.0.1:9001", "unix:/run/spinecert/out.sock"], allow_users: [root], forward: "127.0.0.1:80", peers: [a.b], slot: pcs}
services:
  owned:
    slot: pcs
    deliver: {directory: /etc/owned/spine, files: [{format: fullchain, name: a.pem}, {format: key, name: a.key, owner: nobody, group: tape}]}
    reload: {signal: HUP, pid_file: /run/waits/pid}
    probe: none
limits: {drain: 50s}
`)
	p := h.plan()
	h.Run("systemctl", "start", "spinecertd")
	h.finds(
		"fail spinecertd.service lacks ReadWritePaths= for /etc/owned/spine // spinecert config systemd prints the drop-in",
		"warn spinecertd.service has ProtectProc=invisible",
		"fail spinecertd.service lacks SupplementaryGroups=tape",
		"fail spinecertd.service lacks CAP_CHOWN and CAP_KILL",
		"fail spinecertd.service lacks RestrictAddressFamilies=AF_NETLINK",
		"warn spinecertd.service has TimeoutStopSec=45",
	)
	for _, f := range p.Files {
		h.Push(f.Path, []byte(f.Content), 0o644)
	}
	h.finds("warn the files of spinecertd.service were changed since systemd read them",
		"ReadWritePaths=", "ProtectProc=", "SupplementaryGroups=", "CAP_CHOWN", "AF_NETLINK", "TimeoutStopSec=")
	h.Run("systemctl", "daemon-reload")
	h.finds(`warn the drop-in "` + unit.DropIn + `" was changed at`)
	if out, err := h.Exec(h.t.Context(), "systemd-analyze", "verify", "--man=no", "spinecertd.service"); err != nil || strings.TrimSpace(out) != "" {
		h.t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	h.copyFiles(p)
	h.finds()
	h.until("the key is nobody's", func() bool {
		out, _ := h.Exec(h.t.Context(), "stat", "-c", "%U %G", "/etc/owned/spine/current/a.key")
		return strings.TrimSpace(out) == "nobody tape"
	})
	h.until("the service was signalled", func() bool {
		out, _ := h.Exec(h.t.Context(), "spinecert", "services")
		return strings.Contains(out, "in_sync")
	})
	h.Run("systemctl", "stop", "spinecertd", "waits")
	h.Run("rm", "-r", "/etc/systemd/system/spinecertd.service.d")
	h.Run("systemctl", "daemon-reload")
}

// testPolkit: the rule grants each verb that is needed, and no other, as polkit itself says.
func testPolkit(h *host) {
	for _, name := range []string{"web", "check", "other", "spinecertd-other"} {
		h.Push("/etc/systemd/system/"+name+".service", []byte("[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\nExecReload=/bin/true\n"), 0o644)
	}
	h.Run("systemctl", "daemon-reload")
	h.Run("systemctl", "start", "polkit", "web", "other")
	h.configure("{certificate: pcs.crt, key: pcs.key}", `services:
  web:
    slot: pcs
    deliver: {directory: /etc/web/spine, files: [{format: combined, name: a.pem}]}
    validate: {unit: check.service}
    reload: {unit: web.service}
    probe: {exec: [/bin/true]}
`)
	p := h.plan()
	h.Run("systemctl", "start", "spinecertd")
	if got := strings.Join(h.doctor(), "\n"); strings.Count(got, "polkit does not let the daemon") != 3 || !strings.Contains(got, `polkit does not let the daemon restart or stop unit "spinecert-hook@web:probe.service"`) {
		h.t.Errorf("without the rule: %s", got)
	}
	h.copyFiles(p)
	h.until("polkit has read the rule", func() bool { return h.may(h.pid(), "web.service", "reload") })
	h.finds()
	pid := h.pid()
	for _, tc := range []struct {
		unit    string
		allowed string
	}{
		{"web.service", "reload start"},
		{"check.service", "restart stop"},
		{"spinecert-hook@web:probe.service", "restart stop"},
		{"spinecert-hook@web:reload.service", ""},
		{"spinecert-hook@other:probe.service", ""},
		{"other.service", ""},
		{"spinecertd.service", ""},
		{"constructor", ""},
		{"web.service.evil", ""},
	} {
		for _, verb := range []string{"start", "stop", "reload", "restart", "try-restart", "reload-or-restart", "kill", "set-property", "push"} {
			want := strings.Contains(" "+tc.allowed+" ", " "+verb+" ")
			if got := h.may(pid, tc.unit, verb); got != want {
				h.t.Errorf("%s %s: allowed %v, want %v", verb, tc.unit, got, want)
			}
		}
	}
	// The same of systemd itself.
	as := func(words ...string) error {
		_, err := h.Exec(h.t.Context(), append([]string{"setpriv", "--reuid", "spinecert", "--regid", "spinecert", "--init-groups", "systemctl", "--no-ask-password"}, words...)...)
		return err
	}
	if err := as("reload", "web.service"); err != nil {
		h.t.Error(err)
	}
	for _, refused := range [][]string{{"stop", "web.service"}, {"reload", "other.service"}, {"restart", "spinecertd.service"}, {"daemon-reload"}, {"mask", "web.service"}} {
		if as(refused...) == nil {
			h.t.Errorf("the daemon may %q", refused)
		}
	}
	// To name a directory that it does not deliver to yet gives no rights: there is no other file.
	if len(p.Files) != 2 {
		h.t.Errorf("%d files", len(p.Files))
	}
	h.Run("systemctl", "stop", "spinecertd")
	h.Run("rm", "-r", "/etc/systemd/system/spinecertd.service.d", unit.Rules)
	h.Run("systemctl", "daemon-reload")
}

// may asks polkit, for a process of the daemon's user.
func (h *host) may(pid, unit, verb string) bool {
	_, err := h.Exec(h.t.Context(), "pkcheck", "--action-id", "org.freedesktop.systemd1.manage-units", "--process", pid, "--detail", "unit", unit, "--detail", "verb", verb)
	return err == nil
}

// testSockets: a low port comes from the socket unit that is proposed, and a socket without an address is refused until it has one.
func testSockets(h *host) {
	own := h.issue()
	h.Push("/etc/spinecert/pcs.crt", own.FullChainPEM(), 0o644)
	h.Push("/etc/spinecert/pcs.key", own.KeyPEM(), 0o640)
	h.Run("chgrp", "spinecert", "/etc/spinecert/pcs.key")
	const inbound = "tunnels:\n  in: {direction: inbound, listen: %s, forward: \"127.0.0.1:80\", slot: pcs, peers: [a.b]}\n"
	h.Run("sh", "-c", "echo 1024 >/proc/sys/net/ipv4/ip_unprivileged_port_start")
	h.configure("{certificate: pcs.crt, key: pcs.key}", fmt.Sprintf(inbound, `["127.0.0.1:443", "`+listens+`"]`))
	p := h.plan()
	if out, err := h.Exec(h.t.Context(), "systemctl", "start", "spinecertd"); err == nil {
		h.t.Errorf("the daemon may bind a low port: %s", out)
	}
	h.finds("fail tunnel in listens on a port that needs root (ListenStream=127.0.0.1:443) // spinecert config systemd proposes a socket unit")
	if len(p.Notes) != 1 || !strings.HasSuffix(p.Notes[0], `write listen: ["systemd:in", "`+listens+`"]`) {
		h.t.Fatalf("notes %q", p.Notes)
	}
	_, list, _ := strings.Cut(p.Notes[0], "write listen: ")
	h.configure("{certificate: pcs.crt, key: pcs.key}", fmt.Sprintf(inbound, list))
	h.finds("fail tunnel in listens on systemd:in, and no socket unit of spinecertd.service has FileDescriptorName=in // spinecert config systemd prints one")
	for _, f := range p.Files {
		h.Push(f.Path, []byte(f.Content), 0o644)
	}
	if out, err := h.Exec(h.t.Context(), "systemd-analyze", "verify", "--man=no", "spinecertd.service", "spinecertd-in.socket"); err != nil || strings.TrimSpace(out) != "" {
		h.t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	h.copyFiles(p)
	h.until("the low port serves", func() bool {
		out, _ := h.Exec(h.t.Context(), "sh", "-c", "openssl s_client -connect 127.0.0.1:443 </dev/null 2>/dev/null | openssl x509 -noout -serial")
		return strings.TrimSpace(out) == serial(own)
	})
	h.until("the other port serves", func() bool { return h.served() == serial(own) })
	h.finds()

	// The configuration does not know the address: what is there is not printed over.
	p = h.plan()
	if len(p.Files) != 1 || p.Files[0].Path != unit.DropIn || len(p.Notes) != 1 {
		h.t.Errorf("with the socket unit in place: %+v", p)
	}
	// What is printed is refused as it is, and is right once the address is filled in.
	h.Run("mv", "/etc/systemd/system/spinecertd-in.socket", "/root/kept")
	p = h.plan()
	h.Run("mv", "/root/kept", "/etc/systemd/system/spinecertd-in.socket")
	var socket unit.File
	for _, f := range p.Files {
		if strings.HasSuffix(f.Path, "spinecertd-in.socket") {
			socket = f
		}
	}
	if !strings.Contains(socket.Content, unit.Unknown) {
		h.t.Fatalf("the socket unit does not ask for its address:\n%s", socket.Content)
	}
	h.Push("/root/spinecertd-in.socket", []byte(socket.Content), 0o644)
	if out, err := h.Exec(h.t.Context(), "systemd-analyze", "verify", "--man=no", "/root/spinecertd-in.socket"); err == nil {
		h.t.Errorf("a socket without an address: %s", out)
	}
	h.Push("/root/spinecertd-in.socket", []byte(strings.Replace(socket.Content, "#ListenStream=", "ListenStream=127.0.0.1:443", 1)), 0o644)
	if out, err := h.Exec(h.t.Context(), "systemd-analyze", "verify", "--man=no", "/root/spinecertd-in.socket"); err != nil {
		h.t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	h.Run("systemctl", "stop", "spinecertd-in.socket", "spinecertd")
	if lines := strings.Join(h.doctor(), "\n"); !strings.Contains(lines, "the socket unit spinecertd-in.socket of systemd:in does not listen // systemctl stop spinecertd; systemctl start spinecertd-in.socket spinecertd") {
		h.t.Errorf("doctor: %s", lines)
	}
}
