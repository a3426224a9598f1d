package prove

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// unixPrefix is before the path of a unix socket in an address.
const unixPrefix = "unix:"

// counted is a connection that counts what it receives, and bounds it.
type counted struct {
	net.Conn
	bytes atomic.Int64
}

// errTalkative says that a server sends more than any handshake.
var errTalkative = errors.New("it sends more than a handshake can be")

// Read reads, and fails once too much has come.
func (c *counted) Read(p []byte) (int, error) {
	if c.bytes.Load() > receiveMax {
		return 0, errTalkative
	}
	n, err := c.Conn.Read(p)
	c.bytes.Add(int64(n))
	return n, err
}

// received returns the bytes that came, 0 for no connection.
func (c *counted) received() int64 {
	if c == nil {
		return 0
	}
	return c.bytes.Load()
}

// expire ends all that is being read and written.
func (c *counted) expire() { _ = c.SetDeadline(time.Unix(1, 0)) } // fails on a closed connection only

// A dialError is of the network, before anything was said.
type dialError struct{ err error }

func (e *dialError) Error() string { return e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

// cause is the error without the address, which is said already.
func (e *dialError) cause() error {
	var number syscall.Errno
	var op *net.OpError
	switch {
	case errors.As(e.err, &number):
		return number
	case errors.As(e.err, &op):
		return op.Err
	}
	return e.err
}

func (e *dialError) advice() string {
	switch {
	case errors.Is(e.err, fs.ErrPermission):
		return "may the daemon open it? Look at the mode of the socket and its directory"
	case errors.Is(e.err, syscall.ECONNREFUSED), errors.Is(e.err, fs.ErrNotExist):
		return "does the service run, and listen there?"
	}
	return "does the service run, and is the address of the probe right?"
}

// dial connects to an address of a probe.
func dial(ctx context.Context, address string) (*counted, error) {
	d := net.Dialer{KeepAlive: -1} // it lives for milliseconds
	network := "tcp"
	if path, ok := strings.CutPrefix(address, unixPrefix); ok {
		network, address = "unix", path
	}
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, &dialError{err}
	}
	return &counted{Conn: conn}, nil
}

// hungUp reports whether a peer closed the connection without a word.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || reset(err)
}

func reset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// endedByPeer tells a peer that hangs up or sends an alert from what we found wrong
// ourselves.
func endedByPeer(err error) bool {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "remote error" {
		return true
	}
	return hungUp(err)
}

// plain is an error in words of people where the library's are none.
func plain(err error) error {
	var record tls.RecordHeaderError
	switch {
	case reset(err):
		return errors.New("it reset the connection")
	case hungUp(err):
		return errors.New("it closed the connection, and did not say why")
	case errors.As(err, &record):
		return fmt.Errorf("it does not speak TLS: its answer begins with %q", record.RecordHeader[:])
	}
	return err
}

// advice is for a handshake that failed before a certificate was shown.
func advice(err error) string {
	var op *net.OpError
	switch {
	case errors.As(err, new(tls.RecordHeaderError)):
		return "is it TLS that listens there? Look at the address and the protocol of the probe"
	case errors.As(err, &op) && op.Op == "remote error":
		return "does it offer TLS 1.2 or 1.3, and this server name? Its log says why"
	}
	return "is the protocol of the probe right? The log of the service may say why"
}
