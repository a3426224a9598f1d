package systemstory

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/hostbox"
	"github.com/spinecert/spinecert/internal/packaging"
)

const (
	program = "/usr/bin/spinecertd"
	// dev is the version of the package that is installed.
	dev = packaging.Version
	// later is another version of the same program.
	later = "v9.9.9"
	// kept is where the program of the package is kept while another is in its place.
	kept = "/root/spinecertd.kept"
)

// upgraded is what `spinecert upgrade` says.
type upgraded struct {
	admin.UpgradeResult
	Problems []string `json:"problems"`
}

// build builds a main package as it is shipped, once, beside the packages.
func build(t *testing.T, name, pkg, ldflags string) string {
	t.Helper()
	deb(t, dev) // makes the directory
	debs.Lock()
	defer debs.Unlock()
	path := filepath.Join(debs.dir, name)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "go", "build", "-tags", "nethttpomithttp2", "-trimpath", "-ldflags", ldflags, "-o", path, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", pkg, err, out)
	}
	return path
}

// ship puts a version of the daemon in the place of the one that is installed, as a package manager does: a new file under the old name.
func (h *host) ship(version string) {
	h.t.Helper()
	h.Run("sh", "-ec", "test -e "+kept+" || cp "+program+" "+kept)
	if version == dev {
		h.Run("sh", "-ec", "cp "+kept+" "+program+".new; mv "+program+".new "+program)
		return
	}
	h.PushFile(program, build(h.t, "spinecertd-"+version, "github.com/spinecert/spinecert/cmd/spinecertd", "-X main.version="+version), 0o755)
}

// tryUpgrade runs `spinecert upgrade`.
func (h *host) tryUpgrade(flags ...string) (upgraded, hostbox.Answer) {
	h.t.Helper()
	a := h.Ask(append(flags, "upgrade")...)
	var u upgraded
	if len(a.Result) > 0 {
		if err := json.Unmarshal(a.Result, &u); err != nil {
			h.t.Fatalf("upgrade: %v\n%s", err, a.Result)
		}
	}
	return u, a
}

// upgrade has the installed daemon take over, which must succeed, and wants systemd to have followed.
func (h *host) upgrade() upgraded {
	h.t.Helper()
	before := h.show("MainPID")
	u, a := h.tryUpgrade()
	if a.Exit != 0 {
		h.t.Fatalf("upgrade: exit status %d: %+v", a.Exit, a.Error)
	}
	if now := h.main(); now != u.PID || strconv.Itoa(now) == before {
		h.t.Errorf("the main process is %d; it was %s, and the upgrade says %d", now, before, u.PID)
	}
	if !strings.Contains(h.Run("cat", fmt.Sprintf("/proc/%d/status", u.PID)), "\nPPid:\t1\n") {
		h.t.Error("the new process is no child of systemd, which would not see it end")
	}
	if s := h.status(); s.PID != u.PID || !s.Ready {
		h.t.Errorf("process %d answers, ready %v, and the upgrade says %d", s.PID, s.Ready, u.PID)
	}
	return u
}

// main is the main process of the unit, for systemd.
func (h *host) main() int {
	h.t.Helper()
	pid, err := strconv.Atoi(h.show("MainPID"))
	if err != nil {
		h.t.Fatal(err)
	}
	return pid
}

// daemons are the processes of the daemon, also those that only drain.
func (h *host) daemons() []string {
	h.t.Helper()
	out, _ := h.Exec(h.t.Context(), "pgrep", "-x", "spinecertd") // 1: there are none
	return strings.Fields(out)
}

// alone waits until no process is left but the main one.
func (h *host) alone() {
	h.t.Helper()
	h.Until("only the main process is left", func() bool { return slices.Equal(h.daemons(), []string{h.show("MainPID")}) })
}

// descriptors is how many files and sockets the main process has open.
func (h *host) descriptors() int {
	h.t.Helper()
	return len(strings.Fields(h.Run("ls", "/proc/"+h.show("MainPID")+"/fd")))
}

// resident is the memory of the main process, in kilobytes.
func (h *host) resident() int {
	h.t.Helper()
	for line := range strings.Lines(h.Run("cat", "/proc/"+h.show("MainPID")+"/status")) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "VmRSS:" {
			n, _ := strconv.Atoi(fields[1])
			return n
		}
	}
	return 0
}

// waiting is how many connections wait in the kernel for somebody who accepts them from the tunnel.
func (h *host) waiting() int64 {
	h.t.Helper()
	for line := range strings.Lines(h.Run("cat", "/proc/net/tcp")) {
		fields := strings.Fields(line) // sl local remote st tx:rx
		if len(fields) > 4 && fields[1] == "0100007F:114E" && fields[3] == "0A" {
			_, queue, _ := strings.Cut(fields[4], ":")
			n, err := strconv.ParseInt(queue, 16, 64)
			if err != nil {
				h.t.Fatal(err)
			}
			return n
		}
	}
	h.t.Error("nobody listens for the tunnel")
	return 0
}

// steady wants the unit to be active, and never to have been started again by systemd.
func (h *host) steady() {
	h.t.Helper()
	if got := h.Run("systemctl", "show", "-p", "ActiveState", "-p", "SubState", "-p", "NRestarts", "-p", "Result", unit); got != "Result=success\nNRestarts=0\nActiveState=active\nSubState=running" {
		h.t.Errorf("the unit says %q", got)
	}
}

// saidBy is what one process has in the journal.
func (h *host) saidBy(pid int) string {
	h.t.Helper()
	return h.Run("journalctl", "--no-pager", "-o", "cat", "-u", unit, "_PID="+strconv.Itoa(pid))
}
