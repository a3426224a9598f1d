package daemon

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/internal/testprogram"
)

// examined returns what doctor says, without what differs in each run, from
// permissions on: the clock of the machine is none of ours.
func (h *host) examined(names map[string]string) string {
	h.t.Helper()
	found, err := h.client.Doctor(context.Background(), patience)
	if err != nil {
		h.t.Fatal(err)
	}
	var b strings.Builder
	for _, l := range found.Lines {
		if l.Code == "CLOCK" {
			continue
		}
		b.WriteString(l.Level + " " + l.Code + " " + l.Message + "\n")
		if l.Hint != "" {
			b.WriteString("  hint: " + l.Hint + "\n")
		}
	}
	text := b.String()
	for value, name := range names {
		text = strings.ReplaceAll(text, value, name)
	}
	for _, r := range []struct{ old, now string }{
		{regexp.QuoteMeta(h.dir), "DIR"}, {`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`, "DATE"}, {`the group \S+`, "the group GROUP"},
		{`\d+ things in it`, "N things in it"}, {`127\.0\.0\.1:\d+`, "ADDRESS"}, {`127\.\d+\.\d+\.\d+:\d+`, "LISTEN"}, {`TLS_ECDHE_RSA_\w+`, "SUITE"},
	} {
		text = regexp.MustCompile(r.old).ReplaceAllString(text, r.now)
	}
	return text
}

// sServer starts openssl s_server, which asks for certificates of the CAs in a file.
func (h *host) sServer(leaf *testpki.Leaf, cas []byte, options ...string) (string, *child) {
	h.t.Helper()
	openssl := testprogram.Need(h.t, "openssl")
	cert, key := h.write("far.crt", leaf.FullChainPEM(), 0o644), h.write("far.key", leaf.KeyPEM(), 0o600)
	c := launch(h.t, nil, openssl, append([]string{"s_server", "-accept", "127.0.0.1:0", "-www", "-Verify", "4", "-cert", cert, "-cert_chain", cert, "-key", key,
		"-CAfile", h.write("far.cas", cas, 0o644)}, options...)...)
	h.output = c.output // until there is a daemon
	var address string
	h.until("s_server listens", func() bool {
		m := regexp.MustCompile(`ACCEPT (127\.0\.0\.1:\d+)`).FindStringSubmatch(c.output.String())
		if m != nil {
			address = m[1]
		}
		return m != nil
	})
	return address, c
}

// lists serves the CRLs of a host until the test ends.
func (h *host) lists() (address string, server *http.Server) {
	h.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.t.Fatal(err)
	}
	server = &http.Server{Handler: http.FileServer(http.Dir(h.dir)), ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(l) }()
	h.t.Cleanup(func() { _ = server.Close() })
	return l.Addr().String(), server
}

const farName = "sds.national.ncrs.nhs.uk"

