package config

import (
	"net"
	"net/netip"
	"slices"
	"strings"
)

const peersHint = `name the peers that may connect; ["*"] would accept every certificate of the environment, which is any NHS endpoint, ` +
	"and must be written out if that is meant"

func (r *reading) tunnel(name string, raw *rawTunnel, all *rawConfig, c *Config) Tunnel {
	t := Tunnel{
		Name:          name,
		Direction:     raw.Direction.text,
		Slot:          raw.Slot.text,
		Revocation:    raw.Revocation.text,
		Pins:          r.pins(&raw.Pins),
		AcceptableCAs: r.acceptableCAs(&raw.AcceptableCAs),
		Audit:         raw.Policy.text == "audit",
		ProxyProtocol: raw.ProxyProtocol.text == "v2",
		AllowFrom:     r.allowFrom(&raw.AllowFrom),
		ServerName:    raw.ServerName.text,
		Timeouts:      Timeouts{raw.Timeouts.Handshake.value, raw.Timeouts.Dial.value, raw.Timeouts.Idle.value, raw.Timeouts.KeepAlive.value},
		Connections:   raw.Connections.value,
	}
	if !raw.Direction.set {
		r.fail(raw.Direction.place, "no direction is given", "write direction: inbound, or outbound")
	}
	r.known(raw.Slot, &all.Slots, "slot")
	t.Forward = r.forward(raw.Forward)
	t.Listen = r.listeners(&raw.Listen)
	t.AnyPeer, t.Peers = r.peers(&raw.Peers)
	t.AllowAllUsers, t.AllowUsers = r.allowUsers(&raw.AllowUsers)
	if t.Audit {
		r.warn(raw.Policy.place, "policy is audit: peers that would be refused are let in, and only logged and counted", "set it to enforce once nobody is refused who should come in")
	}
	environment := r.environmentOf(t.Slot, c)
	switch t.Revocation {
	case "", environment.Revocation:
		t.Revocation = environment.Revocation
	case "require":
		if environment.CRL.none() {
			r.warnNoCRLs(raw.Revocation.place)
		}
	default:
		r.warnRevocation(raw.Revocation)
	}
	t.TLS = r.tls(&raw.TLS, environment.Profile)
	if t.AnyPeer {
		r.warn(raw.Peers.place, `peers is ["*"]: every certificate of the environment is accepted`, "name the peers that may connect")
	}
	switch t.Direction {
	case Inbound:
		r.inbound(raw)
	case Outbound:
		r.outbound(raw, &t)
	}
	return t
}

// environmentOf returns the environment a slot is in, or an empty one when that could not be found out.
func (r *reading) environmentOf(slot string, c *Config) Environment {
	s, _ := c.Slot(slot)
	e, _ := c.Environment(s.Environment)
	return e
}

// inbound judges what is peculiar to inbound tunnels. SPINE.md, 2: without an allow-list of peers a listener must refuse
// to start, as the chain alone lets in every NHS endpoint certificate.
func (r *reading) inbound(raw *rawTunnel) {
	if len(raw.Peers.items) == 0 {
		r.fail(raw.Peers.place, "no peers are named", peersHint)
	}
	if raw.ServerName.text != "" {
		r.fail(raw.ServerName.place, "is only for outbound tunnels", "remove it")
	}
	if len(raw.AllowUsers.items) > 0 {
		r.fail(raw.AllowUsers.place, "is only for outbound tunnels", "remove it; allow_from limits who may connect to an inbound one")
	}
}

func (r *reading) outbound(raw *rawTunnel, t *Tunnel) {
	host, _, _ := net.SplitHostPort(t.Forward.Address)
	if _, address := ipAddress(host); address || t.Forward.Network == "unix" {
		host = "" // stands for no name
	}
	if len(raw.Peers.items) == 0 && t.Forward.Address != "" {
		switch {
		case host == "":
			r.fail(raw.Peers.place, "no peers are named, and forward is no host name", "name the peer: an address is no name a certificate could carry")
		case !validHost(host):
			r.fail(raw.Peers.place, "no peers are named, and no certificate could carry the host name of forward", "name the peer")
		default:
			t.Peers = []string{host}
		}
	}
	switch {
	case raw.ServerName.text != "":
		r.hostName(raw.ServerName, "a host name in lower case")
	case validHost(host):
		t.ServerName = host
	}
	if len(raw.AcceptableCAs.items) > 0 {
		r.fail(raw.AcceptableCAs.place, "is only for inbound tunnels", "remove it: the server says which CAs it accepts")
	}
	if t.ProxyProtocol {
		r.fail(raw.ProxyProtocol.place, "is only for inbound tunnels", "remove it: the header would go to the other organisation")
	}
	r.lending(raw, t)
}

