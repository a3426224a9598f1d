package pki

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/asn1"
	"math/big"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	casn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/spinecert/spinecert/internal/testpki"
	"software.sslmate.com/src/go-pkcs12"
)

func sequenceOf(add ...func(*cryptobyte.Builder)) func(*cryptobyte.Builder) {
	return func(b *cryptobyte.Builder) {
		b.AddASN1(casn1.SEQUENCE, func(b *cryptobyte.Builder) {
			for _, f := range add {
				f(b)
			}
		})
	}
}

func oidOf(arcs ...int) func(*cryptobyte.Builder) {
	return func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(arcs) }
}

func octets(data []byte) func(*cryptobyte.Builder) {
	return func(b *cryptobyte.Builder) { b.AddASN1OctetString(data) }
}

func number(n int64) func(*cryptobyte.Builder) {
	return func(b *cryptobyte.Builder) { b.AddASN1Int64(n) }
}

func explicit(tag casn1.Tag, add func(*cryptobyte.Builder)) func(*cryptobyte.Builder) {
	return func(b *cryptobyte.Builder) { b.AddASN1(tag, add) }
}

func bytesOf(t *testing.T, add func(*cryptobyte.Builder)) []byte {
	t.Helper()
	var b cryptobyte.Builder
	add(&b)
	der, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// pbes2 is the algorithm of an encrypted part or key: AES-256, PBKDF2 with SHA-256.
func pbes2(salt, iv []byte, iterations int64) func(*cryptobyte.Builder) {
	prf := sequenceOf(oidOf(1, 2, 840, 113549, 2, 9), func(b *cryptobyte.Builder) { b.AddASN1NULL() })
	kdf := sequenceOf(oidOf(1, 2, 840, 113549, 1, 5, 12), sequenceOf(octets(salt), number(iterations), prf))
	return sequenceOf(oidOf(1, 2, 840, 113549, 1, 5, 13), sequenceOf(kdf, sequenceOf(oidOf(2, 16, 840, 1, 101, 3, 4, 1, 42), octets(iv))))
}

// nested is a PFX with one encrypted part of one iteration that holds these bags. It
// has a MAC where there is a password.
func nested(t *testing.T, password string, bags ...func(*cryptobyte.Builder)) []byte {
	t.Helper()
	salt, iv := make([]byte, 8), make([]byte, aes.BlockSize)
	plain := bytesOf(t, sequenceOf(bags...))
	pad := aes.BlockSize - len(plain)%aes.BlockSize
	plain = append(plain, []byte(strings.Repeat(string(rune(pad)), pad))...)
	key, err := pbkdf2.Key(sha256.New, password, salt, 1, 32)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(plain, plain)
	content := sequenceOf(oidOf(1, 2, 840, 113549, 1, 7, 1), pbes2(salt, iv, 1),
		explicit(0x80, func(b *cryptobyte.Builder) { b.AddBytes(plain) }))
	part := sequenceOf(oidOf(1, 2, 840, 113549, 1, 7, 6), explicit(contextTag0, sequenceOf(number(0), content)))
	safes := bytesOf(t, sequenceOf(part))
	return bytesOf(t, sequenceOf(number(3),
		func(b *cryptobyte.Builder) { addContentInfo(b, func(b *cryptobyte.Builder) { b.AddBytes(safes) }) },
		func(b *cryptobyte.Builder) {
			if password != "" {
				addProbeMAC(b, safes, password, false)
			}
		}))
}

func bag(kind int, value func(*cryptobyte.Builder)) func(*cryptobyte.Builder) {
	return sequenceOf(oidOf(1, 2, 840, 113549, 1, 12, 10, 1, kind), explicit(contextTag0, value))
}

// A key inside an encrypted part asks for more iterations than a life has seconds,
// where nothing counts them. It is refused before it is decrypted.
func TestNestedKey(t *testing.T) {
	leaf := testpki.NewRoot(t).Issue(t)
	cert := bag(3, sequenceOf(oidOf(1, 2, 840, 113549, 1, 9, 22, 1), explicit(contextTag0, octets(leaf.Cert.Raw))))
	shrouded := func(iterations int64) func(*cryptobyte.Builder) {
		return bag(2, sequenceOf(pbes2(make([]byte, 8), make([]byte, 16), iterations), octets(make([]byte, 64))))
	}
	for name, data := range map[string]struct {
		password string
		bags     []func(*cryptobyte.Builder)
		want     string
	}{
		"empty password":       {"", []func(*cryptobyte.Builder){shrouded(1 << 40)}, "encrypted as a whole"},
		"a password":           {"geheim", []func(*cryptobyte.Builder){shrouded(1 << 40)}, "encrypted as a whole"},
		"behind a certificate": {"l\u00e4nger als dreissig Zeichen, und mit Umlaut", []func(*cryptobyte.Builder){cert, shrouded(1 << 40)}, "encrypted as a whole"},
		"no key":               {"geheim", []func(*cryptobyte.Builder){cert}, "no private key"},
		"nothing":              {"geheim", nil, "holds no certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			der := nested(t, data.password, data.bags...)
			if n, ok := iterations(der); !ok || n > 10 {
				t.Fatalf("%d iterations can be seen, %v", n, ok)
			}
			done := make(chan error, 1)
			go func() {
				_, err := Parse(der, []byte(data.password))
				done <- err
			}()
			select {
			case err := <-done:
				if err == nil || !strings.Contains(err.Error(), data.want) || Hint(err) == "" && data.want != "holds no certificate" {
					t.Errorf("%v; hint: %s", err, Hint(err))
				}
			case <-time.After(time.Minute): // it takes days
				t.Fatal("the key is decrypted")
			}
		})
	}
}

