package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"text/template"
	"time"
)

// Names of the cast. The last label pair follows SPINE.md, 3 and 4.
const (
	providerSlot = "provider"
	consumerSlot = "consumer"

	providerName = "provider.sandbox.thirdparty.nhs.uk"
	consumerName = "consumer.sandbox.thirdparty.nhs.uk"
	proxyName    = "proxy.sandbox.ncrs.nhs.uk"
)

// Names of the daemon's tunnels.
const (
	providerTunnel = "provider-in"
	consumerTunnel = "consumer-out"      // resumes sessions
	freshTunnel    = "consumer-out-full" // a full handshake each time
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
	for _, sub := range []string{"trust", "state"} {
		if err := os.Mkdir(filepath.Join(l.dir, sub), 0o700); err != nil {
			return nil, errors.Join(fmt.Errorf("create directory: %w", err), l.remove())
		}
	}
	return l, nil
}

// ownNames are the entries of a sandbox; nothing else is ever removed from a
// directory that the user named.
func ownNames() []string {
	return []string{"trust", "state", "slots", "spinecert.yaml", "admin.sock", "consumer.sock", "spinecertd.log", "sandbox.json"}
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

// crls are the files for the CRLs of a hierarchy, of the root and of the subCA.
func (l *layout) crls(profile string) []string {
	return []string{l.path("trust", profile+"-root.crl"), l.path("trust", profile+"-sub.crl")}
}

// writeCRLs writes the CRLs of an authority.
func (l *layout) writeCRLs(ctx context.Context, a *authority, now time.Time) error {
	root, sub, err := a.crls(ctx, now)
	if err != nil {
		return err
	}
	for i, content := range [][]byte{root, sub} {
		if err := os.WriteFile(l.crls(a.profile)[i], content, 0o644); err != nil {
			return fmt.Errorf("write crl: %w", err)
		}
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
    crl: {files: [{{range $i, $f := .CRLs}}{{if $i}}, {{end}}{{quote $f}}{{end}}]}
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
    peers: [{{quote .ProxyName}}]
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
admin:
  socket: {path: {{quote .AdminSocket}}{{with .Group}}, group: {{quote .}}{{end}}}
  writers: [{{quote .User}}]
state: {directory: {{quote .State}}}
limits: {drain: 3s}
log: {level: info, format: text}
`

type configSlot struct{ Name, FQDN, Certificate, Key string }

type configValues struct {
	Profile, Bundle                               string
	CRLs                                          []string
	Slots                                         []configSlot
	Provider, Proxy, ProxyName                    string
	TunnelSocket, AdminSocket, State, User, Group string
}

// writeConfig writes the daemon's configuration, with the CRLs of these hierarchies.
// provider and proxy are the addresses of the provider and of the stand-in's
// consumer leg.
func (l *layout) writeConfig(profile string, hierarchies []string, places map[string]*place, provider, proxy string) error {
	name, group, err := whoAmI()
	if err != nil {
		return err
	}
	values := configValues{
		Profile: "nhs-" + profile, Bundle: l.bundle(),
		Provider: provider, Proxy: proxy, ProxyName: proxyName,
		TunnelSocket: l.tunnelSocket(), AdminSocket: l.adminSocket(), State: l.path("state"), User: name, Group: group,
	}
	for _, h := range hierarchies {
		values.CRLs = append(values.CRLs, l.crls(h)...)
	}
	for _, s := range []struct{ slot, fqdn string }{{providerSlot, providerName}, {consumerSlot, consumerName}} {
		p := places[s.slot]
		values.Slots = append(values.Slots, configSlot{s.slot, s.fqdn, p.certificate(), p.key()})
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
	DaemonPID int               `json:"daemon_pid"`
	Names     map[string]string `json:"names"`     // provider, consumer, proxy
	Listeners map[string]string `json:"listeners"` // tunnels, provider and proxy
	Files     map[string]string `json:"files"`     // certificate of each slot
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
func (l *layout) commands(program, inbound, outbound string, places map[string]*place) []string {
	q := shellQuote
	return []string{
		fmt.Sprintf("%s status --socket %s", q(program), q(l.adminSocket())),
		fmt.Sprintf("%s inspect %s", q(program), q(places[providerSlot].certificate())),
		fmt.Sprintf("%s verify --trust %s --name %s %s", q(program), q(l.bundle()), providerName, inbound),
		fmt.Sprintf("%s rotate %s --socket %s", q(program), providerSlot, q(l.adminSocket())),
		fmt.Sprintf("curl -s -d hello -H 'Host: %s' http://%s/", providerName, outbound),
	}
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
