package format_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/internal/testprogram"
)

// program runs a program that reads files of ours, in their directory.
func program(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	path := testprogram.Need(t, name)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %q: %v\n%s%s", name, args, err, out.Bytes(), errs.Bytes())
	}
	return out.String()
}

// write writes the files of these formats, each under its name, and the password.
func (m *material) write(t *testing.T, formats ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, name := range formats {
		testpki.WriteFile(t, filepath.Join(dir, name), encode(t, name, m.Source), 0o600)
	}
	testpki.WriteFile(t, filepath.Join(dir, "password"), append(m.Password, '\n'), 0o600)
	return dir
}

// certificates are those of openssl's output, in their order.
func certificates(t *testing.T, out string) string {
	t.Helper()
	var all strings.Builder
	for _, part := range strings.SplitAfter(out, "-----END CERTIFICATE-----\n") {
		if i := strings.Index(part, "-----BEGIN CERTIFICATE-----"); i >= 0 {
			all.WriteString(part[i:])
		}
	}
	return all.String()
}

// TestOpenSSL: OpenSSL reads all but jks and ldaprc, and finds in it what was put in.
func TestOpenSSL(t *testing.T) {
	t.Parallel()
	m := newMaterial(t, testpki.DNS("pcs.thirdparty.nhs.uk"))
	dir := m.write(t, "cert", "chain", "fullchain", "key", "combined", "der", "pkcs12", "trust-pem", "trust-pkcs12", "crl-pem")
	openssl := func(args ...string) string { return program(t, dir, "openssl", args...) }
	leaf, all := string(m.leaf.CertPEM()), string(m.leaf.FullChainPEM())
	cas := testpki.EncodeCerts(m.issuing.Cert, m.upper.Cert, m.root.Cert)

	for _, file := range []string{"cert", "fullchain", "combined"} {
		if got := openssl("x509", "-in", file); got != leaf {
			t.Errorf("%s: %s", file, got)
		}
	}
	if got := openssl("x509", "-inform", "DER", "-in", "der"); got != leaf {
		t.Errorf("der: %s", got)
	}
	for _, file := range []string{"key", "combined"} {
		if got := openssl("pkey", "-in", file); got != string(m.leaf.KeyPEM()) {
			t.Errorf("%s holds another key", file)
		}
	}
	for file, want := range map[string]string{"chain": string(m.leaf.ChainPEM()), "fullchain": all, "combined": all, "trust-pem": string(cas)} {
		if got := certificates(t, openssl("storeutl", file)); got != want {
			t.Errorf("%s holds %s, want %s", file, got, want)
		}
	}
	if got := certificates(t, openssl("pkcs12", "-in", "pkcs12", "-passin", "file:password", "-nokeys")); got != all {
		t.Errorf("pkcs12 holds %s", got)
	}
	if got := openssl("pkcs12", "-in", "pkcs12", "-passin", "file:password", "-nocerts", "-nodes"); !strings.HasSuffix(got, string(m.leaf.KeyPEM())) {
		t.Error("pkcs12 holds another key")
	}
	if got := openssl("pkcs12", "-in", "trust-pkcs12", "-passin", "file:password"); certificates(t, got) != string(cas) || strings.Contains(got, "PRIVATE") {
		t.Errorf("trust-pkcs12 holds %s", got)
	}
	// All three lists count: the file is whole, and in force for every CA.
	if got := openssl("verify", "-crl_check_all", "-CAfile", "trust-pem", "-CRLfile", "crl-pem", "cert"); got != "cert: OK\n" {
		t.Errorf("verify: %s", got)
	}
	m.CRLs = [][]byte{m.issuing.CRL(t, testpki.Revoke(m.leaf.Cert.SerialNumber)), m.CRLs[1], m.CRLs[2]}
	testpki.WriteFile(t, filepath.Join(dir, "revoked"), encode(t, "crl-pem", m.Source), 0o600)
	cmd := exec.CommandContext(t.Context(), "openssl", "verify", "-crl_check_all", "-CAfile", "trust-pem", "-CRLfile", "revoked", "cert")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err == nil || !bytes.Contains(out, []byte("revoked")) {
		t.Errorf("verify of a revoked certificate: %v, %s", err, out)
	}
}

// TestKeytool: Java reads its three formats. Whoever takes an entry by its name finds
// it under the same in both key stores.
func TestKeytool(t *testing.T) {
	t.Parallel()
	m := newMaterial(t)
	dir := m.write(t, "pkcs12", "jks", "trust-pkcs12")
	list := func(file string) string {
		return program(t, dir, "keytool", "-list", "-v", "-keystore", file, "-storepass:file", "password")
	}
	for _, file := range []string{"pkcs12", "jks"} {
		got := list(file)
		for _, want := range []string{"Your keystore contains 1 entry", "Alias name: 1\n", "Entry type: PrivateKeyEntry", "Certificate chain length: 3"} {
			if !strings.Contains(got, want) {
				t.Errorf("%s: no %q in %s", file, want, got)
			}
		}
		if !ordered(got, m.Certificates...) {
			t.Errorf("%s: the chain is not that of the slot: %s", file, got)
		}
	}
	if got := list("jks"); !strings.Contains(got, "Creation date: May 4, 2026") {
		t.Errorf("jks was made at another time: %s", got)
	}
	got := list("trust-pkcs12")
	if !strings.Contains(got, "Your keystore contains 3 entries") || strings.Count(got, "Entry type: trustedCertEntry") != 3 {
		t.Errorf("trust-pkcs12: %s", got)
	}
	for _, c := range m.CAs {
		if !ordered(got, c) {
			t.Errorf("trust-pkcs12 lacks %s: %s", c.Subject, got)
		}
	}
}

// ordered reports whether keytool told the certificates one after the other.
func ordered(out string, certs ...*x509.Certificate) bool {
	for _, c := range certs {
		sum := sha256.Sum256(c.Raw)
		text := strings.ToUpper(hex.EncodeToString(sum[:]))
		var pairs []string
		for i := 0; i < len(text); i += 2 {
			pairs = append(pairs, text[i:i+2])
		}
		_, after, ok := strings.Cut(out, strings.Join(pairs, ":"))
		if !ok {
			return false
		}
		out = after
	}
	return true
}
