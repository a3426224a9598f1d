package doctor

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/user"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/unit"
	"github.com/spinecert/spinecert/rotate"
)

// UnitState is what systemd says of the unit of the daemon.
type UnitState struct {
	Active  bool
	Since   time.Time // when it was started; zero if it does not run
	Reload  bool      // its files were changed since systemd read them
	DropIns []string
	PID     int // of the daemon; 0 if it does not run

	User, Group       string // "" is root
	Groups            []string
	ProtectSystem     string
	ProtectProc       string
	Write             []string // ReadWritePaths=, and the directories that systemd makes for it
	Bounding, Ambient uint64   // capabilities
	AllFamilies       bool     // RestrictAddressFamilies= permits all that it does not name
	Families          []string
	Stop              time.Duration
	Files             uint64
	Credentials       map[string]string                                          // by name, the source; "" where it has none that is a file
	Sockets           []UnitSocket                                               // that start it
	Allows            func(ctx context.Context, unit, verb string) (bool, error) // asks polkit; nil where nobody may
}

// UnitSocket is a socket unit that starts the daemon.
type UnitSocket struct {
	Unit, Name string // Name is FileDescriptorName=
	Active     bool
}

// printed is the next action for all that a drop-in gives.
const printed = "spinecert config systemd prints the drop-in; then systemctl daemon-reload and systemctl restart spinecertd"

// unitFits: the unit gives the daemon what the configuration needs. Of a daemon that runs without the unit nothing is said.
func unitFits(ctx context.Context, o Outside, r *report) {
	if o.Config == nil {
		return
	}
	st, err := o.Unit(ctx)
	if err != nil {
		r.warn(unit.Name, "systemctl status dbus spinecertd", "systemd does not say how %s is set up: %v", unit.Name, err)
		return
	}
	if st == nil {
		return
	}
	before := len(r.lines)
	f := fitting{st, unit.Of(o.Config, unit.ThisHost()), r}
	f.current()
	f.directories()
	f.groups()
	f.capabilities()
	f.limits()
	f.credentials()
	f.sockets()
	f.polkit(ctx)
	if len(r.lines) == before {
		r.ok(unit.Name, "%s gives the daemon what the configuration needs", unit.Name)
	}
}

// fitting compares a unit with what is needed of it.
type fitting struct {
	st    *UnitState
	needs unit.Needs
	*report
}

// current: what the files say is what the daemon was started with.
func (f fitting) current() {
	if f.st.Reload {
		f.warn(unit.Name, "systemctl daemon-reload; systemctl restart spinecertd", "the files of %s were changed since systemd read them", unit.Name)
		return
	}
	if !f.st.Active {
		return
	}
	for _, file := range f.st.DropIns {
		if info, err := os.Stat(file); err == nil && info.ModTime().After(f.st.Since) {
			f.warn(unit.Name, "systemctl restart spinecertd", "the drop-in %q was changed at %s, after the daemon was started at %s: it counts from the next start", file, stamp(info.ModTime()), stamp(f.st.Since))
		}
	}
}

// directories: the daemon may write where it must, and may see whom it signals.
func (f fitting) directories() {
	var missing []string
	for _, dir := range f.needs.Write {
		if f.readOnly(dir) && !slices.ContainsFunc(f.st.Write, func(w string) bool { return config.Within(dir, w) }) {
			missing = append(missing, dir)
		}
	}
	if len(missing) > 0 {
		f.fail(unit.Name, printed, "%s lacks ReadWritePaths= for %s", unit.Name, strings.Join(missing, ", "))
	}
	if f.needs.SeeProcesses && slices.Contains([]string{"invisible", "noaccess", "ptraceable"}, f.st.ProtectProc) {
		f.warn(unit.Name, printed, "%s has ProtectProc=%s, and a PID file that is not root's is not believed then", unit.Name, f.st.ProtectProc)
	}
}

// readOnly reports whether ProtectSystem= of systemd.exec(5) takes a directory.
func (f fitting) readOnly(dir string) bool {
	in := func(roots ...string) bool {
		return slices.ContainsFunc(roots, func(root string) bool { return config.Within(dir, root) })
	}
	switch f.st.ProtectSystem {
	case "strict":
		return !in("/dev", "/proc", "/sys")
	case "full":
		return in("/usr", "/boot", "/efi", "/etc")
	case "yes":
		return in("/usr", "/boot", "/efi")
	}
	return false
}

func (f fitting) root() bool { return f.st.User == "" || f.st.User == "root" || f.st.User == "0" }

