package unitstory

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/box"
	"github.com/spinecert/spinecert/internal/hostbox"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/internal/testprogram"
)

const (
	rulePath   = "/etc/polkit-1/rules.d/50-spinecert.rules"
	dropIns    = "/etc/systemd/system/spinecertd.service.d/"
	ownerPath  = dropIns + "owner.conf"
	nginxSite  = "127.0.0.1:443"
	nginxFile  = "/etc/nginx/spine/current/fullchain.pem"
	nginxConf  = "events {}\npid /run/nginx.pid;\nerror_log stderr;\nhttp {\n  access_log off;\n  include /etc/nginx/extra*.conf;\n  server {\n    listen 127.0.0.1:443 ssl;\n    ssl_certificate /etc/nginx/spine/current/fullchain.pem;\n    ssl_certificate_key /etc/nginx/spine/current/key.pem;\n    return 200 ok;\n  }\n}\n"
	haproxySet = "/etc/haproxy/spine/current/"
	haproxyCfg = "global\n  user haproxy\n  group haproxy\ndefaults\n  mode http\n  timeout client 10s\n  timeout server 10s\n  timeout connect 10s\nfrontend site\n  bind 127.0.0.1:8443 ssl crt /etc/haproxy/spine/current/pcs.pem\n  http-request return status 200\n"
)

// TestUnits is one test with parts in order: they share a box.
func TestUnits(t *testing.T) {
	for _, program := range []string{"/usr/sbin/nginx", "/usr/sbin/haproxy", "openssl"} {
		testprogram.Need(t, program)
	}
	begin := time.Now()
	h := install(t)
	t.Logf("built and installed in %s", time.Since(begin).Round(time.Millisecond))
	for _, part := range []struct {
		name string
		run  func(*host)
	}{
		{"first delivery", testFirst},
		{"rotation", testRotation},
		{"commands", testCommands},
		{"polkit", testPolkit},
		{"bus", testBus},
		{"bad units", testBadUnits},
		{"broken include", testBrokenInclude},
		{"stopped", testStopped},
		{"permissions", testPermissions},
		{"restart", testRestart},
		{"owner", testOwner},
	} {
		ok := t.Run(part.name, func(t *testing.T) {
			start := time.Now()
			p := h.part(t)
			t.Cleanup(func() {
				if t.Failed() {
					out, _ := h.Exec(context.WithoutCancel(t.Context()), "journalctl", "--no-pager", "-o", "short", "-n", "60")
					t.Logf("the journal ends with\n%s", out)
				}
			})
			part.run(p)
			h.own, h.order = p.own, p.order
			t.Logf("took %s", time.Since(start).Round(time.Millisecond))
		})
		if !ok {
			return // the others begin where this one should have ended
		}
	}
	if out := h.Run("journalctl", "--no-pager", "-u", "spinecertd"); strings.Contains(out, "panic:") || strings.Contains(out, "PRIVATE KEY") {
		t.Errorf("spinecertd said:\n%s", out)
	}
}

// install makes a host with the units that are shipped and by the page: what stands
// there as commands is run, and what stands there as a file is installed.
func install(t *testing.T) *host {
	t.Helper()
	programs, built := t.TempDir(), make(chan error, 1)
	go func() { built <- hostbox.Build(t.Context(), programs) }() // as the box boots
	h := &host{Host: hostbox.New(t, box.Start(t), "/usr/bin/spinecert"), t: t, services: map[string]string{}}
	h.sub = testpki.NewRoot(t, testpki.KeyType("ecdsa-p256"), testpki.Name("Test Root Authority")).SubCA(t, testpki.KeyType("ecdsa-p256"), testpki.Name("Test Authentication"))
	if err := <-built; err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"spinecertd", "spinecert"} {
		h.PushFile("/usr/bin/"+name, programs+"/"+name, 0o755)
	}
	const shipped = "../../systemd/"
	h.PushFile("/usr/lib/systemd/system/spinecertd.service", shipped+"spinecertd.service", 0o644)
	h.PushFile("/usr/lib/sysusers.d/spinecert.conf", shipped+"spinecert.sysusers", 0o644)
	h.PushFile("/usr/lib/tmpfiles.d/spinecert.conf", shipped+"spinecert.tmpfiles", 0o644)
	h.Run("systemd-sysusers", "spinecert.conf")
	h.Run("systemd-tmpfiles", "--create", "spinecert.conf")
	h.Run("install", "-d", "-m", "0755", "/etc/spinecert", "/etc/spinecert/trust")
	h.Run("install", "-d", "-o", "root", "-g", "spinecert", "-m", "0750", "/etc/spinecert/pcs")

	page := blocksOf(t, "services/systemd.md")
	h.PushFile("/usr/src/spinecert/systemd/spinecert-hook@.service", shipped+"spinecert-hook@.service", 0o644)
	h.commands(only(t, page, "Directory and group", ""))
	h.commands(only(t, page, "Commands", ""))
	for path, text := range files(t, page) {
		switch {
		case path == ownerPath: // testOwner
		case strings.HasPrefix(text, "#!"):
			h.Push(path, []byte(text), 0o755)
		default:
			h.Push(path, []byte(text), 0o644)
		}
	}
	h.Push("/etc/nginx/nginx.conf", []byte(nginxConf), 0o644)
	h.Push("/etc/haproxy/haproxy.cfg", []byte(haproxyCfg), 0o644)
	h.Push("/etc/spinecert/trust/live.pem", h.sub.BundlePEM(), 0o644)
	h.Run("systemctl", "daemon-reload")
	h.Run("systemctl", "start", "polkit")
	return h
}