func TestDoctor(t *testing.T) {
	h := newHost(t)
	lists, server := h.lists()
	cdp := func(name string) string { return "http://" + lists + "/" + name }
	h.sub = h.root.SubCA(t, testpki.KeyType("rsa-2048"), testpki.CDP(cdp("root.crl")))
	h.write("trust.pem", h.sub.BundlePEM(), 0o644)
	h.write("root.crl", h.root.CRL(t, testpki.IDP(cdp("root.crl"))), 0o644)
	h.write("sub.crl", h.sub.CRL(t, testpki.IDP(cdp("sub.crl"))), 0o644)
	h.identity("pcs", providerName, testpki.CDP(cdp("sub.crl")))
	far, openssl := h.sServer(h.sub.Issue(t, testpki.DNS(farName), testpki.KeyType("rsa-2048"), testpki.CDP(cdp("sub.crl"))), h.sub.BundlePEM(), "-tls1_2")
	service := backend(t)
	h.configure(`revocation: require, crl: {hosts: ["`+lists+`"]}`, providerSlot,
		`  in: {direction: inbound, listen: ["`+freeAddress(t)+`"], forward: "`+service+`", slot: pcs, peers: [`+peerName+`]}
  out: {direction: outbound, listen: [{unix: out.sock}], forward: "`+far+`", slot: pcs, peers: [`+farName+`]}`)
	h.start()
	h.until("the lists are in force", func() bool { return len(h.status().Environments[0].CRLs) == 2 })
	h.until("all is kept", func() bool { return h.slot("pcs").Unsaved == "" })
	names := map[string]string{lists: "LISTS", service: "SERVICE", far: "FAR"}
	well := h.examined(names)
	if diff := cmp.Diff(goldenWell, well); diff != "" {
		t.Errorf("well (-want +got):\n%s", diff)
	}
	if lookFor(well, "warn") || lookFor(well, "fail") {
		t.Fatal(well)
	}

	// Whoever may change something gets a new look at once: it has just mended what was wrong.
	if again := h.examined(names); strings.Contains(again, "looked at") {
		t.Errorf("again:\n%s", again)
	}

	// All that can go away goes away, and the certificate of the service too.
	_ = openssl.cmd.Process.Kill()
	_ = openssl.cmd.Wait()
	_ = server.Close()
	for _, name := range []string{"pcs.key", "trust.pem"} {
		if err := os.Chmod(h.path(name), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	h.reconfigureAnyhow(`forward: "`+service+`"`, `forward: "`+freeAddress(t)+`"`)
	h.reconfigureAnyhow(`peers: [`+peerName+`]`, `peers: ["*"], policy: audit`) // which has it look again
	broken := h.examined(names)
	for _, want := range []string{
		`fail PERMISSIONS the file of environment t, "DIR/trust.pem", has mode 0666`,
		`fail PERMISSIONS the key of slot pcs, "DIR/pcs.key", has mode 0666`,
		`warn SLOT slot pcs serves generation 1; what its source holds now is refused`,
		`fail TUNNEL tunnel in: nothing takes a connection at LISTEN: connect: connection refused`,
		`warn TUNNEL tunnel in has policy: audit`, `warn TUNNEL tunnel in has peers: ["*"]`,
		`fail TUNNEL tunnel out: connect to FAR: connect: connection refused`,
	} {
		if !strings.Contains(broken, "\n"+want) && !strings.HasPrefix(broken, want) {
			t.Errorf("no line %q in:\n%s", want, broken)
		}
	}
	if code := h.stop(os.Interrupt); code != 0 {
		t.Errorf("exit status %d", code)
	}
}

func lookFor(text, level string) bool {
	return regexp.MustCompile(`(?m)^` + level + ` `).MatchString(text)
}

// reconfigureAnyhow is reconfigure where material is refused meanwhile.
func (h *host) reconfigureAnyhow(old, now string) {
	h.t.Helper()
	data, err := os.ReadFile(h.path("spinecert.yaml"))
	if err != nil || !strings.Contains(string(data), old) {
		h.t.Fatalf("the configuration has no %q: %v", old, err)
	}
	h.write("spinecert.yaml", []byte(strings.ReplaceAll(string(data), old, now)), 0o600)
	_, _ = h.client.Reload(context.Background()) // the key is refused, and the configuration taken
}

const goldenWell = `ok PERMISSIONS others cannot write the configuration "DIR/spinecert.yaml"
ok PERMISSIONS others cannot write the 1 file of trust and CRLs
ok PERMISSIONS nobody else may read the 1 file with keys and passwords
ok PERMISSIONS the state directory "DIR/state" is its owner's alone; N things in it are as they should be, the inbox too
ok PERMISSIONS the admin socket "DIR/admin.sock" is for its owner and the group GROUP
ok TRUST environment t trusts 1 root and 1 subCA
ok CRL http://LISTS/sub.crl of environment t answers: list of "CN=Test Authentication" with 0 entries, issued 60 minutes ago, good for 6 days
ok CRL http://LISTS/root.crl of environment t answers: list of "CN=Test Root Authority" with 0 entries, issued 60 minutes ago, good for 6 days
ok SLOT slot pcs serves pcs.thirdparty.nhs.uk, generation 1, for 364 days, until DATE
ok TUNNEL tunnel in is open: inbound on LISTEN
ok TUNNEL tunnel in: the service at SERVICE takes connections
ok TUNNEL tunnel out is open: outbound on DIR/out.sock
ok TUNNEL tunnel out: FAR: the handshake completed: TLS 1.2, SUITE, sds.national.ncrs.nhs.uk, until DATE
ok TUNNEL tunnel out: FAR asks for a certificate of "CN=Test Authentication", "CN=Test Root Authority"
`

// TestDoctorOfAnotherCA: a far end that does not take certificates of our issuer.
func TestDoctorOfAnotherCA(t *testing.T) {
	for _, tc := range []struct{ name, version, option, want string }{
		{"TLS 1.2", "1.2", "-tls1_2", `fail TUNNEL tunnel out: FAR refuses our certificate, of "CN=Test Authentication": `},
		{"TLS 1.3", "1.3", "-tls1_3", `fail TUNNEL tunnel out: FAR refuses our certificate, of "CN=Test Authentication": `},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHost(t)
			h.identity("pcs", providerName)
			_, other := foreign(t, "a.nhs.uk")
			far, _ := h.sServer(h.sub.Issue(t, testpki.DNS(farName), testpki.KeyType("rsa-2048")), other.BundlePEM(), "-verify_return_error", tc.option)
			h.configure("revocation: off", providerSlot,
				`  out: {direction: outbound, listen: [{unix: out.sock}], forward: "`+far+`", slot: pcs, peers: [`+farName+`], tls: {max_version: "`+tc.version+`"}}`)
			h.start()
			text := h.examined(map[string]string{far: "FAR"})
			if !strings.Contains(text, tc.want) || !strings.Contains(text, `it asks for a certificate of "CN=Foreign Root"`) {
				t.Errorf("no line %q in:\n%s", tc.want, text)
			}
		})
	}
}

