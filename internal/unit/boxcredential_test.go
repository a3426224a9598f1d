package unit_test

import (
	"fmt"
	"strings"

	"github.com/spinecert/spinecert/internal/unit"
)

const ofCredentials = `{certificate: "credential:pcs.crt", key: "credential:pcs.key"}`

// testCredentials: what LoadCredential= hands over is served, read again at a restart only, and named in what is wrong with it.
func testCredentials(h *host) {
	first := h.issue()
	h.configure(ofCredentials, tunnel)
	if out, err := h.Exec(h.t.Context(), "spinecertd", "--check"); err == nil || !strings.Contains(out, `read credential "pcs.crt": no such file or directory`) || !strings.Contains(out, "only the daemon in its unit, and root") {
		h.t.Errorf("spinecertd --check outside of the unit: %v\n%s", err, out)
	}
	out := h.Run("spinecert", "config", "check")
	if !strings.Contains(out, "slot pcs reads its certificate and key from credentials: new ones are taken at a restart of the unit only") {
		h.t.Errorf("config check: %s", out)
	}
	h.Run("systemctl", "start", "spinecertd") // with the unit as shipped
	h.absent("the unit names no credential")
	h.finds("spinecertd.service lacks LoadCredential= for pcs.crt, pcs.key // spinecert config systemd")

	p := h.plan()
	h.copyFiles(p) // without the sources
	h.absent("the sources are missing")
	h.finds(`the source "`+sources+`pcs.crt" of credential "pcs.crt" (the certificate of slot pcs) is missing`, `"pcs.key"`)

	h.Push(sources+"pcs.crt", first.FullChainPEM(), 0o600)
	h.Push(sources+"pcs.key", first.KeyPEM(), 0o600)
	h.Run("systemctl", "restart", "spinecertd")
	h.until("the tunnel serves the credential", func() bool { return h.served() == serial(first) })
	if s := h.slot(); s.State != "ready" || s.Source != "credential:pcs.crt credential:pcs.key" {
		h.t.Errorf("the slot: %+v", s)
	}
	// As systemd 252 makes them: the daemon's, for nobody else.
	if got := h.Run("stat", "-c", "%U %a", "/run/credentials/spinecertd.service", "/run/credentials/spinecertd.service/pcs.key"); got != "spinecert 500\nspinecert 400" {
		h.t.Errorf("the files: %s", got)
	}
	h.finds()
	if out := h.Run("spinecertd", "--check"); !strings.Contains(out, "slot pcs: ready") {
		h.t.Errorf("spinecertd --check as root, beside the daemon: %s", out)
	}

	second := h.issue()
	h.Push(sources+"pcs.crt", second.FullChainPEM(), 0o600)
	h.Push(sources+"pcs.key", second.KeyPEM(), 0o600)
	h.Run("systemctl", "reload", "spinecertd")
	h.spinecert("rotate", "pcs")
	if got := h.served(); got != serial(first) {
		h.t.Errorf("after a reload %s is served, want %s: systemd copies nothing then", got, serial(first))
	}
	h.finds(`of credential "pcs.crt" (the certificate of slot pcs) was changed at`, `of credential "pcs.key" (the key of slot pcs) was changed at`)
	h.Run("systemctl", "restart", "spinecertd")
	h.until("the tunnel serves the new credential", func() bool { return h.served() == serial(second) })
	h.finds()
	testEncrypted(h, p)
}

// absent: the daemon runs, and says which credential is not there.
func (h *host) absent(why string) {
	h.t.Helper()
	h.until(why, func() bool { return strings.HasPrefix(h.slot().Error, `read credential "pcs.crt": `) })
	if s := h.slot(); s.State == "ready" || !strings.Contains(s.Hint, "LoadCredential=pcs.crt:/path in a drop-in of spinecertd.service") {
		h.t.Errorf("%s: %+v", why, s)
	}
	if got := h.Run("systemctl", "is-active", "spinecertd"); got != "active" {
		h.t.Errorf("%s: the daemon is %s", why, got)
	}
}

