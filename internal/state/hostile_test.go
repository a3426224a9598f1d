package state

import (
	"errors"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/spinecert/spinecert/internal/durable"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
)

// TestHolder: root asks in a directory of somebody else's, who may have put anything
// there. None of it is waited for, and nothing but a number comes out.
func TestHolder(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	testpki.WriteFile(t, secret, []byte("4711"), 0o600)
	for name, c := range map[string]struct {
		plant func(path string) error
		want  int
	}{
		"a pid":             {func(p string) error { return os.WriteFile(p, []byte("42\n"), 0o600) }, 42},
		"missing":           {func(string) error { return nil }, 0},
		"empty":             {func(p string) error { return os.WriteFile(p, nil, 0o600) }, 0},
		"a sign":            {func(p string) error { return os.WriteFile(p, []byte("-42\n"), 0o600) }, 0},
		"text":              {func(p string) error { return os.WriteFile(p, []byte("42\x1b[2J"), 0o600) }, 0},
		"too many digits":   {func(p string) error { return os.WriteFile(p, []byte(strings.Repeat("1", 31)), 0o600) }, 0},
		"too long":          {func(p string) error { return os.WriteFile(p, []byte(strings.Repeat("0", 31)+"42"), 0o600) }, 0},
		"a pipe":            {func(p string) error { return syscall.Mkfifo(p, 0o600) }, 0},
		"a link to a file":  {func(p string) error { return os.Symlink(secret, p) }, 0},
		"a link to no end":  {func(p string) error { return os.Symlink("/dev/zero", p) }, 0},
		"a directory":       {func(p string) error { return os.Mkdir(p, 0o700) }, 0},
		"more than it says": {func(p string) error { return errors.Join(os.WriteFile(p, nil, 0o600), os.Truncate(p, 1<<40)) }, 0},
	} {
		dir := t.TempDir()
		if err := c.plant(filepath.Join(dir, lockName)); err != nil {
			t.Fatal(err)
		}
		if got := Holder(dir); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
	dir := t.TempDir()
	mustLock(t, dir)
	if got := Holder(dir); got != os.Getpid() {
		t.Errorf("%d, want our own", got)
	}
}

// TestLockReplaced: a lock that is no longer at its path locks nobody out, so that
// nothing is changed any more.
func TestLockReplaced(t *testing.T) {
	for name, replace := range map[string]func(path string) error{
		"removed":  os.Remove,
		"replaced": func(p string) error { return errors.Join(os.Remove(p), os.WriteFile(p, nil, 0o600)) },
		"unpacked": func(p string) error { return errors.Join(os.WriteFile(p+".tar", nil, 0o600), os.Rename(p+".tar", p)) },
		"a link":   func(p string) error { return errors.Join(os.Rename(p, p+".old"), os.Symlink(".lock.old", p)) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			d := mustLock(t, dir)
			id := newIdentity(t)
			mustCommit(t, d, 1, id, 5)
			if err := replace(filepath.Join(dir, lockName)); err != nil {
				t.Fatal(err)
			}
			_, addErr := d.AddTrust("live", testpki.NewRoot(t).Cert)
			for what, err := range map[string]error{"Commit": d.Commit(testSlot, recordOf(id, 2), id, 5), "AddTrust": addErr} {
				if err == nil || !strings.Contains(err.Error(), "its lock \".lock\" was removed or replaced while it was in use") || !strings.Contains(pki.Hint(err), "restart the daemon") {
					t.Errorf("%s: %v; %s", what, err, pki.Hint(err))
				}
			}
			if r, err := d.Current(testSlot); r.Number != 1 || err != nil { // what is there serves on
				t.Errorf("%v, %v", r, err)
			}
		})
	}
}

