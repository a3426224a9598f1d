package prove

import (
	"bufio"
	"io"
	"net"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/deliver/failure"
)

// lineMax is how long a line of a plaintext answer may be, and what is read ahead.
const lineMax = 1024

// begin speaks the plaintext before TLS. The connection has a deadline.
func begin(protocol string, conn net.Conn) error {
	if protocol == config.ProbeTLS || protocol == "" {
		return nil
	}
	r := bufio.NewReaderSize(conn, lineMax)
	var err error
	switch protocol {
	case config.ProbePostgres:
		err = beginPostgres(conn, r)
	case config.ProbeLDAP:
		err = beginLDAP(conn, r)
	case config.ProbeSMTP:
		err = beginSMTP(conn, r)
	default:
		err = refused("the protocol %q is not known", protocol)
	}
	if err == nil && r.Buffered() > 0 {
		err = errInjected()
	}
	return err
}

// errInjected says that more came than was asked for. Before TLS it is nobody's word
// (RFC 3207, Section 6; CVE-2021-23222).
func errInjected() error {
	return failure.New(failure.HandshakeFailed, "what is between us and the service? Somebody may be putting words into its mouth",
		"it sent bytes after its plaintext answer, before TLS")
}

// refused is an answer that does not lead to TLS.
func refused(format string, args ...any) error {
	return failure.New(failure.HandshakeFailed, "is TLS on in its settings? Look at the protocol and the address of the probe", format, args...)
}

// sslRequest is PostgreSQL's SSLRequest: its length, and 1234 5679 for a version.
const sslRequest = "\x00\x00\x00\x08\x04\xd2\x16\x2f"

// beginPostgres asks PostgreSQL for TLS.
func beginPostgres(w net.Conn, r *bufio.Reader) error {
	if _, err := io.WriteString(w, sslRequest); err != nil {
		return err
	}
	answer, err := r.ReadByte()
	if err != nil {
		return err
	}
	return postgresAnswer(answer, w.RemoteAddr().Network() == "unix")
}

// postgresAnswer reads the one byte of the answer to an SSLRequest.
func postgresAnswer(b byte, unix bool) error {
	switch {
	case b == 'S':
		return nil
	case b == 'N' && unix:
		return failure.New(failure.HandshakeFailed, "PostgreSQL has no TLS on unix sockets: give the probe its address and port", "it does not do TLS on this socket")
	case b == 'N':
		return refused("it does not do TLS: its ssl is off")
	case b == 'E':
		return refused("it answered with an error in place of TLS; its log says which")
	}
	return refused("its answer is not that of a PostgreSQL server: %s", clip([]byte{b}))
}
