package pki_test

import (
	"crypto"
	"errors"
	"strings"
	"testing"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
)

func samePublic(t *testing.T, got, want crypto.Signer) {
	t.Helper()
	if pki.KeyFingerprint(got.Public()) != pki.KeyFingerprint(want.Public()) {
		t.Error("another key was read")
	}
}

func TestParseKeyForms(t *testing.T) {
	tests := map[string]struct {
		kind string
		args []string // of openssl, from key.pem to out
	}{
		"good rsa pkcs8 pem":     {"rsa-2048", []string{"pkey", "-in", "key.pem", "-out", "out"}},
		"good rsa pkcs8 der":     {"rsa-2048", []string{"pkcs8", "-topk8", "-nocrypt", "-in", "key.pem", "-outform", "DER", "-out", "out"}},
		"good rsa pkcs1 pem":     {"rsa-2048", []string{"rsa", "-traditional", "-in", "key.pem", "-out", "out"}},
		"good rsa pkcs1 der":     {"rsa-2048", []string{"rsa", "-traditional", "-in", "key.pem", "-outform", "DER", "-out", "out"}},
		"good rsa-3072 pem":      {"rsa-3072", []string{"pkey", "-in", "key.pem", "-out", "out"}},
		"good p256 sec1 pem":     {"ecdsa-p256", []string{"ec", "-in", "key.pem", "-out", "out"}},
		"good p256 sec1 der":     {"ecdsa-p256", []string{"ec", "-in", "key.pem", "-outform", "DER", "-out", "out"}},
		"good p384 pkcs8 pem":    {"ecdsa-p384", []string{"pkey", "-in", "key.pem", "-out", "out"}},
		"good p384 sec1 text":    {"ecdsa-p384", []string{"pkey", "-traditional", "-text", "-in", "key.pem", "-out", "out"}},
		"good ed25519 pkcs8 pem": {"ed25519", []string{"pkey", "-in", "key.pem", "-out", "out"}},
		"good ed25519 pkcs8 der": {"ed25519", []string{"pkcs8", "-topk8", "-nocrypt", "-in", "key.pem", "-outform", "DER", "-out", "out"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir, leaf, _ := material(t, testpki.KeyType(tt.kind))
			openssl(t, dir, tt.args...)
			key, err := pki.ParseKey(read(t, dir, "out"))
			if err != nil {
				t.Fatal(err)
			}
			samePublic(t, key, leaf.Key)
			if c, err := pki.Parse(read(t, dir, "out"), nil); err != nil || len(c.Keys) != 1 {
				t.Errorf("Parse: %v, %+v", err, c)
			}
		})
	}
}

func TestParseKeyWithParameters(t *testing.T) {
	dir := t.TempDir()
	openssl(t, dir, "ecparam", "-name", "prime256v1", "-genkey", "-out", "key.pem")
	data := read(t, dir, "key.pem")
	if !strings.Contains(string(data), "EC PARAMETERS") {
		t.Fatal("openssl wrote no EC PARAMETERS: the test tests nothing")
	}
	if _, err := pki.ParseKey(data); err != nil {
		t.Error(err)
	}
	if c, err := pki.Parse(data, nil); err != nil || len(c.Keys) != 1 || c.Unknown != nil {
		t.Errorf("Parse: %v, %+v", err, c)
	}
}