// lending judges who may use the identity of an outbound tunnel: whoever can connect to its listeners.
func (r *reading) lending(raw *rawTunnel, t *Tunnel) {
	tcp := len(t.Listen) == 0 // reported already
	for i, l := range t.Listen {
		p := raw.Listen.items[i].place()
		if l.Network == "unix" {
			if l.Mode&0o002 != 0 && !t.AllowAllUsers {
				r.fail(p, "every local user may connect to the socket", `take the last digit of mode away, or write allow_users: ["*"] if that is meant`)
			}
			continue
		}
		tcp = true
		if l.Network == "systemd" {
			continue // what it is shows when systemd has opened it
		}
		address, err := netip.ParseAddrPort(l.Address)
		switch {
		case l.Address == "":
		case err != nil || !address.Addr().IsLoopback():
			r.fail(p, "an outbound tunnel listens on loopback only", "write 127.0.0.1, [::1] or unix:/path: whoever connects acts with this host's identity")
		case !t.AllowAllUsers && len(t.AllowUsers) == 0:
			r.fail(raw.AllowUsers.place, "a TCP listener lends the identity to every local user", `name the users who may connect: allow_users: [pcs]; write ["*"] if everyone is meant, or listen on unix:/path with a group`)
		}
	}
	if len(t.AllowUsers) > 0 && !tcp {
		r.fail(raw.AllowUsers.place, "has no effect: the tunnel has no TCP listener", "remove it: group and mode of a unix socket say who may connect")
	}
}

// allowUsers returns who may connect over TCP, or that everyone may.
func (r *reading) allowUsers(raw *list[text]) (everyone bool, users []string) {
	for _, user := range raw.items {
		switch {
		case user.text == "*" && len(raw.items) == 1:
			return true, nil
		case user.text == "*":
			r.fail(user.place, `"*" stands alone`, `it lets every local user in: write ["*"], or names`)
		case !userWords.MatchString(user.text) || !validID(user.text):
			r.fail(user.place, "must be the name or the uid of a user"+user.not(user.text), "")
		case slices.Contains(users, user.text):
			r.fail(user.place, "the user is listed twice", "remove one of the two")
		default:
			r.users = append(r.users, user)
		}
		users = append(users, user.text)
	}
	return false, users
}

// peers returns the names that are accepted, or that any is.
func (r *reading) peers(raw *list[text]) (anyone bool, names []string) {
	for _, peer := range raw.items {
		switch {
		case peer.text == "*" && len(raw.items) == 1:
			return true, nil
		case peer.text == "*":
			r.fail(peer.place, `"*" stands alone`, `it accepts every peer: write ["*"], or names`)
		case strings.Contains(peer.text, "*"):
			r.fail(peer.place, "wildcards are not accepted", "write each name out")
		case slices.Contains(names, peer.text):
			r.fail(peer.place, "the name is listed twice", "remove one of the two")
		default:
			if _, address := ipAddress(peer.text); address {
				r.fail(peer.place, "must be a host name, not an address", "peers are judged by the name in their certificate; allow_from limits addresses")
			}
			r.hostName(peer, "a host name in lower case")
		}
		names = append(names, peer.text)
	}
	return false, names
}

func (r *reading) pins(raw *list[text]) []string {
	var pins []string
	for _, pin := range raw.items {
		digest, ok := fingerprint(pin.text)
		if !ok {
			r.fail(pin.place, "must be a SHA-256 in hex, 64 digits", "openssl x509 -in peer.pem -noout -pubkey | openssl pkey -pubin -outform der | sha256sum")
		}
		pins = append(pins, digest)
	}
	return pins
}

func (r *reading) allowFrom(raw *list[text]) []netip.Prefix {
	var prefixes []netip.Prefix
	for _, cidr := range raw.items {
		prefix, err := netip.ParsePrefix(cidr.text)
		switch {
		case err != nil:
			hint := "write 10.0.0.0/8, or 192.0.2.1/32 for one address"
			r.fail(cidr.place, "must be a CIDR"+cidr.not(cidr.text), hint)
		case prefix.Addr().Is4In6():
			r.fail(cidr.place, "must be a CIDR of IPv4 or IPv6, not of mapped addresses", "write 10.0.0.0/8, not ::ffff:10.0.0.0/104")
		case prefix.Masked() != prefix:
			r.fail(cidr.place, "the CIDR has bits behind its prefix", "write "+prefix.Masked().String())
		}
		prefixes = append(prefixes, prefix)
	}
	return prefixes
}
