package main

import (
	"bytes"
	"encoding/binary"
	"io"
	"time"
)

// clientHello is a TLS 1.2 ClientHello that offers suites, for those that neither
// Go nor OpenSSL offers any more (RFC 5246, Section 7.4.1.2).
func clientHello(suites ...uint16) []byte {
	sized := func(n int, b []byte) []byte { // b behind its length in n bytes
		size := binary.BigEndian.AppendUint64(nil, uint64(len(b)))
		return append(size[8-n:], b...)
	}
	words := func(w ...uint16) (out []byte) {
		for _, x := range w {
			out = binary.BigEndian.AppendUint16(out, x)
		}
		return out
	}
	extension := func(id uint16, b []byte) []byte { return append(words(id), sized(2, b)...) }
	extensions := bytes.Join([][]byte{
		extension(10, sized(2, words(29, 23))),         // supported_groups: X25519, P-256
		extension(11, []byte{1, 0}),                    // ec_point_formats: uncompressed
		extension(13, sized(2, words(0x0804, 0x0401))), // signature_algorithms: RSA-PSS and PKCS#1 with SHA-256
	}, nil)
	body := bytes.Join([][]byte{
		words(0x0303), bytes.Repeat([]byte{7}, 32), {0}, // version, random, no session
		sized(2, words(suites...)), {1, 0}, // no compression
		sized(2, extensions),
	}, nil)
	handshake := append([]byte{1}, sized(3, body)...)
	return append([]byte{22, 3, 1}, sized(2, handshake)...)
}

// answered sends a ClientHello with suites to the door and reports whether a
// ServerHello came back.
func (v *live) answered(suites ...uint16) bool {
	conn := v.l.dial(v.door.address)
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, err := conn.Write(clientHello(suites...))
	v.l.check(err)
	record := make([]byte, 6)
	_, err = io.ReadFull(conn, record)
	return err == nil && record[0] == 22 && record[5] == 2
}
