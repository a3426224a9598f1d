package set

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/spinecert/spinecert/internal/deliver/failure"
	"github.com/spinecert/spinecert/internal/durable"
)

// TestWhoMayWrite goes through modes and owners of the target and of the directory above it.
func TestWhoMayWrite(t *testing.T) {
	needRoot(t)
	const ok, sticky, setgid = "", os.ModeSticky, os.ModeSetgid
	for _, c := range []struct {
		mode          os.FileMode
		uid, gid      int
		target, above string // the reason there
		hint          string
	}{
		{0o755, 0, 0, ok, ok, ""},
		{0o700, 0, 0, ok, ok, ""},
		{0o775, 0, 0, ok, ok, ""}, // the group is root's
		{0o775, 0, sharedID, failure.UnsafeDirectory, failure.UnsafeDirectory, "chmod g-w"},
		{0o2775&^0o7000 | setgid, 0, sharedID, failure.UnsafeDirectory, failure.UnsafeDirectory, "chmod g-w"},
		{0o757, 0, 0, failure.UnsafeDirectory, failure.UnsafeDirectory, "chmod go-w"},
		{0o777, 0, 0, failure.UnsafeDirectory, failure.UnsafeDirectory, "chmod go-w"},
		{0o702, 0, 0, failure.UnsafeDirectory, failure.UnsafeDirectory, "chmod go-w"},
		{0o777 | sticky, 0, 0, failure.UnsafeDirectory, ok, "chmod go-w"},
		{0o770 | sticky, 0, sharedID, failure.UnsafeDirectory, ok, "chmod g-w"},
		{0o755, serviceID, 0, failure.UnsafeDirectory, failure.UnsafeDirectory, "chown root"},
		{0o755 | sticky, serviceID, 0, failure.UnsafeDirectory, failure.UnsafeDirectory, "chown root"},
		{0o500, serviceID, serviceID, failure.UnsafeDirectory, failure.UnsafeDirectory, "chown root"},
		{0o755, 0, serviceID, ok, ok, ""},
	} {
		for _, isTarget := range []bool{true, false} {
			base := openDirectory(t)
			dir, target, want := base+"/a", base+"/a", c.target
			if !isTarget {
				target, want = dir+"/b/c", c.above
			}
			must(t, os.MkdirAll(target, 0o755), os.Chown(dir, c.uid, c.gid), os.Chmod(dir, c.mode))
			opened, err := Open(target, durable.Disk{})
			what := c.mode.String() + map[bool]string{true: " of the target", false: " above it"}[isTarget]
			words := []string{}
			if want != ok {
				words = []string{dir + `"`, c.hint + " " + dir}
			}
			wantReason(t, what, err, want, words...)
			if err == nil {
				_ = opened.Close()
			}
		}
	}
}

// TestAccessList: the bits of root's group may be those of an access list.
func TestAccessList(t *testing.T) {
	needRoot(t)
	dir := openDirectory(t) + "/spine"
	must(t, os.MkdirAll(dir+"/in", 0o755))
	// Version 2; owner rwx, user 47111 rwx, group r-x, mask rwx, others r-x.
	list := []byte{2, 0, 0, 0}
	for _, e := range []struct {
		tag, perm uint16
		id        uint32
	}{{1, 7, ^uint32(0)}, {2, 7, serviceID}, {4, 5, ^uint32(0)}, {16, 7, ^uint32(0)}, {32, 5, ^uint32(0)}} {
		list = binary.LittleEndian.AppendUint16(list, e.tag)
		list = binary.LittleEndian.AppendUint16(list, e.perm)
		list = binary.LittleEndian.AppendUint32(list, e.id)
	}
	if err := unix.Setxattr(dir, "system.posix_acl_access", list, 0); err != nil {
		t.Skipf("no access lists here: %v", err)
	}
	wantMode(t, dir, os.ModeDir|0o775)
	for _, path := range []string{dir, dir + "/in"} {
		_, err := Open(path, durable.Disk{})
		wantReason(t, path, err, failure.UnsafeDirectory, "setfacl -b "+dir)
	}
	must(t, os.Chmod(dir, 0o755)) // the mask: nobody may write
	mustOpen(t, dir, durable.Disk{})
}

