package daemon

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/spinecert/spinecert/internal/testprogram"
)

// versions are the TLS versions of these tests: names of tunnels end with suffix.
var versions = []struct{ name, suffix, openssl, nginx, haproxy string }{
	{"1.2", "12", "-tls1_2", "TLSv1.2", "TLSv1.2"},
	{"1.3", "13", "-tls1_3", "TLSv1.3", "TLSv1.3"},
}

// inboundHost has tunnels in12 and in13, and one pair for peers that refuse us.
func inboundHost(t *testing.T) *host {
	h := newHost(t)
	h.identity("pcs", providerName)
	h.write("peer.pem", append(h.identity("peer", peerName).FullChainPEM(), mustRead(t, h.path("peer.key"))...), 0o600)
	h.identity("wrong", "somebody.else.nhs.uk")
	_, root := foreign(t, providerName)
	h.write("root.pem", h.root.CertPEM(), 0o644)
	h.write("foreign.pem", root.CertPEM(), 0o644)
	h.revocation()
	target, tunnels := backend(t), ""
	for _, v := range versions {
		for _, name := range []string{"in", "refuser"} {
			tunnels += fmt.Sprintf("  %s%s: {direction: inbound, listen: [\"127.0.0.1:0\"], forward: \"%s\", slot: pcs, peers: [%s], tls: {min_version: \"%s\", max_version: \"%s\"}}\n",
				name, v.suffix, target, peerName, v.name, v.name)
		}
	}
	h.configure(requireCRLs, providerSlot, tunnels)
	h.start()
	return h
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestInboundOpenSSL(t *testing.T) {
	t.Parallel()
	openssl := testprogram.Need(t, "openssl")
	h := inboundHost(t)
	for _, v := range versions {
		client := func(ca, tunnel string, args ...string) (string, error) {
			args = append([]string{"s_client", "-connect", h.listen(tunnel), v.openssl, "-servername", providerName, "-verify_hostname", providerName,
				"-verify_return_error", "-CAfile", h.path(ca), "-cert", h.path("peer.crt"), "-key", h.path("peer.key"), "-ign_eof"}, args...)
			return run(t, "GET / HTTP/1.0\r\n\r\n", openssl, args...)
		}
		session := h.path("session" + v.suffix)
		out, err := client("root.pem", "in"+v.suffix, "-sess_out", session)
		if err != nil || !strings.Contains(out, "backend here") || !strings.Contains(out, "New, TLSv"+v.name) {
			t.Errorf("%s, fresh: %v\n%s", v.name, err, out)
		}
		out, err = client("root.pem", "in"+v.suffix, "-sess_in", session)
		if err != nil || !strings.Contains(out, "backend here") || !strings.Contains(out, "Reused, TLSv"+v.name) {
			t.Errorf("%s, resumed: %v\n%s", v.name, err, out)
		}
		h.counted("in"+v.suffix, "accepted", "", 2)
		if out, err = client("foreign.pem", "refuser"+v.suffix); err == nil {
			t.Errorf("%s: openssl accepts us by a foreign CA:\n%s", v.name, out)
		}
		h.counted("refuser"+v.suffix, "failed", "protocol", 1)
		if v.name == "1.2" { // in 1.3 OpenSSL sends the alert before it has switched its keys: nobody can read it
			h.logged("tunnel=refuser"+v.suffix, "reason=protocol", "the peer refused")
		}
	}
}

func TestInboundCurl(t *testing.T) {
	t.Parallel()
	curl := testprogram.Need(t, "curl")
	h := inboundHost(t)
	for _, v := range versions {
		_, port, _ := strings.Cut(h.listen("in"+v.suffix), ":")
		url := "https://" + providerName + ":" + port + "/"
		out, err := run(t, "", curl, "-sSv", "--max-time", "20", "--tlsv"+v.name, "--tls-max", v.name, "--cacert", h.path("root.pem"),
			"--resolve", providerName+":"+port+":127.0.0.1", "--cert", h.path("peer.crt"), "--key", h.path("peer.key"),
			"-H", "Connection: close", url, url)
		if err != nil || strings.Count(out, "backend here") != 2 {
			t.Errorf("%s: %v\n%s", v.name, err, out)
		}
		// A resumed handshake carries no certificate. With TLS 1.2 curl asks for no
		// tickets (SSL_OP_NO_TICKET), and without them there is nothing to resume here.
		want := map[string]int{"1.2": 2, "1.3": 1}[v.name]
		if n := strings.Count(out, "(IN), TLS handshake, Certificate (11)"); n != want {
			t.Errorf("%s: the server sent its certificate %d times over two connections, not %d\n%s", v.name, n, want, out)
		}
		h.counted("in"+v.suffix, "accepted", "", 2)
	}
}

func TestInboundNginx(t *testing.T) {
	t.Parallel()
	nginx := testprogram.Need(t, "nginx")
	h := inboundHost(t)
	servers := ""
	for _, v := range versions {
		// A tunnel each, as nginx keeps its sessions by address, whatever the certificate.
		for cert, tunnel := range map[string]string{"peer": "in", "wrong": "refuser"} {
			servers += fmt.Sprintf(`server { listen unix:%[1]s; location / { proxy_pass https://%[2]s; proxy_ssl_protocols %[3]s;
  proxy_ssl_certificate %[4]s.crt; proxy_ssl_certificate_key %[4]s.key; proxy_ssl_trusted_certificate %[5]s; proxy_ssl_verify on;
  proxy_ssl_verify_depth 3; proxy_ssl_name %[6]s; proxy_ssl_server_name on; proxy_ssl_session_reuse on; } }
`, h.path("n"+cert+v.suffix), h.listen(tunnel+v.suffix), v.nginx, h.path(cert), h.path("root.pem"), providerName)
		}
	}
	log := startNginx(t, h, nginx, "access_log off;\n"+servers)
	for _, v := range versions {
		socket := h.path("npeer" + v.suffix)
		h.until("nginx listens", func() bool { _, err := ask("unix", socket); return err == nil })
		reused := strings.Count(log(), "SSL reused session")
		code, _, body, err := fetch(through(t, socket), "http://nginx/")
		if err != nil || code != http.StatusOK || body != "backend here\n" {
			t.Errorf("%s: %d %q %v", v.name, code, body, err)
		}
		h.until("nginx resumes a session", func() bool {
			if strings.Count(log(), "SSL reused session") > reused {
				return true
			}
			_, _, _, err := fetch(through(t, socket), "http://nginx/")
			return err != nil
		})
		code, _, body, err = fetch(through(t, h.path("nwrong"+v.suffix)), "http://nginx/")
		if err != nil || code < 500 || strings.Contains(body, "backend here") {
			t.Errorf("%s, a name that is not listed: %d %q %v", v.name, code, body, err)
		}
		h.counted("refuser"+v.suffix, "refused", "not_listed", 1)
		h.logged("tunnel=refuser"+v.suffix, "reason=not_listed", "somebody.else.nhs.uk")
	}
}

func TestInboundHAProxy(t *testing.T) {
	t.Parallel()
	haproxy := testprogram.Need(t, "haproxy")
	h := inboundHost(t)
	config := "defaults\n mode http\n timeout connect 20s\n timeout client 30s\n timeout server 30s\n option httpclose\n http-reuse never\n retries 0\n"
	for _, v := range versions {
		for _, ca := range []string{"root", "foreign"} {
			tunnel := map[string]string{"root": "in", "foreign": "refuser"}[ca] + v.suffix
			config += fmt.Sprintf(`listen %[1]s
 bind unix@%[2]s
 http-response set-header X-Resumed %%[ssl_bc_is_resumed]
 server s %[3]s ssl crt %[4]s ca-file %[5]s verify required verifyhost %[6]s sni str(%[6]s) ssl-min-ver %[7]s ssl-max-ver %[7]s
`, tunnel, h.path("h"+tunnel), h.listen(tunnel), h.path("peer.pem"), h.path(ca+".pem"), providerName, v.haproxy)
		}
	}
	h.write("haproxy.cfg", []byte(config), 0o600)
	launch(t, nil, haproxy, "-db", "-f", h.path("haproxy.cfg"))
	for _, v := range versions {
		socket := h.path("hin" + v.suffix)
		h.until("HAProxy resumes a session", func() bool {
			code, header, body, err := fetch(through(t, socket), "http://haproxy/")
			if err == nil && (code != http.StatusOK || body != "backend here\n") {
				t.Fatalf("%s: %d %q", v.name, code, body)
			}
			return err == nil && header.Get("X-Resumed") == "1"
		})
		code, _, _, err := fetch(through(t, h.path("hrefuser"+v.suffix)), "http://haproxy/")
		if err != nil || code < 500 {
			t.Errorf("%s: HAProxy accepts us by a foreign CA: %d %v", v.name, code, err)
		}
		h.counted("refuser"+v.suffix, "failed", "protocol", 1)
	}
}

// startNginx runs nginx with what is to stand in its http block, and returns its
// debug log.
func startNginx(t *testing.T, h *host, nginx, http string) func() string {
	t.Helper()
	log := h.path("nginx.log")
	config := fmt.Sprintf("daemon off; master_process off; pid %[1]s/nginx.pid; error_log %[2]s debug;\nevents {}\nhttp {\n", h.dir, log)
	for _, d := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		config += fmt.Sprintf("%s_temp_path %s;\n", d, h.path("tmp-"+d))
	}
	h.write("nginx.conf", []byte(config+http+"}\n"), 0o600)
	launch(t, nil, nginx, "-e", log, "-p", h.dir, "-c", h.path("nginx.conf"))
	return func() string {
		data, _ := os.ReadFile(log)
		return string(data)
	}
}
