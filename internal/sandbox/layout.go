package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"text/template"
)

// Names of the cast. The last label pair follows SPINE.md, 3 and 4.
const (
	providerSlot = "provider"
	consumerSlot = "consumer"

	providerName = "provider.sandbox.thirdparty.nhs.uk"
	consumerName = "consumer.sandbox.thirdparty.nhs.uk"
	proxyName    = "proxy.sandbox.ncrs.nhs.uk"
	farName      = "far.sandbox.ncrs.nhs.uk"
)

// peerName is the name of a client that may be revoked, from 1.
func peerName(n int) string { return fmt.Sprintf("peer-%d.sandbox.ncrs.nhs.uk", n) }

// Names of the daemon's tunnels.
const (
	providerTunnel = "provider-in"
	consumerTunnel = "consumer-out"      // resumes sessions
	freshTunnel    = "consumer-out-full" // a full handshake each time
	farTunnel      = "far-out"           // to a server that may be revoked
)

// layout is where everything of a sandbox lies.
type layout struct {
	dir       string
	temporary bool // made by us, removed at the end
}

// maxSocketPath is the room in sockaddr_un on Linux, less the closing zero.
const maxSocketPath = 107

// newLayout makes the directory (0700) and its subdirectories. dir "" means a
// temporary one. A dir that exists must be empty or hold an earlier sandbox.
func newLayout(dir string) (*layout, error) {
	l := &layout{dir: dir, temporary: dir == ""}
	var err error
	if l.temporary {
		l.dir, err = os.MkdirTemp("", "spinecert-sandbox-")
	} else {
		l.dir, err = prepareDir(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("create directory %q: %w", dir, err)
	}
	if len(l.tunnelSocket()) > maxSocketPath {
		return nil, errors.Join(l.remove(), usageError{
			message: fmt.Sprintf("directory %q: path too long for a unix socket", l.dir),
			hint:    "choose a shorter --dir",
		})
	}
	for _, sub := range []string{"trust", "state", "revoke"} {
		if err := os.Mkdir(filepath.Join(l.dir, sub), 0o700); err != nil {
			return nil, errors.Join(fmt.Errorf("create directory: %w", err), l.remove())
		}
	}
	return l, nil
}

// ownNames are the entries of a sandbox; nothing else is ever removed from a
// directory that the user named.
func ownNames() []string {
	return []string{"trust", "state", "slots", "spinecert.yaml", "admin.sock", "consumer.sock", "spinecertd.log", "sandbox.json", "revoke", "services", "haproxy.sock"}
}

// prepareDir makes dir, or takes over an empty one or one of an earlier sandbox.
func prepareDir(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	if len(entries) > 0 {
		if _, err := os.Stat(filepath.Join(dir, "sandbox.json")); err != nil {
			return "", usageError{message: "it is not empty and holds no sandbox", hint: "name an empty or a new directory"}
		}
		for _, name := range ownNames() {
			if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
				return "", err
			}
		}
	}
	return dir, os.Chmod(dir, 0o700)
}

func (l *layout) path(parts ...string) string {
	return filepath.Join(append([]string{l.dir}, parts...)...)
}
func (l *layout) config() string       { return l.path("spinecert.yaml") }
func (l *layout) bundle() string       { return l.path("trust", "sandbox.pem") }
func (l *layout) adminSocket() string  { return l.path("admin.sock") }
func (l *layout) tunnelSocket() string { return l.path("consumer.sock") }
func (l *layout) daemonLog() string    { return l.path("spinecertd.log") }
func (l *layout) facts() string        { return l.path("sandbox.json") }
func (l *layout) revoke() string       { return l.path("revoke") }
func (l *layout) service(name string) string {
	return l.path("services", name)
}

// haproxySocket lies beside the other sockets: there is less room for its path.
func (l *layout) haproxySocket() string { return l.path("haproxy.sock") }
func (l *layout) slot(slot string) string {
	return l.path("slots", slot)
}

