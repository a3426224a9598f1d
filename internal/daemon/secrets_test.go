package daemon

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/spinecert/spinecert/internal/testpki"
)

// The passwords that are planted.
const (
	rightPassword = "correct-horse-battery-9431"
	wrongPassword = "hunter2-staple-77120"
)

// TestSecretsStaySecret puts keys and passwords where they do not belong, in many
// ways, and looks for them in everything the daemon says or writes.
func TestSecretsStaySecret(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(h *host, key []byte){
		"truncated key": func(h *host, key []byte) { h.write("pcs.key", key[:len(key)/2], 0o600) },
		"key without its end": func(h *host, key []byte) {
			h.write("pcs.key", bytes.Split(key, []byte("-----END"))[0], 0o600)
		},
		"key with a damaged line": func(h *host, key []byte) {
			lines := bytes.Split(key, []byte("\n"))
			lines[5] = append([]byte("?! "), lines[5]...)
			h.write("pcs.key", bytes.Join(lines, []byte("\n")), 0o600)
		},
		"key on one line, no news": func(h *host, key []byte) { h.write("pcs.key", bytes.ReplaceAll(key, []byte("\n"), nil), 0o600) },
		"key without armour":       func(h *host, key []byte) { h.write("pcs.key", []byte(body(key)), 0o600) },
		"key in its label":         func(h *host, key []byte) { h.write("pcs.key", []byte("-----BEGIN "+body(key)+"-----\n"), 0o600) },
		"key in a header":          func(h *host, key []byte) { h.write("pcs.key", inHeader(key), 0o600) },
		"damaged DER":              func(h *host, key []byte) { h.write("pcs.key", damaged(key), 0o600) },
		"damaged DER, other type":  func(h *host, key []byte) { h.write("pcs.crt", damaged(key), 0o600) },
		"key as the certificate":   func(h *host, key []byte) { h.write("pcs.crt", key, 0o600) },
		"key others may read":      func(h *host, key []byte) { h.write("pcs.key", key, 0o644) },
		"key in the trust file":    func(h *host, key []byte) { h.write("trust.pem", append(h.sub.BundlePEM(), key...), 0o644) },
		"key as the trust file":    func(h *host, key []byte) { h.write("trust.pem", key, 0o644) },
		"key as the CRL":           func(h *host, key []byte) { h.write("sub.crl", key, 0o644) },
		"wrong PKCS#12 password":   func(h *host, _ []byte) { h.write("password", []byte(wrongPassword+"\n"), 0o600) },
		"damaged PKCS#12": func(h *host, _ []byte) {
			data := mustRead(h.t, h.path("pcs.p12"))
			data[len(data)/2] ^= 0xff
			h.write("pcs.p12", data, 0o600)
		},
		"key for PKCS#12":     func(h *host, key []byte) { h.write("pcs.p12", key, 0o600) },
		"password as PKCS#12": func(h *host, _ []byte) { h.write("pcs.p12", []byte(rightPassword), 0o600) },

		"key in YAML, block":      yaml("fqdn: pcs.thirdparty.nhs.uk", func(key []byte) string { return "fqdn: \"" + escaped(key) + "\"" }),
		"key in YAML, file name":  yaml("key: pcs.key", func(key []byte) string { return "key: \"" + escaped(key) + "\"" }),
		"key in YAML, bare":       yaml("key: pcs.key", func(key []byte) string { return "key: \"" + body(key) + "\"" }),
		"key in YAML, peer":       yaml(peerName, func(key []byte) string { return "\"" + body(key) + "\"" }),
		"key in YAML, slot":       yaml("slot: pcs", func(key []byte) string { return "slot: \"" + body(key) + "\"" }),
		"key in YAML, new key":    yaml("limits:", func(key []byte) string { return "secret: \"" + escaped(key) + "\"\nlimits:" }),
		"key in YAML, as a key":   yaml("limits:", func(key []byte) string { return body(key)[:120] + ": 1\nlimits:" }),
		"key in YAML, no quotes":  yaml("limits:", func(key []byte) string { return "key: |\n" + string(key) + "\nlimits:" }),
		"key in YAML, number":     yaml("drain: 5s", func(key []byte) string { return "drain: " + body(key) }),
		"key in YAML, listener":   yaml(`"127.0.0.1:0"`, func(key []byte) string { return `"` + body(key) + `:1"` }),
		"password in YAML":        yaml("limits:", func([]byte) string { return "password: " + rightPassword + "\nlimits:" }),
		"password below slot":     yaml("fqdn:", func([]byte) string { return "password: " + rightPassword + ", fqdn:" }),
		"password in a URL":       yaml("revocation:", func([]byte) string { return "crl: {proxy: \"http://u:" + rightPassword + "@p:1\"}, revocation:" }),
		"password, syntax error":  yaml("limits:", func([]byte) string { return "password: [" + rightPassword + "\n}limits:" }),
		"password in trust names": yaml("[trust.pem]", func([]byte) string { return "[\"http://u:" + rightPassword + "@host/x\"]" }),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			secretly(t, spoil)
		})
	}
}

