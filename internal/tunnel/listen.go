package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// staleProbe is how long a program behind an existing unix socket gets to show
// that it is alive. Connecting to a live one does not wait for it.
const staleProbe = time.Second

// open makes the listening socket of l. It listens from then on, but nobody
// accepts yet. at replaces the address of l if it is not empty.
func (l listen) open(ctx context.Context, at string) (net.Listener, error) {
	if l.File != nil {
		return l.openPassed()
	}
	if l.Network == "unix" {
		return l.openUnix(ctx)
	}
	if at == "" {
		at = l.Address
	}
	// Accepted connections get their own keepalive setting, which may change
	// while the listener stays.
	config := net.ListenConfig{KeepAlive: -1}
	config.SetMultipathTCP(false)
	ln, err := config.Listen(ctx, family(at), at)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("listen on %q: listener taken: %w", l.Address, err)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %q: %w", l.Address, err)
	}
	return ln, nil
}

// openPassed listens on a duplicate of the socket that the service manager holds.
func (l listen) openPassed() (net.Listener, error) {
	ln, err := listenOn(l.File)
	if err != nil {
		return nil, fmt.Errorf("listen on socket %q: %w", l.Address, err)
	}
	if tcp, ok := ln.Addr().(*net.TCPAddr); ok && l.lends && !tcp.IP.IsLoopback() {
		_ = ln.Close()
		return nil, fmt.Errorf("listen on socket %q: %w", l.Address, notLoopback(tcp.String()))
	}
	return ln, nil
}

func notLoopback(address string) error {
	return fmt.Errorf("%q is not on loopback, and an outbound tunnel lends its identity", address)
}

// family keeps an IPv4 address to IPv4: Go would open 0.0.0.0 for IPv6 as well,
// and nobody who wrote 0.0.0.0 meant that.
func family(address string) string {
	if ap, err := netip.ParseAddrPort(address); err == nil && ap.Addr().Is4() {
		return "tcp4"
	}
	return "tcp"
}

func (l listen) openUnix(ctx context.Context) (net.Listener, error) {
	ln, err := l.bindUnix(ctx)
	if errors.Is(err, syscall.EADDRINUSE) {
		if err := removeStale(ctx, l.Address); err != nil {
			return nil, fmt.Errorf("listen on %q: %w", l.Address, err)
		}
		ln, err = l.bindUnix(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("listen on %q: %w", l.Address, err)
	}
	ln.SetUnlinkOnClose(false) // closing looks whose file it is first
	if err := l.permit(); err != nil {
		_ = ln.Close()
		_ = os.Remove(l.Address)
		return nil, err
	}
	return ln, nil
}

// bindUnix makes the socket file with no permission for others.
func (l listen) bindUnix(ctx context.Context) (*net.UnixListener, error) {
	// The mode of the open socket becomes the mode of its file at bind, cut by
	// the umask (Linux, unix(7)): nobody but the owner can connect before the
	// group and mode are as wanted.
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if control := c.Control(func(fd uintptr) { err = syscall.Fchmod(int(fd), 0o600) }); control != nil {
			return control
		}
		return err
	}}
	ln, err := config.Listen(ctx, "unix", l.Address)
	if err != nil {
		return nil, err
	}
	return ln.(*net.UnixListener), nil
}

// permit gives the socket file its group and mode, in this order, because chown
// may take bits away.
func (l listen) permit() error {
	if l.gid >= 0 {
		if err := os.Lchown(l.Address, -1, l.gid); err != nil {
			return fmt.Errorf("set group of %q: %w", l.Address, notGiven{err, l.Group})
		}
	}
	if err := os.Chmod(l.Address, l.Mode); err != nil {
		return fmt.Errorf("set mode of %q: %w", l.Address, err)
	}
	return nil
}

// notGiven is a socket file that its group could not be given.
type notGiven struct {
	error
	group string
}

// Unwrap returns the cause.
func (e notGiven) Unwrap() error { return e.error }

// Hint returns the next action.
func (e notGiven) Hint() string {
	if !errors.Is(e.error, syscall.EPERM) {
		return ""
	}
	return fmt.Sprintf("the daemon is no member of group %q: SupplementaryGroups=%s in its unit; spinecert config systemd prints it", e.group, e.group)
}

// removeStale removes a socket file that nobody listens on, as a killed process
// leaves it. Anything else at path stays and is an error.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("there is a file that is not a socket")
	}
	dialer := net.Dialer{Timeout: staleProbe}
	c, err := dialer.DialContext(ctx, "unix", path)
	if err == nil {
		_ = c.Close()
		return errors.New("listener taken: a program answers on this socket")
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("listener taken: %w", err)
	}
	return os.Remove(path)
}

// fileID tells socket files of the same path apart.
type fileID struct{ device, inode uint64 }

func identify(path string) (fileID, bool) {
	info, err := os.Lstat(path)
	if err != nil {
		return fileID{}, false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fileID{}, false
	}
	return fileID{uint64(stat.Dev), stat.Ino}, true //nolint:unconvert // Dev is 32 bits on some platforms
}
