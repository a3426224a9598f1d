package unit

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/spinecert/spinecert/internal/config"
)

// libraries are the directories of what nearly every program is made of, a shell among them. One that a host does not have is left out by systemd.
var libraries = []string{"/usr/lib", "/usr/lib64"}

// alerts is for sinks that run a program: the unit lets the daemon execute nothing but static programs in /usr/bin. The others need nothing, as the unit leaves it
// IP and does not say where to.
func (n *Needs) alerts(a config.Alerts) {
	for _, s := range a.Sinks {
		if len(s.Command) > 0 {
			n.execute(s.Name, s.Command[0])
		}
	}
}

// execute opens the directory of a program. Not the file: when it is replaced by a rename, as packages and editors do, the mount of the old one is gone.
func (n *Needs) execute(sink, program string) {
	dir := filepath.Dir(program)
	for _, link := range []string{"/bin", "/sbin", "/lib", "/lib64"} { // of a merged /usr
		if config.Within(dir, link) {
			dir = "/usr" + dir
		}
	}
	switch {
	case n.written(dir):
		n.note("sink %s runs %q, which lies where the daemon may write, or does not look: move it, such as to /usr/local/bin", sink, program)
		return
	case slices.Contains(shared, dir) || slices.ContainsFunc([]string{"/boot", "/dev", "/efi", "/proc", "/run", "/sys"}, func(p string) bool { return config.Within(dir, p) }):
		n.note("sink %s runs %q, which needs a directory of its own: move it, such as to /usr/local/bin", sink, program)
		return
	case !config.Within(dir, "/usr/bin") && !slices.ContainsFunc(libraries, func(p string) bool { return config.Within(dir, p) }):
		n.Execute = append(n.Execute, dir)
	}
	n.Execute = append(n.Execute, libraries...)
}

// written reports whether the daemon may write into a directory, or has another one in its place.
func (n *Needs) written(dir string) bool {
	return slices.ContainsFunc(append([]string{stateDirectory, runtimeDirectory, "/home", "/root", "/run/user", "/tmp", "/var/tmp"}, n.Write...), func(p string) bool {
		return config.Within(dir, p) || strings.HasPrefix(p, dir+"/") // nor may one of those be a mount below it
	})
}
