package set

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/spinecert/spinecert/internal/durable"
)

// list.go: access lists. A directory gives its default list to what is made in it. It
// lets nobody in while that has mode 0700 or 0600, as the bits of the group are then its
// mask; the mode that comes later would open it to everybody who is named there.
const (
	accessList  = "system.posix_acl_access"
	defaultList = "system.posix_acl_default"
)

// hasList reports whether what is open has an access list. Where it cannot be found out it has.
func hasList(fd int, which string) bool {
	err := again(func() error {
		_, err := unix.Fgetxattr(fd, which, nil)
		return err
	})
	return !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.ENOTSUP)
}

// withoutLists removes the lists that a file or a directory was made with, before its
// mode is set and anything is in it. Files in the directory are then made without.
func withoutLists(disk durable.Disk, fd int, name string, lists ...string) error {
	for _, which := range lists {
		if !hasList(fd, which) {
			continue
		}
		err := do(disk, "remove", name, func() error { return unix.Fremovexattr(fd, which) })
		if err != nil && !errors.Is(err, unix.ENODATA) {
			return err
		}
	}
	return nil
}