// remove deletes a temporary directory; one that the user named stays.
func (l *layout) remove() error {
	if !l.temporary {
		return nil
	}
	return os.RemoveAll(l.dir)
}

// writeBundle puts the CAs of an authority in place of the trust file.
func (l *layout) writeBundle(a *authority) error {
	staged := l.bundle() + ".new"
	err := os.WriteFile(staged, a.bundlePEM(), 0o644)
	if err == nil {
		err = os.Rename(staged, l.bundle())
	}
	if err != nil {
		return fmt.Errorf("write trust: %w", err)
	}
	return nil
}

// daemonConfig is the configuration of the sandbox; CONTRACT.md, section 4. The
// kernel chooses the ports, and status tells them.
const daemonConfig = `# Written by spinecert sandbox. Copy what is useful.
default_environment: sandbox
environments:
  sandbox:
    profile: {{quote .Profile}}
    trust: [{{quote .Bundle}}]
    revocation: require
    crl: {hosts: [{{quote .CRLHost}}], refresh: 1s}
slots:
{{- range .Slots}}
  {{.Name}}:
    fqdn: {{quote .FQDN}}
    files: {certificate: {{quote .Certificate}}, key: {{quote .Key}}}
{{- end}}
tunnels:
  provider-in:
    direction: inbound
    listen: ["127.0.0.1:0"]
    forward: {{quote .Provider}}
    slot: provider
    peers: [{{quote .ProxyName}}{{range .Peers}}, {{quote .}}{{end}}]
  consumer-out:
    direction: outbound
    listen: ["127.0.0.1:0", {unix: {{quote .TunnelSocket}}{{with .Group}}, group: {{quote .}}{{end}}, mode: "0660"}]
    allow_users: ["*"]
    forward: {{quote .Proxy}}
    slot: consumer
    peers: [{{quote .ProxyName}}]
    server_name: {{quote .ProxyName}}
  consumer-out-full:
    direction: outbound
    listen: ["127.0.0.1:0"]
    allow_users: ["*"]
    forward: {{quote .Proxy}}
    slot: consumer
    peers: [{{quote .ProxyName}}]
    server_name: {{quote .ProxyName}}
    tls: {resumption: false}
  far-out:
    direction: outbound
    listen: ["127.0.0.1:0"]
    allow_users: ["*"]
    forward: {{quote .Far}}
    slot: consumer
    peers: [{{quote .FarName}}]
    server_name: {{quote .FarName}}
{{- with .Services}}
services:
{{- range .}}
  {{.Name}}:
    slot: service
    deliver:
      directory: {{quote .Directory}}
      files:
{{- range .Files}}
        - {{.}}
{{- end}}
    validate: {exec: [{{range $i, $word := .Validate}}{{if $i}}, {{end}}{{quote $word}}{{end}}]}
    reload: {{.Reload}}
    probe: {address: {{quote .Address}}, server_name: {{quote .Host}}, protocol: tls, stable: 3, within: 20s}
{{- if .Keep}}
    on_failure: keep
{{- end}}
{{- end}}
{{- end}}
admin:
  socket: {path: {{quote .AdminSocket}}{{with .Group}}, group: {{quote .}}{{end}}}
  writers: [{{quote .User}}]
  http: {listen: "127.0.0.1:0"}
state: {directory: {{quote .State}}}
limits: {drain: 3s}
log: {level: info, format: text}
`

type configSlot struct{ Name, FQDN, Certificate, Key string }

// configService is a service; what is no path is YAML.
type configService struct {
	Name, Directory, Reload, Address, Host string
	Files, Validate                        []string
	Keep                                   bool
}

type configValues struct {
	Profile, Bundle, CRLHost                      string
	Slots                                         []configSlot
	Services                                      []configService
	Peers                                         []string
	Provider, Proxy, ProxyName, Far, FarName      string
	TunnelSocket, AdminSocket, State, User, Group string
}

// parties are those that the tunnels lead to, and who may come.
type parties struct {
	provider, proxy, far, crl string   // addresses; proxy is the stand-in's consumer leg
	peers                     []string // names of the clients that the inbound tunnel lets in beside the stand-in
	services                  []configService
}

