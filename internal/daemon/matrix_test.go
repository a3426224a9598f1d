package daemon

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/internal/testprogram"
)

// NHS's provider suite presents six kinds of clients (SPINE.md, 2): valid,
// expired, wrong name, wrong authority, revoked, none.
func TestProviderMatrix(t *testing.T) {
	curl := testprogram.Need(t, "curl")
	h := newHost(t)
	h.identity("pcs", providerName)
	h.identity("valid", peerName)
	h.identity("expired", peerName, testpki.Validity(time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)))
	h.identity("wrongname", "somebody.else.nhs.uk")
	revoked := h.identity("revoked", peerName)
	foreign := testpki.NewRoot(t, testpki.Name("Foreign Root")).SubCA(t, testpki.Name("Foreign SubCA")).Issue(t, testpki.Name(peerName), testpki.DNS(peerName))
	h.put("foreign", foreign)
	h.write("sub.crl", h.sub.CRL(t, testpki.Revoke(revoked.Cert.SerialNumber)), 0o644)
	h.write("root.crl", h.root.CRL(t), 0o644)
	h.write("root.pem", h.root.CertPEM(), 0o644)

	target := backend(t)
	tunnels := fmt.Sprintf(`  ssp-in: {direction: inbound, listen: ["127.0.0.1:0"], forward: "%[1]s", slot: pcs, peers: [%[2]s]}
  ssp-in13: {direction: inbound, listen: ["127.0.0.1:0"], forward: "%[1]s", slot: pcs, peers: [%[2]s], tls: {min_version: "1.3", max_version: "1.3"}}`, target, peerName)
	h.configure("revocation: require, crl: {files: [sub.crl, root.crl]}", providerSlot, tunnels)
	h.start()

	tests := []struct {
		client string
		reason string // "" is accepted
	}{
		{"valid", ""},
		{"expired", "expired"},
		{"wrongname", "not_listed"},
		{"foreign", "unknown_issuer"},
		{"revoked", "revoked"},
		{"", "no_certificate"},
	}
	for _, version := range []string{"1.2", "1.3"} {
		tunnel := map[string]string{"1.2": "ssp-in", "1.3": "ssp-in13"}[version]
		address := h.listen(tunnel)
		_, port, _ := strings.Cut(address, ":")
		for _, tc := range tests {
			name := tc.client
			if name == "" {
				name = "none"
			}
			t.Run(version+" "+name, func(t *testing.T) {
				args := []string{"-sS", "--max-time", "20", "--tlsv" + version, "--tls-max", version, "--cacert", h.path("root.pem"),
					"--resolve", providerName + ":" + port + ":127.0.0.1"}
				if tc.client != "" {
					args = append(args, "--cert", h.path(tc.client+".crt"), "--key", h.path(tc.client+".key"))
				}
				out, err := exec.Command(curl, append(args, "https://"+providerName+":"+port+"/")...).CombinedOutput()
				if tc.reason == "" {
					if err != nil || !strings.Contains(string(out), "backend here") {
						t.Fatalf("a good client was not served: %v %s", err, out)
					}
					return
				}
				if err == nil || strings.Contains(string(out), "backend here") {
					t.Fatalf("a bad client was served: %s", out)
				}
				series := fmt.Sprintf(`spinecert_tunnel_handshakes_total{reason="%s",result="refused",tunnel="%s"}`, tc.reason, tunnel)
				h.until("metric "+series, func() bool { return h.metric(series) == "1" })
				h.until("log line with "+tc.reason, func() bool {
					return strings.Contains(h.output.String(), "tunnel="+tunnel+" reason="+tc.reason)
				})
			})
		}
	}
	if code := h.stop(sigTerm); code != 0 {
		t.Errorf("exit status %d after SIGTERM", code)
	}
}
