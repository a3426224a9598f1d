package fetch

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
)

// Config says what may be asked.
type Config struct {
	// Hosts are the only ones that are asked: names, exactly, with port 80 (https:
	// 443) or as host:port. An address or CIDR among them permits connecting to it:
	// without one, names that resolve to loopback, private, link-local or other
	// addresses that are not of the public internet are refused.
	Hosts []string
	// Proxy is http://host:port; "" connects directly. Environment variables never
	// count. A proxy may be at any address, and it resolves the names that it is
	// asked for: where they point is then for the proxy to judge.
	Proxy string
	// MaxBytes bounds the body; 0 is 64 MiB.
	MaxBytes int64
	// TLS permits https beside http. CRLs are fetched by http alone.
	TLS bool
}

// Client fetches. It is safe for concurrent use and keeps no connections.
type Client struct {
	hosts    []entry
	proxy    *url.URL // nil connects directly
	maxBytes int64
	tls      bool

	resolver *net.Resolver  // nil is that of the system
	roots    *x509.CertPool // nil is those of the system
}

// New checks c. The error names all that is wrong.
func New(c Config) (*Client, error) {
	client := &Client{maxBytes: c.MaxBytes, tls: c.TLS}
	var problems []error
	for _, text := range c.Hosts {
		e, err := parseEntry(text)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		client.hosts = append(client.hosts, e)
	}
	if c.Proxy != "" {
		proxy, err := parseProxy(c.Proxy)
		if err != nil {
			problems = append(problems, err)
		}
		client.proxy = proxy
	}
	switch {
	case c.MaxBytes == 0:
		client.maxBytes = 64 << 20
	case c.MaxBytes < 0:
		problems = append(problems, fmt.Errorf("limit of %d bytes: must not be negative", c.MaxBytes))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return client, nil
}

// Permits returns why address would not be asked at all, an *Error, or nil. It looks
// nothing up: whether the host is at an address that may be connected to is known
// only when it is asked.
func (c *Client) Permits(address string) error {
	if _, f := c.permit(address); f != nil {
		return f.of(address)
	}
	return nil
}

// permit takes an address apart and judges scheme, host and port.
func (c *Client) permit(address string) (target, *Error) {
	t, f := parse(address)
	if f != nil {
		return target{}, f
	}
	if t.url.Scheme == "https" && !c.tls {
		return target{}, fault(NotPermitted, "only http is fetched here", nil, "the scheme is https, not http")
	}
	for _, e := range c.hosts {
		if e.asks(t) {
			return t, nil
		}
	}
	return target{}, fault(NotPermitted, fmt.Sprintf("add %s to crl.hosts, if it is the right place to ask", quote(t.url.Host)), nil,
		"host %s is not one of those that may be asked", quote(t.url.Host))
}

// reach returns why a may not be connected to, or nil. It is asked with the very
// address of the connection, so nobody's DNS answers otherwise a moment later.
func (c *Client) reach(a netip.AddrPort) *Error {
	a = netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
	if !inward(a.Addr()) {
		return nil
	}
	for _, e := range c.hosts {
		if e.reaches(a) {
			return nil
		}
	}
	return fault(PrivateAddress, fmt.Sprintf("is that the right place? Then add %s, or the CIDR it is in, to crl.hosts", a.Addr()), nil,
		"the host is at %s, which is not an address of the public internet", a.Addr())
}
