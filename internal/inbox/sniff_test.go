package inbox

import (
	"archive/zip"
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"mime/quotedprintable"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"unicode/utf16"

	"github.com/spinecert/spinecert/internal/testpki"
	"software.sslmate.com/src/go-pkcs12"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func utf16LE(s string) []byte {
	out := []byte{0xff, 0xfe}
	for _, u := range utf16.Encode([]rune(s)) {
		out = append(out, byte(u), byte(u>>8))
	}
	return out
}

func printable(s string) string {
	var b bytes.Buffer
	w := quotedprintable.NewWriter(&b)
	_, _ = w.Write([]byte(s))
	_ = w.Close()
	return b.String()
}

func attached(data []byte) []byte {
	return []byte("From: dir@nhs.net\nMIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=x\n\n--x\nContent-Type: text/plain\n\nHere it is.\n" +
		"--x\nContent-Type: application/octet-stream; name=a\nContent-Transfer-Encoding: base64\n\n" +
		base64.StdEncoding.EncodeToString(data) + "\n--x--\n")
}

// private returns files that are, hold or may hold a private key, by what they are.
func private(t testing.TB) map[string][]byte {
	leaf := testpki.NewRoot(t).Issue(t, testpki.DNS("pcs.thirdparty.nhs.uk"))
	key, cert := string(leaf.KeyPEM()), string(leaf.CertPEM())
	p12 := must(pkcs12.Modern2023.Encode(leaf.Key, leaf.Cert, nil, "secret"))
	_, young, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ed := must(x509.MarshalPKCS8PrivateKey(young))
	sec1 := must(x509.MarshalECPrivateKey(leaf.Key.(*ecdsa.PrivateKey)))
	rsaKey := must(x509.MarshalPKCS8PrivateKey(testpki.NewKey(t, "rsa-2048")))
	var zipped bytes.Buffer
	z := zip.NewWriter(&zipped)
	_, _ = must(z.Create("a.pem")).Write([]byte(cert))
	_ = z.Close()
	encrypted := append([]byte{0x30, 0x82, 0x01, 0x00, 0x30, 0x03, 0x06, 0x01, 0x2a, 0x04, 0x82, 0x00, 0xf7}, make([]byte, 247)...)
	block := func(label string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der}) }
	end := key[strings.Index(key, "-----END"):]
	return map[string][]byte{
		"PEM":                            []byte(key),
		"PEM behind a certificate":       []byte(cert + key),
		"PEM in the middle of text":      []byte("Dear all,\r\n\r\n" + strings.ReplaceAll(key, "\n", "\r\n") + cert),
		"PEM, quoted":                    []byte("> " + strings.ReplaceAll(key, "\n", "\n> ")),
		"PEM, quoted-printable":          []byte(printable(key)),
		"PEM, all quoted-printable":      []byte("=2D=2D=2D=2D=2DBEGIN=20PRIVATE=20KEY=2D=2D=2D=2D=2D\n" + key[28:]),
		"PEM, UTF-16":                    utf16LE(key),
		"PEM, UTF-16 without a mark":     utf16LE(key)[2:],
		"PEM, long dashes":               []byte(strings.ReplaceAll(key, "-----", "\u2014")),
		"PEM, broken over lines":         []byte(strings.Replace(key, "PRIVATE KEY", "PRIVATE\n> KEY", 1)),
		"PEM, its end only":              []byte("xxxx\n" + end),
		"PEM, cut off":                   []byte(key[:60]),
		"PEM, encrypted":                 block("ENCRYPTED PRIVATE KEY", encrypted),
		"PEM of OpenSSH":                 block("OPENSSH PRIVATE KEY", []byte("openssh-key-v1")),
		"PEM of an old key":              []byte("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMIIB\n-----END RSA PRIVATE KEY-----\n"),
		"PEM of PKCS#12":                 block("PKCS12", p12),
		"DER, RSA":                       rsaKey,
		"DER, Ed25519":                   ed,
		"DER, SEC 1":                     sec1,
		"DER, encrypted":                 encrypted,
		"DER, cut off":                   rsaKey[:100],
		"DER behind a certificate":       append(bytes.Clone(leaf.Cert.Raw), ed...),
		"DER, encrypted, short":          {0x30, 0x0a, 0x30, 0x03, 0x06, 0x01, 0x2a, 0x04, 0x03, 1, 2, 3},
		"BER":                            {0x30, 0x80, 0x02, 0x01, 0x00, 0x30, 0x00, 0x00},
		"PEM, its end only, long dashes": []byte("xxxx\n\u2014END PRIVATE KEY\u2014\n"),
		"PKCS#12":                        p12,
		"PKCS#12, cut off":               p12[:20],
		"PKCS#12 of another encoding":    append([]byte{0x30, 0x80, 2, 1, 3}, p12[7:]...),
		"PKCS#12 behind a certificate":   append(bytes.Clone(leaf.Cert.Raw), p12...),
		"base64 of PKCS#12":              []byte(base64.StdEncoding.EncodeToString(p12)),
		"base64 of Ed25519":              []byte(base64.StdEncoding.EncodeToString(ed) + "\r\n"),
		"zip":                            zipped.Bytes(),
		"empty zip":                      append([]byte("PK\x05\x06"), make([]byte, 18)...),
		"mail with PEM":                  attached([]byte(key)),
		"mail with DER":                  attached(rsaKey),
		"mail with PKCS#12":              attached(p12),
		"mail with a zip":                attached(zipped.Bytes()),
		"Java key store":                 []byte("\xfe\xed\xfe\xed\x00\x00\x00\x02"),
		"PuTTY":                          []byte("PuTTY-User-Key-File-3: ssh-rsa\n"),
	}
}

