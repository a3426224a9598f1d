package pki

import (
	"crypto"
	"crypto/x509"
	"errors"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
	"software.sslmate.com/src/go-pkcs12"
)

// maxIterations bounds the sum of a file's iteration counts. Whoever writes the
// file chooses them. Five million are a second or two for each of the few times
// that a file is gone through, ten times what careful tools use, and the most that
// Java takes.
const maxIterations = 5_000_000

// tooMany stands for every count that is out of all proportion; a sum of a few
// does not overflow.
const tooMany = 1 << 60

const convertPKCS12 = "write it anew with openssl: openssl pkcs12 -in FILE -legacy -nodes -out all.pem"

// parsePKCS12 reads a PFX with a key and at least one certificate, or a trust
// store as Java writes them.
func parsePKCS12(der, password []byte) (*Contents, error) {
	n, ok := iterations(der)
	if !ok {
		return nil, refusal(partPKCS12, "is malformed").advise(convertPKCS12)
	}
	if n > maxIterations {
		return nil, refusal(partPKCS12, "asks for more than %d iterations of key derivation", maxIterations).
			advise("write it anew with fewer: openssl pkcs12 -export -iter 600000")
	}
	c := &Contents{Form: FormPKCS12}
	// A trust store has no keys, and the library reads it up to the first: nothing
	// is decrypted here that was not counted, and a wrong password shows.
	certs, err := pkcs12.DecodeTrustStore(der, string(password))
	if err == nil && len(certs) > 0 {
		c.Certificates = certs
		return c, nil
	}
	if errors.Is(err, pkcs12.ErrIncorrectPassword) {
		return nil, pkcs12Error(err, len(password) > 0)
	}
	if err := nestedKeys(encryptedParts(der), string(password)); err != nil {
		return nil, err
	}
	key, leaf, chain, err := pkcs12.DecodeChain(der, string(password))
	if err != nil {
		return nil, pkcs12Error(err, len(password) > 0)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, refusal(partPKCS12, "holds a key that cannot sign")
	}
	c.Keys = []crypto.Signer{signer}
	c.Certificates = append([]*x509.Certificate{leaf}, chain...)
	return c, nil
}

// pkcs12Error says what went wrong in words of our own: after decryption the
// library's may be about what the file keeps secret.
func pkcs12Error(err error, given bool) error {
	var missing pkcs12.NotImplementedError
	switch {
	case errors.Is(err, pkcs12.ErrIncorrectPassword) && !given:
		return refusal(partPKCS12, "needs a password").advise("put the password into a file of mode 0600 and name it as the password file (--password-file)")
	case errors.Is(err, pkcs12.ErrIncorrectPassword), errors.Is(err, pkcs12.ErrDecryption):
		return refusal(partPKCS12, "password is wrong").advise("the password file must hold the password alone, try it with: openssl pkcs12 -in FILE -noout")
	case errors.As(err, &missing):
		return refusal(partPKCS12, "uses an algorithm or a layout that is not supported").advise(convertPKCS12)
	case err.Error() == libraryNoKey:
		return refusal(partPKCS12, "holds no private key").
			advise("for its certificates alone: openssl pkcs12 -in FILE -nokeys -out certificates.pem")
	case err.Error() == libraryNoCertificate:
		return refusal(partPKCS12, "holds no certificate")
	case err.Error() == libraryTwoKeys:
		return refusal(partPKCS12, "holds more than one private key")
	default:
		return refusal(partPKCS12, "is malformed").advise(convertPKCS12)
	}
}

// authenticatedSafe returns the parts of a PFX (RFC 7292, Section 4), and what
// follows them: its MAC, or nothing.
func authenticatedSafe(der []byte) (safes, mac cryptobyte.String, ok bool) {
	s := cryptobyte.String(der)
	var pfx, info cryptobyte.String
	var version int
	if !s.ReadASN1(&pfx, asn1.SEQUENCE) || !pfx.ReadASN1Integer(&version) || !pfx.ReadASN1(&info, asn1.SEQUENCE) {
		return nil, nil, false
	}
	oid, content, ok := readContentInfo(&info)
	if !ok || oid != oidData || !content.ReadASN1(&content, asn1.OCTET_STRING) || !content.ReadASN1(&safes, asn1.SEQUENCE) {
		return nil, nil, false
	}
	return safes, pfx, true
}

// encryptedParts returns the parts that are encrypted as a whole.
func encryptedParts(der []byte) (parts []cryptobyte.String) {
	safes, _, _ := authenticatedSafe(der)
	var part cryptobyte.String
	for safes.ReadASN1Element(&part, asn1.SEQUENCE) {
		in := part
		if in.ReadASN1(&in, asn1.SEQUENCE) {
			if oid, _, ok := readContentInfo(&in); ok && oid == oidEncryptedData {
				parts = append(parts, part)
			}
		}
	}
	return parts
}

