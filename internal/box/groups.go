package box

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// groupMounts returns where the hierarchies of control groups are that a systemd wants for itself, one place for each. Without a group of
// its own, each box would take the same ones below that of the test.
func groupMounts() ([]string, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var out []string
	seen := make(map[string]bool)
	for line := range strings.Lines(string(data)) {
		before, after, _ := strings.Cut(line, " - ")
		mount, kind := strings.Fields(before), strings.Fields(after)
		if len(mount) < 6 || len(kind) < 3 {
			continue
		}
		if kind[0] != "cgroup2" && (kind[0] != "cgroup" || !slices.Contains(strings.Split(kind[2], ","), "name=systemd")) {
			continue
		}
		// A hierarchy may be mounted at several places, and another file system above one of them.
		device, place := mount[2], mount[4]
		if !seen[device] && deviceOf(place) == device {
			seen[device] = true
			out = append(out, place)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("no hierarchy of control groups is mounted")
	}
	return out, nil
}

// deviceOf returns the device of the file system at path, as the kernel writes it in mountinfo.
func deviceOf(path string) string {
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		return ""
	}
	return fmt.Sprintf("%d:%d", unix.Major(stat.Dev), unix.Minor(stat.Dev))
}

// removeGroup removes a control group and those below it. The kernel may need a moment to see that their processes are gone.
func removeGroup(group string) error {
	var err error
	for range 500 {
		if err = removeGroups(group); err == nil {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return err
}

func removeGroups(group string) error {
	var all []string
	err := filepath.WalkDir(group, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && d.IsDir() {
			all = append(all, path)
		}
		return err
	})
	for _, path := range slices.Backward(all) { // what is below comes first
		if removeErr := unix.Rmdir(path); removeErr != nil && !errors.Is(removeErr, unix.ENOENT) {
			err = errors.Join(err, fmt.Errorf("remove control group %q: %w", path, removeErr))
		}
	}
	return err
}
