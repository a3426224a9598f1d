package prove

import (
	"bufio"
	"io"
	"net"
)

// The exchange is written out here, and not done by a library: it is one request of 31
// bytes, and only what is read by hand is bounded, and shows what came behind it.

// startTLS is the LDAPMessage 1 with the ExtendedRequest 1.3.6.1.4.1.1466.20037
// (RFC 4511, Section 4.14.1).
const startTLS = "\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037"

// ldapMax is how long an answer to it may be; an ordinary one has 14 bytes.
const ldapMax = 4096

// Tags of BER in an LDAPMessage.
const (
	tagInteger          = 0x02
	tagOctets           = 0x04
	tagEnumerated       = 0x0a
	tagSequence         = 0x30
	tagExtendedResponse = 0x78 // [APPLICATION 24]
)

// beginLDAP asks a directory for TLS.
func beginLDAP(w net.Conn, r *bufio.Reader) error {
	if _, err := io.WriteString(w, startTLS); err != nil {
		return err
	}
	message, err := readLDAP(r)
	if err != nil {
		return err
	}
	return ldapAnswer(message)
}

// errNotLDAP is an answer that is none.
func errNotLDAP() error { return refused("its answer is not that of an LDAP server") }

// readLDAP reads one LDAPMessage and returns what is in its sequence.
func readLDAP(r *bufio.Reader) ([]byte, error) {
	head := make([]byte, 2, 6)
	if _, err := io.ReadFull(r, head[:1]); err != nil {
		return nil, err
	}
	if head[0] != tagSequence {
		return nil, errNotLDAP()
	}
	if _, err := io.ReadFull(r, head[1:]); err != nil {
		return nil, err
	}
	if more := int(head[1] & 0x7f); head[1] >= 0x80 {
		if more == 0 || more > 4 {
			return nil, errNotLDAP()
		}
		head = head[:2+more]
		if _, err := io.ReadFull(r, head[2:]); err != nil {
			return nil, err
		}
	}
	size, _, ok := berLength(head[1:])
	if !ok || size > ldapMax {
		return nil, errNotLDAP()
	}
	message := make([]byte, size)
	_, err := io.ReadFull(r, message)
	return message, err
}

// ldapAnswer reads the answer to startTLS: the message ID, then the ExtendedResponse
// with result code, matched DN and message (RFC 4511, Sections 4.1.9 and 4.12).
func ldapAnswer(message []byte) error {
	id, rest, ok := berField(message, tagInteger)
	response, _, ok2 := berField(rest, tagExtendedResponse)
	code, rest, ok3 := berField(response, tagEnumerated)
	_, rest, ok4 := berField(rest, tagOctets)
	text, _, ok5 := berField(rest, tagOctets)
	if !ok || !ok2 || !ok3 || !ok4 || !ok5 || len(id) != 1 || len(code) != 1 {
		return errNotLDAP()
	}
	switch {
	case code[0] == 0 && id[0] == 1:
		return nil
	case code[0] == 0:
		return errNotLDAP()
	}
	return refused("it refuses StartTLS with result code %d: %s", code[0], clip(text))
}

// berField takes one field off b. The encodings of LDAP are BER with lengths of the
// definite form (RFC 4511, Section 5.1), which need not be the shortest, as in DER.
func berField(b []byte, tag byte) (content, rest []byte, ok bool) {
	if len(b) == 0 || b[0] != tag {
		return nil, nil, false
	}
	size, rest, ok := berLength(b[1:])
	if !ok || size > len(rest) {
		return nil, nil, false
	}
	return rest[:size], rest[size:], true
}

// berLength takes a length off b; it is not ok if it is of the indefinite form, has more
// than four bytes or goes beyond b.
func berLength(b []byte) (size int, rest []byte, ok bool) {
	if len(b) == 0 {
		return 0, nil, false
	}
	first, b := b[0], b[1:]
	if first < 0x80 {
		return int(first), b, true
	}
	n := int(first & 0x7f)
	if n == 0 || n > 4 || n > len(b) {
		return 0, nil, false
	}
	for _, c := range b[:n] {
		size = size<<8 | int(c)
	}
	return size, b[n:], size >= 0
}