// harmless returns files that Take is to judge.
func harmless(t testing.TB) map[string][]byte {
	root := testpki.NewRoot(t)
	leaf := root.Issue(t, testpki.DNS("pcs.thirdparty.nhs.uk"))
	text := string(leaf.FullChainPEM())
	return map[string][]byte{
		"PEM":         []byte(text),
		"DER":         leaf.Cert.Raw,
		"base64":      []byte(base64.StdEncoding.EncodeToString(leaf.Cert.Raw)),
		"UTF-16":      utf16LE(text),
		"mail":        attached([]byte(text)),
		"request":     testpki.Request(t, leaf.Key, "pcs.thirdparty.nhs.uk"),
		"CRL":         root.CRL(t),
		"advice":      []byte("NEVER SEND US YOUR PRIVATE KEY. Begin with the private key - keep it.\n" + text),
		"digits":      []byte("0123456789"),
		"nothing":     []byte("\x00\x00\x00"),
		"public key":  must(x509.MarshalPKIXPublicKey(leaf.Key.Public())),
		"one byte":    []byte("0"),
		"odd lengths": {0x30, 0x84, 0xff},
	}
}

func TestSecret(t *testing.T) {
	for name, data := range private(t) {
		if what := secret(data); what == "" {
			t.Errorf("%s: not found", name)
		}
	}
	for name, data := range harmless(t) {
		if what := secret(data); what != "" {
			t.Errorf("%s: the file %s", name, what)
		}
	}
}

// What holds a key never reaches Take, is closed to others, and nothing of it is
// told.
func TestPrivateFiles(t *testing.T) {
	files := private(t)
	synctest.Test(t, func(t *testing.T) {
		b := newBox(t)
		for name, data := range files {
			if err := os.WriteFile(filepath.Join(b.dir, name), data, 0o666); err != nil {
				t.Fatal(err)
			}
		}
		b.Look(t.Context())
		b.took(t)
		b.want(t, "")
		for name := range files {
			wantMode(t, filepath.Join(b.dir, "rejected", name), 0o600)
			if reason := b.read(t, "rejected/"+name+".reason"); !strings.Contains(reason, "keys go through spinecert import") || !strings.Contains(reason, "0600") || len(reason) > 300 {
				t.Errorf("%s: reason %q", name, reason)
			}
		}
		for _, e := range b.events {
			if e.Kind != Rejected || len(e.Reason)+len(e.Hint) > 300 {
				t.Errorf("told %+v", e)
			}
		}
	})
}

// FuzzSecret: nothing panics, a label is found wherever it stands, and so is a key
// or PKCS#12 in front of anything.
func FuzzSecret(f *testing.F) {
	for _, files := range []map[string][]byte{private(f), harmless(f)} {
		for _, data := range files {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > maxFile {
			return
		}
		what := secret(data)
		if len(what) > 100 || strings.ContainsAny(what, "\n\x00") {
			t.Errorf("said %q", what)
		}
		for _, found := range [][]byte{
			append(bytes.Clone(data), "\n-----BEGIN EC PRIVATE KEY-----\n"...),
			append([]byte("-----END PRIVATE KEY-----\n"), data...),
			append([]byte{0x30, 0x80, 2, 1, 3}, data...),
			append([]byte("PK\x03\x04"), data...),
		} {
			if secret(found) == "" {
				t.Errorf("not found in %q", found)
			}
		}
	})
}

// FuzzTargets: names made from any name fit a directory with their reason, and stay
// in it.
func FuzzTargets(f *testing.F) {
	f.Add("a.pem")
	f.Add(strings.Repeat("\u00e4", 127))
	f.Add(strings.Repeat("\xff", 255))
	f.Fuzz(func(t *testing.T, name string) {
		if name == "" || name[0] == '.' || len(name) > 255 || strings.ContainsAny(name, "/\x00") {
			return // no directory has it, or it is left alone
		}
		seen := map[string]bool{}
		for target := range targets(name) {
			if seen[target] || target == "" || len(target)+len(reasonSuffix) > 255 || strings.ContainsAny(target, "/\x00") || target[0] == '.' {
				t.Fatalf("%q gives %q", name, target)
			}
			seen[target] = true
		}
		if len(seen) != maxTargets {
			t.Errorf("%d names", len(seen))
		}
		if s := shown(name); strings.ContainsAny(s, "\n\x1b\x00") {
			t.Errorf("shown %q", s)
		}
	})
}