// secretly runs a good daemon, spoils something, has it look, and searches.
func secretly(t *testing.T, spoil func(*host, []byte)) {
	h := newHost(t)
	leaf := h.identity("pcs", providerName)
	h.identity("peer", peerName)
	p12, err := pkcs12.Modern2023.Encode(leaf.Key, leaf.Cert, leaf.Chain, rightPassword)
	if err != nil {
		t.Fatal(err)
	}
	h.write("pcs.p12", p12, 0o600)
	h.write("password", []byte(rightPassword+"\n"), 0o600)
	h.write("sub.crl", h.sub.CRL(t), 0o644)
	slots := providerSlot + "\n  old: {files: {pkcs12: pcs.p12, password_file: password}}"
	h.configure("revocation: prefer, crl: {files: [sub.crl]}", slots, inbound("127.0.0.1:1"))
	h.start()
	h.until("all is ready before anything is spoilt", func() bool { return h.status().Ready })
	spoil(h, leaf.KeyPEM())

	var said strings.Builder
	client := h.socketClient()
	for path, request := range map[string]string{"reload": "{}", "rotate": `{"slot":"pcs"}`} {
		res, err := client.Post("http://d/v1/"+path, "application/json", strings.NewReader(request))
		if err != nil {
			t.Fatal(err)
		}
		answer, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if path == "reload" && res.StatusCode == http.StatusOK && !strings.Contains(t.Name(), "no_news") {
			t.Errorf("nothing was found wrong: %s", answer)
		}
		said.Write(answer)
	}
	_ = h.cmd.Process.Signal(syscall.SIGHUP)
	h.until("the signal was answered", func() bool { return strings.Count(h.output.String(), "event=reload") >= 2 })
	_, _, status, err := fetch(client, "http://d/v1/status")
	if err != nil {
		t.Fatal(err)
	}
	said.WriteString(status)
	for _, page := range []string{"/metrics", "/readyz", "/healthz"} {
		_, body := h.get(page)
		said.WriteString(body)
	}
	_, out := h.runDaemon("--check")
	said.WriteString(out)
	if code := h.stop(sigTerm); code != 0 {
		t.Errorf("exit status %d", code)
	}
	said.WriteString(h.output.String())
	said.WriteString(written(t, h.path("state")))
	search(t, said.String(), leaf)
}

// written returns the content of all files below a directory.
func written(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		if e.Name() == "key.pem" && strings.Contains(path, "/generations/") { // the one place for it
			info, err := e.Info()
			if err == nil && info.Mode() != 0o600 {
				t.Errorf("%s has mode %s", path, info.Mode())
			}
			return err
		}
		data, err := os.ReadFile(path)
		fmt.Fprintf(&out, "%s: %s\n", path, data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// search looks for pieces of the key, in the ways that it could be printed, and for the passwords.
func search(t *testing.T, said string, leaf *testpki.Leaf) {
	t.Helper()
	if !strings.Contains(said, "event=") || !strings.Contains(said, `"slots"`) || !strings.Contains(said, "audit.jsonl") {
		t.Fatalf("not all was collected:\n%s", said)
	}
	der, err := x509.MarshalPKCS8PrivateKey(leaf.Key)
	if err != nil {
		t.Fatal(err)
	}
	// The public key is part of the key, and may be told. What follows it is not.
	private := der[320:]
	text := body(leaf.KeyPEM())
	pieces := map[string]string{"the right password": rightPassword, "the wrong password": wrongPassword}
	for i := 448; i+16 <= len(text); i += 8 {
		pieces[fmt.Sprintf("base64 of the key at %d", i)] = text[i : i+16]
	}
	for i := 0; i+8 <= len(private); i += 4 {
		pieces[fmt.Sprintf("hex of the key at %d", i)] = hex.EncodeToString(private[i : i+8])
		pieces[fmt.Sprintf("the key itself at %d", i)] = string(private[i : i+8])
		pieces[fmt.Sprintf("the key as numbers at %d", i)] = strings.Trim(fmt.Sprint(private[i:i+8]), "[]")
	}
	lower := strings.ToLower(said)
	for what, piece := range pieces {
		if i := strings.Index(said, piece); i >= 0 {
			t.Fatalf("%s was told: ...%q...", what, said[max(0, i-300):min(len(said), i+40)])
		}
		if strings.HasPrefix(what, "hex") && strings.Contains(lower, piece) {
			t.Fatalf("%s was told", what)
		}
	}
}

// body is the base64 of a PEM block without its line breaks.
func body(key []byte) string {
	block, _ := pem.Decode(key)
	return base64.StdEncoding.EncodeToString(block.Bytes)
}

func escaped(key []byte) string { return strings.ReplaceAll(string(key), "\n", `\n`) }

func inHeader(key []byte) []byte {
	block, _ := pem.Decode(key)
	block.Headers = map[string]string{"Comment": body(key)}
	block.Bytes = block.Bytes[:len(block.Bytes)/2]
	return pem.EncodeToMemory(block)
}

func damaged(key []byte) []byte {
	block, _ := pem.Decode(key)
	data := bytes.Clone(block.Bytes)
	data[40] ^= 0x1f
	return data
}

// yaml replaces something in the configuration by what holds a secret.
func yaml(old string, now func(key []byte) string) func(*host, []byte) {
	return func(h *host, key []byte) {
		data := string(mustRead(h.t, h.path("spinecert.yaml")))
		if !strings.Contains(data, old) {
			h.t.Fatalf("no %q in the configuration", old)
		}
		h.write("spinecert.yaml", []byte(strings.Replace(data, old, now(key), 1)), 0o600)
	}
}
