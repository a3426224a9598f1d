package unit

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/spinecert/spinecert/internal/config"
)

// Host is what is asked of the host. What is nil is not known, and taken as not there.
type Host struct {
	Exists    func(path string) bool
	Group     func(name string) bool               // there is such a group
	Owner     func(path string) (uid int, ok bool) // of a file or directory
	Ours      func(path string) bool               // a file of a socket unit whose sockets are the daemon's
	FirstPort int                                  // from which on a port needs no privilege; 0 is 1024
}

// ThisHost is the host that the program runs on. Both that prints what is needed and that looks for what is missing ask it, so that they agree.
func ThisHost() Host {
	return Host{
		Exists:    func(path string) bool { _, err := os.Stat(path); return err == nil },
		Group:     func(name string) bool { _, err := config.GroupID(name); return err == nil },
		Owner:     owner,
		Ours:      ours,
		FirstPort: firstPort(),
	}
}

func owner(path string) (int, bool) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(st.Uid), true
}

func ours(path string) bool {
	data, err := os.ReadFile(path)
	return err == nil && slices.ContainsFunc(strings.Split(string(data), "\n"), func(line string) bool {
		key, value, _ := strings.Cut(line, "=")
		return strings.TrimSpace(key) == "Service" && strings.TrimSpace(value) == Name
	})
}

// firstPort returns the first port that needs no privilege, ip(7); 0 where the kernel does not say.
func firstPort() int {
	data, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err != nil {
		return 0
	}
	port, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return 0
	}
	return max(port, 1)
}

// exists reports whether something is at a path.
func (h Host) exists(path string) bool { return h.Exists != nil && h.Exists(path) }

// unitFile returns the file of a unit, and "" where the host has none. The first of the directories counts, systemd.unit(5).
func (h Host) unitFile(name string) string {
	for _, dir := range []string{units, "/run/systemd/system/", "/usr/local/lib/systemd/system/", "/usr/lib/systemd/system/", "/lib/systemd/system/"} {
		if h.exists(dir + name) {
			return dir + name
		}
	}
	return ""
}

// socketUnit returns the name of the unit of a socket. Without FileDescriptorName= a socket has the name of its unit; a name that is that of another program's
// unit must not become a file in /etc, which would take that unit's place.
func (h Host) socketUnit(name string) string {
	unit := escapeUnit(name)
	if strings.HasSuffix(unit, ".socket") {
		file := h.unitFile(unit)
		if strings.HasPrefix(unit, "spinecertd-") || file != "" && h.Ours != nil && h.Ours(file) {
			return unit
		}
	}
	return "spinecertd-" + unit + ".socket"
}
