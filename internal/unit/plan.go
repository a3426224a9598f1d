package unit

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/spinecert/spinecert/rotate"
)

// Where the files go.
const (
	// DropIn is the drop-in of the unit of the daemon.
	DropIn = "/etc/systemd/system/spinecertd.service.d/50-spinecert.conf"
	// Rules is the rule of polkit.
	Rules = "/etc/polkit-1/rules.d/50-spinecert.rules"

	units             = "/etc/systemd/system/"
	credentialSources = "/etc/spinecert/credentials"
)

// Unknown begins the line of a socket unit that only the operator can write.
const Unknown = "# FILL IN"

// A File is to be copied to its path. Its first line is a comment with the path.
type File struct {
	Path    string `json:"path"`
	Mode    string `json:"mode"` // octal
	Content string `json:"content"`
}

// A Plan is what to do on a host.
type Plan struct {
	Files    []File   `json:"files"`
	Commands []string `json:"commands"` // in order, as root; those before the first that begins with systemctl are for before the files are copied
	Notes    []string `json:"notes"`
}

// Plan returns the files, and what to do with them. None of its lists is nil.
func (n Needs) Plan() Plan {
	p := Plan{Files: []File{}, Commands: n.before(), Notes: append([]string{}, n.Notes...)}
	if n.dropIn() {
		p.Files = append(p.Files, File{DropIn, "0644", n.dropInText()})
	}
	for _, s := range n.Sockets {
		there := n.host.unitFile(s.Unit) != ""
		if !there {
			p.Files = append(p.Files, File{units + s.Unit, "0644", s.text()})
		}
		switch {
		case s.Streams == nil && there:
			p.Notes = append(p.Notes, fmt.Sprintf("%s is there, with the address that you gave it: it is not printed", s.Unit))
		case s.Streams == nil:
			p.Notes = append(p.Notes, fmt.Sprintf("the address of systemd:%s stands in no configuration: write it into %s", s.Name, s.Unit))
		default:
			p.Notes = append(p.Notes, fmt.Sprintf("a port below %d needs root, or a socket unit: in tunnels.%s write listen: %s", cmp.Or(n.host.FirstPort, firstFreePort), s.Tunnels[0], s.Listen))
			if there {
				p.Notes = append(p.Notes, fmt.Sprintf("%s is there, and not printed: see that it has ListenStream= for each of %s", s.Unit, strings.Join(s.Streams, ", ")))
			}
		}
	}
	if len(n.Grants) > 0 {
		p.Files = append(p.Files, File{Rules, "0644", n.rules()})
	}
	if n.dropIn() || len(n.Sockets) > 0 {
		p.Commands = append(p.Commands, "systemctl daemon-reload")
	}
	for _, s := range n.Sockets {
		p.Commands = append(p.Commands, "systemctl enable "+shell(s.Unit))
	}
	if n.dropIn() {
		p.Commands = append(p.Commands, "systemctl restart "+Name)
	}
	return p
}

// before returns what must be there before the unit starts with its drop-in.
func (n Needs) before() []string {
	out := []string{}
	for _, g := range n.Groups {
		if n.host.Group != nil && !n.host.Group(g) && strings.Trim(g, "0123456789") != "" {
			out = append(out, "groupadd --system "+g)
		}
	}
	made := n.runtime()
	for _, dir := range n.Write {
		if n.host.Exists == nil || n.host.exists(dir) || slices.Contains(made, strings.TrimPrefix(dir, "/run/")) {
			continue
		}
		mode := "0755"
		if dir == n.state {
			mode = "0710" // as StateDirectoryMode= of the unit
		}
		out = append(out, fmt.Sprintf("install -d -o %s -g %s -m %s %s", User, User, mode, shell(dir)))
	}
	if len(n.Credentials) > 0 && !n.host.exists(credentialSources) {
		out = append(out, "install -d -m 0700 "+credentialSources)
	}
	return out
}

// text is a unit file that grows.
type text struct{ strings.Builder }

func (t *text) line(format string, args ...any) { fmt.Fprintf(t, format+"\n", args...) }

