package daemon

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
)

// TestBadConfiguration runs the program with configurations that are wrong: each
// gets status 2, the place, the key, the cause and a hint, and nothing is made.
func TestBadConfiguration(t *testing.T) {
	t.Parallel()
	h, _ := simpleHost(t)
	good := string(mustRead(t, h.path("spinecert.yaml")))
	for name, tc := range map[string]struct {
		old, now string // replaced in a good configuration
		want     string // regexp after the name of the file
		hint     string
	}{
		"unknown key":           {"fqdn:", "fqnd:", `:5:9: slots\.pcs\.fqnd: unknown key`, `did you mean "fqdn"`},
		"unknown key at top":    {"limits:", "limitz:", `:10:1: limitz: unknown key`, "did you mean"},
		"second document":       {"limits:", "---\nlimits:", `:10:1: a second YAML document`, "one document"},
		"empty peers":           {"[" + peerName + "]", "[]", `:7:\d+: tunnels\.ssp-in\.peers: no peers are named`, "must be written out"},
		"no peers":              {", peers: [" + peerName + "]", "", `:7:3: tunnels\.ssp-in\.peers: no peers are named`, "must be written out"},
		"wildcard peer":         {"[" + peerName + "]", `["*.nhs.uk"]`, `:7:\d+: tunnels\.ssp-in\.peers\[0\]: wildcards`, "write each name out"},
		"missing slot":          {"slot: pcs", "slot: nope", `:7:\d+: tunnels\.ssp-in\.slot: there is no slot called "nope"`, "configured here: pcs"},
		"missing environment":   {"default_environment: t", "default_environment: live", `:1:22: default_environment: there is no environment called "live"`, "configured here: t"},
		"slot that is a path":   {"  pcs:", "  ../pcs:", `:5:3: `, "letters, digits"},
		"tunnel that is a path": {"  ssp-in:", "  /etc/x:", `:7:3: `, "letters, digits"},
		"dots as a name":        {"  pcs:", "  ..:", `:5:3: `, "characters a-z"},
		"number without unit":   {"drain: 5s", "drain: 5", `:10:17: limits\.drain: must be a duration with a unit`, "write a number and a unit"},
		"reserved key":          {"state:", "issuers: {}\nstate:", `:9:1: issuers: not supported by this version`, "docs/configuration.md"},
		"HSM key":               {"key: pcs.key", `key: "pkcs11:token=x"`, `:5:\d+: slots\.pcs\.files\.key: pkcs11: addresses are not supported`, "path of a file"},
		"key twice":             {"limits:", "state: {}\nlimits:", `:10:1: state: the key is written twice, first on line 9`, "remove one"},
		"alias":                 {"slot: pcs", "slot: *pcs", `:7:\d+: anchors and aliases are not allowed`, "write the value out"},
		"syntax":                {"limits: {", "limits: {{", `:\d+:\d+: `, ""},
		"address not loopback":  {`http: {listen: "` + h.web, `http: {listen: "0.0.0.0:9090`, `:8:\d+: admin\.http\.listen: must be a loopback address`, "127.0.0.1:9464"},
		"listener twice":        {`["127.0.0.1:0"]`, `["` + h.web + `"]`, `:7:\d+: tunnels\.ssp-in\.listen\[0\]: the address is taken by admin\.http`, "an address of its own"},
		"outbound without word": {"direction: inbound", "direction: outbound", `:7:\d+: tunnels\.ssp-in\.allow_users: a TCP listener lends the identity`, `["*"]`},
	} {
		t.Run(name, func(t *testing.T) {
			if !strings.Contains(good, tc.old) {
				t.Fatalf("no %q in\n%s", tc.old, good)
			}
			h.write("spinecert.yaml", []byte(strings.Replace(good, tc.old, tc.now, 1)), 0o600)
			code, out := h.runDaemon()
			if code != exitUsage || !regexp.MustCompile(`(?m)^error: `+regexp.QuoteMeta(h.path("spinecert.yaml"))+tc.want).MatchString(out) {
				t.Errorf("exit status %d, want %d and %s:\n%s", code, exitUsage, tc.want, out)
			}
			if !regexp.MustCompile(`(?m)^hint: .*` + regexp.QuoteMeta(tc.hint)).MatchString(out) {
				t.Errorf("no hint with %q:\n%s", tc.hint, out)
			}
			if _, err := os.Lstat(h.path("state")); err == nil {
				t.Error("the state directory was made")
			}
		})
	}
	t.Run("every error at once", func(t *testing.T) {
		bad := strings.NewReplacer("fqdn:", "fqnd:", "["+peerName+"]", "[]", "drain: 5s", "drain: 5").Replace(good)
		h.write("spinecert.yaml", []byte(bad), 0o600)
		if code, out := h.runDaemon(); code != exitUsage || strings.Count(out, "error: ") != 3 || strings.Count(out, "hint: ") != 3 {
			t.Errorf("%d\n%s", code, out)
		}
	})
	t.Run("no such file", func(t *testing.T) {
		_ = os.Remove(h.path("spinecert.yaml"))
		if code, out := h.runDaemon(); code != exitUsage || !strings.Contains(out, "no such file") || !strings.Contains(out, "hint: ") {
			t.Errorf("%d\n%s", code, out)
		}
	})
}

