// Command probe runs in the place of the daemon, in its sandbox, and prints what can be done there, one line each: a verb and a path. The verbs are
// "write" (a file was made in the directory), "exec" (it could be executed), "chown" (the path was taken), and, of each mount, "rw" and "executable".
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// paths are tried beside the mounts.
var paths = []string{
	"/", "/usr", "/usr/bin", "/usr/bin/spinecert", "/usr/bin/spinecertd", "/usr/lib/systemd/system", "/etc", "/etc/spinecert", "/etc/nginx/spine", "/etc/shadow", "/etc/systemd/system", "/run", "/run/lock",
	"/run/spinecert", "/run/systemd/system", "/run/systemd/transient", "/srv/spinecert", "/tmp", "/var", "/var/tmp", "/var/lib", "/var/lib/spinecert", "/var/log", "/dev", "/dev/shm", "/dev/mqueue", "/root", "/home",
}

func main() {
	if len(os.Args) > 1 {
		return // a copy, which was executed
	}
	all := append(mounts(), paths...)
	slices.Sort(all)
	for _, path := range slices.Compact(all) {
		try(path)
	}
	fmt.Println("done /")
}

// mounts prints what each mount of this namespace allows, and returns where they are.
func mounts() []string {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		panic(err)
	}
	var out []string
	for line := range strings.Lines(string(data)) {
		path := strings.Fields(line)[4]
		var stat syscall.Statfs_t
		if err := syscall.Statfs(path, &stat); err != nil {
			continue // nobody gets there
		}
		const readOnly, noExec = 1, 8 // ST_RDONLY, ST_NOEXEC
		if stat.Flags&readOnly == 0 {
			fmt.Println("rw", path)
		}
		if stat.Flags&noExec == 0 {
			fmt.Println("executable", path)
		}
		out = append(out, path)
	}
	return out
}

func try(path string) {
	if info, err := os.Stat(path); err != nil || info.Mode()&os.ModeDevice != 0 {
		return
	}
	if !strings.HasPrefix(path, "/proc") && os.Lchown(path, os.Getuid(), -1) == nil {
		fmt.Println("chown", path)
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		panic(err)
	}
	file := filepath.Join(path, ".probe")
	if os.WriteFile(file, self, 0o755) != nil {
		return
	}
	fmt.Println("write", path)
	if exec.Command(file, "copy").Run() == nil { //nolint:noctx // it ends at once
		fmt.Println("exec", path)
	}
	_ = os.Remove(file)
}
