package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/tunnel"
)

// socketPrefix stands before the name of a socket that systemd opened, in the configuration and wherever it is shown.
const socketPrefix = "systemd:"

// socketFiles returns the listening sockets that systemd made, by name.
func (d *Daemon) socketFiles() map[string][]*os.File { return d.activated }

// setSockets keeps the listening sockets that systemd made, by name.
func (d *Daemon) setSockets(sockets map[string][]*os.File) { d.activated = sockets }

// listeners returns where a tunnel listens: for the name of a socket, all that systemd passed with it.
func (d *Daemon) listeners(t config.Tunnel) ([]tunnel.Listen, error) {
	var all []tunnel.Listen
	for _, l := range t.Listen {
		if l.Network != "systemd" {
			all = append(all, tunnel.Listen{Network: l.Network, Address: l.Address, Mode: l.Mode, Group: l.Group})
			continue
		}
		passed := d.activated[l.Address]
		if len(passed) == 0 {
			return nil, d.missing(l.Address)
		}
		for _, f := range passed {
			if err := lends(t, l.Address, f); err != nil {
				return nil, err
			}
			all = append(all, tunnel.Listen{Address: socketPrefix + l.Address, File: f})
		}
	}
	return all, nil
}

// missing is the error for a tunnel whose socket is not there.
func (d *Daemon) missing(name string) error {
	passed := "systemd passed no sockets"
	if names := d.socketNames(); len(names) > 0 {
		passed = "systemd passed " + strings.Join(names, ", ")
	}
	return advised{fmt.Errorf("find socket %q: %s", name, passed),
		fmt.Sprintf("write a socket unit with FileDescriptorName=%s, and its name in Sockets= of the daemon's unit (spinecert config systemd prints both); then systemctl daemon-reload, and systemctl restart spinecertd: systemd passes sockets at a start alone", name)}
}

// socketNames are the names of the sockets that systemd passed, in quotes.
func (d *Daemon) socketNames() []string {
	names := slices.Sorted(maps.Keys(d.activated))
	for i, name := range names {
		names[i] = strconv.Quote(name)
	}
	return names
}

// lends says what is wrong with a socket of systemd's for an outbound tunnel: whoever connects acts with
// the identity of this host, so that somebody must have said who may. Addresses beyond loopback are refused by the tunnel.
func lends(t config.Tunnel, name string, f *os.File) error {
	if t.Direction != config.Outbound || t.AllowAllUsers {
		return nil
	}
	address, err := boundTo(f)
	if err != nil {
		return fmt.Errorf("look at socket %q: %w", name, err)
	}
	switch a := address.(type) {
	case *unix.SockaddrUnix:
		return lendsUnix(name, a.Name)
	case *unix.SockaddrInet4:
		return lendsTCP(t, name, netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)))
	case *unix.SockaddrInet6:
		return lendsTCP(t, name, netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port)))
	}
	return fmt.Errorf("look at socket %q: it is neither TCP nor unix", name)
}

func lendsTCP(t config.Tunnel, name string, address netip.AddrPort) error {
	if len(t.AllowUsers) > 0 {
		return nil
	}
	return advised{fmt.Errorf("listen on socket %q (%v): a TCP listener lends the identity to every local user", name, address),
		`name the users who may connect: allow_users: [pcs]; write ["*"] if everyone is meant`}
}

// lendsUnix judges the file of a unix socket, as config does for one of the daemon's own. Where it
// cannot be seen from here its directory keeps others away as well.
func lendsUnix(name, path string) error {
	open := strings.HasPrefix(path, "@") // an abstract one has no permissions
	if info, err := os.Stat(path); err == nil && info.Mode().Type() == fs.ModeSocket {
		open = open || info.Mode()&0o002 != 0
	}
	if !open {
		return nil
	}
	return advised{fmt.Errorf("listen on socket %q (%s): every local user may connect to it", name, path),
		`set SocketMode=0660 and SocketGroup= in the socket unit, or write allow_users: ["*"] if everyone is meant`}
}

// boundTo returns the address of a socket.
func boundTo(f *os.File) (unix.Sockaddr, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var address unix.Sockaddr
	var failed error
	err = raw.Control(func(fd uintptr) { address, failed = unix.Getsockname(int(fd)) })
	return address, errors.Join(err, failed)
}

// warnSockets tells of the sockets that systemd passed and no tunnel uses: nobody accepts what connects to them.
func (d *Daemon) warnSockets(c *config.Config) {
	used := map[string]bool{}
	for _, t := range c.Tunnels {
		for _, l := range t.Listen {
			used[l.Address] = used[l.Address] || l.Network == "systemd"
		}
	}
	for _, name := range slices.Sorted(maps.Keys(d.activated)) {
		if !used[name] {
			d.record1("socket_unused", slog.LevelWarn, "systemd opened a socket that no tunnel uses; whoever connects to it waits in vain",
				slog.String("address", socketPrefix+name), slog.String("hint", "name it in listen of a tunnel, or disable and stop its socket unit"))
		}
	}
}
