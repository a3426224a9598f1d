package pki

import (
	"bytes"
	"crypto/x509"
	"slices"
	"time"

	"github.com/pavlo-v-chernykh/keystore-go/v4"
)

const (
	partJKS = "jks"

	// jksAlias names the entry. Java gives the one of a PKCS#12 file without names
	// the same, so that either file will do for a program that asks by name.
	jksAlias = "1"

	// jksPassword is the least that keytool takes for a store of its own.
	jksPassword = 6
)

// EncodeJKS returns leaf, chain and key of an identity as a Java KeyStore, made
// at now, for programs that read nothing newer. Its key is protected by a single
// round of SHA-1: whoever has the file has the key, unless the password is one that
// nobody can guess. A password of less than 6 characters, or with any that is not
// printable ASCII, is refused: Java's own programs do not take it.
func EncodeJKS(id *Identity, password []byte, now time.Time) ([]byte, error) {
	switch {
	case len(password) == 0:
		return nil, refusal(partJKS, "cannot be written without a password").advise("put a password into a file and name it as the password file")
	case !printable(password):
		return nil, refusal(partJKS, "cannot be written: the password holds a character that Java does not take").
			advise("use letters a-z, digits and common punctuation in the password")
	case len(password) < jksPassword:
		return nil, refusal(partJKS, "cannot be written: the password has less than %d characters, which is what Java asks for", jksPassword).
			advise("put a longer password into the password file: openssl rand -hex 16")
	}
	key, err := x509.MarshalPKCS8PrivateKey(id.signer)
	if err != nil { // the cause may be about the key
		return nil, refusal(partJKS, "cannot be written: the key is of a kind that has no PKCS#8 form")
	}
	entry := keystore.PrivateKeyEntry{CreationTime: now, PrivateKey: key}
	for _, c := range slices.Insert(slices.Clone(id.chain), 0, id.leaf) {
		entry.CertificateChain = append(entry.CertificateChain, keystore.Certificate{Type: "X.509", Content: c.Raw})
	}
	store := keystore.New()
	var out bytes.Buffer
	if err := store.SetPrivateKeyEntry(jksAlias, entry, password); err != nil {
		return nil, refusal(partJKS, "cannot be written")
	}
	if err := store.Store(&out, password); err != nil {
		return nil, refusal(partJKS, "cannot be written")
	}
	return out.Bytes(), nil
}

// printable reports whether all of a password is printable ASCII.
func printable(password []byte) bool {
	return !slices.ContainsFunc(password, func(b byte) bool { return b < ' ' || b > '~' })
}
