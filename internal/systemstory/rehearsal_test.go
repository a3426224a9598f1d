package systemstory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/hostbox"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/internal/testprogram"
)

const (
	site      = "127.0.0.1:443" // of nginx
	nginxConf = `worker_processes 1;
events {}
pid /run/nginx.pid;
error_log stderr;
http {
  access_log off;
  server {
    listen 127.0.0.1:443 ssl;
    ssl_certificate /etc/nginx/spine/current/fullchain.pem;
    ssl_certificate_key /etc/nginx/spine/current/key.pem;
    return 200 ok;
  }
}
`
	nginxService = `services:
  nginx:
    slot: pcs
    deliver:
      directory: /etc/nginx/spine
      files:
        - {format: fullchain, name: fullchain.pem}
        - {format: key, name: key.pem}
    validate: {exec: [/usr/sbin/nginx, -t]}
    reload: {unit: nginx.service, action: reload}
    probe: {address: "127.0.0.1:443", server_name: pcs.thirdparty.nhs.uk, stable: 3}
`
)

// plan puts the files in place that `spinecert config systemd` prints, and runs its commands.
func (h *host) plan() {
	h.t.Helper()
	a := h.Ask("config", "systemd")
	var p struct {
		Files    []struct{ Path, Content string }
		Commands []string
	}
	if err := json.Unmarshal(a.Result, &p); a.Exit != 0 || err != nil {
		h.t.Fatalf("config systemd: exit status %d, %v\n%s", a.Exit, err, a.Result)
	}
	for _, command := range p.Commands {
		if !strings.HasPrefix(command, "systemctl ") {
			h.Run("sh", "-ec", command)
		}
	}
	for _, file := range p.Files {
		h.Push(file.Path, []byte(file.Content), 0o644)
	}
	for _, command := range p.Commands {
		if strings.HasPrefix(command, "systemctl ") {
			h.Run("sh", "-ec", command)
		}
	}
}

// TestRehearsal: rotations of the installed service, with files that another user delivers, while peers of the tunnel and of nginx, which is reloaded through polkit, do not notice.
func TestRehearsal(t *testing.T) {
	t.Parallel()
	testprogram.Need(t, "/usr/sbin/nginx")
	rotations := 4
	if isLong() {
		rotations = 50
	}
	h := installed(t)
	h.Push("/etc/nginx/nginx.conf", []byte(nginxConf), 0o644)
	h.deployer()
	h.deliver()
	h.configure("certificate: pcs/pcs.crt, key: pcs/pcs.key", "certificate: /srv/delivered/pcs.crt, key: /srv/delivered/pcs.key", "admin:", nginxService+"admin:")
	h.Run("systemctl", "start", "polkit")
	h.plan()
	h.Until("nginx has its files", func() bool {
		_, err := h.Exec(t.Context(), "test", "-e", "/etc/nginx/spine/current/key.pem")
		return err == nil
	})
	h.Run("systemctl", "start", "nginx")
	pid := h.Run("systemctl", "show", "--value", "-p", "MainPID", "nginx")
	h.settled()
	if a := h.Ask("doctor"); a.Exit != 0 {
		t.Errorf("doctor: exit status %d\n%s", a.Exit, a.Result)
	}
	tr, sites, begin := h.traffic(2), h.visits(), time.Now()
	for i := range rotations {
		if i%4 == 3 { // one that is not good is taken by nobody
			h.spoil()
		}
		h.deliver()
		h.soon(h.own)
		h.settled()
	}
	tr.end(t)
	sites(t)
	t.Logf("%d rotations, each proved by nginx, in %s", rotations, time.Since(begin).Round(time.Millisecond))
	if now := h.Run("systemctl", "show", "--value", "-p", "MainPID", "nginx"); now != pid {
		t.Errorf("nginx was process %s, and is %s", pid, now)
	}
	h.sandboxed()
}

// deployer makes a user who may write the files of the slot, and is neither root nor the daemon.
func (h *host) deployer() {
	h.t.Helper()
	h.Run("groupadd", "--system", "deploy")
	h.Run("useradd", "--system", "--no-user-group", "--gid", "deploy", "--groups", "spinecert", "deployer")
	h.Run("install", "-d", "-o", "deployer", "-g", "spinecert", "-m", "2750", "/srv/delivered")
}

// deliver has that user put a new certificate there.
func (h *host) deliver() {
	h.t.Helper()
	h.own = h.issue(ownName)
	h.put(h.own)
}

// put has that user put a certificate and its key there. In the middle the pair does not fit, which is waited for.
func (h *host) put(leaf *testpki.Leaf) {
	h.t.Helper()
	h.Push("/run/pcs.crt", leaf.FullChainPEM(), 0o644)
	h.Push("/run/pcs.key", leaf.KeyPEM(), 0o644)
	h.Run("setpriv", "--reuid", "deployer", "--regid", "deploy", "--init-groups", "sh", "-ec",
		"umask 027; cd /srv/delivered; cp /run/pcs.key pcs.key.new; cp /run/pcs.crt pcs.crt.new; chgrp spinecert pcs.*.new; mv pcs.key.new pcs.key; sleep 0.1; mv pcs.crt.new pcs.crt")
}

// spoil puts a certificate there that is for another name, and waits until it is refused.
func (h *host) spoil() {
	h.t.Helper()
	h.put(h.issue("other.nhs.uk"))
	h.Until("a certificate for another name is refused", func() bool { return h.status().Slots[0].State == "refused" })
	h.serves(h.own)
}

// settled waits until nginx is in sync with what the files of the slot hold, and was seen to serve it.
func (h *host) settled() {
	h.t.Helper()
	var last admin.Service
	defer func() {
		if h.t.Failed() {
			h.t.Logf("nginx is %+v", last)
		}
	}()
	h.Until("nginx serves what the files of the slot hold", func() bool {
		var all struct {
			Services []admin.Service `json:"services"`
		}
		_ = json.Unmarshal(h.Ask("services").Result, &all) // none: asked again
		if len(all.Services) != 1 {
			return false
		}
		last = all.Services[0]
		return last.State == "in_sync" && last.Proved.Leaf == hostbox.Fingerprint(h.own)
	})
}

// visits has somebody ask nginx all the time, over a new connection each, until the function is called, which wants every answer to have been good.
func (h *host) visits() func(*testing.T) {
	h.t.Helper()
	transport := &http.Transport{TLSClientConfig: h.clientConfig(h.who), DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return h.Dial(ctx, "tcp", site) }}
	client := &http.Client{Transport: transport, Timeout: answerLimit}
	tr := &traffic{}
	ctx, stop := context.WithCancel(h.t.Context())
	tr.stop = stop
	tr.done.Go(func() {
		tr.repeat(ctx, func() error {
			answer, err := client.Get("https://" + ownName + "/")
			if err != nil {
				return err
			}
			text, err := io.ReadAll(answer.Body)
			if err == nil && string(text) != "ok" {
				err = fmt.Errorf("nginx says %q", text)
			}
			tr.opened.Add(1)
			return errors.Join(err, answer.Body.Close())
		})
	})
	h.t.Cleanup(func() { tr.end(h.t) })
	return tr.end
}
