package pki

import (
	"crypto/x509"
	"fmt"
	"strings"

	"software.sslmate.com/src/go-pkcs12"
)

// storeIterations is how often a password is hashed. The library's 2048 make a
// guess cheap; this is half a second in this program, and OpenSSL 3.0 and Java 17
// read it (Java refuses more than five million).
const storeIterations = 600_000

// encoder writes AES-256, PBKDF2 and HMAC with SHA-256 (RFC 7292, RFC 8018): the
// newest that OpenSSL 3.0 and Java 17 both read.
func encoder() *pkcs12.Encoder { return pkcs12.Modern2023.WithIterations(storeIterations) }

// EncodePKCS12 returns leaf, chain and key of an identity as a PKCS#12 file. An
// empty password is refused: many readers do not take it, and a key would be as
// good as in the clear.
func EncodePKCS12(id *Identity, password []byte) ([]byte, error) {
	return encodePKCS12(encoder(), id, password)
}

func encodePKCS12(e *pkcs12.Encoder, id *Identity, password []byte) ([]byte, error) {
	if len(password) == 0 {
		return nil, noPassword()
	}
	data, err := e.Encode(id.signer, id.leaf, id.chain, string(password))
	if err != nil { // the cause may be about the key
		return nil, refusal(partPKCS12, "cannot be written: the password may hold a character that PKCS#12 has not").
			advise("use letters, digits and common punctuation in the password")
	}
	return data, nil
}

// EncodeTrustStore returns CA certificates as a PKCS#12 file that Java reads as a
// trust store. There must be a password and at least one certificate.
func EncodeTrustStore(certs []*x509.Certificate, password []byte) ([]byte, error) {
	return encodeTrustStore(encoder(), certs, password)
}

func encodeTrustStore(e *pkcs12.Encoder, certs []*x509.Certificate, password []byte) ([]byte, error) {
	if len(password) == 0 {
		return nil, noPassword()
	}
	if len(certs) == 0 {
		return nil, incoherent(partPKCS12, "there is no certificate to write")
	}
	data, err := e.EncodeTrustStoreEntries(named(certs), string(password))
	if err != nil {
		return nil, refusal(partPKCS12, "cannot be written: the password may hold a character that PKCS#12 has not").
			advise("use letters, digits and common punctuation in the password")
	}
	return data, nil
}

// named gives each certificate the alias that Java shows. Java keeps one entry of an
// alias, whatever its case: the second CA of a name, as after a change of key, gets a
// number behind it.
func named(certs []*x509.Certificate) []pkcs12.TrustStoreEntry {
	var out []pkcs12.TrustStoreEntry
	taken := map[string]bool{}
	for _, c := range certs {
		name := c.Subject.String()
		for n := 2; taken[strings.ToLower(name)]; n++ {
			name = fmt.Sprintf("%s (%d)", c.Subject, n)
		}
		taken[strings.ToLower(name)] = true
		out = append(out, pkcs12.TrustStoreEntry{Cert: c, FriendlyName: name})
	}
	return out
}

func noPassword() *Error {
	return refusal(partPKCS12, "cannot be written without a password").advise("put a password into a file and name it as the password file")
}