// testEncrypted: a key that is encrypted on disk, and a certificate that stands in the unit.
func testEncrypted(h *host, p unit.Plan) {
	third := h.issue()
	h.Push("/root/pcs.key", third.KeyPEM(), 0o600)
	h.Run("sh", "-ec", "systemd-creds setup; systemd-creds encrypt --with-key=host --name=pcs.key /root/pcs.key "+sources+"pcs.key.cred; rm /root/pcs.key")
	conf := p.Files[0].Content
	conf = strings.Replace(conf, "LoadCredential=pcs.key:"+sources+"pcs.key\nSetCredential=pcs.key:(missing)\n", "LoadCredentialEncrypted=pcs.key:"+sources+"pcs.key.cred\n", 1)
	literal := strings.ReplaceAll(string(third.FullChainPEM()), "\n", `\n`)
	conf = strings.Replace(conf, "LoadCredential=pcs.crt:"+sources+"pcs.crt\nSetCredential=pcs.crt:(missing)\n", "SetCredential=pcs.crt:"+literal+"\n", 1)
	if strings.Contains(conf, "LoadCredential=pcs") {
		h.t.Fatalf("the drop-in has other lines than this test replaces:\n%s", conf)
	}
	h.Push(unit.DropIn, []byte(conf), 0o644)
	h.Run("systemctl", "daemon-reload")
	h.Run("systemctl", "restart", "spinecertd")
	h.until("the tunnel serves what was encrypted", func() bool { return h.served() == serial(third) })
	h.finds()
	h.Run("systemctl", "stop", "spinecertd")
	h.Run("rm", "-r", "/etc/systemd/system/spinecertd.service.d")
	h.Run("systemctl", "daemon-reload")
}

