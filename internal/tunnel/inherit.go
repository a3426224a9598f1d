package tunnel

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/spinecert/spinecert/internal/order"
)

// Inherited is a listening socket that another process opened for a tunnel. Key
// says for which listener; it means the same in every process.
type Inherited struct {
	Key              string
	Network, Address string   // of the socket, as net.Addr has them
	Device, Inode    uint64   // of the file of a unix socket; 0 if that is not known
	File             *os.File `json:"-"`
}

var errUnreachable = errors.New("its file was removed or replaced")

// Listening returns duplicates of the sockets that tunnels listen on, but for those
// that came as Listen.File. The caller closes their Files. Closing or starting a process with
// them does not disturb who accepts from the sockets here.
func (g *Gate) Listening() ([]Inherited, error) {
	ss := &g.sockets
	ss.mu.Lock()
	defer ss.mu.Unlock()
	var all []Inherited
	for key, s := range ss.byKey {
		if s.owner.Load() == nil || s.listen.File != nil {
			continue
		}
		f, err := duplicate(s.ln.(syscall.Conn), s.address)
		if err != nil {
			closeFiles(all)
			return nil, fmt.Errorf("duplicate socket %q: %w", s.address, err)
		}
		addr := s.ln.Addr()
		all = append(all, Inherited{Key: key, Network: addr.Network(), Address: addr.String(), Device: s.file.device, Inode: s.file.inode, File: f})
	}
	order.Sort(all, func(a, b Inherited) int { return cmp.Compare(a.Key, b.Key) })
	return all, nil
}

// Inherit gives the sockets in to the tunnels: opening a listener with the key of one
// takes it instead of binding a new one. Nobody accepts from them before that. It is called before the first Prepare,
// and the Gate closes the Files.
func (g *Gate) Inherit(in []Inherited) {
	ss := &g.sockets
	ss.mu.Lock()
	defer ss.mu.Unlock()
	for _, i := range in {
		if old, twice := ss.inherited[i.Key]; twice {
			_ = old.File.Close()
		}
		_ = control(i.File, func(fd int) error { unix.CloseOnExec(fd); return nil }) // a file that is closed says so when it is used
		ss.inherited[i.Key] = i
	}
}

// CloseInherited closes the sockets that nobody took. A listener that is opened later binds a new one.
func (g *Gate) CloseInherited() {
	ss := &g.sockets
	ss.mu.Lock()
	defer ss.mu.Unlock()
	for key, i := range ss.inherited {
		_ = i.File.Close()
		delete(ss.inherited, key)
	}
}

// Relinquish leaves the sockets that are open to another process, which has duplicates of them:
// they are closed here as before, but the file of a unix socket stays.
func (g *Gate) Relinquish() {
	ss := &g.sockets
	ss.mu.Lock()
	defer ss.mu.Unlock()
	for _, s := range ss.byKey {
		s.file = fileID{}
	}
}

// openLocked makes the socket of l: the one that was inherited, or a new one. at
// replaces the address of a new one if it is not empty.
func (ss *sockets) openLocked(ctx context.Context, l listen, at string) (*socket, error) {
	if i, ok := ss.inherited[l.key]; ok {
		s, err := l.adopt(i)
		if err != nil && !errors.Is(err, errUnreachable) {
			return nil, fmt.Errorf("take over inherited socket %q: %w", l.Address, err)
		}
		delete(ss.inherited, l.key)
		_ = i.File.Close()
		if err == nil {
			return s, nil
		}
	}
	ln, err := l.open(ctx, at)
	if err != nil {
		return nil, err
	}
	return newSocket(l, ln), nil
}

// adopt makes i the socket of l. The error is errUnreachable if that would be of no use.
func (l listen) adopt(i Inherited) (*socket, error) {
	ln, err := listenOn(i.File)
	if err != nil {
		return nil, err
	}
	s, err := l.fit(i, ln)
	if err != nil {
		_ = ln.Close()
	}
	return s, err
}

// fit checks that ln is what i says, and gives it group and mode of l.
func (l listen) fit(i Inherited, ln net.Listener) (*socket, error) {
	if addr := ln.Addr(); addr.Network() != i.Network || addr.String() != i.Address {
		return nil, fmt.Errorf("it is %s %q, and not %s %q", addr.Network(), addr, i.Network, i.Address)
	}
	s := newSocket(l, ln)
	if l.Network != "unix" {
		return s, nil
	}
	if known := (fileID{i.Device, i.Inode}); s.file == (fileID{}) || known != (fileID{}) && s.file != known {
		return nil, errUnreachable
	}
	info, err := os.Lstat(l.Address)
	if err != nil {
		return nil, err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return nil, errUnreachable
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if ok && info.Mode().Perm() == l.Mode && (l.gid < 0 || stat.Gid == uint32(l.gid)) {
		return s, nil
	}
	return s, l.permit()
}

// listenOn returns a listener on a duplicate of f. Whether the socket blocks is common to all processes
// that have it, and it must not, not even for a moment: os.File.Fd and net.FileListener
// may see to the contrary, depending on where a file is from.
func listenOn(f *os.File) (net.Listener, error) {
	own, err := duplicate(f, f.Name())
	if err != nil {
		return nil, err
	}
	defer own.Close()
	return net.FileListener(own)
}

// duplicate returns a close-on-exec duplicate of c, which does not block. Its Fd leaves that so: a File
// from os.NewFile that does not block already is not made to.
func duplicate(c syscall.Conn, name string) (*os.File, error) {
	var f *os.File
	err := control(c, func(fd int) error {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return os.NewSyscallError("fcntl", err)
		}
		if err := unix.SetNonblock(dup, true); err != nil {
			return errors.Join(os.NewSyscallError("fcntl", err), unix.Close(dup))
		}
		f = os.NewFile(uintptr(dup), name)
		return nil
	})
	return f, err
}

// control runs f with the descriptor of c.
func control(c syscall.Conn, f func(fd int) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = f(int(fd)) })
	return errors.Join(err, failed)
}

func closeFiles(all []Inherited) {
	for _, i := range all {
		_ = i.File.Close()
	}
}
