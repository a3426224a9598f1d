package peercred

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Error says why it is not known who connected.
type Error struct {
	Client netip.AddrPort
	Err    error
}

// Error returns `ask who connected from "address": cause`.
func (e *Error) Error() string { return fmt.Sprintf("ask who connected from %q: %v", e.Client, e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Hint returns the next action for the operator; it may be empty.
func (e *Error) Hint() string {
	switch {
	case errors.Is(e.Err, errUnmapped):
		return "run the daemon outside of the user namespace, or let local services use a unix socket"
	case errors.Is(e.Err, unix.EAFNOSUPPORT), errors.Is(e.Err, unix.EPERM), errors.Is(e.Err, unix.EACCES):
		return "add AF_NETLINK to RestrictAddressFamilies= of the unit, or let local services use a unix socket"
	case errors.Is(e.Err, unix.ENOENT):
		return "the client may have hung up; if nobody gets in, the kernel has no tcp_diag module: let local services use a unix socket"
	}
	return ""
}

// User returns the user whose process is at the other end of c. It asks the kernel,
// which answers at once, and waits for no peer.
func User(c *net.TCPConn) (uint32, error) {
	client, server := addrPort(c.RemoteAddr()), addrPort(c.LocalAddr())
	uid, err := ask(client, server)
	if err == nil {
		err = holds(c)
	}
	if err == nil {
		err = mapped(uid, procUIDMap, procOverflow)
	}
	if err != nil {
		return 0, &Error{Client: client, Err: err}
	}
	return uid, nil
}

func addrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap().WithZone(""), ap.Port())
}

// holds reports an error if c was reset. Its addresses may then be in use by another
// connection already, and the answer would be about that one.
func holds(c *net.TCPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var info *unix.TCPInfo
	var infoErr error
	if err := raw.Control(func(fd uintptr) {
		info, infoErr = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	}); err != nil {
		return err
	}
	switch {
	case infoErr != nil:
		return infoErr
	case info.State != unix.BPF_TCP_ESTABLISHED && info.State != unix.BPF_TCP_CLOSE_WAIT:
		return errors.New("the client broke the connection off")
	}
	return nil
}

// Sizes of linux/inet_diag.h and linux/netlink.h, in bytes.
const (
	sockIDSize  = 48                                    // struct inet_diag_sockid
	requestSize = unix.SizeofNlMsghdr + 8 + sockIDSize  // struct inet_diag_req_v2
	messageSize = unix.SizeofNlMsghdr + 24 + sockIDSize // struct inet_diag_msg
)

// sequence is that of the only request a netlink socket is used for.
const sequence = 1

// ask asks the kernel for the socket that is bound to client and connected to server.
func ask(client, server netip.AddrPort) (uint32, error) {
	if !client.IsValid() || client.Addr().Is4() != server.Addr().Is4() {
		return 0, errors.New("not a TCP connection")
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return 0, fmt.Errorf("open netlink socket: %w", err)
	}
	defer unix.Close(fd)
	// The kernel answers within the call that asks; the time is for the day when it does not.
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}); err != nil {
		return 0, fmt.Errorf("bound netlink socket: %w", err)
	}
	kernel := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	if err := unix.Sendto(fd, request(client, server), 0, kernel); err != nil {
		return 0, fmt.Errorf("ask the kernel: %w", err)
	}
	buffer := make([]byte, 1<<10) // a bare answer: no extension was asked for
	n, from, err := receive(fd, buffer)
	if err != nil {
		return 0, fmt.Errorf("hear the kernel: %w", err)
	}
	if sender, ok := from.(*unix.SockaddrNetlink); !ok || sender.Pid != 0 {
		return 0, errors.New("the answer does not come from the kernel")
	}
	return answer(buffer[:n], client, server)
}

// receive reads one datagram. The runtime's own signals interrupt a read that has a
// time limit, see signal(7).
func receive(fd int, p []byte) (n int, from unix.Sockaddr, err error) {
	for range 100 {
		if n, from, err = unix.Recvfrom(fd, p, 0); !errors.Is(err, unix.EINTR) {
			break
		}
	}
	return n, from, err
}