func TestParseKeyEncrypted(t *testing.T) {
	tests := map[string]struct {
		kind string
		args []string
	}{
		"bad pkcs8 pem":        {"rsa-2048", []string{"pkcs8", "-topk8", "-in", "key.pem", "-passout", "pass:geheim", "-out", "out"}},
		"bad pkcs8 der":        {"rsa-2048", []string{"pkcs8", "-topk8", "-in", "key.pem", "-passout", "pass:geheim", "-outform", "DER", "-out", "out"}},
		"bad proc-type pem":    {"rsa-2048", []string{"rsa", "-traditional", "-aes128", "-in", "key.pem", "-passout", "pass:geheim", "-out", "out"}},
		"bad proc-type ec pem": {"ecdsa-p256", []string{"ec", "-aes128", "-in", "key.pem", "-passout", "pass:geheim", "-out", "out"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir, leaf, _ := material(t, testpki.KeyType(tt.kind))
			openssl(t, dir, tt.args...)
			files := [][]byte{read(t, dir, "out")}
			if files[0][0] == '-' { // DER cannot stand behind PEM
				files = append(files, append(leaf.CertPEM(), files[0]...))
			}
			for _, data := range files {
				_, err := pki.ParseKey(data)
				if err == nil || !strings.Contains(err.Error(), "encrypted") || errors.Is(err, pki.ErrIncoherent) {
					t.Fatalf("got %v", err)
				}
				if hint := pki.Hint(pki.WithFile(err, "/etc/pki/my key")); !strings.Contains(hint, "openssl pkey -in '/etc/pki/my key' -out ") {
					t.Errorf("hint is %q", hint)
				}
				if _, err := pki.Parse(data, []byte("geheim")); err == nil || pki.Hint(err) == "" {
					t.Errorf("Parse: %v", err)
				}
			}
			openssl(t, dir, "pkey", "-in", "out", "-passin", "pass:geheim", "-out", "decrypted.key") // what the hint says
			key, err := pki.ParseKey(read(t, dir, "decrypted.key"))
			if err != nil {
				t.Fatalf("the hint's command gives what is not read: %v", err)
			}
			samePublic(t, key, leaf.Key)
		})
	}
}

func TestParseKeyRefusals(t *testing.T) {
	leaf := testpki.NewRoot(t).Issue(t)
	other := testpki.EncodeKey(testpki.NewKey(t, "ecdsa-p256"))
	tests := map[string]struct {
		data       []byte
		want       string
		incoherent bool
	}{
		"bad empty":       {nil, "is empty", true},
		"bad white space": {[]byte(" \r\n\n"), "is empty", true},
		"bad nul bytes":   {make([]byte, 4096), "is empty", true},
		"bad text":        {[]byte("hello\n"), "holds neither", true},
		"bad certificate": {leaf.CertPEM(), "no private key found, but a certificate", true},
		"bad two keys":    {append(leaf.KeyPEM(), other...), "2 private keys", false},
		"bad openssh":     {[]byte("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n"), "OpenSSH", false},
		"bad dsa":         {[]byte("-----BEGIN DSA PRIVATE KEY-----\nAAAA\n-----END DSA PRIVATE KEY-----\n"), "unsupported", false},
		"bad label":       {[]byte(strings.ReplaceAll(string(leaf.CertPEM()), "CERTIFICATE", "PRIVATE KEY")), "holds a certificate", false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := pki.ParseKey(tt.data)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), "read key: ") {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if errors.Is(err, pki.ErrIncoherent) != tt.incoherent {
				t.Errorf("incoherent is %v, want %v: %v", !tt.incoherent, tt.incoherent, err)
			}
		})
	}
}

func TestParseKeyUnsupportedAlgorithms(t *testing.T) {
	for _, algorithm := range []string{"X25519", "Ed448", "X448"} {
		t.Run(algorithm, func(t *testing.T) {
			dir := t.TempDir()
			openssl(t, dir, "genpkey", "-algorithm", algorithm, "-out", "key.pem")
			if _, err := pki.ParseKey(read(t, dir, "key.pem")); err == nil || errors.Is(err, pki.ErrIncoherent) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestCheckKey(t *testing.T) {
	tests := map[string]struct{ describe, want string }{
		"rsa-1024":   {"RSA 1024", "1024 bits"},
		"rsa-2048":   {"RSA 2048", ""},
		"rsa-4096":   {"RSA 4096", ""},
		"ecdsa-p224": {"ECDSA P-224", "not supported"},
		"ecdsa-p256": {"ECDSA P-256", ""},
		"ecdsa-p384": {"ECDSA P-384", ""},
		"ecdsa-p521": {"ECDSA P-521", "not supported"},
		"ed25519":    {"Ed25519", ""},
	}
	for kind, tt := range tests {
		t.Run(kind, func(t *testing.T) {
			pub := testpki.NewKey(t, kind).Public()
			if got := pki.DescribeKey(pub); got != tt.describe {
				t.Errorf("DescribeKey = %q, want %q", got, tt.describe)
			}
			switch err := pki.CheckKey(pub); {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	if err := pki.CheckKey(nil); err == nil {
		t.Error("nil was accepted")
	}
}
