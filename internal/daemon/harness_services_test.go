package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/internal/testprogram"
	"github.com/spinecert/spinecert/pki"
)

// withServices configures one slot and services.
func (h *host) withServices(services ...string) {
	h.t.Helper()
	h.configure(`revocation: "off"`, providerSlot, "  {}\nservices:\n"+strings.Join(services, "\n"))
}

// plainService is one that watches its files itself, and more.
func (h *host) plainService(name, more string) string {
	h.t.Helper()
	if err := os.MkdirAll(h.path(name), 0o755); err != nil {
		h.t.Fatal(err)
	}
	if !strings.Contains(more, "reload:") {
		more += ", reload: none"
	}
	return fmt.Sprintf("  %s: {slot: pcs, deliver: {directory: %s, files: [{format: fullchain, name: fullchain.pem}, {format: key, name: key.pem}]}, probe: none, %s}",
		name, name, strings.TrimPrefix(more, ", "))
}

// script writes a program of the shell.
func (h *host) script(name, text string) string {
	h.t.Helper()
	return h.write(name, []byte("#!/bin/sh\n"+text), 0o755)
}

// service returns how a service stands; the zero value if there is none.
func (h *host) service(name string) admin.Service {
	h.t.Helper()
	services := h.status().Services
	if i := slices.IndexFunc(services, func(s admin.Service) bool { return s.Name == name }); i >= 0 {
		return services[i]
	}
	return admin.Service{}
}

// synced waits until a service has what a leaf belongs to.
func (h *host) synced(name string, leaf *testpki.Leaf) admin.Service {
	h.t.Helper()
	var s admin.Service
	h.until(name+" is in sync", func() bool {
		s = h.service(name)
		return s.State == "in_sync" && s.Proved.Leaf == pki.Fingerprint(leaf.Cert)
	})
	if data, err := os.ReadFile(filepath.Join(s.Directory, "current", "fullchain.pem")); err != nil || string(data) != string(leaf.FullChainPEM()) {
		h.t.Errorf("%s has %q in its directory, %v", name, data, err)
	}
	return s
}

// ask has a service delivered, and returns code and reason of what stood against it.
func (h *host) ask(r admin.DeliverRequest) (admin.DeliverResult, *admin.Error) {
	h.t.Helper()
	out, err := h.client.Deliver(h.t.Context(), r, patience)
	var refusal *admin.Error
	if err != nil && !errors.As(err, &refusal) {
		h.t.Fatal(err)
	}
	return out, refusal
}

// auditedOf returns the lines of the audit file about a service, as EVENT FROM-TO REASON.
func (h *host) auditedOf(service string) []string {
	h.t.Helper()
	data, err := os.ReadFile(h.path("state/audit.jsonl"))
	if err != nil {
		h.t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(data)) {
		var l auditLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			h.t.Fatal(err)
		}
		if l.Service != service {
			continue
		}
		if l.Slot != "pcs" || l.Actor.PID == 0 {
			h.t.Errorf("audit line without slot or actor: %s", line)
		}
		reason, _, _ := strings.Cut(l.Reason, ":") // of an order it has the sentence too
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %d-%d %s", l.Event, l.From, l.To, reason)))
	}
	return out
}

// failedCondition returns the condition of a service, nil if there is none.
func (h *host) failedCondition(service string) *admin.Condition {
	h.t.Helper()
	for _, c := range h.status().Conditions {
		if c.Code == "service_failed" && c.Subject == service {
			return &c
		}
	}
	return nil
}

// nginx is one that reads what is delivered to it.
type nginx struct {
	h       *host
	address string
	cmd     *exec.Cmd
}

// newNginx writes its configuration. It is not started: its files are not there yet.
func (h *host) newNginx() *nginx {
	h.t.Helper()
	n := &nginx{h: h, address: freeAddress(h.t)}
	for _, dir := range []string{"nginx/extra", "nginx/spine"} {
		if err := os.MkdirAll(h.path(dir), 0o755); err != nil {
			h.t.Fatal(err)
		}
	}
	h.write("nginx/nginx.conf", []byte(fmt.Sprintf(`daemon off; pid %[1]s/pid; error_log stderr; worker_processes 1;
events { worker_connections 64; }
http {
	access_log off;
	client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
	include extra/*.conf;
	server { listen %[2]s ssl; ssl_certificate %[1]s/spine/current/fullchain.pem; ssl_certificate_key %[1]s/spine/current/key.pem; }
}
`, h.path("nginx"), n.address)), 0o644)
	return n
}

// service is its part of the configuration.
func (n *nginx) service(more string) string {
	return fmt.Sprintf(`  nginx:
    slot: pcs
    deliver: {directory: nginx/spine, files: [{format: fullchain, name: fullchain.pem}, {format: key, name: key.pem}]}
    reload: {signal: HUP, pid_file: nginx/pid}
    probe: {address: "%s", within: 2s}
    %s`, n.address, more)
}

// start starts it once its files are there.
func (n *nginx) start() {
	n.h.t.Helper()
	n.h.until("nginx has files", func() bool {
		_, err := os.Stat(n.h.path("nginx/spine/current/key.pem"))
		return err == nil
	})
	n.cmd = exec.Command(testprogram.Need(n.h.t, "nginx"), "-p", n.h.path("nginx"), "-c", n.h.path("nginx/nginx.conf"))
	out := &testprogram.Output{}
	n.cmd.Stdout, n.cmd.Stderr = out, out
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := n.cmd.Start(); err != nil {
		n.h.t.Fatal(err)
	}
	n.h.t.Cleanup(func() {
		_ = n.cmd.Process.Signal(syscall.SIGTERM) // its workers go with it
		_ = n.cmd.Wait()
		if n.h.t.Failed() {
			n.h.t.Logf("nginx said:\n%s", out)
		}
	})
	n.h.until("nginx runs", func() bool {
		data, err := os.ReadFile(n.h.path("nginx/pid"))
		pid, _ := strconv.Atoi(strings.TrimSpace(string(data)))
		return err == nil && pid == n.cmd.Process.Pid
	})
}
