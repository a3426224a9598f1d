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

// groupMounts returns where the hierarchies of control groups are that a systemd wants for itself. Without a group of its own, each
// box would take the same ones below that of the test.
func groupMounts() ([]string, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var out []string
	for line := range strings.Lines(string(data)) {
		before, after, _ := strings.Cut(line, " - ")
		place, kind := strings.Fields(before), strings.Fields(after)
		if len(place) < 5 || len(kind) < 3 {
			continue
		}
		if kind[0] == "cgroup2" || kind[0] == "cgroup" && slices.Contains(strings.Split(kind[2], ","), "name=systemd") {
			out = append(out, place[4])
		}
	}
	if len(out) == 0 {
		return nil, errors.New("no hierarchy of control groups is mounted")
	}
	return out, nil
}

// removeGroup removes a control group and those below it. The kernel may need a moment to see that their processes are gone.
func removeGroup(group string) error {
	var err error
	for range 100 {
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

// sweep removes what is left of boxes whose test was killed: nobody holds their lock.
func sweep(mounts []string) {
	left, _ := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*"))
	for _, base := range left {
		lock, err := os.Open(filepath.Join(base, "lock"))
		if err != nil {
			continue // one that is being made, or removed
		}
		if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			var errs error
			for _, mount := range mounts {
				errs = errors.Join(errs, removeGroups(filepath.Join(mount, filepath.Base(base))))
			}
			if errs == nil { // else something still runs
				_ = os.RemoveAll(base)
			}
		}
		_ = lock.Close()
	}
}
