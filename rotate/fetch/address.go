package fetch

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// maxAddress bounds an address, in bytes.
const maxAddress = 2 << 10

// target is an address that was taken apart.
type target struct {
	url  *url.URL
	name string     // lower case, without trailing dot; "" where ip is given
	ip   netip.Addr // the host, if it is an address
	port uint16
}

// standard reports whether the port is the one of the scheme.
func (t target) standard() bool { return t.port == standardPort(t.url.Scheme) }

func standardPort(scheme string) uint16 {
	if scheme == "https" {
		return 443
	}
	return 80
}

// parse takes an address apart, and refuses what another reader could take apart in
// another way.
func parse(address string) (target, *Error) {
	const advice = "the address must be as http://host/path, in at most 2 KiB of printable ASCII"
	switch {
	case address == "":
		return target{}, fault(Malformed, advice, nil, "the address is empty")
	case len(address) > maxAddress:
		return target{}, fault(Malformed, advice, nil, "the address has %d bytes", len(address))
	case !printable(address) || strings.ContainsAny(address, " \\"):
		return target{}, fault(Malformed, advice, nil, "the address holds a space, a backslash or what is not printable")
	case strings.Contains(address, "#"):
		return target{}, fault(Malformed, advice, nil, "the address has a fragment")
	}
	u, err := url.Parse(address)
	switch {
	case err != nil: // its text may repeat a password
		return target{}, fault(Malformed, advice, nil, "it is no URL")
	case u.Scheme != "http" && u.Scheme != "https":
		return target{}, fault(NotPermitted, "only http is fetched", nil, "the scheme is %s, not http", quote(u.Scheme))
	case u.User != nil:
		return target{}, fault(Malformed, advice, nil, "the address has a user or password")
	case u.Opaque != "" || u.Host == "":
		return target{}, fault(Malformed, advice, nil, "the address names no host")
	}
	t := target{url: u, port: standardPort(u.Scheme)}
	host := u.Hostname()
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip.Zone() != "" {
			return target{}, fault(Malformed, advice, nil, "%s has a zone", quote(u.Host))
		}
		t.ip = ip.Unmap()
		host = t.ip.String()
		if t.ip.Is6() {
			host = "[" + host + "]"
		}
	} else {
		if t.name, err = hostName(host); err != nil {
			return target{}, fault(Malformed, advice, nil, "host %s: %v", quote(host), err)
		}
		host = t.name
	}
	if i := strings.LastIndexByte(u.Host, ':'); i > strings.LastIndexByte(u.Host, ']') {
		if t.port, err = parsePort(u.Host[i+1:]); err != nil {
			return target{}, fault(Malformed, advice, nil, "port %s: %v", quote(u.Host[i+1:]), err)
		}
	}
	// The request is made of what was judged, not of how it was written.
	if u.Host = host; !t.standard() {
		u.Host += ":" + strconv.Itoa(int(t.port))
	}
	return t, nil
}

// printable reports whether s is of printable ASCII only.
func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// special are the ranges that no public server is in, IANA's registries of special
// purpose addresses (RFC 6890) and multicast. Of IPv6, see inward.
var special = prefixes(
	"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
	"192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15",
	"198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
	"2001::/23", "2001:db8::/32", "3fff::/20",
)

var (
	public6 = netip.MustParsePrefix("2000::/3")     // RFC 4291: all global unicast there is
	nat64   = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052
	sixto4  = netip.MustParsePrefix("2002::/16")    // RFC 3056
)

func prefixes(texts ...string) []netip.Prefix {
	var list []netip.Prefix
	for _, text := range texts {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}

// inward reports whether a is no address of the public internet, or leads through a
// translator to one that is not.
func inward(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if a.Is6() {
		bytes := a.As16()
		switch {
		case nat64.Contains(a):
			return inward(netip.AddrFrom4([4]byte(bytes[12:])))
		case sixto4.Contains(a):
			return inward(netip.AddrFrom4([4]byte(bytes[2:6])))
		case !public6.Contains(a): // loopback, link-local, unique local, site-local, multicast and what is not given out
			return true
		}
	}
	for _, p := range special {
		if p.Contains(a) {
			return true
		}
	}
	return !a.IsValid()
}