// iterations adds up the iteration counts of a PFX that can be read without its
// password: those of the MAC, of the encrypted parts and of keys in parts that are
// not encrypted. For keys inside encrypted parts there is [nestedKeys].
func iterations(der []byte) (total uint64, ok bool) {
	safes, mac, ok := authenticatedSafe(der)
	if !ok {
		return 0, false
	}
	for !safes.Empty() {
		var safe cryptobyte.String
		if !safes.ReadASN1(&safe, asn1.SEQUENCE) {
			return 0, false
		}
		n, ok := safeIterations(safe)
		if !ok {
			return 0, false
		}
		total = add(total, n)
	}
	if mac.Empty() {
		return total, true
	}
	n, ok := macIterations(mac)
	return add(total, n), ok
}

// safeIterations reads one element of the AuthenticatedSafe.
func safeIterations(safe cryptobyte.String) (total uint64, ok bool) {
	oid, content, ok := readContentInfo(&safe)
	if !ok {
		return 0, false
	}
	switch oid {
	case oidEncryptedData: // RFC 5652, Section 8
		var data, info, algorithm cryptobyte.String
		var version int
		if !content.ReadASN1(&data, asn1.SEQUENCE) || !data.ReadASN1Integer(&version) ||
			!data.ReadASN1(&info, asn1.SEQUENCE) || !info.SkipASN1(asn1.OBJECT_IDENTIFIER) ||
			!info.ReadASN1(&algorithm, asn1.SEQUENCE) {
			return 0, false
		}
		return integers(algorithm), true
	case oidData:
		var bags cryptobyte.String
		if !content.ReadASN1(&content, asn1.OCTET_STRING) || !content.ReadASN1(&bags, asn1.SEQUENCE) {
			return 0, false
		}
		for !bags.Empty() {
			var bag, id, value, key, algorithm cryptobyte.String
			if !bags.ReadASN1(&bag, asn1.SEQUENCE) || !bag.ReadASN1(&id, asn1.OBJECT_IDENTIFIER) ||
				!bag.ReadASN1(&value, contextTag0) {
				return 0, false
			}
			if string(id) != oidShroudedKey {
				continue
			}
			if !value.ReadASN1(&key, asn1.SEQUENCE) || !key.ReadASN1(&algorithm, asn1.SEQUENCE) {
				return 0, false
			}
			total = add(total, integers(algorithm))
		}
	}
	return total, true
}

// macIterations reads MacData. Its count is absent for one, and unused where the
// algorithm has parameters of its own (PBMAC1, RFC 9579).
func macIterations(pfx cryptobyte.String) (uint64, bool) {
	var mac, digest, algorithm cryptobyte.String
	if !pfx.ReadASN1(&mac, asn1.SEQUENCE) || !mac.ReadASN1(&digest, asn1.SEQUENCE) ||
		!digest.ReadASN1(&algorithm, asn1.SEQUENCE) || !mac.SkipASN1(asn1.OCTET_STRING) {
		return 0, false
	}
	return add(integers(algorithm), integers(mac)), true
}

func readContentInfo(info *cryptobyte.String) (oid string, content cryptobyte.String, ok bool) {
	var id cryptobyte.String
	ok = info.ReadASN1(&id, asn1.OBJECT_IDENTIFIER) && info.ReadASN1(&content, contextTag0)
	return string(id), content, ok
}

// integers adds up the integers in the parameters of an algorithm, at any
// depth. Beside the iteration count there is at most a key length, and salts and
// vectors are octet strings, so that no parameter needs to be known by name.
func integers(s cryptobyte.String) uint64 { return integersBelow(s, 8) }

// integersBelow stops at a depth that no algorithm reaches, as the stack is finite.
func integersBelow(s cryptobyte.String, depth int) (total uint64) {
	if depth == 0 {
		return tooMany
	}
	for !s.Empty() {
		var value cryptobyte.String
		var tag asn1.Tag
		if !s.ReadAnyASN1(&value, &tag) {
			return total // the decoder will say so
		}
		switch tag {
		case asn1.SEQUENCE:
			total = add(total, integersBelow(value, depth-1))
		case asn1.INTEGER:
			total = add(total, saturated(value))
		}
	}
	return total
}

// saturated reads a DER integer; what is negative or too large for any count is
// far above the limit.
func saturated(value []byte) (n uint64) {
	if len(value) == 0 || len(value) > 7 || value[0] >= 0x80 {
		return tooMany
	}
	for _, c := range value {
		n = n<<8 | uint64(c)
	}
	return n
}

func add(a, b uint64) uint64 { return min(a+b, tooMany) }