// testQuoting: systemd reads the names that are printed as they are meant.
func testQuoting(h *host) {
	names := []string{"a b", "a%b", "a'b", `a"b`, `a\b`, "äö", "a;b", "#a", "a=b", "a,b(c)"}
	services, creds := "services:\n", []string{"a b", "a%b", "a'b", `a"b`, "#a", "(a)", "%%", "a;b$c"}
	for i, name := range names {
		h.Run("install", "-d", "-o", "spinecert", "-g", "spinecert", "/etc/quoted/"+name)
		services += fmt.Sprintf("  s%d: {slot: pcs, deliver: {directory: '/etc/quoted/%s', files: [{format: combined, name: a.pem}]}, reload: none, probe: none}\n", i, strings.ReplaceAll(name, "'", "''"))
	}
	own := h.issue()
	h.Push("/etc/spinecert/pcs.crt", own.FullChainPEM(), 0o644)
	h.Push("/etc/spinecert/pcs.key", own.KeyPEM(), 0o640)
	h.Run("chgrp", "spinecert", "/etc/spinecert/pcs.key")
	more := "  c: {files: {certificate: \"credential:none\", key: \"credential:none\"}}\n"
	for i, name := range creds {
		more += fmt.Sprintf("  c%d: {files: {certificate: 'credential:%s', key: pcs.key}}\n", i, strings.ReplaceAll(name, "'", "''"))
	}
	h.configure("{certificate: pcs.crt, key: pcs.key}", more+services)
	h.copyFiles(h.plan())
	if out, err := h.Exec(h.t.Context(), "systemd-analyze", "verify", "--man=no", "spinecertd.service"); err != nil || strings.TrimSpace(out) != "" {
		h.t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	for _, name := range names {
		h.until("a delivery to "+name, func() bool {
			_, err := h.Exec(h.t.Context(), "test", "-s", "/etc/quoted/"+name+"/current/a.pem")
			return err == nil
		})
	}
	for _, name := range creds {
		h.Run("test", "-s", "/run/credentials/spinecertd.service/"+name)
	}
	if journal := h.Run("journalctl", "--no-pager", "-o", "cat", "_PID=1"); strings.Contains(journal, "50-spinecert.conf") {
		h.t.Errorf("systemd has a word on the drop-in:\n%s", journal)
	}
	for _, line := range h.doctor() {
		if !strings.Contains(line, "the source ") {
			h.t.Errorf("doctor: %s", line) // sources are missing, and nothing else
		}
	}
	h.Run("systemctl", "stop", "spinecertd")
	h.Run("rm", "-r", "/etc/systemd/system/spinecertd.service.d")
	h.Run("systemctl", "daemon-reload")
}

// testKinds: everything that may be a credential is one, and what an upgrade starts has them, too.
func testKinds(h *host) {
	own := h.issue()
	h.Push("/root/own.pem", append(own.FullChainPEM(), own.KeyPEM()...), 0o600)
	h.Run("install", "-d", "-m", "0700", sources)
	h.Run("sh", "-ec", "rm -f "+sources+"*; printf 'first secret\\n' >"+sources+"p12.password; printf 'second secret\\n' >"+sources+"java.password; openssl pkcs12 -export -in /root/own.pem -out "+sources+"own.p12 -passout file:"+sources+"p12.password; chmod 600 "+sources+"*")
	h.Push(sources+"live.pem", h.sub.BundlePEM(), 0o600)
	h.Push(sources+"sub.crl", h.sub.CRL(h.t), 0o600)
	h.Run("install", "-d", "-o", "spinecert", "-g", "spinecert", "/etc/java/spine")
	h.Push("/etc/spinecert/spinecert.yaml", []byte(`environments:
  live: {profile: private, trust: ["credential:live.pem"], revocation: prefer, crl: {files: ["credential:sub.crl"], hosts: []}}
slots:
  pcs: {fqdn: `+ownName+`, files: {pkcs12: "credential:own.p12", password_file: "credential:p12.password"}}
services:
  java:
    slot: pcs
    deliver: {directory: /etc/java/spine, files: [{format: pkcs12, name: a.p12, password_file: "credential:java.password"}]}
    reload: none
    probe: none
`+tunnel), 0o644)
	h.copyFiles(h.plan())
	h.until("the tunnel serves what is in the PKCS#12 file", func() bool { return h.served() == serial(own) })
	h.until("the keystore is delivered", func() bool {
		_, err := h.Exec(h.t.Context(), "test", "-s", "/etc/java/spine/current/a.p12")
		return err == nil
	})
	h.Run("openssl", "pkcs12", "-in", "/etc/java/spine/current/a.p12", "-noout", "-passin", "file:"+sources+"java.password")
	if out := h.Run("spinecert", "trust", "crl"); !strings.Contains(out, "credential:sub.crl") && !strings.Contains(out, "/sub.crl") {
		h.t.Errorf("the list: %s", out)
	}
	h.finds()

	before := h.pid()
	if a := h.spinecert("upgrade"); a.Exit != 0 {
		h.t.Fatalf("upgrade: %s", a.Error.Message)
	}
	if after := h.pid(); after == before {
		h.t.Errorf("process %s goes on", after)
	}
	if s := h.slot(); s.State != "ready" || s.Error != "" || h.served() != serial(own) {
		h.t.Errorf("after an upgrade: %+v, %s", s, h.served())
	}
	h.finds()

	// One whose source has gone: what was served last comes back.
	h.Run("rm", sources+"own.p12")
	h.Run("systemctl", "restart", "spinecertd")
	h.until("the slot says what it lacks", func() bool { return strings.HasPrefix(h.slot().Error, `read credential "own.p12": `) })
	h.until("the tunnel serves what was kept", func() bool { return h.served() == serial(own) })
	h.Run("systemctl", "stop", "spinecertd")
	h.Run("rm", "-r", "/etc/systemd/system/spinecertd.service.d")
	h.Run("systemctl", "daemon-reload")
}
