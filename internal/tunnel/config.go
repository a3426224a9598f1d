package tunnel

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/spinecert/spinecert/internal/tunnel/peercred"
	"github.com/spinecert/spinecert/trust"
)

// Endpoint is where a tunnel's TLS comes from; a *rotate.Endpoint is one.
type Endpoint interface {
	// TLS returns the configuration of the next connection, ready made, or an
	// error while there is nothing to serve.
	TLS() (*tls.Config, error)
	// Accepted returns the verdict on the peer of a completed handshake. It is
	// called once per handshake, and may wait for the network until ctx ends. An
	// error ends the connection.
	Accepted(ctx context.Context, cs tls.ConnectionState) (trust.Verdict, error)
	// Review judges the peer of an open connection again. v is its last verdict; the
	// one that is returned takes its place. A *trust.VerifyError ends the connection.
	// Any other error ends it only if the settings had another Endpoint when the peer
	// was last judged. With undated, no date counts.
	Review(chain []*x509.Certificate, v trust.Verdict, now time.Time, undated bool) (trust.Verdict, error)
}

// Direction says on which side of a tunnel TLS is.
type Direction string

// The directions.
const (
	Inbound  Direction = "inbound"  // TLS is accepted, plain is dialled
	Outbound Direction = "outbound" // plain is accepted, TLS is dialled
)

// Listen is one address a tunnel accepts connections on.
type Listen struct {
	Network string      // "tcp" or "unix"
	Address string      // host:port, port 0 being any; or an absolute path
	Mode    fs.FileMode // of a unix socket; 0 is 0600
	Group   string      // of a unix socket, name or number; "" leaves it
	// File is a listening socket that the service manager holds (a systemd socket
	// unit), and stays the caller's. Closing it here would leave peers waiting with the
	// kernel, so that while the tunnel is not ready its connections are accepted and
	// closed. Address is then only its name.
	File *os.File
}

// Forward is where a tunnel's connections go.
type Forward struct {
	Network string // "tcp" or "unix"
	Address string // host:port or an absolute path
}

// Config describes a tunnel. Zero durations and numbers get the default that is
// named, and Idle none.
type Config struct {
	Direction     Direction
	Listen        []Listen
	Forward       Forward
	Endpoint      Endpoint
	ProxyProtocol bool // write a PROXY protocol v2 header to Forward; inbound only
	// Audit lets in whom Endpoint.Accepted refuses, and says so; Review cuts nobody.
	// It takes an Endpoint that lets such peers pass the handshake.
	Audit     bool
	AllowFrom []netip.Prefix // sources that may connect over TCP; empty is all
	// Users are those whose processes may connect over TCP, by uid. nil is
	// everyone, empty is nobody. Outbound only: a unix socket has its mode.
	Users       map[uint32]bool
	Handshake   time.Duration // from accept to the handshake's end; 10 s
	Dial        time.Duration // to Forward; 5 s
	Idle        time.Duration // without a byte either way; 0 is for ever
	KeepAlive   time.Duration // between TCP probes; 30 s; negative is off
	Connections int           // at once; 0 leaves it to the Gate
	ChainBytes  int           // of the peer's certificates; 64 KiB
}

const (
	defaultHandshake = 10 * time.Second
	defaultDial      = 5 * time.Second
	defaultKeepAlive = 30 * time.Second
	defaultChain     = 64 << 10
	// framing is what a handshake may hold beside the chain: hello, ticket, key
	// exchange, headers, and the application data that came with its end.
	framing = 32 << 10
)

// settings is a checked Config, immutable from then on.
type settings struct {
	Config
	listen []listen
	dialer net.Dialer
}

// listen is a checked Listen.
type listen struct {
	Listen
	key string // what an unchanged address keeps over a reload
	gid int    // -1 leaves it
	// lends says that whoever connects acts with the identity of this host.
	lends bool
}