// writeConfig writes the daemon's configuration.
func (l *layout) writeConfig(profile string, places map[string]*place, who parties) error {
	name, group, err := whoAmI()
	if err != nil {
		return err
	}
	values := configValues{
		Profile: "nhs-" + profile, Bundle: l.bundle(), CRLHost: who.crl, Peers: who.peers, Services: who.services,
		Provider: who.provider, Proxy: who.proxy, ProxyName: proxyName, Far: who.far, FarName: farName,
		TunnelSocket: l.tunnelSocket(), AdminSocket: l.adminSocket(), State: l.path("state"), User: name, Group: group,
	}
	for _, slot := range []string{providerSlot, consumerSlot, serviceSlot} {
		if p := places[slot]; p != nil {
			values.Slots = append(values.Slots, configSlot{slot, slotName(slot), p.certificate(), p.key()})
		}
	}
	// A JSON string is a YAML flow scalar.
	quote := func(s string) (string, error) {
		text, err := json.Marshal(s)
		return string(text), err
	}
	t, err := template.New("config").Funcs(template.FuncMap{"quote": quote}).Parse(daemonConfig)
	if err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, values); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	if err := os.WriteFile(l.config(), out.Bytes(), 0o600); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return nil
}

// whoAmI names the user, and the primary group if it has a name.
func whoAmI() (name, group string, err error) {
	u, err := user.Current()
	if err != nil {
		return "", "", fmt.Errorf("look up user: %w", err)
	}
	if g, err := user.LookupGroupId(u.Gid); err == nil {
		group = g.Name
	}
	return u.Username, group, nil
}

// facts is DIR/sandbox.json: what is where, for programs.
type facts struct {
	Directory string            `json:"directory"`
	Profile   string            `json:"profile"`
	Config    string            `json:"config"`
	Socket    string            `json:"socket"`
	Trust     string            `json:"trust"`
	Log       string            `json:"log"`
	Page      string            `json:"page"` // the daemon's status page
	DaemonPID int               `json:"daemon_pid"`
	Names     map[string]string `json:"names"`     // provider, consumer, proxy
	Listeners map[string]string `json:"listeners"` // tunnels, provider and proxy
	Files     map[string]string `json:"files"`     // certificate of each slot
	CRLs      []string          `json:"crls"`      // addresses
	Peers     []string          `json:"peers"`     // that may be revoked, as files in Revoke name them
	Services  map[string]string `json:"services"`  // addresses
	Revoke    string            `json:"revoke"`    // a file here with the name of a peer revokes it while it is there
	Commands  []string          `json:"commands"`  // to try
}

func (l *layout) writeFacts(f facts) error {
	text, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return fmt.Errorf("write facts: %w", err)
	}
	if err := os.WriteFile(l.facts(), append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("write facts: %w", err)
	}
	return nil
}

// commands to try, with the program as it was called. The name is given because
// the address is not the one that the certificate is for.
func (l *layout) commands(program, inbound, outbound, peer string, places map[string]*place) []string {
	q := shellQuote
	commands := []string{
		fmt.Sprintf("%s status --socket %s", q(program), q(l.adminSocket())),
		fmt.Sprintf("%s inspect %s", q(program), q(places[providerSlot].certificate())),
		fmt.Sprintf("%s verify --trust %s --name %s %s", q(program), q(l.bundle()), providerName, inbound),
		fmt.Sprintf("%s rotate %s --socket %s", q(program), providerSlot, q(l.adminSocket())),
		fmt.Sprintf("curl -s -d hello -H 'Host: %s' http://%s/", providerName, outbound),
	}
	if peer != "" {
		commands = append(commands, fmt.Sprintf("touch %s", q(filepath.Join(l.revoke(), peer))))
	}
	return commands
}

func shellQuote(s string) string {
	safe := func(r rune) bool {
		return strings.ContainsRune("/._-+:@,=%", r) || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !safe(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
