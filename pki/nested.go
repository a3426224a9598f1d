package pki

import (
	"crypto/hmac"
	"crypto/sha256"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
	"software.sslmate.com/src/go-pkcs12"
)

// An iteration count inside an encrypted part shows only once the part is
// decrypted, and the library that decrypts it goes on with the keys that it finds
// there, whatever they ask for. It is no secret from whoever sends the file, who
// chooses the password as well. So each encrypted part is first read in a file made
// for the purpose, behind a key of ours: the library takes one key from a file, and
// refuses a second before it is decrypted.

// nestedKeys refuses a PFX with a key in an encrypted part. The usual programs
// encrypt the key itself, in a part that is not encrypted as a whole.
func nestedKeys(parts []cryptobyte.String, password string) error {
	noBytes := []bool{false}
	if password == "" { // some programs derive the key from no bytes at all, not from a terminator
		noBytes = append(noBytes, true)
	}
	for _, part := range parts {
		var failed error
		read := false
		for _, none := range noBytes {
			switch err := probe(part, password, none); {
			case err == nil, err.Error() == libraryNoCertificate:
				read = true
			case err.Error() == libraryTwoKeys:
				return refusal(partPKCS12, "holds a private key in a part that is encrypted as a whole, which is not supported by this version").advise(convertPKCS12)
			default:
				failed = err
			}
		}
		if !read {
			return pkcs12Error(failed, password != "")
		}
	}
	return nil
}

// What the library says; see [pkcs12Error].
const (
	libraryTwoKeys       = "pkcs12: expected exactly one key bag"
	libraryNoKey         = "pkcs12: private key missing"
	libraryNoCertificate = "pkcs12: certificate missing"
)

// probe has the library read an encrypted part that stands behind a key.
func probe(part cryptobyte.String, password string, noBytes bool) error {
	var safes cryptobyte.Builder
	safes.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		addContentInfo(b, func(b *cryptobyte.Builder) { b.AddASN1(asn1.SEQUENCE, addProbeKey) })
		b.AddBytes(part)
	})
	content, err := safes.Bytes()
	if err != nil {
		return err
	}
	var pfx cryptobyte.Builder
	pfx.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(3)
		addContentInfo(b, func(b *cryptobyte.Builder) { b.AddBytes(content) })
		addProbeMAC(b, content, password, noBytes)
	})
	der, err := pfx.Bytes()
	if err != nil {
		return err
	}
	_, _, _, err = pkcs12.DecodeChain(der, password)
	return err
}

// addContentInfo adds data that is not encrypted (RFC 5652, Section 4).
func addContentInfo(b *cryptobyte.Builder, data cryptobyte.BuilderContinuation) {
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		addOID(b, oidData)
		b.AddASN1(contextTag0, func(b *cryptobyte.Builder) { b.AddASN1(asn1.OCTET_STRING, data) })
	})
}

// addProbeKey adds a bag with a key (RFC 7292, Section 4.2.1), of Ed25519 (RFC 8410,
// Section 7). It is nobody's, and made of noughts.
func addProbeKey(b *cryptobyte.Builder) {
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		addOID(b, oidKeyBag)
		b.AddASN1(contextTag0, func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1Int64(0)
				b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) { addOID(b, oidEd25519) })
				b.AddASN1(asn1.OCTET_STRING, func(b *cryptobyte.Builder) { b.AddASN1OctetString(make([]byte, 32)) })
			})
		})
	})
}

// addProbeMAC adds the MAC without which the library reads nothing with a password.
// Its key is derived in one iteration (RFC 7292, Appendix B.2, which comes down to
// one hash here): it protects nothing, as nobody but us has seen the content.
func addProbeMAC(b *cryptobyte.Builder, content []byte, password string, noBytes bool) {
	const block = 64 // of SHA-256
	salt := make([]byte, block)
	input := append(slices.Repeat([]byte{3}, block), salt...)
	if !noBytes {
		var units []byte // as the library has the password: UCS-2 and a terminator
		for _, r := range password {
			units = append(units, byte(r>>8), byte(r))
		}
		units = append(units, 0, 0)
		blocks := (len(units) + block - 1) / block
		repeated := slices.Repeat(units, blocks*block/len(units)+1)
		input = append(input, repeated[:blocks*block]...)
	}
	key := sha256.Sum256(input)
	mac := hmac.New(sha256.New, key[:])
	mac.Write(content)
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
				addOID(b, oidSHA256)
				b.AddASN1NULL()
			})
			b.AddASN1OctetString(mac.Sum(nil))
		})
		b.AddASN1OctetString(salt)
	})
}

// addOID adds an object identifier that is encoded already.
func addOID(b *cryptobyte.Builder, oid string) {
	b.AddASN1(asn1.OBJECT_IDENTIFIER, func(b *cryptobyte.Builder) { b.AddBytes([]byte(oid)) })
}
