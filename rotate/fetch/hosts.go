package fetch

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// entry is one of Config.Hosts.
type entry struct {
	name   string
	within netip.Prefix // where there is no name
	port   uint16       // 0: that of the scheme
}

// asks reports whether e permits t to be asked.
func (e entry) asks(t target) bool {
	if e.port != t.port && (e.port != 0 || !t.standard()) {
		return false
	}
	if e.name != "" || t.name != "" {
		return e.name == t.name
	}
	return e.within.Contains(t.ip)
}

// reaches reports whether e permits connecting to an address that is not public.
// A name permits none: whoever answers for it could point it anywhere.
func (e entry) reaches(a netip.AddrPort) bool {
	return e.name == "" && e.within.Contains(a.Addr()) && (e.port == 0 || e.port == a.Port())
}

// CheckHost returns why entry cannot be one of Config.Hosts, or nil.
func CheckHost(entry string) error {
	_, err := parseEntry(entry)
	return err
}

func parseEntry(text string) (entry, error) {
	e, err := splitEntry(text)
	if err != nil {
		return entry{}, fmt.Errorf("host %s: %w", quote(text), err)
	}
	return e, nil
}

func splitEntry(text string) (entry, error) {
	if strings.Contains(text, "://") {
		return entry{}, errors.New("is a URL: write its host, with :port if it has one")
	}
	if strings.Contains(text, "/") {
		p, err := parseRange(text)
		return entry{within: p}, err
	}
	if a, err := netip.ParseAddr(text); err == nil {
		return single(a, 0)
	}
	i := strings.LastIndexByte(text, ':')
	switch {
	case i < 0:
		name, err := hostName(text)
		return entry{name: name}, err
	case strings.HasSuffix(text, "]"):
		return entry{}, errors.New("is an address in brackets: write it without them, or with its :port")
	}
	name, port := text[:i], text[i+1:]
	number, err := parsePort(port)
	if err != nil {
		return entry{}, fmt.Errorf("port %s: %w", quote(port), err)
	}
	if a, err := netip.ParseAddrPort(name + ":" + port); err == nil {
		return single(a.Addr(), number)
	}
	name, err = hostName(name)
	return entry{name: name, port: number}, err
}

// single returns the entry of one address.
func single(a netip.Addr, port uint16) (entry, error) {
	if a.Zone() != "" {
		return entry{}, errors.New("has a zone, which is not supported")
	}
	a = a.Unmap()
	return entry{within: netip.PrefixFrom(a, a.BitLen()), port: port}, nil
}

// parseRange reads a CIDR.
func parseRange(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return netip.Prefix{}, errors.New("is no CIDR, as 10.0.0.0/8, and a host has no path")
	case p.Addr().Is4In6():
		return netip.Prefix{}, errors.New("is a range of IPv4 written as IPv6: write it as IPv4")
	case p != p.Masked():
		return netip.Prefix{}, fmt.Errorf("has bits beyond its length: write %s or a single address", p.Masked())
	case p.Bits() < 7: // fc00::/7 is the widest that somebody can own
		return netip.Prefix{}, errors.New("is wider than a /7, which permits nearly everything")
	}
	return p, nil
}

const nameRunes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."

// hostName returns a DNS name in lower case without its trailing dot.
func hostName(s string) (string, error) {
	name := strings.TrimSuffix(s, ".")
	if name == "" || len(name) > 253 {
		return "", errors.New("a name has 1 to 253 characters")
	}
	if strings.ContainsFunc(name, func(r rune) bool { return !strings.ContainsRune(nameRunes, r) }) {
		return "", errors.New("a name has letters, digits, hyphens and dots only; each is written out, without *")
	}
	name = strings.ToLower(name)
	labels := strings.Split(name, ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 {
			return "", errors.New("each part of a name has 1 to 63 characters")
		}
	}
	// 127.1 and 0x7f.1: some resolvers read an address there.
	last := labels[len(labels)-1]
	if _, err := strconv.ParseUint(last, 0, 64); err == nil || strings.Trim(last, "0123456789") == "" {
		return "", errors.New("ends in a number, and is no address")
	}
	return name, nil
}

// parsePort reads a port in its one spelling.
func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 || strconv.FormatUint(n, 10) != s {
		return 0, errors.New("a port is 1 to 65535")
	}
	return uint16(n), nil
}

// parseProxy reads Config.Proxy. Its errors never hold a password.
func parseProxy(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err == nil && u.User != nil {
		return nil, fmt.Errorf("proxy %q: must have no user and password", shown(text))
	}
	if err != nil || u.Scheme != "http" || u.Opaque != "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return nil, fmt.Errorf("proxy %q: must be http://host:port", shown(text))
	}
	if e, err := splitEntry(u.Host); err != nil || e.port == 0 {
		return nil, fmt.Errorf("proxy %q: must be http://host:port, with a port", shown(text))
	}
	return &url.URL{Scheme: "http", Host: strings.ToLower(u.Host)}, nil
}
