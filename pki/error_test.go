package pki_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
	"software.sslmate.com/src/go-pkcs12"
)

func TestErrorText(t *testing.T) {
	cause := errors.New("cause")
	tests := map[string]struct {
		err  error
		want string
	}{
		"plain":       {&pki.Error{Part: "key", Message: "is empty"}, `read key: is empty`},
		"file":        {&pki.Error{Part: "key", File: "/a\nb", Message: "is empty"}, `read key "/a\nb": is empty`},
		"identity":    {&pki.Error{Part: "identity", Message: "no"}, `build identity: no`},
		"err":         {&pki.Error{Part: "key", Err: cause}, `read key: cause`},
		"with file":   {pki.WithFile(&pki.Error{Part: "key", Message: "m"}, "f"), `read key "f": m`},
		"has file":    {pki.WithFile(&pki.Error{Part: "key", File: "e", Message: "m"}, "f"), `read key "e": m`},
		"other error": {pki.WithFile(cause, "f"), `read file "f": cause`},
	}
	for name, tt := range tests {
		if got := tt.err.Error(); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
	if pki.WithFile(nil, "f") != nil {
		t.Error("WithFile(nil) is not nil")
	}
	original := &pki.Error{Part: "key"}
	if _ = pki.WithFile(original, "f"); original.File != "" {
		t.Error("WithFile changed its argument")
	}
	if !errors.Is(pki.WithFile(cause, "f"), cause) {
		t.Error("WithFile hides the cause")
	}
	path := filepath.Join(t.TempDir(), "missing")
	_, err := os.ReadFile(path)
	if got := pki.WithFile(err, path); strings.Count(got.Error(), "missing") != 1 || !errors.Is(got, os.ErrNotExist) {
		t.Errorf("path error: %v", got)
	}
}

func TestHint(t *testing.T) {
	with := &pki.Error{Part: "key", Message: "m", Advice: "do this"}
	without := &pki.Error{Part: "key", Message: "m"}
	for name, tt := range map[string]struct {
		err  error
		want string
	}{
		"nil":     {nil, ""},
		"none":    {without, ""},
		"direct":  {with, "do this"},
		"wrapped": {fmt.Errorf("slot: %w", with), "do this"},
		"joined":  {errors.Join(without, errors.New("x"), fmt.Errorf("y: %w", with)), "do this"},
		"below":   {&pki.Error{Part: "file", Err: with}, "do this"},
	} {
		if got := pki.Hint(tt.err); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

// No error, and no hint, holds anything of a key or a password, whatever is done
// to the file.
func TestErrorsHoldNoSecrets(t *testing.T) {
	for _, kind := range []string{"rsa-2048", "ecdsa-p256", "ed25519"} {
		t.Run(kind, func(t *testing.T) {
			leaf := testpki.NewRoot(t).Issue(t, testpki.KeyType(kind))
			pkcs8, _ := pem.Decode(leaf.KeyPEM())
			p12, err := pkcs12.Modern2023.Encode(leaf.Key, leaf.Cert, nil, secret)
			if err != nil {
				t.Fatal(err)
			}
			files := [][]byte{leaf.KeyPEM(), pkcs8.Bytes, slices.Concat(leaf.KeyPEM(), leaf.CertPEM()), p12}
			switch key := leaf.Key.(type) {
			case *rsa.PrivateKey:
				files = append(files, x509.MarshalPKCS1PrivateKey(key))
			case *ecdsa.PrivateKey:
				der, err := x509.MarshalECPrivateKey(key)
				if err != nil {
					t.Fatal(err)
				}
				files = append(files, der)
			}
			secrets := secretsOf(pkcs8.Bytes)
			count := 0
			for _, file := range files {
				for data := range damaged(file) {
					for _, err := range parseAll(data) {
						count++
						text := fmt.Sprintf("%v %+v %s", err, err, pki.Hint(err))
						for _, s := range secrets {
							if strings.Contains(text, s) {
								t.Fatalf("error holds key material: %s", text)
							}
						}
						if strings.Contains(text, secret) {
							t.Fatalf("error holds the password: %s", text)
						}
					}
				}
			}
			if count < 1000 {
				t.Errorf("only %d errors were seen", count)
			}
		})
	}
}

func parseAll(data []byte) (errs []error) {
	c, err := pki.Parse(data, []byte("not-"+secret))
	errs = append(errs, err)
	_, err = pki.ParseKey(data)
	errs = append(errs, err)
	_, err = pki.ParseCertificates(data)
	errs = append(errs, err)
	if c != nil && len(c.Keys) > 0 {
		_, err = pki.NewIdentity(c.Certificates, c.Keys[0])
		errs = append(errs, err)
	}
	return slices.DeleteFunc(errs, func(err error) bool { return err == nil })
}

// secretsOf returns what a leak would look like: pieces of the key in base64 (at
// each of the three alignments), in hex and as bytes.
func secretsOf(der []byte) []string {
	const n = 9
	var out []string
	body := base64.StdEncoding.EncodeToString(der)
	for i := 24; i+n <= len(der); i += 5 { // behind the header, which is no secret
		piece := der[i : i+n]
		out = append(out, string(piece), hex.EncodeToString(piece), strings.ToUpper(hex.EncodeToString(piece)))
	}
	for i := 40; i+12 <= len(body); i += 7 {
		out = append(out, body[i:i+12])
	}
	return out
}

// damaged yields a file cut short, with single bytes changed, and under other
// labels.
func damaged(file []byte) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		step := max(1, len(file)/400)
		for i := 0; i < len(file); i += step {
			flipped := slices.Clone(file)
			flipped[i] ^= 0x15
			if !yield(file[:i]) || !yield(flipped) || !yield(slices.Delete(slices.Clone(file), i, i+1)) {
				return
			}
		}
		for _, label := range []string{"CERTIFICATE", "X509 CRL", "PKCS7", "CERTIFICATE REQUEST", "EC PRIVATE KEY", "WHATEVER"} {
			if !yield(bytes.ReplaceAll(file, []byte("PRIVATE KEY"), []byte(label))) {
				return
			}
		}
	}
}
