package services

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testprogram"
)

// haproxy is HAProxy as docs/services/haproxy.md has it.
type haproxy struct {
	h       *host
	page    *page
	path    string // of the program
	backend string
	more    string // that stands behind what the page has
}

func newHAProxy(t *testing.T, kind string) *haproxy {
	t.Helper()
	path := testprogram.Need(t, "haproxy")
	h := newHost(t, kind)
	return &haproxy{h: h, page: openPage(t, "haproxy.md"), path: path, backend: h.backend()}
}

// configuration is what the page has, and what every HAProxy has around it.
func (p *haproxy) configuration(directory, address string) string {
	_, gid := ids()
	text := p.page.block("Through the runtime socket", "haproxy", "/run/haproxy/admin.sock", directory+".sock", "group haproxy-admin", "gid "+gid)
	if user, group, ok := p.h.dropped(); ok {
		text += fmt.Sprintf("    user %s\n    group %s\n", user, group)
	}
	text += "defaults\n    mode http\n    timeout connect 20s\n    timeout client 60s\n    timeout server 60s\n"
	return text + p.page.block("In HAProxy", "haproxy", "/etc/haproxy/spine", directory, "bind :443", "bind "+address, "127.0.0.1:8080", p.backend) + p.more
}

// start starts it as Debian does: a master, which a signal reloads, and a worker.
func (p *haproxy) start(directory, address string) *process {
	h := p.h
	h.t.Helper()
	h.write(strings.TrimPrefix(directory, h.dir+"/")+".cfg", []byte(p.configuration(directory, address)), 0o600)
	return h.launch(p.path, "-W", "-f", directory+".cfg", "-p", directory+".pid", "-S", directory+".master")
}

var haproxyFiles = map[string]func(*host) []byte{"pcs.pem": contents["combined"], "trust.pem": contents["trust-pem"], "crl.pem": contents["crl-pem"]}

// bySignal is HAProxy that is reloaded, for a campaign.
func (p *haproxy) bySignal(replace ...string) program {
	return program{
		service: "haproxy", files: haproxyFiles,
		start: func(_ *host, directory, address string) *process { return p.start(directory, address) },
		reload: func(h *host, server *process, _ string) {
			if err := server.cmd.Process.Signal(syscall.SIGUSR2); err != nil {
				h.t.Fatal(err)
			}
		},
		rest: p.rested,
		services: func(_ *host, directory, address string) string {
			text := p.page.block("Through the runtime socket", "yaml", "    reload: {haproxy: /run/haproxy/admin.sock, unit: haproxy.service}\n", p.page.block("Without systemd", "yaml"),
				"/etc/haproxy/spine", directory, "127.0.0.1:443", address)
			text = replaced(p.h.t, text, replace...)
			return strings.NewReplacer("/usr/sbin/haproxy", p.path, "/etc/haproxy/haproxy.cfg", directory+".cfg", "/run/haproxy.pid", directory+".pid").Replace(text)
		},
	}
}

// rested waits until the master has nothing left of its start, or of the reload before: it loses
// a signal that comes meanwhile, and nobody is told. Its own socket answers afterwards.
func (p *haproxy) rested(_ *host, directory string) {
	p.h.t.Helper()
	p.h.until("the master answers", func() bool {
		_, err := ask(directory+".master", "show proc\n", "worker")
		return err == nil
	})
}

// bySocket is HAProxy that is told through its socket, and reloaded for what that does not take.
func (p *haproxy) bySocket(replace ...string) program {
	return program{
		service: "haproxy", files: haproxyFiles,
		start: func(_ *host, directory, address string) *process { return p.start(directory, address) },
		reload: func(h *host, _ *process, directory string) {
			name := directory + "/current/pcs.pem"
			p.tell(directory, fmt.Sprintf("set ssl cert %s <<\n%s\n", name, contents["combined"](h)), "Transaction created")
			p.tell(directory, "commit ssl cert "+name+"\n", "Success!")
		},
		services: func(_ *host, directory, address string) string {
			return p.page.block("Through the runtime socket", "yaml", append([]string{
				"    reload: {haproxy: /run/haproxy/admin.sock, unit: haproxy.service}\n", p.page.block("With a reload for the rest, without systemd", "yaml"),
				"/run/haproxy/admin.sock", directory + ".sock", "/run/haproxy.pid", directory + ".pid",
				"/etc/haproxy/spine", directory, "127.0.0.1:443", address}, replace...)...)
		},
	}
}

