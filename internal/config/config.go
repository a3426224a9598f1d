package config

import (
	"crypto/x509"
	"io/fs"
	"log/slog"
	"net/netip"
	"slices"
	"time"
)

// Config is a checked configuration. All paths in it are absolute, and every value has its default filled in.
type Config struct {
	File               string // absolute path of the file it was read from
	DefaultEnvironment string // "" when there are several environments and every slot names its own
	Environments       []Environment
	Slots              []Slot // in the order of the file, like Environments, Tunnels and Services
	Tunnels            []Tunnel
	Services           []Service
	Alerts             Alerts
	Admin              Admin
	State              State
	ClockMaxStep       time.Duration // clock.max_step
	Limits             Limits
	Organisation       Organisation
	LogLevel           slog.Level
	LogFormat          string // "auto", "text" or "json"

	warnings     []Problem
	credentials  []Credential
	environments index[Environment]
	slots        index[Slot]
	services     index[Service]

	text []byte
}

// Text returns the file as Load read it, which must not be changed: for another process, whose files may be others by then.
func (c *Config) Text() []byte { return c.text }

// Environment returns the environment called name.
func (c *Config) Environment(name string) (Environment, bool) {
	return c.environments.find(c.Environments, name, func(e *Environment) string { return e.Name })
}

// Slot returns the slot called name.
func (c *Config) Slot(name string) (Slot, bool) {
	return c.slots.find(c.Slots, name, func(s *Slot) string { return s.Name })
}

// Service returns the service called name.
func (c *Config) Service(name string) (Service, bool) {
	return c.services.find(c.Services, name, func(s *Service) string { return s.Name })
}

// index finds rows by name. There may be 10,000 slots, and each is asked for by
// name in every status. The zero value finds them as well, one by one, and so does
// one of other rows: a Config need not be one that was loaded.
type index[T any] struct {
	rows []T
	at   map[string]int
}

func indexOf[T any](rows []T, name func(*T) string) index[T] {
	x := index[T]{rows: rows, at: make(map[string]int, len(rows))}
	for i := range rows {
		if _, ok := x.at[name(&rows[i])]; !ok { // the first counts, as in a search
			x.at[name(&rows[i])] = i
		}
	}
	return x
}

func (x index[T]) find(rows []T, wanted string, name func(*T) string) (row T, ok bool) {
	if len(rows) > 0 && len(x.rows) == len(rows) && &x.rows[0] == &rows[0] {
		if i, ok := x.at[wanted]; !ok || name(&rows[i]) == wanted {
			if ok {
				row = rows[i]
			}
			return row, ok
		}
	}
	i := slices.IndexFunc(rows, func(row T) bool { return name(&row) == wanted })
	if i >= 0 {
		row = rows[i]
	}
	return row, i >= 0
}

// makeIndex is for a Config whose environments and slots are complete.
func (c *Config) makeIndex() {
	c.environments = indexOf(c.Environments, func(e *Environment) string { return e.Name })
	c.slots = indexOf(c.Slots, func(s *Slot) string { return s.Name })
}

// Warnings returns what is no error and still deserves a line in the log at every start: each place where the
// configuration accepts more than the default would, or refuses everybody.
func (c *Config) Warnings() []Problem { return slices.Clone(c.warnings) }

// An Environment is a named trust configuration.
type Environment struct {
	Name          string
	Profile       string // "nhs-g1", "nhs-g2" or "private"
	NameFromCN    bool
	Trust         []string // paths, never empty
	AcceptableCAs []string // lower-case hex SHA-256 or common names; nil is auto
	Revocation    string   // "require", "prefer" or "off"
	CRL           CRL
	MinRSABits    int // minimum_key.rsa
	MinECBits     int // minimum_key.ec: of the curve
	// SignatureAlgorithms are those that certificates and CRLs may be signed with; nil is all that the program supports.
	SignatureAlgorithms []x509.SignatureAlgorithm
	RequireStaple       bool // ocsp: require
}

// CRL says where the CRLs of an environment come from, and how they are fetched.
type CRL struct {
	Files   []string // paths of files, or of directories of such files
	Grace   time.Duration
	MaxSize int64 // bytes
	Refresh time.Duration
	Timeout time.Duration
	Hosts   []string // see [fetch.CheckHost]; empty: none are fetched
	Proxy   string   // http://host:port or ""
}