// TestLockOfAnother: between opening the lock file and locking it another may have
// come, taken the file away, and gone.
func TestLockOfAnother(t *testing.T) {
	dir := t.TempDir()
	d, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	path := filepath.Join(dir, lockName)
	f, err := openLock(d.disk, path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	other := mustLock(t, dir)
	if err := d.lockFile(f); err != nil || d.lock != nil {
		t.Errorf("locked what nobody else would: %v, %v", d.lock, err)
	}
	var held *HeldError
	if err := d.takeLock(); !errors.As(err, &held) || d.lock != nil {
		t.Errorf("two have the lock: %v", err)
	}
	if err := other.Close(); err != nil {
		t.Error(err)
	}
	if err := d.takeLock(); err != nil || d.lock == nil {
		t.Errorf("free, and not taken: %v", err)
	}
}

// TestLockMakesAnEntrance: who may drop answers into the inbox gets through a
// directory that was made for that, and sees nothing of it.
func TestLockMakesAnEntrance(t *testing.T) {
	group, err := user.LookupGroupId(strconv.Itoa(os.Getgid()))
	if err != nil {
		t.Skip(err)
	}
	lock := func(dir, group string) {
		t.Helper()
		d, err := Lock(dir, Options{inbox: group})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(d.Trouble(), d.Close()); err != nil {
			t.Error(err)
		}
	}
	for name, c := range map[string]struct {
		group  string
		before fs.FileMode
		want   fs.FileMode
	}{
		"made":             {group.Name, 0, 0o710},
		"made, no group":   {"no-such-group-here", 0, 0o700},
		"there before":     {group.Name, 0o700, 0o700},
		"there, and so on": {group.Name, 0o750, 0o750},
	} {
		dir := filepath.Join(t.TempDir(), "lib", "state")
		if c.before != 0 {
			if err := errors.Join(os.MkdirAll(dir, 0o700), os.Chmod(dir, c.before)); err != nil {
				t.Fatal(err)
			}
		}
		lock(dir, c.group)
		info, err := os.Stat(dir)
		if err != nil || info.Mode() != fs.ModeDir|c.want || int(info.Sys().(*syscall.Stat_t).Gid) != os.Getgid() {
			t.Errorf("%s: %v, %v, want %v", name, info, err, c.want)
		}
	}
}

// TestInboxOfEarlierVersions had no sticky bit: members of the group could take each
// other's files.
func TestInboxOfEarlierVersions(t *testing.T) {
	dir := t.TempDir()
	if err := mustLock(t, dir).Close(); err != nil {
		t.Fatal(err)
	}
	all := []string{"inbox", "inbox/done", "inbox/rejected"}
	for _, name := range all {
		if err := os.Chmod(filepath.Join(dir, name), fs.ModeSetgid|0o770); err != nil {
			t.Fatal(err)
		}
	}
	d, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	wantClean(t, d)
	wantClean(t, mustLock(t, dir))
	for _, name := range all {
		if info, err := os.Lstat(filepath.Join(dir, name)); err != nil || info.Mode() != fs.ModeDir|fs.ModeSetgid|fs.ModeSticky|0o770 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

// TestNumbersEnd: what never was a generation does not count, and above it nothing
// is counted anew.
func TestNumbersEnd(t *testing.T) {
	dir := t.TempDir()
	d := mustLock(t, dir)
	id := newIdentity(t)
	mustCommit(t, d, 1, id, 5)
	base := "slots/" + testSlot + "/generations/"
	for _, name := range []string{"18446744073709551615", "9007199254740993"} {
		if err := os.Mkdir(filepath.Join(dir, base+name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := d.Current(testSlot); r.Number != 1 || r.Highest != 1 || err != nil {
		t.Errorf("%+v, %v", r, err)
	}
	wantCodes(t, d, "stray "+base+"18446744073709551615", "stray "+base+"9007199254740993")
	if err := d.Commit(testSlot, recordOf(id, MaxNumber+1), id, 5); err == nil || pki.Hint(err) == "" {
		t.Errorf("committed what nobody would find: %v", err)
	}
	last := recordOf(id, 2)
	last.Number = MaxNumber
	if err := d.Commit(testSlot, last, id, 5); err != nil {
		t.Error(err)
	}
	if r, err := d.Current(testSlot); r.Number != MaxNumber || r.Highest != MaxNumber || err != nil {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestTrustData: what is read was opened once and looked at then. What a name leads
// to is not followed, and no pipe is waited for.
func TestTrustData(t *testing.T) {
	dir := t.TempDir()
	d := mustLock(t, dir)
	var want []string
	for range 3 {
		path, err := d.AddTrust("live", testpki.NewRoot(t).Cert)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, path)
	}
	slices.Sort(want)
	names := func() (out []string) {
		t.Helper()
		all, err := d.TrustData("live")
		if err != nil {
			t.Error(err)
		}
		for _, s := range all {
			out = append(out, s.Name)
			if data, err := os.ReadFile(s.Name); err != nil || string(data) != string(s.Data) {
				t.Errorf("%s: %v, %q", s.Name, err, s.Data)
			}
		}
		return out
	}
	if got := names(); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if err := errors.Join(os.Rename(want[0], want[0]+".kept"), syscall.Mkfifo(want[0], 0o600), os.Rename(want[1], want[1]+".kept"), os.Symlink(want[1]+".kept", want[1])); err != nil {
		t.Fatal(err)
	}
	if got := names(); !slices.Equal(got, want[2:]) {
		t.Errorf("%v, want %v", got, want[2:])
	}
	if err := os.Truncate(want[2], maxFile+1); err != nil {
		t.Fatal(err)
	}
	if all, err := d.TrustData("live"); len(all) != 0 || err == nil || !strings.Contains(err.Error(), want[2]) {
		t.Errorf("%v, %v", all, err)
	}
	if _, err := d.TrustData("../live"); err == nil {
		t.Error("a path as a name")
	}
}

// TestTrustDataWhileItChanges: a file that is a pipe by the time it is read is none.
func TestTrustDataWhileItChanges(t *testing.T) {
	dir := t.TempDir()
	d := mustLock(t, dir)
	path, err := d.AddTrust("live", testpki.NewRoot(t).Cert)
	if err != nil {
		t.Fatal(err)
	}
	pipe, file := filepath.Join(dir, ".pipe"), filepath.Join(dir, ".file")
	if err := errors.Join(syscall.Mkfifo(pipe, 0o600), os.Link(path, file)); err != nil {
		t.Fatal(err)
	}
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for i := 0; ; i++ {
			select {
			case <-end:
				return
			default:
			}
			_ = os.Link([]string{pipe, file}[i%2], path+".x")
			_ = os.Rename(path+".x", path)
		}
	}()
	defer func() { close(end); <-ended }()
	for range 2000 {
		if all, err := d.TrustData("live"); err != nil || len(all) > 1 {
			t.Fatalf("%v, %v", all, err)
		}
	}
}

// TestOpenAPipe: nobody waits for the other end.
func TestOpenAPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); !errors.Is(err, durable.ErrNotDirectory) {
		t.Errorf("%v", err)
	}
}

// TestAuditIntoAPipe: what a pipe takes is not kept.
func TestAuditIntoAPipe(t *testing.T) {
	dir := t.TempDir()
	d := mustLock(t, dir)
	path := filepath.Join(dir, AuditName)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.Audit(AuditLine{Event: "x"}); err == nil {
		t.Error("nobody reads it")
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := d.Audit(AuditLine{Event: "x"}); err == nil {
		t.Error("somebody reads it")
	}
}
