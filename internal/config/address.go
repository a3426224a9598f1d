package config

import (
	"encoding/hex"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// hostLabels is a host name in lower case, each label of a-z, 0-9 and '-'. SPINE.md, 4: no underscore.
var hostLabels = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func validHost(name string) bool {
	_, address := ipAddress(name)
	return len(name) <= 253 && hostLabels.MatchString(name) && !address
}

// hostName reports a text that is no host name in lower case.
func (r *reading) hostName(t text, what string) {
	if validHost(t.text) {
		return
	}
	hint := ""
	if lower := strings.TrimSuffix(strings.ToLower(t.text), "."); lower != t.text && validHost(lower) {
		hint = "write " + lower
	} else if strings.ContainsAny(t.text, "/:") {
		hint = "write the name alone, without scheme, port and path"
	}
	r.fail(t.place, "must be "+what+t.not(t.text), hint)
}

// ipAddress reads an address, with or without the brackets of a URL.
func ipAddress(s string) (netip.Addr, bool) {
	address, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
	return address, err == nil
}

// fingerprint returns the lower-case hex of a SHA-256, which may be written with colons, as openssl prints it.
func fingerprint(s string) (string, bool) {
	digest := strings.ToLower(strings.ReplaceAll(s, ":", ""))
	raw, err := hex.DecodeString(digest)
	return digest, err == nil && len(raw) == 32
}

// forward returns the address of the service behind a tunnel.
func (r *reading) forward(t text) Address {
	if !t.set || t.text == "" {
		r.fail(t.place, "no address to forward to is named", "write forward: 127.0.0.1:8080, or unix:/path")
		return Address{}
	}
	return r.dialled(t)
}

// dialled returns an address that is connected to; the zero Address after a mistake.
func (r *reading) dialled(t text) Address {
	if file, ok := strings.CutPrefix(t.text, "unix:"); ok {
		return Address{"unix", r.unix(t.place, file)}
	}
	host, port, err := net.SplitHostPort(t.text)
	number, ok := portNumber(port)
	switch {
	case err != nil || host == "":
		r.fail(t.place, "must be HOST:PORT or unix:/path"+t.not(t.text), "write host and port alone, such as 127.0.0.1:8080; an IPv6 address stands in brackets: [2001:db8::1]:443")
	case !ok || number == 0:
		r.fail(t.place, "must have a port from 1 to 65535"+t.not(t.text), "")
	default:
		host = strings.ToLower(host)
		_, address := ipAddress(host)
		// A local service may well have an underscore in its name; only names of certificates may not.
		if address || validHost(strings.ReplaceAll(host, "_", "x")) {
			return Address{"tcp", net.JoinHostPort(host, strconv.Itoa(number))}
		}
		r.fail(t.place, "must name a host or an address"+t.not(t.text), "")
	}
	return Address{}
}

func portNumber(s string) (int, bool) {
	n, err := strconv.ParseUint(s, 10, 16)
	return int(n), err == nil
}

// unix returns the path of a socket.
func (r *reading) unix(p place, file string) string {
	if file == "" || strings.HasPrefix(file, "@") {
		r.fail(p, "must be the path of a unix socket", "abstract sockets have no permissions and are not used")
		return ""
	}
	file = r.path(scalar{place: p, text: file, set: true})
	r.socketPath(p, file)
	return file
}

// socketPath reports a path that the kernel cannot bind: sun_path has 108 bytes with its NUL, see unix(7).
func (r *reading) socketPath(p place, file string) {
	switch {
	case file == "":
		r.fail(p, "must be a path", "")
	case len(file) > 107:
		r.fail(p, "the path of a unix socket has at most 107 bytes", "use a shorter directory, such as /run/spinecert")
	}
}
