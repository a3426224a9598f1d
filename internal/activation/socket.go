package activation

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// socketError is a descriptor that cannot be used.
type socketError struct {
	fd   int
	name string
	err  error
}

func (e *socketError) Error() string {
	return fmt.Sprintf("take socket %q from systemd (descriptor %d): %v", e.name, e.fd, e.err)
}

func (e *socketError) Unwrap() error { return e.err }

// Hint returns the next action.
func (e *socketError) Hint() string {
	if errors.Is(e.err, errConnection) {
		return fmt.Sprintf("set Accept=no in the socket unit that names its sockets %q: one daemon serves all connections", e.name)
	}
	return fmt.Sprintf("let the socket unit that names its sockets %q have nothing but ListenStream=, or do not pass them to this service", e.name)
}

var errConnection = errors.New("it is one connection, and not a socket that takes connections")

// examine says why nobody can accept TCP or unix connections from the descriptor.
func examine(fd int) error {
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return fmt.Errorf("it is not open: %w", err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return errors.New("it is not a socket")
	}
	o := options{fd: fd}
	family, kind, accepts, protocol := o.read(unix.SO_DOMAIN), o.read(unix.SO_TYPE), o.read(unix.SO_ACCEPTCONN), o.read(unix.SO_PROTOCOL)
	switch {
	case o.err != nil:
		return fmt.Errorf("look at it: %w", o.err)
	case family != unix.AF_INET && family != unix.AF_INET6 && family != unix.AF_UNIX:
		return fmt.Errorf("address family %d is neither IPv4, IPv6 nor unix", family)
	case kind != unix.SOCK_STREAM:
		return errors.New("it is not a stream socket (ListenDatagram= or ListenSequentialPacket=)")
	case family != unix.AF_UNIX && protocol != unix.IPPROTO_TCP && protocol != unix.IPPROTO_MPTCP:
		return fmt.Errorf("protocol %d is not TCP", protocol)
	case accepts == 1:
		return nil
	}
	if _, err := unix.Getpeername(fd); err == nil {
		return errConnection
	}
	return errors.New("nobody has called listen on it")
}

// options reads socket options until one cannot be read.
type options struct {
	fd  int
	err error
}

func (o *options) read(option int) int {
	if o.err != nil {
		return 0
	}
	var value int
	value, o.err = unix.GetsockoptInt(o.fd, unix.SOL_SOCKET, option)
	return value
}
