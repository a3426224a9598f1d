package daemon

import (
	"fmt"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/internal/testprogram"
)

const serverName = "sds.national.ncrs.nhs.uk"

// serverKinds are the servers that an outbound tunnel meets. The last is good,
// and refuses us.
var serverKinds = []struct{ name, reason string }{
	{"good", ""},
	{"wrongname", "name_mismatch"},
	{"expired", "expired"},
	{"foreign", "unknown_issuer"},
	{"revoked", "revoked"},
	{"refuser", ""},
}

// servers issues the certificates of serverKinds: kind.pem holds chain and key,
// and kind.ca what the server accepts of clients.
func (h *host) servers() {
	h.t.Helper()
	h.identity("pcs", providerName)
	h.identity("good", serverName)
	h.identity("refuser", serverName)
	h.identity("wrongname", "somebody.else.nhs.uk")
	h.identity("expired", serverName, testpki.Validity(time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)))
	other, root := foreign(h.t, serverName)
	h.put("foreign", other)
	h.revocation(h.identity("revoked", serverName))
	for _, k := range serverKinds {
		h.write(k.name+".pem", append(mustRead(h.t, h.path(k.name+".crt")), mustRead(h.t, h.path(k.name+".key"))...), 0o600)
		ca := h.sub.BundlePEM()
		if k.name == "refuser" {
			ca = root.CertPEM()
		}
		h.write(k.name+".ca", ca, 0o644)
	}
}

// dialServers starts the daemon with two tunnels to each server, one for each version.
func (h *host) dialServers(addresses map[string]string) {
	h.t.Helper()
	tunnels := ""
	for _, k := range serverKinds {
		for _, v := range versions {
			tunnels += fmt.Sprintf("  %[1]s%[2]s: {direction: outbound, listen: [{unix: %[3]s}], forward: \"%[4]s\", slot: pcs, peers: [%[5]s], server_name: %[5]s, tls: {min_version: \"%[6]s\", max_version: \"%[6]s\"}}\n",
				k.name, v.suffix, h.path("o"+k.name+v.suffix), addresses[k.name], serverName, v.name)
		}
	}
	h.configure(requireCRLs, providerSlot, tunnels)
	h.start()
}

// judgeServers tries them all. answered says of the answer of the good server
// whether it knew our certificate and whether the session was resumed; refuser
// judges what came of the server that does not want us.
func (h *host) judgeServers(answered func(body string) (known, resumed bool), refuser func(tunnel, body string, err error)) {
	for _, v := range versions {
		for _, k := range serverKinds {
			tunnel := k.name + v.suffix
			h.listen(tunnel)
			body, err := ask("unix", h.path("o"+tunnel))
			switch {
			case k.name == "refuser":
				refuser(tunnel, body, err)
			case k.reason != "":
				if known, _ := answered(body); known || strings.Contains(body, "HTTP/1") {
					h.t.Errorf("%s: a bad server was believed: %q", tunnel, body)
				}
				h.counted(tunnel, "refused", k.reason, 1)
				h.logged("tunnel="+tunnel+" ", "reason="+k.reason)
			default:
				known, resumed := answered(body)
				if err != nil || !known || resumed {
					h.t.Errorf("%s, fresh: known %t, resumed %t, %v: %q", tunnel, known, resumed, err, body)
				}
				if body, err = ask("unix", h.path("o"+tunnel)); err == nil {
					known, resumed = answered(body)
				}
				if err != nil || !known || !resumed {
					h.t.Errorf("%s, resumed: known %t, resumed %t, %v: %q", tunnel, known, resumed, err, body)
				}
				h.counted(tunnel, "accepted", "", 2)
			}
		}
	}
}

// handshakeRefused is what a server does that ends the handshake for our certificate.
func (h *host) handshakeRefused(tunnel, body string, _ error) {
	h.t.Helper()
	if body != "" {
		h.t.Errorf("%s: the server answers %q", tunnel, body)
	}
	h.counted(tunnel, "failed", "protocol", 1)
	h.logged("tunnel="+tunnel+" ", "reason=protocol", "the peer refused")
}