func (n Needs) dropInText() string {
	t := &text{}
	t.line("# %s", DropIn)
	t.line("# Made by spinecert config systemd. It counts from the next start: systemctl daemon-reload; systemctl restart spinecertd")
	t.line("[Service]")
	if len(n.Write) > 0 {
		t.line("# Where files are delivered, or sockets made. -: one that is missing keeps its service from being delivered, and not the daemon from starting.")
		for _, dir := range n.Write {
			t.line("ReadWritePaths=%s", word("-"+dir))
		}
		t.line("# Each is a mount of its own, which the line of the unit does not reach.")
		for _, dir := range n.Write {
			t.line("NoExecPaths=%s", word("-"+dir))
		}
	}
	if len(n.Execute) > 0 {
		t.line("# What a sink of type exec runs is in one of these, and the libraries of all programs are. It runs in this sandbox, as the daemon's user.")
		for _, dir := range n.Execute {
			t.line("ExecPaths=%s", word("-"+dir))
		}
		t.line("# Each is a mount of its own, which ProtectSystem= does not reach.")
		for _, dir := range n.Execute {
			t.line("BindReadOnlyPaths=%s", word("-"+dir))
		}
	}
	if made := n.runtime(); len(made) > 0 {
		t.line("# /run is empty after a boot: systemd makes these, and keeps them when the daemon stops.")
		for _, dir := range made {
			t.line("RuntimeDirectory=%s", word(dir))
		}
	}
	if len(n.Groups) > 0 {
		t.line("# Whom files and sockets are handed over to. A group that does not exist keeps the daemon from starting.")
		t.line("SupplementaryGroups=%s", strings.Join(n.Groups, " "))
	}
	if len(n.Capabilities) > 0 {
		t.line("# CAP_CHOWN: owner: of a delivered file. CAP_KILL: signal: of a service.")
		t.line("CapabilityBoundingSet=%s", strings.Join(n.Capabilities, " "))
		t.line("AmbientCapabilities=%s", strings.Join(n.Capabilities, " "))
	}
	if n.SeeProcesses {
		t.line("# A PID file that is not root's is believed when its process is of the same user, which must be seen.")
		t.line("ProtectProc=default")
	}
	if n.Netlink {
		t.line("# allow_users: the kernel says by netlink who connected.")
		t.line("RestrictAddressFamilies=AF_NETLINK")
	}
	if n.Stop > 0 {
		t.line("# Longer than limits.drain.")
		t.line("TimeoutStopSec=%ds", int64(n.Stop.Seconds()))
	}
	if n.Files > 0 {
		t.line("# Two for each connection of limits.connections.")
		t.line("LimitNOFILE=%d", n.Files)
	}
	if len(n.Sockets) > 0 {
		t.line("# Started with the daemon, and kept when it stops.")
	}
	for _, s := range n.Sockets {
		t.line("Sockets=%s", word(s.Unit))
	}
	n.credentials(t)
	return t.String()
}

// credentials loads each credential. Quotes mean nothing to LoadCredential=, and blanks do not end its words.
func (n Needs) credentials(t *text) {
	if len(n.Credentials) == 0 {
		return
	}
	t.line("# NAME:FILE, the file root's alone (0600): systemd copies it for the daemon at each start. LoadCredentialEncrypted= for what systemd-creds encrypted.")
	t.line("# SetCredential= stands in for a file that is missing, and says so: without it the daemon would not start.")
	taken := map[string]int{}
	for _, c := range n.Credentials {
		file := fileName(c.Name)
		if taken[file]++; taken[file] > 1 {
			file += fmt.Sprintf("~%d", taken[file])
		}
		t.line("# %s", strings.Join(c.Uses, ", "))
		t.line("LoadCredential=%s:%s/%s", specifier(c.Name), credentialSources, file)
		t.line("SetCredential=%s:%s", specifier(c.Name), rotate.MissingCredential)
	}
}

// text is the socket unit.
func (s Socket) text() string {
	t := &text{}
	t.line("# %s%s", units, s.Unit)
	if s.Listen != "" {
		t.line("# Proposed for the low ports of tunnel %s, together with listen: %s", s.Tunnels[0], s.Listen)
	}
	t.line("[Unit]")
	t.line("Description=Spinecert: listener of tunnel %s", specifier(strings.Join(s.Tunnels, ", ")))
	t.line("")
	t.line("[Socket]")
	t.line("FileDescriptorName=%s", specifier(s.Name))
	t.line("Service=%s", Name)
	for _, stream := range s.Streams {
		t.line("ListenStream=%s", specifier(stream))
	}
	if s.Streams == nil {
		t.line("%s the address, such as 0.0.0.0:443, and take the # away; without it systemd refuses the unit:", Unknown)
		t.line("#ListenStream=")
	}
	if s.FreeBind {
		t.line("# The address may come after this unit.")
		t.line("FreeBind=yes")
	}
	t.line("Backlog=4096")
	t.line("# 20 starts within it that fail, and systemd closes the socket.")
	t.line("TriggerLimitIntervalSec=1min")
	t.line("")
	t.line("[Install]")
	t.line("WantedBy=sockets.target")
	return t.String()
}

// rules is the rule of polkit: these units with these verbs, and nothing else.
func (n Needs) rules() string {
	t := &text{}
	t.line("// %s", Rules)
	t.line("// Made by spinecert config systemd: what the daemon, as the user %s, may have systemd do. Owner root, mode 0644; polkitd reads it at once.", User)
	t.line("polkit.addRule(function (action, subject) {")
	t.line("\tif (action.id !== \"org.freedesktop.systemd1.manage-units\" || subject.user !== %s) {", script(User))
	t.line("\t\treturn polkit.Result.NOT_HANDLED;")
	t.line("\t}")
	t.line("\tvar units = {")
	for _, g := range n.Grants {
		verbs := make([]string, len(g.Verbs))
		for i, verb := range slices.Sorted(slices.Values(g.Verbs)) {
			verbs[i] = script(verb)
		}
		t.line("\t\t%s: [%s],", script(g.Unit), strings.Join(verbs, ", "))
	}
	t.line("\t};")
	t.line("\tvar unit = action.lookup(\"unit\"), verb = action.lookup(\"verb\");")
	t.line("\tif (Object.prototype.hasOwnProperty.call(units, unit) && units[unit].indexOf(verb) >= 0) {")
	t.line("\t\treturn polkit.Result.YES;")
	t.line("\t}")
	t.line("\treturn polkit.Result.NOT_HANDLED;")
	t.line("});")
	return t.String()
}

// shell quotes a word for a shell.
func shell(s string) string {
	if s != "" && strings.Trim(s, letters+"/._-+@:,=") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