// request returns the message that asks for one socket: without NLM_F_DUMP the
// kernel looks the addresses up as it does for a segment that arrives.
func request(client, server netip.AddrPort) []byte {
	b := make([]byte, 0, requestSize)
	b = binary.NativeEndian.AppendUint32(b, requestSize)
	b = binary.NativeEndian.AppendUint16(b, unix.SOCK_DIAG_BY_FAMILY)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST)
	b = binary.NativeEndian.AppendUint32(b, sequence)
	b = binary.NativeEndian.AppendUint32(b, 0) // the kernel
	family := byte(unix.AF_INET6)
	if client.Addr().Is4() {
		family = unix.AF_INET
	}
	b = append(b, family, unix.IPPROTO_TCP, 0, 0)
	b = binary.NativeEndian.AppendUint32(b, 0xffffffff) // any state: answer judges it
	b = binary.BigEndian.AppendUint16(b, client.Port())
	b = binary.BigEndian.AppendUint16(b, server.Port())
	for _, a := range []netip.Addr{client.Addr(), server.Addr()} {
		var whole [16]byte
		copy(whole[:], a.AsSlice())
		b = append(b, whole[:]...)
	}
	b = binary.NativeEndian.AppendUint32(b, 0)                  // any interface
	b = binary.NativeEndian.AppendUint64(b, 0xffffffffffffffff) // INET_DIAG_NOCOOKIE, twice
	return b
}

var errNoMessage = errors.New("the answer is no netlink message")

// answer reads the kernel's message b about the socket of client.
func answer(b []byte, client, server netip.AddrPort) (uint32, error) {
	if len(b) < unix.SizeofNlMsghdr {
		return 0, errNoMessage
	}
	size := binary.NativeEndian.Uint32(b)
	if size < unix.SizeofNlMsghdr || size > uint32(len(b)) || binary.NativeEndian.Uint32(b[8:]) != sequence {
		return 0, errNoMessage
	}
	b = b[:size]
	switch binary.NativeEndian.Uint16(b[4:]) {
	case unix.NLMSG_ERROR:
		if len(b) >= unix.SizeofNlMsghdr+4 {
			if errno := -int32(binary.NativeEndian.Uint32(b[unix.SizeofNlMsghdr:])); errno > 0 {
				return 0, fmt.Errorf("look for the socket: %w", unix.Errno(errno))
			}
		}
		return 0, errors.New("the answer is empty")
	case unix.SOCK_DIAG_BY_FAMILY:
	default:
		return 0, errors.New("the answer is of another kind")
	}
	if len(b) < messageSize {
		return 0, errors.New("the answer is cut short")
	}
	return owner(b[unix.SizeofNlMsghdr:], client, server)
}

// States of a socket that a process has, which are those in which it can have sent
// something that is still to be read.
const alive = 1<<unix.BPF_TCP_ESTABLISHED | 1<<unix.BPF_TCP_CLOSE_WAIT | 1<<unix.BPF_TCP_FIN_WAIT1 | 1<<unix.BPF_TCP_FIN_WAIT2

// owner returns the user of a struct inet_diag_msg, if it is about the right socket.
func owner(m []byte, client, server netip.AddrPort) (uint32, error) {
	family, state, id, rest := m[0], m[1], m[4:4+sockIDSize], m[4+sockIDSize:]
	found := [2]netip.AddrPort{}
	for i := range found {
		addr := netip.AddrFrom16([16]byte(id[4+16*i:])).Unmap() // an IPv6 socket may speak IPv4
		if family == unix.AF_INET {
			addr = netip.AddrFrom4([4]byte(id[4+16*i:]))
		}
		found[i] = netip.AddrPortFrom(addr, binary.BigEndian.Uint16(id[2*i:]))
	}
	switch {
	case family != unix.AF_INET && family != unix.AF_INET6, found != [2]netip.AddrPort{client, server}:
		return 0, errors.New("the answer is about another connection") // such as a listener on the client's port
	case state >= 32 || alive&(1<<state) == 0:
		return 0, fmt.Errorf("the client's socket is in state %d", state)
	}
	uid, inode := binary.NativeEndian.Uint32(rest[12:]), binary.NativeEndian.Uint32(rest[16:])
	if inode == 0 {
		return 0, errors.New("the client has hung up: its socket has no owner")
	}
	return uid, nil
}
