package state

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// ActAsOwner makes a process of root act as the owner of a state directory from
// then on: user, group, and no other groups. What it writes then belongs to whom
// the daemon runs as. There is no way back. It does nothing for others than root,
// and where the directory is missing or root's own.
func ActAsOwner(dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fail("open state directory", dir, err)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || owner.Uid == 0 {
		return nil
	}
	uid, gid := int(owner.Uid), int(owner.Gid)
	// The user last: nobody else may set the groups.
	if err := syscall.Setgroups(nil); err != nil {
		return fail("act as the owner of", dir, err)
	}
	if err := syscall.Setresgid(gid, gid, gid); err != nil {
		return fail("act as the owner of", dir, err)
	}
	return fail("act as the owner of", dir, syscall.Setresuid(uid, uid, uid))
}
