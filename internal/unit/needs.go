package unit

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/order"
)

// What the shipped unit is, and has.
const (
	// Name is the unit of the daemon.
	Name = "spinecertd.service"
	// User is the user and the group that it runs as.
	User = "spinecert"

	configFile       = "/etc/spinecert/spinecert.yaml"
	stateDirectory   = "/var/lib/spinecert"
	runtimeDirectory = "/run/spinecert"
	stopLimit        = 45 * time.Second
	stopMargin       = 15 * time.Second // after limits.drain
	openFiles        = 65536
	spareFiles       = 4096 // descriptors that are no connections
	firstFreePort    = 1024
)

// Needs is what a configuration needs beyond the shipped unit, each list sorted and without repetitions.
type Needs struct {
	Write        []string      // directories that the daemon writes into
	Execute      []string      // directories of what sinks run, and of the libraries that it is made of
	Groups       []string      // that it hands files and sockets over to
	Capabilities []string      // CAP_CHOWN, CAP_KILL
	SeeProcesses bool          // ProtectProc=default
	Netlink      bool          // AF_NETLINK, for allow_users
	Stop         time.Duration // TimeoutStopSec=; 0: what is shipped is enough
	Files        int           // LimitNOFILE=; 0: what is shipped is enough
	Credentials  []config.Credential
	Sockets      []Socket
	Grants       []Grant
	Notes        []string // what nobody but the operator can settle

	host  Host
	state string // the state directory
}

// A Socket is a socket unit that the daemon takes its listeners from.
type Socket struct {
	Name    string   // of the file descriptor: listen: systemd:NAME
	Tunnels []string // that listen on it
	// Streams are the addresses, where they are known: of low ports, for which a socket unit is proposed. nil: only the operator knows.
	Streams  []string
	Listen   string // of a proposal: what listen: is to be
	FreeBind bool   // an address may not be there yet when the host starts
	Unit     string // of the socket
}

// A Grant is a unit that the daemon manages, and how.
type Grant struct {
	Unit  string
	Verbs []string // as polkit knows them: reload, restart, try-restart, start, stop
}

// Of returns what a configuration needs.
func Of(c *config.Config, h Host) Needs {
	n := Needs{Credentials: c.Credentials(), host: h, state: c.State.Directory}
	n.group(c.Admin.Group)
	n.socketFile("the admin socket", c.Admin.Socket)
	if !config.Within(c.State.Directory, stateDirectory) {
		n.write("the state directory", c.State.Directory)
	}
	for _, s := range c.Services {
		n.service(s)
	}
	for _, t := range c.Tunnels {
		n.tunnel(t)
	}
	if drain := c.Limits.Drain + stopMargin; drain > stopLimit {
		n.Stop = drain
	}
	if files := 2*c.Limits.Connections + spareFiles; files > openFiles {
		n.Files = files
	}
	n.alerts(c.Alerts)
	if n.low(c.Admin.HTTP) {
		n.note("admin.http listens on a port below %d, which needs root: take one above", cmp.Or(n.host.FirstPort, firstFreePort))
	}
	n.hidden(c)
	n.lists()
	return n
}

// Nothing reports whether the shipped unit is enough.
func (n Needs) Nothing() bool {
	return !n.dropIn() && len(n.Sockets) == 0 && len(n.Grants) == 0
}

// dropIn reports whether the unit of the daemon needs one.
func (n Needs) dropIn() bool {
	return len(n.Write)+len(n.Execute)+len(n.Groups)+len(n.Capabilities)+len(n.Credentials)+len(n.Sockets) > 0 || n.SeeProcesses || n.Netlink || n.Stop > 0 || n.Files > 0
}

