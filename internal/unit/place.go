package unit

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/spinecert/spinecert/internal/config"
)

// shared are directories that belong to the whole host: whoever may write into one has more than a place for a file.
var shared = []string{
	"/", "/etc", "/home", "/media", "/mnt", "/opt", "/root", "/run", "/run/lock", "/run/user", "/srv", "/tmp", "/usr/local",
	"/var", "/var/cache", "/var/lib", "/var/lock", "/var/log", "/var/mail", "/var/run", "/var/spool", "/var/tmp",
}

// programs are directories with all below them: what is executed, started or believed by root.
var programs = []string{
	"/bin", "/boot", "/dev", "/efi", "/etc/cron.d", "/etc/init.d", "/etc/pam.d", "/etc/profile.d", "/etc/sudoers.d", "/etc/systemd", "/etc/udev",
	"/lib", "/lib32", "/lib64", "/proc", "/run/systemd", "/run/udev", "/sbin", "/sys", "/usr/local/bin", "/usr/local/lib", "/usr/local/sbin",
}

// ofTheSystem reports whether a directory must stay closed to the daemon.
func ofTheSystem(dir string) bool {
	return slices.Contains(shared, dir) || config.Within(dir, "/usr") && !config.Within(dir, "/usr/local") ||
		slices.ContainsFunc(programs, func(p string) bool { return config.Within(dir, p) })
}

// write is a directory that the daemon writes into: what it is of, such as "the state directory".
func (n *Needs) write(what, dir string) {
	dir = filepath.Clean(dir)
	switch {
	case !filepath.IsAbs(dir): // each is, in a configuration that was loaded
	case ofTheSystem(dir):
		n.note("%s needs a directory of its own: %s is the system's, and is not opened to the daemon", what, dir)
	default:
		n.Write = append(n.Write, dir)
	}
}

// socketFile is a socket that the daemon makes.
func (n *Needs) socketFile(what, path string) {
	if dir := filepath.Dir(path); !config.Within(dir, runtimeDirectory) && !config.Within(dir, stateDirectory) {
		n.write(what, dir)
	}
}

// runtime returns the directories below /run that systemd is to make at each start of the daemon, relative to it: /run is empty after a boot. One that is there
// and another user's is not among them: systemd would give it to the daemon, with all that is in it.
func (n Needs) runtime() []string {
	var out []string
	for _, dir := range n.Write {
		below, ok := strings.CutPrefix(dir, "/run/")
		if !ok || dir == n.state || config.Within(dir, "/run/user") || strings.ContainsAny(below, `:\`) {
			continue
		}
		if n.host.exists(dir) {
			of, known := n.owner(dir)
			self, installed := n.owner(stateDirectory)
			if !known || !installed || of != self {
				continue
			}
		}
		out = append(out, below)
	}
	return out
}