// groups: the daemon is in each group that it hands something over to.
func (f fitting) groups() {
	if f.root() {
		return
	}
	var missing []string
	have := groupsOf(f.st.User)
	for _, name := range append(slices.Clone(f.st.Groups), f.st.Group) {
		have[groupID(name)] = true
	}
	for _, name := range f.needs.Groups {
		if !have[groupID(name)] {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		f.fail(unit.Name, printed, "%s lacks SupplementaryGroups=%s, and its user is no member", unit.Name, strings.Join(missing, " "))
	}
}

// groupsOf returns the numbers of the groups that a user is a member of.
func groupsOf(name string) map[string]bool {
	out := map[string]bool{}
	u, err := user.Lookup(name)
	if err != nil {
		return out
	}
	ids, _ := u.GroupIds() // none: the unit must name them
	for _, id := range ids {
		out[id] = true
	}
	return out
}

// groupID returns the number of a group as text; the name of one that does not exist.
func groupID(name string) string {
	if g, err := user.LookupGroup(name); err == nil {
		return g.Gid
	}
	return name
}

// capabilities: both sets have what is needed, without which the daemon does not get it.
func (f fitting) capabilities() {
	number := map[string]int{"CAP_CHOWN": unix.CAP_CHOWN, "CAP_KILL": unix.CAP_KILL, "CAP_NET_BIND_SERVICE": unix.CAP_NET_BIND_SERVICE}
	has := func(name string) bool {
		bit := uint64(1) << number[name]
		return f.st.Bounding&bit != 0 && (f.root() || f.st.Ambient&bit != 0)
	}
	missing := slices.DeleteFunc(slices.Clone(f.needs.Capabilities), has)
	if len(missing) > 0 {
		f.fail(unit.Name, printed, "%s lacks %s, in CapabilityBoundingSet= and AmbientCapabilities=", unit.Name, strings.Join(missing, " and "))
	}
	for _, s := range f.needs.Sockets {
		if s.Streams != nil && !has("CAP_NET_BIND_SERVICE") {
			f.fail(unit.Name, "spinecert config systemd proposes a socket unit, and what listen: is to be", "tunnel %s listens on a port that needs root (ListenStream=%s)", s.Tunnels[0], strings.Join(s.Streams, ", "))
		}
	}
}

// limits: the bounds of the unit are above those of the configuration.
func (f fitting) limits() {
	if f.needs.Netlink && f.st.AllFamilies == slices.Contains(f.st.Families, "AF_NETLINK") {
		f.fail(unit.Name, printed, "%s lacks RestrictAddressFamilies=AF_NETLINK: nobody can say who connects, and allow_users lets nobody in", unit.Name)
	}
	if f.needs.Stop > 0 && f.st.Stop < f.needs.Stop {
		f.warn(unit.Name, printed, "%s has TimeoutStopSec=%d, and limits.drain takes longer: what is open then is killed", unit.Name, int64(f.st.Stop.Seconds()))
	}
	if f.needs.Files > 0 && f.st.Files < uint64(f.needs.Files) {
		f.warn(unit.Name, printed, "%s has LimitNOFILE=%d: not enough for limits.connections", unit.Name, f.st.Files)
	}
}

// credentials: systemd has each, and copied what its source holds now.
func (f fitting) credentials() {
	var missing []string
	for _, c := range f.needs.Credentials {
		source, ok := f.st.Credentials[c.Name]
		if !ok {
			missing = append(missing, c.Name)
			continue
		}
		info, err := os.Stat(source)
		switch {
		case source == "":
		case errors.Is(err, fs.ErrNotExist):
			f.fail(c.Name, "put it there, owner root, mode 0600; then systemctl restart spinecertd", "the source %q of credential %q (%s) is missing", source, c.Name, strings.Join(c.Uses, ", "))
		case err == nil && f.st.Active && info.ModTime().After(f.st.Since):
			f.warn(c.Name, "systemctl restart spinecertd", "the source %q of credential %q (%s) was changed at %s, after the daemon was started: it is read at a restart only", source, c.Name, strings.Join(c.Uses, ", "), stamp(info.ModTime()))
		}
	}
	if len(missing) > 0 {
		f.fail(unit.Name, printed, "%s lacks LoadCredential= for %s", unit.Name, strings.Join(missing, ", "))
	}
}

// isCredential reports whether a file is one that systemd copied for a unit.
func isCredential(path string) bool {
	_, ok := rotate.CredentialName(path)
	return ok
}

// sockets: each name has a socket unit that listens.
func (f fitting) sockets() {
	for _, s := range f.needs.Sockets {
		if s.Streams != nil {
			continue // of a port, which the daemon opens itself
		}
		of := slices.DeleteFunc(slices.Clone(f.st.Sockets), func(u UnitSocket) bool { return u.Name != s.Name })
		if len(of) == 0 {
			f.fail(s.Name, "spinecert config systemd prints one; write its address into it, then systemctl daemon-reload and systemctl restart spinecertd",
				"tunnel %s listens on systemd:%s, and no socket unit of %s has FileDescriptorName=%s", s.Tunnels[0], s.Name, unit.Name, s.Name)
		}
		for _, u := range of {
			if !u.Active {
				f.fail(s.Name, "systemctl stop spinecertd; systemctl start "+shell(u.Unit)+" spinecertd", "the socket unit %s of systemd:%s does not listen", u.Unit, s.Name)
			}
		}
	}
}

// polkit lets the daemon manage the units of services.
func (f fitting) polkit(ctx context.Context) {
	if f.st.Allows == nil || f.root() {
		return
	}
	for _, g := range f.needs.Grants {
		var refused []string
		for _, verb := range g.Verbs {
			allowed, err := f.st.Allows(ctx, g.Unit, verb)
			if err != nil {
				f.fail("polkit", "systemctl status polkit; without it the daemon may manage no unit", "polkit does not answer: %v", err)
				return
			}
			if !allowed {
				refused = append(refused, verb)
			}
		}
		if len(refused) > 0 {
			f.fail(g.Unit, "spinecert config systemd prints the rule for "+unit.Rules, "polkit does not let the daemon %s unit %q", strings.Join(refused, " or "), g.Unit)
		}
	}
}