// commands runs the commands of a page.
func (h *host) commands(text string) {
	h.t.Helper()
	h.Run("sh", "-ec", "mkdir -p /usr/src/spinecert; cd /usr/src/spinecert\n"+text)
}

// example returns the services: of a section of the page.
func (h *host) example(section string, replace ...string) string {
	h.t.Helper()
	text := only(h.t, blocksOf(h.t, "services/systemd.md"), section, "yaml")
	return replaced(h.t, strings.TrimPrefix(text, "services:\n"), replace...)
}

// testFirst: nginx cannot start without its files; they come all the same.
func testFirst(h *host) {
	h.rotate()
	h.configure("nginx", h.example("nginx, by its unit"))
	if out, err := h.Exec(h.t.Context(), "systemctl", "start", "nginx"); err == nil {
		h.t.Errorf("nginx runs without its files: %s", out)
	}
	h.Run("systemctl", "start", "spinecertd")
	h.says(h.state("nginx", "failed", "reload", "unit_inactive"), "nginx.service", "systemctl start nginx.service")
	h.holds(nginxFile, h.own)
	h.Run("systemctl", "start", "nginx")
	h.settled("nginx") // by itself
	h.soon(nginxSite, h.own)
	if got := h.Run("stat", "-c", "%U %G %a", "/etc/nginx/spine/current/key.pem"); got != "spinecert nginx-tls 640" {
		h.t.Errorf("the key is %s", got)
	}
	// The daemon has no right that the unit does not name.
	status := h.Run("sh", "-c", `grep -E '^(Uid|CapEff|CapPrm|CapBnd|CapAmb|NoNewPrivs|Seccomp):' /proc/$(systemctl show --value -p MainPID spinecertd)/status`)
	uid := h.Run("id", "-u", "spinecert")
	for _, line := range []string{"Uid:\t" + uid + "\t" + uid + "\t" + uid + "\t" + uid, "CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "CapBnd:\t0000000000000000", "CapAmb:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"} {
		if !strings.Contains(status, line) {
			h.t.Errorf("the daemon has not %q:\n%s", line, status)
		}
	}
}

// testRotation: delivered, reloaded, proved, and nginx is the process it was.
func testRotation(h *host) {
	pid := h.Run("systemctl", "show", "--value", "-p", "MainPID", "nginx")
	for i := range 3 {
		was, _ := h.service("nginx")
		start := time.Now()
		h.rotate()
		s := h.settled("nginx")
		h.t.Logf("rotation %d: %s", i+1, time.Since(start).Round(time.Millisecond))
		if s.Served.Leaf != hostbox.Fingerprint(h.own) || s.Served.Generation != was.Served.Generation+1 {
			h.t.Errorf("generation %d of leaf %s is served, after %d", s.Served.Generation, s.Served.Leaf, was.Served.Generation)
		}
		h.soon(nginxSite, h.own)
	}
	if now := h.Run("systemctl", "show", "--value", "-p", "MainPID", "nginx"); now != pid {
		h.t.Errorf("nginx was process %s, and is %s", pid, now)
	}
	h.deliver(0, "nginx")
	if out, err := h.Exec(h.t.Context(), "/usr/bin/spinecert", "doctor"); err != nil || strings.Contains(out, "fail ") || strings.Contains(out, "warn SERVICE") || !strings.Contains(out, "ok SERVICE service nginx: unit nginx.service runs") {
		h.t.Errorf("doctor, of what is as it should be: %v\n%s", err, out)
	}
}

