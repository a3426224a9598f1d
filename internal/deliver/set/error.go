package set

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/spinecert/spinecert/internal/deliver/failure"
)

// classify makes a failure of what the kernel said about path, in the target
// directory dir.
func classify(doing, dir, path string, err error) error {
	if err == nil {
		return nil
	}
	if errors.As(err, new(*failure.Error)) {
		return err
	}
	reason, advice := failure.NotWritable, ""
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		reason, advice = failure.DiskFull, fmt.Sprintf("make room: df -h %s; df -i %s", shell(dir), shell(dir))
	case errors.Is(err, unix.EROFS):
		advice = "if the file system is mounted for writing: " + sandboxHint(dir)
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		advice = fmt.Sprintf("chown %s %s; %s", userName(uint32(os.Geteuid())), shell(dir), sandboxHint(dir))
	case errors.Is(err, unix.EIO):
		advice = "the disk fails: look into the kernel's log"
	case errors.Is(err, unix.EEXIST), errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ENOENT), errors.Is(err, unix.EISDIR), errors.Is(err, unix.ENOTEMPTY):
		reason, advice = failure.Planted, fmt.Sprintf("find out who else writes there: ls -lan %s", shell(dir))
	}
	return failure.New(reason, advice, "%s %q: %w", doing, path, err)
}

// sandboxHint is what the daemon's unit needs.
func sandboxHint(dir string) string {
	return fmt.Sprintf("under systemd also: systemctl edit spinecertd, [Service] ReadWritePaths=%s", dir)
}

// notGiven is for a file that the kernel does not let us give away.
func notGiven(path string, uid, gid int, err error) error {
	if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) {
		return nil
	}
	us := userName(uint32(os.Geteuid()))
	if uid >= 0 && uid != os.Geteuid() {
		return failure.New(failure.NotWritable, "hand it over by group instead, or: systemctl edit spinecertd, [Service] AmbientCapabilities=CAP_CHOWN CapabilityBoundingSet=CAP_CHOWN, on a line each; systemctl restart spinecertd",
			"give %q to user %s: %w", path, userName(uint32(uid)), err)
	}
	group := groupName(uint32(gid))
	return failure.New(failure.NotWritable, fmt.Sprintf("usermod -aG %s %s, and systemctl restart spinecertd; or systemctl edit spinecertd, [Service] SupplementaryGroups=%s", group, us, group),
		"give %q to group %s: %w", path, group, err)
}