// Some programs derive keys from no bytes at all where there is no password, and only
// the MAC tells. An encrypted part of theirs is no way around.
func TestNestedKeyWithoutBytes(t *testing.T) {
	salt := make([]byte, 64)
	d := append(bytes.Repeat([]byte{1}, 64), salt...) // RFC 7292, Appendix B.2: SHA-1, one iteration, no password
	first := sha1.Sum(d)
	b := new(big.Int).SetBytes(bytes.Repeat(first[:], 4)[:64])
	second := sha1.Sum(append(bytes.Repeat([]byte{1}, 64), b.Add(b, big.NewInt(1)).FillBytes(make([]byte, 64))...))
	key := append(first[:], second[:4]...)
	iv := sha1.Sum(append(bytes.Repeat([]byte{2}, 64), salt...))

	leaf := testpki.NewRoot(t).Issue(t)
	cert := bag(3, sequenceOf(oidOf(1, 2, 840, 113549, 1, 9, 22, 1), explicit(contextTag0, octets(leaf.Cert.Raw))))
	shrouded := bag(2, sequenceOf(pbes2(make([]byte, 8), make([]byte, 16), 1), octets(make([]byte, 64))))
	for want, bags := range map[string]func(*cryptobyte.Builder){"no private key": sequenceOf(cert), "encrypted as a whole": sequenceOf(cert, shrouded)} {
		plain := bytesOf(t, bags)
		pad := des.BlockSize - len(plain)%des.BlockSize
		plain = append(plain, bytes.Repeat([]byte{byte(pad)}, pad)...)
		block, err := des.NewTripleDESCipher(key)
		if err != nil {
			t.Fatal(err)
		}
		cipher.NewCBCEncrypter(block, iv[:8]).CryptBlocks(plain, plain)
		algorithm := sequenceOf(oidOf(1, 2, 840, 113549, 1, 12, 1, 3), sequenceOf(octets(salt), number(1)))
		content := sequenceOf(oidOf(1, 2, 840, 113549, 1, 7, 1), algorithm, explicit(0x80, func(b *cryptobyte.Builder) { b.AddBytes(plain) }))
		safes := bytesOf(t, sequenceOf(sequenceOf(oidOf(1, 2, 840, 113549, 1, 7, 6), explicit(contextTag0, sequenceOf(number(0), content)))))
		der := bytesOf(t, sequenceOf(number(3),
			func(b *cryptobyte.Builder) { addContentInfo(b, func(b *cryptobyte.Builder) { b.AddBytes(safes) }) },
			func(b *cryptobyte.Builder) { addProbeMAC(b, safes, "", true) }))
		if _, err := Parse(der, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// The library takes one key, and does not decrypt a second: nestedKeys stands on it.
// It also looks for keys in no trust store.
func TestLibraryReadsOneKey(t *testing.T) {
	leaf := testpki.NewRoot(t).Issue(t)
	der, err := pkcs12.LegacyDES.Encode(leaf.Key, leaf.Cert, leaf.Chain, "word")
	if err != nil {
		t.Fatal(err)
	}
	parts := encryptedParts(der)
	if len(parts) != 1 {
		t.Fatalf("%d encrypted parts", len(parts))
	}
	if err := probe(parts[0], "word", false); err != nil {
		t.Errorf("a part with certificates behind a key: %v", err)
	}
	if err := probe(parts[0], "other", false); err == nil {
		t.Error("any password will do")
	}
	var oid asn1.ObjectIdentifier
	if rest, err := asn1.Unmarshal(bytesOf(t, func(b *cryptobyte.Builder) { addOID(b, oidKeyBag) }), &oid); err != nil || len(rest) > 0 || oid.String() != "1.2.840.113549.1.12.10.1.1" {
		t.Errorf("the key bag is %v", oid)
	}
}
