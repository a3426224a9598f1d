package journal

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// sendBuffer is what sd_journal_send(3) asks for: a larger datagram needs no memory, which a filter of system calls may forbid to make.
const sendBuffer = 8 << 20

// socket is a connection to the journal. Connected, the kernel reports when there is room again, and a write can have a deadline.
type socket struct {
	path string
	conn *net.UnixConn
}

// send hands over one entry within Patience. The error is os.ErrDeadlineExceeded where the journal does not read what it has.
func (s *socket) send(entry []byte) error {
	err := s.try(entry)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		s.close() // the socket may have been made anew since
		err = s.try(entry)
	}
	if err == nil {
		return nil
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		s.close()
	}
	return fmt.Errorf("write to the journal %q: %w", s.path, err)
}

func (s *socket) try(entry []byte) error {
	if s.conn == nil {
		conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: s.path, Net: "unixgram"})
		if err != nil {
			return err
		}
		_ = conn.SetWriteBuffer(sendBuffer) // as far as the kernel lets us
		s.conn = conn
	}
	if err := s.wait(); err != nil {
		return err
	}
	_, err := s.conn.Write(entry)
	if errors.Is(err, syscall.EMSGSIZE) || errors.Is(err, syscall.ENOBUFS) {
		return s.sendFile(entry)
	}
	return err
}

// wait bounds the next write.
func (s *socket) wait() error { return s.conn.SetWriteDeadline(time.Now().Add(Patience)) }

// sendFile hands over what is too large for a datagram: in memory that nobody can change any more, as the journal maps it.
func (s *socket) sendFile(entry []byte) error {
	fd, err := unix.MemfdCreate("spinecert-log", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return fmt.Errorf("create memory for %d bytes: %w", len(entry), err)
	}
	f := os.NewFile(uintptr(fd), "spinecert-log")
	defer f.Close()
	if _, err := f.Write(entry); err != nil {
		return err
	}
	seals := unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		return fmt.Errorf("seal memory: %w", err)
	}
	return s.pass(fd)
}

// pass sends a descriptor. UnixConn.WriteMsgUnix does not take a connected socket.
func (s *socket) pass(fd int) error {
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return err
	}
	if err := s.wait(); err != nil { // what was written to memory meanwhile took its time
		return err
	}
	var sent error
	err = raw.Write(func(to uintptr) bool {
		for sent = unix.EINTR; errors.Is(sent, unix.EINTR); {
			sent = unix.Sendmsg(int(to), nil, unix.UnixRights(fd), nil, unix.MSG_NOSIGNAL)
		}
		return !errors.Is(sent, unix.EAGAIN)
	})
	return cmp.Or(err, sent)
}

// settle is how long the journal gets to look at a process once it has read its last entry.
const settle = 20 * time.Millisecond

// flush waits until the journal has read what was sent, for Patience at most: of an entry whose process has ended by then
// it does not find out the unit, and `journalctl -u` does not show it.
func (s *socket) flush() {
	if s.conn == nil {
		return
	}
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return
	}
	for end := time.Now().Add(Patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		unread := 0
		if err := raw.Control(func(fd uintptr) { unread, _ = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }); err != nil || unread == 0 {
			break
		}
	}
	time.Sleep(settle)
}

func (s *socket) close() {
	if s.conn != nil {
		_ = s.conn.Close()
		s.conn = nil
	}
}
