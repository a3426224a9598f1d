package cli

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/internal/testprogram"
)

// peerCheck runs a check of a peer as somebody types it.
func peerCheck(t *testing.T, want pluginStatus, says string, args ...string) {
	t.Helper()
	exit, out, errs := run(t, append([]string{"check"}, args...)...)
	line, _, _ := strings.Cut(out, "\n")
	if exit != int(want) || !strings.HasPrefix(line, "SPINECERT "+want.String()+" - ") || !strings.Contains(line, says) || errs != "" {
		t.Errorf("check %q: exit %d, want %s with %q\n%s%s", args, exit, want, says, out, errs)
	}
}

func TestCheckEndpoint(t *testing.T) {
	p := newPeerPKI(t)
	address := serveOpenSSL(t, p)
	asks := serveOpenSSL(t, p, "-tls1_2", "-Verify", "2", "-verify_return_error", "-CAfile", p.file("bundle.pem"))
	host, port, _ := net.SplitHostPort(address)
	left := "(" + stamp(p.server.Cert.NotAfter) + ") | '"

	// Dates alone: who issued it is not looked at, and nothing is called good that was not judged.
	peerCheck(t, pluginOK, address+" expires in 36", "--endpoint", address)
	peerCheck(t, pluginOK, left, "--endpoint", address)
	peerCheck(t, pluginOK, left, "--endpoint", asks)
	peerCheck(t, pluginOK, left, "--endpoint", address, "--leaf-only", "--sni", "other.nhs.uk")
	peerCheck(t, pluginCritical, left, "--endpoint", address, "--critical", "9999d", "--warning", "9999d")
	peerCheck(t, pluginWarning, left, "--endpoint", address, "--warning", "9999d")

	// The whole verdict.
	trusted := []string{"--endpoint", address, "--trust", p.file("root.pem")}
	peerCheck(t, pluginOK, left, append(trusted, "--name", "server.nhs.uk")...)
	peerCheck(t, pluginWarning, left, append(trusted, "--name", "server.nhs.uk", "--warning", "9999d")...)
	peerCheck(t, pluginCritical, address+" is refused: name_mismatch: ", append(trusted, "--name", "other.nhs.uk")...)
	peerCheck(t, pluginCritical, "is refused: ", trusted...) // it is named by an address
	peerCheck(t, pluginCritical, "is refused: unknown_issuer: ", "--endpoint", address, "--trust", writeRoot(t), "--name", "server.nhs.uk")
	peerCheck(t, pluginUnknown, "none.pem", "--endpoint", address, "--trust", p.file("none.pem"))
	peerCheck(t, pluginUnknown, "none.yaml", "--endpoint", address, "--environment", "live", "--config", p.file("none.yaml"))

	// What is there as a file is no peer.
	t.Chdir(t.TempDir())
	testpki.WriteFile(t, net.JoinHostPort(host, port), p.server.CertPEM(), 0o644)
	peerCheck(t, pluginOK, left, "--endpoint", address)
	peerCheck(t, pluginUnknown, "a file of this name", trusted...)
}

// TestCheckEndpointEnds: an expired CA in what is served counts, as peers would find out; --leaf-only leaves it out.
func TestCheckEndpointEnds(t *testing.T) {
	p := newPeerPKI(t)
	sub := p.root.SubCA(t, testpki.Name("Old Authentication"), testpki.Validity(time.Now().Add(-2*oneDay), time.Now().Add(-oneDay)))
	testpki.WriteFile(t, p.file("sub.pem"), sub.CertPEM(), 0o644)
	address := serveOpenSSL(t, p)
	peerCheck(t, pluginCritical, `expired 1d ago (`, "--endpoint", address)
	peerCheck(t, pluginCritical, `subCA "CN=Old Authentication"`, "--endpoint", address)
	peerCheck(t, pluginOK, "expires in ", "--endpoint", address, "--leaf-only")
}