func TestOutboundOpenSSL(t *testing.T) {
	t.Parallel()
	openssl := testprogram.Need(t, "openssl")
	h := newHost(t)
	h.servers()
	addresses := map[string]string{}
	said := regexp.MustCompile(`ACCEPT (127\.0\.0\.1:\d+)`)
	for _, k := range serverKinds {
		c := launch(t, nil, openssl, "s_server", "-accept", "127.0.0.1:0", "-www", "-Verify", "4", "-verify_return_error",
			"-CAfile", h.path(k.name+".ca"), "-cert", h.path(k.name+".pem"), "-key", h.path(k.name+".key"), "-cert_chain", h.path(k.name+".crt"))
		h.output = c.output // until there is a daemon
		h.until("s_server listens", func() bool {
			m := said.FindStringSubmatch(c.output.String())
			if m != nil {
				addresses[k.name] = m[1]
			}
			return m != nil
		})
	}
	h.dialServers(addresses)
	h.judgeServers(func(body string) (bool, bool) {
		return strings.Contains(body, "Client certificate") && strings.Contains(body, providerName), strings.Contains(body, "\nReused, TLS")
	}, h.handshakeRefused)
}

func TestOutboundNginx(t *testing.T) {
	t.Parallel()
	nginx := testprogram.Need(t, "nginx")
	h := newHost(t)
	h.servers()
	addresses, config := map[string]string{}, ""
	for i, k := range serverKinds {
		addresses[k.name] = freeAddress(t)
		config += fmt.Sprintf(`server { listen %[1]s ssl; ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate %[2]s.crt; ssl_certificate_key %[2]s.key;
  ssl_client_certificate %[2]s.ca; ssl_verify_client on; ssl_verify_depth 3; ssl_session_cache shared:s%[3]d:1m;
  location / { return 200 "subject $ssl_client_s_dn verify $ssl_client_verify reused $ssl_session_reused\n"; } }
`, addresses[k.name], h.path(k.name), i)
	}
	startNginx(t, h, nginx, "access_log off;\n"+config)
	for _, address := range addresses {
		h.until("nginx listens", func() bool {
			c, err := net.Dial("tcp", address)
			if err == nil {
				_ = c.Close()
			}
			return err == nil
		})
	}
	h.dialServers(addresses)
	h.judgeServers(func(body string) (bool, bool) {
		return strings.Contains(body, "subject CN="+providerName+" verify SUCCESS"), strings.Contains(body, "reused r")
	}, func(tunnel, body string, err error) {
		// nginx completes the handshake and says no in HTTP: for us that is a page like any other.
		if err != nil || !strings.HasPrefix(body, "HTTP/1.1 400") || !strings.Contains(body, "SSL certificate error") {
			t.Errorf("%s: %v %q", tunnel, err, body)
		}
		h.counted(tunnel, "accepted", "", 1)
	})
}

func TestOutboundHAProxy(t *testing.T) {
	t.Parallel()
	haproxy := testprogram.Need(t, "haproxy")
	h := newHost(t)
	h.servers()
	files, list := listeners(t, len(serverKinds))
	addresses := map[string]string{}
	config := "defaults\n mode http\n timeout connect 20s\n timeout client 30s\n timeout server 30s\n option httpclose\n"
	for i, k := range serverKinds {
		addresses[k.name] = list[i]
		config += fmt.Sprintf(`frontend %[1]s
 bind fd@%[2]d ssl crt %[3]s.pem ca-file %[3]s.ca verify required ssl-min-ver TLSv1.2
 http-request return status 200 content-type text/plain lf-string "subject %%[ssl_c_s_dn(cn)] resumed %%[ssl_fc_is_resumed] "
`, k.name, 3+i, h.path(k.name))
	}
	h.write("haproxy.cfg", []byte(config), 0o600)
	launch(t, files, haproxy, "-db", "-f", h.path("haproxy.cfg"))
	h.dialServers(addresses)
	h.judgeServers(func(body string) (bool, bool) {
		return strings.Contains(body, "subject "+providerName), strings.Contains(body, "resumed 1")
	}, h.handshakeRefused)
}
