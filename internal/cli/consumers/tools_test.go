package consumers

import (
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spinecert/spinecert/internal/testprogram"
)

var acceptPattern = regexp.MustCompile(`ACCEPT (127\.\d+\.\d+\.\d+:\d+)`)

// sServer starts openssl s_server as the good peer: it wants a certificate, knows
// the root and no subCA, and answers with what it was shown.
func (h *host) sServer() (address string) {
	h.t.Helper()
	out := h.launch(nil, testprogram.Need(h.t, "openssl"), "s_server", "-accept", "127.0.0.1:0", "-www", "-Verify", "4", "-verify_return_error",
		"-CAfile", h.path("root.pem"), "-cert", h.path("good.crt"), "-key", h.path("good.key"), "-cert_chain", h.path("good.crt"))
	h.until("s_server listens", func() bool {
		m := acceptPattern.FindStringSubmatch(out.String())
		if m != nil {
			address = m[1]
		}
		return m != nil
	})
	return address
}

// knows reports whether s_server was shown the certificate of the slot.
func knows(page string) bool {
	_, client, ok := strings.Cut(page, "Client certificate")
	return ok && strings.Contains(client, "Subject: CN="+ownName)
}

func TestCurlAndOpenSSL(t *testing.T) {
	t.Parallel()
	curl, openssl := testprogram.Need(t, "curl"), testprogram.Need(t, "openssl")
	h := newHost(t, "curl and OpenSSL")
	h.export()
	address := h.sServer()
	host, port, _ := net.SplitHostPort(address)

	ask := func(trust, certificate string) (string, error) {
		words := h.commands("curl")[0]
		args := strings.Split(strings.NewReplacer(
			"https://"+peerName, "https://"+peerName+":"+port, h.path("spine/trust.pem"), h.path(trust), h.path("spine/fullchain.pem"), h.path(certificate),
		).Replace(strings.Join(words[1:], "\n")), "\n")
		return h.run(nil, nil, curl, append(args, "-sS", "--fail", "--max-time", "20", "--resolve", peerName+":"+port+":"+host)...)
	}
	if out, err := ask("spine/trust.pem", "spine/fullchain.pem"); err != nil || !knows(out) {
		t.Errorf("curl: %v: %s", err, out)
	}
	if out, err := ask("foreign-root.pem", "spine/fullchain.pem"); err == nil {
		t.Errorf("curl believes the server by a foreign root: %s", out)
	}
	// The certificate without its chain: what a full chain is for.
	h.write("alone.pem", h.own.CertPEM(), 0o644)
	if out, err := h.run(nil, nil, curl, "-sS", "--fail", "--max-time", "20", "--resolve", peerName+":"+port+":"+host, "--cacert", h.path("root.pem"),
		"--cert", h.path("alone.pem"), "--key", h.path("spine/key.pem"), "https://"+peerName+":"+port+"/"); err == nil {
		t.Errorf("a certificate without its chain is enough: %s", out)
	}

	client := h.commands("openssl", "s_client")[0]
	args := strings.Split(strings.ReplaceAll(strings.Join(client[1:], "\n"), peerName+":443", address), "\n")
	if out, err := h.run(nil, nil, openssl, args...); err != nil || !strings.Contains(out, "Verify return code: 0 (ok)") {
		t.Errorf("s_client: %v: %s", err, out)
	}
	verify := h.commands("openssl", "verify")[0]
	if out, err := h.run(nil, nil, openssl, append(verify[1:len(verify)-1], "-untrusted", verify[len(verify)-1], verify[len(verify)-1])...); err != nil {
		t.Errorf("openssl verify: %v: %s", err, out)
	}
	if out, err := h.run(nil, nil, openssl, verify[1:]...); err != nil || !strings.Contains(out, ": OK") {
		t.Errorf("openssl verify: %v: %s", err, out)
	}
	if out, err := h.run(nil, nil, openssl, append(verify[1:len(verify)-1], h.path("revoked.crt"))...); err == nil || !strings.Contains(out, "revoked") {
		t.Errorf("openssl verify of a revoked certificate: %v: %s", err, out)
	}
}

func TestJava(t *testing.T) {
	t.Parallel()
	java, javac, keytool, openssl := testprogram.Need(t, "java"), testprogram.Need(t, "javac"), testprogram.Need(t, "keytool"), testprogram.Need(t, "openssl")
	source, err := filepath.Abs("testdata/Client.java")
	if err != nil {
		t.Fatal(err)
	}
	h := newHost(t, "Java")
	h.export()
	info := h.commands("openssl", "pkcs12")[0]
	out, err := h.run(nil, nil, openssl, info[1:]...)
	for _, want := range []string{"AES-256-CBC", "Iteration 600000", "hmacWithSHA256"} {
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("openssl pkcs12 -info has no %q (%v): %s", want, err, out)
		}
	}
	wants := map[string][]string{
		"pcs.p12":   {"Entry type: PrivateKeyEntry", "Certificate chain length: 2", "Alias name: 1\n"},
		"pcs.jks":   {"Keystore type: JKS", "Entry type: PrivateKeyEntry", "Certificate chain length: 2", "Alias name: 1\n"},
		"trust.p12": {"Your keystore contains 2 entries", "Entry type: trustedCertEntry"},
	}
	for _, words := range h.commands("keytool") {
		name := filepath.Base(words[3])
		out, err := h.run(nil, nil, keytool, append(words[1:], "-v")...)
		for _, want := range wants[name] {
			if err != nil || !strings.Contains(out, want) {
				t.Errorf("keytool -list of %s has no %q (%v): %s", name, want, err, out)
			}
		}
		delete(wants, name)
	}
	if len(wants) > 0 {
		t.Errorf("the manual does not list %v", wants)
	}
	if out, err := h.run(nil, nil, javac, "-d", h.dir, source); err != nil {
		t.Fatalf("javac: %v: %s", err, out)
	}
	h.javaClient(java)
}

// javaClient asks s_server with each of the stores.
func (h *host) javaClient(java string) {
	h.t.Helper()
	host, port, _ := net.SplitHostPort(h.sServer())
	ask := func(names []string, replace ...string) string {
		h.write("java.options", []byte(h.setting("java", 0, replace...)), 0o600)
		out, err := h.run(nil, nil, java, append([]string{"@" + h.path("java.options"), "-cp", h.dir, "Client", host, port}, names...)...)
		if err != nil {
			h.t.Errorf("java: %v", err)
		}
		return out
	}
	const other = "other.nhs.uk"
	good, bad, _ := strings.Cut(ask([]string{peerName, other}), "== "+other)
	if !knows(good) {
		h.t.Errorf("Java with PKCS#12: %s", good)
	}
	if knows(bad) || !strings.Contains(bad, "refused: ") || !strings.Contains(bad, "No subject alternative DNS name matching "+other) {
		h.t.Errorf("Java does not look at the name: %s", bad)
	}
	if out := ask([]string{peerName}, h.path("spine/pcs.p12"), h.path("spine/pcs.jks"), "keyStoreType=PKCS12", "keyStoreType=JKS"); !knows(out) {
		h.t.Errorf("Java with JKS: %s", out)
	}
	if out := ask([]string{peerName}, "-Djavax.net.ssl.keyStore=", "-Dx.keyStore="); knows(out) || !strings.Contains(out, "refused: ") {
		h.t.Errorf("Java without an identity: %s", out)
	}
}
