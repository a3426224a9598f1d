package set

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/spinecert/spinecert/internal/deliver/failure"
	"github.com/spinecert/spinecert/internal/durable"
	"github.com/spinecert/spinecert/internal/testprogram"
)

// nobodyID is somebody whom access lists of these tests name.
const nobodyID = 65534

// listFor is an access list: rwx, r-x for nobody and for the group, mask as given, none for others.
func listFor(mask uint16) []byte {
	list := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range []struct {
		tag, perm uint16
		id        uint32
	}{{1, 7, ^uint32(0)}, {2, 5, nobodyID}, {4, 5, ^uint32(0)}, {16, mask, ^uint32(0)}, {32, 0, ^uint32(0)}} {
		list = binary.LittleEndian.AppendUint16(list, e.tag)
		list = binary.LittleEndian.AppendUint16(list, e.perm)
		list = binary.LittleEndian.AppendUint32(list, e.id)
	}
	return list
}

func setList(t *testing.T, path, which string, list []byte) {
	t.Helper()
	if err := unix.Setxattr(path, which, list, 0); err != nil {
		t.Skipf("no access lists here: %v", err)
	}
}

// withKey are files of which a group may read the key.
func withKey() []File {
	files := pair(1)
	files[1].Mode = 0o640
	return files
}

// TestInheritedLists: what the target directory would give to files does not open them.
func TestInheritedLists(t *testing.T) {
	dir := openDirectory(t) + "/spine"
	must(t, os.Mkdir(dir, 0o755))
	setList(t, dir, defaultList, listFor(7))
	var sets []string // as they are when their mode is about to be set
	target := mustOpen(t, dir, durable.Disk{Fault: func(op, name string) error {
		if op == "chmod" || op == "write" {
			sets = append(sets, op)
			for _, path := range globbed(t, dir+"/set-*", dir+"/set-*/"+name) {
				wantNoList(t, path)
			}
		}
		return nil
	}})
	set, entries := deliver(t, target, withKey())
	if len(sets) != 5 {
		t.Errorf("looked at %q", sets)
	}
	wantReason(t, "check", target.Check(set, entries, true), "")
	wantMode(t, filepath.Join(dir, set), os.ModeDir|setMode)
	wantMode(t, filepath.Join(dir, set, "key.pem"), 0o640)
	if os.Geteuid() != 0 {
		return
	}
	setpriv := testprogram.Need(t, "setpriv")
	read := func(name string) error {
		return exec.CommandContext(t.Context(), setpriv, "--reuid=65534", "--regid=65534", "--clear-groups", "cat", filepath.Join(dir, Link, name)).Run()
	}
	if err := read("fullchain.pem"); err != nil {
		t.Errorf("nobody does not read the certificates: %v", err)
	}
	if read("key.pem") == nil {
		t.Error("nobody reads the key")
	}
}

func globbed(t *testing.T, patterns ...string) (out []string) {
	t.Helper()
	for _, p := range patterns {
		found, err := filepath.Glob(p)
		must(t, err)
		out = append(out, found...)
	}
	return out
}

func wantNoList(t *testing.T, path string) {
	t.Helper()
	for _, which := range []string{accessList, defaultList} {
		if n, err := unix.Getxattr(path, which, nil); err == nil {
			t.Errorf("%s has %s, of %d bytes", filepath.Base(path), which, n)
		}
	}
}

// TestListsGivenMeanwhile: a set directory gets a default list before its files are made (setfacl -R).
func TestListsGivenMeanwhile(t *testing.T) {
	dir := openDirectory(t)
	target := mustOpen(t, dir, durable.Disk{Fault: func(op, _ string) error {
		if op == "open" {
			for _, set := range globbed(t, dir+"/set-*") {
				setList(t, set, defaultList, listFor(7))
			}
		}
		return nil
	}})
	set, entries := deliver(t, target, withKey())
	for _, e := range entries {
		wantNoList(t, filepath.Join(dir, set, e.Name))
	}
	wantReason(t, "check", target.Check(set, entries, true), "")
}

// TestInheritedListsStay: where one cannot be removed nothing is delivered.
func TestInheritedListsStay(t *testing.T) {
	for failing := range 3 {
		dir := openDirectory(t)
		setList(t, dir, defaultList, listFor(7))
		removed := 0
		target := mustOpen(t, dir, durable.Disk{Fault: func(op, _ string) error {
			if op != "remove" {
				return nil
			}
			if removed++; removed == failing+1 {
				return unix.EPERM
			}
			return nil
		}})
		set, _, err := target.Write(withKey(), now)
		if failing < 2 { // of the directory: the default list, and its own; files are made without
			wantReason(t, "write", err, failure.NotWritable)
			wantNames(t, dir)
			continue
		}
		wantReason(t, "write", err, "")
		wantNames(t, dir, set)
	}
}

// TestListsAreDrift: somebody lets another read, or keeps one out, by no mode.
func TestListsAreDrift(t *testing.T) {
	for name, mask := range map[string]uint16{"key.pem": 4, "fullchain.pem": 4, ".": 5} {
		dir := openDirectory(t)
		target := mustOpen(t, dir, durable.Disk{})
		set, entries := deliver(t, target, withKey())
		path := filepath.Join(dir, set, name)
		info, err := os.Stat(path)
		must(t, err)
		list := listFor(mask)
		setList(t, path, accessList, list)
		must(t, os.Chmod(path, info.Mode())) // of which the list does not go
		wantReason(t, name, target.Check(set, entries, true), failure.Drift, "access list", path)
		must(t, unix.Removexattr(path, accessList), os.Chmod(path, info.Mode()))
		wantReason(t, name+" without it", target.Check(set, entries, true), "")
		set, entries = deliver(t, target, withKey())
		wantReason(t, name+" anew", target.Check(set, entries, true), "")
	}
}