// TestLinksOnTheWay: where a link may be anybody's it is not followed, and what it leads
// to is looked at like everything else.
func TestLinksOnTheWay(t *testing.T) {
	base := openDirectory(t)
	for _, d := range []string{"real/in", "shared/real", "open/real", "etc"} {
		must(t, os.MkdirAll(filepath.Join(base, d), 0o755))
	}
	must(t,
		os.Chmod(base+"/shared", 0o777|os.ModeSticky),
		os.Chmod(base+"/open", 0o777),
		os.Symlink(base+"/real", base+"/etc/absolute"),
		os.Symlink("../real", base+"/etc/relative"),
		os.Symlink("relative/in", base+"/etc/twice"),
		os.Symlink(".././real//in/", base+"/etc/untidy"),
		os.Symlink(base+"/open/real", base+"/etc/unsafe"),
		os.Symlink("../shared/real", base+"/etc/sticky"),
		os.Symlink(base+"/etc", base+"/shared/planted"),
		os.Symlink("circle", base+"/etc/circle"),
		os.Symlink("nowhere", base+"/etc/dangling"),
		os.WriteFile(base+"/etc/file", nil, 0o600),
		syscall.Mkfifo(base+"/etc/pipe", 0o600),
		os.Symlink("pipe", base+"/etc/to-pipe"))
	for i := range maxLinks + 1 {
		name := strings.Repeat("n", i+1)
		must(t, os.Symlink(map[bool]string{true: "../real", false: "n" + name}[i == maxLinks], base+"/etc/"+name))
	}
	for path, c := range map[string]struct{ reason, words string }{
		"real/in":                  {"", ""},
		"real/../real/./in//":      {"", ""},
		"etc/absolute":             {"", ""},
		"etc/relative":             {"", ""},
		"etc/relative/in":          {"", ""},
		"etc/relative/../real/in":  {"", ""}, // as the kernel goes: .. of where the link leads
		"etc/twice":                {"", ""},
		"etc/untidy":               {"", ""},
		"shared/real":              {"", ""},
		"etc/sticky":               {"", ""},
		"etc/nn":                   {"", ""}, // as many links as the kernel follows
		"etc/n":                    {failure.DirectoryMissing, "circle"},
		"etc/unsafe":               {failure.UnsafeDirectory, "chmod go-w " + base + "/open"},
		"shared/planted":           {failure.UnsafeDirectory, "symbolic link"},
		"shared":                   {failure.UnsafeDirectory, "chmod go-w"},
		"etc/circle":               {failure.DirectoryMissing, "circle"},
		"etc/dangling":             {failure.DirectoryMissing, "nowhere"},
		"etc/file":                 {failure.DirectoryMissing, "a file"},
		"etc/file/x":               {failure.DirectoryMissing, "a file"},
		"etc/pipe":                 {failure.DirectoryMissing, "a pipe"},
		"etc/to-pipe":              {failure.DirectoryMissing, "a pipe"},
		"etc/missing":              {failure.DirectoryMissing, "install -d"},
		"etc/missing/../../etc/in": {failure.DirectoryMissing, "install -d"},
	} {
		opened, err := Open(base+"/"+path, durable.Disk{})
		wantReason(t, path, err, c.reason, c.words)
		if err == nil {
			_ = opened.Close()
		}
	}
	for _, path := range []string{"", "relative", "./x"} {
		_, err := Open(path, durable.Disk{})
		wantReason(t, path, err, failure.DirectoryMissing, "absolute")
	}
}

// TestNoDescriptorIsLost: a daemon opens target directories for years.
func TestNoDescriptorIsLost(t *testing.T) {
	base := openDirectory(t)
	must(t, os.Mkdir(base+"/real", 0o755), os.Mkdir(base+"/open", 0o777), os.Chmod(base+"/open", 0o777), os.Symlink(base+"/real", base+"/link"),
		os.Symlink("circle", base+"/circle"), os.WriteFile(base+"/file", nil, 0o600))
	count := func() int {
		t.Helper()
		return len(namesOf(t, "/proc/self/fd"))
	}
	round := func() {
		for _, path := range []string{"/link", "/open", "/circle", "/file", "/missing", "/real"} {
			target, err := Open(base+path, durable.Disk{})
			if err != nil {
				continue
			}
			set, entries := deliver(t, target, pair(1))
			_, err = target.See(set, entries)
			_, _, bad := target.Write([]File{{Name: "a", Mode: 0o600, UID: -1, GID: -1}, {Name: "..", UID: -1, GID: -1}}, now)
			if bad == nil {
				t.Error("it is written")
			}
			target.disk = durable.Disk{Fault: func(op, name string) error {
				if op == "write" || op == "rename" {
					return unix.EIO
				}
				return nil
			}}
			_, _, failed := target.Write(pair(2), now)
			if failed == nil || target.Switch(set) == nil {
				t.Error("a fault is no error")
			}
			must(t, err, target.Prune(), target.Close())
		}
	}
	round()
	before := count()
	for range 20 {
		round()
	}
	if after := count(); after > before {
		t.Errorf("%d descriptors are open, %d were", after, before)
	}
}

// TestFullDisk fills a small file system.
func TestFullDisk(t *testing.T) {
	needRoot(t)
	dir := openDirectory(t)
	if err := unix.Mount("spinecert-test", dir, "tmpfs", 0, "size=64k,mode=0755"); err != nil {
		t.Skipf("no file system may be mounted here: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	target := mustOpen(t, dir, durable.Disk{})
	set, entries := deliver(t, target, pair(1))
	files := pair(2)
	files[1].Data = make([]byte, 128<<10)
	_, _, err := target.Write(files, now)
	wantReason(t, "write", err, failure.DiskFull, "df -h "+dir)
	wantNames(t, dir, set, Link)
	wantReason(t, "what was there", target.Check(set, entries, true), "")
	deliver(t, target, pair(3))
	must(t, target.Prune())

	must(t, unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	_, _, err = target.Write(pair(4), now)
	wantReason(t, "write to what became read-only", err, failure.NotWritable, "ReadWritePaths="+dir)
	_, err = Open(dir, durable.Disk{})
	wantReason(t, "open of what is read-only", err, failure.NotWritable, "ReadWritePaths="+dir)
	if !errors.Is(err, unix.EROFS) {
		t.Errorf("the cause is %v", err)
	}
}
