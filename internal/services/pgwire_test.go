package services

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
)

// session is a session with PostgreSQL, as much of its protocol (version 3.0) as
// a query takes that returns one text.
type session struct{ conn net.Conn }

// connect begins a session as a user whose certificate is that of a leaf. The error is
// of kind failedAs.
func (h *host) connect(ctx context.Context, address string, leaf *testpki.Leaf) (*session, error) {
	var d net.Dialer
	raw, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, &failure{"before it was connected", err}
	}
	limit(ctx, raw)
	if err := postgresTLS.begin(raw); err != nil {
		_ = raw.Close()
		return nil, &failure{"before TLS", err}
	}
	config := h.clientTLS(ownName)
	config.Certificates = []tls.Certificate{leaf.TLS()}
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, &failure{"in the handshake", err}
	}
	s := &session{conn}
	const startup = "\x00\x03\x00\x00user\x00app\x00database\x00postgres\x00\x00"
	if err = s.send(0, startup); err == nil {
		_, err = s.answer()
	}
	if err != nil {
		_ = conn.Close()
		return nil, &failure{"in the startup", err}
	}
	return s, nil
}

// limit has a connection end with its context.
func limit(ctx context.Context, c net.Conn) {
	end, _ := ctx.Deadline()
	_ = c.SetDeadline(end)
}

// query runs a statement and returns the first column of its last row.
func (s *session) query(ctx context.Context, statement string) (string, error) {
	limit(ctx, s.conn)
	if err := s.send('Q', statement+"\x00"); err != nil {
		return "", err
	}
	return s.answer()
}

func (s *session) close() {
	_ = s.conn.SetDeadline(time.Now().Add(patience))
	_ = s.send('X', "")
	_ = s.conn.Close()
}

// send sends a message; the first has no kind.
func (s *session) send(kind byte, body string) error {
	var b []byte
	if kind != 0 {
		b = append(b, kind)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(4+len(body)))
	_, err := s.conn.Write(append(b, body...))
	return err
}

// answer reads messages until the server waits for a query.
func (s *session) answer() (text string, err error) {
	for {
		head := make([]byte, 5)
		if _, err := io.ReadFull(s.conn, head); err != nil {
			return "", err
		}
		size := binary.BigEndian.Uint32(head[1:])
		if size < 4 || size > 1<<16 {
			return "", errors.New("a message of an impossible length")
		}
		body := make([]byte, size-4)
		if _, err := io.ReadFull(s.conn, body); err != nil {
			return "", err
		}
		switch head[0] {
		case 'E':
			return "", fmt.Errorf("the server says %q", body)
		case 'D': // the number of columns, then length and text of each
			if len(body) >= 6 {
				text = string(body[6:])
			}
		case 'Z':
			return text, nil
		}
	}
}

// postgresClients are two that keep their session, one of them with queries that take a
// while, and two that begin one for each query.
func (h *host) postgresClients(address string) []client {
	return []client{
		h.postgresClient(kept, address, "SELECT 'here' FROM pg_sleep(0.05)"), h.postgresClient(kept, address, "SELECT 'here'"),
		h.postgresClient(fresh, address, "SELECT 'here'"), h.postgresClient(fresh, address, "SELECT 'here'"),
	}
}

// postgresClient never asks twice: PostgreSQL closes no session that is in order.
func (h *host) postgresClient(way, address, statement string) client {
	var s *session
	end := func() {
		if s != nil {
			s.close()
			s = nil
		}
	}
	ask := func(ctx context.Context) (again int, err error) {
		if s == nil {
			if s, err = h.connect(ctx, address, h.peer); err != nil {
				return 0, err
			}
		}
		text, err := s.query(ctx, statement)
		if err == nil && text != "here" {
			err = fmt.Errorf("%q is no answer", text)
		}
		if err != nil {
			err = &failure{"in a query", err}
		}
		if err != nil || way == fresh {
			end()
		}
		return 0, err
	}
	return client{way, ask, end}
}
