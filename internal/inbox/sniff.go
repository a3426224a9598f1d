package inbox

import (
	"bytes"
	"encoding/base64"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/spinecert/spinecert/internal/enrol"
)

// maxText bounds what is read as text: mails are searched for what they carry, at
// several times the cost of looking at DER.
const maxText = 256 << 10

// secret says what private thing a file is or holds, or may hold; "" for none. It
// decrypts and unpacks nothing.
func secret(data []byte) string {
	switch {
	case bytes.HasPrefix(data, []byte("PK\x03\x04")), bytes.HasPrefix(data, []byte("PK\x05\x06")), bytes.HasPrefix(data, []byte("PK\x07\x08")):
		return "is a zip, which may hold private keys"
	case bytes.HasPrefix(data, []byte("\xfe\xed\xfe\xed")), bytes.HasPrefix(data, []byte("\xce\xce\xce\xce")):
		return "is a Java key store"
	case bytes.HasPrefix(data, []byte("PuTTY-User-Key-File")), labelled(data):
		return "holds a private key"
	}
	if what := secretDER(data); what != "" {
		return what
	}
	if what := secretDER(unarmoured(data)); what != "" {
		return what
	}
	if len(data) > maxText && !isDER(data) {
		return "is larger than 256 KiB and not DER, so that it is not searched for private keys"
	}
	// What mails do to a file, and what they carry.
	answer := enrol.Answer{KeepClosed: true}
	_ = answer.Read("", data, nil) // that nothing is understood is for Take to say
	if len(answer.Private)+len(answer.Keys) > 0 {
		return "holds a private key, or a PKCS#12 file or zip that may hold one"
	}
	return ""
}

// isDER reports whether data begins with a SEQUENCE of a length that no text has.
func isDER(data []byte) bool { return len(data) > 1 && data[0] == 0x30 && data[1] >= 0x80 }

// maxElements bounds how many DER elements behind each other are looked at.
const maxElements = 50

// secretDER judges DER, cut off or not, by its outline: whatever begins with a
// version is a private key (RFC 8017, Appendix A.1.2; RFC 5915, Section 3; RFC 5958,
// Section 2) or PKCS#12 (RFC 7292, Section 4). Certificates, requests, CRLs and
// PKCS#7 do not.
func secretDER(data []byte) string {
	for range maxElements {
		in, rest, ok := sequence(data)
		if !ok || len(in) == 0 {
			return ""
		}
		if in[0] == 0x02 { // INTEGER
			if bytes.HasPrefix(in, []byte{2, 1, 3}) {
				return "is PKCS#12, which may hold private keys"
			}
			return "is a private key"
		}
		if _, behind, ok := sequence(in); ok && len(behind) > 0 && behind[0] == 0x04 { // RFC 5958, Section 3
			return "is an encrypted private key"
		}
		data = rest
	}
	return ""
}

// sequence returns what is in the SEQUENCE at the front of data, as far as it is
// there, and what follows it.
func sequence(data []byte) (in, rest []byte, ok bool) {
	if len(data) < 2 || data[0] != 0x30 {
		return nil, nil, false
	}
	length, head := int(data[1]), 2
	switch octets := length & 0x7F; {
	case length < 0x80:
	case octets == 0: // BER of indefinite length
		return data[2:], nil, true
	case octets > 4 || len(data) < 2+octets:
		return nil, nil, false
	default:
		length = 0
		for _, c := range data[2 : 2+octets] {
			length = length<<8 | int(c)
		}
		head += octets
	}
	end := min(head+length, len(data))
	return data[head:end], data[end:], true
}

// unarmoured decodes a file that is nothing but base64, as people paste a key
// without the lines around it; else nil.
func unarmoured(data []byte) []byte {
	digits := bytes.TrimRight(bytes.Join(bytes.Fields(data), nil), "=")
	der, err := base64.RawStdEncoding.DecodeString(string(digits))
	if err != nil {
		return nil
	}
	return der
}

var label = regexp.MustCompile(`-(?:BEGIN|END)[A-Z0-9]{0,24}(?:PRIVATEKEY|PKCS12|PFX)`)

// labelled reports whether the label of a private key stands in a text, whatever
// has come between its letters: UTF-16, quotation marks, line ends, tags, an
// encoding. Only the label counts, so that half a block is found as well.
func labelled(data []byte) bool {
	var b strings.Builder
	for len(data) > 0 {
		r, n := utf8.DecodeRune(data)
		switch data = data[n:]; {
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-':
			b.WriteRune(r)
		case r >= 0x2010 && r <= 0x2015, r == 0x2212: // dashes that mail programs make of several short ones
			b.WriteByte('-')
		}
	}
	return label.MatchString(b.String())
}