// A Slot is a place on this host that holds one identity over time.
type Slot struct {
	Name              string
	Environment       string        // exists
	FQDN              string        // lower case; "" when not given, never for a managed slot
	Files             Files         // the zero value for a managed slot
	Managed           *Managed      // nil for a slot with files
	StrictPermissions bool          // key_permissions: strict
	Poll              time.Duration // watch.poll
	Settle            time.Duration // watch.settle
	Allow             []string      // guard.allow
	Affects           Affects
}

// Files names the source of an identity: Certificate, Key and perhaps Chain, or PKCS12 and perhaps PasswordFile. The
// others are "".
type Files struct {
	Certificate, Chain, Key string
	PKCS12, PasswordFile    string
}

// Managed says how the keys and requests of a managed slot are made.
type Managed struct {
	Key     string        // one of [pki.KeyKinds]
	Issuer  string        // "manual"
	Prepare time.Duration // before the end of the certificate; 0 is never
	SANs    []string      // lower case, each once; nil for none. They may include FQDN
}

// Affects says who depends on a slot.
type Affects struct {
	ODS   []string
	ASIDs []string
	Note  string
}

// The directions of a Tunnel.
const (
	Inbound  = "inbound"  // terminates TLS-MA
	Outbound = "outbound" // originates TLS-MA
)

// A Tunnel terminates or originates TLS-MA for a local service.
type Tunnel struct {
	Name          string
	Direction     string     // Inbound or Outbound
	Listen        []Listener // never empty
	Forward       Address
	Slot          string   // exists
	AnyPeer       bool     // peers: ["*"]
	Peers         []string // lower-case host names; empty only if AnyPeer
	Pins          []string // lower-case hex SHA-256 of the SPKI; nil for none
	Revocation    string   // "require", "prefer" or "off", the environment's if the tunnel names none
	AcceptableCAs []string // as in Environment; nil is the environment's
	TLS           TLS
	Audit         bool           // policy: audit
	ProxyProtocol bool           // version 2, towards Forward
	AllowFrom     []netip.Prefix // nil is everyone
	AllowAllUsers bool           // allow_users: ["*"]
	AllowUsers    []string       // user names or numeric uids whose processes may connect over TCP; outbound only
	ServerName    string         // for SNI; "" sends none
	Timeouts      Timeouts
	Connections   int
}

// An Address is where to listen or to connect: Network is "tcp" or "unix", Address is host:port or an absolute path, as
// net.Listen and net.Dial want them.
type Address struct {
	Network string
	Address string
}

// A Listener is where to listen: Network and Address are as in [Address], or "systemd" and the name that a socket unit gives
// its sockets (FileDescriptorName=). Group and Mode are for unix sockets, and Group "" keeps the daemon's own.
type Listener struct {
	Network string
	Address string
	Group   string
	Mode    fs.FileMode
}

// TLS holds versions and suites as crypto/tls numbers them.
type TLS struct {
	MinVersion, MaxVersion uint16
	CipherSuites           []uint16 // TLS 1.2; never empty
	Resumption             bool
}

// Timeouts of a connection.
type Timeouts struct {
	Handshake time.Duration
	Dial      time.Duration
	Idle      time.Duration // 0 is none
	KeepAlive time.Duration // 0 is none
}

// Admin says how the daemon is asked and watched.
type Admin struct {
	Socket  string   // path
	Group   string   // of the socket; "" keeps the daemon's own
	Writers []string // user names or numeric uids
	HTTP    string   // host:port, loopback where HTTPSlot is ""; "" is none
	// HTTPSlot and HTTPPeers make the pages TLS-MA: the identity they are served with, and the lower-case names of the peers who may look.
	// Both are set, or neither is.
	HTTPSlot  string
	HTTPPeers []string
}

// State says what the daemon writes.
type State struct {
	Directory       string
	KeepGenerations int
	AuditMax        int64 // bytes
}

// Limits of the whole daemon.
type Limits struct {
	Handshakes  int // 0 is 4 per CPU
	PerSource   int
	Connections int
	ChainBytes  int64
	Drain       time.Duration
}

// Organisation says who runs this host.
type Organisation struct {
	Name, Contact, ODS string
}
