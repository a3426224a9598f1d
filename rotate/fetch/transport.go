package fetch

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"sync"
	"syscall"
)

// maxHeader bounds the header of an answer, in bytes.
const maxHeader = 16 << 10

// attempt is the one request that a transport is made for, and what is known of why
// it failed: net/http tells some of it in words only.
type attempt struct {
	client *Client
	// live ends with Get. What net/http hands to the dialer outlives the request, as
	// another one could use the connection: here there is none.
	live context.Context

	mu      sync.Mutex // two dials may run at once (RFC 8305)
	refused *Error     // an address that may not be connected to
	dialed  error      // why there is no connection
	shaken  error      // why there is no TLS on it
	reached bool       // there was a connection
}

// transport returns what one request goes through. The environment's proxies, HTTP/2,
// compression and connections kept for later do not come in.
func (a *attempt) transport() *http.Transport {
	t := &http.Transport{
		DialContext:            a.dial,
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeader,
		Protocols:              new(http.Protocols),
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: a.client.roots},
		OnProxyConnectResponse: connected,
	}
	t.Protocols.SetHTTP1(true)
	if a.client.proxy != nil {
		t.Proxy = http.ProxyURL(a.client.proxy)
	}
	return t
}

// connected judges a proxy's answer to CONNECT.
func connected(_ context.Context, _ *url.URL, _ *http.Request, answer *http.Response) error {
	if answer.StatusCode == http.StatusOK {
		return nil
	}
	return fault(Status, "does the proxy of crl.proxy permit it, without a password?", nil,
		"the proxy answered %s to CONNECT", status(answer))
}

// dial connects to a host that was permitted, or to the proxy.
func (a *attempt) dial(_ context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Resolver: a.client.resolver, KeepAlive: -1, ControlContext: a.control}
	if p := a.client.proxy; p != nil && address == p.Host {
		d.ControlContext = nil // the operator named it
	}
	conn, err := d.DialContext(a.live, network, address)
	if err != nil {
		a.mu.Lock()
		a.dialed = err
		a.mu.Unlock()
		return nil, err
	}
	a.mu.Lock()
	a.reached = true
	a.mu.Unlock()
	// Neither a handshake nor an answer that hangs holds it beyond Get.
	context.AfterFunc(a.live, func() { _ = conn.Close() })
	return conn, nil
}

// control is called by the dialer with each address that it is about to connect to.
func (a *attempt) control(_ context.Context, _, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("read address %q: %w", address, err)
	}
	f := a.client.reach(to)
	if f == nil {
		return nil // not f: it would be an error that is not nil
	}
	a.mu.Lock()
	a.refused = f
	a.mu.Unlock()
	return f
}

// traced returns ctx with what tells a failed TLS handshake from other failures.
func (a *attempt) traced(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		TLSHandshakeDone: func(_ tls.ConnectionState, err error) {
			a.mu.Lock()
			a.shaken = err
			a.mu.Unlock()
		},
	})
}

// failed says why there is no answer. over is the caller's context, which is asked
// before anything else: its end is seen as all kinds of errors.
func (a *attempt) failed(over context.Context, err error) *Error {
	a.mu.Lock()
	defer a.mu.Unlock()
	what := "no answer"
	if !a.reached {
		what = "no connection"
	}
	var f *Error
	switch {
	case over.Err() != nil:
		return broken(over, err, what)
	case a.refused != nil && a.dialed != nil: // also where other addresses of the host failed for other reasons
		return a.refused
	case errors.As(err, &f):
		return f
	case late(err):
		return broken(over, err, what)
	case a.dialed != nil && a.client.proxy != nil:
		return fault(Unreachable, "is the proxy of crl.proxy running, and does a firewall permit it?", err, "connect to the proxy: %s", told(a.dialed))
	case a.dialed != nil:
		return fault(Unreachable, "does DNS know the host, and is there a route? Where a proxy is needed, name it in crl.proxy", err, "%s", told(a.dialed))
	case a.shaken != nil:
		return fault(BadTLS, "is this the right host, and does this system trust its CA?", err, "%s", told(a.shaken))
	}
	return broken(over, err, what)
}

// late reports whether err is that of a deadline. The dialer may see the one of the
// context before the context does.
func late(err error) bool {
	var timed net.Error
	return errors.As(err, &timed) && timed.Timeout()
}