func (n *Needs) lists() {
	for _, list := range []*[]string{&n.Groups, &n.Capabilities, &n.Execute} {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	slices.Sort(n.Write)
	all := n.Write
	n.Write = slices.DeleteFunc(slices.Compact(slices.Clone(all)), func(dir string) bool {
		return slices.ContainsFunc(all, func(above string) bool { return dir != above && config.Within(dir, above) })
	})
	for i := range n.Sockets {
		n.Sockets[i].Unit = n.host.socketUnit(n.Sockets[i].Name)
	}
	order.Sort(n.Sockets, func(a, b Socket) int { return cmp.Compare(a.Name, b.Name) })
	order.Sort(n.Grants, func(a, b Grant) int { return cmp.Compare(a.Unit, b.Unit) })
}

func (n *Needs) group(name string) {
	if name != "" && name != User {
		n.Groups = append(n.Groups, name)
	}
}

func (n *Needs) grant(unit string, verbs ...string) {
	i := slices.IndexFunc(n.Grants, func(g Grant) bool { return g.Unit == unit })
	if i < 0 {
		i, n.Grants = len(n.Grants), append(n.Grants, Grant{Unit: unit})
	}
	for _, verb := range verbs {
		if !slices.Contains(n.Grants[i].Verbs, verb) {
			n.Grants[i].Verbs = append(n.Grants[i].Verbs, verb)
		}
	}
}

func (n *Needs) service(s config.Service) {
	n.write("what is delivered to service "+s.Name, s.Directory)
	for _, f := range s.Files {
		n.group(f.Group)
		if f.Owner != "" && f.Owner != User {
			n.Capabilities = append(n.Capabilities, "CAP_CHOWN")
		}
	}
	if s.Validate.Unit != "" {
		n.grant(s.Validate.Unit, "restart", "stop") // run anew each time, and stopped when its time is over
	}
	r := s.Reload
	if r.Unit != "" {
		n.grant(r.Unit, r.Action, "start") // start: one that ended over a new certificate, with the old one
	}
	if r.Signal != "" {
		n.Capabilities = append(n.Capabilities, "CAP_KILL")
		if uid, ok := n.owner(r.PIDFile); !ok || uid != 0 {
			n.SeeProcesses = true
		}
	}
	if r.Socket != "" {
		n.note("service %s: the daemon connects to %q: name a group in the line stats socket of HAProxy, and here in SupplementaryGroups=", s.Name, r.Socket)
	}
	for _, step := range []struct {
		name string
		exec []string
	}{{"validate", s.Validate.Exec}, {"reload", r.Exec}, {"probe", s.ProbeExec.Exec}} {
		if len(step.exec) > 0 {
			n.grant("spinecert-hook@"+s.Name+":"+step.name+".service", "restart", "stop") // restart: one that is left from before is ended first
		}
	}
}

func (n *Needs) owner(path string) (int, bool) {
	if n.host.Owner == nil {
		return 0, false
	}
	return n.host.Owner(path)
}

func (n *Needs) tunnel(t config.Tunnel) {
	low, rest := Socket{Name: t.Name, Tunnels: []string{t.Name}}, []string(nil)
	for _, l := range t.Listen {
		switch l.Network {
		case "systemd":
			n.named(l.Address, t)
			rest = append(rest, script("systemd:"+l.Address))
		case "unix":
			n.group(l.Group)
			n.socketFile("the socket of tunnel "+t.Name, l.Address)
			rest = append(rest, unixListener(l))
		default:
			if !n.low(l.Address) {
				rest = append(rest, script(l.Address))
				break
			}
			stream, there := stream(l.Address)
			low.Streams, low.FreeBind = append(low.Streams, stream), low.FreeBind || !there
		}
	}
	if slices.ContainsFunc(n.Sockets, func(s Socket) bool { return s.Name == low.Name }) {
		low.Name += "-low"
	}
	if len(low.Streams) > 0 {
		low.Listen = "[" + strings.Join(append([]string{script("systemd:" + low.Name)}, rest...), ", ") + "]"
		n.Sockets = append(n.Sockets, low)
	}
	if len(t.AllowUsers) > 0 {
		n.Netlink = true
	}
}

// unixListener writes a unix socket as the configuration has it.
func unixListener(l config.Listener) string {
	if l.Group == "" && l.Mode == 0o660 {
		return script("unix:" + l.Address)
	}
	return fmt.Sprintf("{unix: %s, group: %s, mode: \"%04o\"}", script(l.Address), script(l.Group), l.Mode)
}

// named is a socket whose address stands in its unit alone.
func (n *Needs) named(name string, t config.Tunnel) {
	for i := range n.Sockets {
		if s := &n.Sockets[i]; s.Name == name && s.Streams == nil {
			if !slices.Contains(s.Tunnels, t.Name) {
				s.Tunnels = append(s.Tunnels, t.Name)
			}
			return
		}
	}
	n.Sockets = append(n.Sockets, Socket{Name: name, Tunnels: []string{t.Name}})
}

// low reports whether only root may bind a port.
func (n *Needs) low(address string) bool {
	_, port, _ := net.SplitHostPort(address)
	number, err := strconv.Atoi(port)
	return err == nil && number > 0 && number < cmp.Or(n.host.FirstPort, firstFreePort)
}

// stream returns an address for ListenStream=, and reports whether the host has it before its network is up.
func stream(address string) (string, bool) {
	host, port, _ := net.SplitHostPort(address)
	if host == "" {
		return port, true // [::]:port, as the daemon listens itself
	}
	ip, err := netip.ParseAddr(host)
	return address, err == nil && (ip.IsUnspecified() || ip.IsLoopback())
}
