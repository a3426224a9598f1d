package prove

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
)

// linesMax is how many lines one reply may have.
const linesMax = 100

// beginSMTP waits for the greeting, says who we are and asks for TLS (RFC 3207).
func beginSMTP(w net.Conn, r *bufio.Reader) error {
	if _, err := smtpReply(r, 220); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "EHLO %s\r\n", literal(w.LocalAddr())); err != nil {
		return err
	}
	lines, err := smtpReply(r, 250)
	if err != nil {
		return err
	}
	if !offersTLS(lines) {
		return refused("it does not offer STARTTLS")
	}
	if r.Buffered() > 0 {
		return errInjected()
	}
	if _, err := io.WriteString(w, "STARTTLS\r\n"); err != nil {
		return err
	}
	_, err = smtpReply(r, 220)
	return err
}

// literal is how a host without a name says who it is (RFC 5321, Section 4.1.3).
func literal(a net.Addr) string {
	tcp, ok := a.(*net.TCPAddr)
	switch {
	case !ok:
		return "localhost"
	case tcp.IP.To4() == nil:
		return "[IPv6:" + tcp.IP.String() + "]"
	}
	return "[" + tcp.IP.String() + "]"
}

// offersTLS looks for STARTTLS in the reply to EHLO, whose first line is the server's name.
func offersTLS(lines []string) bool {
	for _, line := range lines[1:] {
		word, _, _ := strings.Cut(line, " ")
		if strings.EqualFold(word, "STARTTLS") {
			return true
		}
	}
	return false
}

// smtpReply reads a reply of one or more lines (RFC 5321, Section 4.2.1), at least one
// of which it returns, without their codes.
func smtpReply(r *bufio.Reader, want int) ([]string, error) {
	var lines []string
	first := 0
	for len(lines) < linesMax {
		line, err := r.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return nil, refused("it sends a line of more than %d bytes", lineMax)
		}
		if err != nil {
			return nil, err
		}
		code, text, last, ok := smtpLine(line)
		if !ok || len(lines) > 0 && code != first {
			return nil, refused("its answer is not that of an SMTP server: %s", clip(line))
		}
		lines, first = append(lines, text), code
		switch {
		case !last:
		case code != want:
			return nil, refused("it answers with %d: %s", code, clip([]byte(text)))
		default:
			return lines, nil
		}
	}
	return nil, refused("it sends a reply of more than %d lines", linesMax)
}

// smtpLine reads a line of a reply: a code, '-' for more to come, and text.
func smtpLine(line []byte) (code int, text string, last, ok bool) {
	line = bytes.TrimRight(line, "\r\n")
	if len(line) < 3 || line[0] < '2' || line[0] > '5' {
		return 0, "", false, false
	}
	n, err := strconv.ParseUint(string(line[:3]), 10, 16)
	if err != nil {
		return 0, "", false, false
	}
	if len(line) == 3 {
		return int(n), "", true, true
	}
	return int(n), string(line[4:]), line[3] == ' ', line[3] == ' ' || line[3] == '-'
}

// clip is what a server said, for a message: quoted, and its first bytes only.
func clip(said []byte) string {
	const most = 80
	said = bytes.TrimRight(said, "\r\n")
	if len(said) > most {
		return strconv.QuoteToASCII(string(said[:most]) + "...")
	}
	return strconv.QuoteToASCII(string(said))
}
