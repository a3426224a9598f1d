package config

import (
	"io/fs"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

func (l *rawListener) place() place {
	if l.mapped {
		return l.socket.Place
	}
	return l.word.place
}

func (r *reading) listeners(raw *list[rawListener]) []Listener {
	if len(raw.items) == 0 {
		r.fail(raw.place, "no address to listen on is named", `write listen: ["0.0.0.0:4430"] or [unix:/path]`)
	}
	listeners := make([]Listener, len(raw.items))
	for i := range raw.items {
		listeners[i] = r.listener(&raw.items[i])
	}
	return listeners
}

func (r *reading) listener(raw *rawListener) Listener {
	if raw.mapped {
		s := raw.socket
		if s.Unix.text == "" {
			r.fail(s.Unix.place, "no socket is named", "write {unix: /path, group: NAME, mode: \"0660\"}")
		} else {
			r.socketPath(s.Unix.place, s.Unix.value)
		}
		return Listener{"unix", s.Unix.value, r.group(s.Group), r.mode(s.Mode)}
	}
	word := raw.word
	if file, ok := strings.CutPrefix(word.text, "unix:"); ok {
		return Listener{Network: "unix", Address: r.unix(word.place, file), Mode: 0o660}
	}
	if name, ok := strings.CutPrefix(word.text, "systemd:"); ok {
		return Listener{Network: "systemd", Address: r.socketName(word.place, name)}
	}
	_, address := r.listenTCP(word)
	return Listener{Network: "tcp", Address: address}
}

// socketWords is what FileDescriptorName= of a socket unit may be, see systemd.socket(5); the colon separates names. Blanks at its ends systemd takes away, and
// a backslash at the end of a line joins it with the next one.
var socketWords = regexp.MustCompile(`^[ -9;-~]{1,255}$`)

// socketName returns the name of a socket that systemd opens; "" after a mistake.
func (r *reading) socketName(p place, name string) string {
	if socketWords.MatchString(name) && strings.Trim(name, " ") == name && !strings.HasSuffix(name, `\`) {
		return name
	}
	r.fail(p, "must be systemd: and the name of a socket: 1 to 255 printable ASCII characters, no colon, no blank at either end, no backslash at the end", "write what FileDescriptorName= says in the socket unit, which is by default the name of the unit: systemd:web.socket")
	return ""
}

var modeDigits = regexp.MustCompile(`^0?[0-7]{3}$`)

func (r *reading) mode(t text) fs.FileMode {
	if !modeDigits.MatchString(t.text) {
		r.fail(t.place, "must be octal permissions"+t.not(t.text), `write "0660"`)
		return 0o660
	}
	mode, err := strconv.ParseUint(t.text, 8, 32)
	if err != nil || mode&0o600 != 0o600 {
		r.fail(t.place, "must let the daemon itself read and write"+t.not(t.text), `write "0660"`)
	}
	return fs.FileMode(mode)
}

// listenTCP returns the address to listen on, parsed and as net.Listen wants it. Both are zero after a mistake; for
// `:PORT` the parsed address is the unspecified one.
func (r *reading) listenTCP(t text) (netip.AddrPort, string) {
	host, port, err := net.SplitHostPort(t.text)
	number, ok := portNumber(port)
	ip, address := ipAddress(host)
	if host == "" {
		ip, address = netip.IPv6Unspecified(), true
	}
	switch {
	case err != nil:
		r.fail(t.place, "must be HOST:PORT or unix:/path"+t.not(t.text), "write for example 127.0.0.1:4430 or 0.0.0.0:4430; an IPv6 address stands in brackets: [::1]:4430")
	case !address:
		r.fail(t.place, "must begin with an address of this host"+t.not(t.text), "write 127.0.0.1, [::1], 0.0.0.0 or an address of this host")
	case !ok:
		r.fail(t.place, "must have a port from 1 to 65535"+t.not(t.text), "")
	case number == 0 && !ip.IsLoopback():
		r.fail(t.place, "port 0 is for loopback addresses only", "a peer could not know the port")
	default:
		return netip.AddrPortFrom(ip, uint16(number)), net.JoinHostPort(host, strconv.Itoa(number))
	}
	return netip.AddrPort{}, ""
}

// A claim is an address that something listens on.
type claim struct {
	place
	address Address
	owner   string
}

// separateListeners reports addresses that are listened on twice, here rather than by the kernel in the middle of a
// reload.
func (r *reading) separateListeners(raw *rawConfig, c *Config) {
	claims := []claim{{raw.Admin.Socket.Path.place, Address{"unix", c.Admin.Socket}, "admin.socket"}}
	if c.Admin.HTTP != "" {
		claims = append(claims, claim{raw.Admin.HTTP.Listen.place, Address{"tcp", c.Admin.HTTP}, "admin.http"})
	}
	for i, t := range c.Tunnels {
		for j, l := range t.Listen {
			claims = append(claims, claim{raw.Tunnels.rows[i].value.Listen.items[j].place(), Address{l.Network, l.Address}, "tunnel " + t.Name})
		}
	}
	taken := map[string][]claim{} // by path or port
	for _, now := range claims {
		key := now.address.key()
		if key == "" || key == "0" {
			continue
		}
		for _, before := range taken[key] {
			if now.address.overlaps(before.address) {
				r.fail(now.place, "the address is taken by "+before.owner, "every listener needs an address of its own")
				break
			}
		}
		taken[key] = append(taken[key], now)
	}
}

// overlaps says that two TCP addresses with one port, or two equal paths, cannot be bound at the same time: an
// unspecified address covers all of its family, and [::] covers IPv4 too.
func (a Address) overlaps(b Address) bool {
	x, y := bound(a), bound(b)
	if a == b || x.IsValid() && x == y {
		return true
	}
	covers := func(x, y netip.Addr) bool { return x.IsUnspecified() && (x.Is6() || y.Is4()) }
	return covers(x, y) || covers(y, x)
}

// bound returns the address that the kernel binds; the zero Addr for a unix socket.
func bound(a Address) netip.Addr {
	host, _, _ := net.SplitHostPort(a.Address)
	if a.Network == "tcp" && host == "" {
		return netip.IPv6Unspecified()
	}
	address, _ := ipAddress(host)
	return address.Unmap()
}
