package services

import (
	"io"
	"net"
	"os"
	"strings"
	"testing"
)

// starttls is what a client says before TLS, and what must come back.
type starttls struct{ ask, answer string }

var (
	// PostgreSQL: "SSL Session Encryption" in its chapter of the message flow.
	postgresTLS = starttls{"\x00\x00\x00\x08\x04\xd2\x16\x2f", "S"}
	// RFC 4511, Section 4.14: the extended request, and success as slapd encodes it.
	ldapTLS = starttls{"\x30\x1d\x02\x01\x01\x77\x18\x80\x161.3.6.1.4.1.1466.20037", "\x30\x0c\x02\x01\x01\x78\x07\x0a\x01\x00\x04\x00\x04\x00"}
)

// begin speaks it.
func (s starttls) begin(c io.ReadWriter) error {
	if _, err := io.WriteString(c, s.ask); err != nil {
		return err
	}
	answer := make([]byte, len(s.answer))
	if _, err := io.ReadFull(c, answer); err != nil {
		return err
	}
	if string(answer) != s.answer {
		return &failure{"no TLS", io.ErrUnexpectedEOF}
	}
	return nil
}

// relay listens on an address where TLS begins at once, for what looks at a server that
// wants to be asked for it. What comes after the asking goes through as it is.
func (h *host) relay(address, target string, s starttls) {
	h.t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go pass(c, target, s)
		}
	}()
}

// pass is one connection of a relay.
func pass(client net.Conn, target string, s starttls) {
	defer client.Close()
	server, err := net.DialTimeout("tcp", target, patience)
	if err != nil {
		return
	}
	defer server.Close()
	if s.begin(server) != nil {
		return
	}
	go func() {
		_, _ = io.Copy(server, client)
		_ = server.Close() // ends the other direction
	}()
	_, _ = io.Copy(client, server)
}

// port is that of an address.
func port(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }

// reconfigure replaces pairs in the configuration of the daemon, and has it read that.
func (h *host) reconfigure(pairs ...string) {
	h.t.Helper()
	h.write("spinecert.yaml", []byte(replaced(h.t, string(mustRead(h.t, h.config)), pairs...)), 0o600)
	if exit, _, code := h.spinecert("reload"); exit != 0 {
		h.t.Fatalf("spinecert reload: exit status %d, %s", exit, code)
	}
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
