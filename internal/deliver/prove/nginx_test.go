package prove

import (
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/deliver/failure"
	"github.com/spinecert/spinecert/internal/testprogram"
)

// nginx starts nginx with server blocks.
func (h *host) nginx(servers string) *exec.Cmd {
	h.t.Helper()
	h.write("nginx.conf", []byte(fmt.Sprintf(`daemon off; pid %[1]s/nginx.pid; error_log stderr notice; worker_processes 2;
events { worker_connections 64; }
http {
	access_log off;
	client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
	%[2]s
}
`, h.dir, servers)), 0o644)
	cmd, _ := h.launch(nil, testprogram.Need(h.t, "nginx"), "-p", h.dir, "-c", h.path("nginx.conf"))
	return cmd
}

// block is a server block with a certificate.
func (h *host) block(listen, pair string, more ...string) string {
	return fmt.Sprintf("server { listen %s ssl; ssl_certificate %s.pem; ssl_certificate_key %s.key; %s }\n", listen, h.path(pair), h.path(pair), strings.Join(more, " "))
}

func TestNginx(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	names, v13, leafOnly, socket := h.freeAddress(), h.freeAddress(), h.freeAddress(), "unix:"+h.path("socket")
	h.write("leaf.key", h.own.KeyPEM(), 0o600)
	h.nginx(h.block(names, "own", "server_name", ownName+";") + h.block(names, "other", "server_name", otherName+";") +
		h.block(v13, "own", "ssl_protocols TLSv1.3;") + h.block(leafOnly, "leaf") + h.block(socket, "own"))
	h.listening(names)

	h.proves(probe(names, config.ProbeTLS), h.own)
	h.proves(probe(v13, config.ProbeTLS), h.own)
	h.proves(probe(socket, config.ProbeTLS), h.own)
	byName := probe(names, config.ProbeTLS)
	byName.ServerName = otherName
	h.refuses(byName, h.own, failure.WrongCertificate, otherName)
	h.proves(byName, h.stranger)
	byName.ServerName = ownName
	h.proves(byName, h.own)
	h.refuses(probe(leafOnly, config.ProbeTLS), h.own, failure.WrongChain, `without "CN=Test Authentication"`)
	h.refuses(probe(names, config.ProbeTLS), h.next, failure.WrongCertificate, h.next.Cert.SerialNumber.Text(16))
}

// nginx takes any certificate in the handshake, and answers requests with status 400.
func TestNginxAsksForCertificates(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	ours, theirs, theirs13 := h.freeAddress(), h.freeAddress(), h.freeAddress()
	h.nginx(h.block(ours, "own", "ssl_verify_client on; ssl_verify_depth 3; ssl_client_certificate", h.path("root.pem")+";") +
		h.block(theirs, "own", "ssl_verify_client on; ssl_client_certificate", h.path("foreign.pem")+";") +
		h.block(theirs13, "own", "ssl_protocols TLSv1.3; ssl_verify_client on; ssl_client_certificate", h.path("foreign.pem")+";"))
	h.listening(ours)
	for _, address := range []string{ours, theirs, theirs13} {
		h.proves(probe(address, config.ProbeTLS), h.own)
	}
}

// While workers go, an old one still answers. Prove sees the new certificate only when
// they are gone, or never where the reload failed.
func TestNginxReloads(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	address := h.freeAddress()
	cmd := h.nginx(h.block(address, "own"))
	h.listening(address)
	for i := range 10 {
		now, before := h.next, h.own
		if i%2 == 1 {
			now, before = before, now
		}
		h.proves(probe(address, config.ProbeTLS), before)
		h.write("own.pem", now.FullChainPEM(), 0o644)
		h.write("own.key", now.KeyPEM(), 0o644)
		proved := make(chan error)
		go func() {
			_, err := Prove(t.Context(), probe(address, config.ProbeTLS), wants(t, now))
			proved <- err
		}()
		if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		if err := <-proved; err != nil {
			t.Fatal(err)
		}
	}
}