// TestDoctorBounds: readers may ask, one at a time; whoever does not answer takes no
// longer than there is.
func TestDoctorBounds(t *testing.T) {
	h := newHost(t)
	h.identity("pcs", providerName)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // the kernel accepts, and nobody speaks
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	h.configure("revocation: off", providerSlot, `  out: {direction: outbound, listen: [{unix: out.sock}], forward: "`+silent.Addr().String()+`", slot: pcs, peers: [`+farName+`], timeouts: {handshake: 5m}}`)
	data, err := os.ReadFile(h.path("spinecert.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	h.write("spinecert.yaml", regexp.MustCompile(`writers: \["\d+"\]`).ReplaceAll(data, []byte(`writers: ["4711"]`)), 0o600)
	h.start()
	within, end := context.WithTimeout(context.Background(), patience)
	defer end()
	var group sync.WaitGroup
	for range 3 {
		group.Go(func() {
			found, err := h.client.Doctor(within, 300*time.Millisecond)
			if err != nil { // it waited in vain, for the others or for the examination
				if e, ok := errors.AsType[*admin.Error](err); !ok || e.Code != admin.CodeFailed || e.Hint == "" {
					t.Error(err)
				}
				return
			}
			if s := said(found); !strings.Contains(s, "does not complete a handshake in time") && !strings.Contains(s, "warn TUNNEL not examined") {
				t.Errorf("%s", said(found))
			}
		})
	}
	group.Wait()
	// Whoever goes away keeps nobody.
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	if _, err := h.client.Doctor(ctx, time.Minute); err == nil {
		t.Error("there was an answer")
	}
	if _, err := h.client.Doctor(context.Background(), 300*time.Millisecond); err != nil && !strings.Contains(err.Error(), "examination") {
		t.Error(err)
	}
	if code := h.stop(os.Interrupt); code != 0 {
		t.Errorf("exit status %d", code)
	}
}

func said(found admin.DoctorResult) string {
	var b strings.Builder
	for _, l := range found.Lines {
		b.WriteString(l.Level + " " + l.Code + " " + l.Message + "\n")
	}
	return b.String()
}
