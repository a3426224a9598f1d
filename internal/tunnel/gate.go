package tunnel

import (
	"net"
	"net/netip"
	"runtime"
	"sync"
)

// Limits bound what a daemon takes on. They are for all tunnels together.
type Limits struct {
	Handshakes  int // handshakes that compute at once; 0 is 4 per CPU
	PerSource   int // inbound connections of one source in handshake; 0 is 64
	Connections int // connections at once; 0 is 10000
}

const (
	perCPU             = 4
	defaultPerSource   = 64
	defaultConnections = 10000
	// waitingPerToken bounds the handshakes that wait for their first token. At
	// 1 to 2 ms of computing each and 4 tokens per CPU this is about a second
	// of work; what waits longer would time out at its peer anyway.
	waitingPerToken = 128
)

// Gate holds what the tunnels of a daemon share: the limits, the buffers and
// the listening sockets. Its methods may be called from several goroutines.
type Gate struct {
	tokens  tokens
	buffers buffers
	sockets sockets

	mu      sync.Mutex
	limits  Limits
	open    int
	sources map[netip.Addr]int
}

// NewGate returns a Gate with these limits.
func NewGate(l Limits) *Gate {
	g := &Gate{sources: make(map[netip.Addr]int)}
	g.sockets.byKey, g.sockets.inherited = make(map[string]*socket), make(map[string]Inherited)
	g.SetLimits(l)
	return g
}

// SetLimits changes the limits. Connections and handshakes that are over a
// lower limit are left alone; new ones wait or are refused.
func (g *Gate) SetLimits(l Limits) {
	if l.Handshakes <= 0 {
		l.Handshakes = perCPU * runtime.GOMAXPROCS(0)
	}
	if l.PerSource <= 0 {
		l.PerSource = defaultPerSource
	}
	if l.Connections <= 0 {
		l.Connections = defaultConnections
	}
	g.tokens.resize(l.Handshakes, l.Handshakes*waitingPerToken)
	g.mu.Lock()
	g.limits = l
	g.mu.Unlock()
}

// admit counts a new connection from source, which is the zero Addr if it is
// exempt from PerSource. It returns the limit that is reached, or "".
func (g *Gate) admit(source netip.Addr) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open >= g.limits.Connections {
		return LimitConnections
	}
	if source.IsValid() {
		if g.sources[source] >= g.limits.PerSource {
			return LimitPerSource
		}
		g.sources[source]++
	}
	g.open++
	return ""
}

// settle says that a connection from source is no longer in handshake.
func (g *Gate) settle(source netip.Addr) {
	if !source.IsValid() {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.sources[source]--; g.sources[source] <= 0 {
		delete(g.sources, source)
	}
}

// leave says that a connection has ended.
func (g *Gate) leave() {
	g.mu.Lock()
	g.open--
	g.mu.Unlock()
}

// addrOf returns the IP address behind a, the zero Addr for a unix socket.
func addrOf(a net.Addr) netip.Addr {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	return tcp.AddrPort().Addr().Unmap().WithZone("")
}

// sourceOf returns what PerSource counts for an address: an IPv4 address, or the
// /64 of an IPv6 address, because one host owns all of it.
func sourceOf(addr netip.Addr) netip.Addr {
	if !addr.Is6() {
		return addr
	}
	prefix, err := addr.Prefix(64)
	if err != nil {
		return addr
	}
	return prefix.Addr()
}