// A place that is taken is not a mistake of the configuration: status 1, and who
// wants what is said.
func TestTakenListener(t *testing.T) {
	t.Parallel()
	h, _ := simpleHost(t)
	good := string(mustRead(t, h.path("spinecert.yaml")))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	u, err := net.Listen("unix", h.path("taken.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	taken := l.Addr().String()
	for name, tc := range map[string]struct{ old, now, want string }{
		"tunnel":                    {`["127.0.0.1:0"]`, `["` + taken + `"]`, `open tunnel "ssp-in": listen on "` + taken + `": listener taken`},
		"tunnel on a unix socket":   {`["127.0.0.1:0"]`, `["unix:taken.sock"]`, `open tunnel "ssp-in": listen on "` + h.path("taken.sock") + `": listener taken`},
		"tunnel on a file":          {`["127.0.0.1:0"]`, `["unix:pcs.key"]`, `open tunnel "ssp-in": listen on "` + h.path("pcs.key") + `": there is a file that is not a socket`},
		"tunnel on another address": {`["127.0.0.1:0"]`, `["192.0.2.1:4430"]`, `open tunnel "ssp-in": listen on "192.0.2.1:4430"`},
		"HTTP":                      {h.web, taken, `open admin.http.listen "` + taken + `"`},
		"admin socket":              {"path: admin.sock", "path: taken.sock", `open admin socket: listen on "` + h.path("taken.sock") + `": listener taken`},
	} {
		t.Run(name, func(t *testing.T) {
			h.write("spinecert.yaml", []byte(strings.Replace(good, tc.old, tc.now, 1)), 0o600)
			code, out := h.runDaemon()
			if code != exitFailed || !strings.Contains(out, "error: "+tc.want) || !strings.Contains(out, "\nhint: ") {
				t.Errorf("exit status %d, want %d, %q and a hint:\n%s", code, exitFailed, tc.want, out)
			}
		})
	}
	if data := mustRead(t, h.path("pcs.key")); !strings.Contains(string(data), "PRIVATE KEY") {
		t.Error("a file that is no socket was removed")
	}
}

// TestBadMaterial has one daemon with everything that can be wrong with files:
// it starts, serves what is good, and says of each slot what is wrong.
func TestBadMaterial(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	leaf := h.identity("pcs", providerName)
	h.identity("peer", peerName)
	past := testpki.Validity(time.Now().AddDate(-2, 0, 0), time.Now().AddDate(-1, 0, 0))
	dead := testpki.NewRoot(t, past)
	trusts := map[string]struct {
		bundle []byte
		want   string
	}{
		"deadroot": {dead.SubCA(t).BundlePEM(), "root"},
		"noroot":   {h.sub.CertPEM(), "root"},
		"empty":    {nil, "empty"},
		"leaf":     {append(h.sub.BundlePEM(), leaf.CertPEM()...), "CA"},
		"text":     {[]byte("this is no certificate\n"), ""},
	}
	if err := syscall.Mkfifo(h.path("fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(h.path("directory"), 0o700); err != nil {
		t.Fatal(err)
	}
	h.write("huge", append(leaf.FullChainPEM(), make([]byte, 8<<20)...), 0o600)
	h.write("readable.key", leaf.KeyPEM(), 0o644)
	h.write("empty", nil, 0o600)
	h.write("other.key", h.identity("other", providerName).KeyPEM(), 0o600)
	h.identity("wrongname", "somebody.else.nhs.uk")
	h.identity("expired", providerName, past)
	files := map[string]struct{ certificate, key, file, want string }{
		"fifo":      {"fifo", "pcs.key", "fifo", "not a regular file"},
		"directory": {"directory", "pcs.key", "directory", "not a regular file"},
		"device":    {"/dev/zero", "pcs.key", "/dev/zero", "not a regular file"},
		"huge":      {"huge", "pcs.key", "huge", "more than 1048576 bytes"},
		"readable":  {"pcs.crt", "readable.key", "readable.key", "lets others"},
		"empty":     {"empty", "pcs.key", "empty", "empty"},
		"missing":   {"nowhere/pcs.crt", "pcs.key", "nowhere", "no such file"},
		"foreign":   {"pcs.crt", "other.key", "pcs.crt", "key"},
		"wrongname": {"wrongname.crt", "wrongname.key", "", "somebody.else.nhs.uk"},
		"expired":   {"expired.crt", "expired.key", "", "expired"},
		"swapped":   {"pcs.key", "pcs.crt", "pcs.crt", "lets others"},
	}
	environments, slots := "", providerSlot+"\n"
	for name, e := range trusts {
		h.write("trust-"+name+".pem", e.bundle, 0o644)
		environments += fmt.Sprintf("  %[1]s: {profile: private, trust: [trust-%[1]s.pem], revocation: \"off\"}\n", name)
		slots += fmt.Sprintf("  t-%[1]s: {environment: %[1]s, files: {certificate: pcs.crt, key: pcs.key}}\n", name)
	}
	for name, f := range files {
		slots += fmt.Sprintf("  f-%s: {fqdn: %s, files: {certificate: %s, key: %s}}\n", name, providerName, f.certificate, f.key)
	}
	h.configure(`revocation: "off"`, slots, inbound(backend(t)))
	config := strings.Replace(string(mustRead(t, h.path("spinecert.yaml"))), "slots:\n", environments+"slots:\n", 1)
	h.write("spinecert.yaml", []byte(config), 0o600)
	h.start()
	h.serves("ssp-in", leaf)

	for name, f := range files {
		s := h.slot("f-" + name)
		file := f.file
		if file != "" && !filepath.IsAbs(file) {
			file = h.path(file)
		}
		if s.Generation != 0 || s.State == "ready" || !strings.Contains(s.LastError, file) || !strings.Contains(s.LastError, f.want) {
			t.Errorf("%s: %+v", name, s)
		}
		if s.Hint == "" {
			t.Errorf("%s: no hint with %q", name, s.LastError)
		}
	}
	for name, e := range trusts {
		if s := h.slot("t-" + name); s.Generation != 0 || s.State == "ready" || !strings.Contains(s.LastError, "trust") {
			t.Errorf("slot of environment %s: %+v", name, s)
		}
		for _, st := range h.status().Environments {
			if st.Name == name && (st.Ready || !strings.Contains(st.LastError, e.want) || st.Hint == "") {
				t.Errorf("environment %s: %+v", name, st)
			}
			if st.Name == name && name != "deadroot" && name != "noroot" && !strings.Contains(st.LastError, "trust-"+name+".pem") {
				t.Errorf("environment %s does not name its file: %s", name, st.LastError)
			}
		}
	}
	severe := map[string]bool{}
	for _, c := range h.status().Conditions {
		severe[c.Subject] = severe[c.Subject] || c.Severity == "critical"
	}
	for name := range files {
		if !severe["f-"+name] {
			t.Errorf("slot f-%s serves nothing, and no condition says so", name)
		}
	}
	code, out := h.runDaemon("--check")
	if code != exitJudged || !strings.Contains(out, "slot pcs: ready") || strings.Count(out, ": not ready") != len(files)+2*len(trusts) {
		t.Errorf("--check: %d\n%s", code, out)
	}
	if code := h.stop(sigTerm); code != 0 {
		t.Errorf("exit status %d", code)
	}
}
