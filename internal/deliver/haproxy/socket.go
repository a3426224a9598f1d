package haproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/spinecert/spinecert/internal/deliver/failure"
)

const largestAnswer = 4 << 20 // bytes: a listing of some 50,000 certificates

var (
	errEndless   = errors.New("its answer does not end")
	errUntrusted = errors.New("not to be trusted with a key")
)

// ask sends one command, with a payload unless it is nil, and returns the answer. HAProxy closes the connection after it. The error is a *failure.Error.
func (s *session) ask(ctx context.Context, command string, payload []byte) (string, error) {
	answer, err := s.exchange(ctx, command, payload)
	if err != nil {
		return "", s.away(ctx, err)
	}
	return answer, nil
}

func (s *session) exchange(ctx context.Context, command string, payload []byte) (string, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", s.socket)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if err := trusted(s.socket, conn.(*net.UnixConn)); err != nil {
		return "", err
	}
	message := make([]byte, 0, len(command)+len(payload)+2)
	message = append(append(append(message, command...), '\n'), payload...)
	if payload != nil {
		message = append(message, '\n') // an empty line ends it
	}
	defer clear(message)
	// HAProxy hangs up on a payload that is too large, perhaps before all of it is written: what it
	// says, or that it says nothing, counts.
	_, writeErr := conn.Write(message)
	if errors.Is(writeErr, os.ErrDeadlineExceeded) {
		return "", writeErr
	}
	answer, err := io.ReadAll(io.LimitReader(conn, largestAnswer+1))
	switch {
	case len(answer) > largestAnswer:
		return "", errEndless
	case errors.Is(err, unix.ECONNRESET) && writeErr != nil:
		return "", nil
	case err != nil:
		return "", err
	}
	return string(answer), nil
}

// away returns the error of a socket that did not answer.
func (s *session) away(ctx context.Context, err error) *failure.Error {
	wrap := func(reason, advice string) *failure.Error {
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err // without the path, which is said here
		}
		return failure.New(reason, advice, "update HAProxy at %q: %w", s.socket, err)
	}
	switch {
	case errors.Is(err, errUntrusted):
		return wrap(failure.NotPermitted, "keep the socket in a directory that only root, or HAProxy's own user, may write, such as /run/haproxy")
	case errors.Is(err, errEndless):
		return wrap(failure.ReloadFailed, "is this HAProxy's own socket?")
	case errors.Is(ctx.Err(), context.Canceled):
		return failure.New(failure.Interrupted, "", "update HAProxy at %q: interrupted", s.socket)
	case ctx.Err() != nil, errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return failure.New(failure.Timeout, "try it by hand: echo 'show ssl cert' | socat stdio "+s.socket, "update HAProxy at %q: no answer in time", s.socket)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return wrap(failure.NotPermitted, "give the socket to a group of the daemon's: stats socket "+s.socket+" mode 660 group GROUP level admin")
	}
	return wrap(failure.SocketAway, "start HAProxy, and give it the socket: stats socket "+s.socket+" mode 660 level admin")
}

// trusted returns an error unless the key may go to the peer of a connection.
func trusted(socket string, conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	var optErr error
	if err := raw.Control(func(fd uintptr) { peer, optErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return err
	}
	if optErr != nil {
		return optErr
	}
	return trustedUser(socket, peer.Uid)
}

// trustedUser returns an error unless a user, who listens on a socket, is root or the caller, or nobody else could have put the socket there.
func trustedUser(socket string, user uint32) error {
	if user == 0 || int(user) == os.Geteuid() {
		return nil
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(socket))
	if err != nil {
		return err
	}
	for above := dir; ; above = filepath.Dir(above) {
		var stat unix.Stat_t
		if err := unix.Stat(above, &stat); err != nil {
			return fmt.Errorf("stat %q: %w", above, err)
		}
		switch {
		case above == dir && stat.Uid != user:
			return fmt.Errorf("%w: user %d listens there, and %q belongs to user %d", errUntrusted, user, above, stat.Uid)
		case stat.Uid != user && stat.Uid != 0 && int(stat.Uid) != os.Geteuid():
			return fmt.Errorf("%w: user %d listens there, and %q belongs to user %d", errUntrusted, user, above, stat.Uid)
		case stat.Mode&0o022 != 0 && above != dir, stat.Mode&0o002 != 0:
			// Sticky or not: who comes first may make the next directory there.
			return fmt.Errorf("%w: user %d listens there, and others may write %q", errUntrusted, user, above)
		}
		if above == filepath.Dir(above) {
			return nil
		}
	}
}