// testCommands: HAProxy is told, and looked at, by commands.
func testCommands(h *host) {
	h.configure("haproxy", h.example("HAProxy, by commands"))
	h.state("haproxy", "failed", "reload", "reload_failed") // no HAProxy, no number of its process
	h.Run("systemctl", "start", "haproxy")
	h.deliver(0, "haproxy", "--now")
	h.settled("haproxy")
	h.soon("127.0.0.1:8443", h.own)
	old := h.rotate()
	h.settled("haproxy")
	h.settled("nginx")
	h.soon("127.0.0.1:8443", h.own)
	if got := h.Run("stat", "-c", "%U %G %a", haproxySet+"pcs.pem"); got != "spinecert haproxy 640" {
		h.t.Errorf("the file is %s", got)
	}

	// A command that says no once: the old one is served, and the reason is in the journal of its unit.
	const script = "/usr/local/sbin/haproxy-reload"
	h.Push(script, []byte("#!/bin/sh\ntest ! -e /run/no || { rm /run/no; echo no such luck >&2; exit 7; }\nkill -USR2 \"$(cat /run/haproxy.pid)\"\n"), 0o755)
	h.Push("/run/no", nil, 0o644)
	h.rotate()
	h.says(h.state("haproxy", "held", "reload", "reload_failed"), "exit status 7", "journalctl -u spinecert-hook@haproxy:reload.service")
	h.serves("127.0.0.1:8443", old)
	h.holds(haproxySet+"pcs.pem", old)
	if out := h.Run("journalctl", "--no-pager", "-u", "spinecert-hook@haproxy:reload"); !strings.Contains(out, "no such luck") {
		h.t.Errorf("the journal of the hook has\n%s", out)
	}
	h.deliver(0, "haproxy", "--now")
	h.settled("haproxy")
	h.soon("127.0.0.1:8443", h.own)

	// What others than root may write does not run as root.
	h.Run("chmod", "0777", script)
	was := h.own
	h.rotate()
	s := h.state("haproxy", "failed", "reload", "command_unusable")
	h.says(s, "was not run", "journalctl -u spinecert-hook@haproxy:reload.service")
	if out := h.Run("journalctl", "--no-pager", "-u", "spinecert-hook@haproxy:reload"); !strings.Contains(out, "may be written by others than root") {
		h.t.Errorf("the journal of the hook has\n%s", out)
	}
	h.serves("127.0.0.1:8443", was)
	h.Run("chmod", "0755", script)
	h.settled("haproxy") // by itself
	h.soon("127.0.0.1:8443", h.own)
	h.configure("haproxy", "")
	h.settled("nginx")
}

// testPolkit: without a rule the old certificate is served, and with it everything heals.
func testPolkit(h *host) {
	rule := files(h.t, blocksOf(h.t, "services/systemd.md"))[rulePath]
	polkit := func(text string) {
		h.t.Helper()
		h.Push(rulePath, []byte(text), 0o644)
		h.Run("systemctl", "restart", "polkit") // else it is read at some moment
	}
	// The unit is not named.
	old := h.own
	polkit(replaced(h.t, rule, `"nginx.service"`, `"other.service"`))
	h.rotate()
	s := h.state("nginx", "failed", "reload", "not_permitted")
	h.says(s, `user "spinecert"`, "org.freedesktop.systemd1.manage-units", `unit "nginx.service"`, `verb "reload"`, rulePath, "spinecert config systemd")
	h.holds(nginxFile, old)
	h.serves(nginxSite, old)
	polkit(rule)
	h.settled("nginx") // by itself
	h.soon(nginxSite, h.own)

	// There is no rule.
	old = h.own
	h.Run("rm", rulePath)
	h.Run("systemctl", "restart", "polkit")
	h.rotate()
	s = h.state("nginx", "failed", "validate", "not_permitted")
	h.says(s, `unit "spinecert-hook@nginx:validate.service"`, `verb "restart"`, rulePath)
	h.holds(nginxFile, old)
	h.serves(nginxSite, old)
	h.deliver(1, "nginx", "--now")

	// There is no polkitd.
	h.Run("systemctl", "mask", "--runtime", "--now", "--quiet", "polkit")
	h.deliver(1, "nginx", "--now")
	h.says(h.state("nginx", "failed", "validate", "not_permitted"), "systemctl status polkit.service")
	h.serves(nginxSite, old)
	h.Run("systemctl", "unmask", "--runtime", "--quiet", "polkit")
	polkit(rule)
	h.deliver(0, "nginx", "--now")
	h.settled("nginx")
	h.soon(nginxSite, h.own)
}

// testBus: without D-Bus the old certificate is served, and with it everything heals.
func testBus(h *host) {
	old := h.own
	h.Run("systemctl", "stop", "dbus.socket", "dbus.service")
	h.rotate()
	h.says(h.state("nginx", "failed", "validate", "bus_away"), "/run/dbus/system_bus_socket", "systemctl status dbus.service")
	h.holds(nginxFile, old)
	h.serves(nginxSite, old)
	h.Run("systemctl", "start", "dbus.socket", "dbus.service")
	h.AwaitBus()
	h.Run("systemctl", "restart", "polkit")
	h.settled("nginx") // by itself
	h.soon(nginxSite, h.own)
}
