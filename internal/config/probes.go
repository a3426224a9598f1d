package config

import (
	"net"
	"slices"
	"strings"
)

const probeHint = "write probe: {address: 127.0.0.1:443}, with protocol: postgres, ldap or smtp where TLS begins later, or {exec: [/path, ARGUMENT]}, " +
	"or the word none, which must be written out, where nothing can be asked"

// probes reads what proves a delivery.
func (r *reading) probes(name string, raw *rawService, s *Service) {
	p := &raw.Probe
	switch {
	case !p.set:
		r.fail(p.place, "nothing says how the service is seen to have new files", probeHint)
		return
	case p.listed && len(p.items) == 0:
		r.fail(p.place, "the list is empty", probeHint)
		return
	case len(p.items) == 0:
		r.warn(p.place, "probe is none: nothing proves that "+name+" serves what was delivered", "name an address at which it can be asked, or a command: probe: {exec: [/path]}")
		return
	case !p.listed && p.items[0].Exec.set:
		s.ProbeExec, s.Within = r.probeCommand(&p.items[0]), p.items[0].Within.value
		return
	}
	for i := range p.items {
		item := &p.items[i]
		if item.Exec.set {
			r.fail(item.Exec.place, "a command stands alone", "write probe: {exec: [/path, ARGUMENT]}, not a list")
			continue
		}
		probe := r.probe(item)
		if probe.Address != "" && slices.ContainsFunc(s.Probes, func(q Probe) bool {
			return q.Address == probe.Address && q.ServerName == probe.ServerName && q.Protocol == probe.Protocol
		}) {
			r.fail(item.Address.place, "the same handshake is listed twice", "remove one of the two, or name another server_name")
		}
		s.Probes = append(s.Probes, probe)
		s.Within = max(s.Within, probe.Within)
	}
}

// probeCommand returns a command that proves a delivery. What describes a handshake is refused beside it.
func (r *reading) probeCommand(raw *rawProbe) Command {
	for _, other := range []scalar{raw.Address.scalar, raw.ServerName.scalar, raw.Protocol.scalar, raw.Stable.scalar} {
		if other.set {
			r.fail(other.place, "is only for a handshake, not for exec", "remove it, or exec")
		}
	}
	return Command{Exec: r.command(&raw.Exec, commandExample), Timeout: raw.Within.value}
}

// probe returns a handshake.
func (r *reading) probe(raw *rawProbe) Probe {
	probe := Probe{ServerName: raw.ServerName.text, Protocol: raw.Protocol.text, Stable: raw.Stable.value, Within: raw.Within.value}
	if raw.ServerName.text != "" {
		r.hostName(raw.ServerName, "a host name in lower case")
	}
	if raw.Address.text == "" {
		r.fail(raw.Address.place, "no address is named", "write address: 127.0.0.1:443, or unix:/path")
		return probe
	}
	a := r.dialled(raw.Address)
	probe.Address = a.Address
	if a.Network != "unix" || a.Address == "" {
		return probe
	}
	probe.Address = "unix:" + a.Address
	if probe.Protocol == ProbeSMTP {
		r.fail(raw.Address.place, "must be HOST:PORT for smtp", "write for example 127.0.0.1:25")
	}
	return probe
}

// foreignProbes reports probes that would ask the daemon in place of the service: its tunnels serve what a slot has at
// once, and prove nothing.
func (r *reading) foreignProbes(raw *rawConfig, c *Config) {
	tunnels := map[string][]claim{} // by port or path
	for _, t := range c.Tunnels {
		for _, l := range t.Listen {
			if a := (Address{l.Network, l.Address}); a.Address != "" {
				tunnels[a.key()] = append(tunnels[a.key()], claim{address: a, owner: t.Name})
			}
		}
	}
	for i := range raw.Services.rows {
		items := raw.Services.rows[i].value.Probe.items
		if len(items) != len(c.Services[i].Probes) { // a command, or reported already
			continue
		}
		for j, p := range c.Services[i].Probes {
			r.foreignProbe(items[j].Address.place, probed(p), tunnels)
		}
	}
}

const foreignHint = "write the address at which the service itself listens"

// foreignProbe judges one address. Names are not looked up: of one that is not localhost only the port is known.
func (r *reading) foreignProbe(p place, asked []Address, tunnels map[string][]claim) {
	if len(asked) == 0 {
		return
	}
	for _, t := range tunnels[asked[0].key()] {
		if slices.ContainsFunc(asked, t.address.overlaps) {
			r.fail(p, "the address is that of tunnel "+t.owner+": spinecert would ask itself", foreignHint)
			return
		}
		if asked[0].Network == "tcp" && !bound(asked[0]).IsValid() {
			r.warn(p, "tunnel "+t.owner+" listens on the same port: if the name leads to it, spinecert asks itself", foreignHint)
			return
		}
	}
}

// probed returns where a handshake may end up: localhost is two addresses.
func probed(p Probe) []Address {
	if path, ok := strings.CutPrefix(p.Address, "unix:"); ok {
		return []Address{{"unix", path}}
	}
	host, port, err := net.SplitHostPort(p.Address)
	if err != nil { // reported already
		return nil
	}
	if host = strings.TrimSuffix(host, "."); host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return []Address{{"tcp", "127.0.0.1:" + port}, {"tcp", "[::1]:" + port}}
	}
	return []Address{{"tcp", p.Address}}
}

// key is what two addresses share that overlap: the port, the path, or the name of systemd's socket.
func (a Address) key() string {
	if a.Network == "systemd" && a.Address != "" {
		return "systemd:" + a.Address
	}
	if a.Network == "tcp" {
		_, port, _ := net.SplitHostPort(a.Address)
		return port
	}
	return a.Address
}