// TestCheckNginx: a server of the kind that most people check.
func TestCheckNginx(t *testing.T) {
	nginx := testprogram.Need(t, "nginx")
	p := newPeerPKI(t)
	soon := p.root.Issue(t, testpki.DNS("soon.nhs.uk"), testpki.Validity(time.Now().Add(-oneDay), time.Now().Add(3*oneDay+time.Hour)))
	testpki.WriteFile(t, p.file("server.pem"), soon.CertPEM(), 0o644)
	testpki.WriteFile(t, p.file("server.key"), soon.KeyPEM(), 0o600)
	address := freeAddress(t)
	testpki.WriteFile(t, p.file("nginx.conf"), fmt.Appendf(nil, `daemon off; master_process off; pid %[1]s/pid; error_log stderr;
events {}
http {
  access_log off; client_body_temp_path %[1]s; proxy_temp_path %[1]s; fastcgi_temp_path %[1]s; uwsgi_temp_path %[1]s; scgi_temp_path %[1]s;
  server { listen %[2]s ssl; ssl_certificate %[1]s/server.pem; ssl_certificate_key %[1]s/server.key; ssl_verify_client on; ssl_client_certificate %[1]s/root.pem; return 200; }
}
`, p.dir, address), 0o600)
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, nginx, "-p", p.dir, "-c", p.file("nginx.conf"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = cmd.Wait() })
	awaitListener(t, address)
	peerCheck(t, pluginCritical, address+" expires in 3d (", "--endpoint", address)
	peerCheck(t, pluginCritical, address+" expires in 3d (", "--endpoint", address, "--trust", p.file("root.pem"), "--name", "soon.nhs.uk")
	peerCheck(t, pluginWarning, address+" expires in 3d (", "--endpoint", address, "--trust", p.file("root.pem"), "--name", "soon.nhs.uk", "--critical", "2d")
}

// freeAddress is one of the loopback that nobody listened on a moment ago.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func awaitListener(t *testing.T, address string) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// speak listens, says something to everybody who comes, and leaves them waiting for more.
func speak(t *testing.T, greeting string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
			_, _ = c.Write([]byte(greeting))
		}
	}()
	return l.Addr().String()
}

// TestCheckNoPeer: who does not serve TLS in time is CRITICAL, and holds nobody else up.
func TestCheckNoPeer(t *testing.T) {
	nobody, plain, silent := freeAddress(t), speak(t, "220 <b>mail</b> | ESMTP\r\n"), speak(t, "")
	peerCheck(t, pluginCritical, "connect to "+nobody+": connect: connection refused", "--endpoint", nobody)
	peerCheck(t, pluginCritical, "handshake with "+plain+": ", "--endpoint", plain)
	peerCheck(t, pluginCritical, "handshake with "+plain+": ", "--endpoint", plain, "--trust", writeRoot(t))
	peerCheck(t, pluginCritical, "context deadline exceeded", "--endpoint", silent, "--timeout", "200ms")
	peerCheck(t, pluginCritical, "context deadline exceeded", "--endpoint", silent, "--timeout", "200ms", "--trust", writeRoot(t))

	// Forty of them, with one that answers at once: one time limit after the other would be forty seconds, side by side it is two turns.
	args := []string{"--timeout", "1s", "--endpoint", nobody}
	for range 40 {
		args = append(args, "--endpoint", speak(t, ""))
	}
	begin := time.Now()
	peerCheck(t, pluginCritical, "; and 38 more", args...)
	if took := time.Since(begin); took > 25*time.Second {
		t.Errorf("it took %s", took)
	}
}

func writeRoot(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "root.pem")
	testpki.WriteFile(t, path, testpki.NewRoot(t, testpki.KeyType("ecdsa-p256")).CertPEM(), 0o644)
	return path
}

// TestCheckEnvironment: trust and CRLs as the configuration has them.
func TestCheckEnvironment(t *testing.T) {
	p := newPeerPKI(t)
	address := serveOpenSSL(t, p)
	config := p.file("spinecert.yaml")
	text := "environments:\n  live: {profile: private, trust: [bundle.pem], revocation: %q, name_from_cn: true, crl: {files: [%s]}}\nstate: {directory: " + p.file("state") + "}\n"
	testpki.WriteFile(t, config, fmt.Appendf(nil, text, "off", ""), 0o644)
	args := []string{"--config", config, "--environment", "live", "--name", "server.nhs.uk", "--endpoint", address}
	peerCheck(t, pluginOK, "expires in ", args...)
	peerCheck(t, pluginUnknown, `--environment "int": not in the configuration`, "--config", config, "--environment", "int", "--endpoint", address)
	if err := os.WriteFile(config, fmt.Appendf(nil, text, "require", ""), 0o600); err != nil {
		t.Fatal(err)
	}
	peerCheck(t, pluginCritical, "is refused: ", args...)
}
