package web

import (
	"net/http"
	"net/netip"
	"strings"
)

// LoopbackHost reports whether a request was made by a loopback name: localhost, or an
// address of loopback, with any port, as a tunnel of SSH may lead here. A name that somebody
// points here, to have the browser of a user on this host read the page for him, is none.
func LoopbackHost(r *http.Request) bool {
	host, ok := hostOf(r.Host)
	if !ok {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && ip.Zone() == "" && ip.IsLoopback()
}

// NamedHost reports whether a request was made by one of names, or by the address that it
// arrived at, with any port.
func NamedHost(r *http.Request, names []string) bool {
	host, ok := hostOf(r.Host)
	if !ok {
		return false
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Zone() == "" && ip.Unmap() == arrivedAt(r)
	}
	for _, name := range names {
		if strings.EqualFold(host, name) {
			return true
		}
	}
	return false
}

// arrivedAt is the address of this host that the request came to.
func arrivedAt(r *http.Request) netip.Addr {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(interface{ AddrPort() netip.AddrPort })
	if !ok {
		return netip.Addr{}
	}
	return local.AddrPort().Addr().Unmap().WithZone("")
}

// hostOf takes the port and the brackets off a Host. It is strict: what no browser writes,
// such as a dot at the end, is no host.
func hostOf(s string) (host string, ok bool) {
	var port string
	if strings.HasPrefix(s, "[") {
		if host, port, ok = strings.Cut(s[1:], "]"); !ok || port != "" && port[0] != ':' || !strings.Contains(host, ":") {
			return "", false
		}
		port = strings.TrimPrefix(port, ":")
	} else if host, port, _ = strings.Cut(s, ":"); strings.Contains(port, ":") {
		return "", false
	}
	if len(port) > 5 || strings.Trim(port, "0123456789") != "" {
		return "", false
	}
	return host, host != "" && !strings.HasSuffix(host, ".")
}

// foreign reports whether another site made the browser send the request. A user who
// follows a link from elsewhere, or types the address, is welcome: the other site sees
// nothing of what he is shown.
func foreign(r *http.Request, landing bool) bool {
	if origin, there := r.Header["Origin"]; there {
		scheme := "http://"
		if r.TLS != nil {
			scheme = "https://"
		}
		if len(origin) != 1 || !strings.EqualFold(origin[0], scheme+r.Host) {
			return true
		}
	}
	site, there := r.Header["Sec-Fetch-Site"]
	if !there { // no browser of today, or a program
		return false
	}
	if len(site) == 1 && (site[0] == "same-origin" || site[0] == "none") {
		return false
	}
	return !landing || r.Header.Get("Sec-Fetch-Mode") != "navigate" || r.Header.Get("Sec-Fetch-Dest") != "document"
}