// check returns the settings of c for the tunnel called name, or everything that
// is wrong with it.
func (c Config) check(name string) (*settings, error) {
	s := &settings{Config: c}
	var problems []error
	complain := func(format string, args ...any) {
		problems = append(problems, fmt.Errorf("configure tunnel %q: "+format, append([]any{name}, args...)...))
	}
	if c.Direction != Inbound && c.Direction != Outbound {
		complain("direction %q is neither inbound nor outbound", c.Direction)
	}
	if c.Endpoint == nil {
		complain("no endpoint")
	}
	if len(c.Listen) == 0 {
		complain("no address to listen on")
	}
	if err := checkAddress(c.Forward.Network, c.Forward.Address); err != nil {
		complain("forward: %w", err)
	}
	if c.ProxyProtocol && c.Direction == Outbound {
		complain("the PROXY protocol is for inbound tunnels")
	}
	if c.Users != nil && c.Direction == Inbound {
		complain("users are for outbound tunnels")
	}
	seen := make(map[string]bool)
	for i, l := range c.Listen {
		checked, err := l.check(name, i, c.Direction)
		if err != nil {
			complain("listen: %w", err)
			continue
		}
		if seen[checked.key] {
			complain("listen: %q is there twice", l.Address)
		}
		seen[checked.key] = true
		s.listen = append(s.listen, checked)
	}
	if len(problems) > 0 {
		return nil, errors.Join(problems...)
	}
	s.setDefaults()
	return s, nil
}

func (s *settings) setDefaults() {
	for _, d := range []struct {
		value   *time.Duration
		initial time.Duration
	}{{&s.Handshake, defaultHandshake}, {&s.Dial, defaultDial}, {&s.KeepAlive, defaultKeepAlive}} {
		if *d.value == 0 {
			*d.value = d.initial
		}
	}
	if s.ChainBytes <= 0 {
		s.ChainBytes = defaultChain
	}
	s.dialer = net.Dialer{Timeout: s.Dial, KeepAlive: -1}
	s.dialer.SetMultipathTCP(false)
}

// keepAlive is what to set on a connection's socket.
func (s *settings) keepAlive() net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: s.KeepAlive > 0, Idle: s.KeepAlive, Interval: s.KeepAlive, Count: 3}
}

// allows says whether a connection from addr may come in; the zero Addr is a
// unix socket, which its mode protects.
func (s *settings) allows(addr netip.Addr) bool {
	if len(s.AllowFrom) == 0 || !addr.IsValid() {
		return true
	}
	for _, p := range s.AllowFrom {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// permits returns why the process behind s may not use an outbound tunnel, or nil.
func (s *settings) permits(from stream) error {
	if s.Users == nil {
		return nil
	}
	switch c := from.(type) {
	case *net.UnixConn:
		return nil
	case *net.TCPConn:
		uid, err := peercred.User(c)
		if err != nil || s.Users[uid] {
			return err
		}
		return fmt.Errorf("the user with uid %d is not among allow_users", uid)
	default:
		return errors.New("nobody can say who connects")
	}
}

// check validates l, the index-th address of the tunnel called name.
func (l Listen) check(name string, index int, d Direction) (listen, error) {
	checked := listen{Listen: l, key: l.Network + " " + l.Address, gid: -1, lends: d == Outbound}
	if l.File != nil {
		info, err := l.File.Stat() // several sockets may have one name
		if err != nil {
			return listen{}, fmt.Errorf("look at socket %q: %w", l.Address, err)
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			checked.key = fmt.Sprintf("passed %s, %d", l.Address, stat.Ino)
		}
		return checked, nil
	}
	if err := checkAddress(l.Network, l.Address); err != nil {
		return listen{}, err
	}
	if l.Network == "tcp" {
		host, port, _ := net.SplitHostPort(l.Address) // checkAddress did
		if port == "0" {
			// Any port is a different one for each tunnel and each mention.
			checked.key = fmt.Sprintf("tcp %s of %s, %d", l.Address, name, index)
		}
		ip, err := netip.ParseAddr(host)
		if d == Outbound && host != "localhost" && (err != nil || !ip.IsLoopback()) {
			return listen{}, notLoopback(l.Address)
		}
		return checked, nil
	}
	if checked.Mode == 0 {
		checked.Mode = 0o600
	}
	if l.Group == "" {
		return checked, nil
	}
	gid, err := lookupGroup(l.Group)
	if err != nil {
		return listen{}, err
	}
	checked.gid = gid
	return checked, nil
}

func checkAddress(network, address string) error {
	switch network {
	case "tcp":
		if _, _, err := net.SplitHostPort(address); err != nil {
			return fmt.Errorf("parse address %q: %w", address, err)
		}
	case "unix":
		if !filepath.IsAbs(address) {
			return fmt.Errorf("unix socket %q is not an absolute path", address)
		}
	default:
		return fmt.Errorf("network %q of %q is neither tcp nor unix", network, address)
	}
	return nil
}

func lookupGroup(group string) (int, error) {
	if gid, err := strconv.Atoi(group); err == nil && gid >= 0 {
		return gid, nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return 0, fmt.Errorf("look up group %q: %w", group, err)
	}
	return strconv.Atoi(g.Gid)
}