// bySocketAlone is the same without the reload beside it.
func (p *haproxy) bySocketAlone(replace ...string) program {
	return p.bySocket(append([]string{", signal: USR2, pid_file: " + p.h.path(target) + ".pid", ""}, replace...)...)
}

// anew has HAProxy start a worker: through the socket of the one before CAs and CRLs went with the first delivery.
func (p *haproxy) anew(server *process) {
	p.h.t.Helper()
	before := strings.Count(server.String(), "Reloading HAProxy")
	signal(p.h.t, server, syscall.SIGUSR2)
	p.h.until("HAProxy has begun its reload", func() bool { return strings.Count(server.String(), "Reloading HAProxy") > before })
	p.rested(p.h, p.h.path(target))
}

// tell sends a command to the runtime socket and wants a word in the answer.
func (p *haproxy) tell(directory, command, want string) {
	p.h.t.Helper()
	if answer, err := ask(directory+".sock", command, want); err != nil {
		p.h.t.Fatalf("HAProxy answers %q, want %q: %v", answer, want, err)
	}
}

// ask sends a command to a socket of HAProxy and reads until a word has come. That of the
// master does not hang up.
func ask(socket, command, want string) (answer string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, command); err != nil {
		return "", err
	}
	for buffer := make([]byte, 4096); !strings.Contains(answer, want); {
		n, err := c.Read(buffer)
		if answer += string(buffer[:n]); err != nil && !strings.Contains(answer, want) {
			return answer, err
		}
	}
	return answer, nil
}

func TestHAProxyReloads(t *testing.T) {
	parallel(t)
	p := newHAProxy(t, "ecdsa-p256")
	p.bySignal().campaign(p.h)
}

func TestHAProxyBySocket(t *testing.T) {
	parallel(t)
	p := newHAProxy(t, "ecdsa-p256")
	p.bySocket().campaign(p.h)
}

// TestHAProxyReloadsAndGoesBack breaks the configuration of HAProxy: without a
// validation its master stays, waits, and has the old worker serve on.
func TestHAProxyReloadsAndGoesBack(t *testing.T) {
	for _, c := range []struct {
		name, step, reason string
		validate           bool
	}{
		{"validation says no", "validate", "validate_failed", true},
		{"the master waits", "prove", "wrong_certificate", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			parallel(t)
			p := newHAProxy(t, "ecdsa-p256")
			replace := []string{"within: 30s", shortProof}
			if !c.validate {
				replace = append(replace, "    validate: {exec: [/usr/sbin/haproxy, -c, -f, /etc/haproxy/haproxy.cfg]}\n", "")
			}
			s := p.bySignal(replace...)
			address, _ := s.serve(p.h)
			good := p.configuration(p.h.path(target), address)
			p.h.goesBack(s, address, c.step, c.reason,
				func() { p.h.write("spine.cfg", []byte(good+"no-such-directive\n"), 0o600) },
				func() { p.h.write("spine.cfg", []byte(good), 0o600) })
		})
	}
}

// TestHAProxyBySocketGoesBack has HAProxy say no, or nothing.
func TestHAProxyBySocketGoesBack(t *testing.T) {
	t.Run("the socket is gone", func(t *testing.T) {
		parallel(t)
		p := newHAProxy(t, "ecdsa-p256")
		s := p.bySocketAlone("within: 30s", shortProof)
		address, server := s.serve(p.h)
		p.anew(server)
		move := func(from, to string) {
			if err := os.Rename(p.h.path(from), p.h.path(to)); err != nil {
				t.Fatal(err)
			}
		}
		p.h.fails(s, address, "failed", "reload", "socket_away", func() { move("spine.sock", "away.sock") })
		move("away.sock", "spine.sock")
		p.h.settled("haproxy", address) // by itself: it was not for the set that it failed
	})
	t.Run("somebody else has begun a transaction", func(t *testing.T) {
		parallel(t)
		p := newHAProxy(t, "ecdsa-p256")
		other := p.h.path("other.pem")
		p.h.write("other.pem", contents["combined"](p.h), 0o600)
		p.more = fmt.Sprintf("frontend other\n    bind %s ssl crt %s\n", p.h.freeAddress(), other)
		s := p.bySocketAlone("within: 30s", shortProof)
		address, server := s.serve(p.h)
		p.anew(server)
		p.h.goesBack(s, address, "reload", "reload_failed",
			func() {
				p.tell(p.h.path(target), fmt.Sprintf("set ssl cert %s <<\n%s\n", other, contents["combined"](p.h)), "Transaction created")
			},
			func() { p.tell(p.h.path(target), "abort ssl cert "+other+"\n", "Transaction aborted") })
	})
}
