package cli

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/spinecert/spinecert/internal/testpki"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"spinecert": func() {
			os.Exit(Main(context.Background(), "v0.0.0-test", os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
		},
	})
}

func TestScripts(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil && os.Getenv("CI") != "" {
		t.Fatal("openssl is not installed: CI must have it") // the scripts skip without it
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			writeScriptPKI(t, env.WorkDir)
			env.Setenv("SOCKETS", serveFakeDaemons(t))
			env.Setenv("TRUST", serveTrustDaemons(t, env.WorkDir))
			env.Setenv("BIN", env.WorkDir)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"keep": scriptKeep, "exits": scriptExits, "json": scriptJSON, "oneline": scriptOneLine, "modes": scriptModes, "with": scriptWith},
	})
}

// scriptExits runs a command and wants an exit status: exits 3 spinecert verify ...
func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits STATUS COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

// scriptJSON looks into the last line of stdout: json exit 3, json result.name.source cn
func scriptJSON(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: json PATH VALUE")
	}
	lines := strings.Split(strings.TrimSuffix(ts.ReadFile("stdout"), "\n"), "\n")
	var value any
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &value); err != nil {
		ts.Fatalf("last line of stdout: %v", err)
	}
	for key := range strings.SplitSeq(args[0], ".") {
		switch v := value.(type) {
		case map[string]any:
			value = v[key]
		case []any:
			i, err := strconv.Atoi(key)
			if key == "length" {
				value, err = float64(len(v)), nil
			} else if err == nil && i < len(v) {
				value = v[i]
			} else {
				value = nil
			}
			ts.Check(err)
		default:
			value = nil
		}
	}
	if got := fmt.Sprint(value); (got == args[1]) == neg {
		ts.Fatalf("%s is %q, want %q (not: %v)", args[0], got, args[1], neg)
	}
}

// encryptedKeyPEM has the outline of an encrypted key (RFC 5958, Section 3).
func encryptedKeyPEM() []byte {
	return pemBlock("ENCRYPTED PRIVATE KEY", []byte{0x30, 0x0B, 0x30, 0x05, 0x06, 0x03, 0x2A, 0x03, 0x04, 0x04, 0x02, 0x01, 0x02})
}

// scriptOneLine wants stdout to be one line.
func scriptOneLine(ts *testscript.TestScript, _ bool, _ []string) {
	if out := ts.ReadFile("stdout"); strings.Count(out, "\n") != 1 || !strings.HasSuffix(out, "\n") {
		ts.Fatalf("stdout has %d lines", strings.Count(out, "\n"))
	}
}

// scriptModes wants files to have modes: modes dir drwx------ dir/key.pem -rw-------
func scriptModes(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 || len(args)%2 != 0 {
		ts.Fatalf("usage: modes FILE MODE...")
	}
	for ; len(args) > 0; args = args[2:] {
		info, err := os.Lstat(ts.MkAbs(args[0]))
		ts.Check(err)
		if got := info.Mode().String(); got != args[1] {
			ts.Fatalf("%s has mode %s, want %s", args[0], got, args[1])
		}
	}
}

// scriptWith puts what a file holds into a variable: with file NAME
func scriptWith(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: with FILE NAME")
	}
	ts.Setenv(args[1], strings.TrimSpace(ts.ReadFile(args[0])))
}

// writeScriptPKI writes the files that the scripts use.
func writeScriptPKI(t *testing.T, dir string) {
	t.Helper()
	put := func(name string, mode os.FileMode, parts ...[]byte) {
		testpki.WriteFile(t, filepath.Join(dir, name), bytes.Join(parts, nil), mode)
	}
	root := testpki.NewRoot(t, testpki.Name("Script Root"))
	sub := root.SubCA(t, testpki.Name("Script Authentication"), testpki.PathLen(0))
	leaf := sub.Issue(t, testpki.DNS("pcs.thirdparty.nhs.uk", "alt.thirdparty.nhs.uk"), testpki.CDP("http://crl.example/1.crl"))
	put("bundle.pem", 0o644, sub.BundlePEM())
	put("root.pem", 0o644, root.CertPEM())
	put("sub.pem", 0o644, sub.CertPEM())
	put("leaf.pem", 0o644, leaf.CertPEM())
	put("leaf.der", 0o644, leaf.Cert.Raw)
	put("full.pem", 0o644, leaf.FullChainPEM())
	put("withroot.pem", 0o644, leaf.FullChainPEM(), root.CertPEM())
	put("wrongorder.pem", 0o644, root.CertPEM(), sub.CertPEM(), leaf.CertPEM())
	put("key.pem", 0o600, leaf.KeyPEM())
	put("open.pem", 0o644, leaf.CertPEM(), leaf.KeyPEM())
	put("torn.pem", 0o644, leaf.CertPEM()[:200])
	put("empty.pem", 0o644)
	put("text.txt", 0o644, []byte("nothing here\n"))
	put("unknown.pem", 0o644, []byte("-----BEGIN SSH2 PUBLIC KEY-----\nAAAA\n-----END SSH2 PUBLIC KEY-----\n"))
	put("request.pem", 0o644, pemBlock("CERTIFICATE REQUEST", testpki.Request(t, leaf.Key, "pcs.thirdparty.nhs.uk")))
	put("encrypted.pem", 0o600, leaf.CertPEM(), encryptedKeyPEM())

	cn := sub.Issue(t, testpki.Name("cn.thirdparty.nhs.uk"), testpki.NoSAN())
	put("cn.pem", 0o644, cn.FullChainPEM())
	past := time.Now().Add(-48 * time.Hour)
	expired := sub.Issue(t, testpki.DNS("old.thirdparty.nhs.uk"), testpki.Validity(past.Add(-time.Hour), past))
	put("expired.pem", 0o644, expired.FullChainPEM())
	put("expiredkey.pem", 0o600, expired.KeyPEM())
	put("letter.txt", 0o644, []byte("Dear all,\r\n\r\n> "), bytes.ReplaceAll(leaf.CertPEM(), []byte("\n"), []byte("\r\n> ")), []byte("\r\nregards\r\n"))
	put("sha1.pem", 0o644, sub.Issue(t, testpki.DNS("sha1.thirdparty.nhs.uk"), testpki.SHA1()).CertPEM())
	hostile := sub.Issue(t, testpki.Name("evil\x1b[31m\naccepted\u202e"), testpki.NoSAN())
	put("hostile.pem", 0o644, hostile.FullChainPEM())
	put("otherkey.pem", 0o600, cn.KeyPEM())

	put("clientonly.pem", 0o644, sub.Issue(t, testpki.DNS("c.thirdparty.nhs.uk"), testpki.EKU(x509.ExtKeyUsageClientAuth)).CertPEM())

	crl := sub.CRL(t, testpki.Revoke(cn.Cert.SerialNumber))
	put("sub.crl", 0o644, crl)
	put("sub.crl.pem", 0o644, testpki.EncodeCRL(crl))
	put("root.crl", 0o644, root.CRL(t))
	put("stale.crl", 0o644, sub.CRL(t, testpki.NextUpdate(time.Now().Add(-time.Minute))))
	put("torn.crl", 0o644, crl[:len(crl)-10])
	foreign := testpki.NewRoot(t, testpki.Name("Foreign Root"))
	put("foreign.pem", 0o644, foreign.CertPEM())
	put("foreign.crl", 0o644, foreign.CRL(t))
	put("both.pem", 0o644, leaf.CertPEM(), cn.CertPEM())
}
